// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// MultiplyRows of quant_matvec.h, once per instruction set. Each function needs the processor
// features that IsSupported checks for it.
#ifndef HIPATTN_EXAMPLES_RUN_QUANT_MATVEC_ISA_H_
#define HIPATTN_EXAMPLES_RUN_QUANT_MATVEC_ISA_H_

#include "quant_matvec.h"

namespace hipattn_run {

void MultiplyRowsPortable(const WeightRows& rows, const Activation& x, float* y);
void MultiplyRowsAvx2(const WeightRows& rows, const Activation& x, float* y);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_QUANT_MATVEC_ISA_H_
