// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The vector layer: what kernels are written in. vec_<set>.h, the only place with intrinsics, gives
// per instruction set
//
// - kLanes: floats of a vector, 8 or 16, so a K panel is kPanelVectors vectors
// - kRegisters: vector registers of the set, by which kernels choose their tiles
// - VF, VM: a vector of floats, a mask of its lanes
// - Zero, Set1: 0 or x in every lane
// - Load, Store: kLanes floats; with a tag (F32, F16, Bf16) as first argument, elements widened, or
//   rounded to nearest even with the bits of base/dtype.h. No alignment is needed.
// - LoadFirst, StoreFirst: the first n lanes, 0 <= n <= kLanes. Only n elements are touched; a load
//   sets the other lanes to 0.
// - LoadPair: 2 * kLanes elements into two vectors, in whatever order is cheapest for the tag
// - LoadPairFirst: the first n of them, 0 <= n <= 2 * kLanes; the others are 0
// - Unpair: brings such a pair, or a sum of pairs of one tag, into the order of memory
// - Add, Sub, Mul, Div, Neg, Abs
// - MulAdd: a * b + c, rounded once where the set has FMA, else twice: bits agree within a set, not
//   between sets
// - Max, Min: a > b ? a : b and a < b ? a : b, so b when either is NaN or both are zeros
// - Less: the lanes where a < b
// - LaneRange: the lanes [begin, end); values outside 0 .. kLanes are cut
// - Select: yes where the mask, else no: a copy of bits, whatever the other operand holds
// - ReduceAdd, ReduceMax: over the lanes, halves against halves, then quarters, and so on
// - Octets, AddOctets: of 16 floats in kPanelVectors vectors. Make them from the first 8 lanes of
//   one vector and 8 lanes of another that is the same in all octets; add floats 8-15 to 0-7, which
//   end in the first 8 lanes.
// - Round: to the nearest integer, ties to even; |x| < 2^22
// - Scale2: x * 2^n for whole numbers n in [-160, 127]; 0 or subnormal below n = -126
// - Floor
// - PrefetchL1, PrefetchL2
//
// and in whole numbers, for key sketches:
//
// - VI, VS: a vector of kLanes int32, of 2 * kLanes int16
// - ZeroInts, ToFloat (VI to VF)
// - LoadShorts, LoadBytes: 2 * kLanes int16; int8 widened
// - LoadBytes, LoadLow7 into two vectors: 4 * kLanes int8, or the low 7 bits of bytes, widened, in
//   whatever order is cheapest: byte i in lane ByteTurn(i) of both, eights together; StoreBytes:
//   two such vectors of int16 that are in the range of int8
// - HighBits: the highest bits of 16 bytes, the first byte's lowest
// - MulRound15: (a * b + 2^14) >> 15 of int16; not for -2^15 times -2^15
// - DotAdd: c + the products of neighbouring pairs of int16
// - SplitShorts: the even and the odd ones as floats
// - SplitCodes: kLanes times 16 codes of two bits -> four vectors of bytes, byte j of lane t of
//   vector s being bits 8 j + 2 s of lane t; DotCodes: c + the products of such bytes with 16 int8,
//   weight 4 s + j for byte j of vector s
// - MaxOfRows, SumOfRows: of four rows of 16 floats, or of four VI, into four places; floats are
//   summed in the order of ReduceAdd
//
// and this header what follows from those: Exp, Tanh. NaN stays NaN unless said otherwise above.
//
// HIPATTN_UNROLL before a loop with a constant count unrolls it whole: a tile held in an array of
// VF lives in registers only then.
#ifndef HIPATTN_HOST_VEC_VEC_H_
#define HIPATTN_HOST_VEC_VEC_H_

#include HIPATTN_VEC_HEADER

#if defined(__clang__)
#define HIPATTN_UNROLL _Pragma("unroll")
#else
#define HIPATTN_UNROLL _Pragma("GCC unroll 64")
#endif

namespace hipattn::host::HIPATTN_ISA {

inline constexpr int kPanelVectors = 16 / kLanes;

// e^x for x <= 88, within 2 ulp where the result is normal; below 2^-126 it is 0 or subnormal, and
// 0 for -inf. Cody-Waite reduction and the polynomial of Cephes' expf.
static inline VF Exp(VF x) {
  const VF clamped = Max(Set1(-105.0F), x);
  const VF n = Round(Mul(clamped, Set1(1.44269504F)));
  VF r = MulAdd(n, Set1(-0.693359375F), clamped);
  r = MulAdd(n, Set1(2.12194440e-4F), r);
  VF p = MulAdd(r, Set1(1.9875691500e-4F), Set1(1.3981999507e-3F));
  p = MulAdd(p, r, Set1(8.3334519073e-3F));
  p = MulAdd(p, r, Set1(4.1665795894e-2F));
  p = MulAdd(p, r, Set1(1.6666665459e-1F));
  p = MulAdd(p, r, Set1(5.0000001201e-1F));
  p = Add(MulAdd(p, Mul(r, r), r), Set1(1.0F));
  return Scale2(p, n);
}

// tanh(x), within 4 ulp. Near 0 the polynomial of Cephes' tanhf, where 1 - 2 / (e^2x + 1) would
// cancel.
static inline VF Tanh(VF x) {
  const VF z = Mul(x, x);
  VF p = MulAdd(z, Set1(-5.70498872745e-3F), Set1(2.06390887954e-2F));
  p = MulAdd(p, z, Set1(-5.37397155531e-2F));
  p = MulAdd(p, z, Set1(1.33314422036e-1F));
  p = MulAdd(p, z, Set1(-3.33332819422e-1F));
  const VF near = MulAdd(Mul(p, z), x, x);
  const VF magnitude = Abs(x);
  const VF e = Exp(Min(Set1(40.0F), Add(magnitude, magnitude)));  // tanh(20) is 1 in f32
  const VF far = Sub(Set1(1.0F), Div(Set1(2.0F), Add(e, Set1(1.0F))));
  return Select(Less(magnitude, Set1(0.625F)), near, Select(Less(x, Zero()), Neg(far), far));
}

}  // namespace hipattn::host::HIPATTN_ISA

#endif  // HIPATTN_HOST_VEC_VEC_H_
