// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/attend.h"

#include "engine/audit.h"
#include "engine/block_ops.h"
#include "engine/call.h"
#include "engine/decode_step.h"
#include "engine/prefill_options.h"
#include "engine/prefill_step.h"

#include <algorithm>

namespace hipattn::engine {
namespace {

Status CheckExternal(const Call& call, const Part& part) {
  const AttendArgs& args = call.args;
  if (args.external_blocks == nullptr) {
    return Status::Ok();
  }
  if (!part.decode) {
    return InvalidArgument(
        "external_blocks given for sequence ", part.index, ", whose rows are a prefill");
  }
  const uint32_t kv_heads = call.options().num_kv_heads;
  const auto blocks = static_cast<int64_t>(part.first_pos / call.options().block_tokens) + 1;
  const int32_t* picks = args.external_blocks + uint64_t{part.index} * kv_heads * args.num_external;
  for (uint64_t i = 0; i < uint64_t{kv_heads} * args.num_external; ++i) {
    if (picks[i] < -1 || picks[i] >= blocks) {
      return InvalidArgument("external_blocks[",
                             part.index,
                             "][",
                             i / args.num_external,
                             "][",
                             i % args.num_external,
                             "] is ",
                             picks[i],
                             ", the sequence has ",
                             blocks,
                             " blocks");
    }
  }
  return Status::Ok();
}

Status CheckLength(const Call& call, const Part& part) {
  const uint64_t end = part.first_pos + part.num_rows;
  if (end > kMaxTokens) {
    return InvalidArgument("num_new_tokens[",
                           part.index,
                           "] is ",
                           part.num_rows,
                           ": the text of ",
                           part.first_pos,
                           " tokens would pass ",
                           kMaxTokens);
  }
  const uint32_t trained = call.options().trained_tokens;
  const Search search = part.sequence->options.search_kind();
  if (call.engine.rope.mode != 0 && trained != 0 && end > trained &&
      (search == Search::kTree || search == Search::kFlat)) {
    return Unsupported("the text reaches ",
                       end,
                       " tokens, trained_tokens is ",
                       trained,
                       ": search TREE and FLAT cannot compress positions, STAGED and BEAM can");
  }
  return Status::Ok();
}

// Blocks that the part's trees and sketches are to cover. Dense steps read neither, so there they
// follow eight blocks at a time, which costs less than eight times one.
uint64_t IndexBlocks(const Call& call, const Part& part) {
  constexpr uint64_t kLateBlocks = 8;
  const uint64_t end = part.first_pos + part.num_rows;
  const uint64_t finished = end / call.options().block_tokens;
  const bool dense = part.decode && call.args.external_blocks == nullptr &&
                     DecodesDense(part.sequence->options, end - 1);
  return dense ? std::max(finished / kLateBlocks * kLateBlocks,
                          part.layer->heads[0].store.summarized_blocks())
               : finished;
}

// Fills call.parts. Everything that can be wrong is found here.
Status PrepareParts(Call* call) {
  const AttendArgs& args = call->args;
  if (args.layer >= call->options().num_layers) {
    return InvalidArgument("layer is ", args.layer, ", num_layers is ", call->options().num_layers);
  }
  call->parts.reserve(args.sequences.size());
  for (size_t i = 0; i < args.sequences.size(); ++i) {
    Part part;
    part.sequence = SequenceStateOf(*args.sequences[i]);
    part.layer = &part.sequence->layers[args.layer];
    part.index = static_cast<uint32_t>(i);
    part.first_pos = part.layer->tokens;
    part.num_rows = args.num_new_tokens[i];
    part.first_row = call->num_rows;
    part.decode =
        args.phase == Phase::kDecode || (args.phase == Phase::kByLength && part.num_rows == 1);
    part.options = part.sequence->options;
    part.index_blocks = IndexBlocks(*call, part);
    call->num_rows += part.num_rows;
    part.sequence->audits.Save(args.layer);
    HIPATTN_RETURN_IF_ERROR(CheckLength(*call, part));
    ChoosePrefill(
        {ShapeOf(part), part.sequence->keys_rotated, !call->engine.patterns.layers.empty()},
        &part.options);
    HIPATTN_RETURN_IF_ERROR(CheckExternal(*call, part));
    call->parts.push_back(part);
  }
  return Status::Ok();
}

Status MakeRoom(Call& call) {
  for (const Part& part : call.parts) {
    HIPATTN_RETURN_IF_ERROR(
        RaiseFloor(call.engine, *part.sequence, part.first_pos + part.num_rows));
    for (HeadState& head : part.layer->heads) {
      HIPATTN_RETURN_IF_ERROR(head.store.MakeRoom(
          part.sequence->context, part.first_pos, part.first_pos + part.num_rows));
    }
  }
  return Status::Ok();
}

Status Append(Call& call) {
  EngineState& engine = call.engine;
  const offload::TraceSpan span(engine.trace.get(), "append");
  const EngineOptions& options = call.options();
  const uint64_t row_elements = uint64_t{options.num_kv_heads} * options.head_dim;
  Scratch<device::AppendJob>& jobs = engine.scratch.append_jobs;
  HIPATTN_RETURN_IF_ERROR(jobs.Grow(*engine.device, call.parts.size() * options.num_kv_heads));
  // Sequences that store keys as they came and those that rotate them are two submissions.
  for (const bool rotated : {true, false}) {
    uint32_t count = 0;
    for (const Part& part : call.parts) {
      if (part.sequence->keys_rotated != rotated) {
        continue;
      }
      for (uint32_t h = 0; h < options.num_kv_heads; ++h) {
        const uint64_t element = part.first_row * row_elements + uint64_t{h} * options.head_dim;
        const uint64_t bytes = element * DTypeBytes(options.io());
        jobs[count++] = {static_cast<const std::byte*>(call.args.k) + bytes,
                         static_cast<const std::byte*>(call.args.v) + bytes,
                         part.layer->heads[h].store.slots() + part.first_pos / options.block_tokens,
                         static_cast<uint32_t>(part.first_pos),
                         part.num_rows};
      }
    }
    if (count != 0) {
      const device::AppendParams params = {{},
                                           rotated ? engine.rope : device::Rope{},
                                           jobs.data(),
                                           count,
                                           options.io(),
                                           row_elements};
      HIPATTN_RETURN_IF_ERROR(RunOverBlocks(engine, params));
    }
  }
  return Status::Ok();
}

// Fills `jobs` with what `make` gives for the stores of this scorer that `wants` them; how many.
template <typename Wants, typename Make>
uint32_t CollectJobs(
    Call& call, uint32_t scorer, Wants wants, Make make, device::SummarizeJob* jobs) {
  uint32_t count = 0;
  for (const Part& part : call.parts) {
    if (!part.sequence->context.summaries || part.sequence->options.scorer != scorer) {
      continue;
    }
    for (HeadState& head : part.layer->heads) {
      if (wants(part, head.store)) {
        jobs[count++] = make(part, head.store);
      }
    }
  }
  return count;
}

// Runs those jobs; sequences with different scorers are different submissions.
template <typename Wants, typename Make>
Status Summarize(Call& call, Wants wants, Make make) {
  EngineState& engine = call.engine;
  Scratch<device::SummarizeJob>& jobs = engine.scratch.summarize_jobs;
  HIPATTN_RETURN_IF_ERROR(
      jobs.Grow(*engine.device, call.parts.size() * call.options().num_kv_heads));
  for (uint32_t scorer = 1; scorer <= static_cast<uint32_t>(Scorer::kLast); ++scorer) {
    const uint32_t count = CollectJobs(call, scorer, wants, make, jobs.data());
    if (count != 0) {
      const device::SummarizeParams params = {{}, static_cast<Scorer>(scorer), jobs.data(), count};
      HIPATTN_RETURN_IF_ERROR(RunOverBlocks(engine, params));
    }
  }
  return Status::Ok();
}

// Brings the trees up to index_blocks.
Status UpdateTrees(Call& call) {
  const auto behind = [](const Part& part, const HeadStore& store) {
    return store.summarized_blocks() < part.index_blocks;
  };
  bool any = false;
  for (const Part& part : call.parts) {
    any = any || (part.sequence->context.summaries && behind(part, part.layer->heads[0].store));
  }
  if (!any) {
    return Status::Ok();
  }
  HIPATTN_RETURN_IF_ERROR(Summarize(
      call,
      [&](const Part& part, const HeadStore& store) {
        return behind(part, store) && store.NeedsRebuild();
      },
      [&](const Part& part, HeadStore& store) {
        store.MarkRebuilt();
        return store.RebuildJob(part.sequence->context);
      }));
  return Summarize(call, behind, [&](const Part& part, HeadStore& store) {
    return store.AppendJob(part.sequence->context, part.index_blocks);
  });
}

// The same for their sketches, which know nothing of the tree but how far it has come.
Status UpdateSketches(Call& call) {
  EngineState& engine = call.engine;
  Scratch<device::WriteSketchJob>& jobs = engine.scratch.sketch_jobs;
  HIPATTN_RETURN_IF_ERROR(
      jobs.Grow(*engine.device, call.parts.size() * call.options().num_kv_heads));
  uint32_t count = 0;
  for (const Part& part : call.parts) {
    for (const HeadState& head : part.layer->heads) {
      if (part.sequence->context.sketches && head.store.summarized_blocks() < part.index_blocks) {
        jobs[count++] = head.store.SketchJob(part.index_blocks);
      }
    }
  }
  if (count == 0) {
    return Status::Ok();
  }
  const device::WriteSketchParams params = {{}, jobs.data(), count};
  return RunOverBlocks(engine, params);
}

// q as f32, rotated where the stored keys are.
Status LoadQ(Call* call) {
  EngineState& engine = call->engine;
  const EngineOptions& options = call->options();
  if (options.io() == DType::kF32 && engine.rope.mode == 0) {
    call->q = static_cast<const float*>(call->args.q);
    return Status::Ok();
  }
  HIPATTN_RETURN_IF_ERROR(
      engine.scratch.q.Grow(*engine.device, call->num_rows * call->q_row_stride()));
  HIPATTN_RETURN_IF_ERROR(engine.scratch.positions.Grow(*engine.device, call->num_rows));
  for (const Part& part : call->parts) {
    for (uint32_t r = 0; r < part.num_rows; ++r) {
      engine.scratch.positions[part.first_row + r] = static_cast<uint32_t>(part.first_pos + r);
    }
  }
  // Neighbouring parts of one kind are loaded together.
  for (size_t begin = 0, end = 0; begin < call->parts.size(); begin = end) {
    const Part& first = call->parts[begin];
    const bool rotated = first.sequence->keys_rotated;
    uint64_t rows = 0;
    while (end < call->parts.size() && call->parts[end].sequence->keys_rotated == rotated) {
      rows += call->parts[end++].num_rows;
    }
    const uint64_t element = first.first_row * call->q_row_stride();
    const device::LoadQParams params = {
        static_cast<const std::byte*>(call->args.q) + element * DTypeBytes(options.io()),
        engine.scratch.q.data() + element,
        engine.scratch.positions.data() + first.first_row,
        rotated ? engine.rope : device::Rope{},
        static_cast<uint32_t>(rows),
        options.num_q_heads,
        options.head_dim,
        options.io()};
    HIPATTN_RETURN_IF_ERROR(LaunchAndSync(engine, engine.device->ops().load_q, params));
  }
  call->q = engine.scratch.q.data();
  return Status::Ok();
}

// Counts since the last reset, as hipattn_stats_t has them.
void TraceCounts(const EngineState& engine) {
  if (engine.trace == nullptr) {
    return;
  }
  const offload::Trace::Arg bytes[] = {{"device", engine.budget.used()},
                                       {"host", engine.host_budget.used()}};
  engine.trace->Count("bytes", bytes);
  if (engine.cache != nullptr) {
    const offload::CacheCounts counts = engine.cache->counts();
    const offload::Trace::Arg blocks[] = {
        {"hit", counts.hits}, {"fetched", counts.fetched}, {"evicted", counts.evicted}};
    engine.trace->Count("blocks", blocks);
  }
}

Status UpdateIndex(Call& call) {
  const offload::TraceSpan span(call.engine.trace.get(), "index");
  HIPATTN_RETURN_IF_ERROR(UpdateTrees(call));
  return UpdateSketches(call);
}

Status Execute(Call* call) {
  HIPATTN_RETURN_IF_ERROR(MakeRoom(*call));
  call->touched = true;
  HIPATTN_RETURN_IF_ERROR(Append(*call));
  HIPATTN_RETURN_IF_ERROR(UpdateIndex(*call));
  HIPATTN_RETURN_IF_ERROR(call->CheckCancelled());
  if (call->args.q == nullptr) {
    return Status::Ok();
  }
  HIPATTN_RETURN_IF_ERROR(LoadQ(call));
  HIPATTN_RETURN_IF_ERROR(RunPrefill(call));
  HIPATTN_RETURN_IF_ERROR(AuditPrefill(call));
  return RunDecode(call);
}

void Commit(Call& call) {
  for (const Part& part : call.parts) {
    part.layer->tokens += part.num_rows;
    CountModes(call.engine, part.sequence->audits.Change(call.args.layer));
    if (!part.decode || call.args.q == nullptr) {
      part.layer->step = 0;
      part.layer->selected = false;
    }
    for (HeadState& head : part.layer->heads) {
      KeepEnds(
          call.engine, *part.sequence, head.store, part.first_pos, part.first_pos + part.num_rows);
    }
    if (!part.sequence->context.summaries) {
      continue;
    }
    for (HeadState& head : part.layer->heads) {
      if (head.store.summarized_blocks() < part.index_blocks) {
        head.store.MarkSummarized(part.index_blocks);
      }
    }
  }
  EngineState& engine = call.engine;
  const std::lock_guard<std::mutex> lock(engine.stats_mutex);
  engine.stats.blocks_attended += call.stats.blocks_attended;
  engine.stats.blocks_hit += engine.cache == nullptr ? call.stats.blocks_attended : 0;
  engine.stats.search_keys_read += call.stats.search_keys_read;
  engine.stats.search_bytes_read += call.stats.search_bytes_read;
  engine.stats.prefill_tiles += call.stats.prefill_tiles;
  engine.stats.prefill_dense_tiles += call.stats.prefill_dense_tiles;
  engine.stats.search_ns += call.stats.search_ns;
  engine.stats.attend_ns += call.stats.attend_ns;
  engine.recall_sum += call.stats.recall_sum;
  engine.recall_count += call.stats.recall_count;
  engine.prefill_recall_sum += call.stats.prefill_recall_sum;
  engine.prefill_recall_count += call.stats.prefill_recall_count;
}

void Abandon(Call& call) {
  for (const Part& part : call.parts) {
    part.sequence->audits.Restore(call.args.layer);
    for (HeadState& head : part.layer->heads) {
      if (call.touched) {
        head.store.MarkStale();
      }
      head.store.Trim(part.sequence->context,
                      std::max(part.layer->tokens, part.sequence->reserved_tokens));
    }
    if (!call.touched) {
      continue;
    }
    // A decode step may have searched before it failed: the next one searches anew.
    part.layer->step = 0;
    part.layer->selected = false;
    part.layer->last_mode = StepMode::kNever;
  }
  if (call.engine.cache != nullptr) {
    call.engine.cache->DropIfUnused();
  }
}

// Gives the call up unless it succeeded; std may throw on the way.
class Attempt {
 public:
  explicit Attempt(Call* call) : call_(call) {
    call_->engine.running.store(true, std::memory_order_release);
  }
  ~Attempt() {
    call_->engine.running.store(false, std::memory_order_release);
    if (!succeeded_) {
      Abandon(*call_);
    }
  }
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  void Succeed() { succeeded_ = true; }

 private:
  Call* const call_;
  bool succeeded_ = false;
};

}  // namespace

Status CopyPieces(EngineState& engine, std::span<const device::CopyPiece> pieces) {
  const offload::TraceSpan span(engine.trace.get(), "copy");
  Result<device::Ticket> ticket = engine.device->Copy(0, pieces);
  HIPATTN_RETURN_IF_ERROR(ticket.status());
  return engine.device->Sync(*ticket);
}

Status RunAttend(EngineState& engine, const AttendArgs& args) {
  Call call{engine, args, {}};
  offload::TraceSpan span(engine.trace.get(), "attend");
  HIPATTN_RETURN_IF_ERROR(PrepareParts(&call));
  span.Set("layer", args.layer);
  span.Set("tokens", call.num_rows);
  span.Set("texts", call.parts.size());
  engine.cancelled.store(false, std::memory_order_relaxed);
  Attempt attempt(&call);
  HIPATTN_RETURN_IF_ERROR(Execute(&call));
  attempt.Succeed();
  Commit(call);
  TraceCounts(engine);
  return Status::Ok();
}

}  // namespace hipattn::engine
