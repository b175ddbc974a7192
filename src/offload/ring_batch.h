// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// RingBatch: transfers of a file by io_uring. Nothing is in flight between calls.
#ifndef HIPATTN_OFFLOAD_RING_BATCH_H_
#define HIPATTN_OFFLOAD_RING_BATCH_H_

#include "offload/file_batch.h"
#include "offload/file_ring.h"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::offload {

class RingBatch final : public FileBatch {
 public:
  RingBatch(FileCalls* calls, int file, unsigned depth, std::unique_ptr<FileRing> ring)
      : calls_(calls), file_(file), depth_(depth), ring_(std::move(ring)) {}

  // A ring that takes no requests any more is given up: what it did not take ends with its error,
  // and the next call makes another.
  void Run(std::span<FileTransfer> transfers, const Ended& ended) override;
  std::string Name() const override;

 private:
  void Push(std::span<const FileTransfer> transfers, size_t transfer);
  void Collect(std::span<FileTransfer> transfers, const Ended& ended, bool again);
  void GiveUp(std::span<FileTransfer> transfers, const Ended& ended, int error);

  FileCalls* const calls_;
  const int file_;
  const unsigned depth_;
  std::unique_ptr<FileRing> ring_;
  std::vector<size_t> waiting_;  // pushed and not taken, in their order
  size_t taken_ = 0;             // and not back
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_RING_BATCH_H_
