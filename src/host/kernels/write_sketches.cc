// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// write_sketches: 16 keys of a panel as one sketch (docs/search.md, device/params.h). A vector
// holds one dimension of the panel's tokens throughout, as the panel itself does.
//
// Every product is rounded before it is added (the kernels are compiled with -ffp-contract=off), so
// the bits are those of the reference on every instruction set.
#include "host/kernels/dispatch.h"
#include "host/kernels/hadamard.h"
#include "host/kernels/kernels.h"
#include "host/kernels/steps.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

using device::kSketchTokens;

// One panel on its way to a sketch.
struct Panel {
  alignas(64) float keys[device::kMaxHeadDim * kSketchTokens];  // [head_dim][16], rotated
  alignas(64) float step[device::kMaxHeadDim + kLanes];
  alignas(64) float base[device::kMaxHeadDim + kLanes];
  alignas(64) float steps[device::kMaxHeadDim + kLanes];
};

// Where one sketch lies.
struct Sketch {
  uint8_t* step;
  int8_t* base;
  uint32_t* codes;
  uint32_t dims;
};

Sketch SketchAt(const device::SketchTable& table, uint32_t head_dim, uint32_t index) {
  const uint32_t dims = device::SketchDims(head_dim);
  auto* data = reinterpret_cast<uint8_t*>(
      device::SketchAddress(table, device::SketchBytes(head_dim), index));
  return {data,
          reinterpret_cast<int8_t*>(data) + dims,
          reinterpret_cast<uint32_t*>(data + 2 * size_t{dims}),
          dims};
}

// The least e with x <= 127 * 2^e, cut to what a sketch may hold; the least of all for 0.
int32_t ExponentOf(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const int32_t above = (bits & 0x7fffff) > 0x7e0000 ? 1 : 0;  // 127 is 1.984375 * 2^6
  const int32_t exponent = (bits >> 23) - 127 - 6 + above;
  const int32_t least = device::kLeastSketchExponent;
  const int32_t most = device::kMostSketchExponent;
  return exponent < least ? least : exponent > most ? most : exponent;
}

// 2^e of an exponent that a sketch may hold.
float PowerOf2(int32_t exponent) {
  const int32_t bits = (exponent + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return power;
}

// The panel's dimensions dim .. dim + 3, each less its `from`.
void LoadRows(const Panel& panel, uint32_t dim, const float* from, VF (&rows)[4][kPanelVectors]) {
  HIPATTN_UNROLL
  for (uint32_t row = 0; row < 4; ++row) {
    HIPATTN_UNROLL
    for (int i = 0; i < kPanelVectors; ++i) {
      rows[row][i] = Load(panel.keys + (dim + row) * kSketchTokens + i * kLanes);
      rows[row][i] = Sub(rows[row][i], Set1(from[row]));
    }
  }
}

// base[d] = the mean of dimension d, step[d] = 1.25 times the mean distance from it.
void Spread(uint32_t head_dim, Panel* panel) {
  constexpr float kNothing[4] = {};
  constexpr auto kTokens = static_cast<float>(kSketchTokens);
  for (uint32_t dim = 0; dim < head_dim; dim += 4) {
    VF rows[4][kPanelVectors];
    LoadRows(*panel, dim, kNothing, rows);
    float* mean = panel->base + dim;
    SumOfRows(rows, mean);
    for (uint32_t row = 0; row < 4; ++row) {
      mean[row] /= kTokens;
    }
    LoadRows(*panel, dim, mean, rows);
    for (auto& row : rows) {
      for (VF& distance : row) {
        distance = Abs(distance);
      }
    }
    float* step = panel->step + dim;
    SumOfRows(rows, step);
    for (uint32_t row = 0; row < 4; ++row) {
      step[row] = 1.25F * (step[row] / kTokens);
    }
  }
}

// Steps as the sketch keeps them; step[d] and base[d] become what they stand for.
void WriteLevels(uint32_t head_dim, const Sketch& sketch, Panel* panel) {
  const int dims = static_cast<int>(head_dim);
  const int32_t step_exponent = ExponentOf(Largest(panel->step, dims));
  const float step_scale = PowerOf2(step_exponent);
  RoundSteps(panel->step, dims, step_scale, 127.0F, panel->steps);
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    const float steps = panel->steps[dim] > 0 ? panel->steps[dim] : 0.0F;
    sketch.step[dim] = static_cast<uint8_t>(static_cast<int32_t>(steps));
    panel->step[dim] = step_scale * steps;
    panel->base[dim] = panel->base[dim] - 1.5F * panel->step[dim];
  }
  const int32_t base_exponent = ExponentOf(Largest(panel->base, dims));
  const float base_scale = PowerOf2(base_exponent);
  RoundSteps(panel->base, dims, base_scale, 127.0F, panel->steps);
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    sketch.base[dim] = static_cast<int8_t>(panel->steps[dim]);
    panel->base[dim] = base_scale * panel->steps[dim];
  }
  for (uint32_t dim = head_dim; dim < sketch.dims; ++dim) {
    sketch.step[dim] = 0;
    sketch.base[dim] = 0;
  }
  for (uint32_t bit = 0; bit < 8; ++bit) {
    const uint32_t of_step = static_cast<uint32_t>(step_exponent) >> bit & 1U;
    const uint32_t of_base = static_cast<uint32_t>(base_exponent) >> bit & 1U;
    sketch.step[bit] = static_cast<uint8_t>(sketch.step[bit] | of_step << 7);
    sketch.step[bit + 8] = static_cast<uint8_t>(sketch.step[bit + 8] | of_base << 7);
  }
}

