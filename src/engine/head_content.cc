// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/head_content.h"

#include "base/int_math.h"

#include <algorithm>
#include <vector>

namespace hipattn::engine {
namespace {

uint64_t VectorsBytes(const StoreContext& context) {  // low, high, and mean or sum
  return uint64_t{3} * context.head_dim * sizeof(float);
}

// Pieces of memory that follow each other in the index.
struct Section {
  uint64_t begin = 0;  // in the index
  uint64_t bytes = 0;
  uint64_t unit_bytes = 1;  // of a piece; the last one may be used in part
  float* only = nullptr;    // one of these three
  float* const* vectors = nullptr;
  std::byte* const* chunks = nullptr;
  uint64_t last_group = UINT64_MAX;  // of a level whose last group is not full: where it begins
  uint32_t nodes_of_last = 0;        // and its nodes

  uint64_t end() const { return begin + bytes; }
  std::byte* Address(uint64_t offset) const {
    const uint64_t unit = (offset - begin) / unit_bytes;
    std::byte* const data = chunks != nullptr    ? chunks[unit]
                            : vectors != nullptr ? reinterpret_cast<std::byte*>(vectors[unit])
                                                 : reinterpret_cast<std::byte*>(only);
    return data + (offset - begin) % unit_bytes;
  }
  // Bytes from `offset` on that lie in one piece of memory.
  uint64_t Contiguous(uint64_t offset) const {
    return std::min(end() - offset, unit_bytes - (offset - begin) % unit_bytes);
  }
};

// The sections of `blocks` blocks of a store; nullptr when only their sizes matter.
std::vector<Section> SectionsOf(const StoreContext& context,
                                uint64_t blocks,
                                const HeadStore* store) {
  std::vector<Section> sections;
  if (blocks == 0) {
    return sections;
  }
  const device::SummarizeJob job =
      store == nullptr ? device::SummarizeJob{} : store->AppendJob(context, blocks);
  const auto add = [&](Section section) {
    section.begin = sections.empty() ? 0 : sections.back().end();
    sections.push_back(section);
    return &sections.back();
  };
  Section open;
  open.bytes = (kMaxLevels - 1) * VectorsBytes(context);
  open.unit_bytes = open.bytes;
  open.only = job.open;
  add(open);
  const uint32_t kept_level = device::KeptLevel(context.block_tokens);
  for (uint32_t level = kept_level; level < kMaxLevels; ++level) {
    Section kept;
    kept.unit_bytes = VectorsBytes(context);
    kept.bytes = (blocks >> (3 * level)) * kept.unit_bytes;
    kept.vectors = job.kept[level - kept_level];
    add(kept);
  }
  const uint64_t group_bytes = device::SummaryGroupBytes(context.head_dim, context.has_spread);
  for (uint32_t level = kMaxLevels; level-- > 0;) {
    const uint64_t nodes = blocks >> (3 * level);
    Section groups;
    groups.unit_bytes = group_bytes << ChunkGroupsLog2(level);
    groups.bytes = CeilDiv<uint64_t>(nodes, kFanOut) * group_bytes;
    groups.chunks = store == nullptr ? nullptr : store->level_data(level).chunks;
    Section* added = add(groups);
    if (nodes % kFanOut != 0) {
      added->last_group = added->end() - group_bytes;
      added->nodes_of_last = static_cast<uint32_t>(nodes % kFanOut);
    }
  }
  if (context.sketches) {
    const uint64_t sketch_bytes = device::SketchBytes(context.head_dim);
    Section section;
    section.unit_bytes = sketch_bytes << kChunkSketchesLog2;
    section.bytes = blocks * (context.block_tokens / device::kSketchTokens) * sketch_bytes;
    section.chunks = store == nullptr ? nullptr : store->sketch_data().chunks;
    add(section);
  }
  return sections;
}

// The section and the part of `bytes` that lies in one piece of memory, for all of [offset, offset
// + size) in order.
template <typename Use>
void ForEachPiece(const std::vector<Section>& sections, uint64_t offset, uint64_t size, Use&& use) {
  const uint64_t end = offset + size;
  for (const Section& section : sections) {
    uint64_t at = std::max(offset, section.begin);
    while (at < std::min(end, section.end())) {
      const uint64_t count = std::min(section.Contiguous(at), end - at);
      use(section, at, count);
      at += count;
    }
  }
}

Status CopyAndWait(const StoreContext& context, const std::vector<device::CopyPiece>& pieces) {
  device::Device& device = context.memory->device();
  HIPATTN_ASSIGN_OR_RETURN(const device::Ticket ticket, device.Copy(0, pieces));
  return device.Sync(ticket);
}

// Lanes of nodes that are not there. In a group of summaries (device/params.h) every second pair of
// bytes and every float belongs to the node of its number modulo 8.
void ClearMissingNodes(const Section& section, uint64_t at, std::span<std::byte> bytes) {
  constexpr uint64_t kScaleBytes = 2 * kFanOut * sizeof(float);
  const uint64_t begin = std::max(at, section.last_group);
  for (uint64_t i = begin; i < at + bytes.size(); ++i) {
    const uint64_t place = i - section.last_group;
    const uint64_t node =
        place < kScaleBytes ? place / sizeof(float) % kFanOut : (place - kScaleBytes) / 2 % kFanOut;
    if (node >= section.nodes_of_last) {
      bytes[i - at] = std::byte{0};
    }
  }
}

// Open nodes without a child, and all when they are to be rebuilt.
void ClearMissingOpen(const StoreContext& context,
                      const HeadStore& store,
                      uint64_t at,
                      std::span<std::byte> bytes) {
  for (uint64_t i = at; i < at + bytes.size(); ++i) {
    const uint64_t below = i / VectorsBytes(context);  // level of the children
    const uint64_t children = (store.summarized_blocks() >> (3 * below)) % kFanOut;
    if (children == 0 || store.NeedsRebuild()) {
      bytes[i - at] = std::byte{0};
    }
  }
}

// Lanes and rows of tokens that are not there, in a block of `tokens` tokens.
void ClearMissingTokens(const device::BlockPool& pool,
                        uint64_t tokens,
                        std::span<std::byte> block) {
  const uint64_t element = DTypeBytes(pool.kv_dtype);
  const uint64_t row = pool.head_dim * element;
  const uint64_t panel = row * device::kPanelTokens;
  for (uint64_t token = tokens; token < pool.block_tokens; ++token) {
    std::byte* lane = block.data() + token / device::kPanelTokens * panel +
                      token % device::kPanelTokens * element;
    for (uint32_t d = 0; d < pool.head_dim; ++d) {
      std::fill_n(lane + d * device::kPanelTokens * element, element, std::byte{0});
    }
    std::fill_n(block.data() + block.size() / 2 + token * row, row, std::byte{0});
  }
}

}  // namespace

uint64_t IndexedBlocks(const StoreContext& context, const HeadStore& store) {
  return context.summaries ? store.summarized_blocks() : 0;
}

uint64_t IndexBytes(const StoreContext& context, uint64_t blocks) {
  const std::vector<Section> sections = SectionsOf(context, blocks, nullptr);
  return sections.empty() ? 0 : sections.back().end();
}

Status ReadBlocks(const StoreContext& context,
                  const HeadStore& store,
                  uint64_t num_tokens,
                  uint64_t first,
                  std::span<std::byte> to) {
  const device::BlockPool pool = context.pool->view();
  const uint64_t count = to.size() / pool.block_bytes;
  if (context.cache != nullptr) {
    HIPATTN_RETURN_IF_ERROR(context.cache->ReadContent({store.slots() + first, count}, to.data()));
  } else {
    std::vector<device::CopyPiece> pieces;
    pieces.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      pieces.push_back({to.data() + i * pool.block_bytes,
                        device::BlockAddress(pool, store.slots()[first + i]),
                        pool.block_bytes});
    }
    HIPATTN_RETURN_IF_ERROR(CopyAndWait(context, pieces));
  }
  const uint64_t last = num_tokens / context.block_tokens;
  if (num_tokens % context.block_tokens != 0 && last >= first && last - first < count) {
    ClearMissingTokens(pool,
                       num_tokens % context.block_tokens,
                       to.subspan((last - first) * pool.block_bytes, pool.block_bytes));
  }
  return Status::Ok();
}

