// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The vector layer (see vec.h) for AVX-512 with BF16 and VNNI: that of AVX-512, compiled for this
// set, and dot products of bf16, which HIPATTN_VEC_BF16_DOT announces:
//
// - VP: kLanes pairs of bf16
// - PairRows: the first n of 2 * kLanes columns of two rows, as pairs (even[i], odd[i]) in an order
//   that UnpairRows undoes in their sums; 0 in the other columns
// - Set1Pair: one pair in every lane
// - StorePairable: kLanes floats, rounded to nearest even; subnormals become 0
// - DotAdd: c + a.b of every lane's pair; products and sums in f32, subnormals count as 0
//
// vcvtneps2bf16 is not used for Store, because it flushes subnormals.
#ifndef HIPATTN_HOST_VEC_VEC_AVX512BF16_H_
#define HIPATTN_HOST_VEC_VEC_AVX512BF16_H_

#include "host/vec/vec_avx512.h"

#define HIPATTN_VEC_BF16_DOT 1

namespace hipattn::host::HIPATTN_ISA {

using VP = __m512bh;

static inline void PairRows(const uint16_t* even, const uint16_t* odd, int n, VP& a, VP& b) {
  const __mmask32 columns = FirstBits(n);
  const __m512i even_row = _mm512_maskz_loadu_epi16(columns, even);
  const __m512i odd_row = _mm512_maskz_loadu_epi16(columns, odd);
  a = (VP)_mm512_unpacklo_epi16(even_row, odd_row);
  b = (VP)_mm512_unpackhi_epi16(even_row, odd_row);
}
static inline void PairRows(const uint16_t* even, const uint16_t* odd, VP& a, VP& b) {
  const __m512i even_row = _mm512_loadu_si512(even);
  const __m512i odd_row = _mm512_loadu_si512(odd);
  a = (VP)_mm512_unpacklo_epi16(even_row, odd_row);
  b = (VP)_mm512_unpackhi_epi16(even_row, odd_row);
}
static inline void UnpairRows(VF a, VF b, VF& first, VF& second) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  first = _mm512_permutex2var_ps(a, low, b);
  second = _mm512_permutex2var_ps(a, high, b);
}
static inline VP Set1Pair(const uint16_t* pair) {
  int32_t bits;
  __builtin_memcpy(&bits, pair, sizeof(bits));
  return (VP)_mm512_set1_epi32(bits);
}
static inline void StorePairable(uint16_t* p, VF v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
}
static inline VF DotAdd(VP a, VP b, VF c) {
  return _mm512_dpbf16_ps(c, a, b);
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_VEC_VEC_AVX512BF16_H_
