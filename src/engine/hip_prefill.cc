// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/hip_prefill.h"

#include "core/mask/block_tiles.h"
#include "core/mask/mask_build.h"
#include "engine/block_ops.h"
#include "engine/delta.h"

#include <algorithm>

namespace hipattn::engine {
namespace {

// Query blocks whose masks are in memory at once: enough tasks for many cores.
constexpr uint32_t kSliceBlocks = 32;

static_assert(kPrefillBlockRows == kRowTile);  // a query block is a row tile

// Searches for the query blocks of a slice, and keeps their leaves as the kv head's lists.
Status SearchSlice(Call* call,
                   const Part& part,
                   std::span<const core::RowRange> blocks,
                   uint32_t kv_head,
                   SearchRead* read) {
  HipHead& kept = call->engine.scratch.hip_heads[kv_head];
  kept.lists.ptr.assign(1, 0);
  kept.lists.blocks.clear();
  std::vector<int32_t> leaves;
  for (const core::RowRange& block : blocks) {
    HIPATTN_RETURN_IF_ERROR(SearchBlock(call, part, block, kv_head, read));
    const HeadState& head = part.layer->heads[kv_head];
    kept.lists.block_tokens = head.leaf_tokens;
    leaves.assign(head.leaves.begin(), head.leaves.end());
    std::sort(leaves.begin(), leaves.end());
    leaves.erase(std::unique(leaves.begin(), leaves.end()), leaves.end());
    kept.lists.blocks.insert(kept.lists.blocks.end(), leaves.begin(), leaves.end());
    kept.lists.EndList();
  }
  return Status::Ok();
}

Status MakeMask(Call* call, const Part& part, const core::PrefillShape& shape, uint32_t kv_head) {
  HipHead& kept = call->engine.scratch.hip_heads[kv_head];
  const AttentionOptions& options = part.sequence->options;
  const core::BlockTiles source(shape, {options.sink_tokens, options.window_tokens}, &kept.lists);
  HIPATTN_ASSIGN_OR_RETURN(const core::MaskSize size, core::MeasureMask(source));
  HIPATTN_RETURN_IF_ERROR(kept.mask_memory.Grow(*call->engine.device, size.bytes()));
  kept.mask = core::FillMask(source, size, kept.mask_memory.data());
  return Status::Ok();
}

Status AttendSlice(Call* call, const Part& part, const core::RowRange& rows) {
  EngineState& engine = call->engine;
  const EngineOptions& options = call->options();
  Scratch<device::SparsePrefillJob>& jobs = engine.scratch.sparse_prefill_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(*engine.device, options.num_kv_heads));
  for (uint32_t h = 0; h < options.num_kv_heads; ++h) {
    const uint64_t row = part.first_row + rows.begin;
    jobs[h] = {};
    jobs[h].slots = part.layer->heads[h].store.slots();
    jobs[h].q = call->Q(row, h);
    jobs[h].out = call->Out(row, h);
    jobs[h].lse = call->Lse(row, h);
    jobs[h].first_pos = static_cast<uint32_t>(part.first_pos) + rows.begin;
    jobs[h].num_rows = rows.end - rows.begin;
    jobs[h].num_heads = options.group();
    jobs[h].mask = engine.scratch.hip_heads[h].mask;
  }
  const Timer timer(&call->stats.attend_ns);
  const device::SparsePrefillParams params = {{},
                                              jobs.data(),
                                              options.num_kv_heads,
                                              call->q_row_stride(),
                                              call->q_row_stride(),
                                              options.num_q_heads,
                                              options.softmax_scale,
                                              options.logit_softcap,
                                              0.0F,
                                              options.io()};
  return RunOverBlocks(engine, params);
}

Status RunSlice(Call* call, const Part& part, std::span<const core::RowRange> blocks) {
  const core::RowRange rows = {blocks.front().begin, blocks.back().end};
  const core::PrefillShape shape = {rows.end - rows.begin,
                                    static_cast<uint32_t>(part.first_pos) + rows.end};
  {
    const Timer timer(&call->stats.search_ns);
    const uint32_t kv_heads = call->options().num_kv_heads;
    std::vector<SearchRead> reads(kv_heads);
    const bool reads_keys = SearchReadsKeys(part.sequence->options);
    HIPATTN_RETURN_IF_ERROR(
        BringQueries(call, part, part.first_row + rows.begin, rows.end - rows.begin));
    for (uint32_t h = 0; h < kv_heads; ++h) {
      HIPATTN_RETURN_IF_ERROR(PlaceSketches(call, part, h));
    }
    const Status status = SearchTasks(call->engine, reads_keys, kv_heads, [&](size_t h) {
      const auto kv_head = static_cast<uint32_t>(h);
      HIPATTN_RETURN_IF_ERROR(SearchSlice(call, part, blocks, kv_head, &reads[h]));
      return MakeMask(call, part, shape, kv_head);
    });
    CountReads(reads, &call->stats);
    HIPATTN_RETURN_IF_ERROR(status);
  }
  HIPATTN_RETURN_IF_ERROR(AttendSlice(call, part, rows));
  return CorrectHip(call, part, rows);
}

}  // namespace

