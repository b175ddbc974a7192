// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/topology.h"

#include <hwloc.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <utility>

namespace hipattn::host {
namespace {

// Cores of a kind that is slower than this share of the fastest kind are efficiency cores. Favoured
// cores of one kind differ by a tenth; the kinds of hybrid processors by a quarter and more.
constexpr uint64_t kEfficiencyPercent = 80;

uint64_t NumberOf(std::string_view text) {
  uint64_t number = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// What hwloc knows of the CPUs of a kind.
struct Kind {
  uint64_t speed = 0;  // as the system says; 0: it does not
  bool is_atom = false;
};

Kind KindOf(const hwloc_info_s* infos, unsigned count) {
  Kind kind;
  for (unsigned i = 0; i < count; ++i) {
    const std::string_view name = infos[i].name;
    const std::string_view value = infos[i].value;
    if (name == "CoreType") {
      kind.is_atom = value == "IntelAtom";
    } else if (name == "LinuxCapacity" || (name == "FrequencyMaxMHz" && kind.speed == 0)) {
      kind.speed = NumberOf(value);
    }
  }
  return kind;
}

// The numbers in a set that is not infinite.
std::vector<uint32_t> NumbersOf(hwloc_const_bitmap_t set) {
  std::vector<uint32_t> numbers;
  for (int i = hwloc_bitmap_first(set); i >= 0; i = hwloc_bitmap_next(set, i)) {
    numbers.push_back(static_cast<uint32_t>(i));
  }
  return numbers;
}

class Bitmap {
 public:
  Bitmap() : set_(hwloc_bitmap_alloc()) {}
  ~Bitmap() { hwloc_bitmap_free(set_); }
  Bitmap(const Bitmap&) = delete;
  Bitmap& operator=(const Bitmap&) = delete;
  hwloc_bitmap_t get() const { return set_; }

 private:
  hwloc_bitmap_t set_;
};

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return lower;
}

std::string PciAddress(const hwloc_obj_attr_u::hwloc_pcidev_attr_s& pci) {
  std::array<char, 32> text = {};
  (void)std::snprintf(
      text.data(), text.size(), "%04x:%02x:%02x.%x", pci.domain, pci.bus, pci.dev, pci.func);
  return text.data();
}

}  // namespace

// Owns hwloc's view while it is read.
class TopologyReader {
 public:
  TopologyReader() = default;
  ~TopologyReader() {
    if (topology_ != nullptr) {
      hwloc_topology_destroy(topology_);
    }
  }
  TopologyReader(const TopologyReader&) = delete;
  TopologyReader& operator=(const TopologyReader&) = delete;

  Status Open(const TopologySource& source) {
    if (hwloc_topology_init(&topology_) != 0) {
      return OutOfMemory("hwloc has no memory for a topology");
    }
    switch (source.kind) {
      case TopologySource::Kind::kThisMachine:
        break;
      case TopologySource::Kind::kXmlFile:
        if (hwloc_topology_set_xml(topology_, source.text.c_str()) != 0) {
          return NoXml(source);
        }
        break;
      case TopologySource::Kind::kSynthetic:
        if (hwloc_topology_set_synthetic(topology_, source.text.c_str()) != 0) {
          return InvalidArgument("topology \"", source.text, "\" is no description of hwloc's");
        }
        break;
    }
    // Caches stay, though nobody reads them: hwloc loses the place of a node that is attached to
    // one that it leaves out.
    hwloc_topology_set_io_types_filter(
        topology_,
        source.with_devices ? HWLOC_TYPE_FILTER_KEEP_IMPORTANT : HWLOC_TYPE_FILTER_KEEP_NONE);
    if (hwloc_topology_load(topology_) != 0) {
      return source.kind == TopologySource::Kind::kXmlFile
                 ? NoXml(source)
                 : Status(StatusCode::kUnsupported, "hwloc does not see this machine");
    }
    if (source.kind == TopologySource::Kind::kThisMachine &&
        hwloc_topology_is_thissystem(topology_) == 0) {
      return Unsupported("hwloc's environment variables describe another machine");
    }
    return Status::Ok();
  }

  // A node is a host's when it is the nearest of some CPU: the nodes with the fewest CPUs first, of
  // these the lowest number, which is how the system numbers ordinary memory.
  void ReadNodes(Topology* out) const {
    std::vector<hwloc_obj_t> found;
    hwloc_obj_t next = nullptr;
    while ((next = hwloc_get_next_obj_by_type(topology_, HWLOC_OBJ_NUMANODE, next)) != nullptr) {
      found.push_back(next);
    }
    const auto order = [](hwloc_obj_t node) {
      return std::pair(hwloc_bitmap_weight(node->complete_cpuset), node->os_index);
    };
    std::sort(found.begin(), found.end(), [&](hwloc_obj_t a, hwloc_obj_t b) {
      return order(a) < order(b);
    });
    const std::vector<Cpu> cpus = ReadCpus();
    const Bitmap have_node;
    for (const hwloc_obj_t node : found) {
      if (node->attr->numanode.local_memory == 0 && found.size() > 1) {
        continue;
      }
      if (hwloc_bitmap_isincluded(node->complete_cpuset, have_node.get()) != 0) {
        continue;
      }
      NumaNode host = {static_cast<int>(node->os_index), node->attr->numanode.local_memory, {}};
      std::copy_if(cpus.begin(), cpus.end(), std::back_inserter(host.cpus), [&](const Cpu& cpu) {
        return hwloc_bitmap_isset(node->cpuset, cpu.number) != 0 &&
               hwloc_bitmap_isset(have_node.get(), cpu.number) == 0;
      });
      hwloc_bitmap_or(have_node.get(), have_node.get(), node->complete_cpuset);
      out->nodes_.push_back(std::move(host));
    }
    if (out->nodes_.empty()) {
      out->nodes_.push_back({0, 0, cpus});
    }
    std::sort(out->nodes_.begin(), out->nodes_.end(), [](const NumaNode& a, const NumaNode& b) {
      return a.number < b.number;
    });
  }

