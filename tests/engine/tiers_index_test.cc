// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Where the index lies when there are tiers, in bytes: what hipattn_memory_need says beside what
// engines take, and what it says of texts that are too long for a test.
#include "tests/engine/engine_fixture.h"
#include "tests/support/temporary_folder.h"

namespace hipattn::test {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

hipattn_memory_need_t NeedOf(const hipattn_engine_options_t& engine,
                             const hipattn_attention_options_t& attention,
                             uint64_t tokens,
                             uint32_t num_sequences = 1) {
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  EXPECT_EQ(hipattn_memory_need(&engine, &attention, tokens, num_sequences, &need), HIPATTN_OK)
      << hipattn_last_error_message();
  return need;
}

struct IndexCase {
  uint32_t head_dim, block_tokens, scorer, rerank_tokens;
};

// Never less than what is used, and not much more, in both tiers.
TEST(TiersIndex, MemoryNeedIsACloseUpperBound) {
  const IndexCase cases[] = {{128, 16, 0, 0},
                             {64, 16, HIPATTN_SCORER_MEAN, 0},
                             {64, 32, 0, HIPATTN_NONE},
                             {80, 64, 0, 0},
                             {64, 16, HIPATTN_SCORER_EXACT, HIPATTN_NONE}};
  for (const IndexCase& test : cases) {
    for (const uint32_t tokens : {17U, 1000U, 20000U}) {
      SCOPED_TRACE(::testing::Message() << "head_dim " << test.head_dim << ", blocks of "
                                        << test.block_tokens << ", " << tokens << " tokens");
      const Geometry geometry = {2, 2, test.head_dim};
      hipattn_engine_options_t options = EngineOptionsOf(geometry, HIPATTN_BF16);
      options.block_tokens = test.block_tokens;
      options.host_kv_bytes = 256 * kMiB;
      hipattn_attention_options_t attention = SparseOptions(256, 32, 64);
      attention.scorer = test.scorer;
      attention.rerank_tokens = test.rerank_tokens;
      const hipattn_memory_need_t need = NeedOf(options, attention, tokens, 2);
      options.device_kv_bytes = need.device_bytes_min;
      Engine engine(options);
      Sequence texts[] = {Sequence(engine, attention), Sequence(engine, attention)};
      for (uint64_t done = 0, count = 0; done < tokens; done += count) {
        count = std::min<uint64_t>(tokens - done, done == 0 ? 1 : 1997);  // in uneven steps
        for (Sequence& text : texts) {
          AppendOnly(engine, text, geometry, 3, done, done + count);
        }
      }
      const hipattn_stats_t stats = engine.Stats();
      EXPECT_LE(stats.device_bytes_peak, need.device_bytes_min);
      EXPECT_LE(stats.device_index_bytes, need.device_index_bytes);
      EXPECT_LE(stats.host_bytes, need.host_bytes);
      // A table may have grown by an eighth more than is used, and one table twice.
      EXPECT_LE(static_cast<double>(need.device_index_bytes),
                1.1 * static_cast<double>(stats.device_index_bytes) + 16384.0);
      EXPECT_LE(static_cast<double>(need.host_bytes),
                1.05 * static_cast<double>(stats.host_bytes) + 16384.0);
    }
  }
}

hipattn_engine_options_t EightBillion() {
  hipattn_engine_options_t options = EngineOptionsOf({32, 8, 128}, HIPATTN_BF16, 32);
  options.host_kv_bytes = uint64_t{256} << 30;
  return options;
}

// 32 layers of 8 kv heads of 128 dimensions, no head scanned: the index takes at most 160 MiB of
// the device, all of it at most 1 GiB with four times the blocks of a budget of 512 tokens.
TEST(TiersIndex, AMillionTokensInTheGeometryOf8B) {
  const hipattn_engine_options_t options = EightBillion();
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  attention.decode_mode = HIPATTN_DECODE_SPARSE;
  attention.budget_tokens = 512;
  const hipattn_memory_need_t need = NeedOf(options, attention, uint64_t{1} << 20);
  EXPECT_LE(need.device_index_bytes, 160 * kMiB);
  const uint64_t block_bytes = 2 * 16 * 128 * 2;
  const uint64_t cached_blocks = uint64_t{32} * 8 * 4 * 512 / 16;
  EXPECT_LE(need.device_bytes_min + cached_blocks * block_bytes, 1024 * kMiB);
  // Blocks, of 13 % of their bytes summaries and sketches, and tables.
  EXPECT_GT(need.host_bytes, need.kv_bytes_total / 100 * 112);
  EXPECT_LT(need.host_bytes, need.kv_bytes_total / 100 * 116);
}

// From 64K tokens to a million the device takes more of tables and top summaries alone. Per head a
// group of 8 nodes of 1024 tokens is 64 + 2048 bytes, a kept node of 8192 tokens 1536; the levels
// above add a seventh; a pointer to each has 8 bytes in a table that may have an eighth to spare.
TEST(TiersIndex, DeviceBytesGrowByTheTopAlone) {
  const hipattn_engine_options_t options = EightBillion();
  const hipattn_attention_options_t attention = SparseOptions(512, 128, 1024);
  hipattn_attention_options_t sketches = attention;
  sketches.rerank_tokens = 0;
  constexpr uint64_t kShort = uint64_t{1} << 16;
  constexpr uint64_t kLong = uint64_t{1} << 20;
  const uint64_t nodes = uint64_t{32} * 8 * (kLong - kShort) / 8192;
  const uint64_t top_bytes = nodes * (64 + 2048 + 1536 + 2 * 9) * 8 / 7;
  // Of the table that grows while the old one is there: 4 bytes per block, an eighth to spare.
  const uint64_t growing_bytes = (kLong - kShort) / 16 * 4 * 9 / 8;
  for (const hipattn_attention_options_t& a : {attention, sketches}) {
    const hipattn_memory_need_t few = NeedOf(options, a, kShort);
    const hipattn_memory_need_t many = NeedOf(options, a, kLong);
    EXPECT_GT(many.device_bytes_min, few.device_bytes_min);
    EXPECT_LE(many.device_bytes_min - few.device_bytes_min, top_bytes + growing_bytes);
    EXPECT_EQ(many.device_bytes_min - few.device_bytes_min,
              many.device_index_bytes - few.device_index_bytes);
  }
}

// Beside a disk blocks leave a part of the host tier to the index, so that a text whose blocks fill
// it and go on to the disk is still indexed.
TEST(TiersIndex, BlocksOnDiskFindRoomForTheirIndex) {
  const TemporaryFolder folder;
  const std::string path = folder.Path(".");
  const Geometry geometry = {2, 2, 64};
  hipattn_engine_options_t options = EngineOptionsOf(geometry, HIPATTN_BF16);
  options.host_kv_bytes = 9 * kMiB;
  options.disk_kv_bytes = 64 * kMiB;
  options.disk_path = path.c_str();
  hipattn_attention_options_t attention = SparseOptions(256, 32, 64);
  attention.rerank_tokens = 0;
  constexpr uint64_t kTokens = 50'000;  // 26 MB of keys and values
  const hipattn_memory_need_t need = NeedOf(options, attention, kTokens);
  EXPECT_LE(need.host_bytes, options.host_kv_bytes);
  options.device_kv_bytes = need.device_bytes_min;
  Engine engine(options);
  Sequence text(engine, attention);
  for (uint64_t at = 0; at < kTokens; at += 5000) {
    AppendOnly(engine, text, geometry, 3, at, at + 5000);
  }
  const hipattn_stats_t stats = engine.Stats();
  EXPECT_LE(stats.host_bytes, need.host_bytes);
  EXPECT_GT(stats.host_bytes, 6 * kMiB);
  EXPECT_GT(stats.disk_bytes, 16 * kMiB);
  Decode(engine, text, geometry, 3, kTokens, 0);
}

}  // namespace
}  // namespace hipattn::test
