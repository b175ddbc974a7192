// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// append_kv leaves the pool's bytes as the reference does, all of them: what it must not touch
// included.
#include "base/status.h"
#include "tests/support/compare.h"
#include "tests/support/kv_fixture.h"
#include "tests/support/op_tables.h"
#include "tests/support/rope_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

namespace hipattn::testing {
namespace {

constexpr uint32_t kSlots = 64;

// Two texts of two kv heads each, `first_pos` and `num_tokens` of them; heads of one text lie
// interleaved in one array.
struct Case {
  KvShape shape;
  DType io_dtype;
  RopeKind kind;
  uint32_t first_pos[2];
  uint32_t num_tokens[2];
};

// What a call appends: the numbers and the slots, the same for every table.
class Input {
 public:
  explicit Input(const Case& test) : test_(test) {
    Random random(42);
    stride_ = 2 * uint64_t{test.shape.head_dim} + 8;
    for (int text = 0; text < 2; ++text) {
      for (int side = 0; side < 2; ++side) {
        std::vector<float> numbers = random.Normals(stride_ * test.num_tokens[text]);
        for (size_t i = 5; i < numbers.size(); i += 97) {
          constexpr float kSpecial[] = {std::numeric_limits<float>::quiet_NaN(),
                                        -std::numeric_limits<float>::infinity(),
                                        -0.0F,
                                        1e-40F,
                                        7e4F};
          numbers[i] = kSpecial[i % 5];
        }
        io_[text][side] = Narrow(numbers, test.io_dtype);
      }
      const uint32_t end = test.first_pos[text] + test.num_tokens[text];
      const uint32_t first_block = test.first_pos[text] / test.shape.block_tokens;
      const uint32_t blocks = BlocksFor(end, test.shape.block_tokens) - first_block;
      for (int head = 0; head < 2; ++head) {
        for (uint32_t i = 0; i < blocks; ++i) {
          slots_[text][head].push_back(next_slot_++ * 7 % kSlots);
        }
      }
    }
  }

  // The job of tokens [begin, end) of a text's head.
  device::AppendJob Job(int text, int head, uint32_t begin, uint32_t end) const {
    const size_t offset = (begin * stride_ + static_cast<size_t>(head) * test_.shape.head_dim) *
                          DTypeBytes(test_.io_dtype);
    const uint32_t first_pos = test_.first_pos[text] + begin;
    const uint32_t skipped =
        first_pos / test_.shape.block_tokens - test_.first_pos[text] / test_.shape.block_tokens;
    return {io_[text][0].data() + offset,
            io_[text][1].data() + offset,
            slots_[text][head].data() + skipped,
            first_pos,
            end - begin};
  }
  uint64_t stride() const { return stride_; }

 private:
  const Case& test_;
  uint64_t stride_ = 0;
  uint32_t next_slot_ = 0;
  std::vector<std::byte> io_[2][2];
  std::vector<uint32_t> slots_[2][2];
};

void Append(const device::OpTable& table,
            const device::OpContext& context,
            const Case& test,
            const Input& input,
            const std::vector<device::AppendJob>& jobs,
            const KvPool& pool) {
  table.append_kv(context,
                  {pool.pool(),
                   test.kind.rope(),
                   jobs.data(),
                   static_cast<uint32_t>(jobs.size()),
                   test.io_dtype,
                   input.stride()});
}

std::vector<device::AppendJob> WholeJobs(const Case& test, const Input& input) {
  std::vector<device::AppendJob> jobs;
  for (int text = 0; text < 2; ++text) {
    for (int head = 0; head < 2; ++head) {
      jobs.push_back(input.Job(text, head, 0, test.num_tokens[text]));
    }
  }
  return jobs;
}

::testing::AssertionResult SamePool(const KvPool& got, const KvPool& want) {
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    if (std::memcmp(got.block(slot), want.block(slot), want.pool().block_bytes) != 0) {
      return ::testing::AssertionFailure() << "slot " << slot << " differs";
    }
  }
  return ::testing::AssertionSuccess();
}

class AppendKv : public OpTableTest {
 protected:
  // At once on 1, 2 and 5 threads, then in chunks of `chunk` tokens.
  void Check(const Case& test, uint32_t chunk) const {
    const Input input(test);
    KvPool want(test.shape, kSlots, 1);
    Append(reference(), context(), test, input, WholeJobs(test, input), want);
    for (const unsigned num_threads : {1U, 2U, 5U}) {
      KvPool got(test.shape, kSlots, 1);
      Append(table(), context(num_threads), test, input, WholeJobs(test, input), got);
      EXPECT_TRUE(SamePool(got, want)) << num_threads << " threads";
    }
    KvPool got(test.shape, kSlots, 1);
    for (int text = 0; text < 2; ++text) {
      for (uint32_t begin = 0; begin < test.num_tokens[text]; begin += chunk) {
        const uint32_t end = std::min(begin + chunk, test.num_tokens[text]);
        Append(table(),
               context(),
               test,
               input,
               {input.Job(text, 0, begin, end), input.Job(text, 1, begin, end)},
               got);
      }
    }
    EXPECT_TRUE(SamePool(got, want)) << "chunks of " << chunk;
  }
};

TEST_P(AppendKv, AllTypesHaveTheBitsOfTheReference) {
  for (const DType kv_dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const DType io_dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      SCOPED_TRACE(StrCat(DTypeName(io_dtype), " to ", DTypeName(kv_dtype)));
      Check({{kv_dtype, 64, 16}, io_dtype, {0, {}}, {0, 13}, {37, 1}}, 5);
    }
  }
}

TEST_P(AppendKv, AllShapesHaveTheBitsOfTheReference) {
  for (const uint32_t head_dim : {8U, 80U, 96U, 128U, 256U}) {
    for (const uint32_t block_tokens : {16U, 32U, 64U}) {
      SCOPED_TRACE(StrCat("head_dim ", head_dim, ", blocks of ", block_tokens));
      Check({{DType::kBf16, head_dim, block_tokens}, DType::kF32, {0, {}}, {31, 7}, {100, 60}}, 1);
    }
  }
}

TEST_P(AppendKv, RotationHasTheBitsOfTheReference) {
  for (const RopeKind& kind : RopeKinds(80)) {
    for (const DType kv_dtype : {DType::kF32, DType::kBf16}) {
      SCOPED_TRACE(StrCat("mode ", kind.mode, ", dim ", 2 * kind.inv_freq.size()));
      Check({{kv_dtype, 80, 16}, DType::kF16, kind, {1'000'000'007, 3}, {45, 70}}, 9);
    }
  }
}

TEST_P(AppendKv, NothingToAppend) {
  Check({{DType::kF32, 64, 16}, DType::kF32, {0, {}}, {0, 16}, {0, 0}}, 1);
}

HIPATTN_FOR_ALL_TABLES(AppendKv);

}  // namespace
}  // namespace hipattn::testing
