// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// WrappingDevice: hands every call to the device it owns. What follows from it changes or watches
// some of them, of any device: FaultyDevice, RecordingDevice, LimitingDevice. They stack.
#ifndef HIPATTN_TESTS_EMULATED_WRAPPING_DEVICE_H_
#define HIPATTN_TESTS_EMULATED_WRAPPING_DEVICE_H_

#include "device/device.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace hipattn::test {

class WrappingDevice : public device::Device {
 public:
  explicit WrappingDevice(std::unique_ptr<device::Device> inner) : inner_(std::move(inner)) {}

  const char* name() const override { return inner_->name(); }
  const device::OpTable& ops() const override { return inner_->ops(); }
  device::Executor& executor() override { return inner_->executor(); }
  device::HostMemory& host_memory() override { return inner_->host_memory(); }
  device::Capabilities capabilities() const override { return inner_->capabilities(); }
  Result<device::Buffer> Allocate(device::MemoryKind kind, size_t bytes) override;
  Result<device::StreamId> CreateStream(int priority) override {
    return inner_->CreateStream(priority);
  }
  Result<device::Ticket> Copy(device::StreamId stream,
                              std::span<const device::CopyPiece> pieces) override {
    return inner_->Copy(stream, pieces);
  }
  device::Ticket Everything() override { return inner_->Everything(); }
  bool Done(device::Ticket ticket) override { return inner_->Done(ticket); }
  Status Sync(device::Ticket ticket) override { return inner_->Sync(ticket); }
  Status Wait(device::StreamId stream, device::Ticket ticket) override {
    return inner_->Wait(stream, ticket);
  }
  int64_t Now() override { return inner_->Now(); }
  Status Tell(device::StreamId stream, Told told) override {
    return inner_->Tell(stream, std::move(told));
  }
  Result<device::Ticket> Submit(device::StreamId stream,
                                const device::Submission& submission) override {
    return inner_->Submit(stream, submission);
  }
  void Free(const device::Memory& memory, device::Ticket after) override {
    inner_->Free(memory, after);
  }

 protected:
  device::Device& inner() const { return *inner_; }

 private:
  const std::unique_ptr<device::Device> inner_;
};

// Fails the n-th call of a kind, counted from 1 since the last Arm; 0: none. A failed allocation is
// that call's error, a failed copy or launch does nothing and makes the device faulty.
class FaultyDevice : public WrappingDevice {
 public:
  struct Faults {
    uint64_t allocation = 0, copy = 0, launch = 0;
  };

  using WrappingDevice::WrappingDevice;

  void Arm(const Faults& faults);  // counts from here; an earlier fault stays
  Result<device::Buffer> Allocate(device::MemoryKind kind, size_t bytes) override;
  Result<device::Ticket> Copy(device::StreamId stream,
                              std::span<const device::CopyPiece> pieces) override;
  Result<device::Ticket> Submit(device::StreamId stream,
                                const device::Submission& submission) override;
  Status Sync(device::Ticket ticket) override;
  Status Wait(device::StreamId stream, device::Ticket ticket) override;

 private:
  Status Count(uint64_t Faults::*which, const char* what);
  Status fault();

  std::mutex mutex_;
  Faults faults_, seen_;
  Status fault_;
};

// Keeps a list of what was called, in the order of the calls' returns.
class RecordingDevice : public WrappingDevice {
 public:
  enum class Call { kAllocate, kFree, kCopy, kLaunch, kWait, kSync };
  struct Record {
    Call call;
    device::StreamId stream = 0;  // of Copy, Launch, Wait
    device::Ticket ticket = {};   // Copy, Launch: returned; Free, Wait, Sync: given
    device::MemoryKind kind = device::MemoryKind::kDevice;  // of Allocate, Free
    uint64_t bytes = 0;                                     // of Allocate, Free, Copy
    uint64_t pieces = 0;                                    // of Copy
    void (*op)() = nullptr;  // of Launch; compare with AnyOp(ops().<op>)
  };

  using WrappingDevice::WrappingDevice;

  std::vector<Record> Take();  // what was recorded since the last Take; calls that failed are not
  Result<device::Buffer> Allocate(device::MemoryKind kind, size_t bytes) override;
  Result<device::Ticket> Copy(device::StreamId stream,
                              std::span<const device::CopyPiece> pieces) override;
  Result<device::Ticket> Submit(device::StreamId stream,
                                const device::Submission& submission) override;
  Status Sync(device::Ticket ticket) override;
  Status Wait(device::StreamId stream, device::Ticket ticket) override;
  void Free(const device::Memory& memory, device::Ticket after) override;

 private:
  void Add(const Record& record);

  std::mutex mutex_;
  std::vector<Record> records_;
};

// Watches that memory of some kinds together never exceeds a limit. Memory counts until the ticket
// after which it may be freed is reached, as it does on the device. What would exceed the limit is
// kInternal, an error that no caller expects, and is counted: budgets are kept by whoever
// allocates, this only finds out.
class LimitingDevice : public WrappingDevice {
 public:
  struct Limit {
    uint64_t bytes = UINT64_MAX;
    bool counts[4] = {true, true, false, false};  // by MemoryKind: what lies on the device
  };

  LimitingDevice(std::unique_ptr<device::Device> inner, const Limit& limit)
      : WrappingDevice(std::move(inner)), limit_(limit) {}

  uint64_t bytes_in_use();
  uint64_t peak_bytes();
  uint64_t num_refused();
  Result<device::Buffer> Allocate(device::MemoryKind kind, size_t bytes) override;
  void Free(const device::Memory& memory, device::Ticket after) override;

 private:
  struct Pending {
    device::Ticket after;
    uint64_t bytes;
  };

  bool Counts(device::MemoryKind kind) const { return limit_.counts[static_cast<uint32_t>(kind)]; }
  void DropReached();  // with mutex_ held

  const Limit limit_;
  std::mutex mutex_;
  uint64_t in_use_ = 0, peak_ = 0, refused_ = 0;
  std::vector<Pending> pending_;
};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_EMULATED_WRAPPING_DEVICE_H_
