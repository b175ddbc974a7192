// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// estimate_nodes: the softmax mass that pruned nodes may hold, from their summaries (SPEC D36;
// device/params.h).
//
// The sums of 8 nodes, q.m and sum q^2 w^2, lie in one vector of 16 floats. log(sum of tokens *
// exp(x)) is a running one per lane, over the list's groups in order; the 8 lanes are joined in f64
// at the end. Parallel work is a tile of q heads of one job.
#include "device/executor.h"
#include "host/kernels/kernels.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

using device::EstimateJob;
using device::EstimateParams;

constexpr int kScaleBytes = 2 * kFanOut * static_cast<int>(sizeof(float));
constexpr int kLineDims = 4;  // of m and w of 8 nodes in a cache line
constexpr int kParts = 2;     // partial sums, of even and odd dimensions: more additions in flight
constexpr int kTileHeads = kRegisters / 8;  // heads that are computed together
constexpr uint32_t kAhead = 8;              // groups between the one prefetched and the one read
constexpr float kFloor = -__FLT_MAX__;  // below any exponent, and finite: differences are never NaN

// Running sums of 8 lanes: the mass is sum * exp(max).
struct Mass {
  VF max;
  VF sum;
};

// Of 16 floats in lanes of m and w: those of w squared.
inline void SquareSpread(const VF (&step)[kPanelVectors], VF (&value)[kPanelVectors]) {
  HIPATTN_UNROLL
  for (int i = 0; i < kPanelVectors; ++i) {
    value[i] = Select(LaneRange(8 - i * kLanes, 16), Mul(step[i], step[i]), step[i]);
  }
}

// exponent[h] = the exponents of the 8 nodes of a group for query h, in the first 8 lanes.
template <int H>
inline void Exponents(const EstimateParams& params,
                      const std::byte* group,
                      const std::byte* ahead,
                      const float* q,
                      VF (&exponent)[H]) {
  const int head_dim = static_cast<int>(params.head_dim);
  VF sum[kParts][H][kPanelVectors];
  HIPATTN_UNROLL
  for (int part = 0; part < kParts; ++part) {
    HIPATTN_UNROLL
    for (int h = 0; h < H; ++h) {
      Octets(Zero(), Zero(), sum[part][h]);
    }
  }
  PrefetchL2(ahead);
  for (int dim = 0; dim < head_dim; dim += kParts) {
    if (dim % kLineDims == 0) {
      PrefetchL2(ahead + kScaleBytes + dim * 16);
    }
    const auto* lanes = reinterpret_cast<const int8_t*>(group + kScaleBytes + dim * 16);
    VF step[kParts][kPanelVectors];
    HIPATTN_UNROLL
    for (int i = 0; i < kPanelVectors; ++i) {
      SplitShorts(LoadBytes(lanes + i * 2 * kLanes), step[0][i], step[1][i]);
    }
    HIPATTN_UNROLL
    for (int part = 0; part < kParts; ++part) {
      VF value[kPanelVectors];
      SquareSpread(step[part], value);
      HIPATTN_UNROLL
      for (int h = 0; h < H; ++h) {
        const VF component = Set1(q[h * head_dim + dim + part]);
        VF weight[kPanelVectors];
        Octets(component, Mul(component, component), weight);
        HIPATTN_UNROLL
        for (int i = 0; i < kPanelVectors; ++i) {
          sum[part][h][i] = MulAdd(weight[i], value[i], sum[part][h][i]);
        }
      }
    }
  }
  VF node_scale[kPanelVectors];
  VF node_factor[kPanelVectors];
  VF scale[kPanelVectors];
  HIPATTN_UNROLL
  for (int i = 0; i < kPanelVectors; ++i) {
    node_scale[i] = Load(reinterpret_cast<const float*>(group) + i * kLanes);
  }
  SquareSpread(node_scale, node_factor);
  Octets(Set1(params.scale), Set1(0.5F * params.scale * params.scale), scale);
  const VF cap = Set1(params.softcap);
  HIPATTN_UNROLL
  for (int h = 0; h < H; ++h) {
    HIPATTN_UNROLL
    for (int i = 0; i < kPanelVectors; ++i) {
      sum[0][h][i] = Mul(Add(sum[0][h][i], sum[1][h][i]), Mul(node_factor[i], scale[i]));
    }
    const VF raw = AddOctets(sum[0][h]);
    exponent[h] = params.softcap > 0 ? Mul(cap, Tanh(Div(raw, cap))) : raw;
  }
}

