// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/host_slab.h"

namespace hipattn::offload {

Result<HostSlab> HostSlab::Take(device::Device* device, size_t bytes, Pinning pinning) {
  HostSlab slab;
  if (pinning == Pinning::kTried) {
    Result<device::Buffer> pinned = device->Allocate(device::MemoryKind::kPinned, bytes);
    if (pinned.ok()) {
      slab.pinned_ = std::move(*pinned);
      return slab;
    }
    if (pinned.status().code() != StatusCode::kOutOfMemory) {
      return pinned.status();
    }
  }
  // Pages that were only promised would bring the system's killer later.
  device::HostMemory& memory = device->host_memory();
  if (const uint64_t left = memory.available_bytes(); left < bytes) {
    return OutOfMemory("the system has ", left, " bytes of memory left, not ", bytes);
  }
  const int node = device->capabilities().numa_node;
  HIPATTN_ASSIGN_OR_RETURN(slab.ordinary_, memory.Map(bytes, node));
  slab.memory_ = &memory;
  slab.ordinary_bytes_ = bytes;
  memory.Touch(slab.ordinary_, bytes, node, device->executor());
  return slab;
}

HostSlab::~HostSlab() {
  if (ordinary_ != nullptr) {
    memory_->Unmap(ordinary_, ordinary_bytes_);
  }
}

}  // namespace hipattn::offload
