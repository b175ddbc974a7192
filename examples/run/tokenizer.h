// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The tokenizer that a GGUF file describes: byte-level BPE (tokenizer.ggml.model = "gpt2"), or a
// BPE model of SentencePiece ("llama").
//
//   Result<Tokenizer> tokenizer = Tokenizer::Create(file);
//   Result<std::vector<int32_t>> tokens = tokenizer.value().Encode("Hello <|im_end|>");
//   StreamDecoder decoder(tokenizer.value());
//   for (int32_t token : tokens.value()) std::cout << decoder.Add(token);
//
// Special tokens of the file are recognised in the text first, the longest where several fit; the
// text between them is cut into words by the pre-tokenizer and merged; SentencePiece takes it as
// one word, behind a space where the file wants that, and writes what it has no piece for byte by
// byte. Encode adds no tokens of its own. One thread at a time per tokenizer: words are cached.
#ifndef HIPATTN_EXAMPLES_RUN_TOKENIZER_H_
#define HIPATTN_EXAMPLES_RUN_TOKENIZER_H_

#include "bpe.h"
#include "gguf.h"
#include "pretokenizer.h"
#include "result.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hipattn_run {

class Tokenizer {
 public:
  static Result<Tokenizer> Create(const GgufFile& file);

  // Fails for text that is not UTF-8, naming the byte.
  Result<std::vector<int32_t>> Encode(std::string_view text);

  // The bytes of a token; nothing for control tokens and numbers outside the vocabulary.
  std::string_view TokenBytes(int32_t token) const;
  std::string Decode(const std::vector<int32_t>& tokens) const;

  std::optional<int32_t> FindSpecial(std::string_view name) const;
  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  std::optional<int32_t> bos() const { return bos_; }
  bool add_bos() const { return add_bos_; }
  // Whether generation stops at this token: the file's end tokens and the known end-of-turn names.
  bool IsEnd(int32_t token) const;

 private:
  Tokenizer() = default;
  Status LoadVocabulary(const GgufFile& file);
  Status AddToken(std::string_view name, int64_t type);
  Status LoadScores(const GgufFile& file);
  Status LoadMerges(const GgufFile& file);
  Status LoadSpecials(const GgufFile& file);
  Status EncodePlain(std::string_view text, std::vector<int32_t>* tokens);
  void EncodePieces(std::string_view text, std::vector<int32_t>* tokens) const;
  // Valid until the next call.
  const std::vector<int32_t>& EncodeWord(std::string_view word);
  // The special token at the start of `text`, or nothing.
  std::optional<int32_t> MatchSpecial(std::string_view text) const;

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  template <typename Value>
  using StringMap = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;

  std::optional<Pretokenizer> pretokenizer_;  // nothing: SentencePiece
  bool space_first_ = true;                   // of SentencePiece
  std::vector<std::string> bytes_;            // by token
  std::vector<bool> is_control_;              // by token
  StringMap<int32_t> token_by_bytes_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_tokens_;
  std::optional<int32_t> unknown_;
  std::array<std::vector<int32_t>, 256> specials_;  // by first byte, longest first
  StringMap<std::vector<int32_t>> words_;           // what is known
  std::vector<int32_t> long_word_;                  // the last word too long to be remembered
  std::optional<int32_t> bos_;
  std::vector<int32_t> ends_;
  bool add_bos_ = false;
};

// Turns tokens into text as they come: characters whose bytes are spread over several tokens appear
// once they are complete.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The text that this token completes, well-formed UTF-8.
  std::string Add(int32_t token);
  // What is left at the end, with U+FFFD for bytes of an unfinished character.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace hipattn_run

#endif  // HIPATTN_EXAMPLES_RUN_TOKENIZER_H_
