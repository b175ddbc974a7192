// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FileCalls: the system calls that files are written and read with, so that a test can let each of
// them fail.
#ifndef HIPATTN_OFFLOAD_FILE_CALLS_H_
#define HIPATTN_OFFLOAD_FILE_CALLS_H_

#include "base/status.h"
#include "offload/file_ring.h"

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>

namespace hipattn::offload {

// Each is the system call of its name: -1 and errno on failure. Thread-safe.
class FileCalls {
 public:
  FileCalls() = default;
  FileCalls(const FileCalls&) = delete;
  FileCalls& operator=(const FileCalls&) = delete;
  virtual ~FileCalls() = default;

  virtual int Open(const char* path, int flags);  // new files as the umask says
  virtual int Close(int file);
  virtual int Lock(int file);  // flock(LOCK_EX | LOCK_NB)
  virtual int StatFile(int file, struct stat* found);
  virtual int StatPath(const char* path, struct stat* found);
  virtual int Truncate(int file, off_t bytes);
  virtual int Allocate(int file, off_t bytes);  // fallocate from 0 on
  virtual ssize_t Write(int file, const void* data, size_t bytes, off_t offset);
  virtual ssize_t Read(int file, void* data, size_t bytes, off_t offset);
  // MakeSystemRing.
  virtual int MakeRing(int file, unsigned depth, std::unique_ptr<FileRing>* ring);
  virtual int Sync(int file);
  virtual int Rename(const char* from, const char* to);
  virtual int Unlink(const char* path);
};

// Of this process.
FileCalls& SystemFileCalls();

// kIoError: path "PATH" cannot be WHAT: what errno's value `error` means.
Status FileError(const std::string& path, const char* what, int error);

// A file's number that is closed in the end.
class OwnedFile {
 public:
  OwnedFile() = default;
  OwnedFile(FileCalls* calls, int file) : calls_(calls), file_(file) {}
  OwnedFile(OwnedFile&& other) noexcept;
  OwnedFile& operator=(OwnedFile&& other) noexcept;
  OwnedFile(const OwnedFile&) = delete;
  OwnedFile& operator=(const OwnedFile&) = delete;
  ~OwnedFile() { Close(); }

  int get() const { return file_; }
  // 0, or -1 and errno: what was written may be lost.
  int Close();

 private:
  FileCalls* calls_ = nullptr;
  int file_ = -1;
};

// Opens past the page cache (O_DIRECT) where the file system can, else through it.
OwnedFile OpenDirect(FileCalls& calls, const std::string& path, int flags);

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_FILE_CALLS_H_
