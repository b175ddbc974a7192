// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tokenizer.h"

#include "pieces.h"
#include "utf8.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hipattn_run {
namespace {

// tokenizer.ggml.token_type
constexpr int64_t kTypeUnknown = 2;
constexpr int64_t kTypeControl = 3;
constexpr int64_t kTypeUserDefined = 4;
constexpr int64_t kTypeByte = 6;

constexpr int32_t kNoToken = -1;
// The time to find the merges of a piece grows with the square of its length.
constexpr size_t kMaxPiece = 256;
// Longer words are not worth remembering.
constexpr size_t kMaxCachedWord = 64;

// Byte-level vocabularies write each byte as a visible character: printable Latin-1 bytes as
// themselves, the others as U+0100, U+0101, ... in order.
std::unordered_map<uint32_t, char> MakeByteAlphabet() {
  std::unordered_map<uint32_t, char> alphabet;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
                         (byte >= 0xae && byte <= 0xff);
    alphabet[visible ? byte : next++] = static_cast<char>(byte);
  }
  return alphabet;
}

uint32_t DecodeUtf8(std::string_view character) {
  const auto byte = [character](size_t i) { return static_cast<unsigned char>(character[i]); };
  uint32_t code = character.size() == 1 ? byte(0) : byte(0) & (0x7fU >> character.size());
  for (size_t i = 1; i < character.size(); ++i) {
    code = (code << 6) | (byte(i) & 0x3fU);
  }
  return code;
}

// The bytes that a vocabulary entry stands for. Characters outside the alphabet (in added tokens)
// stay what they are.
std::string BytesOfEntry(std::string_view entry) {
  static const std::unordered_map<uint32_t, char> alphabet = MakeByteAlphabet();
  std::string bytes;
  for (size_t position = 0; position < entry.size();) {
    const size_t length = std::max<size_t>(1, Utf8CharLength(entry.substr(position)));
    const std::string_view character = entry.substr(position, length);
    const auto found = alphabet.find(DecodeUtf8(character));
    if (found == alphabet.end()) {
      bytes += character;
    } else {
      bytes += found->second;
    }
    position += length;
  }
  return bytes;
}

}  // namespace

Result<Tokenizer> Tokenizer::Create(const GgufFile& file) {
  Result<std::string_view> model = file.GetString("tokenizer.ggml.model");
  if (!model.ok()) {
    return model.status();
  }
  const bool byte_level = model.value() == "gpt2";
  if (!byte_level && model.value() != "llama") {
    return Status::Error("tokenizer.ggml.model is '",
                         model.value(),
                         "'; 'gpt2' (byte-level BPE) and 'llama' (SentencePiece) are supported");
  }
  Tokenizer tokenizer;
  if (byte_level) {
    std::string_view pre = "default";
    if (file.Find("tokenizer.ggml.pre") != nullptr) {
      Result<std::string_view> value = file.GetString("tokenizer.ggml.pre");
      if (!value.ok()) {
        return value.status();
      }
      pre = value.value();
    }
    Result<Pretokenizer> pretokenizer = Pretokenizer::Create(pre);
    if (!pretokenizer.ok()) {
      return pretokenizer.status();
    }
    tokenizer.pretokenizer_ = std::move(pretokenizer.value());
  }
  RUN_RETURN_IF_ERROR(tokenizer.LoadVocabulary(file));
  RUN_RETURN_IF_ERROR(byte_level ? tokenizer.LoadMerges(file) : tokenizer.LoadScores(file));
  RUN_RETURN_IF_ERROR(tokenizer.LoadSpecials(file));
  return tokenizer;
}

