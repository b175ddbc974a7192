// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// MultiplyRows for AVX2 with FMA and F16C: a block of 32 weights becomes two vectors of 16-bit
// integers, multiplied by vpmaddwd into eight 32-bit sums.
#if defined(__x86_64__)
#include "quant_formats.h"
#include "quant_matvec_isa.h"

#include <immintrin.h>

#define RUN_AVX2 [[gnu::target("avx2,fma,f16c")]]

namespace hipattn_run {
namespace {

struct Block {
  __m256i low, high;  // weights 0..15 and 16..31
  __m128 affine;      // {scale, offset, any, any}
};

// Two half floats, one after the other in memory, in lanes 0 and 1.
RUN_AVX2 inline __m128 LoadHalfPair(const uint8_t* bytes) {
  int32_t pair;
  std::memcpy(&pair, bytes, sizeof(pair));
  return _mm_cvtph_ps(_mm_cvtsi32_si128(pair));
}

// {d, factor * d} of the half float d.
RUN_AVX2 inline __m128 LoadScale(const uint8_t* bytes, float factor) {
  const __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128(LoadUint16(bytes)));
  return _mm_unpacklo_ps(d, _mm_mul_ss(d, _mm_set_ss(factor)));
}

RUN_AVX2 inline __m256i WidenBytes(const uint8_t* bytes) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

template <TensorType Type>
RUN_AVX2 inline Block LoadBlock(const uint8_t* row, size_t index) {
  Block block = {};
  const __m256i nibble = _mm256_set1_epi16(15);
  if constexpr (Type == TensorType::kQ8_0) {
    const uint8_t* bytes = row + index * 34;
    const auto* quants = reinterpret_cast<const __m128i*>(bytes + 2);
    block.low = _mm256_cvtepi8_epi16(_mm_loadu_si128(quants));
    block.high = _mm256_cvtepi8_epi16(_mm_loadu_si128(quants + 1));
    block.affine = LoadScale(bytes, 0);
  } else if constexpr (Type == TensorType::kQ4_0 || Type == TensorType::kQ4_1) {
    constexpr size_t kHeader = Type == TensorType::kQ4_1 ? 4 : 2;
    const uint8_t* bytes = row + index * (kHeader + 16);
    const __m256i both = WidenBytes(bytes + kHeader);
    block.low = _mm256_and_si256(both, nibble);
    block.high = _mm256_srli_epi16(both, 4);
    block.affine = Type == TensorType::kQ4_1 ? LoadHalfPair(bytes) : LoadScale(bytes, -8);
  } else if constexpr (Type == TensorType::kQ4_K) {
    const uint8_t* bytes = row + index / 8 * 144;
    const size_t sub = index % 8;
    int scale;
    int minimum;
    UnpackQ4KScale(bytes + 4, sub, &scale, &minimum);
    const uint8_t* nibbles = bytes + 16 + sub / 2 * 32;
    const __m128i shift = _mm_cvtsi32_si128(sub % 2 == 0 ? 0 : 4);
    block.low = _mm256_and_si256(_mm256_srl_epi16(WidenBytes(nibbles), shift), nibble);
    block.high = _mm256_and_si256(_mm256_srl_epi16(WidenBytes(nibbles + 16), shift), nibble);
    block.affine =
        _mm_mul_ps(LoadHalfPair(bytes),
                   _mm_set_ps(0, 0, -static_cast<float>(minimum), static_cast<float>(scale)));
  } else {
    static_assert(Type == TensorType::kQ6_K);
    const uint8_t* bytes = row + index / 8 * 210;
    const size_t sub = index % 8;
    const uint8_t* low = bytes + sub / 4 * 64 + sub % 2 * 32;
    const uint8_t* high = bytes + 128 + sub / 4 * 32;
    const auto* scales = reinterpret_cast<const int8_t*>(bytes + 192 + sub * 2);
    const __m128i low_shift = _mm_cvtsi32_si128(sub % 4 < 2 ? 0 : 4);
    const __m128i high_shift = _mm_cvtsi32_si128(static_cast<int>(sub % 4) * 2);
    const __m256i pair = _mm256_set1_epi16(3);
    __m256i* parts[2] = {&block.low, &block.high};
    for (size_t i = 0; i < 2; ++i) {
      const __m256i four =
          _mm256_and_si256(_mm256_srl_epi16(WidenBytes(low + 16 * i), low_shift), nibble);
      const __m256i two =
          _mm256_and_si256(_mm256_srl_epi16(WidenBytes(high + 16 * i), high_shift), pair);
      const __m256i quants = _mm256_or_si256(four, _mm256_slli_epi16(two, 4));
      *parts[i] = _mm256_mullo_epi16(_mm256_sub_epi16(quants, _mm256_set1_epi16(32)),
                                     _mm256_set1_epi16(scales[i]));
    }
    block.affine = LoadScale(bytes + 208, 0);
  }
  return block;
}

RUN_AVX2 inline float Sum(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// Several rows at a time: their sums are independent chains, and they share the activation.
template <TensorType Type, size_t Rows>
RUN_AVX2 inline void DotQuantized(const uint8_t* row,
                                  size_t row_bytes,
                                  const Activation& x,
                                  float* y) {
  __m256 sums[Rows];
  __m128 affine_sums[Rows];  // lane 1 is the sum of the offsets' products
  for (size_t r = 0; r < Rows; ++r) {
    sums[r] = _mm256_setzero_ps();
    affine_sums[r] = _mm_setzero_ps();
  }
  for (size_t b = 0; b < x.blocks.size(); ++b) {
    const auto* quants = reinterpret_cast<const __m256i*>(x.quants.data() + b * kQuantBlock);
    const __m256i x_low = _mm256_loadu_si256(quants);
    const __m256i x_high = _mm256_loadu_si256(quants + 1);
    const __m128 x_affine =
        _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(&x.blocks[b])));
    for (size_t r = 0; r < Rows; ++r) {
      const Block block = LoadBlock<Type>(row + r * row_bytes, b);
      const __m256i dot = _mm256_add_epi32(_mm256_madd_epi16(block.low, x_low),
                                           _mm256_madd_epi16(block.high, x_high));
      const __m128 affine = _mm_mul_ps(block.affine, x_affine);
      affine_sums[r] = _mm_add_ps(affine_sums[r], affine);
      sums[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_broadcastss_ps(affine), sums[r]);
    }
  }
  for (size_t r = 0; r < Rows; ++r) {
    y[r] = Sum(sums[r]) + _mm_cvtss_f32(_mm_movehdup_ps(affine_sums[r]));
  }
}

