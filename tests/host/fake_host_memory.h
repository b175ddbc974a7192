// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FakeHostMemory: pages of a machine that is not this one, for tests of what asks for them. It
// notes what was asked, and refuses what is larger than it is told to grant.
#ifndef HIPATTN_TESTS_HOST_FAKE_HOST_MEMORY_H_
#define HIPATTN_TESTS_HOST_FAKE_HOST_MEMORY_H_

#include "device/host_memory.h"

#include <cstdlib>
#include <cstring>
#include <map>

namespace hipattn::test {

class FakeHostMemory : public device::HostMemory {
 public:
  uint32_t num_nodes() const override { return 2; }
  uint32_t usable_cpus() const override { return 2; }
  int own_node() const override { return 1; }
  uint64_t available_bytes(int /*node*/) const override { return available; }
  device::Placement placement() const override { return placed; }
  uint64_t misplaced_bytes() const override { return 0; }

  Result<std::byte*> Map(size_t bytes, int node) override {
    if (bytes > granted_bytes) {
      return OutOfMemory("the fake refused ", bytes, " bytes");
    }
    constexpr size_t kAlignment = size_t{2} << 20;
    auto* const data = static_cast<std::byte*>(
        std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment));
    mapped[data] = bytes;
    last_node = node;
    return data;
  }
  void Unmap(std::byte* data, size_t bytes) override {
    wrong_calls += mapped.contains(data) && mapped[data] == bytes ? 0 : 1;
    mapped.erase(data);
    std::free(data);
  }
  void Discard(std::byte* data, size_t bytes) override {
    std::memset(data, 0, bytes);
    discarded_bytes += bytes;
  }

  void Touch(std::byte* data, size_t bytes, int node, device::Executor& /*executor*/) override {
    std::memset(data, 0, bytes);
    touched_bytes += bytes;
    last_node = node;
  }

  size_t mapped_bytes() const {
    size_t sum = 0;
    for (const auto& [data, bytes] : mapped) {
      sum += bytes;
    }
    return sum;
  }

  size_t granted_bytes = SIZE_MAX;
  std::map<std::byte*, size_t> mapped;
  size_t discarded_bytes = 0;
  size_t touched_bytes = 0;
  uint64_t available = uint64_t{1} << 40;
  device::Placement placed = device::Placement::kPolicy;
  int last_node = -2;
  int wrong_calls = 0;
};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_HOST_FAKE_HOST_MEMORY_H_
