// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Prefill chunks that attend a mask: A-shape, vertical-slash, block-sparse and patterns per q head
// (MInference, arXiv 2407.02490; tests/golden/reference/minference/SPEC.md), FlexPrefill (arXiv
// 2502.20766), XAttention (arXiv 2503.16428) and FlashPrefill V2 (arXiv 2608.19758).
//
// A few heads at a time, so that memory does not grow with their number: the chunk's last rows are
// estimated, lines or blocks chosen, and each head whose mask is worth it attends it; the others
// attend densely. Estimates belong to the chunk. Masks are made for slices of its rows. Where
// blocks are chosen by their scores, FlexPrefill's are the best of a slice instead of the chunk,
// and whether a mask is worth it is asked slice by slice; else slices change nothing but the size.
#ifndef HIPATTN_ENGINE_MASKED_PREFILL_H_
#define HIPATTN_ENGINE_MASKED_PREFILL_H_

#include "engine/call.h"

namespace hipattn::engine {

// Whether any head of the part's layer may attend a mask; otherwise all attend densely.
bool IsMasked(const Call& call, const Part& part);

// REQUIRES: IsMasked.
Status RunMasked(Call* call, const Part& part);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_MASKED_PREFILL_H_
