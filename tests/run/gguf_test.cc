// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The GGUF reader with files that are right, cut short, and lying.
#include "gguf.h"

#include "synthetic_gguf.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace hipattn_run {
namespace {

using testing::Bytes;
using testing::GgufWriter;
using testing::LengthAndBytes;

constexpr uint32_t kArray = static_cast<uint32_t>(GgufType::kArray);
constexpr uint32_t kF32 = static_cast<uint32_t>(TensorType::kF32);

Result<GgufFile> Parse(const std::string& bytes) {
  return GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

// The message of a file that must not be readable.
std::string MessageOf(const std::string& bytes) {
  const Result<GgufFile> file = Parse(bytes);
  EXPECT_FALSE(file.ok());
  return file.status().message();
}

void ExpectMessage(const std::string& bytes, const std::string& part) {
  const std::string message = MessageOf(bytes);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

std::string Header(uint64_t num_tensors, uint64_t num_values) {
  return "GGUF" + Bytes(uint32_t{3}) + Bytes(num_tensors) + Bytes(num_values);
}

TEST(Gguf, ReadsValuesAndTensors) {
  for (const uint32_t version : {2U, 3U}) {
    GgufWriter writer(version);
    writer.AddUint32("count", 7);
    writer.AddFloat32("epsilon", 0.5F);
    writer.AddBool("flag", true);
    writer.AddString("name", "llama");
    writer.AddStrings("words", {"a", "", "ccc"});
    writer.AddInts("ints", {-1, 2});
    writer.AddTensor("w", {3, 2}, kF32, std::string(24, '\1'));
    writer.AddTensor("v", {1}, kF32, std::string(4, '\2'));
    const std::string bytes = writer.Build();
    const Result<GgufFile> parsed = Parse(bytes);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    const GgufFile& file = parsed.value();
    EXPECT_EQ(file.GetUint("count").value(), 7U);
    EXPECT_EQ(file.GetFloat("epsilon").value(), 0.5);
    EXPECT_TRUE(file.GetBool("flag").value());
    EXPECT_EQ(file.GetString("name").value(), "llama");
    const GgufArray* words = file.GetArray("words", GgufType::kString).value();
    EXPECT_EQ(words->strings, (std::vector<std::string_view>{"a", "", "ccc"}));
    EXPECT_EQ(file.GetArray("ints", GgufType::kInt32).value()->IntAt(0), -1);
    const GgufTensor* w = file.FindTensor("w");
    ASSERT_NE(w, nullptr);
    EXPECT_EQ(w->columns(), 3U);
    EXPECT_EQ(w->rows(), 2U);
    EXPECT_EQ(w->data.size(), 24U);
    EXPECT_EQ(w->data[0], 1);
    EXPECT_EQ(file.FindTensor("v")->data[3], 2);
    EXPECT_EQ(file.FindTensor("x"), nullptr);
    EXPECT_EQ(file.tensor_bytes(), 28U);
  }
}

TEST(Gguf, ReadsNestedArrays) {
  GgufWriter writer;
  const std::string inner = Bytes(uint32_t{4}) + Bytes(uint64_t{2}) + std::string(8, '\1');
  writer.AddRaw("nested", kArray, Bytes(kArray) + Bytes(uint64_t{2}) + inner + inner);
  const std::string bytes = writer.Build();
  const Result<GgufFile> file = Parse(bytes);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const GgufArray* nested = file.value().GetArray("nested", GgufType::kArray).value();
  ASSERT_EQ(nested->arrays.size(), 2U);
  EXPECT_EQ(nested->arrays[1].IntAt(1), 0x01010101);
}

TEST(Gguf, RefusesArraysNestedWithoutEnd) {
  std::string value;
  for (int depth = 0; depth < 1000; ++depth) {
    value += Bytes(kArray) + Bytes(uint64_t{1});
  }
  GgufWriter writer;
  writer.AddRaw("deep", kArray, value);
  ExpectMessage(writer.Build(), "nests arrays deeper");
}

TEST(Gguf, WrongTypesOfValuesAreNamed) {
  GgufWriter writer;
  writer.AddString("name", "llama");
  writer.AddRaw("negative", static_cast<uint32_t>(GgufType::kInt32), Bytes(int32_t{-3}));
  const std::string bytes = writer.Build();
  const Result<GgufFile> file = Parse(bytes);
  ASSERT_TRUE(file.ok());
  EXPECT_FALSE(file.value().GetUint("name").ok());
  EXPECT_FALSE(file.value().GetUint("negative").ok());
  EXPECT_FALSE(file.value().GetFloat("name").ok());
  EXPECT_FALSE(file.value().GetBool("name").ok());
  EXPECT_FALSE(file.value().GetString("missing").ok());
  const Status status = file.value().GetArray("name", GgufType::kString).status();
  EXPECT_NE(status.message().find("'name'"), std::string::npos);
}

TEST(Gguf, EveryTruncationIsAnError) {
  const std::string bytes = testing::MakeTinyLlama({});
  ASSERT_TRUE(Parse(bytes).ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A copy of the exact size, so that sanitizers see every byte read behind it.
    const std::vector<uint8_t> part(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    ASSERT_FALSE(GgufFile::Parse(part).ok()) << size;
  }
}

TEST(Gguf, WrongMagicAndVersion) {
  ExpectMessage("GGML" + std::string(100, '\0'), "not a GGUF file");
  ExpectMessage("GGUF" + Bytes(uint32_t{1}) + std::string(100, '\0'), "version 1");
  ExpectMessage("GGUF" + Bytes(uint32_t{0x03000000}) + std::string(100, '\0'), "big-endian");
}

TEST(Gguf, LyingCountsAllocateNothing) {
  const uint64_t huge[] = {1U << 20, uint64_t{1} << 32, uint64_t{1} << 62, ~uint64_t{0}};
  for (const uint64_t count : huge) {
    ExpectMessage(Header(count, 0) + std::string(64, '\0'), "number of tensors");
    ExpectMessage(Header(0, count) + std::string(64, '\0'), "number of metadata entries");
    ExpectMessage(Header(0, 1) + Bytes(count) + std::string(64, 'k'), "length");
    for (const GgufType type : {GgufType::kString, GgufType::kUint8, GgufType::kUint64}) {
      GgufWriter writer;
      writer.AddRaw("list",
                    kArray,
                    Bytes(static_cast<uint32_t>(type)) + Bytes(count) + std::string(64, '\0'));
      EXPECT_FALSE(Parse(writer.Build()).ok());
    }
  }
}

TEST(Gguf, UnknownTypesAreNamed) {
  GgufWriter values;
  values.AddRaw("strange", 13, std::string(8, '\0'));
  ExpectMessage(values.Build(), "metadata 'strange' has the unknown type 13");
  GgufWriter elements;
  elements.AddRaw("strange", kArray, Bytes(uint32_t{99}) + Bytes(uint64_t{1}) + "x");
  ExpectMessage(elements.Build(), "unknown type 99");
  for (const uint32_t type : {13U, 31U, 99U, ~0U}) {
    GgufWriter tensors;
    tensors.AddTensor("blk.3.w", {256}, type, std::string(1024, '\0'));
    ExpectMessage(tensors.Build(), "tensor 'blk.3.w' has type " + std::to_string(type));
  }
}

TEST(Gguf, LyingTensorsAreNamed) {
  const auto message = [](const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset) {
    GgufWriter writer;
    writer.AddTensor("ok", {8}, kF32, std::string(32, '\0'));
    writer.AddTensorAt("bad", dims, type, offset);
    return MessageOf(writer.Build());
  };
  const std::string expected = "tensor 'bad'";
  const uint64_t big = uint64_t{1} << 40;
  for (const std::string& text : {
           message({}, kF32, 0),
           message({1, 1, 1, 1, 1}, kF32, 0),
           message({0}, kF32, 0),
           message({big, big}, kF32, 0),
           message({big, big, big, big}, kF32, 0),
           message({~uint64_t{0}}, kF32, 0),
           message({uint64_t{1} << 62}, kF32, 0),
           message({9}, kF32, 0),
           message({8}, kF32, 32),
           message({8}, kF32, 1),
           message({8}, kF32, ~uint64_t{0} - 31),
           message({33}, static_cast<uint32_t>(TensorType::kQ8_0), 0),
       }) {
    EXPECT_NE(text.find(expected), std::string::npos) << text;
  }
}

TEST(Gguf, DuplicatesAreNamed) {
  GgufWriter values;
  values.AddUint32("key", 1);
  values.AddUint32("key", 2);
  ExpectMessage(values.Build(), "'key' appears twice");
  GgufWriter tensors;
  tensors.AddTensor("w", {1}, kF32, std::string(4, '\0'));
  tensors.AddTensor("w", {1}, kF32, std::string(4, '\0'));
  ExpectMessage(tensors.Build(), "'w' appears twice");
}

TEST(Gguf, AlignmentIsChecked) {
  for (const uint32_t alignment : {0U, 3U, 48U, 1U << 31}) {
    GgufWriter writer;
    writer.AddUint32("general.alignment", alignment);
    ExpectMessage(writer.Build(), "general.alignment");
  }
  GgufWriter writer;
  writer.AddString("general.alignment", "32");
  ExpectMessage(writer.Build(), "general.alignment");
}

TEST(Gguf, MessagesDoNotRepeatBinaryNames) {
  GgufWriter writer;
  writer.AddTensor("bad\n\x1b[31m" + std::string(1000, 'x'), {1}, 99, "");
  const std::string message = MessageOf(writer.Build());
  EXPECT_LT(message.size(), 200U);
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

TEST(Gguf, FilesThatAreNoneAreErrors) {
  const std::filesystem::path folder = ::testing::TempDir();
  EXPECT_FALSE(GgufFile::Open((folder / "missing.gguf").string()).ok());
  EXPECT_FALSE(GgufFile::Open(folder.string()).ok());
  const std::string empty = (folder / "empty.gguf").string();
  std::ofstream(empty).close();
  const Result<GgufFile> file = GgufFile::Open(empty);
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.status().message().find("empty"), std::string::npos);
}

}  // namespace
}  // namespace hipattn_run
