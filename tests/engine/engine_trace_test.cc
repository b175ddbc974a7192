// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a trace says of an engine: on an emulated device's simulated clock, where the host takes no
// time and all others are exact, and with a disk and threads of the CPU device.
#include "engine/engine.h"
#include "offload/block_cache.h"
#include "tests/emulated/emulated_device.h"
#include "tests/support/aligned_floats.h"
#include "tests/support/trace_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::engine {
namespace {

using test::ReadTrace;
using test::TraceContent;
using test::TraceEvent;

constexpr uint32_t kQHeads = 4;
constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kDim = 64;
constexpr int64_t kOpNs = 40'000;

// Room for 128 blocks on the device.
EngineOptions Geometry() {
  EngineOptions options;
  options.num_layers = 2;
  options.num_q_heads = kQHeads;
  options.num_kv_heads = kKvHeads;
  options.head_dim = kDim;
  options.num_threads = 1;
  options.device_kv_bytes = 2 * offload::kDeviceSlabBytes + (uint64_t{128} << 10);
  options.host_kv_bytes = uint64_t{64} << 20;
  return options;
}

AttentionOptions Attention(DecodeMode decode) {
  AttentionOptions options;
  options.decode_mode = static_cast<uint32_t>(decode);
  options.prefill_mode = static_cast<uint32_t>(PrefillMode::kDense);
  options.budget_tokens = 512;
  return options;
}

// Everything a run gave; the device's time in the end, where it has one of its own.
struct Seen {
  std::vector<float> numbers;
  Stats stats;
  int64_t now_ns = 0;
};

// A text of one engine.
class Text {
 public:
  Text(std::shared_ptr<Engine> engine, DecodeMode decode, Seen* seen)
      : engine_(std::move(engine)), seen_(seen) {
    sequence_ = std::move(
        Sequence::Create(engine_,
                         ResolveAttentionOptions(engine_->options(), Attention(decode)).value())
            .value());
  }

  void Read(uint32_t count) {
    test::Floats q(uint64_t{count} * kQHeads * kDim);
    test::Floats k(uint64_t{count} * kKvHeads * kDim);
    test::Floats v(k.size());
    test::Floats out(q.size());
    for (uint32_t layer = 0; layer < 2; ++layer) {
      q.FillRandom(++seed_);
      k.FillRandom(++seed_);
      v.FillRandom(++seed_);
      Sequence* const pointer = sequence_.get();
      AttendArgs args;
      args.layer = layer;
      args.sequences = {&pointer, 1};
      args.num_new_tokens = {&count, 1};
      args.q = q.data();
      args.k = k.data();
      args.v = v.data();
      args.out = out.data();
      const Status status = engine_->Attend(args);
      ASSERT_TRUE(status.ok()) << status.message();
      seen_->numbers.insert(seen_->numbers.end(), out.data(), out.data() + out.size());
    }
  }

  void SaveAndLoad(const std::string& path) {
    const Status saved = sequence_->Save(path, {});
    ASSERT_TRUE(saved.ok()) << saved.message();
    sequence_ = std::move(Sequence::Load(engine_, path, {}).value());
  }

