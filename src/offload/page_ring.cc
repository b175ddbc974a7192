// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/page_ring.h"

#include "base/int_math.h"
#include "offload/snapshot_layout.h"

#include <algorithm>
#include <utility>

namespace hipattn::offload {
Result<std::unique_ptr<PageRing>> PageRing::Create(device::Device& device, const File& file) {
  const uint64_t most_pages = kTransferBytes / file.page_bytes;
  const uint64_t pages = std::min(most_pages, CeilDiv<uint64_t>(file.pages, FileQueue::kSlots));
  const size_t bytes = std::max<uint64_t>(pages, 1) * file.page_bytes;
  HIPATTN_ASSIGN_OR_RETURN(
      device::Buffer memory,
      device.Allocate(device::MemoryKind::kPinned, bytes * FileQueue::kSlots + kDirectAlignment));
  HIPATTN_ASSIGN_OR_RETURN(std::unique_ptr<FileQueue> queue,
                           FileQueue::Create(file.calls, file.number, file.path));
  std::unique_ptr<PageRing> ring(
      new PageRing(std::move(memory), std::move(queue), file.page_bytes));
  ring->transfer_bytes_ = bytes;
  const auto address = reinterpret_cast<uintptr_t>(ring->memory_.data());
  ring->aligned_ = ring->memory_.data() + (kDirectAlignment - address % kDirectAlignment);
  return ring;
}

Status PageRing::Write(uint64_t begin, uint64_t end, const UsePages& fill) {
  const uint64_t most = transfer_bytes_ / page_bytes_;
  for (uint64_t page = begin; page < end; page += most) {
    const auto slot = static_cast<uint32_t>(next_++ % FileQueue::kSlots);
    HIPATTN_RETURN_IF_ERROR(queue_->Wait(slot));
    const size_t bytes = std::min(most, end - page) * page_bytes_;
    HIPATTN_RETURN_IF_ERROR(fill(page, {Memory(slot), bytes}));
    queue_->Write(slot, Memory(slot), bytes, page * page_bytes_);
  }
  return Status::Ok();
}

Status PageRing::Finish() {
  Status status;
  for (uint32_t slot = 0; slot < FileQueue::kSlots; ++slot) {
    Status done = queue_->Wait(slot);
    if (status.ok()) {
      status = std::move(done);
    }
  }
  return status;
}

Status PageRing::Read(uint64_t begin, uint64_t end, const UsePages& use) {
  const uint64_t most = transfer_bytes_ / page_bytes_;
  const uint64_t transfers = CeilDiv(end - begin, most);
  const auto bytes_of = [&](uint64_t transfer) {
    return std::min(most, end - begin - transfer * most) * page_bytes_;
  };
  const auto submit = [&](uint64_t transfer) {
    if (transfer < transfers) {
      const auto slot = static_cast<uint32_t>(transfer % FileQueue::kSlots);
      const uint64_t offset = (begin + transfer * most) * page_bytes_;
      queue_->Read(slot, Memory(slot), bytes_of(transfer), offset);
    }
  };
  for (uint64_t transfer = 0; transfer < FileQueue::kSlots; ++transfer) {
    submit(transfer);
  }
  Status status;
  for (uint64_t transfer = 0; transfer < transfers && status.ok(); ++transfer) {
    const auto slot = static_cast<uint32_t>(transfer % FileQueue::kSlots);
    status = queue_->Wait(slot);
    if (status.ok()) {
      status = use(begin + transfer * most, {Memory(slot), bytes_of(transfer)});
    }
    if (status.ok()) {
      submit(transfer + FileQueue::kSlots);
    }
  }
  if (!status.ok()) {  // what is on its way would be in the way of the next call
    (void)Finish();
  }
  return status;
}

}  // namespace hipattn::offload
