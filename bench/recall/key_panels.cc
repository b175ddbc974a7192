// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "key_panels.h"

#include "isa_clones.h"
#include "quant_formats.h"
#include "vector_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>

namespace recall_bench {
namespace {

using hipattn_run::MatvecIsa;  // of RUN_FOR_EACH_ISA
constexpr size_t kLanes = hipattn_run::kPanelLanes;
// Half a panel: wider vectors than the instruction set has are taken apart in memory.
constexpr size_t kWidth = kLanes / 2;
using Halves = uint16_t __attribute__((vector_size(kWidth * sizeof(uint16_t))));
using Words = uint32_t __attribute__((vector_size(kWidth * sizeof(uint32_t))));
using Floats = float __attribute__((vector_size(kWidth * sizeof(float))));

// The heads' sums stay in registers while a panel's keys are read once for all of them.
template <size_t kHeads>
RUN_INLINE void ScoreHeads(const uint16_t* keys,
                           size_t panels,
                           size_t head_dim,
                           const float* q,
                           float scale,
                           float* scores,
                           size_t stride) {
  for (size_t p = 0; p < panels; ++p) {
    Floats sums[kHeads][2] = {};
    for (size_t d = 0; d < head_dim; ++d) {
      for (size_t side = 0; side < 2; ++side) {
        Halves halves;
        std::memcpy(&halves, keys + (p * head_dim + d) * kLanes + side * kWidth, sizeof(halves));
        const Words words = __builtin_convertvector(halves, Words) << 16;
        Floats k;
        std::memcpy(&k, &words, sizeof(k));
        for (size_t n = 0; n < kHeads; ++n) {
          sums[n][side] += k * q[n * head_dim + d];
        }
      }
    }
    for (size_t n = 0; n < kHeads; ++n) {
      for (size_t side = 0; side < 2; ++side) {
        const Floats scaled = sums[n][side] * scale;
        std::memcpy(scores + n * stride + p * kLanes + side * kWidth, &scaled, sizeof(scaled));
      }
    }
  }
}

struct ScoreJob {
  const uint16_t* keys;
  size_t panels;
  size_t head_dim;
  const float* q;
  size_t num_q;
  float scale;
  float* scores;
  size_t stride;
};

RUN_INLINE void ScorePanelsBody(const ScoreJob& job) {
  constexpr size_t kMaxHeads = 4;
  for (size_t n = 0; n < job.num_q; n += kMaxHeads) {
    const float* const q = job.q + n * job.head_dim;
    float* const scores = job.scores + n * job.stride;
    const auto score = [&](auto heads) __attribute__((always_inline)) {
      ScoreHeads<decltype(heads)::value>(
          job.keys, job.panels, job.head_dim, q, job.scale, scores, job.stride);
    };
    switch (std::min(kMaxHeads, job.num_q - n)) {
      case 1:
        score(std::integral_constant<size_t, 1>());
        break;
      case 2:
        score(std::integral_constant<size_t, 2>());
        break;
      case 3:
        score(std::integral_constant<size_t, 3>());
        break;
      default:
        score(std::integral_constant<size_t, kMaxHeads>());
    }
  }
}

RUN_FOR_EACH_ISA(ScorePanels, (const ScoreJob& job), (job))

size_t PanelsOf(size_t tokens) {
  return (tokens + kLanes - 1) / kLanes;
}

}  // namespace

uint16_t RoundToBfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::isnan(value)) {
    return static_cast<uint16_t>((bits >> 16) | 0x40U);
  }
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

float WidenBfloat16(uint16_t bits) {
  return hipattn_run::Bfloat16ToFloat(bits);
}

KeyPanels::KeyPanels(size_t num_layers, size_t num_kv_heads, size_t head_dim, size_t max_tokens)
    : num_kv_heads_(num_kv_heads),
      head_dim_(head_dim),
      max_panels_(PanelsOf(max_tokens)),
      lengths_(num_layers),
      keys_(num_layers * num_kv_heads * max_panels_ * head_dim * kLanes) {}

void KeyPanels::Append(size_t layer, const float* k, size_t num_tokens) {
  for (size_t t = 0; t < num_tokens; ++t) {
    const size_t position = lengths_[layer] + t;
    for (size_t head = 0; head < num_kv_heads_; ++head) {
      uint16_t* const lane =
          keys_.data() + PanelAt(layer, head, position / kLanes) + position % kLanes;
      const float* const key = k + (t * num_kv_heads_ + head) * head_dim_;
      for (size_t d = 0; d < head_dim_; ++d) {
        lane[d * kLanes] = RoundToBfloat16(key[d]);
      }
    }
  }
  lengths_[layer] += num_tokens;
}

void KeyPanels::Truncate(size_t num_tokens) {
  for (size_t& length : lengths_) {
    length = std::min(length, num_tokens);
  }
}

void KeyPanels::Read(size_t layer, size_t begin, size_t end, float* k) const {
  for (size_t t = begin; t < end; ++t) {
    for (size_t head = 0; head < num_kv_heads_; ++head) {
      const uint16_t* const lane = keys_.data() + PanelAt(layer, head, t / kLanes) + t % kLanes;
      for (size_t d = 0; d < head_dim_; ++d) {
        *k++ = WidenBfloat16(lane[d * kLanes]);
      }
    }
  }
}

