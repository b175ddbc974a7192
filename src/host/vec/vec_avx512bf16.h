// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The vector layer (see vec.h) for AVX-512 with BF16 and VNNI: that of AVX-512, compiled for this
// set. vcvtneps2bf16 is not used for stores, because it flushes subnormals.
#ifndef HIPATTN_HOST_VEC_VEC_AVX512BF16_H_
#define HIPATTN_HOST_VEC_VEC_AVX512BF16_H_

#include "host/vec/vec_avx512.h"

#endif  // HIPATTN_HOST_VEC_VEC_AVX512BF16_H_
