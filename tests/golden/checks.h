// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a golden case runs on, and one function per op of SPEC section 9 that runs a case and
// compares.
#ifndef HIPATTN_TESTS_GOLDEN_CHECKS_H_
#define HIPATTN_TESTS_GOLDEN_CHECKS_H_

#include "base/dtype.h"
#include "device/ops.h"
#include "tests/golden/golden_case.h"

#include <string>

namespace hipattn::golden {

struct Machine {
  const device::OpTable* table;
  device::OpContext context;
  DType kv_dtype;

  // Whether results are held to the tolerance of narrow types.
  bool narrow() const { return kv_dtype != DType::kF32; }
};

using Check = void (*)(const GoldenCase& golden, const Machine& machine);

// Policy alone: neither ops nor a KV type take part.
void CheckPartition(const GoldenCase& golden, const Machine& machine);
void CheckQueryBlocks(const GoldenCase& golden, const Machine& machine);
void CheckScanPositions(const GoldenCase& golden, const Machine& machine);
void CheckAttendPositions(const GoldenCase& golden, const Machine& machine);
void CheckRefreshSchedule(const GoldenCase& golden, const Machine& machine);
void CheckTreeRefresh(const GoldenCase& golden, const Machine& machine);
void CheckProbeCount(const GoldenCase& golden, const Machine& machine);
void CheckTreeCount(const GoldenCase& golden, const Machine& machine);
void CheckValidate(const GoldenCase& golden, const Machine& machine);

// Policy of the sparse prefill.
void CheckConvertLines(const GoldenCase& golden, const Machine& machine);
void CheckSelectLines(const GoldenCase& golden, const Machine& machine);
void CheckSelectBlocks(const GoldenCase& golden, const Machine& machine);
void CheckFallback(const GoldenCase& golden, const Machine& machine);
void CheckNudge(const GoldenCase& golden, const Machine& machine);
void CheckRefine(const GoldenCase& golden, const Machine& machine);
void CheckConfigRead(const GoldenCase& golden, const Machine& machine);

// Ops of the sparse prefill.
void CheckAttendLines(const GoldenCase& golden, const Machine& machine);
void CheckEstimateLines(const GoldenCase& golden, const Machine& machine);
void CheckEstimateBlocks(const GoldenCase& golden, const Machine& machine);

// Policy and ops of the sparse prefill together.
void CheckPrefill(const GoldenCase& golden, const Machine& machine);
void CheckPatternSearch(const GoldenCase& golden, const Machine& machine);

// One op.
void CheckMerge(const GoldenCase& golden, const Machine& machine);
void CheckRope(const GoldenCase& golden, const Machine& machine);
void CheckAttend(const GoldenCase& golden, const Machine& machine);
void CheckTreeSummaries(const GoldenCase& golden, const Machine& machine);

// Walks, plans and ops together.
void CheckAttendLeaves(const GoldenCase& golden, const Machine& machine);
void CheckSearch(const GoldenCase& golden, const Machine& machine);
void CheckTreeSearch(const GoldenCase& golden, const Machine& machine);
void CheckHipAttention(const GoldenCase& golden, const Machine& machine);
void CheckDecode(const GoldenCase& golden, const Machine& machine);
void CheckTreeAttention(const GoldenCase& golden, const Machine& machine);
void CheckTreeDecode(const GoldenCase& golden, const Machine& machine);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_CHECKS_H_
