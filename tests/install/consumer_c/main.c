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
  hipattn_engine_options_t options = {.struct_size = sizeof options, .num_layers = 1, .num_q_heads = 1, .num_kv_heads = 1, .head_dim = 64};
  hipattn_engine_t* engine = NULL;
  hipattn_sequence_t* sequence = NULL;
  const uint32_t one = 1;
  hipattn_status_t status = hipattn_engine_create(&options, &engine);
  if (status == HIPATTN_OK) {
    status = hipattn_sequence_create(engine, NULL, &sequence);
  }
  if (status == HIPATTN_OK) {
    hipattn_attend_args_t args = {.struct_size = sizeof args, .num_sequences = 1, .sequences = &sequence,
                                  .num_new_tokens = &one, .q = q, .k = k, .v = v, .out = out};
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