 private:
  std::shared_ptr<Engine> engine_;
  Seen* seen_;
  std::unique_ptr<Sequence> sequence_;
  uint32_t seed_ = 0;
};

// A prompt and steps, on an emulated device whose ops take kOpNs each.
Seen RunEmulated(const std::string& trace_path, DecodeMode decode, uint32_t prompt = 1500) {
  test::EmulatedOptions options;
  options.cpu.num_threads = 1;
  options.guard = true;
  options.simulated_clock = true;
  options.op_ns = [](const device::Submission&) { return kOpNs; };
  auto emulated = std::move(test::EmulatedDevice::Create(options).value());
  test::EmulatedDevice* const device = emulated.get();
  EngineOptions geometry = Geometry();
  geometry.trace_path = trace_path;
  const auto engine =
      Engine::CreateOn(std::move(emulated), ResolveEngineOptions(geometry).value()).value();
  Seen seen;
  Text text(engine, decode, &seen);
  text.Read(prompt);
  text.Read(1);
  text.Read(1);
  EXPECT_TRUE(engine->Synchronize().ok());
  seen.stats = engine->GetStats(false);
  seen.now_ns = device->clock().now_ns();
  return seen;
}

// Those of the events inside that have none inside themselves.
int64_t LeavesNs(const TraceContent& content, const TraceEvent& around) {
  static const std::set<std::string> kAround = {
      "attend", "append", "index", "prefill", "select", "search", "plan", "decode", "pin"};
  int64_t sum = 0;
  for (const TraceEvent& event : content.events) {
    if (around.Contains(event) && kAround.count(event.name) == 0) {
      sum += event.end_ns - event.begin_ns;
    }
  }
  return sum;
}

TEST(EngineTraceTest, AStepShowsWhatHidesBehindWhat) {
  const test::TemporaryFolder folder;
  const std::string path = folder.Path("trace.json");
  const Seen seen = RunEmulated(path, DecodeMode::kDense, 3000);
  const TraceContent content = ReadTrace(path);
  test::ExpectNested(content);

  // Two layers, three steps.
  const std::vector<TraceEvent> attends = content.Named("attend");
  ASSERT_EQ(attends.size(), 6U);
  for (size_t i = 0; i < attends.size(); ++i) {
    EXPECT_EQ(attends[i].args.at("layer"), i % 2);
    EXPECT_EQ(attends[i].args.at("tokens"), i < 2 ? 3000 : 1);
    EXPECT_EQ(attends[i].args.at("texts"), 1);
    // The host takes no time: a call takes that of its ops, copies and waits, one after the other.
    EXPECT_EQ(LeavesNs(content, attends[i]), attends[i].end_ns - attends[i].begin_ns) << i;
  }
  const TraceEvent& step = attends.back();
  for (const char* inside : {"append", "append_kv", "index", "decode", "pin"}) {
    const std::vector<TraceEvent> found = content.Named(inside);
    EXPECT_TRUE(std::any_of(found.begin(), found.end(), [&](const TraceEvent& event) {
      return step.Contains(event);
    })) << inside;
  }

  // 188 blocks of each of two heads go through the 128 slots in waves.
  const std::vector<TraceEvent> fetches = content.Named("fetch");
  uint32_t ops = 0;
  uint32_t hidden = 0;
  for (const TraceEvent& op : content.Named("sparse_decode")) {
    if (!step.Contains(op)) {
      continue;
    }
    EXPECT_EQ(op.end_ns - op.begin_ns, kOpNs);
    ++ops;
    hidden += std::any_of(fetches.begin(), fetches.end(), [&](const TraceEvent& fetch) {
      return fetch.track == "stream of fetches" && fetch.Overlaps(op);
    });
  }
  EXPECT_GE(ops, 3U);
  EXPECT_GE(hidden, ops / 2);
  EXPECT_FALSE(content.Named("wait for fetch").empty());

  // Nothing travels that is not in the file.
  EXPECT_EQ(content.Sum("fetch", "blocks"), seen.stats.blocks_fetched);
  EXPECT_EQ(content.Sum("fetch", "bytes"), seen.stats.bytes_host_to_device);
  EXPECT_EQ(content.Sum("write back", "bytes"), seen.stats.bytes_device_to_host);
  EXPECT_GT(seen.stats.blocks_fetched, 0U);
  const TraceEvent& last = content.counters.back();
  EXPECT_EQ(last.name, "blocks");
  EXPECT_EQ(last.args.at("hit"), seen.stats.blocks_hit);
  EXPECT_EQ(last.args.at("fetched"), seen.stats.blocks_fetched);
  EXPECT_EQ(last.args.at("evicted"), seen.stats.blocks_evicted);
  const std::vector<TraceEvent> end = content.Named("synchronize");
  ASSERT_EQ(end.size(), 1U);
  EXPECT_EQ(end[0].end_ns, seen.now_ns);
}

TEST(EngineTraceTest, ASearchedStepShowsTheSearchOfEveryHead) {
  const test::TemporaryFolder folder;
  const std::string path = folder.Path("trace.json");
  RunEmulated(path, DecodeMode::kSparse);
  const TraceContent content = ReadTrace(path);
  test::ExpectNested(content);
  const std::vector<TraceEvent> searches = content.Named("search");
  const std::vector<TraceEvent> plans = content.Named("plan");
  const std::vector<TraceEvent> selects = content.Named("select");
  ASSERT_EQ(selects.size(), 4U);  // steps of two layers
  ASSERT_EQ(plans.size(), 8U);
  ASSERT_FALSE(searches.empty());
  for (const std::vector<TraceEvent>& events : {searches, plans}) {
    for (const TraceEvent& event : events) {
      EXPECT_LT(event.args.at("kv_head"), 2);
      EXPECT_TRUE(std::any_of(selects.begin(), selects.end(), [&](const TraceEvent& select) {
        return select.Contains(event);
      }));
    }
  }
}

TEST(EngineTraceTest, ARunRepeatsToTheByteAndNoTraceChangesIt) {
  const test::TemporaryFolder folder;
  for (const DecodeMode decode : {DecodeMode::kDense, DecodeMode::kSparse}) {
    const Seen first = RunEmulated(folder.Path("first"), decode);
    const Seen second = RunEmulated(folder.Path("second"), decode);
    const Seen without = RunEmulated("", decode);
    EXPECT_EQ(test::FileBytes(folder.Path("first")), test::FileBytes(folder.Path("second")));
    EXPECT_EQ(first.numbers, without.numbers);
    EXPECT_EQ(second.numbers, without.numbers);
    EXPECT_EQ(first.now_ns, without.now_ns) << "a trace takes no time of the device";
    EXPECT_EQ(first.stats.blocks_fetched, without.stats.blocks_fetched);
  }
}

// The CPU device, whose streams, disk and search have threads.
Seen RunOnDisk(const std::string& folder, const std::string& trace_path) {
  EngineOptions geometry = Geometry();
  geometry.num_threads = 3;
  geometry.host_kv_bytes = uint64_t{4} << 20;
  geometry.disk_kv_bytes = uint64_t{64} << 20;
  geometry.disk_path = folder;
  geometry.trace_path = trace_path;
  const auto engine = Engine::Create(ResolveEngineOptions(geometry).value()).value();
  Seen seen;
  {
    Text text(engine, DecodeMode::kSparse, &seen);
    text.Read(4500);
    for (int step = 0; step < 3; ++step) {
      text.Read(1);
    }
    text.SaveAndLoad(folder + "/text");
    text.Read(1);
    Text dense(engine, DecodeMode::kDense, &seen);
    dense.Read(4000);
    dense.Read(1);
  }
  EXPECT_TRUE(engine->Synchronize().ok());
  seen.stats = engine->GetStats(false);
  return seen;
}

TEST(EngineTraceTest, ThreadsOfTheDiskHaveTracks) {
  const test::TemporaryFolder folder;
  const std::string path = folder.Path("trace.json");
  const Seen seen = RunOnDisk(folder.Path("."), path);
  const TraceContent content = ReadTrace(path);
  test::ExpectNested(content);
  EXPECT_EQ(content.Sum("fetch", "blocks"), seen.stats.blocks_fetched);
  EXPECT_EQ(content.Sum("write back", "bytes"), seen.stats.bytes_device_to_host);
  EXPECT_FALSE(content.Named("read from disk").empty());
  EXPECT_FALSE(content.Named("write to disk").empty());
  for (const TraceEvent& read : content.Named("read from disk")) {
    EXPECT_EQ(read.track, "thread of staged fetches");
  }
  for (const TraceEvent& write : content.Named("write to disk")) {
    EXPECT_EQ(write.track, "thread of staged write-backs");
  }
  ASSERT_EQ(content.Named("save").size(), 1U);
  ASSERT_EQ(content.Named("load").size(), 1U);
  EXPECT_LE(content.Named("save")[0].end_ns, content.Named("load")[0].begin_ns);
  const Seen without = RunOnDisk(folder.Path("."), "");
  EXPECT_EQ(seen.numbers, without.numbers);
}

}  // namespace
}  // namespace hipattn::engine
