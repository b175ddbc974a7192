// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Stands between the forward pass and the library in decode steps: rotates q and k, computes the
// true softmax over all keys, chooses blocks where the setting is the oracle, and compares what the
// library attended, and what it says of itself, with the truth.
#ifndef HIPATTN_BENCH_RECALL_STEP_OBSERVER_H_
#define HIPATTN_BENCH_RECALL_STEP_OBSERVER_H_

#include "key_panels.h"
#include "setting.h"
#include "text_record.h"

#include <cstdint>
#include <vector>

namespace recall_bench {

struct Mean {
  double sum = 0;
  uint64_t count = 0;

  void Add(double value) {
    sum += value;
    ++count;
  }
};

// Over the steps since Begin. All but `attended` are over (step, layer from 1 on, q head).
struct Measures {
  Mean mass;              // true share of softmax mass attended
  Mean mass_at_least_90;  // 1 where that share is >= .90, else 0
  Mean mass_at_least_95;
  Mean fact;         // share of the fact's mass attended, where the fact has more than .2
  Mean answer_mass;  // mass and fact of the steps that predict the answer alone
  Mean answer_fact;
  Mean lse_gap;         // |mass - the share that the library's lse says|
  Mean estimate_error;  // |the library's estimate of the mass - the mass|
  Mean estimate_bias;   // estimate - mass
  Mean verify_error;    // |the library's true share - the mass|; with verify_recall
  Mean attended;        // share of the text in attended blocks; over (step, layer, kv head)
  // With min_recall, over (step, layer from 1 on, kv head): tokens of attended blocks between sinks
  // and window, and the fewest that would do where blocks are ranked by their exact mass.
  Mean grown_tokens;
  Mean least_tokens;
};

// The share attended, given what the listed blocks hold as a whole. Blocks where sinks end or the
// window begins may be attended in part, which a list of blocks does not say: `edges` are the
// shares of such parts, and of all ways to leave edges out the one nearest to `lse_share` is taken.
double AttendedShare(double whole, const std::vector<double>& edges, double lse_share);

class StepObserver {
 public:
  // Both must outlive the observer. `keys` holds the text and gets the new tokens' keys.
  StepObserver(const LlamaConfig& config, const RopeTable& rope, KeyPanels* keys);

  struct Fact {
    size_t begin;
    size_t end;
  };
  // A new run over the text; `setting` null: nothing is measured.
  void Begin(const Setting* setting, hipattn_engine_t* engine, const Fact& fact);
  // The steps from now on predict the answer.
  void BeginAnswer() { answering_ = true; }
  // For LlamaForward::set_attend_hook.
  Status Attend(const hipattn_attend_args_t& args);

  const Measures& measures() const { return measures_; }

 private:
  struct Step {
    uint32_t layer;
    size_t position;
    size_t sink_end;
    size_t window_begin;
    hipattn_sequence_t* sequence;
  };
  Step MakeStep(const hipattn_attend_args_t& args);
  void ChooseBlocks(const Step& step, hipattn_attend_args_t* args);
  Status Judge(const Step& step);
  Status ReadSelection(const Step& step, uint32_t kv_head);
  void JudgeBudget(const Step& step, uint32_t kv_head);
  // Returns the true share attended.
  double JudgeMass(const Step& step, size_t q_head);
  Status JudgeRecall(const Step& step, size_t q_head, double mass);

  const LlamaConfig& config_;
  const RopeTable& rope_;
  KeyPanels* keys_;
  const Setting* setting_ = nullptr;
  hipattn_engine_t* engine_ = nullptr;
  Fact fact_ = {};
  bool answering_ = false;
  Measures measures_;
  LayerSoftmax softmax_;
  std::vector<uint64_t> steps_;     // by layer, since Begin
  std::vector<size_t> anchors_;     // by layer: position of its last search
  std::vector<float> q_, k_, lse_;  // of one step
  std::vector<int32_t> external_;
  std::vector<int32_t> blocks_;  // attended by one kv head
};

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_STEP_OBSERVER_H_
