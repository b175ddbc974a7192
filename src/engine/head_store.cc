// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/head_store.h"

#include "base/bad_alloc.h"
#include "base/int_math.h"

#include <cstring>

namespace hipattn::engine {
namespace {

uint64_t NodeTokens(const StoreContext& context, uint32_t level) {
  return uint64_t{context.block_tokens} << (3 * level);
}

uint64_t GroupBytes(const StoreContext& context) {
  return device::SummaryGroupBytes(context.head_dim, context.has_spread);
}

uint32_t LevelNodesLog2(uint32_t level) {
  return ChunkGroupsLog2(level) + 3;
}

uint32_t SketchesPerBlock(const StoreContext& context) {
  return context.block_tokens / device::kSketchTokens;
}

uint32_t RunOf(uint32_t slot) {
  return slot / offload::kRunSlots;
}

}  // namespace

Status HeadStore::MakeRoom(const StoreContext& context, uint64_t written, uint64_t num_tokens) {
  if (num_tokens <= room_tokens_) {
    return Status::Ok();
  }
  HIPATTN_RETURN_IF_ERROR(MakeSlotRoom(context, written, num_tokens));
  if (context.summaries) {
    HIPATTN_RETURN_IF_ERROR(MakeSummaryRoom(context, num_tokens));
  }
  room_tokens_ = slots_.size() * context.block_tokens;
  if (context.summaries) {  // summaries have room for whole nodes up to num_tokens only
    room_tokens_ =
        std::min(room_tokens_, RoundUp<uint64_t>(num_tokens + 1, context.block_tokens) - 1);
  }
  return Status::Ok();
}

Status HeadStore::MakeSlotRoom(const StoreContext& context, uint64_t written, uint64_t num_tokens) {
  HIPATTN_RETURN_IF_ERROR(OwnTail(context, written));
  const uint64_t blocks = CeilDiv<uint64_t>(num_tokens, context.block_tokens);
  if (slots_.size() >= blocks) {
    return Status::Ok();
  }
  if (context.cache != nullptr) {
    return AddBlocks(context, blocks);
  }
  HIPATTN_RETURN_IF_ERROR(
      slots_.Reserve(*context.memory, RoundUp<uint64_t>(blocks, offload::kRunSlots)));
  while (slots_.size() < blocks) {
    // A table whose length is no multiple of the run (a fork's) leaves the end of its last run
    // unused.
    HIPATTN_RETURN_IF_ERROR(slots_.Reserve(*context.memory, slots_.size() + offload::kRunSlots));
    HIPATTN_ASSIGN_OR_RETURN(const uint32_t first, context.pool->TakeRun());
    for (uint32_t i = 0; i < offload::kRunSlots; ++i) {
      slots_.Append(first + i);
    }
  }
  return Status::Ok();
}

Status HeadStore::ReserveTail(const StoreContext& context) {
  if (!has_tail_) {
    Status reserved = context.cache->ReserveTail();
    if (reserved.code() == StatusCode::kOutOfBudget && context.copies != nullptr &&
        context.copies->DropAll()) {
      reserved = context.cache->ReserveTail();
    }
    HIPATTN_RETURN_IF_ERROR(reserved);
    has_tail_ = true;
  }
  return Status::Ok();
}

Status HeadStore::AddBlocks(const StoreContext& context, uint64_t blocks) {
  HIPATTN_RETURN_IF_ERROR(ReserveTail(context));
  HIPATTN_RETURN_IF_ERROR(
      slots_.Reserve(context.TableMemory(), RoundUp<uint64_t>(blocks, offload::kRunSlots)));
  while (slots_.size() < blocks) {
    HIPATTN_ASSIGN_OR_RETURN(const uint32_t block, context.cache->Create());
    slots_.Append(block);
  }
  return Status::Ok();
}

// The unfinished block that the next token goes to must be this table's own. What follows it in the
// table is room, and goes with it.
Status HeadStore::OwnTail(const StoreContext& context, uint64_t written) {
  const uint64_t tail = written / context.block_tokens;
  if (tail >= own_from_ || written % context.block_tokens == 0) {
    return Status::Ok();
  }
  if (context.cache != nullptr) {
    return CloneTail(context, tail);
  }
  HIPATTN_ASSIGN_OR_RETURN(const uint32_t first, context.pool->TakeRun());
  const uint64_t room = slots_.size();
  const uint32_t shared = slots_[tail];
  device::BlockPool view = context.pool->view();
  const device::CopyPiece piece = {
      device::BlockAddress(view, first), device::BlockAddress(view, shared), view.block_bytes};
  Result<device::Ticket> copied = context.memory->device().Copy(0, {&piece, 1});
  Status reserved = copied.status();
  if (copied.ok()) {
    reserved =
        CatchBadAlloc([&] { return slots_.Reserve(*context.memory, tail + offload::kRunSlots); });
  }
  if (!reserved.ok()) {
    context.pool->Release(first);
    return reserved;
  }
  DropBlocks(context, tail);
  for (uint32_t i = 0; i < offload::kRunSlots; ++i) {
    slots_.Append(first + i);
  }
  own_from_ = tail;
  room_tokens_ = 0;
  return room > slots_.size()
             ? MakeSlotRoom(context, tail * context.block_tokens, room * context.block_tokens)
             : Status::Ok();
}

// OwnTail of blocks that are held one by one: what follows the tail is room that nobody shares.
Status HeadStore::CloneTail(const StoreContext& context, uint64_t tail) {
  HIPATTN_ASSIGN_OR_RETURN(const uint32_t clone, context.cache->Clone(slots_[tail]));
  context.cache->Release(slots_[tail]);
  slots_[tail] = clone;
  own_from_ = tail;
  room_tokens_ = 0;
  return Status::Ok();
}

Status HeadStore::MakeSummaryRoom(const StoreContext& context, uint64_t num_tokens) {
  if (open_.buffer().data() == nullptr) {
    const size_t bytes = (kMaxLevels - 1) * size_t{3} * context.head_dim * sizeof(float);
    HIPATTN_ASSIGN_OR_RETURN(open_, context.memory->Allocate(device::MemoryKind::kDevice, bytes));
  }
  for (uint32_t level = 0; level < kMaxLevels && num_tokens >= NodeTokens(context, level);
       ++level) {
    HIPATTN_RETURN_IF_ERROR(MakeLevelRoom(context,
                                          LevelShape(context, level),
                                          summarized_ >> (3 * level),
                                          num_tokens / NodeTokens(context, level),
                                          &levels_[level]));
  }
  if (context.sketches) {
    const uint64_t per_block = SketchesPerBlock(context);
    HIPATTN_RETURN_IF_ERROR(MakeLevelRoom(context,
                                          SketchShape(context),
                                          summarized_ * per_block,
                                          num_tokens / context.block_tokens * per_block,
                                          &sketches_));
  }
  return MakeKeptRoom(context, num_tokens);
}

HeadStore::ChunkShape HeadStore::LevelShape(const StoreContext& context, uint32_t level) {
  return {
      GroupBytes(context) << ChunkGroupsLog2(level), LevelNodesLog2(level), context.OnHost(level)};
}

HeadStore::ChunkShape HeadStore::SketchShape(const StoreContext& context) {
  return {device::SketchBytes(context.head_dim) << kChunkSketchesLog2,
          kChunkSketchesLog2,
          context.SketchesOnHost()};
}

Status HeadStore::MakeLevelRoom(const StoreContext& context,
                                const ChunkShape& shape,
                                uint64_t nodes_before,
                                uint64_t nodes,
                                Level* level) {
  const uint64_t first_written = nodes_before >> shape.nodes_log2;
  for (uint64_t i = first_written; nodes > nodes_before && i < level->chunks.size(); ++i) {
    if (level->chunks[i].use_count() > 1) {
      HIPATTN_ASSIGN_OR_RETURN(std::shared_ptr<IndexChunk> own, TakeChunk(context, shape));
      const device::CopyPiece piece = {own->data(), level->chunks[i]->data(), shape.bytes};
      Result<device::Ticket> copied = context.memory->device().Copy(0, {&piece, 1});
      HIPATTN_RETURN_IF_ERROR(copied.status());
      level->chunks[i] = std::move(own);
      level->pointers[i] = level->chunks[i]->device_data();
      if (shape.on_host) {
        level->host_pointers[i] = level->chunks[i]->data();
      }
    }
  }
  const uint64_t chunks = CeilDiv(nodes, uint64_t{1} << shape.nodes_log2);
  HIPATTN_RETURN_IF_ERROR(ReservePointers(context, shape.on_host, chunks, level));
  while (level->chunks.size() < chunks) {
    HIPATTN_ASSIGN_OR_RETURN(std::shared_ptr<IndexChunk> chunk, TakeChunk(context, shape));
    AppendChunk(shape.on_host, std::move(chunk), level);
  }
  return Status::Ok();
}

Result<std::shared_ptr<IndexChunk>> HeadStore::TakeChunk(const StoreContext& context,
                                                         const ChunkShape& shape) {
  if (shape.on_host) {
    HIPATTN_ASSIGN_OR_RETURN(IndexChunk chunk, context.host_chunks->Take(shape.bytes));
    return std::make_shared<IndexChunk>(std::move(chunk));
  }
  HIPATTN_ASSIGN_OR_RETURN(ChargedBuffer own,
                           context.memory->Allocate(device::MemoryKind::kDevice, shape.bytes));
  return std::make_shared<IndexChunk>(std::move(own));
}

Status HeadStore::ReservePointers(const StoreContext& context,
                                  bool on_host,
                                  size_t chunks,
                                  Level* level) {
  if (!on_host) {
    return level->pointers.Reserve(*context.memory, chunks);
  }
  HIPATTN_RETURN_IF_ERROR(level->pointers.Reserve(*context.host_memory, chunks));
  return level->host_pointers.Reserve(*context.host_memory, chunks);
}

// REQUIRES: reserved pointers.
void HeadStore::AppendChunk(bool on_host, std::shared_ptr<IndexChunk> chunk, Level* level) {
  level->chunks.push_back(std::move(chunk));
  level->pointers.Append(level->chunks.back()->device_data());
  if (on_host) {
    level->host_pointers.Append(level->chunks.back()->data());
  }
}

void HeadStore::TrimLevel(uint32_t nodes_log2, uint64_t nodes, Level* level) {
  const size_t chunks = CeilDiv(nodes, uint64_t{1} << nodes_log2);
  level->chunks.resize(std::min(chunks, level->chunks.size()));
  level->pointers.Truncate(chunks);
  level->host_pointers.Truncate(chunks);
  level->pointers.DropIfEmpty();
  level->host_pointers.DropIfEmpty();
}

Status HeadStore::ShareLevel(const StoreContext& context,
                             const Level& parent,
                             const ChunkShape& shape,
                             uint64_t nodes,
                             Level* level) {
  const size_t chunks = CeilDiv(nodes, uint64_t{1} << shape.nodes_log2);
  HIPATTN_RETURN_IF_ERROR(ReservePointers(context, shape.on_host, chunks, level));
  for (size_t i = 0; i < chunks; ++i) {
    AppendChunk(shape.on_host, parent.chunks[i], level);
  }
  return Status::Ok();
}

Status HeadStore::MakeKeptRoom(const StoreContext& context, uint64_t num_tokens) {
  const uint32_t kept_level = device::KeptLevel(context.block_tokens);
  for (uint32_t i = 0; kept_level + i < kMaxLevels; ++i) {
    const uint64_t nodes = num_tokens / NodeTokens(context, kept_level + i);
    HIPATTN_RETURN_IF_ERROR(kept_[i].Reserve(*context.memory, nodes));
    while (kept_chunks_[i].size() < nodes) {
      const size_t bytes = size_t{3} * context.head_dim * sizeof(float);
      HIPATTN_ASSIGN_OR_RETURN(ChargedBuffer chunk,
                               context.memory->Allocate(device::MemoryKind::kDevice, bytes));
      kept_chunks_[i].push_back(std::make_shared<ChargedBuffer>(std::move(chunk)));
      kept_[i].Append(kept_chunks_[i].back()->buffer().as<float>());
    }
  }
  return Status::Ok();
}

void HeadStore::DropBlocks(const StoreContext& context, uint64_t blocks) {
  if (context.cache != nullptr) {
    for (; slots_.size() > blocks; slots_.Truncate(slots_.size() - 1)) {
      context.cache->Release(slots_.back());
    }
    if (slots_.size() == 0 && has_tail_) {
      context.cache->ReleaseTail();
      has_tail_ = false;
    }
    return;
  }
  while (slots_.size() > blocks) {
    const uint32_t slot = slots_.back();
    slots_.Truncate(slots_.size() - 1);
    if (slots_.size() == 0 || RunOf(slots_.back()) != RunOf(slot)) {
      context.pool->Release(slot);
    }
  }
}

void HeadStore::Trim(const StoreContext& context, uint64_t num_tokens) {
  if (num_tokens == 0) {
    copy_.Drop();
  }
  DropBlocks(context, CeilDiv<uint64_t>(num_tokens, context.block_tokens));
  own_from_ = std::min<uint64_t>(own_from_, slots_.size());
  const uint32_t kept_level = device::KeptLevel(context.block_tokens);
  for (uint32_t level = 0; level < kMaxLevels; ++level) {
    const uint64_t nodes = num_tokens / NodeTokens(context, level);
    TrimLevel(LevelNodesLog2(level), nodes, &levels_[level]);
    if (level >= kept_level) {
      kept_chunks_[level - kept_level].resize(
          std::min<size_t>(nodes, kept_chunks_[level - kept_level].size()));
      kept_[level - kept_level].Truncate(nodes);
      kept_[level - kept_level].DropIfEmpty();
    }
  }
  TrimLevel(kChunkSketchesLog2,
            num_tokens / context.block_tokens * SketchesPerBlock(context),
            &sketches_);
  slots_.Shrink(context.TableMemory());
  room_tokens_ = 0;  // the next MakeRoom looks again
}

void HeadStore::Cut(const StoreContext& context, uint64_t num_tokens) {
  const uint64_t blocks = num_tokens / context.block_tokens;
  if (blocks < summarized_) {
    summarized_ = blocks;
    rebuild_ = blocks > 0;
    copy_.Cut(blocks);
  }
  room_tokens_ = 0;  // the tail may be shared
}

Status HeadStore::ShareFrom(const StoreContext& context, HeadStore& parent, uint64_t num_tokens) {
  const uint64_t blocks = CeilDiv<uint64_t>(num_tokens, context.block_tokens);
  HIPATTN_RETURN_IF_ERROR(slots_.Reserve(context.TableMemory(), blocks));
  if (context.cache != nullptr && blocks > 0) {
    HIPATTN_RETURN_IF_ERROR(ReserveTail(context));
  }
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint32_t slot = parent.slots_[i];
    if (context.cache != nullptr) {
      context.cache->Retain(slot);
    } else if (i == 0 || RunOf(slots_.back()) != RunOf(slot)) {
      context.pool->Retain(slot);
    }
    slots_.Append(slot);
  }
  own_from_ = blocks;
  parent.own_from_ = std::max(parent.own_from_, blocks);
  parent.room_tokens_ = 0;
  if (!context.summaries || num_tokens < context.block_tokens) {
    return Status::Ok();
  }
  summarized_ = std::min<uint64_t>(parent.summarized_, num_tokens / context.block_tokens);
  rebuild_ = summarized_ > 0;
  const uint64_t tokens = summarized_ * context.block_tokens;
  const uint32_t kept_level = device::KeptLevel(context.block_tokens);
  for (uint32_t level = 0; level < kMaxLevels && tokens >= NodeTokens(context, level); ++level) {
    const uint64_t nodes = tokens / NodeTokens(context, level);
    HIPATTN_RETURN_IF_ERROR(ShareLevel(
        context, parent.levels_[level], LevelShape(context, level), nodes, &levels_[level]));
    if (level >= kept_level) {
      const uint32_t k = level - kept_level;
      HIPATTN_RETURN_IF_ERROR(kept_[k].Reserve(*context.memory, nodes));
      for (uint64_t i = 0; i < nodes; ++i) {
        kept_chunks_[k].push_back(parent.kept_chunks_[k][i]);
        kept_[k].Append(parent.kept_[k][i]);
      }
    }
  }
  return context.sketches ? ShareLevel(context,
                                       parent.sketches_,
                                       SketchShape(context),
                                       summarized_ * SketchesPerBlock(context),
                                       &sketches_)
                          : Status::Ok();
}

