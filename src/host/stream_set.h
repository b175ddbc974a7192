// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// StreamSet: the streams of a device whose work runs on host threads: one thread per stream,
// started with the stream's first work. Keeps the contract of device/device.h on order, tickets,
// faults and deferred frees; what a job does is the device's business.
#ifndef HIPATTN_HOST_STREAM_SET_H_
#define HIPATTN_HOST_STREAM_SET_H_

#include "base/result.h"
#include "device/device.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace hipattn::host {

// Thread-safe.
class StreamSet {
 public:
  using Job = std::function<Status()>;

  // `free` gives memory of the device back; it is called once per FreeLater, on any thread.
  using Free = std::function<void(const device::Memory& memory)>;

  // Stream 0 is there. `in_place`: its work runs on the caller's thread, by RunInPlace.
  StreamSet(bool in_place, Free free);
  // Everything submitted runs first, and every free that was put off.
  ~StreamSet();
  StreamSet(const StreamSet&) = delete;
  StreamSet& operator=(const StreamSet&) = delete;

  Result<device::StreamId> Create(int priority);
  bool in_place(device::StreamId stream) const { return in_place_ && stream == 0; }

  // Errors: no such stream, the first fault, no thread to be had. REQUIRES: not in_place(stream).
  Result<device::Ticket> Push(device::StreamId stream, Job job);

  // Runs job() here once all that stream 0 waits for is reached. Calls from several threads run
  // side by side: whoever wants an order between them has one.
  template <typename Run>
  Result<device::Ticket> RunInPlace(const Run& job) {
    HIPATTN_RETURN_IF_ERROR(BeginInPlace());
    job();
    return Issue();
  }

  Status Wait(device::StreamId stream, device::Ticket ticket);
  device::Ticket Everything();
  bool Done(device::Ticket ticket);
  Status Sync(device::Ticket ticket);

  // Frees once the ticket, one that was given out, is reached: at once, or on the thread that
  // reaches it. When there is no memory to note that down, it waits.
  void FreeLater(const device::Memory& memory, device::Ticket after) noexcept;

 private:
  struct Item {
    uint64_t number;
    Job job;  // none: the stream waits for `awaited`
    device::Ticket awaited;
  };
  struct Stream {
    int priority = 0;
    std::deque<Item> queue;  // the first is running, or next
    std::condition_variable came;
    std::thread thread;
  };
  struct PendingFree {
    device::Ticket after;
    device::Memory memory;
  };

  Status BeginInPlace();
  device::Ticket Issue();
  Status Enqueue(device::StreamId stream, Item item);
  void Work(Stream* stream);
  // All with mutex_ held.
  Status CheckStream(device::StreamId stream) const;
  Status CheckTicket(device::Ticket ticket) const;
  bool Reached(device::Ticket ticket) const;
  bool PutOff(const PendingFree& pending) noexcept;  // false: there is no memory to note it down
  // These two let go of the mutex while they work.
  void RunFirst(Stream* stream, std::unique_lock<std::mutex>* lock);
  void FreeDue(std::unique_lock<std::mutex>* lock);

  const bool in_place_;
  const Free free_;
  std::mutex mutex_;
  std::condition_variable reached_;  // some item is complete
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<device::Ticket> in_place_waits_;
  std::vector<PendingFree> frees_;
  std::atomic<uint64_t> last_number_{0};
  Status fault_;
  // Written with mutex_ held. False lets work in place pass without it: there is no fault, and
  // stream 0 waits for nothing.
  std::atomic<bool> held_up_{false};
  bool stop_ = false;
};

}  // namespace hipattn::host

#endif  // HIPATTN_HOST_STREAM_SET_H_
