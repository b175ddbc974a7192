// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/rotate.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

template <typename Tag>
void LoadRow(Tag tag, const device::LoadQParams& params, size_t row) {
  const size_t begin = row * params.num_heads * params.head_dim;
  const auto* q = static_cast<const typename Tag::Elem*>(params.q) + begin;
  float* q_f32 = params.q_f32 + begin;
  ConvertRow(F32{}, q_f32, tag, q, static_cast<int>(params.num_heads * params.head_dim));
  if (params.rope.mode == 0) {
    return;
  }
  RotaryAngles angles;
  ComputeAngles(params.rope, params.positions[row], &angles);
  for (uint32_t head = 0; head < params.num_heads; ++head) {
    Rotate(params.rope, angles, q_f32 + size_t{head} * params.head_dim);
  }
}

}  // namespace

void LoadQ(const device::OpContext& context, const device::LoadQParams& params) {
  constexpr size_t kTaskRows = 4;
  const size_t num_rows = params.num_rows;
  const size_t num_tasks = (num_rows + kTaskRows - 1) / kTaskRows;
  const uint64_t elements = uint64_t{num_rows} * params.num_heads * params.head_dim;
  WithTag(params.io_dtype, [&](auto tag) {
    RunTasks(context, num_tasks, elements, [&](size_t task) {
      const size_t begin = task * kTaskRows;
      const size_t end = begin + kTaskRows < num_rows ? begin + kTaskRows : num_rows;
      for (size_t row = begin; row < end; ++row) {
        LoadRow(tag, params, row);
      }
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
