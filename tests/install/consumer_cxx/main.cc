// SPDX-License-Identifier: Apache-2.0
// One token through an installed libhipattn: its attention is its own value. And an error arrives
// as an exception that says why.
#include <hipattn/hipattn.hpp>

#include <cstdio>
#include <vector>

int main() {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_layers = 1;
  options.num_q_heads = 2;
  options.num_kv_heads = 1;
  options.head_dim = 64;
  hipattn::Engine engine(options);
  hipattn::Sequence text(engine);
  const std::vector<float> q(128, 1.0F);
  const std::vector<float> kv(64, 3.0F);
  std::vector<float> out(128);
  engine.Attend<float>(0, text, {.q = q, .k = kv, .v = kv, .out = out});

  bool refused = false;
  try {
    options.num_kv_heads = 0;
    hipattn::Engine wrong(options);
  } catch (const hipattn::Error& error) {
    refused = error.status() == HIPATTN_INVALID_ARGUMENT;
    std::printf("%s\n", error.what());
  }
  std::printf("length %u, out[127] = %g\n",
              static_cast<unsigned>(text.length()),
              static_cast<double>(out[127]));
  return text.length() == 1 && out[127] == 3.0F && refused ? 0 : 1;
}
