// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Every selector of prefill on a whole text of one kv head of 4 q heads, head_dim 128, whose
// structure is known (tests/support/structured_head.h): sinks, 200 columns, and three clusters of
// some 5000 diagonals. In one call through the C API or in chunks, one thread, against dense
// prefill in the same process. Counters, of chunks in sums:
//   dense_s        dense attention; of more than 32768 tokens that of the first 32768, by the
//                  square of the lengths
//   faster         its time / the selector's
//   density_%      tiles computed, of dense attention's
//   efficiency_%   density * time of dense attention / time of the masks without their estimate
//   estimate_%     estimate, selection and index building, of the masks' time
//   of_dense_%     the same, of dense attention's
//   recall_%       softmax mass attended, of a row of every 64
#include "bench/last_chunk.h"
#include "bench/line.h"
#include "tests/support/structured_head.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

constexpr uint32_t kGroup = 4;
constexpr uint32_t kDenseTokens = 32768;  // of which dense attention is measured
using hipattn::testing::StructuredHead;

hipattn::testing::HeadPlan PlanOf(uint32_t num_tokens) {
  hipattn::testing::HeadPlan plan;
  plan.num_tokens = num_tokens;
  plan.sink = 12;
  plan.num_columns = 200;
  plan.column = 9;
  plan.offsets = {0, num_tokens * 3 / 16, num_tokens * 3 / 8};
  plan.slash = 9;
  plan.slash_width = 2500;
  return plan;
}

hipattn_attention_options_t Options(uint32_t mode) {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  options.prefill_mode = mode;
  return options;
}

// The head, and its four q heads, which ask the same.
class Text {
 public:
  explicit Text(uint32_t num_tokens)
      : head_(PlanOf(num_tokens)),
        q_(Repeated(head_.q())),
        chunk_({num_tokens, num_tokens, kGroup, StructuredHead::kDim, 1}, q_, head_.k(), head_.v()),
        dense_seconds_(DenseSeconds()) {}

  LastChunk& chunk() { return chunk_; }
  double dense_seconds() const { return dense_seconds_; }

 private:
  double DenseSeconds() const {
    const uint32_t tokens = std::min(head_.num_tokens(), kDenseTokens);
    LastChunk chunk({tokens, tokens, kGroup, StructuredHead::kDim, 1},
                    std::span(q_).first(size_t{tokens} * kGroup * StructuredHead::kDim),
                    head_.k(),
                    head_.v());
    const double times = static_cast<double>(head_.num_tokens()) / tokens;
    return chunk.Read(Options(HIPATTN_PREFILL_DENSE)).seconds * times * times;
  }
  static std::vector<float> Repeated(std::span<const float> rows) {
    std::vector<float> repeated;
    repeated.reserve(rows.size() * kGroup);
    for (size_t begin = 0; begin < rows.size(); begin += StructuredHead::kDim) {
      const std::span<const float> row = rows.subspan(begin, StructuredHead::kDim);
      for (uint32_t head = 0; head < kGroup; ++head) {
        repeated.insert(repeated.end(), row.begin(), row.end());
      }
    }
    return repeated;
  }

  const StructuredHead head_;
  const std::vector<float> q_;
  LastChunk chunk_;
  double dense_seconds_;
};

// Of the last length asked for: dense attention is too long to repeat for each selector.
Text& TextOf(uint32_t num_tokens) {
  static uint32_t length = 0;
  static std::unique_ptr<Text> text;
  if (length != num_tokens) {
    text.reset();
    text = std::make_unique<Text>(num_tokens);
    length = num_tokens;
  }
  return *text;
}

// How a text is read.
struct Length {
  uint32_t num_tokens;
  uint32_t chunk_rows;
};

void RunSelector(benchmark::State& state, Length length, hipattn_attention_options_t options) {
  Text& text = TextOf(length.num_tokens);
  options.verify_recall = 1;
  // Memory is touched.
  const double recall = text.chunk().Read(options, length.chunk_rows).stats.prefill_recall;
  options.verify_recall = 0;
  Reading least = {};
  for (auto _ : state) {
    const Reading reading = text.chunk().Read(options, length.chunk_rows);
    state.SetIterationTime(reading.seconds);
    if (least.seconds == 0 || reading.seconds < least.seconds) {
      least = reading;
    }
  }
  if (!text.chunk().ok()) {
    state.SkipWithError(hipattn_last_error_message());
    return;
  }
  const double estimate = static_cast<double>(least.stats.search_ns) * 1e-9;
  const double attention = static_cast<double>(least.stats.attend_ns) * 1e-9;
  // Wall time is that of the thread, but for what other processes took of it.
  const double share = attention / (attention + estimate);
  state.counters["dense_s"] = text.dense_seconds();
  state.counters["faster"] = text.dense_seconds() / least.seconds;
  state.counters["density_%"] = 100 * least.Density();
  state.counters["efficiency_%"] =
      100 * least.Density() * text.dense_seconds() / (least.seconds * share);
  state.counters["estimate_%"] = 100 * estimate / attention;
  state.counters["of_dense_%"] = 100 * least.seconds * (1 - share) / text.dense_seconds();
  state.counters["recall_%"] = 100 * recall;
}

void Register(Length length, const std::string& name, const hipattn_attention_options_t& options) {
  const std::string chunk = length.chunk_rows < length.num_tokens
                                ? "/chunk:" + std::to_string(length.chunk_rows)
                                : std::string();
  benchmark::RegisterBenchmark(
      ("selector_prefill/T:" + std::to_string(length.num_tokens) + chunk + "/" + name).c_str(),
      [=](benchmark::State& state) { RunSelector(state, length, options); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(length.num_tokens > kDenseTokens ? 1 : 2);
}

void RegisterSizes(
    Length length, const std::string& name, uint32_t mode, uint32_t first, uint32_t second) {
  hipattn_attention_options_t options = Options(mode);
  options.prefill_sizes[0] = first;
  options.prefill_sizes[1] = second;
  Register(length, name, options);
}

}  // namespace

void RegisterSelectorPrefill() {
  constexpr Length kLengths[] = {{32768, 32768}, {32768, 16384}, {131072, 131072}, {131072, 16384}};
  for (const Length length : kLengths) {
    RegisterSizes(length, "vertical-slash:1000,6096", HIPATTN_PREFILL_VERTICAL_SLASH, 1000, 6096);
    RegisterSizes(length, "vertical-slash:1000,1500", HIPATTN_PREFILL_VERTICAL_SLASH, 1000, 1500);
    RegisterSizes(length, "a-shape:1024,4096", HIPATTN_PREFILL_A_SHAPE, 1024, 4096);
    RegisterSizes(length, "block-sparse:100", HIPATTN_PREFILL_BLOCK_SPARSE, 100, 0);
    Register(length, "auto", Options(HIPATTN_PREFILL_AUTO));
    Register(length, "flex", Options(HIPATTN_PREFILL_FLEX));
    Register(length, "xattention", Options(HIPATTN_PREFILL_XATTENTION));
    Register(length, "flash-v2", Options(HIPATTN_PREFILL_FLASH_V2));
  }
}

}  // namespace hipattn::bench
