// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The keys of one text in all layers, as the library stores them (rotated, rounded to bf16), and
// the softmax over all of them: what a selection is judged against. Independent of the library.
//
//   KeyPanels keys(30, 3, 64, 8192);             // layers, kv heads, head_dim, room
//   keys.Append(layer, k, num_tokens);           // k: [num_tokens, kv_heads, head_dim]
//   LayerSoftmax softmax(9);                     // q heads
//   softmax.Compute(keys, layer, q, scale);      // q: [q_heads, head_dim]
//   double mass = softmax.Share(q_head, begin, end);
#ifndef HIPATTN_BENCH_RECALL_KEY_PANELS_H_
#define HIPATTN_BENCH_RECALL_KEY_PANELS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace recall_bench {

uint16_t RoundToBfloat16(float value);  // to nearest, half to even; NaN stays NaN
float WidenBfloat16(uint16_t bits);

class KeyPanels {
 public:
  KeyPanels(size_t num_layers, size_t num_kv_heads, size_t head_dim, size_t max_tokens);

  // k: [num_tokens, num_kv_heads, head_dim], rounded here. Needs room.
  void Append(size_t layer, const float* k, size_t num_tokens);
  // Back to the first num_tokens tokens in every layer.
  void Truncate(size_t num_tokens);
  // Tokens [begin, end) as they were appended, rounded.
  void Read(size_t layer, size_t begin, size_t end, float* k) const;

  size_t length(size_t layer) const { return lengths_[layer]; }
  size_t num_kv_heads() const { return num_kv_heads_; }
  size_t head_dim() const { return head_dim_; }

  // scores[n][t] = scale q_n.k_t of one kv head, q: [num_q, head_dim], rows of scores `stride`
  // apart. Whole panels of 16 tokens are written; scores behind the last token are meaningless.
  void Score(size_t layer,
             size_t kv_head,
             const float* q,
             size_t num_q,
             float scale,
             float* scores,
             size_t stride) const;

 private:
  // Panels of 16 tokens, [head_dim][16]: lane t of row d is dimension d of token t.
  size_t PanelAt(size_t layer, size_t kv_head, size_t panel) const {
    return ((layer * num_kv_heads_ + kv_head) * max_panels_ + panel) * head_dim_ * 16;
  }

  size_t num_kv_heads_;
  size_t head_dim_;
  size_t max_panels_;
  std::vector<size_t> lengths_;
  std::vector<uint16_t> keys_;
};

// Softmax of one step of one layer.
class LayerSoftmax {
 public:
  explicit LayerSoftmax(size_t num_q_heads) : num_q_heads_(num_q_heads), heads_(num_q_heads) {}

  // All keys that `keys` has of the layer; q: [num_q_heads, head_dim].
  void Compute(const KeyPanels& keys, size_t layer, const float* q, float scale);

  size_t length() const { return length_; }
  // Share of the mass of tokens [begin, end), cut to the length.
  double Share(size_t q_head, size_t begin, size_t end) const;
  // Natural log of the sum of exp(score) over all keys.
  double lse(size_t q_head) const { return heads_[q_head].lse; }

  // The `count` blocks that meet [begin, end) with the greatest log-sum-exp over their tokens
  // inside it, maximum over the q heads of the group; ascending. Ties go to the lower block.
  std::vector<int32_t> BestBlocks(
      size_t kv_head, size_t begin, size_t end, size_t block_tokens, size_t count) const;
  // How many of them it takes, at least `least`, until every q head of the group attends the share
  // `wanted` with what is outside [begin, end); all of them where even they do not do.
  size_t BlocksForShare(size_t kv_head,
                        size_t begin,
                        size_t end,
                        size_t block_tokens,
                        double wanted,
                        size_t least) const;

 private:
  struct Head {
    double sum = 0;  // of exp(score - greatest score)
    double lse = 0;
  };
  double Sum(size_t q_head, size_t begin, size_t end) const;
  std::vector<int32_t> RankBlocks(
      size_t kv_head, size_t begin, size_t end, size_t block_tokens, size_t count) const;

  size_t num_q_heads_;
  size_t group_ = 1;
  size_t length_ = 0;
  size_t stride_ = 0;
  std::vector<Head> heads_;
  std::vector<float> exps_;        // [q_heads][stride]: exp(score - greatest), 0 behind the length
  std::vector<float> panel_sums_;  // [q_heads][stride / 16]
};

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_KEY_PANELS_H_
