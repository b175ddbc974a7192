// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "bench/last_chunk.h"

#include "bench/roof.h"

#include <algorithm>

namespace hipattn::bench {

LastChunk::LastChunk(const TextShape& shape,
                     std::span<const float> q,
                     std::span<const float> k,
                     std::span<const float> v)
    : shape_(shape), q_(q), k_(k), v_(v), out_(q.size()) {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_layers = 1;
  options.num_q_heads = shape.group;
  options.num_kv_heads = 1;
  options.head_dim = shape.head_dim;
  options.num_threads = 1;
  options.softmax_scale = shape.softmax_scale;
  hipattn_engine_t* engine = nullptr;
  Check(hipattn_engine_create(&options, &engine));
  engine_.reset(engine);
  hipattn_sequence_t* sequence = nullptr;
  Check(hipattn_sequence_create(engine, nullptr, &sequence));
  sequence_.reset(sequence);
  Attend(0, shape.num_tokens - shape.num_rows, nullptr, nullptr);
}

Reading LastChunk::Read(const hipattn_attention_options_t& options, uint32_t chunk_rows) {
  const uint32_t begin = shape_.num_tokens - shape_.num_rows;
  Reading reading = {0, HIPATTN_STATS_INIT};
  Check(hipattn_sequence_set_options(sequence_.get(), &options));
  Check(hipattn_sequence_truncate(sequence_.get(), begin));
  Check(hipattn_engine_stats(engine_.get(), &reading.stats, 1));
  const double start = Now(1);
  for (uint32_t row = 0; row < shape_.num_rows;) {
    const uint32_t rows = std::min(chunk_rows, shape_.num_rows - row);
    const size_t offset = size_t{row} * shape_.group * shape_.head_dim;
    Attend(begin + row, begin + row + rows, q_.data() + offset, out_.data() + offset);
    row += rows;
  }
  reading.seconds = Now(1) - start;
  Check(hipattn_engine_stats(engine_.get(), &reading.stats, 1));
  return reading;
}

void LastChunk::Attend(uint32_t begin, uint32_t end, const float* q, float* out) {
  if (begin == end) {
    return;
  }
  hipattn_sequence_t* const sequence = sequence_.get();
  const uint32_t rows = end - begin;
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.num_sequences = 1;
  args.sequences = &sequence;
  args.num_new_tokens = &rows;
  args.q = q;
  args.k = k_.data() + size_t{begin} * shape_.head_dim;
  args.v = v_.data() + size_t{begin} * shape_.head_dim;
  args.out = out;
  args.phase = 2;
  Check(hipattn_attend(engine_.get(), &args));
}

}  // namespace hipattn::bench