// The nodes' tokens; 0 where the mask leaves a node out.
inline VF Tokens(const EstimateJob& job, uint32_t i) {
  const float* tokens = job.tokens + uint64_t{i} * kFanOut;
  if (job.groups[i].mask == 0xff) {
    return LoadFirst(tokens, kFanOut);
  }
  alignas(64) float masked[kFanOut];
  for (uint32_t child = 0; child < kFanOut; ++child) {
    masked[child] = (job.groups[i].mask >> child & 1U) != 0 ? tokens[child] : 0.0F;
  }
  return LoadFirst(masked, kFanOut);
}

inline void AddGroup(VF tokens, VF exponent, Mass* mass) {
  const VM counted = Less(Zero(), tokens);
  const VF value = Select(counted, exponent, Set1(kFloor));
  const VF max = Max(mass->max, value);
  const VF added = Mul(tokens, Exp(Sub(value, max)));
  mass->sum = Add(Mul(mass->sum, Exp(Sub(mass->max, max))), Select(counted, added, Zero()));
  mass->max = max;
}

float LogMass(const Mass& mass) {
  alignas(64) float max_lanes[kFanOut];
  alignas(64) float sum_lanes[kFanOut];
  StoreFirst(max_lanes, mass.max, kFanOut);
  StoreFirst(sum_lanes, mass.sum, kFanOut);
  float max = kFloor;
  for (const float lane : max_lanes) {
    max = lane > max ? lane : max;
  }
  double sum = 0;
  for (uint32_t i = 0; i < kFanOut; ++i) {
    sum += static_cast<double>(sum_lanes[i]) *
           __builtin_exp(static_cast<double>(max_lanes[i]) - static_cast<double>(max));
  }
  return sum > 0 ? static_cast<float>(static_cast<double>(max) + __builtin_log(sum))
                 : -__builtin_inff();
}

template <int H>
void EstimateHeads(const EstimateParams& params, const EstimateJob& job, uint32_t first_head) {
  const uint64_t group_bytes = device::SummaryGroupBytes(params.head_dim, true);
  const float* q = job.q + uint64_t{first_head} * params.head_dim;
  Mass mass[H];
  for (Mass& head_mass : mass) {
    head_mass = {Set1(kFloor), Zero()};
  }
  for (uint32_t i = 0; i < job.num_groups; ++i) {
    if (job.groups[i].mask == 0) {
      continue;
    }
    const uint32_t next = job.num_groups - i > kAhead ? i + kAhead : i;
    const std::byte* group =
        device::SummaryGroupAddress(job.level, group_bytes, job.groups[i].index);
    const std::byte* ahead =
        device::SummaryGroupAddress(job.level, group_bytes, job.groups[next].index);
    VF exponent[H];
    Exponents<H>(params, group, ahead, q, exponent);
    const VF tokens = Tokens(job, i);
    HIPATTN_UNROLL
    for (int h = 0; h < H; ++h) {
      AddGroup(tokens, exponent[h], &mass[h]);
    }
  }
  for (int h = 0; h < H; ++h) {
    job.log_mass[first_head + static_cast<uint32_t>(h)] = LogMass(mass[h]);
  }
}

template <int H>
void EstimateUpTo(const EstimateParams& params,
                  const EstimateJob& job,
                  uint32_t first_head,
                  uint32_t num_heads) {
  if constexpr (H > 0) {
    if (num_heads == H) {
      return EstimateHeads<H>(params, job, first_head);
    }
    EstimateUpTo<H - 1>(params, job, first_head, num_heads);
  }
}

}  // namespace

void EstimateNodes(const device::OpContext& context, const EstimateParams& params) {
  const uint32_t num_tiles = (params.group + kTileHeads - 1) / kTileHeads;
  const uint64_t num_tasks = uint64_t{params.num_jobs} * num_tiles;
  if (num_tasks == 0) {
    return;
  }
  device::ParallelFor(*context.executor, num_tasks, [&](size_t task) {
    const uint32_t first = static_cast<uint32_t>(task % num_tiles) * kTileHeads;
    const uint32_t left = params.group - first;
    EstimateUpTo<kTileHeads>(
        params, params.jobs[task / num_tiles], first, left < kTileHeads ? left : kTileHeads);
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
