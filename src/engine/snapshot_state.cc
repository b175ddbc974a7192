// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/snapshot_state.h"

#include "engine/head_content.h"
#include "engine/select.h"
#include "engine/state_archive.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <string>
#include <type_traits>
#include <utility>

namespace hipattn::engine {
namespace {

// A number of the engine's options that the content of a text depends on.
struct Fact {
  const char* name;
  uint32_t bits;
  bool is_float = false;
};

std::vector<Fact> FactsOf(const EngineOptions& o) {
  const auto bits = [](float value) { return std::bit_cast<uint32_t>(value); };
  return {{"num_layers", o.num_layers},
          {"num_q_heads", o.num_q_heads},
          {"num_kv_heads", o.num_kv_heads},
          {"head_dim", o.head_dim},
          {"block_tokens", o.block_tokens},
          {"kv_dtype", o.kv_dtype},
          {"softmax_scale", bits(o.softmax_scale), true},
          {"logit_softcap", bits(o.logit_softcap), true},
          {"rope_mode", o.rope_mode},
          {"rope_theta", bits(o.rope_theta), true},
          {"rope_dim", o.rope_dim},
          {"trained_tokens", o.trained_tokens}};
}

std::string ValueOf(const Fact& fact, uint32_t bits) {
  return fact.is_float ? StrCat(std::bit_cast<float>(bits)) : StrCat(bits);
}

Status CheckFacts(const EngineOptions& engine, ArchiveReader* archive) {
  for (const Fact& fact : FactsOf(engine)) {
    uint32_t bits = 0;
    archive->Number(fact.name, bits);
    HIPATTN_RETURN_IF_ERROR(archive->status());
    if (bits != fact.bits) {
      return {StatusCode::kMismatch,
              StrCat(fact.name,
                     " is ",
                     ValueOf(fact, bits),
                     " in the snapshot, here ",
                     ValueOf(fact, fact.bits))};
    }
  }
  std::vector<float> inv_freq;
  archive->List("rope_inv_freq", inv_freq);
  HIPATTN_RETURN_IF_ERROR(archive->status());
  const std::vector<float>& here = engine.rope_inv_freq;
  if (inv_freq.size() != here.size()) {
    return {StatusCode::kMismatch,
            StrCat("rope_inv_freq has ",
                   inv_freq.size(),
                   " elements in the snapshot, here ",
                   here.size())};
  }
  for (size_t i = 0; i < here.size(); ++i) {
    if (inv_freq[i] != here[i]) {
      return {
          StatusCode::kMismatch,
          StrCat("rope_inv_freq[", i, "] is ", inv_freq[i], " in the snapshot, here ", here[i])};
    }
  }
  return Status::Ok();
}

Status CheckFingerprint(std::span<const std::byte> given, ArchiveReader* archive) {
  std::vector<std::byte> stored;
  archive->List("fingerprint", stored);
  HIPATTN_RETURN_IF_ERROR(archive->status());
  if (stored.size() != given.size()) {
    return {StatusCode::kMismatch,
            StrCat("fingerprint has ",
                   stored.size(),
                   " bytes in the snapshot, here ",
                   given.size(),
                   ": of another model or text")};
  }
  const auto differ = std::mismatch(given.begin(), given.end(), stored.begin());
  if (differ.first != given.end()) {
    return {StatusCode::kMismatch,
            StrCat("fingerprint is another one in the snapshot from byte ",
                   differ.first - given.begin(),
                   " on: of another model or text")};
  }
  return Status::Ok();
}

template <typename Archive, typename Options>
void ExchangeOptions(Archive& archive, Options& o) {
  archive.Number("decode_mode", o.decode_mode);
  archive.Number("search", o.search);
  archive.Number("scorer", o.scorer);
  archive.Number("prefill_mode", o.prefill_mode);
  archive.Number("budget_tokens", o.budget_tokens);
  archive.Number("sink_tokens", o.sink_tokens);
  archive.Number("window_tokens", o.window_tokens);
  archive.Number("refresh_interval", o.refresh_interval);
  archive.Number("min_recall", o.min_recall);
  archive.Number("dense_up_to_tokens", o.dense_up_to_tokens);
  archive.Number("rerank_tokens", o.rerank_tokens);
  archive.Number("audit_interval", o.audit_interval);
  archive.Number("max_scanned_heads", o.max_scanned_heads);
  archive.Number("verify_recall", o.verify_recall);
  archive.Number("prefill_sizes[0]", o.prefill_sizes[0]);
  archive.Number("prefill_sizes[1]", o.prefill_sizes[1]);
  archive.Number("prefill_last_q", o.prefill_last_q);
  archive.Number("prefill_delta_interval", o.prefill_delta_interval);
  archive.Number("prefill_threshold", o.prefill_threshold);
  archive.Number("prefill_skip_threshold", o.prefill_skip_threshold);
}

// What one head's next step builds on, apart from its content.
struct HeadFacts {
  uint64_t summarized_blocks = 0;
  bool rebuild = false;
  uint32_t leaf_tokens = 0;
  std::vector<int32_t> leaves;           // of a layer that holds a selection
  core::StagedLists staged;              // the same
  std::vector<core::TokenRange> ranges;  // that the last decode step attended, when it chose any
};

template <typename Archive, typename Facts>
void ExchangeHead(Archive& archive, Facts& head) {
  archive.Number("summarized_blocks", head.summarized_blocks);
  archive.Flag("rebuild", head.rebuild);
  archive.Number("leaf_tokens", head.leaf_tokens);
  archive.List("leaves", head.leaves);
  archive.List("ranges", head.ranges);
  for (auto* lists : {&head.staged.candidates, &head.staged.kept}) {
    uint64_t count = lists->size();
    archive.Number("stages", count);
    if constexpr (std::is_same_v<Archive, ArchiveReader>) {
      if (count > std::size(kStagedIntervals)) {
        archive.Fail(StrCat("stages is ", count));
        return;
      }
      lists->resize(count);
    }
    for (auto& chunks : *lists) {
      archive.List("chunks", chunks);
    }
  }
}

template <typename Archive, typename Layer>
void ExchangeLayer(Archive& archive, Layer& layer) {
  archive.Number("tokens", layer.tokens);
  archive.Number("step", layer.step);
  archive.Flag("selected", layer.selected);
  archive.Number("anchor", layer.anchor);
  archive.Number("last_mode", layer.last_mode);
  archive.Number("last_pos", layer.last_pos);
  archive.Flag("estimate_known", layer.estimate_known);
  archive.List("estimate", layer.estimate);
  archive.List("truth", layer.truth);
}

template <typename Archive, typename Audit>
void ExchangeAudit(Archive& archive, Audit& audit) {
  archive.Number("loss", audit.loss);
  archive.Number("samples", audit.samples);
  archive.Flag("scanned", audit.scanned);
  archive.Flag("waiting", audit.waiting);
}

bool ChoseKeys(const LayerState& layer) {
  return layer.last_mode == StepMode::kSearched || layer.last_mode == StepMode::kExternal;
}

HeadFacts HeadFactsOf(const SequenceState& sequence,
                      const LayerState& layer,
                      const HeadState& head) {
  HeadFacts facts;
  facts.summarized_blocks = IndexedBlocks(sequence.context, head.store);
  facts.rebuild = facts.summarized_blocks > 0 && head.store.NeedsRebuild();
  if (layer.selected) {
    facts.leaf_tokens = head.leaf_tokens;
    facts.leaves = head.leaves;
    if (sequence.options.search_kind() == Search::kStaged) {
      facts.staged = head.staged_lists;
    }
  }
  if (ChoseKeys(layer)) {
    facts.ranges = head.list.ranges;
  }
  return facts;
}

// Checks of a layer that was read. Errors go to the archive.
class LayerCheck {
 public:
  LayerCheck(const EngineOptions& engine, const SequenceState& sequence, const LayerState& layer)
      : engine_(engine), sequence_(sequence), layer_(layer) {}

