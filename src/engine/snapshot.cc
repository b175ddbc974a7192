// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/snapshot.h"

#include "base/int_math.h"
#include "engine/audit.h"
#include "engine/block_ops.h"
#include "engine/head_content.h"
#include "engine/recall.h"
#include "engine/snapshot_state.h"
#include "offload/snapshot_file.h"
#include "offload/snapshot_layout.h"
#include "offload/snapshot_writer.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace hipattn::engine {
namespace {

// Which extent holds what.
class ExtentMap {
 public:
  ExtentMap(uint32_t num_layers, uint32_t num_kv_heads)
      : heads_per_layer_(num_kv_heads), num_heads_(num_layers * num_kv_heads) {}

  uint32_t num_extents() const { return 1 + 2 * num_heads_; }
  bool IsState(uint32_t extent) const { return extent == 0; }
  bool IsIndex(uint32_t extent) const { return extent >= 1 && extent <= num_heads_; }
  uint32_t Layer(uint32_t extent) const { return (extent - 1) % num_heads_ / heads_per_layer_; }
  uint32_t Head(uint32_t extent) const { return (extent - 1) % num_heads_ % heads_per_layer_; }

  std::string Name(uint32_t extent) const {
    return IsState(extent) ? "the state"
                           : StrCat(IsIndex(extent) ? "the index" : "a block",
                                    " of layer ",
                                    Layer(extent),
                                    ", kv head ",
                                    Head(extent));
  }

 private:
  uint32_t heads_per_layer_;
  uint32_t num_heads_;
};

ExtentMap MapOf(const EngineOptions& options) {
  return {options.num_layers, options.num_kv_heads};
}

uint64_t BlockBytesOf(const EngineOptions& options) {
  return offload::BlockBytes({options.block_tokens, options.head_dim, options.kv()});
}

// Bytes of every extent but the first.
uint64_t ExtentBytes(const EngineOptions& options, const SequenceState& sequence, uint32_t extent) {
  const ExtentMap map = MapOf(options);
  const LayerState& layer = sequence.layers[map.Layer(extent)];
  const HeadStore& store = layer.heads[map.Head(extent)].store;
  return map.IsIndex(extent)
             ? IndexBytes(sequence.context, IndexedBlocks(sequence.context, store))
             : CeilDiv<uint64_t>(layer.tokens, options.block_tokens) * BlockBytesOf(options);
}

// The estimate of a search is made from the search's own walk, which a snapshot does not keep.
Status MakeEstimates(EngineState& engine, SequenceState* sequence) {
  for (uint32_t l = 0; l < sequence->layers.size(); ++l) {
    LayerState& layer = sequence->layers[l];
    if (layer.last_mode == StepMode::kSearched) {
      HIPATTN_RETURN_IF_ERROR(RecallOf(engine, *sequence, l, 0).status());
    }
    if (!layer.estimate_known) {
      layer.estimate.clear();
    }
  }
  return Status::Ok();
}

// Gives the sequence's stores room for its layers' tokens.
Status MakeRoom(EngineState& engine, SequenceState* sequence) {
  for (LayerState& layer : sequence->layers) {
    HIPATTN_RETURN_IF_ERROR(RaiseFloor(engine, *sequence, layer.tokens));
    for (HeadState& head : layer.heads) {
      HIPATTN_RETURN_IF_ERROR(head.store.MakeRoom(sequence->context, 0, layer.tokens));
    }
  }
  return Status::Ok();
}

Status CheckExtents(const EngineOptions& options,
                    const SequenceState& sequence,
                    const offload::SnapshotLayout& layout) {
  for (uint32_t extent = 1; extent < layout.num_extents(); ++extent) {
    const uint64_t want = ExtentBytes(options, sequence, extent);
    if (layout.extent_bytes(extent) != want) {
      return {StatusCode::kCorrupt,
              StrCat(MapOf(options).Name(extent),
                     " has ",
                     layout.extent_bytes(extent),
                     " bytes, its layer's tokens need ",
                     want)};
    }
  }
  return Status::Ok();
}

// Takes the content of every head from the file.
Status ReadContent(const EngineOptions& options,
                   SequenceState* sequence,
                   offload::SnapshotFile* file) {
  const ExtentMap map = MapOf(options);
  return file->Read(
      1,
      map.num_extents(),
      [&](uint32_t extent, uint64_t offset, std::span<const std::byte> bytes) {
        HeadStore& store = sequence->layers[map.Layer(extent)].heads[map.Head(extent)].store;
        return map.IsIndex(extent)
                   ? WriteIndex(sequence->context, &store, store.summarized_blocks(), offset, bytes)
                   : WriteBlocks(sequence->context, &store, offset / BlockBytesOf(options), bytes);
      });
}

Result<std::vector<std::byte>> ReadStateExtent(offload::SnapshotFile* file) {
  std::vector<std::byte> state(file->layout().extent_bytes(0));
  HIPATTN_RETURN_IF_ERROR(
      file->Read(0, 1, [&](uint32_t, uint64_t offset, std::span<const std::byte> bytes) {
        std::copy(bytes.begin(), bytes.end(), state.begin() + static_cast<std::ptrdiff_t>(offset));
        return Status::Ok();
      }));
  return state;
}

}  // namespace

