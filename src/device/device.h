// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Device: memory, streams of work ordered by tickets, and the table of ops. What every device
// keeps:
//
// Order. Work on one stream takes effect in the order of its submission; the pieces of one copy in
// any order. Streams are not ordered among themselves but by Wait. A Ticket names a point of a
// stream's timeline and is reached once everything submitted to the stream up to it is complete. A
// device numbers the submissions of all its streams in one sequence, so {kEveryStream, n} names
// the point where everything up to number n is complete. A ticket that was never given out is
// kInvalidArgument; Ticket{} is always reached.
//
// Memory. What an op or a copy reads or writes must stay, and what it reads must not change, until
// its ticket is reached: the parameters of Launch and the list of pieces are copied, what they
// point to is not. Fresh memory holds anything. Freeing never blocks: a Buffer that goes is freed
// once everything submitted before is complete, one given to FreeAfter once that ticket is reached.
//
// The host reads what a device wrote only from memory it may touch (MemoryKind), and only after
// Sync or a true Done of the writer's ticket.
//
// Errors. A submission that fails makes the device faulty: later work is skipped (its tickets are
// reached all the same), and Sync, Wait and every later submission return the first error. A
// refused allocation, an unknown stream and the like are errors of that call alone.
//
// Threads: every call is thread-safe.
#ifndef HIPATTN_DEVICE_DEVICE_H_
#define HIPATTN_DEVICE_DEVICE_H_

#include "base/result.h"
#include "base/status.h"
#include "device/executor.h"
#include "device/host_memory.h"
#include "device/ops.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace hipattn::device {

using StreamId = uint32_t;  // 0 is always there; ops that the host waits for run on it
inline constexpr StreamId kEveryStream = UINT32_MAX;  // of tickets only

struct Ticket {
  StreamId stream = 0;
  uint64_t sequence = 0;
};

enum class MemoryKind : uint32_t {
  kDevice,       // fastest for the device; the host must not touch it
  kHostVisible,  // the host and the device both read and write it, at one address
  kPinned,       // the host's; copies run from and to it at full speed; ops cannot see it
  kMapped,       // as kPinned, and ops read and write it at device_data()
};

// What was allocated. `data` is what copies take. For memory that the host may touch it is the
// host's address, otherwise the device's.
struct Memory {
  std::byte* data = nullptr;
  std::byte* device_data = nullptr;  // what ops take; nullptr for kPinned
  size_t bytes = 0;
  MemoryKind kind = MemoryKind::kDevice;
};

struct Capabilities {
  bool unified_addresses;  // device_data == data for kMapped
  bool mapped_memory;      // else kMapped is kUnsupported
  bool runs_in_place;      // stream 0 completes every submission before it returns
  uint64_t pinned_bytes;   // limit of kPinned and kMapped together; UINT64_MAX = none is known
  int numa_node;  // of the host memory next to the device; HostMemory::kAnyNode = not known
};

struct CopyPiece {
  void* dst;
  const void* src;
  size_t bytes;
};

class Device;

// Owns memory of a device. Movable.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, const Memory& memory) : device_(device), memory_(memory) {}
  Buffer(Buffer&& other) noexcept { Swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer moved(std::move(other));
    Swap(moved);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  inline ~Buffer();

  std::byte* data() const { return memory_.data; }
  std::byte* device_data() const { return memory_.device_data; }
  size_t size_bytes() const { return memory_.bytes; }
  MemoryKind kind() const { return memory_.kind; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(memory_.data);
  }
  template <typename T>
  T* device_as() const {
    return reinterpret_cast<T*>(memory_.device_data);
  }

  // Gives the memory back once `after` is reached, whatever else is still running; the buffer is
  // empty then.
  inline void FreeAfter(Ticket after);

  // For devices that wrap another: the memory, which is the caller's to free from now on.
  Memory Detach() {
    device_ = nullptr;
    return std::exchange(memory_, {});
  }

 private:
  void Swap(Buffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(memory_, other.memory_);
  }

  Device* device_ = nullptr;
  Memory memory_;
};

