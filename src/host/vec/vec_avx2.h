// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The vector layer (see vec.h) for AVX2 with FMA and F16C.
#ifndef HIPATTN_HOST_VEC_VEC_AVX2_H_
#define HIPATTN_HOST_VEC_VEC_AVX2_H_

#include "host/vec/elements.h"

#include <immintrin.h>

#include <cstdint>

namespace hipattn::host::HIPATTN_ISA {

inline constexpr int kLanes = 8;
inline constexpr int kRegisters = 16;
using VF = __m256;
using VM = __m256i;  // all bits of a chosen lane

static inline VM LaneRange(int begin, int end) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(begin), lane),
                             _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane));
}

static inline VF Zero() {
  return _mm256_setzero_ps();
}
static inline VF Set1(float x) {
  return _mm256_set1_ps(x);
}

static inline VF WidenF16(__m128i half) {
  return _mm256_cvtph_ps(half);
}
static inline VF WidenBf16(__m128i half) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
// The first n <= 8 of p's 16-bit elements, then zeros.
static inline __m128i LoadFirst16(const uint16_t* p, int n) {
  alignas(16) uint16_t buffer[8] = {};
  for (int i = 0; i < n; ++i) {
    buffer[i] = p[i];
  }
  return _mm_load_si128(reinterpret_cast<const __m128i*>(buffer));
}
static inline void StoreFirst16(uint16_t* p, __m128i v, int n) {
  alignas(16) uint16_t buffer[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), v);
  for (int i = 0; i < n; ++i) {
    p[i] = buffer[i];
  }
}

static inline VF Load(const float* p) {
  return _mm256_loadu_ps(p);
}
static inline VF Load(F32, const float* p) {
  return _mm256_loadu_ps(p);
}
static inline VF Load(F16, const uint16_t* p) {
  return WidenF16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline VF Load(Bf16, const uint16_t* p) {
  return WidenBf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline VF LoadFirst(const float* p, int n) {
  return _mm256_maskload_ps(p, LaneRange(0, n));
}
static inline VF LoadFirst(F32, const float* p, int n) {
  return LoadFirst(p, n);
}
static inline VF LoadFirst(F16, const uint16_t* p, int n) {
  return WidenF16(LoadFirst16(p, n));
}
static inline VF LoadFirst(Bf16, const uint16_t* p, int n) {
  return WidenBf16(LoadFirst16(p, n));
}

static inline __m128i RoundToF16(VF v) {
  return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline __m128i RoundToBf16(VF v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  const __m256i packed = _mm256_packus_epi32(high, high);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}

static inline void Store(float* p, VF v) {
  _mm256_storeu_ps(p, v);
}
static inline void Store(F32, float* p, VF v) {
  _mm256_storeu_ps(p, v);
}
static inline void Store(F16, uint16_t* p, VF v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), RoundToF16(v));
}
static inline void Store(Bf16, uint16_t* p, VF v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), RoundToBf16(v));
}
static inline void StoreFirst(float* p, VF v, int n) {
  _mm256_maskstore_ps(p, LaneRange(0, n), v);
}
static inline void StoreFirst(F32, float* p, VF v, int n) {
  StoreFirst(p, v, n);
}
static inline void StoreFirst(F16, uint16_t* p, VF v, int n) {
  StoreFirst16(p, RoundToF16(v), n);
}
static inline void StoreFirst(Bf16, uint16_t* p, VF v, int n) {
  StoreFirst16(p, RoundToBf16(v), n);
}

static inline void LoadPair(F32, const float* p, VF& a, VF& b) {
  a = Load(p);
  b = Load(p + kLanes);
}
static inline void LoadPair(F16, const uint16_t* p, VF& a, VF& b) {
  a = Load(F16{}, p);
  b = Load(F16{}, p + kLanes);
}
// Even elements in a, odd ones in b: one shift and one mask instead of two shuffles and two shifts.
static inline void SplitBf16(__m256i bits, VF& a, VF& b) {
  a = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  b = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000U))));
}
static inline void LoadPair(Bf16, const uint16_t* p, VF& a, VF& b) {
  SplitBf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), a, b);
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
  const __m128i first = LoadFirst16(p, n < 8 ? n : 8);
  const __m128i second = n > 8 ? LoadFirst16(p + 8, n - 8) : _mm_setzero_si128();
  SplitBf16(_mm256_set_m128i(second, first), a, b);
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
  const __m256 low = _mm256_unpacklo_ps(a, b);
  const __m256 high = _mm256_unpackhi_ps(a, b);
  first = _mm256_permute2f128_ps(low, high, 0x20);
  second = _mm256_permute2f128_ps(low, high, 0x31);
}

static inline VF Add(VF a, VF b) {
  return _mm256_add_ps(a, b);
}
static inline VF Sub(VF a, VF b) {
  return _mm256_sub_ps(a, b);
}
static inline VF Mul(VF a, VF b) {
  return _mm256_mul_ps(a, b);
}
static inline VF Div(VF a, VF b) {
  return _mm256_div_ps(a, b);
}
static inline VF Neg(VF a) {
  return _mm256_xor_ps(a, _mm256_set1_ps(-0.0F));
}
static inline VF Abs(VF a) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), a);
}
static inline VF MulAdd(VF a, VF b, VF c) {
  return _mm256_fmadd_ps(a, b, c);
}
static inline VF Max(VF a, VF b) {
  return _mm256_max_ps(a, b);
}
static inline VF Min(VF a, VF b) {
  return _mm256_min_ps(a, b);
}

