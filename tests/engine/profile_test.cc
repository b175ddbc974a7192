// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Head profiles: what is written is read back bit for bit; whatever is damaged or foreign is
// refused with the field's name, and nothing has changed then; a save that fails leaves the earlier
// file.
#include "engine/profile.h"

#include "engine/engine.h"
#include "tests/support/kv_fixture.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>

namespace hipattn::engine {
namespace {

EngineOptions Geometry(uint32_t num_layers = 3) {
  EngineOptions options;
  options.num_layers = num_layers;
  options.num_q_heads = 4;
  options.num_kv_heads = 2;
  options.head_dim = 64;
  options.num_threads = 1;
  options.device_kv_bytes = uint64_t{64} << 20;
  return ResolveEngineOptions(options).value();
}

core::AuditTable SomeAudits() {
  core::AuditTable audits(3, 2);
  testing::Random random(5);
  for (uint32_t i = 0; i < 6; ++i) {
    for (uint32_t sample = 0; sample < 3 + 50 * i; ++sample) {
      audits.AddSample(i / 2, i % 2, random.Uniform() * 0.01 * i);
    }
  }
  audits.DecideAll(2);
  return audits;
}

// A folder that goes away with the test.
class ProfileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("hipattn_profile_test_" + std::to_string(getpid()) + "_" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name = "profile.json") const {
    return (folder_ / name).string();
  }
  std::string Text() const {
    std::ifstream file(Path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void SetText(const std::string& text) const {
    std::ofstream(Path(), std::ios::binary | std::ios::trunc) << text;
  }
  size_t NumFiles() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }

  std::filesystem::path folder_;
};

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST_F(ProfileTest, ComesBackAsItWas) {
  const core::AuditTable audits = SomeAudits();
  ASSERT_EQ(audits.Count().scanned, 2);
  ASSERT_TRUE(WriteProfile(Path(), Geometry(), audits).ok());
  EXPECT_EQ(NumFiles(), 1U);
  const core::AuditTable read = ReadProfile(Path(), Geometry()).value();
  ASSERT_EQ(read.heads().size(), audits.heads().size());
  for (size_t i = 0; i < read.heads().size(); ++i) {
    EXPECT_EQ(read.heads()[i].loss, audits.heads()[i].loss);
    EXPECT_EQ(read.heads()[i].samples, audits.heads()[i].samples);
    EXPECT_EQ(read.heads()[i].scanned, audits.heads()[i].scanned);
  }
  ASSERT_TRUE(WriteProfile(Path(), Geometry(), core::AuditTable(3, 2)).ok()) << "replaces";
  EXPECT_EQ(ReadProfile(Path(), Geometry()).value().Count().scanned, 0);
}

struct Damage {
  const char* from;  // nullptr: `to` is the whole text
  const char* to;
  StatusCode code;
  const char* words;
};

TEST_F(ProfileTest, DamageAndForeignContentAreRefusedByName) {
  ASSERT_TRUE(WriteProfile(Path(), Geometry(), SomeAudits()).ok());
  const std::string good = Text();
  const std::string deep(100000, '[');
  const std::string deep_object = "{\"heads\":[{\"layer\":[[1]]}]}";
  const Damage table[] = {
      {nullptr, "", StatusCode::kCorrupt, "no JSON"},
      {nullptr, "profile", StatusCode::kCorrupt, "no JSON"},
      {nullptr, "[]", StatusCode::kCorrupt, "the profile is no object"},
      {nullptr, "7", StatusCode::kCorrupt, "the profile is no object"},
      {nullptr, "{}", StatusCode::kCorrupt, "format is missing"},
      {nullptr, deep.c_str(), StatusCode::kCorrupt, "nested deeper"},
      {nullptr, deep_object.c_str(), StatusCode::kCorrupt, "nested deeper"},
      {"hipattn head profile", "another", StatusCode::kCorrupt, "format is \"another\""},
      {"\"hipattn head profile\"", "1", StatusCode::kCorrupt, "format is 1"},
      {"\"version\":1", "\"version\":2", StatusCode::kMismatch, "version is 2"},
      {"\"version\":1", "\"version\":-1", StatusCode::kCorrupt, "version is -1"},
      {"\"version\":1", "\"version\":\"1\"", StatusCode::kCorrupt, "version is \"1\""},
      {"\"num_layers\":3", "\"num_layers\":4", StatusCode::kMismatch, "num_layers is 4"},
      {"\"num_layers\":3", "\"num_layers\":3.5", StatusCode::kCorrupt, "num_layers is 3.5"},
      {"\"num_layers\":3",
       "\"num_layers\":18446744073709551616",
       StatusCode::kCorrupt,
       "num_layers is"},
      {"\"num_q_heads\":4", "\"num_q_heads\":8", StatusCode::kMismatch, "num_q_heads is 8"},
      {"\"num_kv_heads\":2", "\"num_kv_heads\":1", StatusCode::kMismatch, "num_kv_heads is 1"},
      {"\"head_dim\":64", "\"head_dim\":128", StatusCode::kMismatch, "head_dim is 128"},
      {"\"head_dim\":64", "\"head_dim\":null", StatusCode::kCorrupt, "head_dim is null"},
      {"\"head_dim\":64", "\"other\":64", StatusCode::kCorrupt, "head_dim is missing"},
      {"\"head_dim\":64", "\"head_dim\":64,\"more\":1", StatusCode::kCorrupt, "more is not known"},
      {"\"head_dim\":64",
       "\"head_dim\":64,\"head_dim\":64",
       StatusCode::kCorrupt,
       "head_dim stands twice"},
      {"\"heads\":[", "\"heads\":[7,", StatusCode::kCorrupt, "heads has 7 entries"},
      {"\"heads\":[", "\"heads\":{},\"more\":[", StatusCode::kCorrupt, "more is not known"},
      {"\"layer\":0", "\"layer\":3", StatusCode::kCorrupt, "heads[0].layer is 3"},
      {"\"layer\":0", "\"layer\":4294967296", StatusCode::kCorrupt, "heads[0].layer is 4294967296"},
      {"\"layer\":0", "\"layer\":1", StatusCode::kCorrupt, "a second time"},
      {"\"kv_head\":0", "\"kv_head\":2", StatusCode::kCorrupt, "heads[0].kv_head is 2"},
      {"\"kv_head\":0",
       "\"kv_head\":0,\"kv_head\":0",
       StatusCode::kCorrupt,
       "kv_head stands twice"},
      {"\"samples\":3", "\"samples\":257", StatusCode::kCorrupt, "heads[0].samples is 257"},
      {"\"samples\":3", "\"samples\":-3", StatusCode::kCorrupt, "heads[0].samples is -3"},
      {"\"samples\":3", "\"sample\":3", StatusCode::kCorrupt, "heads[0].samples is missing"},
      {"\"loss\":", "\"loss\":1", StatusCode::kCorrupt, "heads[0].loss is 10.0"},
      {"\"loss\":", "\"loss\":NaN,\"was\":", StatusCode::kCorrupt, "no JSON"},
      {"\"loss\":", "\"loss\":1e999,\"was\":", StatusCode::kCorrupt, "no JSON"},
      {"\"loss\":", "\"loss\":\"0\",\"was\":", StatusCode::kCorrupt, "heads[0].was is not known"},
      {"\"mode\":\"tree\"", "\"mode\":\"dense\"", StatusCode::kCorrupt, "mode is \"dense\""},
      {"\"mode\":\"tree\"", "\"mode\":2", StatusCode::kCorrupt, "mode is 2"},
      {"]}", "]", StatusCode::kCorrupt, "no JSON"},
      {"]}", "]}x", StatusCode::kCorrupt, "no JSON"},
  };
  for (const Damage& damage : table) {
    SetText(damage.from == nullptr ? damage.to : Replaced(good, damage.from, damage.to));
    const Status status = ReadProfile(Path(), Geometry()).status();
    EXPECT_EQ(status.code(), damage.code) << damage.to << ": " << status.message();
    EXPECT_NE(status.message().find(damage.words), std::string::npos)
        << damage.words << ": " << status.message();
  }
  for (size_t length = 0; length + 2 < good.size(); length += 3) {
    SetText(good.substr(0, length));
    EXPECT_EQ(ReadProfile(Path(), Geometry()).status().code(), StatusCode::kCorrupt) << length;
  }
  EXPECT_EQ(ReadProfile(Path("none"), Geometry()).status().code(), StatusCode::kIoError);
  EXPECT_EQ(ReadProfile(folder_.string(), Geometry()).status().code(), StatusCode::kIoError);
}

// Any byte changed: refused, or a profile whose numbers are in range.
TEST_F(ProfileTest, AnyByteMayBeWrong) {
  ASSERT_TRUE(WriteProfile(Path(), Geometry(), SomeAudits()).ok());
  const std::string good = Text();
  testing::Random random(1);
  for (uint32_t round = 0; round < 800; ++round) {
    std::string text = good;
    for (uint32_t i = 0; i <= random.Below(3); ++i) {
      text[random.Below(static_cast<uint32_t>(text.size()))] = static_cast<char>(random.Below(256));
    }
    SetText(text);
    const Result<core::AuditTable> read = ReadProfile(Path(), Geometry());
    if (!read.ok()) {
      EXPECT_FALSE(read.status().message().empty());
      continue;
    }
    for (const core::HeadAudit& head : read.value().heads()) {
      EXPECT_TRUE(head.loss >= 0.0 && head.loss <= 1.0);
      EXPECT_LE(head.samples, core::kMeanSamples);
    }
  }
}

TEST_F(ProfileTest, ASaveThatFailsLeavesTheEarlierFile) {
  ASSERT_TRUE(WriteProfile(Path(), Geometry(), SomeAudits()).ok());
  const std::string good = Text();
  const Status nowhere = WriteProfile(Path("none/profile.json"), Geometry(), SomeAudits());
  EXPECT_EQ(nowhere.code(), StatusCode::kIoError);
  EXPECT_NE(nowhere.message().find("none/profile.json"), std::string::npos);
  // A folder cannot be replaced by a file.
  std::filesystem::create_directories(Path("folder/inside"));
  EXPECT_EQ(WriteProfile(Path("folder"), Geometry(), SomeAudits()).code(), StatusCode::kIoError);
  EXPECT_EQ(Text(), good);
  EXPECT_EQ(NumFiles(), 2U) << "nothing is left beside them";
}

TEST_F(ProfileTest, SequencesMadeAfterwardsStartFromIt) {
  const auto engine = Engine::Create(Geometry()).value();
  const auto make = [&](uint32_t rerank, uint32_t max_scanned_heads) {
    AttentionOptions options;
    options.rerank_tokens = rerank;
    options.max_scanned_heads = max_scanned_heads;
    return std::move(
        Sequence::Create(engine, ResolveAttentionOptions(engine->options(), options).value())
            .value());
  };
  const auto before = make(0, 2);
  ASSERT_TRUE(WriteProfile(Path(), Geometry(), SomeAudits()).ok());
  ASSERT_TRUE(engine->LoadProfile(Path()).ok());
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 0U);
  const auto two = make(0, 2);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 2U);
  const auto one = make(0, 1);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 3U) << "the worst one";
  const auto none = make(kNone, 0);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 3U) << "without sketches there is no scan";
  const core::AuditTable audits = SomeAudits();
  const std::span<const core::HeadAudit> want = audits.heads();
  for (uint32_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(two->GetRecall(i / 2, i % 2 * 2).value().audited_loss,
              static_cast<float>(want[i].loss));
  }
  EXPECT_TRUE(std::isnan(before->GetRecall(0, 0).value().audited_loss));

  SetText("{}");
  EXPECT_EQ(engine->LoadProfile(Path()).code(), StatusCode::kCorrupt);
  const auto after = make(0, 2);
  EXPECT_EQ(engine->GetStats(false).scanned_heads, 5U) << "a refused file changed nothing";
  ASSERT_TRUE(after->SaveProfile(Path()).ok());
  EXPECT_EQ(ReadProfile(Path(), Geometry()).value().Count().scanned, 2);
}

}  // namespace
}  // namespace hipattn::engine
