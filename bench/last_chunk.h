// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The last rows of one kv head's text, read again and again through the C API.
#ifndef HIPATTN_BENCH_LAST_CHUNK_H_
#define HIPATTN_BENCH_LAST_CHUNK_H_

#include "hipattn/hipattn.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hipattn::bench {

struct TextShape {
  uint32_t num_tokens;
  uint32_t num_rows;  // of the last chunk
  uint32_t group;     // q heads
  uint32_t head_dim;
  float softmax_scale;  // 0: the library's default
};

// What one reading took: seconds of the calling thread, which is the engine's only one.
struct Reading {
  double seconds;
  hipattn_stats_t stats;

  double Density() const {
    return stats.prefill_dense_tiles == 0 ? 1.0
                                          : static_cast<double>(stats.prefill_tiles) /
                                                static_cast<double>(stats.prefill_dense_tiles);
  }
};

class LastChunk {
 public:
  // q: [num_rows][group][head_dim]; k and v: [num_tokens][head_dim]. They outlive this object.
  LastChunk(const TextShape& shape,
            std::span<const float> q,
            std::span<const float> k,
            std::span<const float> v);

  // Whether every call succeeded; hipattn_last_error_message() says what did not.
  bool ok() const { return ok_; }
  // The chunk at once, or chunk_rows rows at a time.
  Reading Read(const hipattn_attention_options_t& options, uint32_t chunk_rows = UINT32_MAX);

 private:
  struct EngineCloser {
    void operator()(hipattn_engine_t* engine) const { hipattn_engine_destroy(engine); }
  };
  struct SequenceCloser {
    void operator()(hipattn_sequence_t* sequence) const { hipattn_sequence_destroy(sequence); }
  };

  void Check(hipattn_status_t status) { ok_ = ok_ && status == HIPATTN_OK; }
  // Tokens [begin, end); without queries keys and values are only kept.
  void Attend(uint32_t begin, uint32_t end, const float* q, float* out);

  const TextShape shape_;
  const std::span<const float> q_, k_, v_;
  std::vector<float> out_;
  bool ok_ = true;
  std::unique_ptr<hipattn_engine_t, EngineCloser> engine_;
  std::unique_ptr<hipattn_sequence_t, SequenceCloser> sequence_;
};

}  // namespace hipattn::bench

#endif  // HIPATTN_BENCH_LAST_CHUNK_H_
