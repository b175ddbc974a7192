// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/file_batch.h"

#include "offload/file_pool.h"
#include "offload/ring_batch.h"

#include <cerrno>
#include <system_error>
#include <utility>

namespace hipattn::offload {

bool FileTransfer::Advance(ssize_t moved) {
  if (moved == -EINTR || moved == -EAGAIN) {
    return false;
  }
  if (moved < 0) {
    error = static_cast<int>(-moved);
    return true;
  }
  if (moved == 0) {
    ended_early = !writes;
    error = writes ? ENOSPC : 0;
    return true;
  }
  data += moved;
  bytes -= static_cast<size_t>(moved);
  offset += static_cast<uint64_t>(moved);
  return bytes == 0;
}

void RunTransfer(FileCalls* calls, int file, FileTransfer* transfer) {
  ssize_t moved = 0;
  do {
    const auto offset = static_cast<off_t>(transfer->offset);
    moved = transfer->writes ? calls->Write(file, transfer->data, transfer->bytes, offset)
                             : calls->Read(file, transfer->data, transfer->bytes, offset);
  } while (!transfer->Advance(moved < 0 ? -errno : moved));
}

std::unique_ptr<FileBatch> MakeFileBatch(FileCalls* calls, int file, unsigned depth) {
  std::unique_ptr<FileRing> ring;
  if (calls->MakeRing(file, depth, &ring) == 0) {
    return std::make_unique<RingBatch>(calls, file, depth, std::move(ring));
  }
  return std::make_unique<FilePool>(
      calls,
      file,
      depth,
      StrCat("io_uring is not to be had: ", std::generic_category().message(errno)));
}

}  // namespace hipattn::offload
