// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Tags of the stored element types, by which kernels are templates and the vector layer's loads and
// stores are chosen.
#ifndef HIPATTN_HOST_VEC_ELEMENTS_H_
#define HIPATTN_HOST_VEC_ELEMENTS_H_

#include <cstdint>

namespace hipattn::host::HIPATTN_ISA {

struct F32 {
  using Elem = float;
};
struct F16 {
  using Elem = uint16_t;
};
struct Bf16 {
  using Elem = uint16_t;
};

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_VEC_ELEMENTS_H_