Status SaveSnapshot(EngineState& engine,
                    SequenceState* sequence,
                    const std::string& path,
                    std::span<const std::byte> fingerprint) {
  const offload::TraceSpan span(engine.trace.get(), "save");
  HIPATTN_RETURN_IF_ERROR(MakeEstimates(engine, sequence));
  const ExtentMap map = MapOf(engine.options);
  const std::vector<std::byte> state = WriteState(engine.options, *sequence, fingerprint);
  std::vector<uint64_t> extents = {state.size()};
  extents.reserve(map.num_extents());
  for (uint32_t extent = 1; extent < map.num_extents(); ++extent) {
    extents.push_back(ExtentBytes(engine.options, *sequence, extent));
  }
  const uint64_t block_bytes = BlockBytesOf(engine.options);
  HIPATTN_ASSIGN_OR_RETURN(
      const offload::SnapshotLayout layout,
      offload::SnapshotLayout::Make(offload::SnapshotPageBytes(block_bytes), std::move(extents)));
  const auto fill = [&](uint32_t extent, uint64_t offset, std::span<std::byte> to) {
    if (map.IsState(extent)) {
      std::copy_n(state.data() + offset, to.size(), to.data());
      return Status::Ok();
    }
    const LayerState& layer = sequence->layers[map.Layer(extent)];
    const HeadStore& store = layer.heads[map.Head(extent)].store;
    return map.IsIndex(extent)
               ? ReadIndex(sequence->context, store, offset, to)
               : ReadBlocks(sequence->context, store, layer.tokens, offset / block_bytes, to);
  };
  return offload::WriteSnapshot(*engine.device, offload::SystemFileCalls(), path, layout, fill);
}

Result<std::unique_ptr<Sequence>> LoadSnapshot(EngineState& engine,
                                               const std::string& path,
                                               std::span<const std::byte> fingerprint,
                                               const CreateSequence& create) {
  const offload::TraceSpan span(engine.trace.get(), "load");
  const ExtentMap map = MapOf(engine.options);
  // Until the geometry is known to be this engine's, extents have numbers only.
  uint32_t known_extents = 1;
  const auto name = [&](uint32_t extent) {
    return extent < known_extents ? map.Name(extent) : StrCat("extent ", extent);
  };
  HIPATTN_ASSIGN_OR_RETURN(
      const std::unique_ptr<offload::SnapshotFile> file,
      offload::SnapshotFile::Open(engine.device.get(), &offload::SystemFileCalls(), path, name));
  if (file->layout().num_extents() == 0) {
    return Status(StatusCode::kCorrupt, StrCat("path \"", path, "\": it has no state"));
  }
  HIPATTN_ASSIGN_OR_RETURN(const std::vector<std::byte> state, ReadStateExtent(file.get()));
  StateReader reader(state);
  HIPATTN_ASSIGN_OR_RETURN(const AttentionOptions options,
                           reader.ReadOptions(engine.options, fingerprint));
  if (file->layout().num_extents() != map.num_extents() ||
      file->layout().page_bytes() != offload::SnapshotPageBytes(BlockBytesOf(engine.options))) {
    return Status(StatusCode::kCorrupt,
                  StrCat("path \"",
                         path,
                         "\": it has ",
                         file->layout().num_extents(),
                         " extents in pages of ",
                         file->layout().page_bytes(),
                         " bytes, the geometry has others"));
  }
  known_extents = map.num_extents();
  HIPATTN_ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, create(options));
  SequenceState* const restored = SequenceStateOf(*sequence);
  HIPATTN_ASSIGN_OR_RETURN(const core::AuditTable audits,
                           reader.ReadLayers(engine.options, restored));
  HIPATTN_RETURN_IF_ERROR(CheckExtents(engine.options, *restored, file->layout()));
  HIPATTN_RETURN_IF_ERROR(MakeRoom(engine, restored));
  HIPATTN_RETURN_IF_ERROR(ReadContent(engine.options, restored, file.get()));
  AdoptAudits(engine, audits, restored);
  return sequence;
}

}  // namespace hipattn::engine
