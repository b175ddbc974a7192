// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What is read from machines that are recorded (tests/host/topologies) or described.
#include "host/topology.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace hipattn::host {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr int kAnyNode = device::HostMemory::kAnyNode;

Topology Recorded(const std::string& name) {
  return Topology::Load({TopologySource::Kind::kXmlFile,
                         std::string(HIPATTN_TOPOLOGIES "/") + name + ".xml",
                         /*with_devices=*/true})
      .value();
}

Topology Described(const std::string& text) {
  return Topology::Load({TopologySource::Kind::kSynthetic, text}).value();
}

std::vector<int> NumbersOf(const Topology& topology) {
  std::vector<int> numbers;
  for (const NumaNode& node : topology.nodes()) {
    numbers.push_back(node.number);
  }
  return numbers;
}

std::vector<uint32_t> CpusOf(const Topology& topology, int node) {
  std::vector<uint32_t> cpus;
  for (const Cpu& cpu : topology.FindNode(node)->cpus) {
    cpus.push_back(cpu.number);
  }
  return cpus;
}

// Two sockets of an EPYC with one node each, and with four (NPS4).
TEST(TopologyTest, EpycOfTwoSockets) {
  const Topology one = Described("pack:2 [numa(memory=274877906944)] l3:8 core:8 pu:2");
  EXPECT_EQ(NumbersOf(one), (std::vector<int>{0, 1}));
  EXPECT_EQ(one.FindNode(1)->total_bytes, 256 * kGib);
  EXPECT_EQ(CpusOf(one, 0).size(), 128U);
  EXPECT_EQ(CpusOf(one, 1).front(), 128U);
  EXPECT_EQ(one.num_cpus(CoreKind::kPerformance), 256U);
  EXPECT_EQ(one.num_cpus(CoreKind::kEfficiency), 0U);
  EXPECT_EQ(one.FindNode(2), nullptr);
  const Topology four = Described("pack:2 group:4 [numa(memory=68719476736)] l3:2 core:8 pu:2");
  EXPECT_EQ(four.nodes().size(), 8U);
  EXPECT_EQ(CpusOf(four, 7).back(), 255U);
}

