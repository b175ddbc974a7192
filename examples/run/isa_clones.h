// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// RUN_FOR_EACH_ISA(name, parameters, arguments) defines the function `name` from an always-inlined
// `nameBody` of plain loops, compiled twice: for the baseline processor and for AVX2 with FMA. The
// call picks what the processor can run.
#ifndef HIPATTN_EXAMPLES_RUN_ISA_CLONES_H_
#define HIPATTN_EXAMPLES_RUN_ISA_CLONES_H_

#include "quant_matvec.h"

#if defined(__x86_64__)
#define RUN_FOR_EACH_ISA(name, parameters, arguments)                          \
  [[gnu::target("avx2,fma,f16c")]] static void name##Avx2 parameters {         \
    name##Body arguments;                                                      \
  }                                                                            \
  void name parameters {                                                       \
    static const bool has_avx2 = ::hipattn_run::IsSupported(MatvecIsa::kAvx2); \
    if (has_avx2) {                                                            \
      return name##Avx2 arguments;                                             \
    }                                                                          \
    name##Body arguments;                                                      \
  }
#else
#define RUN_FOR_EACH_ISA(name, parameters, arguments) \
  void name parameters {                              \
    name##Body arguments;                             \
  }
#endif

#endif  // HIPATTN_EXAMPLES_RUN_ISA_CLONES_H_
