// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/ref/ref_kv.h"
#include "host/ref/ref_sketch.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace hipattn::host::ref {
namespace {

// [dimension][token], rotated.
using Panel = std::vector<std::array<float, device::kSketchTokens>>;

Panel ReadPanel(const device::BlockPool& pool, uint32_t slot, uint32_t first_token) {
  Panel panel(pool.head_dim);
  std::vector<float> key(pool.head_dim);
  for (uint32_t t = 0; t < device::kSketchTokens; ++t) {
    ReadToken(pool, slot, first_token + t, key.data(), nullptr);
    HadamardRotate(&key);
    for (size_t d = 0; d < key.size(); ++d) {
      panel[d][t] = key[d];
    }
  }
  return panel;
}

float MeanOf16(const float (&x)[16]) {
  return SumOf16(x) / 16.0F;
}

float Largest(const std::vector<float>& x) {
  float largest = 0.0F;
  for (const float value : x) {
    largest = std::fabs(value) > largest ? std::fabs(value) : largest;
  }
  return largest;
}

void WriteSketch(const Panel& panel, const SketchView& sketch) {
  const size_t head_dim = panel.size();
  std::vector<float> mean(head_dim);
  std::vector<float> step(head_dim);
  for (size_t d = 0; d < head_dim; ++d) {
    float x[16];
    std::copy(panel[d].begin(), panel[d].end(), x);
    mean[d] = MeanOf16(x);
    for (float& value : x) {
      value = std::fabs(value - mean[d]);
    }
    step[d] = 1.25F * MeanOf16(x);
  }
  const int32_t step_exponent = ExponentOf(Largest(step));
  std::vector<float> base(head_dim);
  for (size_t d = 0; d < head_dim; ++d) {
    const float scale = std::ldexp(1.0F, step_exponent);
    const int32_t steps = std::max(0, ToSteps(step[d], scale, 127.0F));
    sketch.set_step(d, steps);
    step[d] = scale * static_cast<float>(steps);
    base[d] = mean[d] - 1.5F * step[d];
  }
  const int32_t base_exponent = ExponentOf(Largest(base));
  for (size_t d = 0; d < sketch.dims(); ++d) {
    if (d >= head_dim) {
      sketch.set_step(d, 0);
      sketch.set_base(d, 0);
    } else {
      const float scale = std::ldexp(1.0F, base_exponent);
      const int32_t steps = ToSteps(base[d], scale, 127.0F);
      sketch.set_base(d, steps);
      base[d] = scale * static_cast<float>(steps);
    }
    for (size_t t = 0; t < device::kSketchTokens; ++t) {
      const float inverse = d < head_dim && step[d] > 0 ? 1.0F / step[d] : 0.0F;
      const float level = d < head_dim ? (panel[d][t] - base[d]) * inverse + 0.5F : 0.0F;
      const float above = level > 0 ? level : 0.0F;
      sketch.set_code(d, t, static_cast<uint32_t>(above < 3 ? above : 3.0F));
    }
  }
  sketch.set_exponents(step_exponent, base_exponent);
}

}  // namespace

void WriteSketches(const device::OpContext&, const device::WriteSketchParams& params) {
  const uint32_t per_block = params.pool.block_tokens / device::kSketchTokens;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::WriteSketchJob& job = params.jobs[job_idx];
    for (uint32_t block = job.first_block; block < job.first_block + job.num_blocks; ++block) {
      for (uint32_t i = 0; i < per_block; ++i) {
        const Panel panel = ReadPanel(params.pool, job.slots[block], i * device::kSketchTokens);
        WriteSketch(panel, SketchView(job.table, params.pool.head_dim, block * per_block + i));
      }
    }
  }
}

}  // namespace hipattn::host::ref
