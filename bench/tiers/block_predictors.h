// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which blocks a kv head will attend in its next step: the predictors that replay compares.
#ifndef HIPATTN_BENCH_TIERS_BLOCK_PREDICTORS_H_
#define HIPATTN_BENCH_TIERS_BLOCK_PREDICTORS_H_

#include "trace_file.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tiers_bench {

// Blocks of one head with how much speaks for each.
using Scores = std::map<uint32_t, double>;

class Predictor {
 public:
  virtual ~Predictor() = default;
  // Before the head's turn in a step; the layers before it have had theirs.
  virtual Scores Predict(uint32_t head) const = 0;
  // What it attended. Heads are numbered as in a trace's steps.
  virtual void Observe(uint32_t head, const std::vector<uint32_t>& blocks) = 0;
};

// last       what it attended in its last step
// frequency  what it attended often, with a half-life of 16 steps
// neighbours what lies within two blocks of its last step's
// layer      what the layer below attends in this step, weighted by how often that was right
// markov     what followed the blocks of its last step before, counted per pair
std::vector<std::string> PredictorNames();

// REQUIRES: a known name.
std::unique_ptr<Predictor> MakePredictor(const std::string& name, const Trace& trace);

}  // namespace tiers_bench

#endif  // HIPATTN_BENCH_TIERS_BLOCK_PREDICTORS_H_
