// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The CPU device: ordinary memory, one address for host and device. Stream 0 runs what is submitted
// on the submitting thread before it returns: the host of a CPU engine has nothing better to do
// than to take part, and waking another thread costs more than a small op. Other streams are
// threads of their own.
#include "base/int_math.h"
#include "device/device.h"
#include "device/registry.h"
#include "host/executors.h"
#include "host/host_memory_linux.h"
#include "host/page_arena.h"
#include "host/stream_set.h"

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace hipattn::host {
namespace {

// Slabs are larger; what is smaller would leave an arena's huge pages full of holes.
constexpr size_t kArenaFromBytes = size_t{128} << 10;
constexpr size_t kAlignment = 64;

class CpuDevice : public device::Device {
 public:
  CpuDevice(std::unique_ptr<device::HostMemory> memory,
            const device::OpTable& ops,
            unsigned num_threads)
      : memory_(std::move(memory)),
        device_arena_(memory_.get(), memory_->own_node()),
        pinned_arena_(memory_.get(), memory_->own_node()),
        ops_(ops),
        executor_(CreateExecutor(num_threads)),
        streams_(/*in_place=*/true, [this](const device::Memory& freed) { GiveBack(freed); }) {}

  const char* name() const override { return ops_.name; }
  const device::OpTable& ops() const override { return ops_; }
  device::Executor& executor() override { return *executor_; }
  device::HostMemory& host_memory() override { return *memory_; }
  device::Capabilities capabilities() const override {
    return {true, true, true, UINT64_MAX, memory_->own_node()};
  }

  Result<device::Buffer> Allocate(device::MemoryKind kind, size_t bytes) override {
    if (bytes == 0) {
      return device::Buffer();
    }
    const bool touches = Pins(kind) && bytes > kArenaFromBytes;
    if (const uint64_t left = touches ? memory_->available_bytes() : UINT64_MAX; left < bytes) {
      return OutOfMemory("the system has ", left, " bytes of memory left, not ", bytes);
    }
    std::byte* data = nullptr;
    if (PageArena* arena = ArenaOf(kind, bytes); arena != nullptr) {
      HIPATTN_ASSIGN_OR_RETURN(data, arena->Take(bytes));
    } else if (bytes >= kHugePageBytes) {
      HIPATTN_ASSIGN_OR_RETURN(data, memory_->Map(bytes, memory_->own_node()));
    } else {
      data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, RoundUp(bytes, kAlignment)));
      if (data == nullptr) {
        return OutOfMemory("the system refused ", bytes, " bytes of memory");
      }
    }
    // As on a device that registers it: what is given is there.
    if (touches) {
      memory_->Touch(data, bytes, memory_->own_node(), *executor_);
    }
    std::byte* const alias = kind == device::MemoryKind::kPinned ? nullptr : data;
    return device::Buffer(this, {data, alias, bytes, kind});
  }

  Result<device::StreamId> CreateStream(int priority) override { return streams_.Create(priority); }

  Result<device::Ticket> Copy(device::StreamId stream,
                              std::span<const device::CopyPiece> pieces) override {
    if (streams_.in_place(stream)) {
      return streams_.RunInPlace([&] { Move(pieces); });
    }
    return streams_.Push(stream, [kept = std::vector(pieces.begin(), pieces.end())] {
      Move(kept);
      return Status::Ok();
    });
  }

  device::Ticket Everything() override { return streams_.Everything(); }
  bool Done(device::Ticket ticket) override { return streams_.Done(ticket); }
  Status Sync(device::Ticket ticket) override { return streams_.Sync(ticket); }
  Status Wait(device::StreamId stream, device::Ticket ticket) override {
    return streams_.Wait(stream, ticket);
  }

  Status Tell(device::StreamId stream, Told told) override {
    if (streams_.in_place(stream)) {
      return streams_.RunInPlace([&] { told(Now()); }).status();
    }
    const auto tell = [this, kept = std::move(told)] {
      kept(Now());
      return Status::Ok();
    };
    return streams_.Push(stream, tell).status();
  }

  Result<device::Ticket> Submit(device::StreamId stream,
                                const device::Submission& submission) override {
    const device::OpContext context = {executor_.get(), nullptr};
    if (streams_.in_place(stream)) {
      return streams_.RunInPlace([&] { submission.run(context, submission.call); });
    }
    return streams_.Push(stream,
                         [run = submission.run, context, call = device::KeptCall(submission)] {
                           run(context, call.data());
                           return Status::Ok();
                         });
  }

  void Free(const device::Memory& memory, device::Ticket after) override {
    streams_.FreeLater(memory, after);
  }

 private:
  // Of what tiers and indexes keep; what host and device share lives as long as a call, or is
  // small.
  PageArena* ArenaOf(device::MemoryKind kind, size_t bytes) {
    if (bytes <= kArenaFromBytes || bytes > PageArena::kMaxBytes) {
      return nullptr;
    }
    return kind == device::MemoryKind::kDevice ? &device_arena_
           : Pins(kind)                        ? &pinned_arena_
                                               : nullptr;
  }

  static bool Pins(device::MemoryKind kind) {
    return kind == device::MemoryKind::kPinned || kind == device::MemoryKind::kMapped;
  }

  static void Move(std::span<const device::CopyPiece> pieces) {
    for (const device::CopyPiece& piece : pieces) {
      std::memcpy(piece.dst, piece.src, piece.bytes);
    }
  }

  void GiveBack(const device::Memory& memory) {
    if (PageArena* arena = ArenaOf(memory.kind, memory.bytes); arena != nullptr) {
      arena->Give(memory.data, memory.bytes);
    } else if (memory.bytes >= kHugePageBytes) {
      memory_->Unmap(memory.data, memory.bytes);
    } else {
      std::free(memory.data);
    }
  }

  std::unique_ptr<device::HostMemory> memory_;
  PageArena device_arena_, pinned_arena_;
  const device::OpTable& ops_;
  std::unique_ptr<device::Executor> executor_;
  StreamSet streams_;  // goes first: its last work needs the rest
};

}  // namespace
}  // namespace hipattn::host

namespace hipattn::device {

Result<std::unique_ptr<Device>> CreateCpuDevice(const CpuDeviceOptions& options) {
  const OpTable* chosen = CpuOpTables().back();
  if (!options.instruction_set.empty()) {
    chosen = nullptr;
    std::string known;
    for (const OpTable* table : CpuOpTables()) {
      known += StrCat(known.empty() ? "" : ", ", table->name);
      chosen = options.instruction_set == table->name ? table : chosen;
    }
    if (chosen == nullptr) {
      return Unsupported(
          "instruction_set is \"", options.instruction_set, "\"; this CPU has ", known);
    }
  }
  std::unique_ptr<HostMemory> memory = host::CreateHostMemory();
  const uint32_t threads = options.num_threads != 0 ? options.num_threads : memory->usable_cpus();
  return std::unique_ptr<Device>(
      std::make_unique<host::CpuDevice>(std::move(memory), *chosen, threads));
}

}  // namespace hipattn::device
