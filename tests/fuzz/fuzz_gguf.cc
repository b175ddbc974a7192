// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Any bytes as a GGUF file: the reader, then what reads a model and a tokenizer out of it. Nothing
// may crash, read outside the bytes or allocate much more than they are.
#include "gguf.h"
#include "llama_model.h"
#include "tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using hipattn_run::GgufFile;
  const hipattn_run::Result<GgufFile> file = GgufFile::Parse(std::span(data, size));
  if (!file.ok()) {
    return 0;
  }
  unsigned sum = 0;
  for (const hipattn_run::GgufTensor& tensor : file.value().tensors()) {
    sum += tensor.data.front() + tensor.data.back();
  }
  hipattn_run::Result<hipattn_run::Tokenizer> tokenizer =
      hipattn_run::Tokenizer::Create(file.value());
  if (tokenizer.ok()) {
    sum += static_cast<unsigned>(tokenizer.value().Encode("the 2 <|im_end|>").value().size());
  }
  sum += hipattn_run::LlamaModel::Load(file.value()).ok() ? 1 : 0;
  // Keeps the reads.
  volatile unsigned sink = sum;
  static_cast<void>(sink);
  return 0;
}
