// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Topology: which memory, CPUs and devices of a machine are next to each other, as hwloc sees it.
//
// hwloc has environment variables (HWLOC_XMLFILE, HWLOC_SYNTHETIC) that put the description of
// another machine in place of this one. The library does not follow them: what comes from there is
// an error of Load.
#ifndef HIPATTN_HOST_TOPOLOGY_H_
#define HIPATTN_HOST_TOPOLOGY_H_

#include "base/result.h"
#include "device/host_memory.h"

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hipattn::host {

enum class CoreKind : uint8_t { kPerformance, kEfficiency };

struct Cpu {
  uint32_t number;  // the system's
  CoreKind kind;
};

// A node that is the nearest memory of some CPU. Others are not a host's memory: those of GPUs, and
// what is far from or beside ordinary memory (HBM, CXL).
struct NumaNode {
  int number;             // the system's
  uint64_t total_bytes;   // 0: not known
  std::vector<Cpu> cpus;  // that this process may use: none where a cgroup takes them all
};

struct TopologySource {
  enum class Kind : uint8_t { kThisMachine, kXmlFile, kSynthetic };
  Kind kind = Kind::kThisMachine;
  std::string text = {};      // the file's path; a description as `lstopo --input` takes it
  bool with_devices = false;  // for NodeOf; looking for them takes time
};

class Topology {
 public:
  // kIoError: the file is not one of hwloc's; kInvalidArgument: the description is not;
  // kUnsupported: hwloc does not see this machine.
  static Result<Topology> Load(const TopologySource& source);
  // Of a machine that nothing is known of: node 0, without CPUs.
  static Topology OfOneNode();

  // At least one, by number.
  std::span<const NumaNode> nodes() const { return nodes_; }
  uint32_t num_cpus(CoreKind kind) const;
  // Nullptr when there is none of that number.
  const NumaNode* FindNode(int number) const;
  // The node whose CPUs are all that the process may use, or HostMemory::kAnyNode.
  int OnlyNode(std::span<const uint32_t> usable_cpus) const;

  // The node next to a device, which is named by its PCI address (0000:3b:00.0) or by the system
  // (nvme0n1). kAnyNode: there is no such device, or it is as near to several.
  int NodeOf(std::string_view device) const;

 private:
  friend class TopologyReader;

  std::vector<NumaNode> nodes_;
  std::map<std::string, int, std::less<>> devices_;
};

}  // namespace hipattn::host

#endif  // HIPATTN_HOST_TOPOLOGY_H_
