// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace hipattn_run {
namespace {

Status SystemError(const std::string& path, const char* action, int error) {
  return Status::Error(
      "cannot ", action, " '", path, "': ", std::generic_category().message(error));
}

}  // namespace

void MappedFile::Unmap::operator()(const uint8_t* data) const {
  ::munmap(const_cast<uint8_t*>(data), size);
}

Result<MappedFile> MappedFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return SystemError(path, "open", errno);
  }
  struct stat info = {};
  if (::fstat(fd, &info) != 0) {
    const int error = errno;
    ::close(fd);
    return SystemError(path, "read the size of", error);
  }
  if (!S_ISREG(info.st_mode) || info.st_size == 0) {
    ::close(fd);
    return Status::Error("'", path, "' is ", S_ISREG(info.st_mode) ? "empty" : "not a file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (data == MAP_FAILED) {
    return SystemError(path, "map", error);
  }
  return MappedFile(static_cast<const uint8_t*>(data), size);
}

Result<std::string> ReadTextFile(const std::string& path) {
  Result<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) {
    return file.status();
  }
  const std::span<const uint8_t> bytes = file.value().bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace hipattn_run
