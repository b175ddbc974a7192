// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "text_record.h"

#include <algorithm>
#include <cmath>

namespace recall_bench {
namespace {

// Whether a prefill audits this row.
bool IsAudited(size_t position) {
  return (position + 1) % kAuditRows == 0;
}

}  // namespace

RopeTable::RopeTable(const LlamaModel& model, size_t max_tokens)
    : head_dim_(model.config.head_dim), pairs_(model.rope_inv_freq.size()) {
  for (size_t t = 0; t < max_tokens; ++t) {
    for (const float frequency : model.rope_inv_freq) {
      const double angle = static_cast<double>(t) * static_cast<double>(frequency);
      cos_.push_back(static_cast<float>(std::cos(angle)));
      sin_.push_back(static_cast<float>(std::sin(angle)));
    }
  }
}

void RopeTable::Rotate(float* x, size_t num_tokens, size_t num_heads, size_t position) const {
  for (size_t t = 0; t < num_tokens; ++t) {
    const float* const cosines = cos_.data() + (position + t) * pairs_;
    const float* const sines = sin_.data() + (position + t) * pairs_;
    for (size_t head = 0; head < num_heads; ++head) {
      float* const row = x + (t * num_heads + head) * head_dim_;
      for (size_t i = 0; i < pairs_; ++i) {
        const float a = row[2 * i];
        const float b = row[2 * i + 1];
        row[2 * i] = a * cosines[i] - b * sines[i];
        row[2 * i + 1] = a * sines[i] + b * cosines[i];
      }
    }
  }
}

hipattn_engine_options_t UnrotatingEngineOptions(const LlamaModel& model, uint32_t block_tokens) {
  hipattn_engine_options_t options = hipattn_run::MakeEngineOptions(model);
  options.rope_mode = 0;
  options.rope_theta = 0;
  options.rope_dim = 0;
  options.rope_inv_freq = nullptr;
  options.block_tokens = block_tokens;
  options.kv_dtype = HIPATTN_BF16;
  options.num_threads = 1;
  return options;
}

TextRecord::TextRecord(const LlamaConfig& config, size_t max_tokens)
    : q_width_(config.q_width()),
      kv_width_(config.kv_width()),
      num_layers_(config.num_layers),
      max_tokens_(max_tokens),
      keys_(config.num_layers, config.num_kv_heads, config.head_dim, max_tokens),
      lengths_(config.num_layers),
      values_(config.num_layers * max_tokens * config.kv_width()),
      queries_(config.num_layers * (max_tokens / kAuditRows) * config.q_width()),
      k_(kAuditRows * config.kv_width()),
      v_(kAuditRows * config.kv_width()),
      out_(config.q_width()) {}

float* TextRecord::Query(size_t layer, size_t position) {
  return queries_.data() + (layer * (max_tokens_ / kAuditRows) + position / kAuditRows) * q_width_;
}

void TextRecord::Clear(size_t num_tokens) {
  text_tokens_ = num_tokens;
  keys_.Truncate(0);
  std::fill(lengths_.begin(), lengths_.end(), size_t{0});
}

void TextRecord::Append(
    size_t layer, const float* q, const float* k, const float* v, size_t num_tokens) {
  keys_.Append(layer, k, num_tokens);
  uint16_t* const values = values_.data() + (layer * max_tokens_ + lengths_[layer]) * kv_width_;
  std::transform(v, v + num_tokens * kv_width_, values, RoundToBfloat16);
  for (size_t t = 0; t < num_tokens; ++t) {
    const size_t position = lengths_[layer] + t;
    if (IsAudited(position)) {
      std::copy_n(q + t * q_width_, q_width_, Query(layer, position));
    }
  }
  lengths_[layer] += num_tokens;
}

Status TextRecord::ReplayChunk(hipattn_engine_t* engine,
                               const hipattn_attend_args_t& call,
                               size_t begin,
                               size_t end) {
  keys_.Read(call.layer, begin, end, k_.data());
  const uint16_t* const values = values_.data() + call.layer * max_tokens_ * kv_width_;
  std::transform(values + begin * kv_width_, values + end * kv_width_, v_.data(), WidenBfloat16);
  const auto count = static_cast<uint32_t>(end - begin);
  hipattn_attend_args_t args = call;
  args.num_new_tokens = &count;
  args.k = k_.data();
  args.v = v_.data();
  args.out = args.q == nullptr ? nullptr : out_.data();
  constexpr uint32_t kPrefill = 2;
  args.phase = args.q == nullptr ? 0 : kPrefill;
  return hipattn_run::CheckHipattn(hipattn_attend(engine, &args), "replay the text");
}

Status TextRecord::Replay(hipattn_engine_t* engine,
                          hipattn_sequence_t* sequence,
                          bool with_audits) {
  for (size_t layer = 0; layer < num_layers_; ++layer) {
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.layer = static_cast<uint32_t>(layer);
    args.num_sequences = 1;
    args.sequences = &sequence;
    for (size_t begin = 0; begin < text_tokens_;) {
      const bool is_audited = with_audits && IsAudited(begin);
      const size_t behind = (begin / kAuditRows + 1) * kAuditRows;
      const size_t end =
          is_audited ? begin + 1 : std::min(text_tokens_, with_audits ? behind - 1 : behind);
      args.q = is_audited ? Query(layer, begin) : nullptr;
      RUN_RETURN_IF_ERROR(ReplayChunk(engine, args, begin, end));
      begin = end;
    }
  }
  return {};
}

}  // namespace recall_bench
