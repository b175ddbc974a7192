// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Writes seeds for the fuzzer of the GGUF reader into a folder: write_gguf_corpus FOLDER
#include "run_program.h"
#include "synthetic_gguf.h"

#include <cstdio>
#include <filesystem>
#include <string>

int main(int argc, char** argv) {
  using hipattn_run::testing::GgufWriter;
  if (argc != 2) {
    std::fputs("usage: write_gguf_corpus FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  std::filesystem::create_directories(folder);
  const auto write = [&](const char* name, const std::string& bytes) {
    hipattn_run::testing::WriteFile((folder / name).string(), bytes);
  };
  write("empty", GgufWriter().Build());
  for (const uint32_t version : {2U, 3U}) {
    GgufWriter writer(version);
    writer.AddUint32("general.alignment", 32);
    writer.AddString("name", "text");
    writer.AddStrings("words", {"a", "bc"});
    writer.AddInts("ints", {1, -1});
    writer.AddTensor("w", {32, 2}, 8, std::string(68, '\1'));
    write(version == 2 ? "small2" : "small3", writer.Build());
  }
  GgufWriter vocabulary;
  hipattn_run::testing::AddVocabulary(&vocabulary, "smollm");
  write("vocabulary", vocabulary.Build());
  hipattn_run::testing::TinyLlama one_layer;
  one_layer.num_layers = 1;
  write("model", hipattn_run::testing::MakeTinyLlama(one_layer));
  return 0;
}
