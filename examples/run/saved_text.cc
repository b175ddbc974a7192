// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "saved_text.h"

#include <algorithm>

namespace hipattn_run {

size_t SavedTokens(std::span<const int32_t> prompt, std::span<const int32_t> without_question) {
  const auto differ =
      std::mismatch(prompt.begin(), prompt.end(), without_question.begin(), without_question.end());
  const auto common = static_cast<size_t>(differ.first - prompt.begin());
  if (common == prompt.size()) {
    return prompt.empty() ? 0 : prompt.size() - 1;
  }
  // The first words of a question may join the last token before it: a little less than what is
  // common, so that other questions find the same.
  constexpr size_t kStep = 16;
  return common / kStep * kStep;
}

std::vector<std::byte> TextFingerprint(const GgufFile& model, std::span<const int32_t> tokens) {
  constexpr size_t kSampleBytes = 1024;
  std::vector<std::byte> fingerprint;
  const auto add = [&](std::span<const std::byte> bytes) {
    fingerprint.insert(fingerprint.end(), bytes.begin(), bytes.end());
  };
  const uint64_t model_bytes = model.tensor_bytes();
  add(std::as_bytes(std::span(&model_bytes, 1)));
  for (const GgufTensor& tensor : model.tensors()) {
    add(std::as_bytes(tensor.data.first(std::min(tensor.data.size(), kSampleBytes))));
  }
  add(std::as_bytes(tokens));
  return fingerprint;
}

Status SaveText(const Sequence& sequence,
                const std::string& path,
                std::span<const std::byte> fingerprint) {
  return CheckHipattn(
      hipattn_sequence_save(sequence.get(), path.c_str(), fingerprint.data(), fingerprint.size()),
      "save the text");
}

Result<Sequence> LoadText(const Engine& engine,
                          const std::string& path,
                          std::span<const std::byte> fingerprint,
                          const hipattn_attention_options_t& options) {
  hipattn_sequence_t* sequence = nullptr;
  Status status = CheckHipattn(
      hipattn_sequence_load(
          engine.get(), path.c_str(), fingerprint.data(), fingerprint.size(), &sequence),
      "load the text");
  if (!status.ok()) {
    return status;
  }
  Sequence owner(sequence);
  status = CheckHipattn(hipattn_sequence_set_options(sequence, &options), "set attention options");
  if (!status.ok()) {
    return status;
  }
  return owner;
}

}  // namespace hipattn_run
