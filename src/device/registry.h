// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Who builds a device. CreateCpuDevice is defined in src/host. No static registration: a static
// library would drop it.
#ifndef HIPATTN_DEVICE_REGISTRY_H_
#define HIPATTN_DEVICE_REGISTRY_H_

#include "base/result.h"
#include "device/device.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace hipattn::device {

struct CpuDeviceOptions {
  uint32_t num_threads = 0;  // 0 = CPUs the process may use (affinity and cgroup quota)
  std::string_view instruction_set = {};  // "portable", "avx2", ...; empty = the best this CPU has
};

// kUnsupported when this CPU has no instruction set of that name.
Result<std::unique_ptr<Device>> CreateCpuDevice(const CpuDeviceOptions& options);

// The tables this CPU can run, slowest first; "portable" is always there, behind the plain loops of
// "reference".
std::span<const OpTable* const> CpuOpTables();

}  // namespace hipattn::device

#endif  // HIPATTN_DEVICE_REGISTRY_H_
