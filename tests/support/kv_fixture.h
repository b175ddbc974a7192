// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Memory for tests of ops: pools of blocks whose unwritten space is NaN, texts in scattered slots,
// lists of ranges, trees of summaries. All random numbers come from a seed, the same on every
// machine.
#ifndef HIPATTN_TESTS_SUPPORT_KV_FIXTURE_H_
#define HIPATTN_TESTS_SUPPORT_KV_FIXTURE_H_

#include "base/dtype.h"
#include "base/int_math.h"
#include "device/params.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <numbers>
#include <vector>

namespace hipattn::testing {

// splitmix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  // Uniform in [0, bound). REQUIRES: bound > 0.
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(Next() % bound); }
  // Uniform in [0, 1).
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  // Mean 0, deviation 1 (Box and Muller).
  float Normal() {
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return static_cast<float>(radius * std::cos(2 * std::numbers::pi * Uniform()));
  }
  std::vector<float> Normals(size_t count) {
    std::vector<float> numbers(count);
    std::generate(numbers.begin(), numbers.end(), [this] { return Normal(); });
    return numbers;
  }
  template <typename T>
  void Shuffle(std::vector<T>* items) {
    for (size_t i = items->size(); i > 1; --i) {
      std::swap((*items)[i - 1], (*items)[Below(static_cast<uint32_t>(i))]);
    }
  }

 private:
  uint64_t state_;
};

// Zeroed bytes at a 64-byte boundary.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t bytes)
      : size_(bytes), data_(static_cast<std::byte*>(::operator new(bytes + 1, kAlignment))) {
    std::memset(data_.get(), 0, bytes);
  }
  std::byte* data() const { return data_.get(); }
  float* floats() const { return reinterpret_cast<float*>(data_.get()); }
  size_t size() const { return size_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(std::byte* data) const { ::operator delete(data, kAlignment); }
  };
  size_t size_;
  std::unique_ptr<std::byte, Free> data_;
};

struct KvShape {
  DType dtype = DType::kF32;
  uint32_t head_dim = 64;
  uint32_t block_tokens = 16;
};

// One kv head's text: its block table and how many tokens are written.
struct Text {
  std::vector<uint32_t> slots;
  uint32_t num_tokens = 0;
};

// A pool of blocks in several slabs. Every byte is 0xff, NaN in each storage type, until it is
// written.
class KvPool {
 public:
  KvPool(const KvShape& shape, uint32_t num_slots, uint64_t seed) : random_(seed) {
    pool_.slab_slots_log2 = 3;
    pool_.block_tokens = shape.block_tokens;
    pool_.head_dim = shape.head_dim;
    pool_.kv_dtype = shape.dtype;
    pool_.block_bytes = 2 * uint64_t{shape.block_tokens} * shape.head_dim * DTypeBytes(shape.dtype);
    const uint32_t slab_slots = uint32_t{1} << pool_.slab_slots_log2;
    for (uint32_t i = 0; i < CeilDiv(num_slots, slab_slots); ++i) {
      slabs_.emplace_back(slab_slots * pool_.block_bytes);
      std::memset(slabs_.back().data(), 0xff, slabs_.back().size());
      slab_addresses_.push_back(slabs_.back().data());
    }
    pool_.slabs = slab_addresses_.data();
    for (uint32_t slot = 0; slot < num_slots; ++slot) {
      free_slots_.push_back(slot);
    }
    random_.Shuffle(&free_slots_);
  }
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  const device::BlockPool& pool() const { return pool_; }
  std::byte* block(uint32_t slot) const { return device::BlockAddress(pool_, slot); }
  Random& random() { return random_; }

  // A slot that nobody has yet. REQUIRES: there is one.
  uint32_t TakeSlot() {
    const uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    return slot;
  }

  // Adds tokens with random keys and values to a text, in scattered slots.
  void Extend(Text* text, uint32_t num_tokens) {
    std::vector<float> k(pool_.head_dim);
    std::vector<float> v(pool_.head_dim);
    for (uint32_t i = 0; i < num_tokens; ++i) {
      std::generate(k.begin(), k.end(), [this] { return random_.Normal(); });
      std::generate(v.begin(), v.end(), [this] { return random_.Normal(); });
      if (text->num_tokens % pool_.block_tokens == 0) {
        text->slots.push_back(TakeSlot());
      }
      SetToken(text->slots.back(), text->num_tokens % pool_.block_tokens, k.data(), v.data());
      ++text->num_tokens;
    }
  }
  Text MakeText(uint32_t num_tokens) {
    Text text;
    Extend(&text, num_tokens);
    return text;
  }

  // The same blocks under higher numbers, as in a pool with so many slabs before them, which are
  // not there. Texts are moved by the caller; no slot is to be had any more.
  uint32_t MoveBehind(uint32_t slabs) {
    slab_addresses_.insert(slab_addresses_.begin(), slabs, nullptr);
    pool_.slabs = slab_addresses_.data();
    free_slots_.clear();
    return slabs << pool_.slab_slots_log2;
  }

  void SetToken(uint32_t slot, uint32_t token, const float* k, const float* v) {
    const size_t panel = token / device::kPanelTokens;
    for (uint32_t dim = 0; dim < pool_.head_dim; ++dim) {
      const size_t lane =
          (panel * pool_.head_dim + dim) * device::kPanelTokens + token % device::kPanelTokens;
      StoreElement(block(slot), pool_.kv_dtype, lane, k[dim]);
      const size_t row = size_t{pool_.block_tokens} + token;
      StoreElement(block(slot), pool_.kv_dtype, row * pool_.head_dim + dim, v[dim]);
    }
  }

 private:
  Random random_;
  device::BlockPool pool_ = {};
  std::vector<AlignedBytes> slabs_;
  std::vector<std::byte*> slab_addresses_;
  std::vector<uint32_t> free_slots_;
};

