// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

// delta = dense - row, row = dense.
template <typename Tag>
void Anchor(Tag tag, const float* dense, int count, typename Tag::Elem* row, float* delta) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Store(delta + i, Sub(Load(dense + i), Load(tag, row + i)));
  }
  if (i < count) {
    const int rest = count - i;
    StoreFirst(delta + i, Sub(LoadFirst(dense + i, rest), LoadFirst(tag, row + i, rest)), rest);
  }
  ConvertRow(tag, row, F32{}, dense, count);
}

// row += delta.
template <typename Tag>
void AddRow(Tag tag, const float* delta, int count, typename Tag::Elem* row) {
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Store(tag, row + i, Add(Load(tag, row + i), Load(delta + i)));
  }
  if (i < count) {
    const int rest = count - i;
    StoreFirst(tag, row + i, Add(LoadFirst(tag, row + i, rest), LoadFirst(delta + i, rest)), rest);
  }
}

template <typename Tag>
void CorrectRows(Tag tag, const device::DeltaParams& params, const device::DeltaJob& job) {
  const int head_dim = static_cast<int>(params.head_dim);
  auto* row = static_cast<typename Tag::Elem*>(job.out);
  uint32_t anchor = 0;
  for (uint32_t r = 0; r < params.num_rows; ++r, row += params.out_stride) {
    if (anchor < params.num_anchors && params.anchors[anchor] == r) {
      Anchor(tag, job.dense + anchor * params.dense_stride, head_dim, row, job.delta);
      ++anchor;
    } else {
      AddRow(tag, job.delta, head_dim, row);
    }
  }
}

}  // namespace

void ApplyDeltas(const device::OpContext& context, const device::DeltaParams& params) {
  const uint64_t elements = uint64_t{params.num_jobs} * params.num_rows * params.head_dim;
  WithTag(params.io_dtype, [&](auto tag) {
    RunTasks(context, params.num_jobs, elements, [&](size_t i) {
      CorrectRows(tag, params, params.jobs[i]);
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
