// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/pattern/flex_select.h"

#include "core/pattern/own_blocks.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

namespace hipattn::core {
namespace {

std::vector<float> Pooled(std::span<const float> sums, uint32_t block_tokens) {
  constexpr size_t kSide = 4;  // blocks side by side: each addition to one sum waits for the last
  std::vector<float> pooled;
  size_t begin = 0;
  for (; begin + kSide * block_tokens <= sums.size(); begin += kSide * block_tokens) {
    double side[kSide] = {};
    for (size_t i = begin; i < begin + block_tokens; ++i) {
      for (size_t block = 0; block < kSide; ++block) {
        side[block] += sums[i + block * block_tokens];
      }
    }
    for (const double sum : side) {
      pooled.push_back(static_cast<float>(sum));
    }
  }
  for (; begin < sums.size(); begin += block_tokens) {
    double sum = 0.0;
    for (size_t i = begin; i < std::min(begin + block_tokens, sums.size()); ++i) {
      sum += sums[i];
    }
    pooled.push_back(static_cast<float>(sum));
  }
  return pooled;
}

void Softmax(std::span<const float> scores, std::vector<double>* shares) {
  const float most = *std::max_element(scores.begin(), scores.end());
  shares->clear();
  double sum = 0.0;
  for (const float score : scores) {
    shares->push_back(std::exp(double{score} - most));
    sum += shares->back();
  }
  for (double& share : *shares) {
    share /= sum;
  }
}

// x ln(x / m), 0 where x is.
double Term(double x, double m) {
  return x > 0.0 ? x * std::log(x / m) : 0.0;
}

double Divergence(std::span<const double> p, std::span<const float> sums, double total) {
  double divergence = 0.0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double q = sums[i] / total;
    const double middle = (p[i] + q) / 2;
    divergence += Term(p[i], middle) + Term(q, middle);
  }
  return std::sqrt(std::max(divergence / 2, 0.0));  // rounding can make it negative
}

// Blocks of lines that hold the share gamma of the mass.
uint32_t NumBlocks(std::span<const float> sums, uint32_t probe_rows, const FlexOptions& options) {
  std::vector<float> values(sums.begin(), sums.end());
  const double most = options.gamma * probe_rows;
  const size_t lines = CountWhile(&values, [=](double sum) { return sum <= most; });
  const auto blocks = static_cast<uint32_t>((1 + lines) / options.block_tokens) + 1;
  return std::min(std::max(blocks, options.min_blocks), options.max_blocks);
}

// The best `count` of pooled sums, the first among them.
std::vector<int32_t> Best(std::span<const float> sums,
                          uint32_t block_tokens,
                          uint32_t count,
                          TopScores* scratch) {
  std::vector<int32_t> kept;
  scratch->Load(Pooled(sums, block_tokens));
  scratch->Force(0, 1);
  scratch->Keep(std::max(count, 1U), &kept);
  return kept;
}

// Marks [query blocks][key blocks] of the causal map's largest entries, until they hold gamma of
// it.
void AddBestBlocks(const PrefillShape& shape,
                   std::span<const float> scores,
                   const FlexOptions& options,
                   TopScores* scratch,
                   std::vector<std::vector<int32_t>>* lists) {
  const uint32_t num_keys = NumKeyBlocks(shape, options.block_tokens);
  std::vector<float> map;
  std::vector<size_t> row_ends;
  std::vector<double> shares;
  for (uint32_t m = 0; m < lists->size(); ++m) {
    const uint32_t seen = OwnBlocksOf(shape, m, options.block_tokens).last + 1;
    Softmax(scores.subspan(size_t{m} * num_keys, seen), &shares);
    map.insert(map.end(), shares.begin(), shares.end());
    row_ends.push_back(map.size());
  }
  const double most = options.gamma * static_cast<double>(lists->size());
  scratch->Load(map);
  const size_t below = CountWhile(&map, [=](double sum) { return sum <= most; });
  std::vector<int32_t> kept;
  scratch->Keep(static_cast<uint32_t>(below) + 1, &kept);
  size_t m = 0;
  for (const int32_t place : kept) {
    while (static_cast<size_t>(place) >= row_ends[m]) {
      ++m;
    }
    const size_t begin = m == 0 ? 0 : row_ends[m - 1];
    (*lists)[m].push_back(place - static_cast<int32_t>(begin));
  }
}

}  // namespace

FlexBudget PlanFlex(const PrefillShape& shape,
                    const FlexEstimate& estimate,
                    const FlexOptions& options) {
  const uint32_t num_keys = NumKeyBlocks(shape, options.block_tokens);
  if (shape.kv_len <= 2 * options.block_tokens) {
    return {num_keys, num_keys, false, 0.0};
  }
  std::vector<double> guess;
  Softmax(estimate.probe_scores, &guess);
  const double divergence =
      Divergence(guess, Pooled(estimate.vertical, options.block_tokens), estimate.probe_rows);
  if (divergence < options.tau) {
    return {options.min_blocks, options.min_blocks, true, divergence};
  }
  return {NumBlocks(estimate.vertical, estimate.probe_rows, options),
          NumBlocks(estimate.slash, estimate.probe_rows, options),
          false,
          divergence};
}

FlexLines PickFlexLines(const FlexEstimate& estimate,
                        const FlexBudget& budget,
                        const FlexOptions& options,
                        TopScores* scratch) {
  return {Best(estimate.vertical, options.block_tokens, budget.vertical_blocks, scratch),
          Best(estimate.slash, options.block_tokens, budget.slash_blocks, scratch)};
}

BlockLists SelectFlex(const PrefillShape& shape,
                      const FlexLines& lines,
                      std::span<const float> block_scores,
                      const FlexOptions& options,
                      TopScores* scratch) {
  std::vector<std::vector<int32_t>> chosen(NumQueryBlocks(shape, options.block_tokens));
  if (!block_scores.empty()) {
    AddBestBlocks(shape, block_scores, options, scratch, &chosen);
  }
  BlockLists kept;
  kept.block_tokens = options.block_tokens;
  kept.tiles_per_list = options.block_tokens / kRowTile;
  for (uint32_t m = 0; m < chosen.size(); ++m) {
    const OwnBlocks own = OwnBlocksOf(shape, m, options.block_tokens);
    const auto last = static_cast<int32_t>(own.last);
    std::vector<int32_t>& list = chosen[m];
    list.push_back(static_cast<int32_t>(own.first));
    std::copy_if(
        lines.columns.begin(), lines.columns.end(), std::back_inserter(list), [=](int32_t column) {
          return column <= last;
        });
    for (const int32_t offset : lines.offsets) {
      if (offset <= last) {
        list.push_back(last - offset);
      }
    }
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    kept.blocks.insert(kept.blocks.end(), list.begin(), list.end());
    kept.EndList();
  }
  return kept;
}

}  // namespace hipattn::core
