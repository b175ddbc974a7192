// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/bad_alloc.h"
#include "engine/audit.h"
#include "engine/block_ops.h"
#include "engine/engine.h"
#include "engine/profile.h"
#include "engine/recall.h"
#include "engine/snapshot.h"
#include "engine/state.h"

#include <algorithm>
#include <numeric>

namespace hipattn::engine {
namespace {

// Everything of a sequence that follows from its options.
void ApplyOptions(const EngineState& engine,
                  const AttentionOptions& options,
                  SequenceState* sequence) {
  sequence->options = options;
  sequence->context.summaries = options.keeps_summaries();
  sequence->context.has_spread = ScorerHasSpread(options.scorer_kind());
  sequence->context.sketches = options.keeps_sketches();
  sequence->keys_rotated =
      engine.rope.mode == 0 || engine.options.trained_tokens == 0 || options.searches_tree();
}

template <typename Fn>
void ForEachStore(SequenceState& sequence, Fn&& fn) {
  for (LayerState& layer : sequence.layers) {
    for (HeadState& head : layer.heads) {
      fn(layer, head.store);
    }
  }
}

// HeadStore's, as a Status in every case: what the stores before it took is then to be given back.
Status MakeRoom(const SequenceState& sequence,
                const LayerState& layer,
                HeadStore& store,
                uint64_t num_tokens) {
  return CatchBadAlloc([&] { return store.MakeRoom(sequence.context, layer.tokens, num_tokens); });
}

// Room for what the sequence has reserved, in every store.
Status MakeReservedRoom(EngineState& engine, SequenceState& sequence) {
  HIPATTN_RETURN_IF_ERROR(RaiseFloor(engine, sequence, sequence.reserved_tokens));
  for (LayerState& layer : sequence.layers) {
    for (HeadState& head : layer.heads) {
      HIPATTN_RETURN_IF_ERROR(MakeRoom(sequence, layer, head.store, sequence.reserved_tokens));
    }
  }
  return Status::Ok();
}

// The first num_tokens tokens of every layer of `from` become those of `to`, which is empty.
Status Share(SequenceState& from, uint64_t num_tokens, SequenceState* to) {
  for (size_t l = 0; l < from.layers.size(); ++l) {
    LayerState& layer = to->layers[l];
    for (size_t h = 0; h < layer.heads.size(); ++h) {
      HIPATTN_RETURN_IF_ERROR(
          layer.heads[h].store.ShareFrom(to->context, from.layers[l].heads[h].store, num_tokens));
    }
    layer.tokens = num_tokens;
  }
  return Status::Ok();
}

// The next decode step begins a new refresh (D34).
void RestartRefresh(LayerState& layer) {
  layer.step = 0;
  layer.selected = false;
}

}  // namespace

Sequence::Sequence(std::shared_ptr<Engine> engine, const AttentionOptions& options)
    : engine_(std::move(engine)), state_(std::make_unique<SequenceState>()) {
  EngineState& e = *engine_->state_;
  state_->context.pool = &e.pool;
  state_->context.cache = e.cache.get();
  state_->context.memory = &e.memory;
  if (e.options.indexes_on_host()) {
    state_->context.host_memory = &e.host_memory;
    state_->context.host_chunks = &e.host_chunks;
    state_->context.copies = &e.copies;
  }
  state_->context.block_tokens = e.options.block_tokens;
  state_->context.head_dim = e.options.head_dim;
  ApplyOptions(e, options, state_.get());
  state_->layers = std::vector<LayerState>(e.options.num_layers);
  for (LayerState& layer : state_->layers) {
    layer.heads = std::vector<HeadState>(e.options.num_kv_heads);
  }
  state_->audits = core::AuditTable(e.options.num_layers, e.options.num_kv_heads);
  if (options.rerank_tokens != kNone && !e.profile.heads().empty()) {
    core::AuditTable profile = e.profile;
    profile.DecideAll(options.max_scanned_heads);
    AdoptAudits(e, profile, state_.get());
  }
}

Sequence::~Sequence() {
  const core::AuditTable::Counts counts = state_->audits.Count();
  CountModes(*engine_->state_, {-counts.scanned, -counts.waiting});
  ForEachStore(*state_, [&](LayerState&, HeadStore& store) { store.Trim(state_->context, 0); });
}

Result<std::unique_ptr<Sequence>> Sequence::Create(std::shared_ptr<Engine> engine,
                                                   const AttentionOptions& options) {
  return std::unique_ptr<Sequence>(new Sequence(std::move(engine), options));
}

SequenceState* SequenceStateOf(const Sequence& sequence) {
  return sequence.state_.get();
}

Engine& Sequence::engine() const {
  return *engine_;
}
const AttentionOptions& Sequence::options() const {
  return state_->options;
}

Status Sequence::SetOptions(const AttentionOptions& options) {
  const AttentionOptions& old = state_->options;
  if (!state_->empty()) {
    if (options.scorer != old.scorer) {
      return InvalidArgument("scorer is ",
                             options.scorer,
                             " but was ",
                             old.scorer,
                             ": fixed once the sequence has tokens");
    }
    if (options.search != old.search) {
      return InvalidArgument("search is ",
                             options.search,
                             " but was ",
                             old.search,
                             ": fixed once the sequence has tokens");
    }
    if ((options.rerank_tokens == kNone) != (old.rerank_tokens == kNone)) {
      return InvalidArgument("rerank_tokens is ",
                             options.rerank_tokens,
                             " but was ",
                             old.rerank_tokens,
                             ": whether sketches are kept is fixed once the sequence has tokens");
    }
  }
  const auto adopt = [this](const AttentionOptions& adopted) {
    const bool empty = state_->empty();
    ApplyOptions(*engine_->state_, adopted, state_.get());
    ForEachStore(*state_, [&](LayerState& layer, HeadStore& store) {
      RestartRefresh(layer);
      store.Cut(state_->context, layer.tokens);  // room for summaries may be wanted now
      if (empty) {
        store.Trim(state_->context, 0);  // another scorer's summaries have another size
      }
    });
    return state_->reserved_tokens == 0 ? Status::Ok() : Reserve(state_->reserved_tokens);
  };
  const AttentionOptions before = old;
  Status status = adopt(options);
  if (!status.ok()) {
    // What the old options had room for has just been given back.
    HIPATTN_RETURN_IF_ERROR(adopt(before));
  }
  return status;
}

Status Sequence::Reserve(uint64_t num_tokens) {
  Status status = RaiseFloor(*engine_->state_, *state_, num_tokens);
  for (LayerState& layer : state_->layers) {
    for (HeadState& head : layer.heads) {
      if (status.ok()) {
        status = MakeRoom(*state_, layer, head.store, num_tokens);
      }
    }
  }
  if (status.ok()) {
    state_->reserved_tokens = std::max(state_->reserved_tokens, num_tokens);
    return status;
  }
  ForEachStore(*state_, [&](LayerState& layer, HeadStore& store) {
    store.Trim(state_->context, std::max(layer.tokens, state_->reserved_tokens));
  });
  if (state_->context.cache != nullptr) {
    state_->context.cache->DropIfUnused();
  }
  return {status.code(), StrCat("num_tokens is ", num_tokens, ": ", status.message())};
}

uint64_t Sequence::length() const {
  uint64_t length = UINT64_MAX;
  for (const LayerState& layer : state_->layers) {
    length = std::min(length, layer.tokens);
  }
  return length;
}

Result<std::unique_ptr<Sequence>> Sequence::Fork(uint64_t num_tokens) const {
  if (num_tokens > length()) {
    return InvalidArgument("num_tokens is ", num_tokens, ", the sequence has ", length());
  }
  std::vector<uint64_t> own_from;
  ForEachStore(*state_,
               [&](LayerState&, const HeadStore& store) { own_from.push_back(store.own_from()); });
  std::unique_ptr<Sequence> child(new Sequence(engine_, state_->options));
  Status status = CatchBadAlloc([&] {
    AdoptAudits(*engine_->state_, state_->audits, child->state_.get());
    return Share(*state_, num_tokens, child->state_.get());
  });
  // The parent's last block is shared now. Its reservation covers the copy that its next token will
  // need.
  if (status.ok() && state_->reserved_tokens > length()) {
    status = MakeReservedRoom(*engine_->state_, *state_);
  }
  if (status.ok()) {
    return child;
  }
  // What would have been shared is the parent's alone again, and its reservation covers it.
  child.reset();
  auto before = own_from.begin();
  ForEachStore(*state_, [&](LayerState&, HeadStore& store) { store.OwnAgain(*before++); });
  HIPATTN_RETURN_IF_ERROR(MakeReservedRoom(*engine_->state_, *state_));
  return status;
}

Status Sequence::Truncate(uint64_t num_tokens) {
  if (num_tokens > length()) {
    return InvalidArgument("num_tokens is ", num_tokens, ", the sequence has ", length());
  }
  for (LayerState& layer : state_->layers) {
    for (HeadState& head : layer.heads) {
      head.store.Cut(state_->context, num_tokens);
      head.store.Trim(state_->context, num_tokens);
    }
    layer.tokens = num_tokens;
    RestartRefresh(layer);
    layer.last_mode = StepMode::kNever;
  }
  if (state_->reserved_tokens <= num_tokens) {
    return Status::Ok();
  }
  // What was given back is taken again; only blocks that a fork still holds, or memory
  // that the system refuses, can be missing.
  ForEachStore(*state_, [&](LayerState& layer, HeadStore& store) {
    const Status room = MakeRoom(*state_, layer, store, state_->reserved_tokens);
    if (!room.ok()) {
      state_->reserved_tokens = num_tokens;
      // The text is cut already; without memory for a message nothing is said.
      (void)CatchBadAlloc([&]() -> Status {
        engine_->state_->logger.Warn(
            StrCat("truncate lost the sequence's reservation: ", room.message()));
        return Status::Ok();
      });
    }
  });
  return Status::Ok();
}

Result<std::vector<int32_t>> Sequence::Selection(uint32_t layer, uint32_t kv_head) const {
  const EngineOptions& options = engine_->options();
  if (layer >= options.num_layers) {
    return InvalidArgument("layer is ", layer, ", num_layers is ", options.num_layers);
  }
  if (kv_head >= options.num_kv_heads) {
    return InvalidArgument("kv_head is ", kv_head, ", num_kv_heads is ", options.num_kv_heads);
  }
  const LayerState& state = state_->layers[layer];
  std::vector<int32_t> blocks;
  if (state.last_mode == StepMode::kNever) {
    return blocks;
  }
  if (state.last_mode == StepMode::kDense) {
    blocks.resize(static_cast<size_t>(state.last_pos / options.block_tokens + 1));
    std::iota(blocks.begin(), blocks.end(), 0);
    return blocks;
  }
  for (const core::TokenRange& range : state.heads[kv_head].list.ranges) {
    const auto block = static_cast<int32_t>(range.begin / options.block_tokens);
    if (blocks.empty() || blocks.back() != block) {
      blocks.push_back(block);
    }
  }
  return blocks;
}

Result<Recall> Sequence::GetRecall(uint32_t layer, uint32_t q_head) const {
  const EngineOptions& options = engine_->options();
  if (layer >= options.num_layers) {
    return InvalidArgument("layer is ", layer, ", num_layers is ", options.num_layers);
  }
  if (q_head >= options.num_q_heads) {
    return InvalidArgument("q_head is ", q_head, ", num_q_heads is ", options.num_q_heads);
  }
  return RecallOf(*engine_->state_, *state_, layer, q_head);
}

Status Sequence::Save(const std::string& path, std::span<const std::byte> fingerprint) {
  return SaveSnapshot(*engine_->state_, state_.get(), path, fingerprint);
}

Result<std::unique_ptr<Sequence>> Sequence::Load(std::shared_ptr<Engine> engine,
                                                 const std::string& path,
                                                 std::span<const std::byte> fingerprint) {
  EngineState& state = *engine->state_;
  return LoadSnapshot(state, path, fingerprint, [&](const AttentionOptions& options) {
    return Create(std::move(engine), options);
  });
}

Status Sequence::SaveProfile(const std::string& json_path) const {
  return WriteProfile(json_path, engine_->options(), state_->audits);
}

}  // namespace hipattn::engine
