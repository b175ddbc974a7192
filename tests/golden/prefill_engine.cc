// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/golden/prefill_engine.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hipattn::golden {
namespace {

// [heads][rows][dim] as [rows][heads][dim].
std::vector<float> ByRows(const Array& heads) {
  const size_t num_heads = heads.shape[0];
  const size_t num_rows = heads.shape[1];
  const size_t dim = heads.shape[2];
  std::vector<float> rows(heads.floats.size());
  for (size_t i = 0; i < num_heads * num_rows; ++i) {
    const size_t to = i % num_rows * num_heads + i / num_rows;
    std::copy_n(heads.floats.data() + i * dim, dim, rows.data() + to * dim);
  }
  return rows;
}

engine::PrefillMode ModeOf(core::PatternType type) {
  return type == core::PatternType::kAShape          ? engine::PrefillMode::kAShape
         : type == core::PatternType::kVerticalSlash ? engine::PrefillMode::kVerticalSlash
                                                     : engine::PrefillMode::kBlockSparse;
}

}  // namespace

std::unique_ptr<PrefillEngine> PrefillEngine::Create(const GoldenCase& golden,
                                                     const PrefillText& text) {
  engine::EngineOptions options;
  options.num_threads = 2;
  options.num_layers = 1;
  options.num_q_heads = text.num_heads();
  options.num_kv_heads = text.KvHead(text.num_heads() - 1) + 1;
  options.head_dim = text.head_dim();
  options.io_dtype = static_cast<uint32_t>(DType::kF32);
  options.kv_dtype = static_cast<uint32_t>(text.machine().kv_dtype);
  options.softmax_scale = text.scale();
  options.device_kv_bytes = uint64_t{64} << 20;
  const auto resolved = engine::ResolveEngineOptions(options);
  EXPECT_TRUE(resolved.ok()) << resolved.status().message();
  if (!resolved.ok()) {
    return nullptr;
  }
  auto created = engine::Engine::Create(resolved.value(), text.machine().table->name);
  EXPECT_TRUE(created.ok()) << created.status().message();
  if (!created.ok()) {
    return nullptr;
  }
  return std::unique_ptr<PrefillEngine>(new PrefillEngine(golden, text, created.value()));
}

PrefillEngine::PrefillEngine(const GoldenCase& golden,
                             const PrefillText& text,
                             std::shared_ptr<engine::Engine> engine)
    : text_(text),
      engine_(std::move(engine)),
      q_(ByRows(golden.Input("q"))),
      k_(ByRows(golden.Input("k"))),
      v_(ByRows(golden.Input("v"))) {}

void PrefillEngine::Attend(const core::HeadPattern& pattern,
                           uint32_t last_q,
                           uint32_t head,
                           HeadRows* rows) {
  engine::AttentionOptions options;
  options.decode_mode = static_cast<uint32_t>(engine::DecodeMode::kDense);
  options.prefill_mode = static_cast<uint32_t>(ModeOf(pattern.type));
  options.prefill_sizes[0] = pattern.a;
  options.prefill_sizes[1] = pattern.b;
  options.prefill_last_q = pattern.type == core::PatternType::kVerticalSlash ? last_q : 0;
  const auto resolved = engine::ResolveAttentionOptions(engine_->options(), options);
  ASSERT_TRUE(resolved.ok()) << resolved.status().message();
  const auto sequence = engine::Sequence::Create(engine_, resolved.value());
  ASSERT_TRUE(sequence.ok()) << sequence.status().message();
  engine::Sequence* const sequences[] = {sequence.value().get()};
  const uint32_t counts[] = {text_.first_pos(), text_.num_rows()};
  const uint32_t num_heads = text_.num_heads();
  const size_t dim = text_.head_dim();
  std::vector<float> out(q_.size());
  std::vector<float> lse(size_t{text_.num_rows()} * num_heads);
  engine::AttendArgs args;
  args.sequences = sequences;
  args.k = k_.data();
  args.v = v_.data();
  args.num_new_tokens = {counts, 1};
  if (counts[0] > 0) {  // tokens before the chunk, which nobody attends from
    const Status status = engine_->Attend(args);
    ASSERT_TRUE(status.ok()) << status.message();
  }
  const size_t before = size_t{counts[0]} * engine_->options().num_kv_heads * dim;
  args.num_new_tokens = {counts + 1, 1};
  args.q = q_.data();
  args.k = k_.data() + before;
  args.v = v_.data() + before;
  args.out = out.data();
  args.lse = lse.data();
  args.phase = engine::Phase::kPrefill;
  const Status status = engine_->Attend(args);
  ASSERT_TRUE(status.ok()) << status.message();
  for (size_t row = 0; row < text_.num_rows(); ++row) {
    const size_t from = row * num_heads + head;
    std::copy_n(out.data() + from * dim, dim, rows->out.data() + row * dim);
    rows->lse[row] = lse[from];
  }
}

}  // namespace hipattn::golden
