// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Placement of memory, on machines described to it: by policy, by first touch where the system
// refuses the policy, and what is counted when neither helps. In a child process the system itself
// refuses.
#include "device/registry.h"
#include "host/host_memory_linux.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace hipattn::host {
namespace {

constexpr size_t kMib = size_t{1} << 20;
constexpr const char* kTwoNodes = "pack:2 [numa(memory=8589934592)] core:2 pu:1";

// Notes what it is asked, and answers as told.
class NotingCalls : public PlacementCalls {
 public:
  int Prefer(std::byte* /*data*/, size_t bytes, int node) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    preferred.push_back({node, bytes});
    return prefer_answer;
  }
  int RunOn(std::span<const Cpu> cpus) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<uint32_t> numbers;
    for (const Cpu& cpu : cpus) {
      numbers.push_back(cpu.number);
    }
    ran_on.push_back(numbers);
    return run_on_answer;
  }

  int prefer_answer = 0;
  int run_on_answer = 0;
  std::vector<std::pair<int, size_t>> preferred;
  std::vector<std::vector<uint32_t>> ran_on;

 private:
  std::mutex mutex_;
};

bool IsThere(std::byte* data, size_t bytes) {
  std::vector<unsigned char> pages((bytes + 4095) / 4096);
  EXPECT_EQ(mincore(data, bytes, pages.data()), 0);
  return std::all_of(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; });
}

std::unique_ptr<device::HostMemory> Described(const TopologySource& topology,
                                              PlacementCalls* calls,
                                              const std::string& nodes_folder) {
  HostMemoryOptions options;
  options.topology = topology;
  options.calls = calls;
  options.nodes_folder = nodes_folder;
  return CreateHostMemory(options);
}

class PlacementTest : public ::testing::Test {
 protected:
  PlacementTest() {
    SetFree(0, 1 << 20);
    SetFree(1, 1 << 20);
  }

  void SetFree(int node, uint64_t kib) {
    const std::string folder = folder_.Path("node" + std::to_string(node));
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/meminfo")
        << "Node " << node << " MemTotal:       8388608 kB\nNode " << node
        << " MemFree:        " << kib << " kB\nNode " << node << " Active(file):     100 kB\nNode "
        << node << " Inactive(file):      24 kB\n";
  }

  std::unique_ptr<device::HostMemory> Open(const std::string& machine = kTwoNodes) {
    return Described({TopologySource::Kind::kSynthetic, machine}, &calls_, folder_.Path(""));
  }

  std::unique_ptr<device::Device> device_ = std::move(device::CreateCpuDevice({3, {}}).value());
  const test::TemporaryFolder folder_;
  NotingCalls calls_;
};

TEST_F(PlacementTest, ByPolicyWhereTheSystemHasOne) {
  const auto memory = Open();
  EXPECT_EQ(memory->num_nodes(), 2U);
  EXPECT_EQ(memory->placement(), device::Placement::kPolicy);
  calls_.preferred.clear();
  std::byte* const data = memory->Map(5 * kMib + 1, 1).value();
  EXPECT_EQ(calls_.preferred, (std::vector<std::pair<int, size_t>>{{1, 5 * kMib + 4096}}));
  memory->Touch(data, 5 * kMib + 1, 1, device_->executor());
  EXPECT_TRUE(IsThere(data, 5 * kMib + 1));
  EXPECT_TRUE(calls_.ran_on.empty());
  EXPECT_EQ(memory->misplaced_bytes(), 0U);
  memory->Unmap(data, 5 * kMib + 1);
  std::byte* const anywhere = memory->Map(kMib, device::HostMemory::kAnyNode).value();
  memory->Touch(anywhere, kMib, device::HostMemory::kAnyNode, device_->executor());
  memory->Unmap(anywhere, kMib);
  EXPECT_EQ(calls_.preferred.size(), 1U);
}

TEST_F(PlacementTest, OneNodeCostsNothing) {
  const auto memory = Open("pack:1 [numa] core:2 pu:1");
  EXPECT_EQ(memory->placement(), device::Placement::kOneNode);
  std::byte* const data = memory->Map(kMib, 0).value();
  memory->Touch(data, kMib, 0, device_->executor());
  EXPECT_TRUE(IsThere(data, kMib));
  memory->Unmap(data, kMib);
  EXPECT_TRUE(calls_.preferred.empty());
  EXPECT_TRUE(calls_.ran_on.empty());
}

TEST_F(PlacementTest, ByFirstTouchWhereTheSystemRefuses) {
  for (const int refusal : {EPERM, ENOSYS}) {
    calls_.preferred.clear();
    calls_.ran_on.clear();
    calls_.prefer_answer = refusal;
    const auto memory = Open();
    EXPECT_EQ(memory->placement(), device::Placement::kFirstTouch);
    EXPECT_EQ(calls_.preferred.size(), 1U);  // and is not asked again
    std::byte* const data = memory->Map(7 * kMib, 1).value();
    EXPECT_EQ(calls_.preferred.size(), 1U);
    memory->Touch(data, 7 * kMib, 1, device_->executor());
    EXPECT_TRUE(IsThere(data, 7 * kMib));
    EXPECT_EQ(calls_.ran_on, (std::vector<std::vector<uint32_t>>(2, {2, 3})));
    EXPECT_EQ(memory->misplaced_bytes(), 0U);
    memory->Unmap(data, 7 * kMib);
  }
}