void KeyPanels::Score(size_t layer,
                      size_t kv_head,
                      const float* q,
                      size_t num_q,
                      float scale,
                      float* scores,
                      size_t stride) const {
  ScorePanels({keys_.data() + PanelAt(layer, kv_head, 0),
               PanelsOf(lengths_[layer]),
               head_dim_,
               q,
               num_q,
               scale,
               scores,
               stride});
}

void LayerSoftmax::Compute(const KeyPanels& keys, size_t layer, const float* q, float scale) {
  length_ = keys.length(layer);
  group_ = num_q_heads_ / keys.num_kv_heads();
  const size_t panels = PanelsOf(length_);
  stride_ = panels * kLanes;
  exps_.resize(num_q_heads_ * stride_);
  panel_sums_.resize(num_q_heads_ * panels);
  for (size_t kv_head = 0; kv_head < keys.num_kv_heads(); ++kv_head) {
    keys.Score(layer,
               kv_head,
               q + kv_head * group_ * keys.head_dim(),
               group_,
               scale,
               exps_.data() + kv_head * group_ * stride_,
               stride_);
  }
  for (size_t n = 0; n < num_q_heads_; ++n) {
    float* const scores = exps_.data() + n * stride_;
    float* const sums = panel_sums_.data() + n * panels;
    const float greatest = *std::max_element(scores, scores + length_);
    hipattn_run::ExpOfPanels(scores, panels, greatest, sums);
    if (length_ % kLanes != 0) {
      std::fill(scores + length_, scores + stride_, 0.0F);
      sums[panels - 1] = std::accumulate(scores + (panels - 1) * kLanes, scores + length_, 0.0F);
    }
    heads_[n].sum = std::accumulate(sums, sums + panels, 0.0);
    heads_[n].lse = static_cast<double>(greatest) + std::log(heads_[n].sum);
  }
}

double LayerSoftmax::Sum(size_t q_head, size_t begin, size_t end) const {
  end = std::min(end, length_);
  const float* const exps = exps_.data() + q_head * stride_;
  const float* const sums = panel_sums_.data() + q_head * (stride_ / kLanes);
  double sum = 0;
  while (begin < end) {
    if (begin % kLanes == 0 && begin + kLanes <= end) {
      sum += static_cast<double>(sums[begin / kLanes]);
      begin += kLanes;
    } else {
      sum += static_cast<double>(exps[begin++]);
    }
  }
  return sum;
}

double LayerSoftmax::Share(size_t q_head, size_t begin, size_t end) const {
  return Sum(q_head, begin, end) / heads_[q_head].sum;
}

// The best `count` blocks, best first.
std::vector<int32_t> LayerSoftmax::RankBlocks(
    size_t kv_head, size_t begin, size_t end, size_t block_tokens, size_t count) const {
  if (begin >= end) {
    return {};
  }
  const size_t first = begin / block_tokens;
  const size_t last = (end - 1) / block_tokens;
  std::vector<double> score(last - first + 1, -std::numeric_limits<double>::infinity());
  for (size_t n = kv_head * group_; n < (kv_head + 1) * group_; ++n) {
    const double shift = heads_[n].lse - std::log(heads_[n].sum);
    for (size_t b = first; b <= last; ++b) {
      const double sum =
          Sum(n, std::max(begin, b * block_tokens), std::min(end, (b + 1) * block_tokens));
      score[b - first] = std::max(score[b - first], shift + std::log(sum));
    }
  }
  std::vector<int32_t> order(score.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, order.size());
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(order.begin(), middle, order.end(), [&](int32_t a, int32_t b) {
    const double score_a = score[static_cast<size_t>(a)];
    const double score_b = score[static_cast<size_t>(b)];
    return score_a > score_b || (score_a == score_b && a < b);
  });
  order.resize(count);
  for (int32_t& block : order) {
    block += static_cast<int32_t>(first);
  }
  return order;
}

std::vector<int32_t> LayerSoftmax::BestBlocks(
    size_t kv_head, size_t begin, size_t end, size_t block_tokens, size_t count) const {
  std::vector<int32_t> blocks = RankBlocks(kv_head, begin, end, block_tokens, count);
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

size_t LayerSoftmax::BlocksForShare(size_t kv_head,
                                    size_t begin,
                                    size_t end,
                                    size_t block_tokens,
                                    double wanted,
                                    size_t least) const {
  const std::vector<int32_t> blocks = RankBlocks(kv_head, begin, end, block_tokens, length_);
  size_t count = std::min(least, blocks.size());
  for (size_t n = kv_head * group_; n < (kv_head + 1) * group_; ++n) {
    double share = 1 - Share(n, begin, end);
    for (size_t i = 0; i < blocks.size() && (i < count || share < wanted); ++i) {
      const size_t block = static_cast<size_t>(blocks[i]) * block_tokens;
      share += Share(n, std::max(begin, block), std::min(end, block + block_tokens));
      count = std::max(count, i + 1);
    }
  }
  return count;
}

}  // namespace recall_bench
