// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The cut of a search: the best `keep` of many numbered scores by (score descending, number
// ascending), SPEC D10. A histogram select over integer keys that order as the scores do: O(n), a
// few passes, no sort.
#ifndef HIPATTN_CORE_SEARCH_TOP_K_H_
#define HIPATTN_CORE_SEARCH_TOP_K_H_

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace hipattn::core {

// Keys compare as the scores do; -0 and +0 give the same key (SPEC D9), a NaN gives some key.
inline int32_t OrderedKey(float score) {
  const auto bits = std::bit_cast<int32_t>(score + 0.0F);  // -0 + 0 is +0
  return bits ^ ((bits >> 31) & INT32_MAX);
}

// Holds scratch memory, so that a warm one allocates nothing. One thread at a time.
class TopK {
 public:
  // Sets *kept to the `keep` numbers with the largest keys, in their order; of equal keys the first
  // stay. REQUIRES: 0 < keep < keys.size() = numbers.size() < 2^31.
  void Keep(std::span<const int32_t> keys,
            std::span<const int32_t> numbers,
            uint32_t keep,
            std::vector<int32_t>* kept);

 private:
  // Keys in [first, last] of which `keep` stay; all above stay, too.
  struct Bin {
    int32_t first;
    int32_t last;
    uint32_t keep;
  };
  // Every key above the threshold stays, and the first `ties` of those equal to it.
  struct Cut {
    int32_t threshold;
    uint32_t ties;
  };
  Bin FindBin(std::span<const int32_t> keys, uint32_t keep);
  Cut FindCut(std::span<const int32_t> keys, const Bin& bin);

  std::vector<uint32_t> counts_;
  std::vector<int32_t> keys_;     // of what is not below the first bin
  std::vector<int32_t> numbers_;  // of the same
  std::vector<int32_t> inside_;   // keys of the bin that the cut goes through
};

}  // namespace hipattn::core

#endif  // HIPATTN_CORE_SEARCH_TOP_K_H_
