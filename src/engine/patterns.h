// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Pattern files: what each q head of a model attends in a sparse prefill, as MInference publishes
// it (arXiv 2407.02490; prefill SPEC 8.7 to 8.10). An array with one object per layer; its keys are
// the model's q heads in decimal, its values [type, size, size, score]:
//
//   "vertical_and_slash": verticals, slashes   "stream_llm": sinks, window
//   "block_sparse": both sizes are checked and kept, and mean nothing: 100 blocks per row tile
//
// Where heads are shared out among engines, a file is still that of the whole model, and each
// engine looks up its own (first_q_head).
//
// Sizes are integer literals from 0 to 2^24, the score any finite number. Fewer layers than the
// model has are a search that was interrupted; missing layers and heads are vertical-slash (1000,
// 6096). JSON to the letter: UTF-8 without a byte order mark, nothing behind the array.
#ifndef HIPATTN_ENGINE_PATTERNS_H_
#define HIPATTN_ENGINE_PATTERNS_H_

#include "base/result.h"
#include "base/status.h"
#include "core/pattern/pattern_table.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hipattn::engine {

// Why a text is no pattern file. Where it has several faults: no JSON before all others, else the
// first of the text.
enum class PatternFault {
  kNoFault,
  kSyntax,
  kNotArray,
  kTooManyLayers,
  kLayerNotObject,
  kBadHeadKey,      // not a decimal number from 0 to 65535, or written in another way
  kHeadOutOfRange,  // not below num_heads
  kDuplicateHead,   // twice in one layer
  kEntryShape,      // not an array of 4
  kBadType,
  kBadBudget,  // a size that is no integer literal, or negative
  kBudgetTooLarge,
  kBadScore,
};

// "syntax", "not_array", "too_many_layers" and so on: the codes of SPEC 8.9.
const char* PatternFaultName(PatternFault fault);

// What the file may hold; absent: any number of layers, heads up to 65535.
struct PatternLimits {
  std::optional<uint32_t> num_layers;
  std::optional<uint32_t> num_heads;
};

// kMismatch: more layers or heads than there may be. kCorrupt: every other fault. The message has
// the fault's name, layer, head and field; *fault is set, too, when it is given.
Result<core::PatternTable> ParsePatterns(std::string_view text,
                                         const PatternLimits& limits,
                                         PatternFault* fault = nullptr);

// One layer per line, heads ascending. Parsing it gives the same table. REQUIRES: heads up to
// 65535, sizes up to 2^24, finite scores.
std::string PatternText(const core::PatternTable& patterns);

// From and to a file, as ReadJsonFile and WriteJsonFile.
Result<core::PatternTable> ReadPatterns(const std::string& path, const PatternLimits& limits);
Status WritePatterns(const std::string& path, const core::PatternTable& patterns);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_PATTERNS_H_
