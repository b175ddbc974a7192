/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The hipattn authors
 *
 * The C API from C11: a text is read and goes on, forks and is cut; a tiny harness in place of a
 * framework. */
#include <hipattn/hipattn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                     \
  do {                                       \
    if (!(condition)) {                      \
      printf("%s:%d: %s (last error: %s)\n", \
             __FILE__,                       \
             __LINE__,                       \
             #condition,                     \
             hipattn_last_error_message());  \
      ++failures;                            \
    }                                        \
  } while (0)

enum { kLayers = 2, kQHeads = 4, kKvHeads = 2, kHeadDim = 64, kPrompt = 50 };

/* A 16-byte aligned array of `rows` rows. */
static float* MakeArray(size_t rows, size_t heads, unsigned seed) {
  const size_t size = rows * heads * kHeadDim;
  float* array = aligned_alloc(64, (size * sizeof(float) + 63) / 64 * 64);
  for (size_t i = 0; array != NULL && i < size; ++i) {
    seed = seed * 1664525u + 1013904223u;
    array[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
  }
  return array;
}

static hipattn_status_t Attend(hipattn_engine_t* engine,
                               hipattn_sequence_t* sequence,
                               uint32_t layer,
                               uint32_t tokens,
                               float* out) {
  float* q = MakeArray(tokens, kQHeads, layer + 1);
  float* k = MakeArray(tokens, kKvHeads, layer + 10);
  float* v = MakeArray(tokens, kKvHeads, layer + 20);
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.layer = layer;
  args.num_sequences = 1;
  args.sequences = &sequence;
  args.num_new_tokens = &tokens;
  args.q = q;
  args.k = k;
  args.v = v;
  args.out = out;
  const hipattn_status_t status = hipattn_attend(engine, &args);
  free(q);
  free(k);
  free(v);
  return status;
}

int main(void) {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_layers = kLayers;
  options.num_q_heads = kQHeads;
  options.num_kv_heads = kKvHeads;
  options.head_dim = kHeadDim;
  options.device_kv_bytes = (uint64_t)16 << 20;

  CHECK(hipattn_version() == HIPATTN_VERSION);
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  CHECK(hipattn_memory_need(&options, NULL, 1000, 1, &need) == HIPATTN_OK);
  CHECK(need.device_bytes_full >= need.kv_bytes_total && need.kv_bytes_total > 0);

  hipattn_engine_t* engine = NULL;
  CHECK(hipattn_engine_create(NULL, &engine) == HIPATTN_INVALID_ARGUMENT);
  CHECK(strcmp(hipattn_last_error_message(), "options is NULL") == 0);
  CHECK(hipattn_engine_create(&options, &engine) == HIPATTN_OK);
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  attention.sink_tokens = HIPATTN_NONE;
  hipattn_sequence_t* sequence = NULL;
  CHECK(hipattn_sequence_create(engine, &attention, &sequence) == HIPATTN_OK);
  CHECK(hipattn_sequence_reserve(sequence, 100) == HIPATTN_OK);

  float* out = MakeArray(kPrompt, kQHeads, 0);
  float* again = MakeArray(1, kQHeads, 0);
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    CHECK(Attend(engine, sequence, layer, kPrompt, out) == HIPATTN_OK);
  }
  CHECK(hipattn_sequence_length(sequence) == kPrompt);
  hipattn_sequence_t* child = NULL;
  CHECK(hipattn_sequence_fork(sequence, kPrompt, &child) == HIPATTN_OK);
  CHECK(Attend(engine, sequence, 0, 1, out) == HIPATTN_OK);
  CHECK(Attend(engine, child, 0, 1, again) == HIPATTN_OK);
  CHECK(memcmp(out, again, kQHeads * kHeadDim * sizeof(float)) == 0);
  uint32_t count = 0;
  int32_t blocks[8];
  CHECK(hipattn_sequence_selection(sequence, 0, 0, blocks, 8, &count) == HIPATTN_OK);
  CHECK(count == 4 && blocks[0] == 0 && blocks[3] == 3);
  hipattn_recall_t recall = HIPATTN_RECALL_INIT;
  CHECK(hipattn_sequence_recall(sequence, 0, 0, &recall) == HIPATTN_OK);
  CHECK(hipattn_sequence_truncate(sequence, 7) == HIPATTN_OK);
  CHECK(hipattn_sequence_length(sequence) == 7);
  const char* snapshot = "c_api_test.snapshot";
  hipattn_sequence_t* restored = NULL;
  CHECK(hipattn_sequence_save(sequence, snapshot, "ab", 2) == HIPATTN_OK);
  CHECK(hipattn_sequence_load(engine, snapshot, "ba", 2, &restored) == HIPATTN_MISMATCH);
  CHECK(hipattn_sequence_load(engine, snapshot, "ab", 2, &restored) == HIPATTN_OK);
  CHECK(hipattn_sequence_length(restored) == 7);
  hipattn_sequence_destroy(restored);
  CHECK(remove(snapshot) == 0);
  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  CHECK(hipattn_engine_stats(engine, &stats, 1) == HIPATTN_OK);
  CHECK(stats.device_bytes > 0 && stats.blocks_attended > 0);
  CHECK(hipattn_engine_synchronize(engine) == HIPATTN_OK);

  hipattn_engine_destroy(engine); /* before its sequences, on purpose */
  hipattn_sequence_destroy(child);
  hipattn_sequence_destroy(sequence);
  free(out);
  free(again);
  printf("%d checks failed\n", failures);
  return failures == 0 ? 0 : 1;
}
