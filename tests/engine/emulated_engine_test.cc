// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Engines on an emulated device, in all it may do to them: every bit as on the CPU's own.
#include "core/search/audit.h"
#include "device/registry.h"
#include "engine/engine.h"
#include "engine/profile.h"
#include "offload/block_cache.h"
#include "tests/emulated/emulated_device.h"
#include "tests/emulated/wrapping_device.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::engine {
namespace {

constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kQHeads = 6;
constexpr uint32_t kDim = 64;

std::vector<float> Noise(uint32_t seed, uint64_t first, uint64_t rows, uint32_t heads) {
  std::vector<float> out(rows * heads * kDim);
  for (uint64_t i = 0; i < out.size(); ++i) {
    uint64_t x = (first * heads * kDim + i) * 2654435761U + seed;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9U;
    x ^= x >> 32;
    out[i] = static_cast<float>(x & 0xffffU) / 32768.0F - 1.0F;
  }
  return out;
}

EngineOptions Geometry(uint32_t num_threads) {
  EngineOptions options;
  options.num_layers = 1;
  options.num_q_heads = kQHeads;
  options.num_kv_heads = kKvHeads;
  options.head_dim = kDim;
  options.num_threads = num_threads;
  options.rope_mode = 1;
  options.rope_theta = 10000.0F;
  options.trained_tokens = 4096;
  options.device_kv_bytes = uint64_t{128} << 20;
  return ResolveEngineOptions(options).value();
}

// What a run gave: everything a caller can see, in order.
struct Seen {
  std::vector<float> numbers;
  std::vector<int32_t> blocks;
  bool operator==(const Seen&) const = default;
};

// A text of an engine, and what it gave so far.
class Text {
 public:
  Text(std::shared_ptr<Engine> engine, const AttentionOptions& options, Seen* seen)
      : engine_(std::move(engine)), seen_(seen) {
    const AttentionOptions resolved = ResolveAttentionOptions(engine_->options(), options).value();
    sequence_ = std::move(Sequence::Create(engine_, resolved).value());
  }

