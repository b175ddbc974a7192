// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What Linux says this process has in memory, mapped ranges included.
#ifndef HIPATTN_TESTS_SUPPORT_RESIDENT_MEMORY_H_
#define HIPATTN_TESTS_SUPPORT_RESIDENT_MEMORY_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>

namespace hipattn::testing {

// A line of /proc/self/status, such as VmHWM, in bytes.
inline int64_t MemoryStatus(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) {
      return std::stoll(line.substr(name.size() + 1)) * 1024;
    }
  }
  ADD_FAILURE() << "/proc/self/status has no " << name;
  return 0;
}

// Bytes in memory now; and the most there were since, which starts anew.
inline int64_t BeginResident() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  EXPECT_TRUE(file.good()) << "the peak does not start anew";
  return MemoryStatus("VmRSS");
}

// The most that was in memory at a time since BeginResident.
inline int64_t MostResident() {
  return MemoryStatus("VmHWM");
}

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_RESIDENT_MEMORY_H_