// 1 / step[d], 0 where step is 0 -> steps.
void InvertSteps(uint32_t head_dim, Panel* panel) {
  for (uint32_t dim = 0; dim < head_dim; dim += kLanes) {
    const VF step = Load(panel->step + dim);
    Store(panel->steps + dim, Select(Less(Zero(), step), Div(Set1(1.0F), step), Zero()));
  }
}

// Codes of the dimensions dim, dim + 4, dim + 8 and dim + 12, the bits of one byte, as a float per
// token.
VF ByteOfCodes(const Panel& panel, uint32_t head_dim, uint32_t dim, int vector) {
  VF byte = Zero();
  float weight = 1.0F;
  for (uint32_t d = dim; d < dim + kSketchTokens && d < head_dim; d += 4) {
    const VF key = Load(panel.keys + d * kSketchTokens + vector * kLanes);
    const VF level = Add(Mul(Sub(key, Set1(panel.base[d])), Set1(panel.steps[d])), Set1(0.5F));
    const VF code = Floor(Min(Max(level, Zero()), Set1(3.0F)));
    byte = MulAdd(code, Set1(weight), byte);
    weight *= 4.0F;
  }
  return byte;
}

// Whole numbers up to 2^24 are exact in f32, so the lower three bytes of a word are one sum.
void WriteCodes(uint32_t head_dim, const Sketch& sketch, const Panel& panel) {
  for (uint32_t dim = 0; dim < sketch.dims; dim += kSketchTokens) {
    alignas(64) float low[kSketchTokens];
    alignas(64) float high[kSketchTokens];
    for (int i = 0; i < kPanelVectors; ++i) {
      VF three = ByteOfCodes(panel, head_dim, dim, i);
      three = MulAdd(ByteOfCodes(panel, head_dim, dim + 1, i), Set1(0x1p8F), three);
      three = MulAdd(ByteOfCodes(panel, head_dim, dim + 2, i), Set1(0x1p16F), three);
      Store(low + i * kLanes, three);
      Store(high + i * kLanes, ByteOfCodes(panel, head_dim, dim + 3, i));
    }
    uint32_t codes[kSketchTokens];
    for (uint32_t t = 0; t < kSketchTokens; ++t) {
      codes[t] = static_cast<uint32_t>(static_cast<int32_t>(low[t])) |
                 static_cast<uint32_t>(static_cast<int32_t>(high[t])) << 24;
    }
    __builtin_memcpy(sketch.codes + dim, codes, sizeof(codes));
  }
}

template <typename Tag>
void WriteBlock(Tag tag,
                const device::WriteSketchParams& params,
                const device::WriteSketchJob& job,
                uint32_t block) {
  const uint32_t head_dim = params.pool.head_dim;
  const auto* keys = reinterpret_cast<const typename Tag::Elem*>(
      device::BlockAddress(params.pool, job.slots[block]));
  const uint32_t panels = params.pool.block_tokens / kSketchTokens;
  Panel panel;
  for (uint32_t i = 0; i < panels; ++i) {
    ConvertRow(F32{},
               panel.keys,
               tag,
               keys + size_t{i} * head_dim * kSketchTokens,
               static_cast<int>(head_dim * kSketchTokens));
    HadamardPanel(head_dim, panel.keys);
    Spread(head_dim, &panel);
    const Sketch sketch = SketchAt(job.table, head_dim, block * panels + i);
    WriteLevels(head_dim, sketch, &panel);
    InvertSteps(head_dim, &panel);
    WriteCodes(head_dim, sketch, panel);
  }
}

}  // namespace

void WriteSketches(const device::OpContext& context, const device::WriteSketchParams& params) {
  constexpr uint32_t kTaskBlocks = 8;
  const uint64_t block_elements = uint64_t{params.pool.block_tokens} * params.pool.head_dim;
  uint64_t num_tasks = 0;
  uint64_t num_blocks = 0;
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    num_tasks += (params.jobs[i].num_blocks + kTaskBlocks - 1) / kTaskBlocks;
    num_blocks += params.jobs[i].num_blocks;
  }
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    RunTasks(context, num_tasks, num_blocks * block_elements, [&](size_t task) {
      const device::WriteSketchJob* job = params.jobs;
      uint64_t at = task;
      while (at >= (job->num_blocks + kTaskBlocks - 1) / kTaskBlocks) {
        at -= (job->num_blocks + kTaskBlocks - 1) / kTaskBlocks;
        ++job;
      }
      const uint32_t end = job->first_block + job->num_blocks;
      const uint32_t begin = job->first_block + static_cast<uint32_t>(at) * kTaskBlocks;
      for (uint32_t i = begin; i < end && i < begin + kTaskBlocks; ++i) {
        WriteBlock(tag, params, *job, i);
      }
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
