// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/emulated/schedule.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <mutex>
#include <utility>

namespace hipattn::test {
namespace {

// A submission can only wait for earlier ones, so its begin and end are known when it is made.
class Simulated : public SimulatedSchedule {
 public:
  explicit Simulated(Free free) : free_(std::move(free)), streams_(1) {}
  ~Simulated() override {
    now_ns_ = std::numeric_limits<int64_t>::max();
    RunDue();
  }

  Result<device::StreamId> CreateStream(int /*priority*/) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_.emplace_back();
    return static_cast<device::StreamId>(streams_.size() - 1);
  }

  Result<device::Ticket> Push(device::StreamId stream, Work work) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    HIPATTN_RETURN_IF_ERROR(CheckStream(stream));
    RunDue();
    HIPATTN_RETURN_IF_ERROR(fault_);
    Stream& s = streams_[stream];
    const int64_t ready = std::max(now_ns_, s.free_ns);
    const int64_t begin = std::max(ready, s.wait_ns);
    int64_t end = begin;
    for (uint32_t link = 0; link < kNumLinks; ++link) {
      if (work.link_ns[link] > 0) {
        link_free_ns_[link] = std::max(link_free_ns_[link], begin) + work.link_ns[link];
        end = std::max(end, link_free_ns_[link]);
        totals_.link_ns[link] += work.link_ns[link];
      }
    }
    end += work.own_ns;
    if (!work.copy) {
      totals_.op_ns += work.own_ns;
      totals_.stream_wait_ns += begin - ready;
    }
    s.free_ns = end;
    const device::Ticket ticket = {stream, ++last_number_};
    s.ends.emplace_back(ticket.sequence, end);
    events_.push_back({ticket, work.copy, begin, end});
    effects_.emplace(end, Effect{/*skippable=*/true, std::move(work.effect)});
    return ticket;
  }

  Status Wait(device::StreamId stream, device::Ticket ticket) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    HIPATTN_RETURN_IF_ERROR(CheckStream(stream));
    HIPATTN_RETURN_IF_ERROR(CheckTicket(ticket));
    RunDue();
    HIPATTN_RETURN_IF_ERROR(fault_);
    streams_[stream].wait_ns = std::max(streams_[stream].wait_ns, EndOf(ticket));
    return Status::Ok();
  }

  device::Ticket Everything() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {device::kEveryStream, last_number_};
  }

  bool Done(device::Ticket ticket) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    RunDue();
    return CheckTicket(ticket).ok() && EndOf(ticket) <= now_ns_;
  }

  Status Sync(device::Ticket ticket) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    HIPATTN_RETURN_IF_ERROR(CheckTicket(ticket));
    const int64_t end = EndOf(ticket);
    if (end > now_ns_) {
      totals_.host_wait_ns += end - now_ns_;
      now_ns_ = end;
    }
    RunDue();
    return fault_;
  }

  void FreeLater(const device::Memory& memory, device::Ticket after) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    effects_.emplace(EndOf(after), Effect{/*skippable=*/false, [this, memory] {
                                            free_(memory);
                                            return Status::Ok();
                                          }});
    RunDue();
  }

  int64_t Now() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return now_ns_;
  }
  Status Tell(device::StreamId stream, device::Device::Told told) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    HIPATTN_RETURN_IF_ERROR(CheckStream(stream));
    RunDue();
    HIPATTN_RETURN_IF_ERROR(fault_);
    const Stream& s = streams_[stream];
    const int64_t reached = std::max({now_ns_, s.free_ns, s.wait_ns});
    effects_.emplace(reached, Effect{/*skippable=*/true, [reached, kept = std::move(told)] {
                                       kept(reached);
                                       return Status::Ok();
                                     }});
    RunDue();
    return fault_;
  }

  void Advance(int64_t host_ns) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    now_ns_ += host_ns;
    RunDue();
  }
  Totals totals() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return totals_;
  }
  std::vector<Event> events() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return events_;
  }

 private:
  struct Stream {
    int64_t free_ns = 0;                             // its last work ends
    int64_t wait_ns = 0;                             // what it waits for ends
    std::vector<std::pair<uint64_t, int64_t>> ends;  // number, end: both ascending
  };

  struct Effect {
    bool skippable;  // behind a fault
    std::function<Status()> run;
  };

  Status CheckStream(device::StreamId stream) const {
    return stream < streams_.size()
               ? Status::Ok()
               : InvalidArgument("stream is ", stream, "; the device has ", streams_.size());
  }
  Status CheckTicket(device::Ticket ticket) const {
    if (ticket.stream != device::kEveryStream) {
      HIPATTN_RETURN_IF_ERROR(CheckStream(ticket.stream));
    }
    return ticket.sequence <= last_number_ ? Status::Ok()
                                           : InvalidArgument("ticket.sequence is ",
                                                             ticket.sequence,
                                                             "; the last one given out is ",
                                                             last_number_);
  }

  static int64_t EndOn(const Stream& stream, uint64_t number) {
    const auto after = std::upper_bound(
        stream.ends.begin(), stream.ends.end(), number, [](uint64_t n, const auto& entry) {
          return n < entry.first;
        });
    return after == stream.ends.begin() ? 0 : std::prev(after)->second;
  }
  int64_t EndOf(device::Ticket ticket) const {
    if (ticket.stream != device::kEveryStream) {
      return EndOn(streams_[ticket.stream], ticket.sequence);
    }
    int64_t end = 0;
    for (const Stream& stream : streams_) {
      end = std::max(end, EndOn(stream, ticket.sequence));
    }
    return end;
  }

  // With mutex_ held, or alone. Work behind a fault is skipped, memory is freed all the same.
  void RunDue() {
    while (!effects_.empty() && effects_.begin()->first <= now_ns_) {
      const Effect effect = std::move(effects_.begin()->second);
      effects_.erase(effects_.begin());
      if (fault_.ok()) {
        fault_ = effect.run();
      } else if (!effect.skippable) {
        static_cast<void>(effect.run());  // a free, which cannot fail
      }
    }
  }

  const Free free_;
  std::mutex mutex_;
  int64_t now_ns_ = 0;
  std::vector<Stream> streams_;
  int64_t link_free_ns_[kNumLinks] = {};
  std::multimap<int64_t, Effect> effects_;  // by end
  uint64_t last_number_ = 0;
  Totals totals_;
  std::vector<Event> events_;
  Status fault_;
};

}  // namespace

std::unique_ptr<SimulatedSchedule> SimulatedSchedule::Create(Free free) {
  return std::make_unique<Simulated>(std::move(free));
}

}  // namespace hipattn::test
