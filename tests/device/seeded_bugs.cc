// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A small pipeline of copies and ops, compiled once as it should be and once with each of five
// mistakes in its order (HIPATTN_SEEDED_BUG). Every mistake gives wrong results on the emulated
// device and is a race to ThreadSanitizer; on a synchronous device none would ever be seen.
//
// Each step fills a staging buffer, copies it in pieces into one of two slots on one stream, sums
// the slot on another and copies the sum back on a third; the host looks at the end.
//
// Usage: seeded_bugs simulated | threads. Exit status 1 and a line when results are wrong;
// "threads" is for ThreadSanitizer, whose report ends the program with another status.
#include "device/device.h"
#include "tests/emulated/emulated_device.h"

#include <chrono>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>

namespace hipattn::test {
namespace {

constexpr int kBug = HIPATTN_SEEDED_BUG;
constexpr int kOpBeforeCopy = 1;     // the op does not wait for the copy of its slot
constexpr int kStagingReused = 2;    // staging is filled again while it is still being copied
constexpr int kSlotOverwritten = 3;  // a slot is overwritten while its op still reads it
constexpr int kFreedInUse = 4;       // the op's factors are freed after the copy, not after the op
constexpr int kReadTooEarly = 5;     // the host sleeps instead of waiting for the sums

constexpr uint32_t kValues = 4096;
constexpr uint32_t kPieces = 8;
constexpr uint32_t kSteps = 40;

struct SumParams {
  const uint32_t* values;
  const uint32_t* factor;
  uint64_t* sum;
};

void Sum(const device::OpContext& /*context*/, const SumParams& params) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < kValues; ++i) {
    sum += uint64_t{*params.factor} * params.values[i];
  }
  *params.sum = sum;
}

class Pipeline {
 public:
  explicit Pipeline(device::Device& device)
      : device_(device),
        in_(device.CreateStream(0).value()),
        ops_(device.CreateStream(0).value()),
        out_(device.CreateStream(0).value()),
        staging_(Take(device::MemoryKind::kPinned, kValues * sizeof(uint32_t))),
        sums_(Take(device::MemoryKind::kDevice, kSteps * sizeof(uint64_t))),
        result_(Take(device::MemoryKind::kPinned, kSteps * sizeof(uint64_t))) {
    for (device::Buffer& slot : slots_) {
      slot = Take(device::MemoryKind::kDevice, kValues * sizeof(uint32_t));
    }
  }

  // Steps whose sums are wrong.
  Result<uint32_t> Run() {
    for (uint32_t step = 0; step < kSteps; ++step) {
      HIPATTN_RETURN_IF_ERROR(Step(step));
    }
    if (kBug == kReadTooEarly) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    } else {
      HIPATTN_RETURN_IF_ERROR(device_.Sync(device_.Everything()));
    }
    uint32_t wrong = 0;
    for (uint32_t step = 0; step < kSteps; ++step) {
      wrong += result_.as<uint64_t>()[step] != uint64_t{3} * kValues * (step + 1) ? 1 : 0;
    }
    HIPATTN_RETURN_IF_ERROR(device_.Sync(device_.Everything()));
    return wrong;
  }

 private:
  device::Buffer Take(device::MemoryKind kind, size_t bytes) {
    return std::move(device_.Allocate(kind, bytes).value());
  }

  Status Step(uint32_t step) {
    device::Buffer& slot = slots_[step % 2];
    if (kBug != kStagingReused) {
      HIPATTN_RETURN_IF_ERROR(device_.Sync(copied_));
    }
    for (uint32_t i = 0; i < kValues; ++i) {
      staging_.as<uint32_t>()[i] = step + 1;
    }
    if (kBug != kSlotOverwritten) {
      HIPATTN_RETURN_IF_ERROR(device_.Wait(in_, read_[step % 2]));
    }
    device::CopyPiece pieces[kPieces];
    const size_t bytes = staging_.size_bytes() / kPieces;
    for (uint32_t i = 0; i < kPieces; ++i) {
      pieces[i] = {slot.data() + i * bytes, staging_.data() + i * bytes, bytes};
    }
    HIPATTN_ASSIGN_OR_RETURN(copied_, device_.Copy(in_, pieces));
    if (kBug != kOpBeforeCopy) {
      HIPATTN_RETURN_IF_ERROR(device_.Wait(ops_, copied_));
    }
    device::Buffer factor = Take(device::MemoryKind::kHostVisible, sizeof(uint32_t));
    *factor.as<uint32_t>() = 3;
    const SumParams params = {
        slot.as<uint32_t>(), factor.as<uint32_t>(), sums_.as<uint64_t>() + step};
    HIPATTN_ASSIGN_OR_RETURN(read_[step % 2], device_.Launch(ops_, &Sum, params));
    factor.FreeAfter(kBug == kFreedInUse ? device::Ticket{} : read_[step % 2]);
    HIPATTN_RETURN_IF_ERROR(device_.Wait(out_, read_[step % 2]));
    const device::CopyPiece back = {
        result_.as<uint64_t>() + step, sums_.as<uint64_t>() + step, sizeof(uint64_t)};
    return device_.Copy(out_, {&back, 1}).status();
  }

  device::Device& device_;
  const device::StreamId in_, ops_, out_;
  const device::Buffer staging_, sums_, result_;
  device::Buffer slots_[2];
  device::Ticket copied_, read_[2];
};

int Main(std::string_view mode) {
  EmulatedOptions options;
  options.simulated_clock = mode == "simulated";
  options.jitter_ns = 20000;
  options.device_bytes = options.pinned_bytes = size_t{1} << 20;
  // Most ops are short, so that they may come too early, some as long as many copies, so that
  // these may.
  options.op_ns = [n = 0](const device::Submission&) mutable {
    return ++n % 8 == 0 ? 500000 : 2000;
  };
  const auto device = std::move(EmulatedDevice::Create(options).value());
  Result<uint32_t> wrong = Pipeline(*device).Run();
  if (!wrong.ok()) {
    std::cerr << wrong.status().message() << "\n";
    return 2;
  }
  std::cout << *wrong << " of " << kSteps << " wrong\n";
  return mode == "simulated" && *wrong > 0 ? 1 : 0;
}

}  // namespace
}  // namespace hipattn::test

int main(int argc, char** argv) {
  return hipattn::test::Main(argc > 1 ? argv[1] : "simulated");
}
