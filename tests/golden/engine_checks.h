// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Golden texts through the engine itself, held to what walks, plans and ops give when put together
// by hand.
#ifndef HIPATTN_TESTS_GOLDEN_ENGINE_CHECKS_H_
#define HIPATTN_TESTS_GOLDEN_ENGINE_CHECKS_H_

#include "tests/golden/attend_block.h"
#include "tests/golden/checks.h"

namespace hipattn::golden {

// Whether the engine's options can say what a tree_attention or tree_decode case asks for, but for
// the form of summaries and the beam.
bool EngineRuns(const GoldenCase& golden);

// Those two as well, so that the case's expected arrays are the engine's.
bool EngineHasTheRulesOf(const GoldenCase& golden);

// want, want_blocks: of the engine's rules (TreeSearch::UseEngineRules), one list per step and kv
// head.
void CheckThroughEngine(const GoldenCase& golden,
                        const Machine& machine,
                        const Outputs& want,
                        const Lists& want_attended);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_ENGINE_CHECKS_H_
