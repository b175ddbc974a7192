// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_sketch.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace hipattn::host::ref {
namespace {

// One query vector: whole numbers q, and what a step of q times a step of 1 adds to a score.
struct Query {
  std::vector<int32_t> q;
  float unit = 0.0F;
};

Query MakeQuery(const float* q, uint32_t head_dim, float scale) {
  std::vector<float> rotated(q, q + head_dim);
  HadamardRotate(&rotated);
  float largest = 0.0F;
  for (const float value : rotated) {
    largest = std::fabs(value) > largest ? std::fabs(value) : largest;
  }
  const float q_scale = largest / 32767.0F;
  Query query;
  query.unit = q_scale * (scale * 1.44269504F);
  for (const float value : rotated) {
    query.q.push_back(ToSteps(value, q_scale, 32767.0F));
  }
  return query;
}

// About 2^y for y <= 0, at least 2^-126.
float PowerOf2(float y) {
  const float bounded = y > -126.0F ? y : -126.0F;
  const float whole = std::floor(bounded);
  const float part = bounded - whole;
  const float mantissa = (part * (87.0F / 256) + 169.0F / 256) * part + 1.0F;
  return std::ldexp(mantissa, static_cast<int>(whole));
}

// About log2(x) for 1 <= x <= 16.
float Log2(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
  const float part = std::bit_cast<float>((bits & 0x7fffffU) | 0x3f800000U) - 1.0F;
  return exponent + (part * (-87.0F / 256) + 343.0F / 256) * part;
}

// log2 of the sum of 2^score over the tokens of one sketch.
float ScoreSketch(const Query& query, const SketchView& sketch) {
  int32_t base = 0;
  int32_t sums[device::kSketchTokens] = {};
  for (size_t d = 0; d < query.q.size(); ++d) {
    base += query.q[d] * sketch.base(d);
    const int32_t weight = (query.q[d] * sketch.step(d) + (1 << 14)) >> 15;
    for (size_t t = 0; t < device::kSketchTokens; ++t) {
      sums[t] += weight * static_cast<int32_t>(sketch.code(d, t));
    }
  }
  const float base_unit = query.unit * std::ldexp(1.0F, sketch.base_exponent());
  const float step_unit = query.unit * 32768.0F * std::ldexp(1.0F, sketch.step_exponent());
  const int32_t top = *std::max_element(std::begin(sums), std::end(sums));
  float powers[device::kSketchTokens];
  for (size_t t = 0; t < device::kSketchTokens; ++t) {
    powers[t] = PowerOf2(step_unit * static_cast<float>(sums[t] - top));
  }
  const float best = base_unit * static_cast<float>(base) + step_unit * static_cast<float>(top);
  return best + Log2(SumOf16(powers));
}

float ScoreBlock(const Query& query,
                 const device::ScoreSketchParams& params,
                 const device::ScoreSketchJob& job,
                 uint32_t block) {
  const uint32_t per_block = params.block_tokens / device::kSketchTokens;
  std::vector<float> scores(per_block);
  for (uint32_t i = 0; i < per_block; ++i) {
    scores[i] = ScoreSketch(query, SketchView(job.table, params.head_dim, block * per_block + i));
  }
  if (per_block == 1) {
    return scores[0];
  }
  const float top = *std::max_element(scores.begin(), scores.end());
  float sum = 0.0F;
  for (const float score : scores) {
    sum = sum + PowerOf2(score - top);
  }
  return top + Log2(sum);
}

}  // namespace

void ScoreSketches(const device::OpContext&, const device::ScoreSketchParams& params) {
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::ScoreSketchJob& job = params.jobs[job_idx];
    std::fill(job.scores, job.scores + job.num_blocks, -std::numeric_limits<float>::infinity());
    for (uint32_t vector = 0; vector < job.rows.num_rows * job.rows.group; ++vector) {
      const float* q = job.rows.q + vector / job.rows.group * job.rows.row_stride +
                       size_t{vector % job.rows.group} * params.head_dim;
      const Query query = MakeQuery(q, params.head_dim, params.scale);
      float* const scores = job.scores + vector * job.query_stride;
      if (job.query_stride != 0) {
        std::fill(scores, scores + job.num_blocks, -std::numeric_limits<float>::infinity());
      }
      for (uint32_t i = 0; i < job.num_blocks; ++i) {
        const uint32_t block =
            job.blocks == nullptr ? job.first_block + i : static_cast<uint32_t>(job.blocks[i]);
        scores[i] = std::max(scores[i], ScoreBlock(query, params, job, block));
      }
    }
  }
}

}  // namespace hipattn::host::ref