  void Read(uint32_t count) {
    const Status status = TryRead(count);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  Status TryRead(uint32_t count) {
    const std::vector<float> q = Noise(seed_ + 1, length_, count, kQHeads);
    const std::vector<float> k = Noise(seed_ + 2, length_, count, kKvHeads);
    const std::vector<float> v = Noise(seed_ + 3, length_, count, kKvHeads);
    std::vector<float> out(q.size());
    std::vector<float> lse(uint64_t{count} * kQHeads);
    Sequence* const pointer = sequence_.get();
    AttendArgs args;
    args.sequences = {&pointer, 1};
    args.num_new_tokens = {&count, 1};
    args.q = q.data();
    args.k = k.data();
    args.v = v.data();
    args.out = out.data();
    args.lse = lse.data();
    HIPATTN_RETURN_IF_ERROR(engine_->Attend(args));
    length_ += count;
    seen_->numbers.insert(seen_->numbers.end(), out.begin(), out.end());
    seen_->numbers.insert(seen_->numbers.end(), lse.begin(), lse.end());
    return Status::Ok();
  }

  void Decode(uint32_t steps) {
    for (uint32_t step = 0; step < steps; ++step) {
      Read(1);
      for (uint32_t head = 0; head < kKvHeads; ++head) {
        const std::vector<int32_t> chosen = sequence_->Selection(0, head).value();
        seen_->blocks.insert(seen_->blocks.end(), chosen.begin(), chosen.end());
      }
    }
  }

  // Estimates and truths; what is not known is 2.
  void SeeRecall() {
    for (uint32_t head = 0; head < kQHeads; ++head) {
      const Recall recall = sequence_->GetRecall(0, head).value();
      for (const float number : {recall.estimate, recall.truth, recall.audited_loss}) {
        seen_->numbers.push_back(number == number ? number : 2.0F);
      }
    }
  }

  // What comes behind it then is another text.
  void Truncate(uint64_t length) {
    ASSERT_TRUE(sequence_->Truncate(length).ok());
    length_ = length;
    seed_ += 10;
  }

  // Goes on from its snapshot. The file is the same whatever device wrote it, so that any reads it.
  void SaveAndLoad() {
    const test::TemporaryFolder folder;
    const std::string path = folder.Path("text");
    const Status saved = sequence_->Save(path, {});
    ASSERT_TRUE(saved.ok()) << saved.message();
    const std::string bytes = test::FileBytes(path);
    for (size_t at = 0; at < bytes.size(); at += 4096) {
      seen_->blocks.push_back(
          std::accumulate(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                          bytes.begin() + static_cast<std::ptrdiff_t>(at + 4096),
                          int32_t{0},
                          [](int32_t sum, char byte) { return (sum * 31 + byte) % 1000003; }));
    }
    Result<std::unique_ptr<Sequence>> loaded = Sequence::Load(engine_, path, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    sequence_ = std::move(*loaded);
  }

  Text Fork(uint64_t length) {
    Text fork(*this, length);
    fork.sequence_ = std::move(sequence_->Fork(length).value());
    return fork;
  }

 private:
  Text(const Text& parent, uint64_t length)
      : engine_(parent.engine_), seen_(parent.seen_), length_(length), seed_(parent.seed_) {}

  std::shared_ptr<Engine> engine_;
  Seen* seen_;
  std::unique_ptr<Sequence> sequence_;
  uint64_t length_ = 0;
  uint32_t seed_ = 0;
};

AttentionOptions Sparse() {
  AttentionOptions options;
  options.decode_mode = static_cast<uint32_t>(DecodeMode::kSparse);
  options.budget_tokens = 128;
  options.sink_tokens = 16;
  options.window_tokens = 96;
  options.rerank_tokens = kNone;
  return options;
}

AttentionOptions Prefill(PrefillMode mode) {
  AttentionOptions options = Sparse();
  options.prefill_mode = static_cast<uint32_t>(mode);
  return options;
}

using Story = std::function<void(const std::shared_ptr<Engine>&, Seen*)>;

void TellDense(const std::shared_ptr<Engine>& engine, Seen* seen) {
  AttentionOptions options;
  options.decode_mode = static_cast<uint32_t>(DecodeMode::kDense);
  Text text(engine, options, seen);
  text.Read(700);
  text.Read(333);
  text.Decode(5);
}

void TellSearch(const std::shared_ptr<Engine>& engine, const AttentionOptions& given, Seen* seen) {
  AttentionOptions options = given;
  options.verify_recall = 1;
  Text text(engine, options, seen);
  text.Read(1100);
  text.Decode(5);  // walks that read keys ask many questions
  text.SeeRecall();
}

void TellSketches(const std::shared_ptr<Engine>& engine, Seen* seen) {
  AttentionOptions options = Sparse();
  options.rerank_tokens = 0;
  options.audit_interval = 4;
  options.verify_recall = 1;
  Text text(engine, options, seen);
  text.Read(1100);
  text.Decode(20);
  text.SeeRecall();
}

void TellPrefill(const std::shared_ptr<Engine>& engine, PrefillMode mode, Seen* seen) {
  Text text(engine, Prefill(mode), seen);
  text.Read(900);
  text.Read(500);
  text.Decode(2);
}

void TellForks(const std::shared_ptr<Engine>& engine, Seen* seen) {
  AttentionOptions options = Sparse();
  options.rerank_tokens = 0;
  Text text(engine, options, seen);
  text.Read(1100);
  for (const uint64_t cut : {1000U, 641U, 640U, 7U}) {
    Text fork = text.Fork(cut);
    fork.Decode(18);
    text.Decode(3);
    text.Truncate(cut + 20);
    fork.Truncate(3);
    fork.Decode(3);
  }
}

void TellSnapshot(const std::shared_ptr<Engine>& engine, Seen* seen) {
  AttentionOptions options = Sparse();
  options.rerank_tokens = 0;
  options.audit_interval = 4;
  options.refresh_interval = 4;
  Text text(engine, options, seen);
  text.SaveAndLoad();
  text.Read(1100);
  text.Decode(6);
  text.SaveAndLoad();
  text.SeeRecall();
  text.Decode(6);
  Text fork = text.Fork(1000);
  fork.SaveAndLoad();
  fork.Decode(2);
}

struct Told {
  std::string name;
  Story tell;
};

std::vector<Told> Stories() {
  std::vector<Told> stories = {{"dense", TellDense},
                               {"sketches", TellSketches},
                               {"forks", TellForks},
                               {"snapshot", TellSnapshot}};
  const std::pair<const char*, Search> searches[] = {{"tree", Search::kTree},
                                                     {"staged", Search::kStaged},
                                                     {"flat", Search::kFlat},
                                                     {"beam", Search::kBeam}};
  for (const auto& [name, search] : searches) {
    AttentionOptions options = Sparse();
    options.search = static_cast<uint32_t>(search);
    stories.push_back({name, [options](const std::shared_ptr<Engine>& engine, Seen* seen) {
                         TellSearch(engine, options, seen);
                       }});
  }
  AttentionOptions exact = Sparse();
  exact.scorer = static_cast<uint32_t>(Scorer::kExact);
  stories.push_back({"exact", [exact](const std::shared_ptr<Engine>& engine, Seen* seen) {
                       TellSearch(engine, exact, seen);
                     }});
  const std::pair<const char*, PrefillMode> prefills[] = {
      {"a_shape", PrefillMode::kAShape},
      {"vertical_slash", PrefillMode::kVerticalSlash},
      {"block_sparse", PrefillMode::kBlockSparse},
      {"hip", PrefillMode::kHip},
      {"flex", PrefillMode::kFlex},
      {"xattention", PrefillMode::kXAttention},
      {"flash", PrefillMode::kFlashV2}};
  for (const auto& [name, mode] : prefills) {
    stories.push_back({name, [mode = mode](const std::shared_ptr<Engine>& engine, Seen* seen) {
                         TellPrefill(engine, mode, seen);
                       }});
  }
  return stories;
}

Seen OnTheCpu(const Story& tell) {
  Seen seen;
  tell(Engine::Create(Geometry(2)).value(), &seen);
  return seen;
}

class EmulatedEngineTest : public ::testing::TestWithParam<Told> {};

// The host touches no device memory, gives ops no list that the device cannot see, reads nothing
// before it has waited, counts on nothing fresh memory holds, and stays within its budget.
TEST_P(EmulatedEngineTest, GivesTheCpusBits) {
  const Seen want = OnTheCpu(GetParam().tell);
  EXPECT_FALSE(want.numbers.empty());
  for (const bool simulated : {true, false}) {
    test::EmulatedOptions options;
    options.cpu.num_threads = 2;
    options.guard = true;
    options.simulated_clock = simulated;
    options.jitter_ns = simulated ? 10000 : 0;
    auto emulated = std::move(test::EmulatedDevice::Create(options).value());
    test::EmulatedDevice* const device = emulated.get();
    Seen seen;
    {
      const auto engine = Engine::CreateOn(std::move(emulated), Geometry(2)).value();
      GetParam().tell(engine, &seen);
      if (!HasFailure()) {
        EXPECT_GT(device->bytes_in_use(device::MemoryKind::kDevice), 0U);
      }
    }
    EXPECT_EQ(seen.numbers, want.numbers) << "simulated: " << simulated;
    EXPECT_EQ(seen.blocks, want.blocks) << "simulated: " << simulated;
  }
}

// What the top of the index may take of a text below.
constexpr uint64_t kTopBytes = uint64_t{64} << 10;

// The same with room for 128 blocks on the device, the rest in pinned memory, where the host also
// scores what lies there.
TEST_P(EmulatedEngineTest, GivesTheCpusBitsFromTheHostTier) {
  const Seen want = OnTheCpu(GetParam().tell);
  test::EmulatedOptions options;
  options.cpu.num_threads = 1;  // so that ops find no host address of pinned memory
  options.guard = true;
  options.simulated_clock = true;
  options.jitter_ns = 10000;
  EngineOptions geometry = Geometry(2);
  geometry.device_kv_bytes = 2 * offload::kDeviceSlabBytes + kTopBytes;
  geometry.host_kv_bytes = uint64_t{64} << 20;
  auto emulated = std::move(test::EmulatedDevice::Create(options).value());
  const auto engine = Engine::CreateOn(std::move(emulated), geometry).value();
  Seen seen;
  GetParam().tell(engine, &seen);
  EXPECT_EQ(seen.numbers, want.numbers);
  EXPECT_EQ(seen.blocks, want.blocks);
  const Stats stats = engine->GetStats(false);
  EXPECT_GT(stats.blocks_fetched, 0U);
  EXPECT_LE(stats.device_bytes_peak, geometry.device_kv_bytes);
  EXPECT_EQ(stats.device_bytes, 0U);
  EXPECT_EQ(stats.host_bytes, 0U);
}

INSTANTIATE_TEST_SUITE_P(Stories,
                         EmulatedEngineTest,
                         ::testing::ValuesIn(Stories()),
                         [](const ::testing::TestParamInfo<Told>& param) {
                           return param.param.name;
                         });

// A budget of the device in slabs, and how the copies of its tiers land.
struct TierRun {
  uint64_t slabs;
  uint64_t seed;
  int64_t jitter_ns;
  bool on_disk;
  size_t pinned_bytes = size_t{64} << 20;
};

// Room for the index and the staging memory, but not for a slab of blocks.
constexpr size_t kFewPinned = size_t{9} << 20;

// Transfers beside ops: whatever lands first, whatever is late.
TEST(EmulatedTiersTest, GivesTheCpusBitsHoweverLateAnythingLands) {
  const auto hip = [](const std::shared_ptr<Engine>& engine, Seen* seen) {
    TellPrefill(engine, PrefillMode::kHip, seen);
  };
  const TierRun runs[] = {{2, 1, 10'000, false},
                          {2, 2, 1'000'000, false},
                          {4, 3, 300'000, false},
                          {4, 4, 30'000, true},
                          {2, 5, 30'000, false, kFewPinned}};
  for (const Told& told : {Told{"dense", TellDense},
                           Told{"sketches", TellSketches},
                           Told{"hip", hip},
                           Told{"forks", TellForks}}) {
    const Seen want = OnTheCpu(told.tell);
    for (const TierRun& run : runs) {
      SCOPED_TRACE(::testing::Message()
                   << told.name << " with " << run.slabs << " slabs, seed " << run.seed
                   << ", on disk: " << run.on_disk << ", pinned " << run.pinned_bytes);
      const test::TemporaryFolder folder;
      test::EmulatedOptions options;
      options.cpu.num_threads = 2;
      options.guard = true;
      // A disk and staging memory have threads and a time of their own.
      options.simulated_clock = !run.on_disk && run.pinned_bytes != kFewPinned;
      options.pinned_bytes = run.pinned_bytes;
      options.jitter_ns = run.jitter_ns;
      options.seed = run.seed;
      EngineOptions geometry = Geometry(2);
      geometry.device_kv_bytes = run.slabs * offload::kDeviceSlabBytes + kTopBytes;
      geometry.host_kv_bytes = run.on_disk ? 0 : uint64_t{64} << 20;
      geometry.disk_kv_bytes = run.on_disk ? uint64_t{64} << 20 : 0;
      geometry.disk_path = folder.Path(".");
      auto emulated = std::move(test::EmulatedDevice::Create(options).value());
      const auto engine = Engine::CreateOn(std::move(emulated), geometry).value();
      Seen seen;
      told.tell(engine, &seen);
      EXPECT_EQ(seen.numbers, want.numbers);
      EXPECT_EQ(seen.blocks, want.blocks);
      EXPECT_LE(engine->GetStats(false).device_bytes_peak, geometry.device_kv_bytes);
    }
  }
}

// Searches of a text whose second kv head is scanned from the start.
AttentionOptions Scanning() {
  AttentionOptions options = Sparse();
  options.rerank_tokens = 256;
  options.max_scanned_heads = 1;
  return options;
}

void LoadScanningProfile(Engine* engine) {
  core::AuditTable audits(1, kKvHeads);
  for (uint32_t sample = 0; sample < 50; ++sample) {
    audits.AddSample(0, 0, 0.001);
    audits.AddSample(0, 1, 0.3);
  }
  const test::TemporaryFolder folder;
  const std::string path = folder.Path("profile.json");
  ASSERT_TRUE(WriteProfile(path, engine->options(), audits).ok());
  const Status loaded = engine->LoadProfile(path);
  ASSERT_TRUE(loaded.ok()) << loaded.message();
}

void TellScanned(const std::shared_ptr<Engine>& engine, Seen* seen) {
  LoadScanningProfile(engine.get());
  Text text(engine, Scanning(), seen);
  text.Read(1100);
  text.Decode(40);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 1U);
  text.Truncate(700);  // what is copied behind it is not the text's any more
  text.Read(400);
  text.Decode(20);
  Text fork = text.Fork(900);
  fork.Decode(20);
  text.Decode(5);
}

// Sketches of a scanned head are copied to a device that has room for them, and scanned there; by
// a device that has not they are scanned on the host. Nobody else's are.
TEST(EmulatedTiersTest, ScannedSketchesAreOnTheDeviceWhereThereIsRoom) {
  const Seen want = OnTheCpu(TellScanned);
  for (const bool roomy : {true, false}) {
    SCOPED_TRACE(roomy);
    uint64_t scans = 0;
    const device::OpTable* ops = nullptr;
    test::EmulatedOptions options;
    options.cpu.num_threads = 2;
    options.guard = true;
    options.simulated_clock = true;
    options.op_ns = [&](const device::Submission& submission) {
      scans += submission.op == device::AnyOp(ops->score_sketches) ? 1 : 0;
      return int64_t{0};
    };
    EngineOptions geometry = Geometry(2);
    geometry.device_kv_bytes = (roomy ? 5 : 2) * offload::kDeviceSlabBytes + kTopBytes;
    geometry.host_kv_bytes = uint64_t{64} << 20;
    auto emulated = std::move(test::EmulatedDevice::Create(options).value());
    ops = &emulated->ops();
    const auto engine = Engine::CreateOn(std::move(emulated), geometry).value();
    Seen seen;
    TellScanned(engine, &seen);
    EXPECT_EQ(seen.numbers, want.numbers);
    EXPECT_EQ(seen.blocks, want.blocks);
    EXPECT_LE(engine->GetStats(false).device_bytes_peak, geometry.device_kv_bytes);
    EXPECT_EQ(engine->GetStats(false).device_bytes, 0U);
    // At most 85 steps search; the other head's sketches are on the host.
    if (roomy) {
      EXPECT_GT(scans, 8U);
      EXPECT_LE(scans, 85U);
    } else {
      EXPECT_EQ(scans, 0U);
    }
  }
}

// Copies take nothing from what was promised: where another text needs what they hold, they go, and
// the scanned text goes on.
TEST(EmulatedTiersTest, CopiesOfSketchesMakeRoomForATextThatNeedsIt) {
  AttentionOptions wide = Scanning();
  wide.prefill_mode = static_cast<uint32_t>(PrefillMode::kHip);
  constexpr uint64_t kTokens = 4200;
  EngineOptions geometry = Geometry(2);
  geometry.host_kv_bytes = uint64_t{64} << 20;
  const AttentionOptions resolved = ResolveAttentionOptions(geometry, wide).value();
  geometry.device_kv_bytes = ComputeMemoryNeed(geometry, resolved, kTokens, 2)->device_bytes_min;
  const auto run = [&](const std::shared_ptr<Engine>& engine, Seen* seen) {
    LoadScanningProfile(engine.get());
    AttentionOptions narrow = Scanning();
    narrow.prefill_mode = static_cast<uint32_t>(PrefillMode::kDense);
    Text text(engine, narrow, seen);
    text.Read(1100);
    text.Decode(4);
    const uint64_t before = engine->GetStats(false).device_index_bytes;
    const auto other = std::move(Sequence::Create(engine, resolved).value());
    const Status reserved = other->Reserve(kTokens);
    EXPECT_TRUE(reserved.ok()) << reserved.message();
    if (engine->options().has_tiers()) {
      EXPECT_LT(engine->GetStats(false).device_index_bytes, before);
    }
    text.Decode(20);
  };
  const Seen want = OnTheCpu(run);
  Seen seen;
  run(Engine::Create(geometry).value(), &seen);
  EXPECT_EQ(seen, want);
}

// Time in which some copy runs, and how much of that an op runs, too.
struct Overlap {
  int64_t copy_ns = 0, hidden_ns = 0;
};

Overlap OverlapOf(std::vector<test::Event> events) {
  std::sort(events.begin(), events.end(), [](const test::Event& a, const test::Event& b) {
    return a.begin_ns < b.begin_ns;
  });
  Overlap overlap;
  int64_t copied_until = 0;
  for (const test::Event& copy : events) {
    const int64_t begin = std::max(copy.begin_ns, copied_until);
    if (!copy.copy || begin >= copy.end_ns) {
      continue;
    }
    copied_until = copy.end_ns;
    overlap.copy_ns += copy.end_ns - begin;
    for (const test::Event& op : events) {
      if (!op.copy) {
        overlap.hidden_ns +=
            std::max<int64_t>(0, std::min(op.end_ns, copy.end_ns) - std::max(op.begin_ns, begin));
      }
    }
  }
  return overlap;
}

// Dense decoding of a text that the device holds half of streams it in waves: all but the first
// wave of a step travel while another one computes.
TEST(EmulatedTiersTest, WavesTravelWhileOthersCompute) {
  test::EmulatedOptions options;
  options.simulated_clock = true;
  options.op_ns = [](const device::Submission&) { return int64_t{100'000}; };  // more than copies
  EngineOptions geometry = Geometry(1);
  geometry.device_kv_bytes = 6 * offload::kDeviceSlabBytes;
  geometry.host_kv_bytes = uint64_t{64} << 20;
  auto emulated = std::move(test::EmulatedDevice::Create(options).value());
  test::EmulatedDevice* const device = emulated.get();
  const auto engine = Engine::CreateOn(std::move(emulated), geometry).value();
  AttentionOptions attention;
  attention.decode_mode = static_cast<uint32_t>(DecodeMode::kDense);
  Seen seen;
  Text text(engine, attention, &seen);
  text.Read(4000);
  const size_t before = device->clock().events().size();
  text.Decode(4);
  const std::vector<test::Event> all = device->clock().events();
  const Overlap overlap = OverlapOf({all.begin() + static_cast<std::ptrdiff_t>(before), all.end()});
  EXPECT_GT(overlap.copy_ns, 100'000);
  EXPECT_GT(overlap.hidden_ns, overlap.copy_ns / 3 * 2);
}

// A failed allocation is the call's error and changes nothing: the text goes on as if it had not
// been tried.
TEST(FaultyEngineTest, AFailedAllocationChangesNothing) {
  const auto tell = [](const std::shared_ptr<Engine>& engine, Seen* seen) {
    Text text(engine, Sparse(), seen);
    text.Read(500);
    text.Read(600);
    text.Decode(3);
  };
  const Seen want = OnTheCpu(tell);
  uint32_t failures = 0;
  for (const uint64_t nth : {1U, 2U, 3U, 5U, 8U, 13U, 21U}) {
    auto faulty =
        std::make_unique<test::FaultyDevice>(std::move(device::CreateCpuDevice({2, {}}).value()));
    test::FaultyDevice* const device = faulty.get();
    const auto engine = Engine::CreateOn(std::move(faulty), Geometry(2)).value();
    Seen seen;
    Text text(engine, Sparse(), &seen);
    text.Read(500);
    device->Arm({.allocation = nth, .copy = 0, .launch = 0});
    const Status status = text.TryRead(600);
    failures += status.ok() ? 0 : 1;
    device->Arm({});
    if (!status.ok()) {
      EXPECT_EQ(status.code(), StatusCode::kOutOfMemory) << status.message();
      text.Read(600);
    }
    text.Decode(3);
    EXPECT_EQ(seen, want) << "allocation " << nth;
  }
  EXPECT_GT(failures, 3U);
}

// The same of a text that is larger than the device; nothing is lost of what was under way.
TEST(FaultyEngineTest, AFailedAllocationChangesNothingBehindTheDeviceEither) {
  const auto tell = [](const std::shared_ptr<Engine>& engine, Seen* seen) {
    Text text(engine, Sparse(), seen);
    text.Read(1500);
    text.Read(600);
    text.Decode(3);
  };
  const Seen want = OnTheCpu(tell);
  uint32_t failures = 0;
  for (uint64_t nth = 1; nth < 12; ++nth) {
    auto faulty =
        std::make_unique<test::FaultyDevice>(std::move(device::CreateCpuDevice({2, {}}).value()));
    test::FaultyDevice* const device = faulty.get();
    EngineOptions geometry = Geometry(2);
    geometry.device_kv_bytes = 4 * offload::kDeviceSlabBytes;
    geometry.host_kv_bytes = uint64_t{64} << 20;
    const auto engine = Engine::CreateOn(std::move(faulty), geometry).value();
    Seen seen;
    Text text(engine, Sparse(), &seen);
    text.Read(1500);
    device->Arm({.allocation = nth, .copy = 0, .launch = 0});
    const Status status = text.TryRead(600);
    failures += status.ok() ? 0 : 1;
    device->Arm({});
    if (!status.ok()) {
      EXPECT_EQ(status.code(), StatusCode::kOutOfMemory) << status.message();
      text.Read(600);
    }
    text.Decode(3);
    EXPECT_EQ(seen, want) << "allocation " << nth;
  }
  EXPECT_GT(failures, 3U);
}

// Whatever copy fails, the call that it belongs to or a later one says so, none gives wrong rows,
// and the engine ends.
TEST(FaultyEngineTest, AFailedCopyOfATierIsATypedError) {
  uint32_t failures = 0;
  for (uint64_t nth = 1; nth < 60; nth += 1 + nth / 2) {
    test::EmulatedOptions options;
    options.simulated_clock = nth % 2 == 0;
    options.fail_copy = nth;
    EngineOptions geometry = Geometry(1);
    geometry.device_kv_bytes = 4 * offload::kDeviceSlabBytes;
    geometry.host_kv_bytes = uint64_t{64} << 20;
    auto emulated = std::move(test::EmulatedDevice::Create(options).value());
    const auto engine = Engine::CreateOn(std::move(emulated), geometry).value();
    Seen seen;
    Text text(engine, Sparse(), &seen);
    Status status = text.TryRead(1500);
    for (uint32_t step = 0; step < 40 && status.ok(); ++step) {
      status = text.TryRead(1);
    }
    failures += status.ok() ? 0 : 1;
    if (!status.ok()) {
      EXPECT_EQ(status.code(), StatusCode::kDeviceError) << status.message();
      EXPECT_EQ(text.TryRead(1).code(), StatusCode::kDeviceError);
      EXPECT_EQ(engine->Synchronize().code(), StatusCode::kDeviceError);
    }
  }
  EXPECT_GT(failures, 3U);
}

TEST(FaultyEngineTest, AFaultyDeviceIsTheErrorOfEveryCallThatFollows) {
  auto faulty =
      std::make_unique<test::FaultyDevice>(std::move(device::CreateCpuDevice({2, {}}).value()));
  test::FaultyDevice* const device = faulty.get();
  const auto engine = Engine::CreateOn(std::move(faulty), Geometry(2)).value();
  Seen seen;
  Text text(engine, Sparse(), &seen);
  text.Read(500);
  device->Arm({.allocation = 0, .copy = 0, .launch = 3});
  const Status first = text.TryRead(600);
  EXPECT_EQ(first.code(), StatusCode::kDeviceError) << first.message();
  EXPECT_EQ(text.TryRead(1).message(), first.message());
  EXPECT_EQ(engine->Synchronize().message(), first.message());
}

}  // namespace
}  // namespace hipattn::engine
