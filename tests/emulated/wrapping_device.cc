// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/emulated/wrapping_device.h"

#include <algorithm>

namespace hipattn::test {

Result<device::Buffer> WrappingDevice::Allocate(device::MemoryKind kind, size_t bytes) {
  HIPATTN_ASSIGN_OR_RETURN(device::Buffer buffer, inner_->Allocate(kind, bytes));
  return device::Buffer(this, buffer.Detach());
}

void FaultyDevice::Arm(const Faults& faults) {
  const std::lock_guard<std::mutex> lock(mutex_);
  faults_ = faults;
  seen_ = {};
}

Status FaultyDevice::fault() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return fault_;
}

Status FaultyDevice::Count(uint64_t Faults::*which, const char* what) {
  const std::lock_guard<std::mutex> lock(mutex_);
  HIPATTN_RETURN_IF_ERROR(fault_);
  if (++(seen_.*which) == faults_.*which) {
    fault_ = Status(StatusCode::kDeviceError, StrCat(what, " ", seen_.*which, " fails as told"));
  }
  return fault_;
}

Result<device::Buffer> FaultyDevice::Allocate(device::MemoryKind kind, size_t bytes) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (++seen_.allocation == faults_.allocation) {
      return OutOfMemory("allocation ", seen_.allocation, " of ", bytes, " bytes fails as told");
    }
  }
  return WrappingDevice::Allocate(kind, bytes);
}

Result<device::Ticket> FaultyDevice::Copy(device::StreamId stream,
                                          std::span<const device::CopyPiece> pieces) {
  HIPATTN_RETURN_IF_ERROR(Count(&Faults::copy, "copy"));
  return inner().Copy(stream, pieces);
}

Result<device::Ticket> FaultyDevice::Submit(device::StreamId stream,
                                            const device::Submission& submission) {
  HIPATTN_RETURN_IF_ERROR(Count(&Faults::launch, "launch"));
  return inner().Submit(stream, submission);
}

Status FaultyDevice::Sync(device::Ticket ticket) {
  HIPATTN_RETURN_IF_ERROR(inner().Sync(ticket));
  return fault();
}

Status FaultyDevice::Wait(device::StreamId stream, device::Ticket ticket) {
  HIPATTN_RETURN_IF_ERROR(fault());
  return inner().Wait(stream, ticket);
}

void RecordingDevice::Add(const Record& record) {
  const std::lock_guard<std::mutex> lock(mutex_);
  records_.push_back(record);
}

std::vector<RecordingDevice::Record> RecordingDevice::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(records_, {});
}

Result<device::Buffer> RecordingDevice::Allocate(device::MemoryKind kind, size_t bytes) {
  Result<device::Buffer> buffer = WrappingDevice::Allocate(kind, bytes);
  if (buffer.ok()) {
    Record record = {Call::kAllocate};
    record.kind = kind;
    record.bytes = buffer->size_bytes();
    Add(record);
  }
  return buffer;
}

Result<device::Ticket> RecordingDevice::Copy(device::StreamId stream,
                                             std::span<const device::CopyPiece> pieces) {
  HIPATTN_ASSIGN_OR_RETURN(const device::Ticket ticket, inner().Copy(stream, pieces));
  Record record = {Call::kCopy, stream, ticket};
  record.pieces = pieces.size();
  for (const device::CopyPiece& piece : pieces) {
    record.bytes += piece.bytes;
  }
  Add(record);
  return ticket;
}

Result<device::Ticket> RecordingDevice::Submit(device::StreamId stream,
                                               const device::Submission& submission) {
  HIPATTN_ASSIGN_OR_RETURN(const device::Ticket ticket, inner().Submit(stream, submission));
  Record record = {Call::kLaunch, stream, ticket};
  record.op = submission.op;
  Add(record);
  return ticket;
}

Status RecordingDevice::Sync(device::Ticket ticket) {
  HIPATTN_RETURN_IF_ERROR(inner().Sync(ticket));
  Add({Call::kSync, ticket.stream, ticket});
  return Status::Ok();
}

Status RecordingDevice::Wait(device::StreamId stream, device::Ticket ticket) {
  HIPATTN_RETURN_IF_ERROR(inner().Wait(stream, ticket));
  Add({Call::kWait, stream, ticket});
  return Status::Ok();
}

void RecordingDevice::Free(const device::Memory& memory, device::Ticket after) {
  Record record = {Call::kFree, after.stream, after};
  record.kind = memory.kind;
  record.bytes = memory.bytes;
  Add(record);
  inner().Free(memory, after);
}

void LimitingDevice::DropReached() {
  std::erase_if(pending_, [&](const Pending& pending) {
    const bool reached = inner().Done(pending.after);
    in_use_ -= reached ? pending.bytes : 0;
    return reached;
  });
}

uint64_t LimitingDevice::bytes_in_use() {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropReached();
  return in_use_;
}

uint64_t LimitingDevice::peak_bytes() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return peak_;
}

uint64_t LimitingDevice::num_refused() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return refused_;
}

Result<device::Buffer> LimitingDevice::Allocate(device::MemoryKind kind, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (Counts(kind)) {
    DropReached();
    if (bytes > limit_.bytes || in_use_ > limit_.bytes - bytes) {
      ++refused_;
      return Internal(bytes, " bytes beside ", in_use_, " exceed the limit of ", limit_.bytes);
    }
  }
  Result<device::Buffer> buffer = WrappingDevice::Allocate(kind, bytes);
  if (buffer.ok() && Counts(kind)) {
    in_use_ += buffer->size_bytes();
    peak_ = std::max(peak_, in_use_);
  }
  return buffer;
}

void LimitingDevice::Free(const device::Memory& memory, device::Ticket after) {
  if (Counts(memory.kind)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    pending_.push_back({after, memory.bytes});
  }
  inner().Free(memory, after);
}

}  // namespace hipattn::test
