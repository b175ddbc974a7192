// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "engine/chunk_pool.h"

#include "device/registry.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace hipattn::engine {
namespace {

class ChunkPoolTest : public ::testing::Test {
 protected:
  explicit ChunkPoolTest(uint64_t limit = uint64_t{64} << 20) : budget_(limit, "host_kv_bytes") {}

  std::unique_ptr<device::Device> device_ = std::move(device::CreateCpuDevice({1, {}}).value());
  offload::MemoryBudget budget_;
  IndexMemory memory_{device_.get(), &budget_, device::MemoryKind::kMapped};
  ChunkPool pool_{&memory_};
};

TEST_F(ChunkPoolTest, ChunksOfASizeShareASlabThatGoesWithTheLast) {
  constexpr uint64_t kBytes = 24 << 10;
  constexpr uint64_t kSlab = 10 * kBytes;  // as many as 256 KB hold
  std::vector<IndexChunk> chunks;
  for (uint64_t i = 0; i < 10; ++i) {
    chunks.push_back(std::move(pool_.Take(kBytes).value()));
    EXPECT_EQ(budget_.used(), kSlab);
  }
  chunks.push_back(std::move(pool_.Take(kBytes).value()));
  EXPECT_EQ(budget_.used(), 2 * kSlab);
  const IndexChunk other = std::move(pool_.Take(64).value());
  EXPECT_EQ(budget_.used(), 2 * kSlab + kIndexSlabBytes);
  chunks.pop_back();
  EXPECT_EQ(budget_.used(), kSlab + kIndexSlabBytes);
  std::byte* const freed = chunks[3].data();
  chunks.erase(chunks.begin() + 3);
  EXPECT_EQ(budget_.used(), kSlab + kIndexSlabBytes);
  EXPECT_EQ(pool_.Take(kBytes).value().data(), freed);
  chunks.clear();
  EXPECT_EQ(budget_.used(), kIndexSlabBytes);
}

TEST_F(ChunkPoolTest, AChunkLargerThanASlabIsOneOfItsOwn) {
  const IndexChunk chunk = std::move(pool_.Take(kIndexSlabBytes + 64).value());
  EXPECT_EQ(budget_.used(), kIndexSlabBytes + 64);
}

// Chunks of three sizes come and go in any order: no two overlap, what is written stays, and what
// is charged is slabs that have a chunk.
TEST_F(ChunkPoolTest, AnyOrder) {
  struct Held {
    IndexChunk chunk;
    uint64_t bytes;
    int mark;
  };
  constexpr uint64_t kSizes[] = {1536, 16896, 24576};
  std::mt19937 random(5);
  std::vector<Held> held;
  for (int step = 0; step < 3000; ++step) {
    if (held.empty() || random() % 9 < 5) {
      const uint64_t bytes = kSizes[random() % 3];
      held.push_back({std::move(pool_.Take(bytes).value()), bytes, step % 251});
      std::memset(held.back().chunk.data(), step % 251, bytes);
    } else {
      const size_t i = random() % held.size();
      for (uint64_t at = 0; at < held[i].bytes; ++at) {
        ASSERT_EQ(held[i].chunk.data()[at], static_cast<std::byte>(held[i].mark));
      }
      std::swap(held[i], held.back());
      held.pop_back();
    }
    ASSERT_EQ(budget_.used(), memory_.bytes());
  }
  EXPECT_GT(held.size(), 100U);
  held.clear();
  EXPECT_EQ(budget_.used(), 0U);
}

class SmallChunkPoolTest : public ChunkPoolTest {
 protected:
  SmallChunkPoolTest() : ChunkPoolTest(kIndexSlabBytes * 3 / 2) {}
};

TEST_F(SmallChunkPoolTest, BeyondTheBudgetIsRefusedAndChangesNothing) {
  std::vector<IndexChunk> chunks;
  chunks.push_back(std::move(pool_.Take(kIndexSlabBytes / 2).value()));
  chunks.push_back(std::move(pool_.Take(kIndexSlabBytes / 2).value()));
  for (int again = 0; again < 3; ++again) {
    const Result<IndexChunk> refused = pool_.Take(kIndexSlabBytes / 2);
    EXPECT_EQ(refused.status().code(), StatusCode::kOutOfBudget);
    EXPECT_NE(refused.status().message().find("host_kv_bytes"), std::string::npos);
    EXPECT_EQ(budget_.used(), kIndexSlabBytes);
  }
  chunks.pop_back();
  EXPECT_TRUE(pool_.Take(kIndexSlabBytes / 2).ok());
}

}  // namespace
}  // namespace hipattn::engine
