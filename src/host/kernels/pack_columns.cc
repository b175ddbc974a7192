// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// pack_columns: single tokens gathered into panels that sparse_prefill reads like blocks
// (device/params.h).
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/token_rows.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

// Group `group` of 16 columns of a job.
template <typename Tag>
void PackGroup(const device::PackParams& params, const device::PackJob& job, uint64_t group) {
  using Elem = typename Tag::Elem;
  const device::BlockPool& pool = params.pool;
  const size_t panel = size_t{device::kPanelTokens} * pool.head_dim;
  Elem* keys = static_cast<Elem*>(job.panel) + group * 2 * panel;
  Elem* values = keys + panel;
  for (uint32_t lane = 0; lane < device::kPanelTokens; ++lane) {
    const uint64_t column = group * device::kPanelTokens + lane;
    Elem* value = values + size_t{lane} * pool.head_dim;
    if (column >= job.num_columns) {
      for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
        keys[size_t{dim} * device::kPanelTokens + lane] = 0;
        value[dim] = 0;
      }
      continue;
    }
    const uint32_t token = job.positions[column];
    const uint32_t in_block = token % pool.block_tokens;
    std::byte* block = device::BlockAddress(pool, job.slots[token / pool.block_tokens]);
    const Elem* from = KeyLane<Tag>(block, pool.head_dim, in_block);
    for (uint32_t dim = 0; dim < pool.head_dim; ++dim) {
      const size_t place = size_t{dim} * device::kPanelTokens;
      keys[place + lane] = from[place];
    }
    __builtin_memcpy(value, ValueRow<Tag>(block, pool, in_block), pool.head_dim * sizeof(Elem));
  }
}

uint64_t Groups(const device::PackJob& job) {
  return (uint64_t{job.num_columns} + device::kPanelTokens - 1) / device::kPanelTokens;
}

}  // namespace

void PackColumns(const device::OpContext& context, const device::PackParams& params) {
  uint64_t columns = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    columns += params.jobs[job_idx].num_columns;
  }
  const uint64_t elements = columns * 2 * params.pool.head_dim;
  WithTag(params.pool.kv_dtype, [&](auto tag) {
    RunTasks(context, params.num_jobs, elements, [&](size_t job_idx) {
      const device::PackJob& job = params.jobs[job_idx];
      for (uint64_t group = 0; group < Groups(job); ++group) {
        PackGroup<decltype(tag)>(params, job, group);
      }
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
