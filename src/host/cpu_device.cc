// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The CPU device: ordinary memory, ops that complete before their submission returns.
#include "base/int_math.h"
#include "device/device.h"
#include "device/registry.h"
#include "host/executors.h"
#include "host/host_memory_linux.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

namespace hipattn::host {
namespace {

constexpr size_t kMapFromBytes = size_t{2} << 20;  // from one huge page on
constexpr size_t kAlignment = 64;

class CpuDevice : public device::Device {
 public:
  CpuDevice(std::unique_ptr<device::HostMemory> memory,
            const device::OpTable& ops,
            unsigned num_threads)
      : memory_(std::move(memory)), ops_(ops), executor_(CreateExecutor(num_threads)) {}

  const char* name() const override { return ops_.name; }
  const device::OpTable& ops() const override { return ops_; }
  device::Executor& executor() override { return *executor_; }
  device::HostMemory& host_memory() override { return *memory_; }

  Result<device::Buffer> Allocate(device::MemoryKind kind, size_t bytes) override {
    if (bytes == 0) {
      return device::Buffer();
    }
    std::byte* data = nullptr;
    if (bytes >= kMapFromBytes) {
      HIPATTN_ASSIGN_OR_RETURN(data, memory_->Map(bytes, device::HostMemory::kAnyNode));
    } else {
      data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, RoundUp(bytes, kAlignment)));
      if (data == nullptr) {
        return OutOfMemory("the system refused ", bytes, " bytes of memory");
      }
    }
    return device::Buffer(this, data, bytes, kind);
  }

  Result<device::Ticket> Copy(device::StreamId stream,
                              std::span<const device::CopyPiece> pieces) override {
    for (const device::CopyPiece& piece : pieces) {
      std::memcpy(piece.dst, piece.src, piece.bytes);
    }
    return NextTicket(stream);
  }

  Status Sync(device::Ticket /*ticket*/) override { return Status::Ok(); }
  Status Wait(device::StreamId /*stream*/, device::Ticket /*ticket*/) override {
    return Status::Ok();
  }

 protected:
  Result<device::Ticket> Submit(device::StreamId stream,
                                SubmitFn submit,
                                const void* call) override {
    submit(device::OpContext{executor_.get(), nullptr}, call);
    return NextTicket(stream);
  }

  void Free(device::MemoryKind /*kind*/, std::byte* data, size_t bytes) override {
    if (bytes >= kMapFromBytes) {
      memory_->Unmap(data, bytes);
    } else {
      std::free(data);
    }
  }

 private:
  device::Ticket NextTicket(device::StreamId stream) {
    return {stream, sequence_.fetch_add(1, std::memory_order_relaxed) + 1};
  }

  std::unique_ptr<device::HostMemory> memory_;
  const device::OpTable& ops_;
  std::unique_ptr<device::Executor> executor_;
  std::atomic<uint64_t> sequence_{0};
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
