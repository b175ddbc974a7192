// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/skeleton/row_norms.h"

#include "host/kernels/dispatch.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

template <typename Tag>
float SumOfSquares(Tag tag, const typename Tag::Elem* row, int length) {
  VF sum = Zero();
  int i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    const VF x = Load(tag, row + i);
    sum = MulAdd(x, x, sum);
  }
  if (i < length) {  // lanes beyond the row are 0
    const VF x = LoadFirst(tag, row + i, length - i);
    sum = MulAdd(x, x, sum);
  }
  return ReduceAdd(sum);
}

}  // namespace

void RowNorms(const device::OpContext& context, const device::RowNormsParams& params) {
  const uint64_t elements = uint64_t{params.num_rows} * params.row_length;
  WithTag(params.dtype, [&](auto tag) {
    const auto* rows = static_cast<const typename decltype(tag)::Elem*>(params.rows);
    RunTasks(context, params.num_rows, elements, [&](size_t row) {
      const auto* first = rows + row * params.row_length;
      params.norms[row] = SumOfSquares(tag, first, static_cast<int>(params.row_length));
    });
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
