// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/page_arena.h"

#include "tests/host/fake_host_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

namespace hipattn::host {
namespace {

constexpr size_t kKib = 1024;
constexpr size_t kMib = size_t{1} << 20;

uintptr_t AddressOf(const std::byte* data) {
  return reinterpret_cast<uintptr_t>(data);
}

TEST(PageArenaTest, SmallPiecesShareHugePages) {
  test::FakeHostMemory memory;
  PageArena arena(&memory, 1);
  std::vector<std::byte*> pieces;
  for (int i = 0; i < 8; ++i) {
    pieces.push_back(arena.Take(256 * kKib).value());
    EXPECT_EQ(AddressOf(pieces.back()) % (64 * kKib), 0U);
    EXPECT_EQ(AddressOf(pieces.back()) / kHugePageBytes, AddressOf(pieces[0]) / kHugePageBytes);
  }
  EXPECT_EQ(memory.last_node, 1);
  EXPECT_EQ(memory.mapped.size(), 1U);
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(memory.mapped.size(), 1U);
    arena.Give(pieces[i], 256 * kKib);
  }
  EXPECT_EQ(memory.mapped.size(), 0U);
}

TEST(PageArenaTest, LargePiecesBeginHugePages) {
  test::FakeHostMemory memory;
  PageArena arena(&memory, 0);
  std::byte* const small = arena.Take(1).value();
  std::byte* const large = arena.Take(3 * kMib + 1).value();
  EXPECT_EQ(AddressOf(large) % kHugePageBytes, 0U);
  EXPECT_NE(AddressOf(large), AddressOf(small));
  // What is left of the last page is for small pieces.
  std::byte* const after = arena.Take(1900 * kKib).value();
  std::byte* const beside = arena.Take(512 * kKib).value();
  EXPECT_EQ(AddressOf(after) % (64 * kKib), 0U);
  EXPECT_EQ(AddressOf(beside) / kHugePageBytes, AddressOf(large + 3 * kMib) / kHugePageBytes);
  arena.Give(large, 3 * kMib + 1);
  EXPECT_EQ(memory.discarded_bytes, kHugePageBytes);  // its second page has a neighbour
  arena.Give(beside, 512 * kKib);
  EXPECT_EQ(memory.discarded_bytes, 2 * kHugePageBytes);
  arena.Give(after, 1900 * kKib);
  arena.Give(small, 1);
  EXPECT_EQ(memory.mapped.size(), 0U);
  EXPECT_EQ(memory.wrong_calls, 0);
}

TEST(PageArenaTest, RangesGrowWithWhatIsThere) {
  test::FakeHostMemory memory;
  PageArena arena(&memory, 0);
  std::vector<std::byte*> pieces;
  for (size_t taken = 0; taken < 512 * kMib; taken += 4 * kMib) {
    pieces.push_back(arena.Take(4 * kMib).value());
    ASSERT_LE(arena.mapped_bytes(), 2 * taken + 16 * kMib);
    ASSERT_EQ(arena.mapped_bytes(), memory.mapped_bytes());
  }
  EXPECT_LE(memory.mapped.size(), 6U);
  for (std::byte* piece : pieces) {
    arena.Give(piece, 4 * kMib);
  }
  EXPECT_EQ(memory.mapped.size(), 0U);
}

TEST(PageArenaTest, LittleAddressSpaceMakesSmallRangesAndNoneIsAnError) {
  test::FakeHostMemory memory;
  PageArena arena(&memory, 0);
  memory.granted_bytes = 40 * kMib;
  std::vector<std::byte*> pieces;
  for (int i = 0; i < 16; ++i) {
    pieces.push_back(arena.Take(16 * kMib).value());
  }
  EXPECT_LE(memory.mapped.size(), 16U);
  memory.granted_bytes = 0;
  Status status = Status::Ok();
  while (status.ok()) {
    Result<std::byte*> piece = arena.Take(16 * kMib);
    status = piece.status();
    if (piece.ok()) {
      pieces.push_back(*piece);
    }
  }
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  for (std::byte* piece : pieces) {
    arena.Give(piece, 16 * kMib);
  }
  EXPECT_EQ(memory.mapped.size(), 0U);
}

// Beside a list of what is there: no two pieces overlap, none loses its content.
TEST(PageArenaTest, PiecesOfAllSizesComeAndGo) {
  test::FakeHostMemory memory;
  PageArena arena(&memory, 0);
  std::map<std::byte*, std::pair<size_t, uint8_t>> pieces;
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    if (pieces.size() < 40 && random() % 5 < 3) {
      const size_t bytes = 1 + random() % (random() % 8 == 0 ? 5 * kMib : 400 * kKib);
      std::byte* const piece = arena.Take(bytes).value();
      const auto next = pieces.lower_bound(piece);
      ASSERT_TRUE(next == pieces.end() || piece + bytes <= next->first);
      ASSERT_TRUE(next == pieces.begin() ||
                  std::prev(next)->first + std::prev(next)->second.first <= piece);
      ASSERT_EQ(AddressOf(piece) % (bytes >= kHugePageBytes ? kHugePageBytes : 64 * kKib), 0U);
      const auto number = static_cast<uint8_t>(i);
      piece[0] = piece[bytes / 2] = piece[bytes - 1] = std::byte{number};
      pieces[piece] = {bytes, number};
    } else if (!pieces.empty()) {
      auto gone = pieces.begin();
      std::advance(gone, static_cast<std::ptrdiff_t>(random() % pieces.size()));
      const auto [bytes, number] = gone->second;
      for (const size_t at : {size_t{0}, bytes / 2, bytes - 1}) {
        ASSERT_EQ(gone->first[at], std::byte{number});
      }
      arena.Give(gone->first, bytes);
      pieces.erase(gone);
    }
  }
  EXPECT_GT(memory.discarded_bytes, 0U);
  for (const auto& [piece, content] : pieces) {
    arena.Give(piece, content.first);
  }
  EXPECT_EQ(memory.mapped.size(), 0U);
  EXPECT_EQ(memory.wrong_calls, 0);
}

TEST(PageArenaTest, DiscardedPagesAreFreshAndNeighboursStay) {
  test::FakeHostMemory memory;
  PageArena arena(&memory, 0);
  std::byte* const first = arena.Take(kHugePageBytes).value();
  std::byte* const second = arena.Take(kHugePageBytes).value();
  std::memset(first, 1, kHugePageBytes);
  std::memset(second, 2, kHugePageBytes);
  arena.Give(first, kHugePageBytes);
  EXPECT_EQ(second[0], std::byte{2});
  EXPECT_EQ(arena.Take(kHugePageBytes).value(), first);
  EXPECT_EQ(first[kHugePageBytes - 1], std::byte{0});
  arena.Give(first, kHugePageBytes);
  arena.Give(second, kHugePageBytes);
}

}  // namespace
}  // namespace hipattn::host
