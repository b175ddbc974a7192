// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/top_k.h"

#include <algorithm>
#include <functional>

namespace hipattn::core {
namespace {

// Two sets of counters of 4 KB: neighbours that fall into one bin do not wait for each other.
constexpr uint32_t kBinBits = 10;
constexpr uint32_t kBins = 1U << kBinBits;

// So few keys are sorted faster than counted.
constexpr size_t kFew = 64;

uint32_t Distance(int32_t low, int32_t high) {
  return static_cast<uint32_t>(high) - static_cast<uint32_t>(low);
}

int32_t Above(int32_t low, uint32_t distance) {
  return static_cast<int32_t>(static_cast<uint32_t>(low) + distance);
}

}  // namespace

TopK::Bin TopK::FindBin(std::span<const int32_t> keys, uint32_t keep) {
  int32_t low = keys[0];
  int32_t high = keys[0];
  for (const int32_t key : keys) {
    low = std::min(low, key);
    high = std::max(high, key);
  }
  const auto bits = static_cast<uint32_t>(std::bit_width(Distance(low, high)));
  const uint32_t shift = bits > kBinBits ? bits - kBinBits : 0;
  counts_.assign(size_t{2} * kBins, 0);
  uint32_t* counts = counts_.data();
  size_t i = 0;
  for (; i + 1 < keys.size(); i += 2) {
    ++counts[Distance(low, keys[i]) >> shift];
    ++counts[kBins + (Distance(low, keys[i + 1]) >> shift)];
  }
  if (i < keys.size()) {
    ++counts[Distance(low, keys[i]) >> shift];
  }
  uint32_t bin = Distance(low, high) >> shift;
  while (counts[bin] + counts[kBins + bin] < keep) {
    keep -= counts[bin] + counts[kBins + bin];
    --bin;
  }
  const int32_t first = Above(low, bin << shift);
  const uint32_t width = std::min((1U << shift) - 1, Distance(first, high));  // none past INT32_MAX
  return {first, Above(first, width), keep};
}

TopK::Cut TopK::FindCut(std::span<const int32_t> keys, const Bin& bin) {
  Bin inner = bin;
  for (;;) {
    size_t count = 0;
    for (const int32_t key : keys) {  // may be those of inside_: count never overtakes
      inside_[count] = key;
      count += (key >= inner.first ? 1U : 0U) & (key <= inner.last ? 1U : 0U);
    }
    const std::span<int32_t> inside = std::span(inside_).first(count);
    if (inner.first == inner.last) {
      return {inner.first, inner.keep};
    }
    if (count <= kFew) {
      const auto nth = inside.begin() + (inner.keep - 1);
      std::nth_element(inside.begin(), nth, inside.end(), std::greater<>());
      const int32_t threshold = *nth;
      const auto above =
          std::count_if(inside.begin(), inside.end(), [=](int32_t key) { return key > threshold; });
      return {threshold, inner.keep - static_cast<uint32_t>(above)};
    }
    inner = FindBin(inside, inner.keep);
    keys = inside;
  }
}

void TopK::Keep(std::span<const int32_t> keys,
                std::span<const int32_t> numbers,
                uint32_t keep,
                std::vector<int32_t>* kept) {
  // One place more than there are numbers: the copies below write before they know. The last to
  // grow says whether all did: a resize may throw.
  if (inside_.size() <= keys.size()) {
    keys_.resize(keys.size() + 1);
    numbers_.resize(keys.size() + 1);
    inside_.resize(keys.size() + 1);
  }
  const Bin bin = FindBin(keys, keep);
  size_t count = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    keys_[count] = keys[i];
    numbers_[count] = numbers[i];
    count += keys[i] >= bin.first ? 1 : 0;
  }
  Cut cut = FindCut(std::span(keys_).first(count), bin);
  kept->resize(size_t{keep} + 1);
  int32_t* out = kept->data();
  for (size_t i = 0; i < count; ++i) {
    *out = numbers_[i];
    const uint32_t tie = keys_[i] == cut.threshold && cut.ties > 0 ? 1 : 0;
    cut.ties -= tie;
    out += (keys_[i] > cut.threshold ? 1U : 0U) | tie;
  }
  kept->resize(keep);
}

}  // namespace hipattn::core
