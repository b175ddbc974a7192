// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "api/attend_check.h"

#include "api/handles.h"
#include "api/struct_io.h"
#include "base/dtype.h"

#include <algorithm>
#include <span>

namespace hipattn::api {
namespace {

constexpr uintptr_t kDataAlignment = 16;
constexpr uint32_t kLastPhase = 2;

// An array of the caller's.
struct Region {
  const char* name;
  const void* data;
  uint64_t bytes;
};

bool Overlap(const Region& a, const Region& b) {
  if (a.data == nullptr || b.data == nullptr) {
    return false;
  }
  const auto a_begin = reinterpret_cast<uintptr_t>(a.data);
  const auto b_begin = reinterpret_cast<uintptr_t>(b.data);
  return a_begin < b_begin ? b_begin - a_begin < a.bytes : a_begin - b_begin < b.bytes;
}

Status CheckNoOverlap(const Region& output, std::span<const Region> others) {
  for (const Region& other : others) {
    if (Overlap(output, other)) {
      return InvalidArgument(
          output.name, " at ", output.data, " overlaps ", other.name, " at ", other.data);
    }
  }
  return Status::Ok();
}

Status CheckAligned(const char* name, const void* data, uintptr_t alignment) {
  if (reinterpret_cast<uintptr_t>(data) % alignment != 0) {
    return InvalidArgument(name, " is ", data, ", must be ", alignment, "-byte aligned");
  }
  return Status::Ok();
}

Status CheckGiven(const char* name, const void* data) {
  return data == nullptr ? InvalidArgument(name, " is NULL") : Status::Ok();
}

Status CheckStream(const void* stream) {
  if (stream != nullptr) {
    return InvalidArgument("stream is ", stream, ", must be NULL on the CPU device");
  }
  return Status::Ok();
}

Status CheckDistinct(std::span<engine::Sequence* const> sequences) {
  std::vector<engine::Sequence*> sorted(sequences.begin(), sequences.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice == sorted.end()) {
    return Status::Ok();
  }
  const auto first = std::find(sequences.begin(), sequences.end(), *twice);
  const auto second = std::find(first + 1, sequences.end(), *twice);
  return InvalidArgument("sequences[",
                         second - sequences.begin(),
                         "] is the same as sequences[",
                         first - sequences.begin(),
                         "], must be distinct");
}

Status CheckSequences(const hipattn_engine_t& engine,
                      const hipattn_attend_args_t& c,
                      std::vector<engine::Sequence*>* sequences,
                      uint64_t* num_rows) {
  if (c.num_sequences == 0 || c.num_sequences > kMaxBatchSequences) {
    return InvalidArgument(
        "num_sequences is ", c.num_sequences, ", must be 1 to ", kMaxBatchSequences);
  }
  HIPATTN_RETURN_IF_ERROR(CheckGiven("sequences", c.sequences));
  HIPATTN_RETURN_IF_ERROR(CheckGiven("num_new_tokens", c.num_new_tokens));
  sequences->reserve(c.num_sequences);
  uint64_t rows = 0;
  for (uint32_t i = 0; i < c.num_sequences; ++i) {
    const hipattn_sequence_t* sequence = c.sequences[i];
    if (sequence == nullptr) {
      return InvalidArgument("sequences[", i, "] is NULL");
    }
    if (sequence->shared != engine.shared) {
      return InvalidArgument("sequences[", i, "] at ", sequence, " belongs to another engine");
    }
    const uint32_t new_tokens = c.num_new_tokens[i];
    rows += new_tokens;
    if (new_tokens == 0 || rows > engine::kMaxTokens) {
      return InvalidArgument("num_new_tokens[",
                             i,
                             "] is ",
                             new_tokens,
                             ", must be at least 1, and their sum at most ",
                             engine::kMaxTokens);
    }
    sequences->push_back(sequence->sequence.get());
  }
  *num_rows = rows;
  return CheckDistinct(*sequences);
}

Status CheckExternal(const hipattn_attend_args_t& c) {
  if (c.external_blocks == nullptr) {
    if (c.num_external != 0) {
      return InvalidArgument("num_external is ", c.num_external, ", external_blocks is NULL");
    }
    return Status::Ok();
  }
  if (c.num_external == 0) {
    return InvalidArgument("num_external is 0, external_blocks is not NULL");
  }
  HIPATTN_RETURN_IF_ERROR(CheckAligned("external_blocks", c.external_blocks, alignof(int32_t)));
  if (c.q == nullptr) {
    return InvalidArgument("external_blocks is for decode steps, q is NULL");
  }
  if (c.phase == static_cast<uint32_t>(engine::Phase::kDecode)) {
    return Status::Ok();
  }
  if (c.phase == static_cast<uint32_t>(engine::Phase::kPrefill)) {
    return InvalidArgument("external_blocks is for decode steps, phase is ", c.phase);
  }
  for (uint32_t i = 0; i < c.num_sequences; ++i) {
    if (c.num_new_tokens[i] != 1) {
      return InvalidArgument("external_blocks is for decode steps, num_new_tokens[",
                             i,
                             "] is ",
                             c.num_new_tokens[i],
                             " and phase 0");
    }
  }
  return Status::Ok();
}

Status CheckData(const hipattn_engine_t& engine, const hipattn_attend_args_t& c, uint64_t rows) {
  HIPATTN_RETURN_IF_ERROR(CheckGiven("k", c.k));
  HIPATTN_RETURN_IF_ERROR(CheckGiven("v", c.v));
  if ((c.q == nullptr) != (c.out == nullptr)) {
    return InvalidArgument(c.q == nullptr ? "q is NULL, out is not: append only needs both NULL"
                                          : "out is NULL, q is not: append only needs both NULL");
  }
  if (c.lse != nullptr && c.q == nullptr) {
    return InvalidArgument("lse is ", c.lse, ", must be NULL when q is NULL");
  }
  const engine::EngineOptions& options = engine.shared->engine->options();
  const uint64_t row_bytes = options.head_dim * DTypeBytes(options.io());
  const uint64_t q_bytes = rows * options.num_q_heads * row_bytes;
  const uint64_t kv_bytes = rows * options.num_kv_heads * row_bytes;
  const Region out = {"out", c.out, q_bytes};
  const Region inputs[] = {
      {"q", c.q, q_bytes},
      {"k", c.k, kv_bytes},
      {"v", c.v, kv_bytes},
      {"external_blocks",
       c.external_blocks,
       uint64_t{c.num_sequences} * options.num_kv_heads * c.num_external * sizeof(int32_t)},
      {"num_new_tokens", c.num_new_tokens, uint64_t{c.num_sequences} * sizeof(uint32_t)},
      {"sequences", c.sequences, uint64_t{c.num_sequences} * sizeof(void*)},
      {"lse", c.lse, rows * options.num_q_heads * sizeof(float)}};
  constexpr size_t kLse = 6;
  for (const Region& region : {inputs[0], inputs[1], inputs[2], out}) {
    HIPATTN_RETURN_IF_ERROR(CheckAligned(region.name, region.data, kDataAlignment));
  }
  HIPATTN_RETURN_IF_ERROR(CheckAligned("lse", c.lse, alignof(float)));
  HIPATTN_RETURN_IF_ERROR(CheckNoOverlap(out, inputs));
  return CheckNoOverlap(inputs[kLse], std::span(inputs).first(kLse));
}

}  // namespace

Status CheckAttend(const hipattn_engine_t& engine,
                   const hipattn_attend_args_t* given,
                   std::vector<engine::Sequence*>* sequences,
                   engine::AttendArgs* args) {
  hipattn_attend_args_t c = HIPATTN_ATTEND_ARGS_INIT;
  HIPATTN_RETURN_IF_ERROR(ReadStruct(
      "args",
      given,
      {{offsetof(hipattn_attend_args_t, sequences), offsetof(hipattn_attend_args_t, num_external)}},
      &c));
  const uint32_t num_layers = engine.shared->engine->options().num_layers;
  if (c.layer >= num_layers) {
    return InvalidArgument("layer is ", c.layer, ", the engine has ", num_layers);
  }
  if (c.phase > kLastPhase) {
    return InvalidArgument("phase is ", c.phase, ", must be 0, 1 or 2");
  }
  HIPATTN_RETURN_IF_ERROR(CheckStream(c.stream));
  uint64_t rows = 0;
  HIPATTN_RETURN_IF_ERROR(CheckSequences(engine, c, sequences, &rows));
  HIPATTN_RETURN_IF_ERROR(CheckExternal(c));
  HIPATTN_RETURN_IF_ERROR(CheckData(engine, c, rows));
  args->layer = c.layer;
  args->sequences = *sequences;
  args->num_new_tokens = {c.num_new_tokens, c.num_sequences};
  args->q = c.q;
  args->k = c.k;
  args->v = c.v;
  args->out = c.out;
  args->lse = c.lse;
  args->stream = c.stream;
  args->external_blocks = c.external_blocks;
  args->num_external = c.num_external;
  args->phase = static_cast<engine::Phase>(c.phase);
  return Status::Ok();
}

Status CheckMerge(const engine::MergeArgs& args) {
  HIPATTN_RETURN_IF_ERROR(CheckStream(args.stream));
  const uint32_t dim = args.head_dim;
  if (dim == 0 || dim % 8 != 0 || dim > engine::kMaxHeadDim) {
    return InvalidArgument(
        "head_dim is ", dim, ", must be a multiple of 8 from 8 to ", engine::kMaxHeadDim);
  }
  if (args.num_rows == 0 || args.num_rows > INT64_MAX / (dim * sizeof(float))) {
    return InvalidArgument("num_rows is ", args.num_rows, ", must be 1 to what memory can hold");
  }
  const uint64_t o_bytes = args.num_rows * dim * sizeof(float);
  const uint64_t lse_bytes = args.num_rows * sizeof(float);
  const Region o_a = {"o_a", args.o_a, o_bytes};
  const Region o_b = {"o_b", args.o_b, o_bytes};
  const Region o = {"o", args.o, o_bytes};
  const Region lse_a = {"lse_a", args.lse_a, lse_bytes};
  const Region lse_b = {"lse_b", args.lse_b, lse_bytes};
  const Region lse = {"lse", args.lse, lse_bytes};
  for (const Region& region : {o_a, o_b, o}) {
    HIPATTN_RETURN_IF_ERROR(CheckGiven(region.name, region.data));
    HIPATTN_RETURN_IF_ERROR(CheckAligned(region.name, region.data, kDataAlignment));
  }
  for (const Region& region : {lse_a, lse_b, lse}) {
    HIPATTN_RETURN_IF_ERROR(CheckGiven(region.name, region.data));
    HIPATTN_RETURN_IF_ERROR(CheckAligned(region.name, region.data, alignof(float)));
  }
  const Region never_o[] = {o_b, lse_a, lse_b, lse};
  const Region never_lse[] = {o_a, o_b, lse_b};
  HIPATTN_RETURN_IF_ERROR(CheckNoOverlap(o, never_o));
  HIPATTN_RETURN_IF_ERROR(CheckNoOverlap(lse, never_lse));
  if (args.o != args.o_a) {
    HIPATTN_RETURN_IF_ERROR(CheckNoOverlap(o, {&o_a, 1}));
  }
  if (args.lse != args.lse_a) {
    HIPATTN_RETURN_IF_ERROR(CheckNoOverlap(lse, {&lse_a, 1}));
  }
  return Status::Ok();
}

}  // namespace hipattn::api