Status Tokenizer::LoadVocabulary(const GgufFile& file) {
  Result<const GgufArray*> entries = file.GetArray("tokenizer.ggml.tokens", GgufType::kString);
  if (!entries.ok()) {
    return entries.status();
  }
  const std::vector<std::string_view>& names = entries.value()->strings;
  if (names.empty() || names.size() > std::numeric_limits<int32_t>::max()) {
    return Status::Error("tokenizer.ggml.tokens has ", names.size(), " entries");
  }
  std::vector<int64_t> types(names.size(), 1);
  if (file.Find("tokenizer.ggml.token_type") != nullptr) {
    Result<const GgufArray*> given = file.GetArray("tokenizer.ggml.token_type", GgufType::kInt32);
    if (!given.ok()) {
      return given.status();
    }
    if (given.value()->count != names.size()) {
      return Status::Error("tokenizer.ggml.token_type has ",
                           given.value()->count,
                           " entries, tokenizer.ggml.tokens ",
                           names.size());
    }
    for (size_t i = 0; i < types.size(); ++i) {
      types[i] = given.value()->IntAt(i);
    }
  }
  byte_tokens_.fill(kNoToken);
  for (size_t i = 0; i < names.size(); ++i) {
    RUN_RETURN_IF_ERROR(AddToken(names[i], types[i]));
  }
  for (std::vector<int32_t>& list : specials_) {
    std::stable_sort(list.begin(), list.end(), [this](int32_t a, int32_t b) {
      return bytes_[static_cast<size_t>(a)].size() > bytes_[static_cast<size_t>(b)].size();
    });
  }
  for (size_t byte = 0; pretokenizer_ && byte < byte_tokens_.size(); ++byte) {
    const auto found = token_by_bytes_.find(std::string(1, static_cast<char>(byte)));
    byte_tokens_[byte] = found == token_by_bytes_.end() ? kNoToken : found->second;
  }
  return {};
}

// Adds the next token.
Status Tokenizer::AddToken(std::string_view name, int64_t type) {
  const auto token = static_cast<int32_t>(bytes_.size());
  const bool special = type == kTypeControl || type == kTypeUserDefined || type == kTypeUnknown;
  is_control_.push_back(type == kTypeControl);
  if (type == kTypeUnknown && !unknown_) {
    unknown_ = token;
  }
  if (special) {
    bytes_.emplace_back(name);
    if (!name.empty()) {
      specials_[static_cast<unsigned char>(name[0])].push_back(token);
    }
    return {};
  }
  if (type == kTypeByte && !pretokenizer_) {
    const std::optional<uint8_t> byte = ByteOfPiece(name);
    if (!byte) {
      return Status::Error("tokenizer.ggml.tokens[", token, "] is '", name, "', no byte as <0x0A>");
    }
    bytes_.emplace_back(1, static_cast<char>(*byte));
    byte_tokens_[*byte] = token;
    return {};
  }
  bytes_.push_back(pretokenizer_ ? BytesOfEntry(name) : TextOfPiece(name));
  token_by_bytes_.emplace(bytes_.back(), token);
  return {};
}

// The merges of SentencePiece, and whether text gets a space before it.
Status Tokenizer::LoadScores(const GgufFile& file) {
  Result<const GgufArray*> scores = file.GetArray("tokenizer.ggml.scores", GgufType::kFloat32);
  if (!scores.ok()) {
    return scores.status();
  }
  if (scores.value()->count != bytes_.size()) {
    return Status::Error("tokenizer.ggml.scores has ",
                         scores.value()->count,
                         " entries, tokenizer.ggml.tokens ",
                         bytes_.size());
  }
  const auto find = [this](std::string_view text) -> std::optional<int32_t> {
    const auto found = token_by_bytes_.find(text);
    return found == token_by_bytes_.end() ? std::nullopt : std::optional(found->second);
  };
  for (const auto& [text, token] : token_by_bytes_) {
    const float score = scores.value()->FloatAt(static_cast<size_t>(token));
    if (!std::isfinite(score)) {
      return Status::Error("tokenizer.ggml.scores[", token, "] is ", score);
    }
    if (text.size() > kMaxPiece) {
      return Status::Error("tokenizer.ggml.tokens[",
                           token,
                           "] has ",
                           text.size(),
                           " bytes, a piece of SentencePiece at most ",
                           kMaxPiece);
    }
    AddMergesOf(text, token, score, find, &merges_);
  }
  if (file.Find("tokenizer.ggml.add_space_prefix") != nullptr) {
    Result<bool> space_first = file.GetBool("tokenizer.ggml.add_space_prefix");
    if (!space_first.ok()) {
      return space_first.status();
    }
    space_first_ = space_first.value();
  }
  return {};
}

