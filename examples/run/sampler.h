// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Chooses the next token from logits: the largest (temperature 0), or at random with probabilities
// softmax(logits / temperature). The same seed and logits give the same tokens on every machine.
#ifndef HIPATTN_EXAMPLES_RUN_SAMPLER_H_
#define HIPATTN_EXAMPLES_RUN_SAMPLER_H_

#include <cstdint>
#include <random>
#include <span>

namespace hipattn_run {

class Sampler {
 public:
  Sampler(double temperature, uint64_t seed) : temperature_(temperature), random_(seed) {}

  // `logits` is not empty. Of equal largest logits the first wins.
  int32_t Choose(std::span<const float> logits);

 private:
  double temperature_;
  std::mt19937_64 random_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_SAMPLER_H_
