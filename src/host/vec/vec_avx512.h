// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The vector layer (see vec.h) for x86-64-v4: AVX-512 F, BW, DQ, VL.
#ifndef HIPATTN_HOST_VEC_VEC_AVX512_H_
#define HIPATTN_HOST_VEC_VEC_AVX512_H_

#include <cstdint>

// GCC 12 takes the placeholder operand of its own unmasked intrinsics for an uninitialised variable
// (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

#include "host/vec/elements.h"

namespace hipattn::host::HIPATTN_ISA {

inline constexpr int kLanes = 16;
inline constexpr int kRegisters = 32;
using VF = __m512;
using VM = __mmask16;

static inline uint32_t FirstBits(int n) {
  return n >= 32 ? ~0U : (1U << n) - 1U;
}

static inline VF Zero() {
  return _mm512_setzero_ps();
}
static inline VF Set1(float x) {
  return _mm512_set1_ps(x);
}

static inline VF Load(const float* p) {
  return _mm512_loadu_ps(p);
}
static inline VF Load(F32, const float* p) {
  return _mm512_loadu_ps(p);
}
static inline VF Load(F16, const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
// Word i of the low half becomes the high word of lane i: one shuffle, where widening and shifting
// are two.
static inline VF WidenBf16(__m256i half) {
  const __m512i lane = _mm512_setr_epi32(0 << 16,
                                         1 << 16,
                                         2 << 16,
                                         3 << 16,
                                         4 << 16,
                                         5 << 16,
                                         6 << 16,
                                         7 << 16,
                                         8 << 16,
                                         9 << 16,
                                         10 << 16,
                                         11 << 16,
                                         12 << 16,
                                         13 << 16,
                                         14 << 16,
                                         15 << 16);
  return _mm512_castsi512_ps(
      _mm512_maskz_permutexvar_epi16(0xaaaaaaaaU, lane, _mm512_castsi256_si512(half)));
}
static inline VF Load(Bf16, const uint16_t* p) {
  return WidenBf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

static inline VF LoadFirst(const float* p, int n) {
  return _mm512_maskz_loadu_ps(static_cast<VM>(FirstBits(n)), p);
}
static inline VF LoadFirst(F32, const float* p, int n) {
  return LoadFirst(p, n);
}
static inline VF LoadFirst(F16, const uint16_t* p, int n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(FirstBits(n)), p));
}
static inline VF LoadFirst(Bf16, const uint16_t* p, int n) {
  return WidenBf16(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(FirstBits(n)), p));
}

static inline __m256i RoundToF16(VF v) {
  return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// In integers: vcvtneps2bf16 flushes subnormals.
static inline __m256i RoundToBf16(VF v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const VM nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i chosen = _mm512_mask_mov_epi32(rounded, nan, quiet);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16));
}

static inline void Store(float* p, VF v) {
  _mm512_storeu_ps(p, v);
}
static inline void Store(F32, float* p, VF v) {
  _mm512_storeu_ps(p, v);
}
static inline void Store(F16, uint16_t* p, VF v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), RoundToF16(v));
}
static inline void Store(Bf16, uint16_t* p, VF v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), RoundToBf16(v));
}

static inline void StoreFirst(float* p, VF v, int n) {
  _mm512_mask_storeu_ps(p, static_cast<VM>(FirstBits(n)), v);
}
static inline void StoreFirst(F32, float* p, VF v, int n) {
  StoreFirst(p, v, n);
}
static inline void StoreFirst(F16, uint16_t* p, VF v, int n) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>(FirstBits(n)), RoundToF16(v));
}
static inline void StoreFirst(Bf16, uint16_t* p, VF v, int n) {
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>(FirstBits(n)), RoundToBf16(v));
}

static inline void LoadPair(F32, const float* p, VF& a, VF& b) {
  a = _mm512_loadu_ps(p);
  b = _mm512_loadu_ps(p + kLanes);
}
static inline void LoadPair(F16, const uint16_t* p, VF& a, VF& b) {
  a = Load(F16{}, p);
  b = Load(F16{}, p + kLanes);
}
// Even elements in a, odd ones in b: one shift and one mask instead of two shuffles and two shifts.
static inline void SplitBf16(__m512i bits, VF& a, VF& b) {
  a = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  b = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000U))));
}
static inline void LoadPair(Bf16, const uint16_t* p, VF& a, VF& b) {
  SplitBf16(_mm512_loadu_si512(p), a, b);
}
static inline void LoadPairFirst(F32, const float* p, int n, VF& a, VF& b) {
  a = LoadFirst(p, n < kLanes ? n : kLanes);
  b = n > kLanes ? LoadFirst(p + kLanes, n - kLanes) : Zero();
}
static inline void LoadPairFirst(F16, const uint16_t* p, int n, VF& a, VF& b) {
  a = LoadFirst(F16{}, p, n < kLanes ? n : kLanes);
  b = n > kLanes ? LoadFirst(F16{}, p + kLanes, n - kLanes) : Zero();
}
static inline void LoadPairFirst(Bf16, const uint16_t* p, int n, VF& a, VF& b) {
  SplitBf16(_mm512_maskz_loadu_epi16(FirstBits(n), p), a, b);
}
static inline void Unpair(F32, VF a, VF b, VF& first, VF& second) {
  first = a;
  second = b;
}
static inline void Unpair(F16, VF a, VF b, VF& first, VF& second) {
  first = a;
  second = b;
}
static inline void Unpair(Bf16, VF a, VF b, VF& first, VF& second) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  first = _mm512_permutex2var_ps(a, low, b);
  second = _mm512_permutex2var_ps(a, high, b);
}

