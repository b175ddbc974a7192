// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Device: memory, streams of work ordered by tickets, and the table of ops.
//
// Work on one stream takes effect in the order of its submission; a Ticket names a point of a
// stream's timeline. Memory that an op reads or writes must stay until the op's ticket is reached.
// Host code reads what a device wrote only from kHostVisible memory, and only after Sync of the
// writer's ticket. The CPU device completes every submission before it returns, so its tickets are
// always reached. Errors of submitted work are sticky: Sync and every later submission return the
// first one.
#ifndef HIPATTN_DEVICE_DEVICE_H_
#define HIPATTN_DEVICE_DEVICE_H_

#include "base/result.h"
#include "base/status.h"
#include "device/executor.h"
#include "device/host_memory.h"
#include "device/ops.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace hipattn::device {

using StreamId = uint32_t;

struct Ticket {
  StreamId stream = 0;
  uint64_t sequence = 0;
};

enum class MemoryKind {
  kDevice,       // fastest for the device; the host must not touch it
  kHostVisible,  // the host and the device can both read and write it
};

struct CopyPiece {
  void* dst;
  const void* src;
  size_t bytes;
};

class Device;

// Owns device memory. Movable; freed with the buffer, after everything submitted before the
// release.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, std::byte* data, size_t bytes, MemoryKind kind)
      : device_(device), data_(data), bytes_(bytes), kind_(kind) {}
  Buffer(Buffer&& other) noexcept { Swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer moved(std::move(other));
    Swap(moved);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  inline ~Buffer();

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void Swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(kind_, other.kind_);
  }

  Device* device_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  MemoryKind kind_ = MemoryKind::kDevice;
};

class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  virtual const char* name() const = 0;
  virtual const OpTable& ops() const = 0;
  virtual Executor& executor() = 0;  // host threads for work beside the device
  virtual HostMemory& host_memory() = 0;

  // At least `bytes` bytes, 64-byte aligned (2 MiB-aligned and on huge pages where the system gives
  // them, from 2 MiB on). kOutOfMemory. Thread-safe.
  virtual Result<Buffer> Allocate(MemoryKind kind, size_t bytes) = 0;

  // All pieces as one submission, unordered among themselves.
  virtual Result<Ticket> Copy(StreamId stream, std::span<const CopyPiece> pieces) = 0;

  // Waits until the ticket is reached; returns the device's first fault.
  virtual Status Sync(Ticket ticket) = 0;
  // Later work of `stream` waits for the ticket; does not block the host.
  virtual Status Wait(StreamId stream, Ticket ticket) = 0;

  // Submits an op of ops(): Launch(stream, ops().sparse_decode, params).
  template <typename Params>
  Result<Ticket> Launch(StreamId stream, Op<Params> op, const Params& params) {
    const auto call = [&](const OpContext& context) { op(context, params); };
    using Call = decltype(call);
    return Submit(
        stream,
        [](const OpContext& context, const void* c) { (*static_cast<const Call*>(c))(context); },
        &call);
  }

 protected:
  friend class Buffer;
  using SubmitFn = void (*)(const OpContext& context, const void* call);
  virtual Result<Ticket> Submit(StreamId stream, SubmitFn submit, const void* call) = 0;
  virtual void Free(MemoryKind kind, std::byte* data, size_t bytes) = 0;
};

inline Buffer::~Buffer() {
  if (data_ != nullptr) {
    device_->Free(kind_, data_, bytes_);
  }
}

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_DEVICE_H_
