// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// EmulatedDevice: a device behind a bus, on a machine that has none. Ops are the CPU's and give its
// bits; everything else is as inconvenient as the contract of device/device.h allows:
// - every stream is asynchronous, stream 0 too; copies take the time of a link model, and one
//   direction does one copy after the other;
// - a copy's bytes are read and written only at its end, its pieces in random order;
// - fresh and freed memory is NaN; the alias of mapped memory differs from the host's address;
// - copies and allocations fail when told so.
//
// On a simulated clock nothing sleeps: times are exact, runs repeat to the bit, and totals() says
// how much of the transfers was hidden.
//
// Ops run one thread each: threads never change results, and a device has none of the host's.
#ifndef HIPATTN_TESTS_EMULATED_EMULATED_DEVICE_H_
#define HIPATTN_TESTS_EMULATED_EMULATED_DEVICE_H_

#include "base/result.h"
#include "device/device.h"
#include "device/registry.h"
#include "tests/emulated/link_model.h"
#include "tests/emulated/schedule.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace hipattn::test {

struct EmulatedOptions {
  device::CpuDeviceOptions cpu = {1, {}};  // the host's threads, the ops' instruction set
  bool simulated_clock = false;
  LinkModel links[kNumLinks] = {kPcie4, kPcie4, {}};
  // Modelled time of an op beside its real one (which a simulated clock does not count); none: 0.
  std::function<int64_t(const device::Submission& submission)> op_ns = {};
  int64_t jitter_ns = 0;  // up to this much is added to every submission
  uint64_t seed = 1;      // of jitter and of the order of pieces
  // kDevice and kHostVisible memory, and kPinned and kMapped: an allocation beyond is
  // kOutOfMemory.
  size_t device_bytes = size_t{4} << 30;
  size_t pinned_bytes = size_t{4} << 30;
  // An allocation of those kinds beyond this is refused, whatever capabilities() says.
  size_t refused_pins_beyond_bytes = SIZE_MAX;
  // A copy between the device and host memory that is not the device's own is kDeviceError; else it
  // takes the time of pinned memory.
  bool copies_pinned_memory_only = false;
  bool unified_addresses = false;
  // The host faults when it touches device addresses while no op runs, and an op whose list of jobs
  // is not in the device's memory is kDeviceError. On a simulated clock, with one thread of the
  // host, an op faults that touches kPinned or kMapped memory at the host's address.
  bool guard = false;
  uint64_t fail_allocation = 0;  // the n-th is kOutOfMemory, counted from 1; 0: none
  uint64_t fail_copy = 0;        // the n-th moves half its pieces, then makes the device faulty
};

class EmulatedDevice : public device::Device {
 public:
  // Errors of CreateCpuDevice; kOutOfMemory.
  static Result<std::unique_ptr<EmulatedDevice>> Create(const EmulatedOptions& options);

  // Memory that is not freed yet, deferred frees included.
  virtual size_t bytes_in_use(device::MemoryKind kind) = 0;
  // REQUIRES: simulated_clock.
  virtual SimulatedSchedule& clock() = 0;
};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_EMULATED_EMULATED_DEVICE_H_