static inline VF Add(VF a, VF b) {
  return _mm512_add_ps(a, b);
}
static inline VF Sub(VF a, VF b) {
  return _mm512_sub_ps(a, b);
}
static inline VF Mul(VF a, VF b) {
  return _mm512_mul_ps(a, b);
}
static inline VF Div(VF a, VF b) {
  return _mm512_div_ps(a, b);
}
static inline VF Neg(VF a) {
  return _mm512_xor_ps(a, _mm512_set1_ps(-0.0F));
}
static inline VF Abs(VF a) {
  return _mm512_abs_ps(a);
}
static inline VF MulAdd(VF a, VF b, VF c) {
  return _mm512_fmadd_ps(a, b, c);
}
static inline VF Max(VF a, VF b) {
  return _mm512_max_ps(a, b);
}
static inline VF Min(VF a, VF b) {
  return _mm512_min_ps(a, b);
}

static inline VM Less(VF a, VF b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline VM LaneRange(int begin, int end) {
  const int first = begin < 0 ? 0 : begin;
  const int last = end < 0 ? 0 : end;
  const uint32_t below_last = last >= kLanes ? 0xffffU : FirstBits(last);
  const uint32_t below_first = first >= kLanes ? 0xffffU : FirstBits(first);
  return static_cast<VM>(below_last & ~below_first);
}
static inline VF Select(VM mask, VF yes, VF no) {
  return _mm512_mask_mov_ps(no, mask, yes);
}

static inline void Octets(VF first, VF second, VF (&v)[1]) {
  v[0] = _mm512_mask_mov_ps(first, 0xff00, second);
}
static inline VF AddOctets(const VF (&v)[1]) {
  return _mm512_add_ps(v[0], _mm512_shuffle_f32x4(v[0], v[0], 0x4e));
}

static inline float ReduceAdd(VF v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
static inline float ReduceMax(VF v) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

static inline VF Round(VF a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline VF Scale2(VF a, VF n) {
  return _mm512_scalef_ps(a, n);
}
static inline VF Floor(VF a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

using VI = __m512i;
using VS = __m512i;

static inline VI ZeroInts() {
  return _mm512_setzero_si512();
}
static inline VF ToFloat(VI a) {
  return _mm512_cvtepi32_ps(a);
}
static inline VS LoadShorts(const int16_t* p) {
  return _mm512_loadu_si512(p);
}
static inline VS LoadBytes(const int8_t* p) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
// Eights of bytes go to the two vectors in turn, so that one pack puts them back.
static inline int ByteTurn(int i) {
  return i / 16 * 8 + i / 8 % 2 * 2 * kLanes + i % 8;
}
static inline void LoadBytes(const int8_t* p, VS (&v)[2]) {
  const __m512i bytes = _mm512_loadu_si512(p);
  v[0] = _mm512_srai_epi16(_mm512_unpacklo_epi8(bytes, bytes), 8);
  v[1] = _mm512_srai_epi16(_mm512_unpackhi_epi8(bytes, bytes), 8);
}
static inline void LoadLow7(const uint8_t* p, VS (&v)[2]) {
  const __m512i bytes = _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(0x7f));
  v[0] = _mm512_unpacklo_epi8(bytes, _mm512_setzero_si512());
  v[1] = _mm512_unpackhi_epi8(bytes, _mm512_setzero_si512());
}
static inline uint32_t HighBits(const uint8_t* p) {
  return static_cast<uint32_t>(
      _mm_movemask_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline void StoreBytes(int8_t* p, VS first, VS second) {
  _mm512_storeu_si512(p, _mm512_packs_epi16(first, second));
}
static inline VS MulRound15(VS a, VS b) {
  return _mm512_mulhrs_epi16(a, b);
}
static inline VI DotAdd(VS a, VS b, VI c) {
#if defined(__AVX512VNNI__)
  return _mm512_dpwssd_epi32(c, a, b);
#else
  return _mm512_add_epi32(c, _mm512_madd_epi16(a, b));
#endif
}
static inline void SplitShorts(VS v, VF& even, VF& odd) {
  even = ToFloat(_mm512_srai_epi32(_mm512_slli_epi32(v, 16), 16));
  odd = ToFloat(_mm512_srai_epi32(v, 16));
}
static inline void SplitCodes(const void* p, VI (&codes)[4]) {
  const __m512i rows = _mm512_loadu_si512(p);
  const __m512i mask = _mm512_set1_epi32(0x03030303);
  codes[0] = _mm512_and_si512(rows, mask);
  codes[1] = _mm512_and_si512(_mm512_srli_epi32(rows, 2), mask);
  codes[2] = _mm512_and_si512(_mm512_srli_epi32(rows, 4), mask);
  codes[3] = _mm512_and_si512(_mm512_srli_epi32(rows, 6), mask);
}
static inline __m512i FourWeights(const int8_t* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return _mm512_set1_epi32(bits);
}
static inline VI DotCodes(const VI (&codes)[4], const int8_t* weights, VI c) {
#if defined(__AVX512VNNI__)
  c = _mm512_dpbusd_epi32(c, codes[0], FourWeights(weights));
  c = _mm512_dpbusd_epi32(c, codes[1], FourWeights(weights + 4));
  c = _mm512_dpbusd_epi32(c, codes[2], FourWeights(weights + 8));
  return _mm512_dpbusd_epi32(c, codes[3], FourWeights(weights + 12));
#else  // eight products of at most 3 * 128: no sum leaves 16 bits
  const __m512i first = _mm512_add_epi16(_mm512_maddubs_epi16(codes[0], FourWeights(weights)),
                                         _mm512_maddubs_epi16(codes[1], FourWeights(weights + 4)));
  const __m512i second =
      _mm512_add_epi16(_mm512_maddubs_epi16(codes[2], FourWeights(weights + 8)),
                       _mm512_maddubs_epi16(codes[3], FourWeights(weights + 12)));
  return DotAdd(_mm512_add_epi16(first, second), _mm512_set1_epi16(1), c);
#endif
}

// Quarters of two vectors side by side: the first halves of both, the second halves; then the even
// quarters, the odd ones.
static inline __m512 FirstHalves(__m512 a, __m512 b) {
  return _mm512_shuffle_f32x4(a, b, 0x44);
}
static inline __m512 SecondHalves(__m512 a, __m512 b) {
  return _mm512_shuffle_f32x4(a, b, 0xee);
}
static inline __m512 EvenQuarters(__m512 a, __m512 b) {
  return _mm512_shuffle_f32x4(a, b, 0x88);
}
static inline __m512 OddQuarters(__m512 a, __m512 b) {
  return _mm512_shuffle_f32x4(a, b, 0xdd);
}
// Lane 0 of every quarter.
static inline __m128 FirstOfQuarters(__m512 v) {
  const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
  return _mm512_castps512_ps128(_mm512_permutexvar_ps(lanes, v));
}
static inline void MaxOfRows(const VF (&rows)[4][1], float* out) {
  const __m512 low =
      _mm512_max_ps(FirstHalves(rows[0][0], rows[1][0]), SecondHalves(rows[0][0], rows[1][0]));
  const __m512 high =
      _mm512_max_ps(FirstHalves(rows[2][0], rows[3][0]), SecondHalves(rows[2][0], rows[3][0]));
  __m512 four = _mm512_max_ps(EvenQuarters(low, high), OddQuarters(low, high));
  four = _mm512_max_ps(four, _mm512_permute_ps(four, 0x4e));
  four = _mm512_max_ps(four, _mm512_permute_ps(four, 0xb1));
  _mm_storeu_ps(out, FirstOfQuarters(four));
}
static inline void SumOfRows(const VF (&rows)[4][1], float* out) {
  const __m512 low =
      _mm512_add_ps(FirstHalves(rows[0][0], rows[1][0]), SecondHalves(rows[0][0], rows[1][0]));
  const __m512 high =
      _mm512_add_ps(FirstHalves(rows[2][0], rows[3][0]), SecondHalves(rows[2][0], rows[3][0]));
  __m512 four = _mm512_add_ps(EvenQuarters(low, high), OddQuarters(low, high));
  four = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4e));
  four = _mm512_add_ps(four, _mm512_permute_ps(four, 0xb1));
  _mm_storeu_ps(out, FirstOfQuarters(four));
}
static inline void SumOfRows(const VI (&rows)[4], int32_t* out) {
  const __m512i low = _mm512_add_epi32(_mm512_shuffle_i32x4(rows[0], rows[1], 0x44),
                                       _mm512_shuffle_i32x4(rows[0], rows[1], 0xee));
  const __m512i high = _mm512_add_epi32(_mm512_shuffle_i32x4(rows[2], rows[3], 0x44),
                                        _mm512_shuffle_i32x4(rows[2], rows[3], 0xee));
  __m512i four = _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88),
                                  _mm512_shuffle_i32x4(low, high, 0xdd));
  four = _mm512_add_epi32(four, _mm512_shuffle_epi32(four, _MM_PERM_BADC));
  four = _mm512_add_epi32(four, _mm512_shuffle_epi32(four, _MM_PERM_CDAB));
  _mm_storeu_ps(reinterpret_cast<float*>(out), FirstOfQuarters(_mm512_castsi512_ps(four)));
}

static inline void PrefetchL1(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
static inline void PrefetchL2(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_VEC_VEC_AVX512_H_
