// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/json_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <system_error>
#include <vector>

namespace hipattn::engine {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 20;

Status IoError(const std::string& path, const char* what, int error) {
  return {StatusCode::kIoError,
          StrCat("json_path \"",
                 path,
                 "\" cannot be ",
                 what,
                 ": ",
                 std::generic_category().message(error))};
}

// All of `text` into a new file; what went wrong is in errno.
bool WriteNewFile(const std::string& path, std::string_view text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) {
    return false;
  }
  bool good = true;
  while (good && !text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    good = written > 0 || (written < 0 && errno == EINTR);
    text.remove_prefix(written > 0 ? static_cast<size_t>(written) : 0);
  }
  good = good && fsync(file) == 0;
  const int error = errno;
  const bool closed = close(file) == 0;
  errno = good ? errno : error;
  return good && closed;
}

}  // namespace

Result<std::string> ReadJsonFile(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::vector<char> piece(size_t{1} << 16);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())) || file.gcount() > 0) {
    text.append(piece.data(), static_cast<size_t>(file.gcount()));
    if (text.size() > kMaxBytes) {
      return Status(StatusCode::kCorrupt,
                    StrCat("json_path \"", path, "\" has more than ", kMaxBytes, " bytes"));
    }
  }
  if (!file.is_open() || !file.eof()) {
    return IoError(path, "read", errno);
  }
  return text;
}

Status WriteJsonFile(const std::string& path, std::string_view text) {
  static std::atomic<uint32_t> number{0};  // two threads of a process never share a name
  const std::string beside = StrCat(path, ".", getpid(), ".", number.fetch_add(1));
  if (WriteNewFile(beside, text) && std::rename(beside.c_str(), path.c_str()) == 0) {
    return Status::Ok();
  }
  const int error = errno;
  if (error != EEXIST) {
    unlink(beside.c_str());
  }
  return IoError(path, "written", error);
}

}  // namespace hipattn::engine
