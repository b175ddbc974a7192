// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/ring_batch.h"

#include <cerrno>

namespace hipattn::offload {

std::string RingBatch::Name() const {
  return StrCat("io_uring, ", depth_, " transfers in flight");
}

void RingBatch::Push(std::span<const FileTransfer> transfers, size_t transfer) {
  const FileTransfer& left = transfers[transfer];
  ring_->Push({left.writes, left.data, left.bytes, left.offset, transfer});
  waiting_.push_back(transfer);
}

// What came back and is not done is pushed again, where the ring still takes it.
void RingBatch::Collect(std::span<FileTransfer> transfers, const Ended& ended, bool again) {
  FileRing::Result result{};
  while (ring_->Next(&result)) {
    --taken_;
    if (transfers[result.tag].Advance(result.moved)) {
      ended(result.tag);
    } else if (again) {
      Push(transfers, result.tag);
    } else {
      waiting_.push_back(result.tag);
    }
  }
}

void RingBatch::Run(std::span<FileTransfer> transfers, const Ended& ended) {
  int refused = 0;
  if (ring_ == nullptr && calls_->MakeRing(file_, depth_, &ring_) != 0) {
    refused = errno;
  }
  size_t next = 0;
  while (refused == 0 && (next < transfers.size() || !waiting_.empty() || taken_ > 0)) {
    for (; next < transfers.size() && waiting_.size() + taken_ < depth_; ++next) {
      Push(transfers, next);
    }
    const int count = ring_->Submit();
    if (count >= 0) {
      waiting_.erase(waiting_.begin(), waiting_.begin() + count);
      taken_ += static_cast<size_t>(count);
    } else if (taken_ > 0 && (count == -EAGAIN || count == -EBUSY)) {
      static_cast<void>(ring_->Await());  // there is room again when one has come back
    } else if (count != -EINTR) {
      refused = -count;
    }
    Collect(transfers, ended, refused == 0);
  }
  if (refused != 0) {
    for (; next < transfers.size(); ++next) {
      waiting_.push_back(next);
    }
    GiveUp(transfers, ended, refused);
  }
}

void RingBatch::GiveUp(std::span<FileTransfer> transfers, const Ended& ended, int error) {
  while (taken_ > 0) {  // the kernel has their memory
    static_cast<void>(ring_->Await());
    Collect(transfers, ended, /*again=*/false);
  }
  ring_.reset();
  for (const size_t transfer : waiting_) {
    transfers[transfer].error = error;
    ended(transfer);
  }
  waiting_.clear();
}

}  // namespace hipattn::offload
