// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/stream_set.h"
#include "tests/emulated/schedule.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

namespace hipattn::test {
namespace {

using Clock = std::chrono::steady_clock;

class ThreadSchedule : public Schedule {
 public:
  explicit ThreadSchedule(Free free) : streams_(/*in_place=*/false, std::move(free)) {}

  Result<device::StreamId> CreateStream(int priority) override { return streams_.Create(priority); }

  Result<device::Ticket> Push(device::StreamId stream, Work work) override {
    return streams_.Push(stream, [this, kept = std::move(work)] {
      const Clock::time_point begin = Clock::now();
      Clock::time_point end = begin;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (uint32_t link = 0; link < kNumLinks; ++link) {
          if (kept.link_ns[link] > 0) {
            link_free_[link] =
                std::max(link_free_[link], begin) + std::chrono::nanoseconds(kept.link_ns[link]);
            end = std::max(end, link_free_[link]);
          }
        }
      }
      std::this_thread::sleep_until(end + std::chrono::nanoseconds(kept.own_ns));
      return kept.effect();
    });
  }

  Status Wait(device::StreamId stream, device::Ticket ticket) override {
    return streams_.Wait(stream, ticket);
  }
  device::Ticket Everything() override { return streams_.Everything(); }
  bool Done(device::Ticket ticket) override { return streams_.Done(ticket); }
  Status Sync(device::Ticket ticket) override { return streams_.Sync(ticket); }
  void FreeLater(const device::Memory& memory, device::Ticket after) override {
    streams_.FreeLater(memory, after);
  }
  int64_t Now() override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
        .count();
  }
  Status Tell(device::StreamId stream, device::Device::Told told) override {
    const auto tell = [this, kept = std::move(told)] {
      kept(Now());
      return Status::Ok();
    };
    return streams_.Push(stream, tell).status();
  }

 private:
  std::mutex mutex_;
  Clock::time_point link_free_[kNumLinks];
  host::StreamSet streams_;  // goes first: its threads use the rest
};

}  // namespace

std::unique_ptr<Schedule> CreateThreadSchedule(Schedule::Free free) {
  return std::make_unique<ThreadSchedule>(std::move(free));
}

}  // namespace hipattn::test
