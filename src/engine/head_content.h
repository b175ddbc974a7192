// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What one (sequence, layer, kv head) keeps, as bytes in host memory: the way of snapshots to a
// text, whatever device or tier its blocks are on. The same content gives the same bytes: what was
// never written is zero.
//
// Blocks: one after another as in a slot (device/params.h), the last one up to the text's end.
// Index of the first `blocks` blocks, little-endian:
//   open      [kMaxLevels - 1][low, high, sum of means][head_dim] f32, those that have a child
//   kept      levels from KeptLevel up, [node][low, high, mean][head_dim] f32
//   summaries levels from the top down, groups of 8 nodes
//   sketches  of every block
// all of them as SummarizeJob and SketchTable have them. Nothing when there are no such blocks.
#ifndef HIPATTN_ENGINE_HEAD_CONTENT_H_
#define HIPATTN_ENGINE_HEAD_CONTENT_H_

#include "base/dtype.h"
#include "base/status.h"
#include "engine/head_store.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace hipattn::engine {

// Blocks that the index to be saved has. None under options that keep no tree: one that is left of
// earlier options is made anew should they return.
uint64_t IndexedBlocks(const StoreContext& context, const HeadStore& store);

uint64_t IndexBytes(const StoreContext& context, uint64_t blocks);

// Reads: from the store to `to`. Writes: from `from` to the store, which has room; afterwards its
// RestoreSummarized. Several threads may work on different parts of a store at once. Errors are the
// device's.

// Whole blocks, from `first` on, of a text of num_tokens tokens.
Status ReadBlocks(const StoreContext& context,
                  const HeadStore& store,
                  uint64_t num_tokens,
                  uint64_t first,
                  std::span<std::byte> to);
Status WriteBlocks(const StoreContext& context,
                   HeadStore* store,
                   uint64_t first,
                   std::span<const std::byte> from);

// Bytes of the index of IndexedBlocks, from `offset` on.
Status ReadIndex(const StoreContext& context,
                 const HeadStore& store,
                 uint64_t offset,
                 std::span<std::byte> to);
// The same of `blocks` blocks.
Status WriteIndex(const StoreContext& context,
                  HeadStore* store,
                  uint64_t blocks,
                  uint64_t offset,
                  std::span<const std::byte> from);

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_HEAD_CONTENT_H_
