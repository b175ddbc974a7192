// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What decode steps say of the share of softmax mass that they attended, and which blocks they
// attended: collected step by step, per layer and head.
#ifndef HIPATTN_EXAMPLES_RUN_RECALL_LOG_H_
#define HIPATTN_EXAMPLES_RUN_RECALL_LOG_H_

#include "attention.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace hipattn_run {

struct MeanShare {
  double sum = 0;
  size_t count = 0;

  void Add(double value) {
    sum += value;
    ++count;
  }
  // NaN where nothing is known.
  double mean() const {
    return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(count);
  }
};

struct RecallLog {
  struct QHead {
    MeanShare estimate;
    MeanShare truth;  // with verify_recall
    MeanShare error;  // |estimate - truth|
    double least_truth = 1;
  };
  struct KvHead {
    double audited_loss = std::numeric_limits<double>::quiet_NaN();  // after the last step
    bool scanned = false;                                            // in the last step
    std::vector<uint32_t> attended_steps;  // by block: how many steps attended any token of it
  };

  size_t steps = 0;
  uint32_t block_tokens = 0;
  uint32_t num_q_heads = 0;  // of a layer, as below
  uint32_t num_kv_heads = 0;
  std::vector<QHead> q_heads;    // by layer, then head
  std::vector<KvHead> kv_heads;  // by layer, then head

  size_t num_layers() const { return num_q_heads == 0 ? 0 : q_heads.size() / num_q_heads; }
};

// Adds the last decode step of all layers.
Status AddStep(const Engine& engine, const Sequence& sequence, RecallLog* log);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_RECALL_LOG_H_
