// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Small engines and texts for tests of the C API.
#ifndef HIPATTN_TESTS_API_API_FIXTURE_H_
#define HIPATTN_TESTS_API_API_FIXTURE_H_

#include "hipattn/hipattn.h"

#include "tests/support/aligned_floats.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace hipattn::test {

inline std::string LastError() {
  return hipattn_last_error_message();
}

inline hipattn_engine_options_t SmallEngine() {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_threads = 1;
  options.num_layers = 2;
  options.num_q_heads = 4;
  options.num_kv_heads = 2;
  options.head_dim = 64;
  options.device_kv_bytes = uint64_t{64} << 20;
  return options;
}

struct EngineDeleter {
  void operator()(hipattn_engine_t* engine) const { hipattn_engine_destroy(engine); }
};
struct SequenceDeleter {
  void operator()(hipattn_sequence_t* sequence) const { hipattn_sequence_destroy(sequence); }
};
using EnginePtr = std::unique_ptr<hipattn_engine_t, EngineDeleter>;
using SequencePtr = std::unique_ptr<hipattn_sequence_t, SequenceDeleter>;

inline EnginePtr MakeEngine(const hipattn_engine_options_t& options) {
  hipattn_engine_t* engine = nullptr;
  EXPECT_EQ(hipattn_engine_create(&options, &engine), HIPATTN_OK) << LastError();
  return EnginePtr(engine);
}

inline SequencePtr MakeSequence(hipattn_engine_t* engine,
                                const hipattn_attention_options_t* options = nullptr) {
  hipattn_sequence_t* sequence = nullptr;
  EXPECT_EQ(hipattn_sequence_create(engine, options, &sequence), HIPATTN_OK) << LastError();
  return SequencePtr(sequence);
}

// Arrays for one attend call on SmallEngine's geometry; outputs begin as a pattern.
struct Arrays {
  explicit Arrays(uint32_t tokens, uint32_t seed = 1)
      : q(size_t{tokens} * 256),
        k(size_t{tokens} * 128),
        v(size_t{tokens} * 128),
        out(size_t{tokens} * 256, kPattern),
        lse(size_t{tokens} * 4, kPattern) {
    q.FillRandom(3 * seed);
    k.FillRandom(3 * seed + 1);
    v.FillRandom(3 * seed + 2);
  }

  bool OutputsUntouched() const {
    return out.copy() == std::vector<float>(out.size(), kPattern) &&
           lse.copy() == std::vector<float>(lse.size(), kPattern);
  }

  static constexpr float kPattern = 12345.0F;
  Floats q, k, v, out, lse;
};

// Appends and attends the tokens of `arrays` in layer `layer`.
inline hipattn_status_t Step(hipattn_engine_t* engine,
                             hipattn_sequence_t* sequence,
                             uint32_t layer,
                             uint32_t tokens,
                             Arrays& arrays) {
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.layer = layer;
  args.num_sequences = 1;
  args.sequences = &sequence;
  args.num_new_tokens = &tokens;
  args.q = arrays.q.data();
  args.k = arrays.k.data();
  args.v = arrays.v.data();
  args.out = arrays.out.data();
  args.lse = arrays.lse.data();
  return hipattn_attend(engine, &args);
}

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_API_API_FIXTURE_H_
