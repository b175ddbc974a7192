// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FileBatch: many transfers of one file, several of them in flight at once, because a disk answers
// scattered small reads one after the other much slower than it can. By io_uring where the system
// lets it, else by threads.
#ifndef HIPATTN_OFFLOAD_FILE_BATCH_H_
#define HIPATTN_OFFLOAD_FILE_BATCH_H_

#include "offload/file_calls.h"

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace hipattn::offload {

// Of a file: what is left to move, and after its end how that came.
struct FileTransfer {
  bool writes;
  std::byte* data;
  size_t bytes;
  uint64_t offset;
  int error = 0;             // errno's value
  bool ended_early = false;  // the file ends before what is read

  // Counts what a system call moved, or its -errno. False while something is left to do.
  bool Advance(ssize_t moved);
};

// All of it, by one call after the other.
void RunTransfer(FileCalls* calls, int file, FileTransfer* transfer);

// One thread at a time.
class FileBatch {
 public:
  // Called once for each transfer that has ended, on any thread, beside calls for others. Throws
  // nothing.
  using Ended = std::function<void(size_t transfer)>;

  FileBatch() = default;
  FileBatch(const FileBatch&) = delete;
  FileBatch& operator=(const FileBatch&) = delete;
  virtual ~FileBatch() = default;

  // Until all have ended, well or not; in no order.
  virtual void Run(std::span<FileTransfer> transfers, const Ended& ended) = 0;
  // What runs them, for a log.
  virtual std::string Name() const = 0;
};

// Of a file that is open, with up to `depth` transfers in flight; all outlive it.
std::unique_ptr<FileBatch> MakeFileBatch(FileCalls* calls, int file, unsigned depth);

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_FILE_BATCH_H_
