// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// pool_blocks: means of 64 keys and values (device/params.h). Sums in the order of the tokens.
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/token_rows.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

// sum[0, count) += row, a multiple of 8.
template <typename Tag>
void AddRow(Tag tag, const typename Tag::Elem* row, int count, float* sum) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Store(sum + i, Add(Load(sum + i), Load(tag, row + i)));
  }
  if (i < count) {
    StoreFirst(
        sum + i, Add(LoadFirst(sum + i, count - i), LoadFirst(tag, row + i, count - i)), count - i);
  }
}

// The means of one block, into lane `lane` of the K panel `keys` and the row `values`.
template <typename Tag>
void PoolBlock(Tag tag,
               const device::BlockPool& pool,
               const device::PoolJob& job,
               uint64_t block,
               float* keys,
               float* values) {
  constexpr float kShare = 1.0F / static_cast<float>(device::kPoolTokens);
  const int head_dim = static_cast<int>(pool.head_dim);
  float key_sum[device::kMaxHeadDim] = {};
  float value_sum[device::kMaxHeadDim] = {};
  const uint64_t begin = block * device::kPoolTokens;
  for (uint64_t token = begin; token < begin + device::kPoolTokens && token < job.num_tokens;
       ++token) {
    std::byte* data = device::BlockAddress(pool, job.slots[token / pool.block_tokens]);
    const auto in_block = static_cast<uint32_t>(token % pool.block_tokens);
    float key[device::kMaxHeadDim];
    ReadKey(tag, pool, data, in_block, key);
    AddRow(F32{}, key, head_dim, key_sum);
    AddRow(tag, ValueRow<Tag>(data, pool, in_block), head_dim, value_sum);
  }
  for (int dim = 0; dim < head_dim; ++dim) {
    keys[dim * static_cast<int>(device::kPanelTokens)] = key_sum[dim] * kShare;
    values[dim] = value_sum[dim] * kShare;
  }
}

uint64_t Panels(const device::PoolJob& job) {
  constexpr uint64_t kPanelKeys = uint64_t{device::kPoolTokens} * device::kPanelTokens;
  return (job.num_tokens + kPanelKeys - 1) / kPanelKeys;
}

}  // namespace

void PoolBlocks(const device::OpContext& context, const device::PoolParams& params) {
  uint64_t most_panels = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const uint64_t panels = Panels(params.jobs[job_idx]);
    most_panels = panels > most_panels ? panels : most_panels;
  }
  const size_t half = size_t{device::kPanelTokens} * params.pool.head_dim;
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    ParallelRuns(context, most_panels * params.num_jobs, [&](uint64_t first, uint64_t last) {
      for (uint64_t number = first; number < last; ++number) {
        const device::PoolJob& job = params.jobs[number / most_panels];
        const uint64_t panel = number % most_panels;
        if (panel >= Panels(job) || panel * device::kPanelTokens < job.first_block) {
          continue;
        }
        float* keys = job.panel + panel * 2 * half;
        for (uint32_t lane = 0; lane < device::kPanelTokens; ++lane) {
          const uint64_t block = panel * device::kPanelTokens + lane;
          PoolBlock(tag,
                    params.pool,
                    job,
                    block,
                    keys + lane,
                    keys + half + size_t{lane} * params.pool.head_dim);
        }
      }
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
