// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/engine/counting_memory.h"

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> in_use{0};
std::atomic<int64_t> most{0};

void* Counted(void* memory) noexcept {
  const auto bytes = static_cast<int64_t>(malloc_usable_size(memory));
  const int64_t now = in_use.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t seen = most.load(std::memory_order_relaxed);
  while (seen < now && !most.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
  }
  return memory;
}

void* NewOrThrow(void* memory) {
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return Counted(memory);
}

}  // namespace

namespace hipattn::test {

int64_t BeginCounting() {
  most = in_use.load();
  return most;
}

int64_t MostInUse() {
  return most;
}

}  // namespace hipattn::test

extern "C" {
// The names that --wrap gives to what is called and to what is there.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming)
void* __real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void* memory);
void* __wrap_aligned_alloc(size_t alignment, size_t size) {
  void* memory = __real_aligned_alloc(alignment, size);
  return memory == nullptr ? nullptr : Counted(memory);
}
void __wrap_free(void* memory) {
  in_use.fetch_sub(static_cast<int64_t>(malloc_usable_size(memory)), std::memory_order_relaxed);
  __real_free(memory);
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
}

void* operator new(size_t size) {
  return NewOrThrow(std::malloc(size));
}
void* operator new(size_t size, std::align_val_t alignment) {
  const auto bytes = static_cast<size_t>(alignment);
  return NewOrThrow(__real_aligned_alloc(bytes, (size + bytes - 1) / bytes * bytes));
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
