// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/stream_set.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <new>
#include <system_error>
#include <utility>

namespace hipattn::host {
namespace {

constexpr int kBackgroundNice = 10;  // about a tenth of a thread's share beside one of nice 0

Status RunJob(const StreamSet::Job& job) {
  try {
    return job();
  } catch (const std::bad_alloc&) {
    return {StatusCode::kOutOfMemory, "no memory left"};
  } catch (const std::exception& error) {  // of std or TBB
    return {StatusCode::kDeviceError, error.what()};
  }
}

}  // namespace

StreamSet::StreamSet(bool in_place, Free free) : in_place_(in_place), free_(std::move(free)) {
  streams_.push_back(std::make_unique<Stream>());
}

StreamSet::~StreamSet() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    for (const auto& stream : streams_) {
      stream->came.notify_all();
    }
  }
  for (const auto& stream : streams_) {
    if (stream->thread.joinable()) {
      stream->thread.join();
    }
  }
}

Result<device::StreamId> StreamSet::Create(int priority) {
  const std::lock_guard<std::mutex> lock(mutex_);
  streams_.push_back(std::make_unique<Stream>());
  streams_.back()->priority = priority;
  return static_cast<device::StreamId>(streams_.size() - 1);
}

Status StreamSet::CheckStream(device::StreamId stream) const {
  if (stream >= streams_.size()) {
    return InvalidArgument("stream is ", stream, "; the device has ", streams_.size());
  }
  return Status::Ok();
}

Status StreamSet::CheckTicket(device::Ticket ticket) const {
  if (ticket.stream != device::kEveryStream) {
    HIPATTN_RETURN_IF_ERROR(CheckStream(ticket.stream));
  }
  if (const uint64_t last = last_number_.load(std::memory_order_relaxed); ticket.sequence > last) {
    return InvalidArgument(
        "ticket.sequence is ", ticket.sequence, "; the last one given out is ", last);
  }
  return Status::Ok();
}

bool StreamSet::Reached(device::Ticket ticket) const {
  const auto reached = [&](const std::unique_ptr<Stream>& stream) {
    return stream->queue.empty() || stream->queue.front().number > ticket.sequence;
  };
  return ticket.stream == device::kEveryStream
             ? std::all_of(streams_.begin(), streams_.end(), reached)
             : reached(streams_[ticket.stream]);
}

Status StreamSet::Enqueue(device::StreamId stream, Item item) {
  Stream& s = *streams_[stream];
  if (!s.thread.joinable()) {
    try {
      s.thread = std::thread([this, &s] { Work(&s); });
    } catch (const std::system_error& error) {
      return {StatusCode::kUnavailable,
              StrCat("no thread for stream ", stream, ": ", error.what())};
    }
  }
  s.queue.push_back(std::move(item));
  s.came.notify_one();
  return Status::Ok();
}

Result<device::Ticket> StreamSet::Push(device::StreamId stream, Job job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  HIPATTN_RETURN_IF_ERROR(CheckStream(stream));
  HIPATTN_RETURN_IF_ERROR(fault_);
  // A number that Enqueue fails to use is skipped.
  const uint64_t number = Issue().sequence;
  HIPATTN_RETURN_IF_ERROR(Enqueue(stream, {number, std::move(job), {}}));
  return device::Ticket{stream, number};
}

Status StreamSet::BeginInPlace() {
  if (!held_up_.load(std::memory_order_acquire)) {
    return Status::Ok();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  reached_.wait(lock, [&] {
    return std::all_of(in_place_waits_.begin(), in_place_waits_.end(), [&](device::Ticket ticket) {
      return Reached(ticket);
    });
  });
  in_place_waits_.clear();
  held_up_.store(!fault_.ok(), std::memory_order_release);
  return fault_;
}

device::Ticket StreamSet::Issue() {
  return {0, last_number_.fetch_add(1, std::memory_order_relaxed) + 1};
}

Status StreamSet::Wait(device::StreamId stream, device::Ticket ticket) {
  const std::lock_guard<std::mutex> lock(mutex_);
  HIPATTN_RETURN_IF_ERROR(CheckStream(stream));
  HIPATTN_RETURN_IF_ERROR(CheckTicket(ticket));
  HIPATTN_RETURN_IF_ERROR(fault_);
  if (Reached(ticket)) {
    return Status::Ok();
  }
  if (in_place(stream)) {
    in_place_waits_.push_back(ticket);
    held_up_.store(true, std::memory_order_release);
    return Status::Ok();
  }
  return Enqueue(stream, {Issue().sequence, {}, ticket});
}

device::Ticket StreamSet::Everything() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {device::kEveryStream, last_number_.load(std::memory_order_relaxed)};
}

bool StreamSet::Done(device::Ticket ticket) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return CheckTicket(ticket).ok() && Reached(ticket);
}

Status StreamSet::Sync(device::Ticket ticket) {
  if (in_place(ticket.stream) && ticket.sequence <= last_number_.load(std::memory_order_relaxed) &&
      !held_up_.load(std::memory_order_acquire)) {
    return Status::Ok();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  HIPATTN_RETURN_IF_ERROR(CheckTicket(ticket));
  reached_.wait(lock, [&] { return Reached(ticket); });
  return fault_;
}

bool StreamSet::PutOff(const PendingFree& pending) noexcept {
  try {
    frees_.push_back(pending);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void StreamSet::FreeLater(const device::Memory& memory, device::Ticket after) noexcept {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!Reached(after) && PutOff({after, memory})) {
      return;
    }
    reached_.wait(lock, [&] { return Reached(after); });
  }
  free_(memory);
}

void StreamSet::FreeDue(std::unique_lock<std::mutex>* lock) {
  while (true) {
    const auto due = std::find_if(frees_.begin(), frees_.end(), [&](const PendingFree& pending) {
      return Reached(pending.after);
    });
    if (due == frees_.end()) {
      return;
    }
    const device::Memory memory = due->memory;
    frees_.erase(due);
    lock->unlock();
    free_(memory);
    lock->lock();
  }
}

void StreamSet::RunFirst(Stream* stream, std::unique_lock<std::mutex>* lock) {
  const Item& item = stream->queue.front();  // stays where it is while others come behind it
  if (!item.job) {
    reached_.wait(*lock, [&] { return Reached(item.awaited); });
  } else if (fault_.ok()) {
    lock->unlock();
    Status status = RunJob(item.job);
    lock->lock();
    if (fault_.ok() && !status.ok()) {
      fault_ = std::move(status);
      held_up_.store(true, std::memory_order_release);
    }
  }
}

void StreamSet::Work(Stream* stream) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (stream->priority < 0) {
    // Best effort: a refusal costs fairness, no result.
    static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kBackgroundNice));
  }
  while (true) {
    stream->came.wait(lock, [&] { return stop_ || !stream->queue.empty(); });
    if (stream->queue.empty()) {
      return;
    }
    RunFirst(stream, &lock);
    stream->queue.pop_front();
    FreeDue(&lock);
    reached_.notify_all();
  }
}

}  // namespace hipattn::host
