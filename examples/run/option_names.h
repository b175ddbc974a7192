// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// How programs call the library's settings, on command lines and in files.
#ifndef HIPATTN_EXAMPLES_RUN_OPTION_NAMES_H_
#define HIPATTN_EXAMPLES_RUN_OPTION_NAMES_H_

#include "hipattn/hipattn.h"

#include <cstdint>

namespace hipattn_run {

struct OptionName {
  const char* name;
  uint32_t value;
};

inline constexpr OptionName kDecodeModeNames[] = {
    {"auto", HIPATTN_DECODE_AUTO},
    {"dense", HIPATTN_DECODE_DENSE},
    {"sparse", HIPATTN_DECODE_SPARSE},
};

// Without the library's default.
inline constexpr OptionName kScorerNames[] = {
    {"representative", HIPATTN_SCORER_REPRESENTATIVE},
    {"mean", HIPATTN_SCORER_MEAN},
    {"bounds", HIPATTN_SCORER_BOUNDS},
    {"cuboid-mean", HIPATTN_SCORER_CUBOID_MEAN},
    {"exact", HIPATTN_SCORER_EXACT},
    {"first", HIPATTN_SCORER_FIRST},
    {"last", HIPATTN_SCORER_LAST},
};

inline constexpr OptionName kPrefillModeNames[] = {
    {"auto", HIPATTN_PREFILL_AUTO},
    {"dense", HIPATTN_PREFILL_DENSE},
    {"a-shape", HIPATTN_PREFILL_A_SHAPE},
    {"vertical-slash", HIPATTN_PREFILL_VERTICAL_SLASH},
    {"block-sparse", HIPATTN_PREFILL_BLOCK_SPARSE},
    {"hip", HIPATTN_PREFILL_HIP},
    {"patterns", HIPATTN_PREFILL_PATTERNS},
    {"flex", HIPATTN_PREFILL_FLEX},
    {"xattention", HIPATTN_PREFILL_XATTENTION},
    {"flash-v2", HIPATTN_PREFILL_FLASH_V2},
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_OPTION_NAMES_H_
