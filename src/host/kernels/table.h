// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The tables of ops of all instruction sets that kernels are built for. Only the portable one
// exists on every architecture and may be used on every CPU; src/host/cpu_device.cc asks the CPU
// before it hands out another.
#ifndef HIPATTN_HOST_KERNELS_TABLE_H_
#define HIPATTN_HOST_KERNELS_TABLE_H_

#include "device/ops.h"

namespace hipattn::host {

namespace portable {
const device::OpTable* Table();
}  // namespace portable
namespace avx2 {  // AVX2, FMA, F16C
const device::OpTable* Table();
}  // namespace avx2
namespace avx512 {  // x86-64-v4
const device::OpTable* Table();
}  // namespace avx512
namespace avx512bf16 {  // x86-64-v4, AVX512-BF16 and AVX512-VNNI
const device::OpTable* Table();
}  // namespace avx512bf16

}  // namespace hipattn::host

#endif  // HIPATTN_HOST_KERNELS_TABLE_H_
