// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/emulated/arena.h"

#include "base/int_math.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iterator>

namespace hipattn::test {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLargeBytes = size_t{2} << 20;

size_t AlignmentOf(size_t bytes) {
  return bytes >= kLargeBytes ? kLargeBytes : kAlignment;
}

// Begins at a large page: reserved with room to move, then the file is put inside. nullptr:
// refused.
std::byte* MapView(int file, size_t bytes) {
  void* const room = mmap(
      nullptr, bytes + kLargeBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) {
    return nullptr;
  }
  auto* const begin = static_cast<std::byte*>(room);
  const size_t skipped =
      RoundUp(reinterpret_cast<uintptr_t>(begin), kLargeBytes) - reinterpret_cast<uintptr_t>(begin);
  void* const view = mmap(begin + skipped,
                          bytes,
                          PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
                          file,
                          0);
  if (skipped > 0) {
    munmap(begin, skipped);
  }
  munmap(begin + skipped + bytes, kLargeBytes - skipped);
  return view == MAP_FAILED ? nullptr : static_cast<std::byte*>(view);
}

}  // namespace

Result<std::unique_ptr<Arena>> Arena::Create(size_t reserved_bytes) {
  const size_t bytes = RoundUp(reserved_bytes, kLargeBytes);
  const int file = memfd_create("hipattn-device", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
    const int error = errno;
    if (file >= 0) {
      close(file);
    }
    return OutOfMemory("no memory file of ", bytes, " bytes, errno ", error);
  }
  std::byte* const host = MapView(file, bytes);
  std::byte* const device = MapView(file, bytes);
  close(file);
  if (host == nullptr || device == nullptr) {
    return OutOfMemory("no addresses for ", bytes, " bytes");
  }
  return std::unique_ptr<Arena>(new Arena(host, device, bytes));
}

Arena::~Arena() {
  munmap(host_, bytes_);
  munmap(device_, bytes_);
}

Result<size_t> Arena::Take(size_t bytes) {
  const size_t alignment = AlignmentOf(bytes);
  if (bytes > bytes_) {
    return OutOfMemory("the arena has ", bytes_, " bytes, not ", bytes);
  }
  const size_t wanted = RoundUp(bytes, kAlignment);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const size_t begin = it->first;
    const size_t end = begin + it->second;
    const size_t at = RoundUp(begin, alignment);
    if (at + wanted > end) {
      continue;
    }
    free_.erase(it);
    if (at > begin) {
      free_[begin] = at - begin;
    }
    if (at + wanted < end) {
      free_[at + wanted] = end - at - wanted;
    }
    return at;
  }
  return OutOfMemory("the arena has no ", bytes, " neighbouring bytes left");
}

void Arena::Give(size_t offset, size_t bytes) {
  const size_t taken = RoundUp(bytes, kAlignment);
  const std::lock_guard<std::mutex> lock(mutex_);
  auto at = free_.emplace(offset, taken).first;
  if (const auto next = std::next(at); next != free_.end() && offset + taken == next->first) {
    at->second += next->second;
    free_.erase(next);
  }
  if (at != free_.begin()) {
    if (const auto before = std::prev(at); before->first + before->second == offset) {
      before->second += at->second;
      free_.erase(at);
    }
  }
}

std::byte* Arena::HostOf(std::byte* address) const {
  return InDeviceView(address) ? host_ + (address - device_) : address;
}

void Arena::Protect(std::byte* view, int access) {
  // Refused, the guard would watch nothing and its tests pass: better none at all.
  if (mprotect(view, bytes_, access) != 0) {
    std::abort();
  }
}

void Arena::HideHost() {
  Protect(host_, PROT_NONE);
}

void Arena::ShowHost() {
  Protect(host_, PROT_READ | PROT_WRITE);
}

void Arena::Guard() {
  const std::lock_guard<std::mutex> lock(guard_mutex_);
  guarded_ = true;
  if (open_ == 0) {
    Protect(device_, PROT_NONE);
  }
}

void Arena::Open() {
  const std::lock_guard<std::mutex> lock(guard_mutex_);
  if (open_++ == 0 && guarded_) {
    Protect(device_, PROT_READ | PROT_WRITE);
  }
}

void Arena::Close() {
  const std::lock_guard<std::mutex> lock(guard_mutex_);
  if (--open_ == 0 && guarded_) {
    Protect(device_, PROT_NONE);
  }
}

}  // namespace hipattn::test
