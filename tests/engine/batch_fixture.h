// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One call for several texts.
#ifndef HIPATTN_TESTS_ENGINE_BATCH_FIXTURE_H_
#define HIPATTN_TESTS_ENGINE_BATCH_FIXTURE_H_

#include "tests/engine/engine_fixture.h"

#include <utility>

namespace hipattn::test {

// A text's part of a call: its tokens [at, at + count).
struct BatchPart {
  hipattn_sequence_t* sequence;
  uint32_t seed;
  uint64_t at;
  uint32_t count;
};

// Attends them in one call; the outputs of all rows.
inline Floats AttendBatch(Engine& engine,
                          const Geometry& geometry,
                          uint32_t layer,
                          const std::vector<BatchPart>& parts) {
  uint64_t num_rows = 0;
  for (const BatchPart& part : parts) {
    num_rows += part.count;
  }
  Rows all(geometry, num_rows);
  std::vector<hipattn_sequence_t*> handles;
  std::vector<uint32_t> counts;
  uint64_t row = 0;
  for (const BatchPart& part : parts) {
    const Rows rows = MakeRows(geometry, part.seed, layer, part.at, part.count);
    std::copy_n(rows.q.data(), rows.q.size(), all.q.data() + row * geometry.q_row());
    std::copy_n(rows.k.data(), rows.k.size(), all.k.data() + row * geometry.kv_row());
    std::copy_n(rows.v.data(), rows.v.size(), all.v.data() + row * geometry.kv_row());
    row += part.count;
    handles.push_back(part.sequence);
    counts.push_back(part.count);
  }
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.layer = layer;
  args.num_sequences = static_cast<uint32_t>(handles.size());
  args.sequences = handles.data();
  args.num_new_tokens = counts.data();
  args.q = all.q.data();
  args.k = all.k.data();
  args.v = all.v.data();
  args.out = all.out.data();
  EXPECT_EQ(hipattn_attend(engine.get(), &args), HIPATTN_OK) << hipattn_last_error_message();
  return std::move(all.out);
}

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_ENGINE_BATCH_FIXTURE_H_