Status WriteBlocks(const StoreContext& context,
                   HeadStore* store,
                   uint64_t first,
                   std::span<const std::byte> from) {
  const device::BlockPool pool = context.pool->view();
  const uint64_t count = from.size() / pool.block_bytes;
  if (context.cache != nullptr) {
    return context.cache->Restore({store->slots() + first, count}, from.data());
  }
  std::vector<device::CopyPiece> pieces;
  pieces.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    pieces.push_back({device::BlockAddress(pool, store->slots()[first + i]),
                      from.data() + i * pool.block_bytes,
                      pool.block_bytes});
  }
  return CopyAndWait(context, pieces);
}

Status ReadIndex(const StoreContext& context,
                 const HeadStore& store,
                 uint64_t offset,
                 std::span<std::byte> to) {
  const uint64_t blocks = IndexedBlocks(context, store);
  const std::vector<Section> sections = SectionsOf(context, blocks, &store);
  const auto is_open = [&](const Section& section) { return &section == &sections.front(); };
  std::vector<device::CopyPiece> pieces;
  ForEachPiece(sections, offset, to.size(), [&](const Section& section, uint64_t at, uint64_t n) {
    if (!is_open(section) || !store.NeedsRebuild()) {  // else they may have no memory yet
      pieces.push_back({to.data() + (at - offset), section.Address(at), n});
    }
  });
  HIPATTN_RETURN_IF_ERROR(CopyAndWait(context, pieces));
  ForEachPiece(sections, offset, to.size(), [&](const Section& section, uint64_t at, uint64_t n) {
    const std::span<std::byte> piece = to.subspan(at - offset, n);
    if (is_open(section)) {
      ClearMissingOpen(context, store, at, piece);
    } else if (section.nodes_of_last != 0) {
      ClearMissingNodes(section, at, piece);
    }
  });
  return Status::Ok();
}

Status WriteIndex(const StoreContext& context,
                  HeadStore* store,
                  uint64_t blocks,
                  uint64_t offset,
                  std::span<const std::byte> from) {
  const std::vector<Section> sections = SectionsOf(context, blocks, store);
  std::vector<device::CopyPiece> pieces;
  ForEachPiece(sections, offset, from.size(), [&](const Section& section, uint64_t at, uint64_t n) {
    pieces.push_back({section.Address(at), from.data() + (at - offset), n});
  });
  return CopyAndWait(context, pieces);
}

}  // namespace hipattn::engine
