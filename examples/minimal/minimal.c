/* SPDX-License-Identifier: Apache-2.0 */
/* The shortest whole program: a text of random keys hides one needle; a decode step finds it. */
#include <hipattn/hipattn.h>
#include <stdio.h>
#include <stdlib.h>

enum { kHeads = 4, kKvHeads = 2, kDim = 64, kTokens = 32768, kNeedle = 12345 };
static float k[kTokens * kKvHeads * kDim], v[kTokens * kKvHeads * kDim]; /* [token][kv head][dim] */

static void check(hipattn_status_t status) {
  if (status != HIPATTN_OK) {
    (void)fprintf(stderr, "%s: %s\n", hipattn_status_name(status), hipattn_last_error_message());
    exit(1);
  }
}

int main(void) {
  /* 1. An engine: once per model, here of one layer. A field that is not set means its default. */
  hipattn_engine_options_t model = HIPATTN_ENGINE_OPTIONS_INIT;
  model.num_layers = 1, model.head_dim = kDim;
  model.num_q_heads = kHeads, model.num_kv_heads = kKvHeads;
  hipattn_engine_t* engine = NULL;
  check(hipattn_engine_create(&model, &engine));

  /* 2. A sequence: one running text, of which a step attends about 832 tokens. */
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  attention.decode_mode = HIPATTN_DECODE_SPARSE;
  attention.budget_tokens = 512, attention.sink_tokens = 64, attention.window_tokens = 256;
  hipattn_sequence_t* text = NULL;
  check(hipattn_sequence_create(engine, &attention, &text));

  /* 3. Append noise and the needle: its keys point along dimension 0, its values are 1. */
  for (int i = 0; i < kTokens * kKvHeads * kDim; ++i) {
    const int is_needle = i / (kKvHeads * kDim) == kNeedle;
    k[i] = is_needle ? (i % kDim == 0 ? 8.0F : 0.0F) : (float)rand() / (float)RAND_MAX - 0.5F;
    v[i] = is_needle ? 1.0F : 0.0F;
  }
  const uint32_t all = kTokens, one = 1;
  hipattn_attend_args_t step = HIPATTN_ATTEND_ARGS_INIT;
  step.num_sequences = 1, step.sequences = &text, step.num_new_tokens = &all;
  step.k = k, step.v = v; /* without q: append only */
  check(hipattn_attend(engine, &step));

  /* 4. A decode step: a new token whose queries look along dimension 0. */
  float q[kHeads * kDim] = {0}, out[kHeads * kDim];
  for (int head = 0; head < kHeads; ++head) {
    q[head * kDim] = 24.0F;
  }
  step.num_new_tokens = &one, step.q = q, step.out = out;
  check(hipattn_attend(engine, &step));

  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  check(hipattn_engine_stats(engine, &stats, 0));
  printf("%u of %u blocks attended, ", (unsigned)stats.blocks_attended, kTokens / 16 * kKvHeads);
  printf("%u summaries read\n", (unsigned)stats.search_keys_read);
  printf("out = %.3f (1: the needle was found)\n", out[0]);
  hipattn_sequence_destroy(text);
  hipattn_engine_destroy(engine);
  return out[0] > 0.9F ? 0 : 1;
}
