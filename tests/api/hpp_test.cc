// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "hipattn/hipattn.hpp"

#include "tests/api/api_fixture.h"

#include <type_traits>
#include <utility>

namespace hipattn::test {
namespace {

static_assert(!std::is_copy_constructible_v<Engine> &&
              std::is_nothrow_move_constructible_v<Engine>);
static_assert(!std::is_copy_constructible_v<Sequence> &&
              std::is_nothrow_move_assignable_v<Sequence>);

std::span<const float> All(const Floats& floats) {
  return {floats.data(), floats.size()};
}
std::span<float> All(Floats& floats) {
  return {floats.data(), floats.size()};
}
Tensors<float> AllOf(Arrays& a) {
  return {All(std::as_const(a.q)),
          All(std::as_const(a.k)),
          All(std::as_const(a.v)),
          All(a.out),
          All(a.lse)};
}

TEST(Hpp, GivesWhatTheCApiGives) {
  Engine engine(SmallEngine());
  EXPECT_EQ(engine.options().block_tokens, 16U);
  Sequence sequence(engine);
  Arrays a(30), b(30);
  engine.Attend<float>(0, sequence, AllOf(a));
  const SequencePtr plain = MakeSequence(engine.get());
  ASSERT_EQ(Step(engine.get(), plain.get(), 0, 30, b), HIPATTN_OK) << LastError();
  EXPECT_EQ(a.out.copy(), b.out.copy());
  EXPECT_EQ(a.lse.copy(), b.lse.copy());
  EXPECT_EQ(sequence.length(), 0U) << "layer 1 has no tokens yet";
  engine.Attend<float>(1, sequence, AllOf(a));
  EXPECT_EQ(sequence.length(), 30U);
}

TEST(Hpp, RaggedBatchesForksAndQueries) {
  Engine engine(SmallEngine());
  Sequence first(engine);
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_DENSE;
  Sequence second(engine, options);
  hipattn_sequence_t* const handles[] = {first.get(), second.get()};
  const uint32_t counts[] = {20, 5};
  Arrays arrays(25);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    engine.Attend<float>(layer, handles, counts, AllOf(arrays), 2);
  }
  Sequence child = first.Fork(16);
  EXPECT_EQ(child.length(), 16U);
  second.Truncate(3);
  EXPECT_EQ(second.length(), 3U);
  second.Reserve(100);
  second.SetOptions(options);
  Arrays step(1);
  engine.Attend<float>(0, child, AllOf(step));
  EXPECT_EQ(child.Selection(0, 1), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(child.Recall(0, 2).mode, 0U);
  EXPECT_GT(engine.Stats(true).device_bytes, 0U);
  EXPECT_EQ(engine.Stats().blocks_attended, 0U);
  engine.Cancel();
  engine.Synchronize();
  Sequence moved = std::move(child);
  EXPECT_EQ(moved.length(), 16U);
  EXPECT_EQ(child.get(), nullptr);  // NOLINT(bugprone-use-after-move)
  EXPECT_GT(MemoryNeed(SmallEngine(), nullptr, 1000, 2).device_bytes_full, 0U);
}

TEST(Hpp, ErrorsCarryStatusAndMessage) {
  hipattn_engine_options_t options = SmallEngine();
  options.head_dim = 63;
  try {
    const Engine engine(options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), HIPATTN_UNSUPPORTED);
    EXPECT_NE(std::string(error.what()).find("HIPATTN_UNSUPPORTED: head_dim is 63"),
              std::string::npos)
        << error.what();
  }
}

TEST(Hpp, ShortSpansAreRefusedBeforeTheyAreRead) {
  Engine engine(SmallEngine());
  Sequence sequence(engine);
  Arrays arrays(4);
  const auto refused = [&](const Tensors<float>& tensors) {
    EXPECT_THROW(engine.Attend<float>(0, sequence, tensors), Error);
    EXPECT_TRUE(arrays.OutputsUntouched());
  };
  Tensors<float> tensors = AllOf(arrays);
  tensors.q = tensors.q.first(1000);
  refused(tensors);
  tensors = AllOf(arrays);
  tensors.k = tensors.k.first(100);
  refused(tensors);
  tensors = AllOf(arrays);
  tensors.v = tensors.v.first(511);
  refused(tensors);
  tensors = AllOf(arrays);
  tensors.out = tensors.out.first(1023);
  refused(tensors);
  tensors = AllOf(arrays);
  tensors.lse = tensors.lse.first(15);
  refused(tensors);
  std::vector<uint16_t> halves(512);
  EXPECT_THROW(engine.Attend<uint16_t>(0, sequence, {.q = {}, .k = halves, .v = halves, .out = {}}),
               Error)
      << "the engine takes f32";
}

TEST(Hpp, MergeStates) {
  Engine engine(SmallEngine());
  const Floats o_a(16, 1.0F), o_b(16, 3.0F), lse_a(2), lse_b(2);
  Floats o(16), lse(2);
  engine.MergeStates(8, All(o_a), All(lse_a), All(o_b), All(lse_b), All(o), All(lse));
  EXPECT_EQ(o[7], 2.0F);
  EXPECT_THROW(engine.MergeStates(16, All(o_a), All(lse_a), All(o_b), All(lse_b), All(o), All(lse)),
               Error);
}

}  // namespace
}  // namespace hipattn::test
