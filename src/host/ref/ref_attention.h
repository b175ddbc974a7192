// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Softmax attention of one query over a row of keys, in f64: the heart of the three references that
// attend.
#ifndef HIPATTN_HOST_REF_REF_ATTENTION_H_
#define HIPATTN_HOST_REF_REF_ATTENTION_H_

#include "device/params.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hipattn::host::ref {

// Keys and values of a list of tokens, widened: [tokens][head_dim] each.
struct TokenRows {
  std::vector<float> k;
  std::vector<float> v;
  std::vector<float> bias;  // added to the capped score of each token; empty = none
};

// Appends the token of a block to the rows.
void AddToken(const device::BlockPool& pool, uint32_t slot, uint32_t token, TokenRows* rows);

// The parts of an attention op's parameters that AttendRow needs.
struct RowConfig {
  uint32_t head_dim;
  float scale;
  float softcap;  // 0 = none
  DType out_dtype;
};

// Attention of q over the first num_tokens of `rows` (SPEC D3): out[head_dim] of config.out_dtype
// from element out_index on, and the natural lse when lse is not null. No tokens: 0 and -inf.
void AttendRow(const RowConfig& config,
               const float* q,
               const TokenRows& rows,
               size_t num_tokens,
               void* out,
               size_t out_index,
               float* lse);

// A row's attention whose keys come in parts: what the parts so far gave lies in state, o[head_dim]
// and lse. NULL: all keys are there.
struct RowPart {
  float* state;
  bool later;  // goes on with the state
  bool more;   // leaves the state, writes no result
};

struct RowResult {
  void* out;
  size_t index;  // element of out
  float* lse;    // or NULL
};

// AttendRow over one part.
void AttendPart(const RowConfig& config,
                const float* q,
                const TokenRows& rows,
                size_t num_tokens,
                const RowPart& part,
                const RowResult& result);

}  // namespace hipattn::host::ref

#endif  // HIPATTN_HOST_REF_REF_ATTENTION_H_
