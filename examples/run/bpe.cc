// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "bpe.h"

#include <cstddef>
#include <queue>

namespace hipattn_run {
namespace {

constexpr int32_t kGone = -1;

struct Candidate {
  double rank;
  size_t left;
  size_t right;
  int32_t left_symbol;  // what the pair was when it was found: stale if it changed since
  int32_t right_symbol;
  int32_t result;

  // std::priority_queue keeps the greatest on top.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

class Merger {
 public:
  Merger(const MergeTable& table, std::vector<int32_t>* symbols)
      : table_(table), symbols_(*symbols), next_(symbols->size()), previous_(symbols->size()) {}

  void Run() {
    for (size_t i = 0; i < symbols_.size(); ++i) {
      previous_[i] = i - 1;  // wraps to kNone for the first
      next_[i] = i + 1 < symbols_.size() ? i + 1 : kNone;
    }
    for (size_t i = 0; i + 1 < symbols_.size(); ++i) {
      Push(i, i + 1);
    }
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      if (symbols_[top.left] == top.left_symbol && symbols_[top.right] == top.right_symbol &&
          next_[top.left] == top.right) {
        Join(top);
      }
    }
    std::erase(symbols_, kGone);
  }

 private:
  static constexpr size_t kNone = static_cast<size_t>(-1);

  void Push(size_t left, size_t right) {
    const Merge* merge = table_.Find(symbols_[left], symbols_[right]);
    if (merge != nullptr) {
      heap_.push({merge->rank, left, right, symbols_[left], symbols_[right], merge->result});
    }
  }

  void Join(const Candidate& pair) {
    symbols_[pair.left] = pair.result;
    symbols_[pair.right] = kGone;
    next_[pair.left] = next_[pair.right];
    if (next_[pair.left] != kNone) {
      previous_[next_[pair.left]] = pair.left;
      Push(pair.left, next_[pair.left]);
    }
    if (previous_[pair.left] != kNone) {
      Push(previous_[pair.left], pair.left);
    }
  }

  const MergeTable& table_;
  std::vector<int32_t>& symbols_;
  std::vector<size_t> next_;
  std::vector<size_t> previous_;
  std::priority_queue<Candidate> heap_;
};

}  // namespace

void MergeSymbols(const MergeTable& table, std::vector<int32_t>* symbols) {
  Merger(table, symbols).Run();
}

}  // namespace hipattn_run
