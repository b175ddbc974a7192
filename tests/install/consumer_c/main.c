/* SPDX-License-Identifier: Apache-2.0 */
/* One token through an installed libhipattn: its attention is its own value. */
#include <hipattn/hipattn.h>
#include <stdio.h>

int main(void) {
  float q[64], k[64], v[64], out[64];
  for (int i = 0; i < 64; ++i) {
    q[i] = k[i] = 1.0F;
    v[i] = (float)i;
  }
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_layers = options.num_q_heads = options.num_kv_heads = 1;
  options.head_dim = 64;
  hipattn_engine_t* engine = NULL;
  hipattn_sequence_t* sequence = NULL;
  const uint32_t one = 1;
  hipattn_status_t status = hipattn_engine_create(&options, &engine);
  if (status == HIPATTN_OK) {
    status = hipattn_sequence_create(engine, NULL, &sequence);
  }
  if (status == HIPATTN_OK) {
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.num_sequences = 1, args.sequences = &sequence, args.num_new_tokens = &one;
    args.q = q, args.k = k, args.v = v, args.out = out;
    status = hipattn_attend(engine, &args);
  }
  if (status != HIPATTN_OK) {
    fprintf(stderr, "%s: %s\n", hipattn_status_name(status), hipattn_last_error_message());
    return 1;
  }
  hipattn_sequence_destroy(sequence);
  hipattn_engine_destroy(engine);
  printf("version %u, out[63] = %g\n", (unsigned)hipattn_version(), out[63]);
  return out[63] == 63.0F ? 0 : 1;
}
