// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Which tables of ops this CPU can run. Each kernels object defines Table() in the namespace of its
// instruction set; HIPATTN_HAS_<set> says that the build compiled it.
#include "device/registry.h"
#include "host/ref/reference_table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstddef>

namespace hipattn::host {
namespace portable {
const device::OpTable* Table();
}  // namespace portable
#if defined(HIPATTN_HAS_avx2)
namespace avx2 {
const device::OpTable* Table();
}  // namespace avx2
#endif
#if defined(HIPATTN_HAS_avx512)
namespace avx512 {
const device::OpTable* Table();
}  // namespace avx512
#endif
#if defined(HIPATTN_HAS_avx512bf16)
namespace avx512bf16 {
const device::OpTable* Table();
}  // namespace avx512bf16
#endif
}  // namespace hipattn::host

namespace hipattn::device {
namespace {

struct TableList {
  const OpTable* tables[5] = {};
  size_t count = 0;

  void Add(const OpTable* table) { tables[count++] = table; }
};

#if defined(HIPATTN_HAS_avx2)
// clang does not know the name "f16c" (16 and earlier).
bool HasF16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

#if defined(HIPATTN_HAS_avx512) || defined(HIPATTN_HAS_avx512bf16)
// x86-64-v4.
bool HasV4() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

TableList FindTables() {
  TableList list;
  list.Add(&host::ReferenceOps());
#if defined(__x86_64__)
  __builtin_cpu_init();
#endif
  list.Add(host::portable::Table());
#if defined(HIPATTN_HAS_avx2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c()) {
    list.Add(host::avx2::Table());
  }
#endif
#if defined(HIPATTN_HAS_avx512)
  if (HasV4()) {
    list.Add(host::avx512::Table());
  }
#endif
#if defined(HIPATTN_HAS_avx512bf16)
  if (HasV4() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
    list.Add(host::avx512bf16::Table());
  }
#endif
  return list;
}

}  // namespace

std::span<const OpTable* const> CpuOpTables() {
  static const TableList list = FindTables();
  return {list.tables, list.count};
}

}  // namespace hipattn::device
