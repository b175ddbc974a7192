// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Devices for tests of the contract, a way to keep a stream busy, and a few ops.
#ifndef HIPATTN_TESTS_DEVICE_DEVICE_FIXTURE_H_
#define HIPATTN_TESTS_DEVICE_DEVICE_FIXTURE_H_

#include "device/device.h"
#include "device/registry.h"
#include "tests/emulated/emulated_device.h"
#include "tests/emulated/wrapping_device.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace hipattn::test {

inline constexpr int64_t kOpNs = 1000;

struct MadeDevice {
  std::unique_ptr<device::Device> device;
  EmulatedDevice* emulated = nullptr;  // inside, when it is one
  bool simulated = false;
};

inline MadeDevice MakeEmulated(const EmulatedOptions& options) {
  auto emulated = std::move(EmulatedDevice::Create(options).value());
  EmulatedDevice* const raw = emulated.get();
  return {std::move(emulated), raw, options.simulated_clock};
}

// "cpu", "threads", "simulated", "unified" (addresses), "guarded",
// "wrapped" (a CPU device in every decorator).
inline MadeDevice MakeDevice(const std::string& name) {
  if (name == "cpu" || name == "wrapped") {
    std::unique_ptr<device::Device> cpu = std::move(device::CreateCpuDevice({2, {}}).value());
    if (name == "wrapped") {
      cpu = std::make_unique<FaultyDevice>(std::move(cpu));
      cpu = std::make_unique<LimitingDevice>(std::move(cpu), LimitingDevice::Limit{});
      cpu = std::make_unique<RecordingDevice>(std::move(cpu));
    }
    return {std::move(cpu)};
  }
  EmulatedOptions options;
  options.device_bytes = options.pinned_bytes = size_t{64} << 20;
  options.simulated_clock = name == "simulated";
  options.unified_addresses = name == "unified";
  options.guard = name == "guarded";
  options.jitter_ns = options.simulated_clock ? 0 : 50000;
  if (options.simulated_clock) {
    options.op_ns = [](const device::Submission&) { return kOpNs; };
  }
  return MakeEmulated(options);
}

// Keeps a stream other than 0 busy from its construction to Release: on threads by an op that
// waits, on a simulated clock by one that takes its time.
class Hold {
 public:
  Hold(MadeDevice& made, device::StreamId stream) : made_(made) {
    const Params params = {&released_};
    ticket_ = made.device->Launch(stream, made.simulated ? &Nothing : &Block, params).value();
  }
  ~Hold() { Release(); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  device::Ticket ticket() const { return ticket_; }
  // Returns when the stream is free again; the device may be faulty by then.
  void Release() {
    if (!released_.exchange(true)) {
      released_.notify_all();
    }
    static_cast<void>(made_.device->Sync(ticket_));
  }

 private:
  struct Params {
    std::atomic<bool>* released;
  };
  static void Block(const device::OpContext& /*context*/, const Params& params) {
    params.released->wait(false);
  }
  static void Nothing(const device::OpContext& /*context*/, const Params& /*params*/) {}

  MadeDevice& made_;
  std::atomic<bool> released_{false};
  device::Ticket ticket_;
};

// *value = *value * factor + addend
struct MixParams {
  uint64_t* value;
  uint64_t factor, addend;
};
inline void Mix(const device::OpContext& /*context*/, const MixParams& params) {
  *params.value = *params.value * params.factor + params.addend;
}

// *sum = the sum of values[0 .. count)
struct SumParams {
  const uint32_t* values;
  uint32_t count;
  uint64_t* sum;
};
inline void Sum(const device::OpContext& /*context*/, const SumParams& params) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < params.count; ++i) {
    sum += params.values[i];
  }
  *params.sum = sum;
}

inline device::Buffer Take(device::Device& device, device::MemoryKind kind, size_t bytes) {
  return std::move(device.Allocate(kind, bytes).value());
}

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_DEVICE_DEVICE_FIXTURE_H_
