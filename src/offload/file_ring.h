// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FileRing: requests of one file that the kernel runs beside the caller, as io_uring does it. An
// interface, so that a test can let each of them fail.
#ifndef HIPATTN_OFFLOAD_FILE_RING_H_
#define HIPATTN_OFFLOAD_FILE_RING_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace hipattn::offload {

// One thread at a time, which need not be the same.
class FileRing {
 public:
  struct Request {
    bool writes;
    std::byte* data;
    size_t bytes;
    uint64_t offset;
    uint64_t tag;
  };
  struct Result {
    uint64_t tag;
    ssize_t moved;  // bytes, or -errno
  };

  FileRing() = default;
  FileRing(const FileRing&) = delete;
  FileRing& operator=(const FileRing&) = delete;
  virtual ~FileRing() = default;

  // REQUIRES: fewer requests than the ring's depth have not come back.
  virtual void Push(const Request& request) = 0;
  // Hands over what was pushed and waits until a result is there: how many requests were taken, or
  // -errno.
  virtual int Submit() = 0;
  // Waits until a result is there: 0, or -errno.
  virtual int Await() = 0;
  // The next result; false when none is there now.
  virtual bool Next(Result* result) = 0;
};

// By io_uring: 0, or -1 and errno where the system has none or refuses it.
int MakeSystemRing(int file, unsigned depth, std::unique_ptr<FileRing>* ring);

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_FILE_RING_H_
