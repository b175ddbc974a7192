// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The order of every f32 sum, the choice among equal or NaN operands of minimum and maximum, and
// every rounding are the specification's (SPEC D28-D30): kernels must give the same bits.
#include "host/ref/ref_kv.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace hipattn::host::ref {
namespace {

// [low, high, mean or sum of means], head_dim each.
using Triple = std::vector<float>;

class JobSummary {
 public:
  JobSummary(const device::SummarizeParams& params, const device::SummarizeJob& job)
      : pool_(params.pool),
        scorer_(params.scorer),
        job_(job),
        head_dim_(params.pool.head_dim),
        kept_level_(device::KeptLevel(params.pool.block_tokens)) {}

  void Run() {
    for (uint32_t i = 0; i < job_.num_blocks; ++i) {
      Complete(0, job_.first_block + i, BlockTriple(job_.slots[job_.first_block + i]));
    }
    if (job_.rebuild != 0) {
      RebuildUpperLevels();
    }
  }

 private:
  float* Open(uint32_t level) const { return job_.open + size_t{level - 1} * 3 * head_dim_; }

  Triple BlockTriple(uint32_t slot) const {
    Triple triple(3 * head_dim_);
    std::vector<float> key(head_dim_);
    for (uint32_t token = 0; token < pool_.block_tokens; ++token) {
      ReadToken(pool_, slot, token, key.data(), nullptr);
      Triple child(3 * head_dim_);
      for (uint32_t part = 0; part < 3; ++part) {
        std::copy(key.begin(), key.end(), child.data() + part * head_dim_);
      }
      Fold(child.data(), token == 0, triple.data());
    }
    for (size_t dim = 2 * head_dim_; dim < 3 * head_dim_; ++dim) {
      triple[dim] = triple[dim] / static_cast<float>(pool_.block_tokens);
    }
    return triple;
  }

  void Fold(const float* child, bool is_first, float* open) const {
    for (size_t dim = 0; dim < head_dim_; ++dim) {
      const float low = child[dim];
      const float high = child[head_dim_ + dim];
      const float mean = child[2 * head_dim_ + dim];
      float* open_low = open + dim;
      float* open_high = open_low + head_dim_;
      float* open_sum = open_high + head_dim_;
      *open_low = is_first || low < *open_low ? low : *open_low;
      *open_high = is_first || high > *open_high ? high : *open_high;
      *open_sum = is_first ? mean : *open_sum + mean;
    }
  }

  // Writes what is kept of a complete node and folds it into its parent, which may complete in
  // turn.
  void Complete(uint32_t level, uint32_t node, const Triple& triple) {
    if (job_.rebuild == 0) {
      WriteSummary(level, node, triple);
      if (level >= kept_level_) {
        std::memcpy(
            job_.kept[level - kept_level_][node], triple.data(), 3 * head_dim_ * sizeof(float));
      }
    }
    if (level + 1 == kMaxLevels) {
      return;
    }
    float* open = Open(level + 1);
    Fold(triple.data(), node % kFanOut == 0, open);
    if (node % kFanOut != kFanOut - 1) {
      return;
    }
    Triple parent(open, open + 3 * head_dim_);
    for (size_t dim = 2 * head_dim_; dim < 3 * head_dim_; ++dim) {
      parent[dim] = parent[dim] / static_cast<float>(kFanOut);
    }
    Complete(level + 1, node / kFanOut, parent);
  }

  void RebuildUpperLevels() const {
    uint32_t complete = (job_.first_block + job_.num_blocks) >> (3 * kept_level_);
    for (uint32_t level = kept_level_ + 1; level < kMaxLevels; ++level) {
      const uint32_t first = complete / kFanOut * kFanOut;
      for (uint32_t child = first; child < complete; ++child) {
        Fold(job_.kept[level - 1 - kept_level_][child], child == first, Open(level));
      }
      complete /= kFanOut;
    }
  }

  void WriteSummary(uint32_t level, uint32_t node, const Triple& triple) const {
    std::vector<float> m(head_dim_);
    std::vector<float> w(head_dim_);
    for (size_t dim = 0; dim < head_dim_; ++dim) {
      const float low = triple[dim];
      const float high = triple[head_dim_ + dim];
      const float mean = triple[2 * head_dim_ + dim];
      if (scorer_ == Scorer::kCuboidMean) {
        m[dim] = ((low + high) / 2.0F + mean) / 2.0F;
        w[dim] = (high - low) / 4.0F;
      } else if (scorer_ == Scorer::kBounds) {
        m[dim] = (low + high) / 2.0F;
        w[dim] = (high - low) / 2.0F;
      } else {
        m[dim] = mean;
      }
    }
    if (scorer_ != Scorer::kMean && !ScorerHasSpread(scorer_)) {
      const uint64_t size = uint64_t{pool_.block_tokens} << (3 * level);
      const uint64_t offset = scorer_ == Scorer::kRepresentative ? size / 2
                              : scorer_ == Scorer::kLast         ? size - 1
                                                                 : 0;
      const uint64_t token = node * size + offset;
      ReadToken(pool_,
                job_.slots[token / pool_.block_tokens],
                static_cast<uint32_t>(token % pool_.block_tokens),
                m.data(),
                nullptr);
    }
    const bool has_spread = ScorerHasSpread(scorer_);
    std::byte* group = device::SummaryGroupAddress(
        job_.levels[level], device::SummaryGroupBytes(pool_.head_dim, has_spread), node / kFanOut);
    const uint32_t child = node % kFanOut;
    auto* scales = reinterpret_cast<float*>(group);
    auto* lanes = reinterpret_cast<int8_t*>(group + 2 * kFanOut * sizeof(float));
    std::vector<int8_t> steps(head_dim_);
    scales[child] = Quantize(m, &steps);
    for (size_t dim = 0; dim < head_dim_; ++dim) {
      lanes[device::SummaryPlace(has_spread, 0, child, static_cast<uint32_t>(dim))] = steps[dim];
    }
    scales[kFanOut + child] = has_spread ? Quantize(w, &steps) : scales[child];
    for (size_t dim = 0; has_spread && dim < head_dim_; ++dim) {
      lanes[device::SummaryPlace(true, 1, child, static_cast<uint32_t>(dim))] = steps[dim];
    }
  }

  // SPEC D30; returns the scale. A NaN becomes -127, so that no conversion is undefined.
  static float Quantize(const std::vector<float>& x, std::vector<int8_t>* steps) {
    float max_abs = 0;
    for (const float value : x) {
      max_abs = std::fabs(value) > max_abs ? std::fabs(value) : max_abs;
    }
    const float scale = max_abs / 127.0F;
    const float divisor = scale > 0 ? scale : 1.0F;
    for (size_t i = 0; i < x.size(); ++i) {
      const float step = std::nearbyint(x[i] / divisor);
      const float above = step > -127.0F ? step : -127.0F;
      (*steps)[i] = static_cast<int8_t>(above < 127.0F ? above : 127.0F);
    }
    return scale;
  }

  const device::BlockPool& pool_;
  const Scorer scorer_;
  const device::SummarizeJob& job_;
  const size_t head_dim_;
  const uint32_t kept_level_;
};

}  // namespace

void SummarizeBlocks(const device::OpContext&, const device::SummarizeParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    JobSummary(params, params.jobs[job_idx]).Run();
  }
}

}  // namespace hipattn::host::ref
