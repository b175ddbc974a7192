// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The cut of a search: the best `keep` of many scores by (score descending, number ascending), SPEC
// D10. A histogram select over integer keys that order as the scores do: O(n), a few passes, no
// sort.
//
//   keys[i] = OrderedKey(score[i]);            // numbers ascending
//   const Cut cut = selector.Find(keys, keep);
//   kept_count = ApplyCut(cut, keys, numbers, kept);
#ifndef HIPATTN_CORE_SEARCH_TOP_K_H_
#define HIPATTN_CORE_SEARCH_TOP_K_H_

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Keys compare as the scores do; -0 and +0 give the same key (SPEC D9), a NaN gives some key.
inline uint32_t OrderedKey(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0F);  // -0 + 0 is +0
  const uint32_t flip = (bits >> 31) != 0 ? 0xffffffffU : 0x80000000U;
  return bits ^ flip;
}

// Who stays: every key above the threshold, and the first `ties` of the keys equal to it.
struct Cut {
  uint32_t threshold;
  uint32_t ties;
};

// Holds scratch memory, so that a warm selector allocates nothing. One thread at a time.
class CutFinder {
 public:
  // REQUIRES: 0 < keep < keys.size() < 2^32.
  Cut Find(std::span<const uint32_t> keys, uint32_t keep);

 private:
  static constexpr uint32_t kBinBits = 10;  // 4 KB of counters stay in the first-level cache

  std::array<uint32_t, size_t{1} << kBinBits> bins_ = {};
  std::vector<uint32_t> inside_;
};

// Copies the numbers that stay to `kept`, in their order; returns how many. kept has room for one
// more number than stay: the copy does not branch.
uint32_t ApplyCut(const Cut& cut,
                  std::span<const uint32_t> keys,
                  std::span<const int32_t> numbers,
                  int32_t* kept);

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_TOP_K_H_