Status Tokenizer::LoadMerges(const GgufFile& file) {
  Result<const GgufArray*> entries = file.GetArray("tokenizer.ggml.merges", GgufType::kString);
  if (!entries.ok()) {
    return entries.status();
  }
  double rank = 0;
  for (const std::string_view entry : entries.value()->strings) {
    const size_t space = entry.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == entry.size()) {
      return Status::Error("tokenizer.ggml.merges[", rank, "] is not two symbols");
    }
    const std::string left = BytesOfEntry(entry.substr(0, space));
    const std::string right = BytesOfEntry(entry.substr(space + 1));
    const auto left_token = token_by_bytes_.find(left);
    const auto right_token = token_by_bytes_.find(right);
    const auto joined = token_by_bytes_.find(left + right);
    // A pair whose parts or result are no tokens can never appear.
    if (left_token != token_by_bytes_.end() && right_token != token_by_bytes_.end() &&
        joined != token_by_bytes_.end()) {
      merges_.Add(left_token->second, right_token->second, {rank, joined->second});
    }
    ++rank;
  }
  return {};
}

Status Tokenizer::LoadSpecials(const GgufFile& file) {
  const auto read_token = [&](const char* key, std::optional<int32_t>* token) -> Status {
    if (file.Find(key) == nullptr) {
      return {};
    }
    Result<uint64_t> value = file.GetUint(key);
    if (!value.ok()) {
      return value.status();
    }
    if (value.value() >= bytes_.size()) {
      return Status::Error(key, " is ", value.value(), ", the vocabulary has ", bytes_.size());
    }
    *token = static_cast<int32_t>(value.value());
    return {};
  };
  RUN_RETURN_IF_ERROR(read_token("tokenizer.ggml.bos_token_id", &bos_));
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    std::optional<int32_t> end;
    RUN_RETURN_IF_ERROR(read_token(key, &end));
    if (end) {
      ends_.push_back(*end);
    }
  }
  for (const char* name : {"<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>"}) {
    if (const std::optional<int32_t> end = FindSpecial(name)) {
      ends_.push_back(*end);
    }
  }
  add_bos_ = !pretokenizer_;  // models of SentencePiece want it unless they say otherwise
  if (file.Find("tokenizer.ggml.add_bos_token") != nullptr) {
    Result<bool> add = file.GetBool("tokenizer.ggml.add_bos_token");
    if (!add.ok()) {
      return add.status();
    }
    add_bos_ = add.value();
  }
  return {};
}

Result<std::vector<int32_t>> Tokenizer::Encode(std::string_view text) {
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != std::string_view::npos) {
    return Status::Error("the text is not UTF-8 at byte ", invalid);
  }
  std::vector<int32_t> tokens;
  size_t plain_begin = 0;
  for (size_t position = 0; position < text.size();) {
    const std::optional<int32_t> special = MatchSpecial(text.substr(position));
    if (!special) {
      ++position;
      continue;
    }
    const Status status = EncodePlain(text.substr(plain_begin, position - plain_begin), &tokens);
    if (!status.ok()) {
      return status;
    }
    tokens.push_back(*special);
    position += bytes_[static_cast<size_t>(*special)].size();
    plain_begin = position;
  }
  const Status status = EncodePlain(text.substr(plain_begin), &tokens);
  if (!status.ok()) {
    return status;
  }
  return tokens;
}

