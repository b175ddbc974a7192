// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Prefill cases through the engine itself: one layer with the case's heads, on one instruction set.
#ifndef HIPATTN_TESTS_GOLDEN_PREFILL_ENGINE_H_
#define HIPATTN_TESTS_GOLDEN_PREFILL_ENGINE_H_

#include "core/pattern/head_pattern.h"
#include "engine/engine.h"
#include "tests/golden/prefill_head.h"

#include <memory>
#include <vector>

namespace hipattn::golden {

class PrefillEngine {
 public:
  // nullptr, with the test failed, when there is none. Case and text outlive it.
  static std::unique_ptr<PrefillEngine> Create(const GoldenCase& golden, const PrefillText& text);

  // The case's last rows as one chunk of a new sequence, all heads by the pattern. *rows: those of
  // `head`.
  void Attend(const core::HeadPattern& pattern, uint32_t last_q, uint32_t head, HeadRows* rows);

 private:
  PrefillEngine(const GoldenCase& golden,
                const PrefillText& text,
                std::shared_ptr<engine::Engine> engine);

  const PrefillText& text_;
  std::shared_ptr<engine::Engine> engine_;
  std::vector<float> q_, k_, v_;  // [rows][heads][head_dim]
};

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_PREFILL_ENGINE_H_
