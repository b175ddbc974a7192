// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A block cache at work on the emulated device: waves of ops write blocks that go home beside the
// next ops, and read others that are fetched beside them. Once as it should be, and once each as if
// the cache made one of two mistakes (HIPATTN_SEEDED_BUG): a device that says too early that a
// ticket is reached stands for a cache that does not ask.
//
// Usage: seeded_tier_bugs simulated | threads. Exit status 1 and a line when results are wrong;
// "threads" is for ThreadSanitizer, whose report ends the program with another status.
#include "offload/block_lease.h"
#include "tests/emulated/emulated_device.h"
#include "tests/emulated/wrapping_device.h"

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

namespace hipattn::test {
namespace {

using offload::BlockCache;
using offload::BlockLease;
using offload::BlockMover;

constexpr int kBug = HIPATTN_SEEDED_BUG;
constexpr int kFetchNotAwaited = 1;    // the op runs while its blocks are still on their way
constexpr int kWriteBackUnpinned = 2;  // the slot of a block that is still leaving is given away

constexpr offload::SlotGeometry kGeometry = {16, 64, DType::kBf16};
constexpr uint64_t kBlock = offload::BlockBytes(kGeometry);
constexpr uint32_t kSlab = offload::SlabSlots(offload::kDeviceSlabBytes, kBlock);
// Blocks. Two waves that are read do not fit beside one that is still leaving.
constexpr uint32_t kWave = 24;
static_assert(2 * kWave <= kSlab && 3 * kWave > kSlab);
constexpr uint32_t kSteps = 60;

// Says that tickets of a stream are reached before they are.
class HastyDevice : public WrappingDevice {
 public:
  HastyDevice(std::unique_ptr<device::Device> inner, device::StreamId hasty)
      : WrappingDevice(std::move(inner)), hasty_(hasty) {}
  bool Done(device::Ticket ticket) override {
    return ticket.stream == hasty_ || WrappingDevice::Done(ticket);
  }
  Status Sync(device::Ticket ticket) override {
    return ticket.stream == hasty_ ? Status::Ok() : WrappingDevice::Sync(ticket);
  }

 private:
  const device::StreamId hasty_;
};

struct BlocksParams {
  const uint32_t* slots;
  uint32_t num_slots;
  device::BlockPool pool;
  const uint64_t* numbers;  // that a block is filled with
  uint64_t* found;          // its first number; 0: not all are the same
};

uint64_t* NumbersOf(const BlocksParams& params, uint32_t i) {
  return reinterpret_cast<uint64_t*>(device::BlockAddress(params.pool, params.slots[i]));
}

void FillBlocks(const device::OpContext& /*context*/, const BlocksParams& params) {
  for (uint32_t i = 0; i < params.num_slots; ++i) {
    std::fill_n(NumbersOf(params, i), kBlock / sizeof(uint64_t), params.numbers[i]);
  }
}

void ReadBlocks(const device::OpContext& /*context*/, const BlocksParams& params) {
  for (uint32_t i = 0; i < params.num_slots; ++i) {
    const uint64_t* numbers = NumbersOf(params, i);
    params.found[i] = numbers[0];
    for (uint64_t n = 1; n < kBlock / sizeof(uint64_t); ++n) {
      params.found[i] = numbers[n] == numbers[0] ? params.found[i] : 0;
    }
  }
}

class Waves {
 public:
  explicit Waves(device::Device& device)
      : device_(device), cache_(&device, {&device_budget_, &host_budget_, nullptr}, kGeometry) {
    slots_ = Take(kWave * sizeof(uint32_t));
    numbers_ = Take(kWave * sizeof(uint64_t));
    found_ = Take(kWave * sizeof(uint64_t));
  }
  ~Waves() {
    for (const uint32_t block : blocks_) {
      cache_.Release(block);
    }
  }

  // Blocks that were not what was written to them.
  Result<uint32_t> Run() {
    HIPATTN_RETURN_IF_ERROR(cache_.RaiseFloor(kSlab));
    for (uint32_t step = 0; step < kSteps; ++step) {
      HIPATTN_RETURN_IF_ERROR(Write());
      HIPATTN_RETURN_IF_ERROR(ReadTwoWaves());
    }
    return wrong_;
  }

 private:
  device::Buffer Take(size_t bytes) {
    return std::move(device_.Allocate(device::MemoryKind::kHostVisible, bytes).value());
  }

