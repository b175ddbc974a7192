// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The vector layer (see vec.h) for any CPU: two vectors of four floats by the vector extensions of
// GCC and Clang, which become SSE2, NEON or scalar code.
#ifndef HIPATTN_HOST_VEC_VEC_PORTABLE_H_
#define HIPATTN_HOST_VEC_VEC_PORTABLE_H_

#include "base/dtype.h"
#include "host/vec/elements.h"

#include <cstdint>

namespace hipattn::host::HIPATTN_ISA {

inline constexpr int kLanes = 8;
inline constexpr int kRegisters = 8;  // of two 128-bit registers each
using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));
struct VF {
  Float4 lo, hi;
};
struct VM {
  Int4 lo, hi;  // all bits of a chosen lane
};

static inline Float4 Splat4(float x) {
  return Float4{x, x, x, x};
}
static inline Int4 Splat4(int32_t x) {
  return Int4{x, x, x, x};
}
static inline Int4 BitsOf(Float4 v) {
  return reinterpret_cast<Int4>(v);
}
static inline Float4 FloatOf(Int4 v) {
  return reinterpret_cast<Float4>(v);
}
static inline Float4 Choose(Int4 mask, Float4 yes, Float4 no) {
  return FloatOf((BitsOf(yes) & mask) | (BitsOf(no) & ~mask));
}

static inline VF Zero() {
  return {Splat4(0.0F), Splat4(0.0F)};
}
static inline VF Set1(float x) {
  return {Splat4(x), Splat4(x)};
}

