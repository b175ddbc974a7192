// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/file_calls.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

namespace hipattn::offload {

int FileCalls::Open(const char* path, int flags) {
  constexpr mode_t kEverybody = 0666;
  return open(path, flags, kEverybody);
}

int FileCalls::Close(int file) {
  return close(file);
}

int FileCalls::Lock(int file) {
  return flock(file, LOCK_EX | LOCK_NB);
}

int FileCalls::StatFile(int file, struct stat* found) {
  return fstat(file, found);
}

int FileCalls::StatPath(const char* path, struct stat* found) {
  return stat(path, found);
}

int FileCalls::Truncate(int file, off_t bytes) {
  return ftruncate(file, bytes);
}

int FileCalls::Allocate(int file, off_t bytes) {
  return fallocate(file, 0, 0, bytes);
}

ssize_t FileCalls::Write(int file, const void* data, size_t bytes, off_t offset) {
  return pwrite(file, data, bytes, offset);
}

ssize_t FileCalls::Read(int file, void* data, size_t bytes, off_t offset) {
  return pread(file, data, bytes, offset);
}

int FileCalls::MakeRing(int file, unsigned depth, std::unique_ptr<FileRing>* ring) {
  return MakeSystemRing(file, depth, ring);
}

int FileCalls::Sync(int file) {
  return fsync(file);
}

int FileCalls::Rename(const char* from, const char* to) {
  return std::rename(from, to);
}

int FileCalls::Unlink(const char* path) {
  return unlink(path);
}

FileCalls& SystemFileCalls() {
  static FileCalls calls;
  return calls;
}

Status FileError(const std::string& path, const char* what, int error) {
  return {
      StatusCode::kIoError,
      StrCat("path \"", path, "\" cannot be ", what, ": ", std::generic_category().message(error))};
}

OwnedFile::OwnedFile(OwnedFile&& other) noexcept
    : calls_(other.calls_), file_(std::exchange(other.file_, -1)) {}

OwnedFile& OwnedFile::operator=(OwnedFile&& other) noexcept {
  std::swap(calls_, other.calls_);
  std::swap(file_, other.file_);
  return *this;
}

int OwnedFile::Close() {
  return file_ < 0 ? 0 : calls_->Close(std::exchange(file_, -1));
}

OwnedFile OpenDirect(FileCalls& calls, const std::string& path, int flags) {
  int file = calls.Open(path.c_str(), flags | O_CLOEXEC | O_DIRECT);
  if (file < 0 && errno == EINVAL) {
    file = calls.Open(path.c_str(), flags | O_CLOEXEC);
  }
  return {&calls, file};
}

}  // namespace hipattn::offload