// The slots one needs for `num_tokens` tokens.
inline uint32_t BlocksFor(uint32_t num_tokens, uint32_t block_tokens) {
  return CeilDiv(num_tokens, block_tokens);
}

// `count` ranges of a text: whole blocks and parts of blocks, none twice.
inline std::vector<device::KvRange> RandomRanges(const Text& text,
                                                 uint32_t block_tokens,
                                                 uint32_t count,
                                                 Random* random) {
  std::vector<uint32_t> blocks(text.slots.size());
  for (uint32_t i = 0; i < blocks.size(); ++i) {
    blocks[i] = i;
  }
  random->Shuffle(&blocks);
  blocks.resize(std::min<size_t>(count, blocks.size()));
  std::vector<device::KvRange> ranges;
  for (const uint32_t block : blocks) {
    const uint32_t written = std::min(block_tokens, text.num_tokens - block * block_tokens);
    const bool whole = random->Below(2) == 0;
    const uint32_t begin = whole ? 0 : random->Below(written);
    const uint32_t end = whole ? written : begin + 1 + random->Below(written - begin);
    ranges.push_back({text.slots[block], static_cast<uint16_t>(begin), static_cast<uint16_t>(end)});
  }
  return ranges;
}

// Memory for the summaries of one kv head's blocks: all levels, the open nodes and the kept
// vectors. Every byte is 0xff at first.
class SummaryStore {
 public:
  SummaryStore(const KvShape& shape, Scorer scorer, uint32_t num_blocks)
      : group_bytes_(device::SummaryGroupBytes(shape.head_dim, ScorerHasSpread(scorer))),
        open_(size_t{kMaxLevels - 1} * 3 * shape.head_dim * sizeof(float)) {
    const uint32_t kept_level = device::KeptLevel(shape.block_tokens);
    std::memset(open_.data(), 0xff, open_.size());
    for (uint32_t level = 0; level < kMaxLevels; ++level) {
      const uint32_t nodes = num_blocks >> (3 * level);
      MakeLevel(level, nodes);
      for (uint32_t node = 0; level >= kept_level && node < nodes; ++node) {
        kept_.emplace_back(3 * size_t{shape.head_dim} * sizeof(float));
        kept_addresses_[level - kept_level].push_back(kept_.back().floats());
      }
    }
  }
  SummaryStore(const SummaryStore&) = delete;
  SummaryStore& operator=(const SummaryStore&) = delete;

  // Points a job's memory here; its blocks are left to the caller.
  void Attach(device::SummarizeJob* job) const {
    for (uint32_t level = 0; level < kMaxLevels; ++level) {
      job->levels[level] = this->level(level);
      job->kept[level] = kept_addresses_[level].data();
    }
    job->open = open_.floats();
  }

  device::SummaryLevel level(uint32_t level) const {
    return {chunk_addresses_[level].data(), kChunkGroupsLog2};
  }
  // The bytes of all groups of one level, for comparisons.
  std::vector<uint8_t> LevelBytes(uint32_t level) const {
    std::vector<uint8_t> bytes;
    for (const AlignedBytes& chunk : chunks_[level]) {
      const auto* data = reinterpret_cast<const uint8_t*>(chunk.data());
      bytes.insert(bytes.end(), data, data + chunk.size());
    }
    return bytes;
  }
  std::vector<float> Kept() const {
    std::vector<float> numbers;
    for (const AlignedBytes& triple : kept_) {
      numbers.insert(
          numbers.end(), triple.floats(), triple.floats() + triple.size() / sizeof(float));
    }
    return numbers;
  }
  float* open() const { return open_.floats(); }

  // Random steps and positive scales everywhere, for ops that only read summaries.
  void FillRandom(Random* random) {
    for (auto& level_chunks : chunks_) {
      for (AlignedBytes& chunk : level_chunks) {
        for (size_t begin = 0; begin < chunk.size(); begin += group_bytes_) {
          FillGroup(chunk.data() + begin, random);
        }
      }
    }
  }

 private:
  static constexpr uint32_t kChunkGroupsLog2 = 2;

  void MakeLevel(uint32_t level, uint32_t nodes) {
    const uint32_t groups = CeilDiv(nodes, kFanOut);
    for (uint32_t i = 0; i < CeilDiv(groups, uint32_t{1} << kChunkGroupsLog2); ++i) {
      chunks_[level].emplace_back(group_bytes_ << kChunkGroupsLog2);
      std::memset(chunks_[level].back().data(), 0xff, chunks_[level].back().size());
      chunk_addresses_[level].push_back(chunks_[level].back().data());
    }
  }
  void FillGroup(std::byte* group, Random* random) const {
    auto* scales = reinterpret_cast<float*>(group);
    for (uint32_t i = 0; i < 2 * kFanOut; ++i) {
      scales[i] = static_cast<float>((0.5 + random->Uniform()) / 127);
    }
    auto* steps = reinterpret_cast<int8_t*>(group + 2 * kFanOut * sizeof(float));
    for (size_t i = 0; i < group_bytes_ - 2 * kFanOut * sizeof(float); ++i) {
      steps[i] = static_cast<int8_t>(static_cast<int>(random->Below(255)) - 127);
    }
  }

  uint64_t group_bytes_;
  AlignedBytes open_;
  std::vector<AlignedBytes> chunks_[kMaxLevels];
  std::vector<std::byte*> chunk_addresses_[kMaxLevels];
  std::vector<AlignedBytes> kept_;
  std::vector<float*> kept_addresses_[kMaxLevels];
};

}  // namespace hipattn::testing

#endif  // HIPATTN_TESTS_SUPPORT_KV_FIXTURE_H_