  void Layer(ArchiveReader* archive) const;
  void Head(const HeadFacts& head, ArchiveReader* archive) const;

 private:
  bool StagedFits(const core::StagedLists& lists) const;
  bool RangesFit(const std::vector<core::TokenRange>& ranges) const;

  const EngineOptions& engine_;
  const SequenceState& sequence_;
  const LayerState& layer_;
};

void LayerCheck::Layer(ArchiveReader* archive) const {
  if (layer_.tokens > kMaxTokens) {
    archive->Fail(StrCat("tokens is ", layer_.tokens, ", at most ", kMaxTokens));
    return;
  }
  const auto tokens = static_cast<int64_t>(layer_.tokens);
  const int64_t anchor_end = layer_.selected ? tokens : int64_t{kMaxTokens};
  const int64_t pos_end =
      layer_.last_mode != StepMode::kNever ? tokens : static_cast<int64_t>(kMaxTokens);
  const auto heads = size_t{engine_.num_q_heads};
  if (layer_.anchor < (layer_.selected ? 0 : -1) || layer_.anchor >= anchor_end) {
    archive->Fail(StrCat("anchor is ", layer_.anchor, ", the layer has ", tokens, " tokens"));
  } else if (layer_.last_mode > StepMode::kExternal) {
    archive->Fail(StrCat("last_mode is ", static_cast<uint32_t>(layer_.last_mode)));
  } else if (layer_.last_pos < (layer_.last_mode != StepMode::kNever ? 0 : -1) ||
             layer_.last_pos >= pos_end) {
    archive->Fail(StrCat("last_pos is ", layer_.last_pos, ", the layer has ", tokens, " tokens"));
  } else if (layer_.estimate.size() != (layer_.estimate_known ? heads : 0)) {
    archive->Fail(StrCat("estimate has ", layer_.estimate.size(), " elements"));
  } else if (!layer_.truth.empty() && layer_.truth.size() != heads) {
    archive->Fail(StrCat("truth has ", layer_.truth.size(), " elements"));
  }
}

void LayerCheck::Head(const HeadFacts& head, ArchiveReader* archive) const {
  const uint64_t blocks =
      sequence_.context.summaries ? layer_.tokens / engine_.block_tokens : uint64_t{0};
  const auto negative = [](int32_t leaf) { return leaf < 0; };
  if (head.summarized_blocks > blocks) {
    archive->Fail(StrCat("summarized_blocks is ", head.summarized_blocks, ", at most ", blocks));
  } else if (head.leaf_tokens > engine_.block_tokens ||
             (head.leaf_tokens == 0) != !layer_.selected ||
             (!layer_.selected && !head.leaves.empty())) {
    archive->Fail(StrCat("leaf_tokens is ", head.leaf_tokens));
  } else if (std::any_of(head.leaves.begin(), head.leaves.end(), negative)) {
    archive->Fail("leaves has a negative element");
  } else if (!RangesFit(head.ranges)) {
    archive->Fail("ranges is not ascending inside the text");
  } else if (!StagedFits(head.staged)) {
    archive->Fail("chunks is not what a search of the text can leave");
  }
}

bool LayerCheck::RangesFit(const std::vector<core::TokenRange>& ranges) const {
  int64_t end = 0;
  for (const core::TokenRange& range : ranges) {
    if (range.begin < end || range.end <= range.begin ||
        range.end > static_cast<int64_t>(layer_.tokens)) {
      return false;
    }
    end = range.end;
  }
  return ranges.empty() || ChoseKeys(layer_);
}

// A later stage descends into the chunks that are listed, so each must meet the range that its
// search had.
bool LayerCheck::StagedFits(const core::StagedLists& lists) const {
  const bool wanted = layer_.selected && sequence_.options.search_kind() == Search::kStaged;
  const size_t stages = wanted ? std::size(kStagedIntervals) : 0;
  if (lists.candidates.size() != stages || lists.kept.size() != stages) {
    return false;
  }
  const auto pos = static_cast<int64_t>(layer_.tokens);
  const AttentionOptions& options = sequence_.options;
  const core::Partition range = core::SplitPartition(
      pos, pos + 1, {options.sink_tokens, options.window_tokens}, layer_.anchor);
  const core::StagedConfig config = StagedConfigOf(options, false);
  for (size_t stage = 0; stage < stages; ++stage) {
    const int64_t size = config.stages[stage].chunk_tokens;
    const auto outside = [&](int32_t chunk) {
      return chunk < 0 || chunk * size >= range.window_begin ||
             (chunk + 1) * size <= range.sink_end;
    };
    for (const auto* chunks : {&lists.candidates[stage], &lists.kept[stage]}) {
      if (std::any_of(chunks->begin(), chunks->end(), outside)) {
        return false;
      }
    }
  }
  return true;
}

void ReadLayer(const EngineOptions& engine,
               const SequenceState& sequence,
               ArchiveReader* archive,
               LayerState* layer) {
  ExchangeLayer(*archive, *layer);
  const LayerCheck check(engine, sequence, *layer);
  check.Layer(archive);
  for (HeadState& head : layer->heads) {
    HeadFacts facts;
    ExchangeHead(*archive, facts);
    check.Head(facts, archive);
    if (!archive->status().ok()) {
      return;
    }
    if (&head != &layer->heads[0] &&
        facts.summarized_blocks != layer->heads[0].store.summarized_blocks()) {
      archive->Fail(StrCat("summarized_blocks is ",
                           facts.summarized_blocks,
                           ", another head of the layer has ",
                           layer->heads[0].store.summarized_blocks()));
    }
    head.store.RestoreSummarized(facts.summarized_blocks,
                                 facts.rebuild && facts.summarized_blocks > 0);
    head.leaf_tokens = facts.leaf_tokens;
    head.leaves = std::move(facts.leaves);
    head.staged_lists = std::move(facts.staged);
    head.list.ranges = std::move(facts.ranges);
  }
}

void ReadAudit(ArchiveReader* archive, core::HeadAudit* audit) {
  ExchangeAudit(*archive, *audit);
  if (!(audit->loss >= 0.0 && audit->loss <= 1.0) || audit->samples > core::kMeanSamples) {
    archive->Fail(StrCat("loss is ", audit->loss, " of ", audit->samples, " samples"));
  }
}

}  // namespace

std::vector<std::byte> WriteState(const EngineOptions& engine,
                                  const SequenceState& sequence,
                                  std::span<const std::byte> fingerprint) {
  ArchiveWriter archive;
  for (const Fact& fact : FactsOf(engine)) {
    archive.Number(fact.name, fact.bits);
  }
  archive.List("rope_inv_freq", engine.rope_inv_freq);
  archive.List("fingerprint", std::vector<std::byte>(fingerprint.begin(), fingerprint.end()));
  ExchangeOptions(archive, sequence.options);
  for (const core::HeadAudit& audit : sequence.audits.heads()) {
    ExchangeAudit(archive, audit);
  }
  for (const LayerState& layer : sequence.layers) {
    ExchangeLayer(archive, layer);
    for (const HeadState& head : layer.heads) {
      const HeadFacts facts = HeadFactsOf(sequence, layer, head);
      ExchangeHead(archive, facts);
    }
  }
  return archive.Take();
}

Result<AttentionOptions> StateReader::ReadOptions(const EngineOptions& engine,
                                                  std::span<const std::byte> fingerprint) {
  ArchiveReader archive(left_);
  HIPATTN_RETURN_IF_ERROR(CheckFacts(engine, &archive));
  HIPATTN_RETURN_IF_ERROR(CheckFingerprint(fingerprint, &archive));
  AttentionOptions options;
  ExchangeOptions(archive, options);
  HIPATTN_RETURN_IF_ERROR(archive.status());
  left_ = archive.left();
  // Resolved options resolve to themselves, but that 0 sinks would become the default.
  AttentionOptions given = options;
  given.sink_tokens = options.sink_tokens == 0 ? kNone : options.sink_tokens;
  const Result<AttentionOptions> resolved = ResolveAttentionOptions(engine, given);
  if (!resolved.ok() || !(resolved.value() == options)) {
    return Status(StatusCode::kCorrupt,
                  StrCat("the snapshot's state: its attention options cannot be: ",
                         resolved.ok() ? "they are not resolved" : resolved.status().message()));
  }
  return options;
}

Result<core::AuditTable> StateReader::ReadLayers(const EngineOptions& engine,
                                                 SequenceState* sequence) {
  ArchiveReader archive(left_);
  core::AuditTable audits(engine.num_layers, engine.num_kv_heads);
  for (uint32_t i = 0; i < engine.num_layers * engine.num_kv_heads; ++i) {
    core::HeadAudit audit;
    ReadAudit(&archive, &audit);
    audits.Set(i / engine.num_kv_heads, i % engine.num_kv_heads, audit);
  }
  for (LayerState& layer : sequence->layers) {
    ReadLayer(engine, *sequence, &archive, &layer);
    HIPATTN_RETURN_IF_ERROR(archive.status());
  }
  if (!archive.left().empty()) {
    archive.Fail(StrCat(archive.left().size(), " bytes are left over"));
  }
  HIPATTN_RETURN_IF_ERROR(archive.status());
  return audits;
}

}  // namespace hipattn::engine