std::optional<int32_t> Tokenizer::MatchSpecial(std::string_view text) const {
  for (const int32_t token : specials_[static_cast<unsigned char>(text[0])]) {
    if (text.starts_with(bytes_[static_cast<size_t>(token)])) {
      return token;
    }
  }
  return std::nullopt;
}

Status Tokenizer::EncodePlain(std::string_view text, std::vector<int32_t>* tokens) {
  if (!pretokenizer_) {
    EncodePieces(text, tokens);
    return {};
  }
  return pretokenizer_->Split(text, [&](std::string_view word) {
    const std::vector<int32_t>& encoded = EncodeWord(word);
    tokens->insert(tokens->end(), encoded.begin(), encoded.end());
  });
}

void Tokenizer::EncodePieces(std::string_view text, std::vector<int32_t>* tokens) const {
  if (text.empty()) {
    return;
  }
  std::string word(space_first_ ? 1 : 0, ' ');
  word += text;
  std::vector<int32_t> symbols;
  for (size_t position = 0; position < word.size();) {
    const std::string_view rest = std::string_view(word).substr(position);
    const std::string_view character = rest.substr(0, std::max<size_t>(1, Utf8CharLength(rest)));
    position += character.size();
    const auto piece = token_by_bytes_.find(character);
    if (piece != token_by_bytes_.end()) {
      symbols.push_back(piece->second);
      continue;
    }
    const bool all_bytes = std::all_of(character.begin(), character.end(), [this](char byte) {
      return byte_tokens_[static_cast<unsigned char>(byte)] != kNoToken;
    });
    for (const char byte : all_bytes ? character : std::string_view()) {
      symbols.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
    }
    if (!all_bytes && unknown_) {
      symbols.push_back(*unknown_);
    }
  }
  MergeSymbols(merges_, &symbols);
  tokens->insert(tokens->end(), symbols.begin(), symbols.end());
}

const std::vector<int32_t>& Tokenizer::EncodeWord(std::string_view word) {
  const auto known = words_.find(word);
  if (known != words_.end()) {
    return known->second;
  }
  std::vector<int32_t> symbols;
  const auto whole = token_by_bytes_.find(word);
  if (pretokenizer_->whole_words_first() && whole != token_by_bytes_.end()) {
    symbols.push_back(whole->second);
  } else {
    for (const char byte : word) {
      symbols.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
    }
    std::erase(symbols, kNoToken);  // bytes that the vocabulary lacks are lost, as with its author
    MergeSymbols(merges_, &symbols);
  }
  if (word.size() > kMaxCachedWord) {
    long_word_ = std::move(symbols);
    return long_word_;
  }
  return words_.emplace(std::string(word), std::move(symbols)).first->second;
}

std::string_view Tokenizer::TokenBytes(int32_t token) const {
  const auto index = static_cast<size_t>(token);
  if (token < 0 || index >= bytes_.size() || is_control_[index]) {
    return {};
  }
  return bytes_[index];
}

std::string Tokenizer::Decode(const std::vector<int32_t>& tokens) const {
  std::string text;
  for (const int32_t token : tokens) {
    text += TokenBytes(token);
  }
  return text;
}

std::optional<int32_t> Tokenizer::FindSpecial(std::string_view name) const {
  if (name.empty()) {
    return std::nullopt;
  }
  const std::optional<int32_t> token = MatchSpecial(name);
  return token && bytes_[static_cast<size_t>(*token)] == name ? token : std::nullopt;
}

bool Tokenizer::IsEnd(int32_t token) const {
  return std::find(ends_.begin(), ends_.end(), token) != ends_.end();
}

std::string StreamDecoder::Add(int32_t token) {
  pending_ += tokenizer_.TokenBytes(token);
  const size_t complete = CompleteUtf8Prefix(pending_);
  std::string text = ReplaceInvalidUtf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text = ReplaceInvalidUtf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace hipattn_run