  Status Op(device::Op<BlocksParams> op, const std::vector<uint32_t>& blocks) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      slots_.as<uint32_t>()[i] = cache_.slot(blocks[i]);
      numbers_.as<uint64_t>()[i] = blocks[i] + 1;
    }
    const BlocksParams params = {slots_.as<uint32_t>(),
                                 static_cast<uint32_t>(blocks.size()),
                                 cache_.view(),
                                 numbers_.as<uint64_t>(),
                                 found_.as<uint64_t>()};
    HIPATTN_ASSIGN_OR_RETURN(const device::Ticket ticket, device_.Launch(0, op, params));
    return device_.Sync(ticket);
  }

  Status Add(const std::vector<uint32_t>& blocks, BlockLease::Use use, BlockLease* lease) {
    for (const uint32_t block : blocks) {
      HIPATTN_ASSIGN_OR_RETURN(const bool fits, lease->Add(block, use));
      if (!fits) {
        return Internal("no slot");
      }
    }
    return lease->Begin(BlockMover::Pace::kBeside);
  }

  Status Write() {
    std::vector<uint32_t> blocks;
    for (uint32_t i = 0; i < kWave; ++i) {
      HIPATTN_ASSIGN_OR_RETURN(const uint32_t block, cache_.Create());
      blocks.push_back(block);
    }
    blocks_.insert(blocks_.end(), blocks.begin(), blocks.end());
    BlockLease lease(&cache_);
    HIPATTN_RETURN_IF_ERROR(Add(blocks, BlockLease::Use::kWrite, &lease));
    HIPATTN_RETURN_IF_ERROR(lease.Await());
    HIPATTN_RETURN_IF_ERROR(Op(&FillBlocks, blocks));
    return cache_.WriteBack(blocks);
  }

  std::vector<uint32_t> Some() {
    std::vector<uint32_t> some(kWave);
    for (uint32_t& block : some) {
      block = blocks_[random_() % blocks_.size()];
    }
    return some;
  }

  Status Read(const std::vector<uint32_t>& blocks, BlockLease* lease) {
    HIPATTN_RETURN_IF_ERROR(lease->Await());
    HIPATTN_RETURN_IF_ERROR(Op(&ReadBlocks, blocks));
    for (size_t i = 0; i < blocks.size(); ++i) {
      wrong_ += found_.as<uint64_t>()[i] != blocks[i] + 1 ? 1 : 0;
    }
    return Status::Ok();
  }

  Status ReadTwoWaves() {
    const std::vector<uint32_t> blocks = Some();
    const std::vector<uint32_t> next_blocks = Some();
    BlockLease lease(&cache_);
    BlockLease next(&cache_);
    HIPATTN_RETURN_IF_ERROR(Add(blocks, BlockLease::Use::kRead, &lease));
    HIPATTN_RETURN_IF_ERROR(Add(next_blocks, BlockLease::Use::kRead, &next));
    HIPATTN_RETURN_IF_ERROR(Read(blocks, &lease));
    return Read(next_blocks, &next);
  }

  device::Device& device_;
  offload::MemoryBudget device_budget_{kSlab * kBlock};
  offload::MemoryBudget host_budget_{uint64_t{64} << 20};
  BlockCache cache_;
  device::Buffer slots_, numbers_, found_;
  std::vector<uint32_t> blocks_;
  std::mt19937 random_{3};
  uint32_t wrong_ = 0;
};

int Main(std::string_view mode) {
  EmulatedOptions options;
  options.simulated_clock = mode == "simulated";
  options.jitter_ns = 20000;
  options.device_bytes = options.pinned_bytes = size_t{64} << 20;
  // The way home takes longer than fetching the waves that come behind it.
  options.links[kToHost] = {1300, 1.0, 0, 0.0};
  // Some ops are short beside copies, others long.
  options.op_ns = [n = 0](const device::Submission&) mutable {
    return ++n % 8 == 0 ? 500000 : 2000;
  };
  // The cache makes its streams as it needs them: write-backs come first here.
  const device::StreamId hasty = kBug == kWriteBackUnpinned ? 1 : kBug == kFetchNotAwaited ? 2 : 99;
  HastyDevice device(std::move(EmulatedDevice::Create(options).value()), hasty);
  Result<uint32_t> wrong = Waves(device).Run();
  if (!wrong.ok()) {
    std::cerr << wrong.status().message() << "\n";
    return 2;
  }
  std::cout << *wrong << " of " << 2 * kSteps * kWave << " wrong\n";
  return mode == "simulated" && *wrong > 0 ? 1 : 0;
}

}  // namespace
}  // namespace hipattn::test

int main(int argc, char** argv) {
  return hipattn::test::Main(argc > 1 ? argv[1] : "simulated");
}
