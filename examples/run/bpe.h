// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Byte-pair merging: a row of symbols is shortened by always joining the neighbours whose pair has
// the lowest rank, the leftmost of equals first, until no neighbours form a known pair.
// O(n log n) by a heap over a linked list, so a word of a megabyte is no problem.
#ifndef HIPATTN_EXAMPLES_RUN_BPE_H_
#define HIPATTN_EXAMPLES_RUN_BPE_H_

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace hipattn_run {

struct Merge {
  double rank;     // lower joins earlier
  int32_t result;  // the symbol that replaces the pair
};

class MergeTable {
 public:
  // The first entry of a pair stays.
  void Add(int32_t left, int32_t right, Merge merge) { merges_.emplace(Key(left, right), merge); }
  const Merge* Find(int32_t left, int32_t right) const {
    const auto found = merges_.find(Key(left, right));
    return found == merges_.end() ? nullptr : &found->second;
  }

 private:
  static uint64_t Key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) |
           static_cast<uint32_t>(right);
  }
  std::unordered_map<uint64_t, Merge> merges_;
};

// Shortens `symbols` in place.
void MergeSymbols(const MergeTable& table, std::vector<int32_t>* symbols);

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_BPE_H_
