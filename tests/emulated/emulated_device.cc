// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/emulated/emulated_device.h"

#include "tests/emulated/arena.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

namespace hipattn::test {
namespace {

using device::MemoryKind;

constexpr uint32_t kNumKinds = 4;
constexpr int kNan = 0xff;  // every byte: NaN in every float type

class InlineExecutor : public device::Executor {
 public:
  unsigned concurrency() const override { return 1; }
  void Run(size_t count, TaskFn fn, void* arg) override {
    for (size_t i = 0; i < count; ++i) {
      fn(arg, i);
    }
  }
};

class Emulated : public EmulatedDevice {
 public:
  Emulated(const EmulatedOptions& options,
           std::unique_ptr<device::Device> cpu,
           std::unique_ptr<Arena> arena,
           std::unique_ptr<Arena> pinned)
      : options_(options),
        cpu_(std::move(cpu)),
        arena_(std::move(arena)),
        pinned_(std::move(pinned)),
        random_(options.seed) {
    const auto free = [this](const device::Memory& memory) { GiveBack(memory); };
    if (options.simulated_clock) {
      auto simulated = SimulatedSchedule::Create(free);
      clock_ = simulated.get();
      schedule_ = std::move(simulated);
    } else {
      schedule_ = CreateThreadSchedule(free);
    }
    if (options.guard) {
      arena_->Guard();
      pinned_->Guard();
    }
  }

  const char* name() const override { return "emulated"; }
  const device::OpTable& ops() const override { return cpu_->ops(); }
  device::Executor& executor() override { return cpu_->executor(); }
  device::HostMemory& host_memory() override { return cpu_->host_memory(); }
  device::Capabilities capabilities() const override {
    return {options_.unified_addresses,
            true,
            false,
            options_.pinned_bytes,
            device::HostMemory::kAnyNode};
  }
  size_t bytes_in_use(MemoryKind kind) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return in_use_[static_cast<uint32_t>(kind)];
  }
  SimulatedSchedule& clock() override { return *clock_; }

  Result<device::Buffer> Allocate(MemoryKind kind, size_t bytes) override {
    if (bytes == 0) {
      return device::Buffer();
    }
    HIPATTN_RETURN_IF_ERROR(Charge(kind, bytes));
    Arena& arena = Pins(kind) ? *pinned_ : *arena_;
    Result<size_t> taken = arena.Take(bytes);
    if (!taken.ok()) {
      Uncharge(kind, bytes);
      return taken.status();
    }
    std::byte* const host = arena.host(*taken);
    std::byte* const device = arena.device(*taken);
    std::memset(Reach(kind == MemoryKind::kDevice ? device : host), kNan, bytes);
    switch (kind) {
      case MemoryKind::kDevice:
        return device::Buffer(this, {device, device, bytes, kind});
      case MemoryKind::kHostVisible:
        return device::Buffer(this, {host, host, bytes, kind});
      case MemoryKind::kPinned:
        return device::Buffer(this, {host, nullptr, bytes, kind});
      case MemoryKind::kMapped:
        break;
    }
    return device::Buffer(
        this, {host, options_.unified_addresses ? host : device, bytes, MemoryKind::kMapped});
  }

  Result<device::StreamId> CreateStream(int priority) override {
    return schedule_->CreateStream(priority);
  }

  Result<device::Ticket> Copy(device::StreamId stream,
                              std::span<const device::CopyPiece> pieces) override {
    if (options_.copies_pinned_memory_only) {
      for (const device::CopyPiece& piece : pieces) {
        if (IsOfNobody(piece.src) || IsOfNobody(piece.dst)) {
          return Status(StatusCode::kDeviceError, "a copy of memory that is not pinned");
        }
      }
    }
    Work work;
    work.copy = true;
    std::vector<device::CopyPiece> moved(pieces.begin(), pieces.end());
    for (device::CopyPiece& piece : moved) {
      work.link_ns[LinkOf(piece)] += options_.links[LinkOf(piece)].PieceNs(piece.bytes);
    }
    for (uint32_t link = 0; link < kNumLinks; ++link) {
      const bool used = std::any_of(
          moved.begin(), moved.end(), [&](const auto& piece) { return LinkOf(piece) == link; });
      work.link_ns[link] += used ? options_.links[link].latency_ns : 0;
    }
    work.own_ns = Jitter();
    Shuffle(&moved);
    const bool fails = ++copies_ == options_.fail_copy;
    work.effect = [this, fails, kept = std::move(moved)] { return Move(kept, fails); };
    return schedule_->Push(stream, std::move(work));
  }

  device::Ticket Everything() override { return schedule_->Everything(); }
  bool Done(device::Ticket ticket) override { return schedule_->Done(ticket); }
  Status Sync(device::Ticket ticket) override { return schedule_->Sync(ticket); }
  Status Wait(device::StreamId stream, device::Ticket ticket) override {
    return schedule_->Wait(stream, ticket);
  }

  Result<device::Ticket> Submit(device::StreamId stream,
                                const device::Submission& submission) override {
    if (options_.guard && submission.jobs != nullptr && !DeviceSees(submission.jobs)) {
      return Status(StatusCode::kDeviceError,
                    "the op's list of jobs is not in memory that the device sees");
    }
    Work work;
    work.own_ns = Jitter() + (options_.op_ns ? options_.op_ns(submission) : 0);
    work.effect = [this, run = submission.run, call = device::KeptCall(submission)] {
      InlineExecutor executor;
      arena_->Open();
      pinned_->Open();
      if (hides_host()) {
        pinned_->HideHost();
      }
      run({&executor, nullptr}, call.data());
      if (hides_host()) {
        pinned_->ShowHost();
      }
      pinned_->Close();
      arena_->Close();
      return Status::Ok();
    };
    return schedule_->Push(stream, std::move(work));
  }