static inline VM Less(VF a, VF b) {
  return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline VF Select(VM mask, VF yes, VF no) {
  return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(mask));
}

static inline void Octets(VF first, VF second, VF (&v)[2]) {
  v[0] = first;
  v[1] = second;
}
static inline VF AddOctets(const VF (&v)[2]) {
  return Add(v[0], v[1]);
}

static inline float ReduceAdd(VF v) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
static inline float ReduceMax(VF v) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

static inline VF Round(VF a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline VF Scale2(VF a, VF n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  const __m256i normal = _mm256_max_epi32(exponent, _mm256_setzero_si256());
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(normal, 23)));
}

static inline VF Floor(VF a) {
  return _mm256_floor_ps(a);
}

using VI = __m256i;
using VS = __m256i;

static inline VI ZeroInts() {
  return _mm256_setzero_si256();
}
static inline VF ToFloat(VI a) {
  return _mm256_cvtepi32_ps(a);
}
static inline VS LoadShorts(const int16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
static inline VS LoadBytes(const int8_t* p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
// Eights of bytes go to the two vectors in turn, so that one pack puts them back.
static inline int ByteTurn(int i) {
  return i / 16 * 8 + i / 8 % 2 * 2 * kLanes + i % 8;
}
static inline void LoadBytes(const int8_t* p, VS (&v)[2]) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  v[0] = _mm256_srai_epi16(_mm256_unpacklo_epi8(bytes, bytes), 8);
  v[1] = _mm256_srai_epi16(_mm256_unpackhi_epi8(bytes, bytes), 8);
}
static inline void LoadLow7(const uint8_t* p, VS (&v)[2]) {
  const __m256i bytes = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                                         _mm256_set1_epi8(0x7f));
  v[0] = _mm256_unpacklo_epi8(bytes, _mm256_setzero_si256());
  v[1] = _mm256_unpackhi_epi8(bytes, _mm256_setzero_si256());
}
static inline uint32_t HighBits(const uint8_t* p) {
  return static_cast<uint32_t>(
      _mm_movemask_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline void StoreBytes(int8_t* p, VS first, VS second) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_packs_epi16(first, second));
}
static inline VS MulRound15(VS a, VS b) {
  return _mm256_mulhrs_epi16(a, b);
}
static inline VI DotAdd(VS a, VS b, VI c) {
  return _mm256_add_epi32(c, _mm256_madd_epi16(a, b));
}
static inline void SplitShorts(VS v, VF& even, VF& odd) {
  even = ToFloat(_mm256_srai_epi32(_mm256_slli_epi32(v, 16), 16));
  odd = ToFloat(_mm256_srai_epi32(v, 16));
}
static inline void SplitCodes(const void* p, VI (&codes)[4]) {
  const __m256i rows = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  const __m256i mask = _mm256_set1_epi32(0x03030303);
  codes[0] = _mm256_and_si256(rows, mask);
  codes[1] = _mm256_and_si256(_mm256_srli_epi32(rows, 2), mask);
  codes[2] = _mm256_and_si256(_mm256_srli_epi32(rows, 4), mask);
  codes[3] = _mm256_and_si256(_mm256_srli_epi32(rows, 6), mask);
}
static inline __m256i FourWeights(const int8_t* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, sizeof(bits));
  return _mm256_set1_epi32(bits);
}
// Eight products of at most 3 * 128: no sum leaves 16 bits.
static inline VI DotCodes(const VI (&codes)[4], const int8_t* weights, VI c) {
  const __m256i first = _mm256_add_epi16(_mm256_maddubs_epi16(codes[0], FourWeights(weights)),
                                         _mm256_maddubs_epi16(codes[1], FourWeights(weights + 4)));
  const __m256i second =
      _mm256_add_epi16(_mm256_maddubs_epi16(codes[2], FourWeights(weights + 8)),
                       _mm256_maddubs_epi16(codes[3], FourWeights(weights + 12)));
  return DotAdd(_mm256_add_epi16(first, second), _mm256_set1_epi16(1), c);
}
static inline void MaxOfRows(const VF (&rows)[4][2], float* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = ReduceMax(Max(rows[i][0], rows[i][1]));
  }
}
static inline void SumOfRows(const VF (&rows)[4][2], float* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = ReduceAdd(Add(rows[i][0], rows[i][1]));
  }
}
static inline void SumOfRows(const VI (&rows)[4], int32_t* out) {
  const __m256i low = _mm256_hadd_epi32(rows[0], rows[1]);
  const __m256i high = _mm256_hadd_epi32(rows[2], rows[3]);
  const __m256i sums = _mm256_hadd_epi32(low, high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                   _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1)));
}

static inline void PrefetchL1(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}
static inline void PrefetchL2(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_VEC_VEC_AVX2_H_