core::Partition PartitionOf(const Part& part, uint64_t row) {
  const AttentionOptions& options = part.sequence->options;
  const auto pos = static_cast<int64_t>(part.first_pos + row);
  return core::SplitPartition(pos, pos + 1, {options.sink_tokens, options.window_tokens});
}

Status SearchBlock(
    Call* call, const Part& part, const core::RowRange& block, uint32_t kv_head, SearchRead* read) {
  const BlockQuery query = {call->Q(part.first_row + block.begin, kv_head),
                            call->HostQ(part.first_row + block.begin, kv_head),
                            call->q_row_stride(),
                            part.first_pos + block.begin,
                            block.end - block.begin,
                            PartitionOf(part, block.end - 1)};
  const bool scans = part.sequence->audits.at(call->args.layer, kv_head).scanned;
  const SelectContext context = {call->engine, *part.sequence, call->args.layer, true, scans};
  return Select(
      context, query, part.sequence->options.budget_tokens, &part.layer->heads[kv_head], read);
}

void CountReads(std::span<const SearchRead> reads, CallStats* stats) {
  for (const SearchRead& read : reads) {
    stats->search_keys_read += read.keys;
    stats->search_bytes_read += read.bytes;
  }
}

Status CorrectHip(Call* call, const Part& part, const core::RowRange& rows) {
  if (part.options.prefill_delta_interval == 0) {
    return Status::Ok();
  }
  const EngineOptions& options = call->options();
  Scratch<float>& deltas = call->engine.scratch.deltas;
  HIPATTN_RETURN_IF_ERROR(deltas.Grow(*call->engine.device, call->q_row_stride()));
  std::vector<DeltaHead> heads;
  for (uint32_t h = 0; h < options.num_q_heads; ++h) {
    heads.push_back({h, deltas.data() + size_t{h} * options.head_dim});
  }
  return CorrectRows(call, part, rows, heads);
}

Status RunHip(Call* call, const Part& part) {
  std::vector<HipHead>& heads = call->engine.scratch.hip_heads;
  heads.resize(std::max<size_t>(heads.size(), call->options().num_kv_heads));
  part.layer->search_kept = false;
  const std::vector<core::RowRange> blocks =
      core::QueryBlocks(static_cast<int64_t>(part.first_pos), part.num_rows, kPrefillBlockRows);
  std::span<const core::RowRange> left(blocks);
  while (!left.empty()) {
    HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
    // Row tiles count from a slice's first row, so a block cut short by the chunk's begin is a
    // slice of its own.
    const bool aligned = (part.first_pos + left.front().begin) % kPrefillBlockRows == 0;
    const size_t count = aligned ? std::min<size_t>(kSliceBlocks, left.size()) : 1;
    HIPATTN_RETURN_IF_ERROR(RunSlice(call, part, left.first(count)));
    left = left.subspan(count);
  }
  return Status::Ok();
}

}  // namespace hipattn::engine