TEST_F(PlacementTest, ARefusalThatComesLaterCountsToo) {
  const auto memory = Open();
  calls_.prefer_answer = EPERM;
  memory->Unmap(memory->Map(kMib, 0).value(), kMib);
  EXPECT_EQ(memory->placement(), device::Placement::kFirstTouch);
}

TEST_F(PlacementTest, MemoryThatLiesElsewhereIsCounted) {
  SetFree(1, 1000);
  const auto memory = Open();
  EXPECT_EQ(memory->available_bytes(1), 1024U * 1024);  // free, or clean files
  EXPECT_EQ(memory->available_bytes(0), ((1U << 20) + 24) * uint64_t{1024});
  std::byte* const data = memory->Map(2 * kMib, 1).value();
  memory->Touch(data, kMib, 1, device_->executor());
  EXPECT_EQ(memory->misplaced_bytes(), 0U);
  memory->Touch(data, 2 * kMib, 1, device_->executor());
  EXPECT_TRUE(IsThere(data, 2 * kMib));
  EXPECT_EQ(memory->misplaced_bytes(), 2 * kMib);
  memory->Unmap(data, 2 * kMib);
}

TEST_F(PlacementTest, NoThreadOnTheNodeIsCounted) {
  calls_.prefer_answer = EPERM;
  calls_.run_on_answer = EINVAL;
  const auto memory = Open();
  std::byte* const data = memory->Map(3 * kMib, 0).value();
  memory->Touch(data, 3 * kMib, 0, device_->executor());
  EXPECT_TRUE(IsThere(data, 3 * kMib));
  EXPECT_EQ(memory->misplaced_bytes(), 3 * kMib);
  memory->Touch(data, kMib, 7, device_->executor());  // there is no such node
  EXPECT_EQ(memory->misplaced_bytes(), 4 * kMib);
  memory->Unmap(data, 3 * kMib);
}

TEST(HostMemoryTest, WithoutATopologyThereIsOneNode) {
  const auto memory = Described({TopologySource::Kind::kXmlFile, "/no/such/file.xml"}, nullptr, "");
  EXPECT_EQ(memory->num_nodes(), 1U);
  EXPECT_EQ(memory->own_node(), device::HostMemory::kAnyNode);
  EXPECT_GT(memory->available_bytes(0), 0U);
}

TEST(HostMemoryTest, DiscardedPagesAreZeroAgain) {
  const auto memory = CreateHostMemory();
  std::byte* const data = memory->Map(4 * kMib, device::HostMemory::kAnyNode).value();
  std::memset(data, 1, 4 * kMib);
  memory->Discard(data, 2 * kMib);
  EXPECT_EQ(data[0], std::byte{0});
  EXPECT_EQ(data[2 * kMib], std::byte{1});
  memory->Unmap(data, 4 * kMib);
}

constexpr int kNoFilter = 77;

// What a container's filter refuses, and locking memory too. From now on, in this process.
bool RefuseSystemCalls() {
  constexpr std::array<uint32_t, 7> kRefused = {SYS_mbind,
                                                SYS_set_mempolicy,
                                                SYS_get_mempolicy,
                                                SYS_move_pages,
                                                SYS_mlock,
                                                SYS_mlock2,
                                                SYS_mlockall};
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (size_t i = 0; i < kRefused.size(); ++i) {
    const auto to_refusal = static_cast<uint8_t>(kRefused.size() - i);
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kRefused[i], to_refusal, 0));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  const sock_fprog program = {static_cast<uint16_t>(filter.size()), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Of a child process: 0, or the number of the first thing that is wrong.
int WorkWhileRefused() {
  if (!RefuseSystemCalls()) {
    return kNoFilter;
  }
  std::byte page[64] = {};
  // By number: sanitizers have an mlock of their own, which does nothing.
  if (syscall(SYS_mlock, page, sizeof page) == 0 ||
      PlacementCalls().Prefer(page, sizeof page, 0) != EPERM) {
    return 1;
  }
  const auto memory = Described({TopologySource::Kind::kSynthetic, kTwoNodes}, nullptr, "");
  if (memory->placement() != device::Placement::kFirstTouch) {
    return 2;
  }
  const auto device = std::move(device::CreateCpuDevice({2, {}}).value());
  std::byte* const data = memory->Map(4 * kMib, 0).value();
  memory->Touch(data, 4 * kMib, 0, device->executor());
  if (!IsThere(data, 4 * kMib)) {
    return 3;
  }
  const device::Buffer pinned =
      std::move(device->Allocate(device::MemoryKind::kPinned, 8 * kMib).value());
  const device::Buffer slab =
      std::move(device->Allocate(device::MemoryKind::kDevice, kMib).value());
  std::memset(pinned.data() + 7 * kMib, 5, kMib);
  const device::CopyPiece piece = {slab.data(), pinned.data() + 7 * kMib, kMib};
  if (!device->Sync(device->Copy(0, {&piece, 1}).value()).ok()) {
    return 4;
  }
  return slab.data()[kMib - 1] == std::byte{5} ? 0 : 5;
}

TEST(RefusedPlacementDeathTest, EverythingWorksUnderAContainersFilter) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  static int code;
  EXPECT_EXIT(
      _exit(WorkWhileRefused()),
      [](int status) {
        code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        return code == 0 || code == kNoFilter;
      },
      "");
  if (code == kNoFilter) {
    GTEST_SKIP() << "this system lets no process filter its system calls";
  }
}

}  // namespace
}  // namespace hipattn::host
