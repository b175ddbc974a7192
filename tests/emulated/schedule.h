// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Schedule: when the work of an emulated device takes effect. Two kinds: on threads, in real time;
// and on a simulated clock, where nothing sleeps, no thread is started and every time is exact.
//
// Both let a copy wait for its direction's engine, and both read and write all bytes of a
// submission at its end (late landing): whoever did not wait for it sees what was there before, or
// has already overwritten what it was to read.
#ifndef HIPATTN_TESTS_EMULATED_SCHEDULE_H_
#define HIPATTN_TESTS_EMULATED_SCHEDULE_H_

#include "base/result.h"
#include "device/device.h"
#include "tests/emulated/link_model.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace hipattn::test {

struct Work {
  int64_t link_ns[kNumLinks] = {};  // on each copy engine
  int64_t own_ns = 0;               // beside that: an op's run time, jitter
  bool copy = false;
  std::function<Status()> effect;
};

// What a submission did on a simulated clock.
struct Event {
  device::Ticket ticket;
  bool copy;
  int64_t begin_ns, end_ns;
};

// Sums over a simulated run.
struct Totals {
  int64_t link_ns[kNumLinks] = {};  // engines busy
  int64_t op_ns = 0;                // ops running, overlaps counted twice
  int64_t stream_wait_ns = 0;       // ops that could have begun but for a Wait
  int64_t host_wait_ns = 0;         // in Sync
};

// The calls of device::Device, with its rules.
class Schedule {
 public:
  using Free = std::function<void(const device::Memory& memory)>;

  Schedule() = default;
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;
  // Everything submitted takes effect first.
  virtual ~Schedule() = default;

  virtual Result<device::StreamId> CreateStream(int priority) = 0;
  virtual Result<device::Ticket> Push(device::StreamId stream, Work work) = 0;
  virtual Status Wait(device::StreamId stream, device::Ticket ticket) = 0;
  virtual device::Ticket Everything() = 0;
  virtual bool Done(device::Ticket ticket) = 0;
  virtual Status Sync(device::Ticket ticket) = 0;
  virtual void FreeLater(const device::Memory& memory, device::Ticket after) = 0;
  virtual int64_t Now() = 0;
  virtual Status Tell(device::StreamId stream, device::Device::Told told) = 0;
};

std::unique_ptr<Schedule> CreateThreadSchedule(Schedule::Free free);

// Effects take place in the order of their ends, ties in the order of submission, as soon as the
// host's clock has passed them; the host's clock stands still but for Sync, which moves it to the
// ticket's point, and Advance. Thread-safe; effects run on the thread that moves the clock.
class SimulatedSchedule : public Schedule {
 public:
  static std::unique_ptr<SimulatedSchedule> Create(Free free);

  int64_t now_ns() { return Now(); }
  virtual void Advance(int64_t host_ns) = 0;  // the host worked that long
  virtual Totals totals() = 0;
  virtual std::vector<Event> events() = 0;  // in order of submission
};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_EMULATED_SCHEDULE_H_
