// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "device/registry.h"
#include "host/host_memory_linux.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

namespace hipattn::host {
namespace {

TEST(CpuDeviceTest, TablesHaveEveryOpAndDistinctNames) {
  std::set<std::string> names;
  for (const device::OpTable* table : device::CpuOpTables()) {
    EXPECT_TRUE(names.insert(table->name).second) << table->name;
    EXPECT_NE(table->append_kv, nullptr);
    EXPECT_NE(table->load_q, nullptr);
    EXPECT_NE(table->summarize_blocks, nullptr);
    EXPECT_NE(table->score_nodes, nullptr);
    EXPECT_NE(table->estimate_nodes, nullptr);
    EXPECT_NE(table->score_keys, nullptr);
    EXPECT_NE(table->sparse_decode, nullptr);
    EXPECT_NE(table->attend_rotated, nullptr);
    EXPECT_NE(table->dense_prefill, nullptr);
    EXPECT_NE(table->apply_deltas, nullptr);
    EXPECT_NE(table->merge_states, nullptr);
  }
  EXPECT_EQ(std::string(device::CpuOpTables().front()->name), "reference");
  EXPECT_TRUE(names.contains("portable"));
}

TEST(CpuDeviceTest, InstructionSetByName) {
  for (const device::OpTable* table : device::CpuOpTables()) {
    EXPECT_STREQ(device::CreateCpuDevice({1, table->name}).value()->name(), table->name);
  }
  const Status status = device::CreateCpuDevice({1, "mmx"}).status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_NE(status.message().find("mmx"), std::string::npos);
  EXPECT_NE(status.message().find("portable"), std::string::npos);
}

TEST(CpuDeviceTest, AllocationsAreAlignedAndLargeOnesOnHugePageBoundaries) {
  const auto device = std::move(device::CreateCpuDevice({1, {}}).value());
  for (const size_t bytes : {size_t{1}, size_t{100}, size_t{2} << 20, (size_t{5} << 20) + 7}) {
    device::Buffer buffer = std::move(device->Allocate(device::MemoryKind::kDevice, bytes).value());
    const auto address = reinterpret_cast<uintptr_t>(buffer.data());
    EXPECT_EQ(address % (bytes >= size_t{2} << 20 ? size_t{2} << 20 : 64), 0U) << bytes;
    std::memset(buffer.data(), 0x5a, bytes);
  }
  EXPECT_EQ(device->Allocate(device::MemoryKind::kDevice, 0).value().data(), nullptr);
}

// As the tiers cut it: small slabs of the device lie in huge pages, each in its place.
TEST(CpuDeviceTest, SlabsSmallerThanAHugePageShareOne) {
  const auto device = std::move(device::CreateCpuDevice({1, {}}).value());
  for (const auto kind : {device::MemoryKind::kDevice, device::MemoryKind::kPinned}) {
    std::vector<device::Buffer> slabs;
    for (int i = 0; i < 8; ++i) {
      slabs.push_back(std::move(device->Allocate(kind, size_t{256} << 10).value()));
      EXPECT_EQ(slabs[i].data() - slabs[0].data(), i * (ptrdiff_t{256} << 10));
      std::memset(slabs[i].data(), i, slabs[i].size_bytes());
    }
    slabs.erase(slabs.begin());
    EXPECT_EQ(slabs[0].data()[0], std::byte{1});
  }
}

TEST(CpuDeviceTest, RefusedMemoryIsAnError) {
  const auto device = std::move(device::CreateCpuDevice({1, {}}).value());
  EXPECT_EQ(device->Allocate(device::MemoryKind::kDevice, SIZE_MAX / 4).status().code(),
            StatusCode::kOutOfMemory);
  EXPECT_EQ(device->Allocate(device::MemoryKind::kDevice, SIZE_MAX).status().code(),
            StatusCode::kOutOfMemory);
}

TEST(CpuDeviceTest, CopyMovesEveryPiece) {
  const auto device = std::move(device::CreateCpuDevice({1, {}}).value());
  char from[] = "abcdef";
  char to[7] = "......";
  const device::CopyPiece pieces[] = {{to, from + 3, 3}, {to + 3, from, 3}};
  ASSERT_TRUE(device->Copy(0, pieces).ok());
  EXPECT_STREQ(to, "defabc");
}

TEST(HostMemoryTest, CpuMaxOfCgroups) {
  EXPECT_EQ(ParseCpuMax("max 100000"), 0U);
  EXPECT_EQ(ParseCpuMax("150000 100000"), 2U);
  EXPECT_EQ(ParseCpuMax("100000 100000"), 1U);
  EXPECT_EQ(ParseCpuMax("50000 100000\n"), 1U);
  EXPECT_EQ(ParseCpuMax(""), 0U);
  EXPECT_EQ(ParseCpuMax("garbage"), 0U);
  EXPECT_EQ(ParseCpuMax("100000"), 0U);
  EXPECT_EQ(ParseCpuMax("100000 0"), 0U);
}

TEST(HostMemoryTest, SaysSomethingSaneOfThisMachine) {
  const auto memory = CreateHostMemory();
  EXPECT_GE(memory->num_nodes(), 1U);
  EXPECT_GE(memory->usable_cpus(), 1U);
  EXPECT_GT(memory->available_bytes(), uint64_t{1} << 20);
}

TEST(HostMemoryTest, PagesAreZeroAndWritableOnAnyNode) {
  const auto memory = CreateHostMemory();
  for (const int node : {device::HostMemory::kAnyNode, 0}) {
    const size_t bytes = (size_t{2} << 20) + 12345;
    std::byte* data = memory->Map(bytes, node).value();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % (size_t{2} << 20), 0U);
    for (size_t i = 0; i < bytes; i += 4096) {
      ASSERT_EQ(data[i], std::byte{0});
      data[i] = std::byte{1};
    }
    data[bytes - 1] = std::byte{1};
    memory->Unmap(data, bytes);
  }
}

}  // namespace
}  // namespace hipattn::host
