// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/vec/vec.h"

#include <math.h>

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr float kAbsent = -__builtin_inff();

void CopyRow(const float* from, int count, float* to) {
  if (from != to) {
    ConvertRow(F32{}, to, F32{}, from, count);
  }
}

void ZeroRow(int count, float* to) {
  for (int i = 0; i < count; ++i) {
    to[i] = 0.0F;
  }
}

// o = (weight_a o_a + weight_b o_b) / (weight_a + weight_b).
void BlendRow(
    float weight_a, const float* o_a, float weight_b, const float* o_b, int count, float* o) {
  const VF wa = Set1(weight_a);
  const VF wb = Set1(weight_b);
  const VF sum = Add(wa, wb);
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Store(o + i, Div(MulAdd(wa, Load(o_a + i), Mul(wb, Load(o_b + i))), sum));
  }
  if (i < count) {
    const int rest = count - i;
    const VF blend = MulAdd(wa, LoadFirst(o_a + i, rest), Mul(wb, LoadFirst(o_b + i, rest)));
    StoreFirst(o + i, Div(blend, sum), rest);
  }
}

// Rows [begin, begin + count), count <= kLanes: their weights at once.
void MergeRows(const device::MergeParams& params, uint64_t begin, int count) {
  const int head_dim = static_cast<int>(params.head_dim);
  float weight_a[kLanes];
  float weight_b[kLanes];
  const VF side_a = LoadFirst(params.lse_a + begin, count);
  const VF side_b = LoadFirst(params.lse_b + begin, count);
  const VF top = Max(side_a, side_b);
  Store(weight_a, Exp(Sub(side_a, top)));
  Store(weight_b, Exp(Sub(side_b, top)));
  for (int i = 0; i < count; ++i) {
    const uint64_t row = begin + static_cast<uint64_t>(i);
    const float* o_a = params.o_a + row * params.head_dim;
    const float* o_b = params.o_b + row * params.head_dim;
    float* o = params.o + row * params.head_dim;
    const float lse_a = params.lse_a[row];
    const float lse_b = params.lse_b[row];
    if (lse_a == kAbsent && lse_b == kAbsent) {
      ZeroRow(head_dim, o);
      params.lse[row] = kAbsent;
    } else if (lse_b == kAbsent) {
      CopyRow(o_a, head_dim, o);
      params.lse[row] = lse_a;
    } else if (lse_a == kAbsent) {
      CopyRow(o_b, head_dim, o);
      params.lse[row] = lse_b;
    } else {
      BlendRow(weight_a[i], o_a, weight_b[i], o_b, head_dim, o);
      params.lse[row] = (lse_a > lse_b ? lse_a : lse_b) + ::logf(weight_a[i] + weight_b[i]);
    }
  }
}

}  // namespace

void MergeStates(const device::OpContext& context, const device::MergeParams& params) {
  constexpr uint64_t kTaskRows = 256;
  const uint64_t num_tasks = (params.num_rows + kTaskRows - 1) / kTaskRows;
  RunTasks(context, num_tasks, params.num_rows * params.head_dim, [&](size_t task) {
    uint64_t row = task * kTaskRows;
    const uint64_t end = row + kTaskRows < params.num_rows ? row + kTaskRows : params.num_rows;
    while (row < end) {
      const int count = static_cast<int>(end - row < kLanes ? end - row : kLanes);
      MergeRows(params, row, count);
      row += static_cast<uint64_t>(count);
    }
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