Status HeadStore::CopySketches(const StoreContext& context, uint64_t blocks) {
  return copy_.Bring(
      context.copies,
      {sketch_data(), device::SketchBytes(context.head_dim), SketchesPerBlock(context), blocks});
}

device::WriteSketchJob HeadStore::SketchJob(uint64_t blocks) const {
  const auto first = static_cast<uint32_t>(summarized_);
  return {slots_.data(), first, static_cast<uint32_t>(blocks) - first, sketches()};
}

device::SummarizeJob HeadStore::Job(const StoreContext& context) const {
  device::SummarizeJob job = {};
  job.slots = slots_.data();
  for (uint32_t level = 0; level < kMaxLevels; ++level) {
    job.levels[level] = this->level(level);
  }
  job.open = open_.buffer().as<float>();
  for (uint32_t i = 0; device::KeptLevel(context.block_tokens) + i < kMaxLevels; ++i) {
    job.kept[i] = kept_[i].data();
  }
  return job;
}

device::SummarizeJob HeadStore::RebuildJob(const StoreContext& context) const {
  device::SummarizeJob job = Job(context);
  const uint64_t node_blocks = uint64_t{1} << (3 * device::KeptLevel(context.block_tokens));
  job.first_block = static_cast<uint32_t>(summarized_ / node_blocks * node_blocks);
  job.num_blocks = static_cast<uint32_t>(summarized_) - job.first_block;
  job.rebuild = 1;
  return job;
}

device::SummarizeJob HeadStore::AppendJob(const StoreContext& context, uint64_t blocks) const {
  device::SummarizeJob job = Job(context);
  job.first_block = static_cast<uint32_t>(summarized_);
  job.num_blocks = static_cast<uint32_t>(blocks - summarized_);
  return job;
}

}  // namespace hipattn::engine