TEST(TopologyTest, XeonWithSubNumaClusters) {
  const Topology xeon = Described("pack:2 group:2 [numa(memory=137438953472)] core:14 pu:2");
  EXPECT_EQ(NumbersOf(xeon), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(CpusOf(xeon, 2).front(), 56U);
  EXPECT_EQ(xeon.FindNode(3)->total_bytes, 128 * kGib);
  // A process that has CPUs of one cluster is next to it, of two to none.
  EXPECT_EQ(xeon.OnlyNode(std::vector<uint32_t>{57, 60}), 2);
  EXPECT_EQ(xeon.OnlyNode(std::vector<uint32_t>{57, 84}), kAnyNode);
  EXPECT_EQ(xeon.OnlyNode({}), kAnyNode);
}

// HBM beside ordinary memory is not where host memory is looked for.
TEST(TopologyTest, HbmIsNoHostNode) {
  const Topology phi = Recorded("xeon_phi_4_clusters_hbm");
  EXPECT_EQ(NumbersOf(phi), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(CpusOf(phi, 1),
            (std::vector<uint32_t>{4, 5, 6, 7, 20, 21, 22, 23, 36, 37, 38, 39, 52, 53, 54, 55}));
  EXPECT_EQ(phi.FindNode(7), nullptr);
}

TEST(TopologyTest, HybridLaptop) {
  const Topology laptop = Recorded("hybrid_laptop");
  EXPECT_EQ(NumbersOf(laptop), (std::vector<int>{0}));
  EXPECT_EQ(laptop.num_cpus(CoreKind::kPerformance), 12U);
  EXPECT_EQ(laptop.num_cpus(CoreKind::kEfficiency), 8U);
  for (const Cpu& cpu : laptop.nodes()[0].cpus) {
    EXPECT_EQ(cpu.kind, cpu.number < 12 ? CoreKind::kPerformance : CoreKind::kEfficiency);
  }
}

TEST(TopologyTest, Grace) {
  const Topology gb10 = Recorded("grace_blackwell_gb10");
  EXPECT_EQ(NumbersOf(gb10), (std::vector<int>{0}));
  EXPECT_EQ(gb10.num_cpus(CoreKind::kPerformance), 10U);
  EXPECT_EQ(gb10.num_cpus(CoreKind::kEfficiency), 10U);
  // Grace Hopper: the GPU's memory is a node without CPUs of its own, beside the CPUs' one.
  const Topology hopper =
      Described("pack:1 [numa(memory=515396075520)] [numa(memory=103079215104)] core:72 pu:1");
  EXPECT_EQ(NumbersOf(hopper), (std::vector<int>{0}));
  EXPECT_EQ(hopper.FindNode(0)->total_bytes, 480 * kGib);
  EXPECT_EQ(CpusOf(hopper, 0).size(), 72U);
}

TEST(TopologyTest, MemoryOfGpusIsNoHostNode) {
  const Topology power = Recorded("power9_6_gpu_nodes");
  EXPECT_EQ(NumbersOf(power), (std::vector<int>{0, 8}));
  EXPECT_EQ(CpusOf(power, 8).front(), 88U);
  EXPECT_EQ(CpusOf(power, 8).size(), 16U);
}

TEST(TopologyTest, DevicesAndTheirNodes) {
  const Topology dgx = Recorded("xeon_2_packages_16_gpus");
  EXPECT_EQ(NumbersOf(dgx), (std::vector<int>{0, 1}));
  EXPECT_EQ(dgx.NodeOf("nvml3"), 0);
  EXPECT_EQ(dgx.NodeOf("nvml12"), 1);
  EXPECT_EQ(dgx.NodeOf("0000:34:00.0"), 0);
  EXPECT_EQ(dgx.NodeOf("0000:3B:00.0"), 0);  // as CUDA writes it
  EXPECT_EQ(dgx.NodeOf("0000:3b:00.1"), kAnyNode);
  EXPECT_EQ(dgx.NodeOf(""), kAnyNode);
  // Without looking for devices none is known.
  const std::string path = HIPATTN_TOPOLOGIES "/xeon_2_packages_16_gpus.xml";
  EXPECT_EQ(Topology::Load({TopologySource::Kind::kXmlFile, path}).value().NodeOf("nvml3"),
            kAnyNode);
}

// What a cgroup takes away is not there; a node of which it takes the CPUs alone still has memory.
TEST(TopologyTest, CgroupsRestrictCpusAndNodes) {
  const Topology cgroup = Recorded("opteron_4_packages_cgroup");
  EXPECT_EQ(NumbersOf(cgroup), (std::vector<int>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(CpusOf(cgroup, 0), (std::vector<uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(CpusOf(cgroup, 1), (std::vector<uint32_t>{4, 5}));
  EXPECT_TRUE(CpusOf(cgroup, 2).empty());
  EXPECT_EQ(cgroup.num_cpus(CoreKind::kPerformance), 6U);
  const Topology cpuset = Recorded("opteron_8_packages_cpuset");
  EXPECT_EQ(NumbersOf(cpuset), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(CpusOf(cpuset, 1), (std::vector<uint32_t>{2, 3}));
}

TEST(TopologyTest, ThisMachine) {
  const Topology here = std::move(Topology::Load({}).value());
  ASSERT_GE(here.nodes().size(), 1U);
  EXPECT_GE(here.num_cpus(CoreKind::kPerformance) + here.num_cpus(CoreKind::kEfficiency), 1U);
}

TEST(TopologyTest, WhatIsNoTopologyIsAnError) {
  EXPECT_EQ(Topology::Load({TopologySource::Kind::kSynthetic, "nonsense:x"}).status().code(),
            StatusCode::kInvalidArgument);
  const Status missing =
      Topology::Load({TopologySource::Kind::kXmlFile, "/no/such/file.xml"}).status();
  EXPECT_EQ(missing.code(), StatusCode::kIoError);
  EXPECT_NE(missing.message().find("/no/such/file.xml"), std::string::npos);
}

// The variables that hwloc follows do not make the library see another machine.
TEST(TopologyTest, EnvironmentVariablesDescribeNoMachine) {
  ASSERT_EQ(setenv("HWLOC_SYNTHETIC", "pack:3 numa:1 core:1 pu:1", 1), 0);
  const Result<Topology> here = Topology::Load({});
  const Topology laptop = Recorded("hybrid_laptop");
  ASSERT_EQ(unsetenv("HWLOC_SYNTHETIC"), 0);
  EXPECT_EQ(here.status().code(), StatusCode::kUnsupported) << here.status().message();
  EXPECT_EQ(laptop.nodes().size(), 1U);
  EXPECT_EQ(laptop.num_cpus(CoreKind::kEfficiency), 8U);
}

}  // namespace
}  // namespace hipattn::host