  int64_t Now() override { return schedule_->Now(); }
  Status Tell(device::StreamId stream, Told told) override {
    return schedule_->Tell(stream, std::move(told));
  }

  void Free(const device::Memory& memory, device::Ticket after) override {
    schedule_->FreeLater(memory, after);
  }

 private:
  static bool Pins(MemoryKind kind) {
    return kind == MemoryKind::kPinned || kind == MemoryKind::kMapped;
  }

  Status Charge(MemoryKind kind, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (++allocations_ == options_.fail_allocation) {
      return OutOfMemory("allocation ", allocations_, " of ", bytes, " bytes fails as told");
    }
    const size_t limit = Pins(kind)
                             ? std::min(options_.pinned_bytes, options_.refused_pins_beyond_bytes)
                             : options_.device_bytes;
    size_t used = 0;
    for (uint32_t k = 0; k < kNumKinds; ++k) {
      used += Pins(static_cast<MemoryKind>(k)) == Pins(kind) ? in_use_[k] : 0;
    }
    if (bytes > limit || used > limit - bytes) {
      return OutOfMemory(
          "the device has ", limit - used, " of ", limit, " bytes left, not ", bytes);
    }
    in_use_[static_cast<uint32_t>(kind)] += bytes;
    return Status::Ok();
  }
  void Uncharge(MemoryKind kind, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    in_use_[static_cast<uint32_t>(kind)] -= bytes;
  }
  void GiveBack(const device::Memory& memory) {
    std::memset(Reach(memory.data), kNan, memory.bytes);
    Arena& arena = Pins(memory.kind) ? *pinned_ : *arena_;
    arena.Give(static_cast<size_t>(arena.HostOf(memory.data) - arena.host(0)), memory.bytes);
    Uncharge(memory.kind, memory.bytes);
  }

  bool IsOfNobody(const void* address) const {
    return !InDeviceView(address) && !arena_->InHostView(address) && !pinned_->InHostView(address);
  }
  bool InDeviceView(const void* address) const {
    return arena_->InDeviceView(address) || pinned_->InDeviceView(address);
  }
  bool DeviceSees(const void* address) const {
    return InDeviceView(address) || arena_->InHostView(address) ||
           (options_.unified_addresses && pinned_->InHostView(address));
  }
  // Only where no thread of the host can be at its memory while an op runs.
  bool hides_host() const {
    return options_.guard && options_.simulated_clock && !options_.unified_addresses &&
           cpu_->executor().concurrency() == 1;
  }

  Link LinkOf(const device::CopyPiece& piece) const {
    if (!InDeviceView(piece.dst)) {
      return kToHost;
    }
    return InDeviceView(piece.src) ? kOnDevice : kToDevice;
  }

  int64_t Jitter() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return options_.jitter_ns == 0
               ? 0
               : std::uniform_int_distribution<int64_t>(0, options_.jitter_ns)(random_);
  }
  void Shuffle(std::vector<device::CopyPiece>* pieces) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::shuffle(pieces->begin(), pieces->end(), random_);
  }

  // Past the guard through the host's view; without it at the address given, so that
  // ThreadSanitizer sees copies, ops and frees meet.
  std::byte* Reach(std::byte* address) const {
    return options_.guard ? pinned_->HostOf(arena_->HostOf(address)) : address;
  }

  Status Move(const std::vector<device::CopyPiece>& pieces, bool fails) const {
    const size_t count = fails ? pieces.size() / 2 : pieces.size();
    for (size_t i = 0; i < count; ++i) {
      auto* const src = static_cast<std::byte*>(const_cast<void*>(pieces[i].src));
      std::memcpy(Reach(static_cast<std::byte*>(pieces[i].dst)), Reach(src), pieces[i].bytes);
    }
    return fails ? Status(StatusCode::kDeviceError, "a copy failed as told") : Status::Ok();
  }

  const EmulatedOptions options_;
  const std::unique_ptr<device::Device> cpu_;
  const std::unique_ptr<Arena> arena_;
  const std::unique_ptr<Arena> pinned_;  // kPinned and kMapped
  std::mutex mutex_;
  std::mt19937_64 random_;
  size_t in_use_[kNumKinds] = {};
  uint64_t allocations_ = 0;
  std::atomic<uint64_t> copies_{0};
  std::unique_ptr<Schedule> schedule_;  // goes first: its last work needs the rest
  SimulatedSchedule* clock_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<EmulatedDevice>> EmulatedDevice::Create(const EmulatedOptions& options) {
  HIPATTN_ASSIGN_OR_RETURN(std::unique_ptr<device::Device> cpu,
                           device::CreateCpuDevice(options.cpu));
  // As much again for what lies between allocations.
  HIPATTN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(2 * options.device_bytes));
  HIPATTN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> pinned,
                           Arena::Create(2 * options.pinned_bytes + 1));
  return std::unique_ptr<EmulatedDevice>(
      std::make_unique<Emulated>(options, std::move(cpu), std::move(arena), std::move(pinned)));
}

}  // namespace hipattn::test