// One op with its parameters, as Launch hands it over. Whoever keeps it copies `call`.
struct Submission {
  void (*run)(const OpContext& context, const void* call);
  const void* call;  // trivially copyable
  size_t call_bytes;
  void (*op)();      // which op: an entry of ops(), by AnyOp
  const void* jobs;  // the parameters' list of jobs, which the device reads; nullptr: there is none
};

// A submission's call, kept for later; data() is as aligned as any struct without alignas.
inline std::vector<std::max_align_t> KeptCall(const Submission& submission) {
  std::vector<std::max_align_t> kept(submission.call_bytes / sizeof(std::max_align_t) + 1);
  std::memcpy(kept.data(), submission.call, submission.call_bytes);
  return kept;
}

// For comparing a Submission's op with the table's.
template <typename Params>
auto AnyOp(Op<Params> op) {
  return reinterpret_cast<void (*)()>(op);
}

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

  virtual Capabilities capabilities() const = 0;

  // At least `bytes` bytes, 64-byte aligned (2 MiB-aligned and on huge pages where the system gives
  // them, from 2 MiB on); an empty buffer for 0. kOutOfMemory, kUnsupported.
  virtual Result<Buffer> Allocate(MemoryKind kind, size_t bytes) = 0;

  // A further stream. Work of a higher priority goes first where the device can do that; 0 is that
  // of stream 0. Priorities never change results. Streams live as long as the device.
  virtual Result<StreamId> CreateStream(int priority) = 0;

  // All pieces as one submission, unordered among themselves. Addresses are those of Memory::data,
  // or any host memory; of the latter the copy may be slow, and complete before it returns.
  virtual Result<Ticket> Copy(StreamId stream, std::span<const CopyPiece> pieces) = 0;

  // The point where everything submitted so far, on every stream, is complete.
  virtual Ticket Everything() = 0;
  // Whether the ticket is reached; false for one that was never given out. Never blocks.
  virtual bool Done(Ticket ticket) = 0;
  // Waits until the ticket is reached; returns the device's first fault.
  virtual Status Sync(Ticket ticket) = 0;
  // Later work of `stream` waits for the ticket; does not block the host.
  virtual Status Wait(StreamId stream, Ticket ticket) = 0;

  // The time by which streams run, in ns from some point on: the host's, or a simulated clock's.
  virtual int64_t Now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  // Calls told(the time by Now()) when everything that was submitted to `stream` is complete, on
  // any thread, maybe before this returns; behind a fault perhaps never. It takes no time of the
  // stream, and must not call the device. For traces.
  using Told = std::function<void(int64_t now_ns)>;
  virtual Status Tell(StreamId stream, Told told) = 0;

  // Submits an op of ops(): Launch(stream, ops().sparse_decode, params).
  template <typename Params>
  Result<Ticket> Launch(StreamId stream, Op<Params> op, const Params& params) {
    struct Call {
      Op<Params> op;
      Params params;
    };
    static_assert(std::is_trivially_copyable_v<Call>);
    const Call call = {op, params};
    Submission submission = {};
    submission.run = [](const OpContext& context, const void* c) {
      static_cast<const Call*>(c)->op(context, static_cast<const Call*>(c)->params);
    };
    submission.call = &call;
    submission.call_bytes = sizeof(Call);
    submission.op = AnyOp(op);
    if constexpr (requires { params.jobs; }) {
      submission.jobs = params.jobs;
    }
    return Submit(stream, submission);
  }

  // What Launch and Buffer call, and devices that wrap another.
  virtual Result<Ticket> Submit(StreamId stream, const Submission& submission) = 0;
  // Of this device's own Allocate; once `after` is reached.
  virtual void Free(const Memory& memory, Ticket after) = 0;
};

inline Buffer::~Buffer() {
  if (memory_.data != nullptr) {
    device_->Free(memory_, device_->Everything());
  }
}

inline void Buffer::FreeAfter(Ticket after) {
  if (memory_.data != nullptr) {
    device_->Free(std::exchange(memory_, {}), after);
  }
}

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_DEVICE_H_