template <TensorType Type>
RUN_AVX2 void MultiplyQuantized(const WeightRows& rows, const Activation& x, float* y) {
  // Measured on a Zen 4: two rows of Q8_0 at once read memory at half the speed of one.
  constexpr size_t kRows = Type == TensorType::kQ8_0 ? 1 : 2;
  const size_t row_bytes = RowBytes(Type, rows.columns);
  size_t r = rows.begin;
  for (; r + kRows <= rows.end; r += kRows, y += kRows) {
    DotQuantized<Type, kRows>(rows.data + r * row_bytes, row_bytes, x, y);
  }
  for (; r < rows.end; ++r, ++y) {
    DotQuantized<Type, 1>(rows.data + r * row_bytes, row_bytes, x, y);
  }
}

template <TensorType Type>
RUN_AVX2 inline __m256 LoadWeights(const uint8_t* row, size_t index) {
  if constexpr (Type == TensorType::kF32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(row + 4 * index));
  } else {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * index));
    if constexpr (Type == TensorType::kF16) {
      return _mm256_cvtph_ps(bits);
    } else {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }
  }
}

template <TensorType Type>
RUN_AVX2 float DotFloat(const uint8_t* row, const Activation& x) {
  __m256 sum0 = _mm256_setzero_ps();
  __m256 sum1 = _mm256_setzero_ps();
  const float* values = x.values.data();
  const size_t whole = x.values.size() / 16 * 16;
  for (size_t i = 0; i < whole; i += 16) {
    sum0 = _mm256_fmadd_ps(LoadWeights<Type>(row, i), _mm256_loadu_ps(values + i), sum0);
    sum1 = _mm256_fmadd_ps(LoadWeights<Type>(row, i + 8), _mm256_loadu_ps(values + i + 8), sum1);
  }
  float sum = Sum(_mm256_add_ps(sum0, sum1));
  if (whole < x.values.size()) {
    Activation rest;
    rest.values = x.values.subspan(whole);
    float rest_sum = 0;
    const size_t element_bytes = Type == TensorType::kF32 ? 4 : 2;
    MultiplyRowsPortable(
        {Type, row + whole * element_bytes, rest.values.size(), 0, 1}, rest, &rest_sum);
    sum += rest_sum;
  }
  return sum;
}

template <TensorType Type>
RUN_AVX2 void MultiplyFloat(const WeightRows& rows, const Activation& x, float* y) {
  const size_t row_bytes = RowBytes(Type, rows.columns);
  for (size_t r = rows.begin; r < rows.end; ++r) {
    y[r - rows.begin] = DotFloat<Type>(rows.data + r * row_bytes, x);
  }
}

}  // namespace

void MultiplyRowsAvx2(const WeightRows& rows, const Activation& x, float* y) {
  switch (rows.type) {
    case TensorType::kQ8_0:
      return MultiplyQuantized<TensorType::kQ8_0>(rows, x, y);
    case TensorType::kQ4_0:
      return MultiplyQuantized<TensorType::kQ4_0>(rows, x, y);
    case TensorType::kQ4_1:
      return MultiplyQuantized<TensorType::kQ4_1>(rows, x, y);
    case TensorType::kQ4_K:
      return MultiplyQuantized<TensorType::kQ4_K>(rows, x, y);
    case TensorType::kQ6_K:
      return MultiplyQuantized<TensorType::kQ6_K>(rows, x, y);
    case TensorType::kF32:
      return MultiplyFloat<TensorType::kF32>(rows, x, y);
    case TensorType::kF16:
      return MultiplyFloat<TensorType::kF16>(rows, x, y);
    case TensorType::kBF16:
      return MultiplyFloat<TensorType::kBF16>(rows, x, y);
  }
}

}  // namespace hipattn_run
#endif  // __x86_64__