  void ReadDevices(Topology* out) const {
    hwloc_obj_t device = nullptr;
    while ((device = hwloc_get_next_pcidev(topology_, device)) != nullptr) {
      out->devices_[PciAddress(device->attr->pcidev)] = NodeNextTo(device, *out);
    }
    device = nullptr;
    while ((device = hwloc_get_next_osdev(topology_, device)) != nullptr) {
      if (device->name != nullptr) {
        out->devices_[Lower(device->name)] = NodeNextTo(device, *out);
      }
    }
  }

 private:
  static Status NoXml(const TopologySource& source) {
    return {StatusCode::kIoError,
            StrCat("topology \"", source.text, "\" is no XML file of hwloc's")};
  }

  // All that the process may use.
  std::vector<Cpu> ReadCpus() const {
    std::vector<Cpu> cpus;
    for (const uint32_t number : NumbersOf(hwloc_topology_get_topology_cpuset(topology_))) {
      cpus.push_back({number, CoreKind::kPerformance});
    }
    const int count = std::max(hwloc_cpukinds_get_nr(topology_, 0), 0);
    std::vector<Kind> kinds(static_cast<size_t>(count));
    std::vector<std::vector<uint32_t>> members(kinds.size());
    uint64_t fastest = 0;
    for (size_t i = 0; i < kinds.size(); ++i) {
      const Bitmap set;
      unsigned num_infos = 0;
      hwloc_info_s* infos = nullptr;
      if (hwloc_cpukinds_get_info(
              topology_, static_cast<unsigned>(i), set.get(), nullptr, &num_infos, &infos, 0) ==
          0) {
        kinds[i] = KindOf(infos, num_infos);
        members[i] = NumbersOf(set.get());
        fastest = std::max(fastest, kinds[i].speed);
      }
    }
    for (size_t i = 0; i < kinds.size(); ++i) {
      const bool slow = kinds[i].speed != 0 && kinds[i].speed * 100 < fastest * kEfficiencyPercent;
      if (!slow && !kinds[i].is_atom) {
        continue;
      }
      for (Cpu& cpu : cpus) {
        if (std::binary_search(members[i].begin(), members[i].end(), cpu.number)) {
          cpu.kind = CoreKind::kEfficiency;
        }
      }
    }
    return cpus;
  }

  int NodeNextTo(hwloc_obj_t device, const Topology& out) const {
    const hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology_, device);
    int node = device::HostMemory::kAnyNode;
    for (const NumaNode& host : out.nodes_) {
      if (hwloc_bitmap_isset(place->nodeset, static_cast<unsigned>(host.number)) == 0) {
        continue;
      }
      if (node != device::HostMemory::kAnyNode) {
        return device::HostMemory::kAnyNode;
      }
      node = host.number;
    }
    return node;
  }

  hwloc_topology_t topology_ = nullptr;
};

Result<Topology> Topology::Load(const TopologySource& source) {
  TopologyReader reader;
  HIPATTN_RETURN_IF_ERROR(reader.Open(source));
  Topology topology;
  reader.ReadNodes(&topology);
  reader.ReadDevices(&topology);
  return topology;
}

Topology Topology::OfOneNode() {
  Topology topology;
  topology.nodes_.push_back({0, 0, {}});
  return topology;
}

uint32_t Topology::num_cpus(CoreKind kind) const {
  size_t count = 0;
  for (const NumaNode& node : nodes_) {
    count += static_cast<size_t>(std::count_if(
        node.cpus.begin(), node.cpus.end(), [&](const Cpu& cpu) { return cpu.kind == kind; }));
  }
  return static_cast<uint32_t>(count);
}

const NumaNode* Topology::FindNode(int number) const {
  const auto found = std::find_if(
      nodes_.begin(), nodes_.end(), [&](const NumaNode& node) { return node.number == number; });
  return found == nodes_.end() ? nullptr : &*found;
}

int Topology::OnlyNode(std::span<const uint32_t> usable_cpus) const {
  for (const NumaNode& node : nodes_) {
    const auto is_here = [&](uint32_t number) {
      return std::any_of(
          node.cpus.begin(), node.cpus.end(), [&](const Cpu& cpu) { return cpu.number == number; });
    };
    if (!usable_cpus.empty() && std::all_of(usable_cpus.begin(), usable_cpus.end(), is_here)) {
      return node.number;
    }
  }
  return device::HostMemory::kAnyNode;
}

int Topology::NodeOf(std::string_view device) const {
  const auto found = devices_.find(Lower(device));
  return found == devices_.end() ? device::HostMemory::kAnyNode : found->second;
}

}  // namespace hipattn::host
