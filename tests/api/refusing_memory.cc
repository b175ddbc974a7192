// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/api/refusing_memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<bool> armed{false};
std::atomic<bool> every_one{false};
std::atomic<int64_t> granted{0};
std::atomic<int64_t> refused{0};

bool Refuses() noexcept {
  if (!armed.load(std::memory_order_relaxed)) {
    return false;
  }
  const int64_t left = granted.fetch_sub(1, std::memory_order_relaxed);
  const bool refuses = every_one.load(std::memory_order_relaxed) ? left <= 0 : left == 0;
  refused.fetch_add(refuses ? 1 : 0, std::memory_order_relaxed);
  return refuses;
}

void* NewOrThrow(void* memory) {
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

}  // namespace

namespace hipattn::test {

void StartRefusing(int64_t granted_first, bool all_that_follow) {
  every_one = all_that_follow;
  granted = granted_first;
  refused = 0;
  armed = true;
}

int64_t StopRefusing() {
  armed = false;
  return refused;
}

}  // namespace hipattn::test

extern "C" {
// The names that --wrap gives to what is called and to what is there.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
void* __real_aligned_alloc(size_t alignment, size_t size);
void* __wrap_aligned_alloc(size_t alignment, size_t size) {
  return Refuses() ? nullptr : __real_aligned_alloc(alignment, size);
}
void* __real_mmap(void* at, size_t size, int protection, int flags, int file, off_t offset);
void* __wrap_mmap(void* at, size_t size, int protection, int flags, int file, off_t offset) {
  return Refuses() ? MAP_FAILED : __real_mmap(at, size, protection, flags, file, offset);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
}

void* operator new(size_t size) {
  return NewOrThrow(Refuses() ? nullptr : std::malloc(size));
}
void* operator new(size_t size, std::align_val_t alignment) {
  const auto bytes = static_cast<size_t>(alignment);
  return NewOrThrow(Refuses() ? nullptr
                              : __real_aligned_alloc(bytes, (size + bytes - 1) / bytes * bytes));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t /*size*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t /*size*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}