static inline VF Load(const float* p) {
  VF v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
static inline VF Load(F32, const float* p) {
  return Load(p);
}
// Shifted into place, an f16 is 2^-112 of its value; 255 as exponent must stay 255.
static inline Float4 WidenF16(Int4 half) {
  const Int4 magnitude = (half & 0x7fff) << 13;
  const Int4 special = magnitude >= Splat4(0x7c00 << 13);
  const Int4 value = BitsOf(FloatOf(magnitude) * Splat4(0x1p112F));
  const Int4 wide = (value & ~special) | ((magnitude | 0x7f800000) & special);
  return FloatOf(wide | ((half & 0x8000) << 16));
}
static inline VF Load(F16, const uint16_t* p) {
  return {WidenF16(Int4{p[0], p[1], p[2], p[3]}), WidenF16(Int4{p[4], p[5], p[6], p[7]})};
}
static inline VF Load(Bf16, const uint16_t* p) {
  return {FloatOf(Int4{p[0], p[1], p[2], p[3]} << 16), FloatOf(Int4{p[4], p[5], p[6], p[7]} << 16)};
}
template <typename Tag>
static inline VF LoadFirst(Tag tag, const typename Tag::Elem* p, int n) {
  typename Tag::Elem buffer[kLanes] = {};
  for (int i = 0; i < n; ++i) {
    buffer[i] = p[i];
  }
  return Load(tag, buffer);
}
static inline VF LoadFirst(const float* p, int n) {
  return LoadFirst(F32{}, p, n);
}

static inline void Store(float* p, VF v) {
  __builtin_memcpy(p, &v, sizeof(v));
}
static inline void Store(F32, float* p, VF v) {
  Store(p, v);
}
static inline void Store(F16, uint16_t* p, VF v) {
  for (int i = 0; i < 4; ++i) {
    p[i] = F32ToF16(v.lo[i]);
    p[i + 4] = F32ToF16(v.hi[i]);
  }
}
static inline void Store(Bf16, uint16_t* p, VF v) {
  for (int i = 0; i < 4; ++i) {
    p[i] = F32ToBf16(v.lo[i]);
    p[i + 4] = F32ToBf16(v.hi[i]);
  }
}
template <typename Tag>
static inline void StoreFirst(Tag tag, typename Tag::Elem* p, VF v, int n) {
  typename Tag::Elem buffer[kLanes];
  Store(tag, buffer, v);
  for (int i = 0; i < n; ++i) {
    p[i] = buffer[i];
  }
}
static inline void StoreFirst(float* p, VF v, int n) {
  StoreFirst(F32{}, p, v, n);
}

template <typename Tag>
static inline void LoadPair(Tag tag, const typename Tag::Elem* p, VF& a, VF& b) {
  a = Load(tag, p);
  b = Load(tag, p + kLanes);
}
template <typename Tag>
static inline void LoadPairFirst(Tag tag, const typename Tag::Elem* p, int n, VF& a, VF& b) {
  a = LoadFirst(tag, p, n < kLanes ? n : kLanes);
  b = n > kLanes ? LoadFirst(tag, p + kLanes, n - kLanes) : Zero();
}
template <typename Tag>
static inline void Unpair(Tag, VF a, VF b, VF& first, VF& second) {
  first = a;
  second = b;
}

static inline VF Add(VF a, VF b) {
  return {a.lo + b.lo, a.hi + b.hi};
}
static inline VF Sub(VF a, VF b) {
  return {a.lo - b.lo, a.hi - b.hi};
}
static inline VF Mul(VF a, VF b) {
  return {a.lo * b.lo, a.hi * b.hi};
}
static inline VF Div(VF a, VF b) {
  return {a.lo / b.lo, a.hi / b.hi};
}
static inline VF Neg(VF a) {
  return {-a.lo, -a.hi};
}
static inline VF Abs(VF a) {
  return {FloatOf(BitsOf(a.lo) & 0x7fffffff), FloatOf(BitsOf(a.hi) & 0x7fffffff)};
}
static inline VF MulAdd(VF a, VF b, VF c) {
  return {a.lo * b.lo + c.lo, a.hi * b.hi + c.hi};
}
static inline VF Max(VF a, VF b) {
  return {Choose(a.lo > b.lo, a.lo, b.lo), Choose(a.hi > b.hi, a.hi, b.hi)};
}
static inline VF Min(VF a, VF b) {
  return {Choose(a.lo < b.lo, a.lo, b.lo), Choose(a.hi < b.hi, a.hi, b.hi)};
}

static inline VM Less(VF a, VF b) {
  return {a.lo < b.lo, a.hi < b.hi};
}
static inline VM LaneRange(int begin, int end) {
  const Int4 lo = {0, 1, 2, 3};
  const Int4 hi = {4, 5, 6, 7};
  return {(lo >= begin) & (lo < end), (hi >= begin) & (hi < end)};
}
static inline VF Select(VM mask, VF yes, VF no) {
  return {Choose(mask.lo, yes.lo, no.lo), Choose(mask.hi, yes.hi, no.hi)};
}

static inline void Octets(VF first, VF second, VF (&v)[2]) {
  v[0] = first;
  v[1] = second;
}
static inline VF AddOctets(const VF (&v)[2]) {
  return Add(v[0], v[1]);
}

static inline float ReduceAdd(VF v) {
  const Float4 four = v.lo + v.hi;
  return (four[0] + four[2]) + (four[1] + four[3]);
}
static inline float ReduceMax(VF v) {
  const Float4 four = Choose(v.lo > v.hi, v.lo, v.hi);
  const float even = four[0] > four[2] ? four[0] : four[2];
  const float odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}

// Adding 1.5 * 2^23 leaves no fraction bits.
static inline VF Round(VF a) {
  const Float4 shift = Splat4(0x1.8p23F);
  return {(a.lo + shift) - shift, (a.hi + shift) - shift};
}
// The integer is read off the bits of n + 1.5 * 2^23: a conversion of NaN would be undefined.
static inline Float4 PowerOf2(Float4 n) {
  const Int4 exponent = BitsOf(n + Splat4(0x1.8p23F)) - (0x4b400000 - 127);
  return FloatOf((exponent & (exponent > 0)) << 23);
}
static inline VF Scale2(VF a, VF n) {
  return {a.lo * PowerOf2(n.lo), a.hi * PowerOf2(n.hi)};
}

static inline VF Floor(VF a) {
  const VF near = Round(a);
  return Sub(near, Select(Less(a, near), Set1(1.0F), Zero()));
}

struct VI {
  Int4 lo, hi;
};
struct VS {
  int16_t lanes[16];
};

static inline VI ZeroInts() {
  return {Splat4(0), Splat4(0)};
}
static inline VF ToFloat(VI a) {
  return {__builtin_convertvector(a.lo, Float4), __builtin_convertvector(a.hi, Float4)};
}
static inline VS LoadShorts(const int16_t* p) {
  VS v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
static inline VS LoadBytes(const int8_t* p) {
  VS v;
  for (int i = 0; i < 2 * kLanes; ++i) {
    v.lanes[i] = p[i];
  }
  return v;
}
static inline int ByteTurn(int i) {
  return i;
}
static inline void LoadBytes(const int8_t* p, VS (&v)[2]) {
  v[0] = LoadBytes(p);
  v[1] = LoadBytes(p + 2 * kLanes);
}
static inline void LoadLow7(const uint8_t* p, VS (&v)[2]) {
  for (int i = 0; i < 2 * kLanes; ++i) {
    v[0].lanes[i] = static_cast<int16_t>(p[i] & 0x7f);
  }
  for (int i = 0; i < 2 * kLanes; ++i) {
    v[1].lanes[i] = static_cast<int16_t>(p[i + 2 * kLanes] & 0x7f);
  }
}
static inline uint32_t HighBits(const uint8_t* p) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < 16; ++i) {
    bits |= static_cast<uint32_t>(p[i] >> 7) << i;
  }
  return bits;
}
static inline void StoreBytes(int8_t* p, const VS& first, const VS& second) {
  for (int i = 0; i < 2 * kLanes; ++i) {
    p[i] = static_cast<int8_t>(first.lanes[i]);
  }
  for (int i = 0; i < 2 * kLanes; ++i) {
    p[i + 2 * kLanes] = static_cast<int8_t>(second.lanes[i]);
  }
}
static inline VS MulRound15(const VS& a, const VS& b) {
  VS v;
  for (int i = 0; i < 2 * kLanes; ++i) {
    v.lanes[i] = static_cast<int16_t>((a.lanes[i] * b.lanes[i] + (1 << 14)) >> 15);
  }
  return v;
}
static inline VI DotAdd(const VS& a, const VS& b, VI c) {
  int32_t products[2 * kLanes];
  for (int i = 0; i < 2 * kLanes; ++i) {
    products[i] = a.lanes[i] * b.lanes[i];
  }
  Int4 four[4];
  __builtin_memcpy(four, products, sizeof(four));
  return {c.lo + __builtin_shufflevector(four[0], four[1], 0, 2, 4, 6) +
              __builtin_shufflevector(four[0], four[1], 1, 3, 5, 7),
          c.hi + __builtin_shufflevector(four[2], four[3], 0, 2, 4, 6) +
              __builtin_shufflevector(four[2], four[3], 1, 3, 5, 7)};
}
static inline void SplitShorts(const VS& v, VF& even, VF& odd) {
  float first[kLanes];
  float second[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    first[i] = v.lanes[2 * i];
    second[i] = v.lanes[2 * i + 1];
  }
  even = Load(first);
  odd = Load(second);
}
static inline void SplitCodes(const void* p, VI (&codes)[4]) {
  VI rows;
  __builtin_memcpy(&rows, p, sizeof(rows));
  for (int s = 0; s < 4; ++s) {
    codes[s] = {(rows.lo >> (2 * s)) & 0x03030303, (rows.hi >> (2 * s)) & 0x03030303};
  }
}
// Products of int16, which every processor has: bytes 0 and 2 of each lane, then 1 and 3. Eight of
// at most 3 * 128: no sum leaves 16 bits.
using Short8 = int16_t __attribute__((vector_size(16)));
static inline Int4 DotCodes4(const Int4 (&codes)[4], const int8_t* weights) {
  Short8 sums = {};
  for (int s = 0; s < 4; ++s) {
    const int16_t w0 = weights[4 * s];
    const int16_t w1 = weights[4 * s + 1];
    const int16_t w2 = weights[4 * s + 2];
    const int16_t w3 = weights[4 * s + 3];
    const Short8 even = {w0, w2, w0, w2, w0, w2, w0, w2};
    const Short8 odd = {w1, w3, w1, w3, w1, w3, w1, w3};
    Short8 bytes;
    __builtin_memcpy(&bytes, &codes[s], sizeof(bytes));
    sums += (bytes & 0xff) * even + (bytes >> 8) * odd;
  }
  Int4 pairs;
  __builtin_memcpy(&pairs, &sums, sizeof(pairs));
  return (pairs << 16 >> 16) + (pairs >> 16);
}
static inline VI DotCodes(const VI (&codes)[4], const int8_t* weights, VI c) {
  const Int4 lo[4] = {codes[0].lo, codes[1].lo, codes[2].lo, codes[3].lo};
  const Int4 hi[4] = {codes[0].hi, codes[1].hi, codes[2].hi, codes[3].hi};
  return {c.lo + DotCodes4(lo, weights), c.hi + DotCodes4(hi, weights)};
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
  for (int i = 0; i < 4; ++i) {
    const Int4 four = rows[i].lo + rows[i].hi;
    out[i] = four[0] + four[1] + four[2] + four[3];
  }
}

static inline void PrefetchL1(const void* p) {
  __builtin_prefetch(p, 0, 3);
}
static inline void PrefetchL2(const void* p) {
  __builtin_prefetch(p, 0, 2);
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_VEC_VEC_PORTABLE_H_
