// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// RefText: the keys and values of a text, widened once. References of prefill meet every key with
// every row, and most of their time would go into widening it anew.
#ifndef HIPATTN_HOST_REF_REF_TEXT_H_
#define HIPATTN_HOST_REF_REF_TEXT_H_

#include "host/ref/ref_kv.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hipattn::host::ref {

// Reads no token, and no entry of `slots`, before it is asked for it. One thread at a time.
class RefText {
 public:
  RefText(const device::BlockPool& pool, const uint32_t* slots, uint32_t num_tokens)
      : pool_(pool), slots_(slots), read_(num_tokens), tokens_(size_t{num_tokens} * 2 * Dim()) {}

  // [head_dim], valid as long as the text.
  const float* Key(uint32_t token) { return Read(token); }
  const float* Value(uint32_t token) { return Read(token) + Dim(); }

 private:
  size_t Dim() const { return pool_.head_dim; }
  const float* Read(uint32_t token) {
    float* k = tokens_.data() + token * 2 * Dim();
    if (!read_[token]) {
      const uint32_t slot = slots_[token / pool_.block_tokens];
      ReadToken(pool_, slot, token % pool_.block_tokens, k, k + Dim());
      read_[token] = true;
    }
    return k;
  }

  const device::BlockPool& pool_;
  const uint32_t* const slots_;
  std::vector<bool> read_;
  std::vector<float> tokens_;  // per token its key, then its value
};

}  // namespace hipattn::host::ref

#endif  // HIPATTN_HOST_REF_REF_TEXT_H_
