// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Conformance suites run once per table of ops that this CPU has:
//   class MergeStates : public OpTableTest {};
//   TEST_P(MergeStates, ...) { table().merge_states(context(2), params); ... }
//   HIPATTN_FOR_ALL_TABLES(MergeStates);
#ifndef HIPATTN_TESTS_SUPPORT_OP_TABLES_H_
#define HIPATTN_TESTS_SUPPORT_OP_TABLES_H_

#include "device/ops.h"
#include "device/registry.h"
#include "host/executors.h"
#include "host/ref/reference_table.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

namespace hipattn::testing {

class OpTableTest : public ::testing::TestWithParam<const device::OpTable*> {
 protected:
  const device::OpTable& table() const { return *GetParam(); }

  // A context with that many threads; they live as long as the program.
  static device::OpContext context(unsigned num_threads = 1) {
    static std::map<unsigned, std::unique_ptr<device::Executor>> executors;
    std::unique_ptr<device::Executor>& executor = executors[num_threads];
    if (executor == nullptr) {
      executor = host::CreateExecutor(num_threads);
    }
    return {executor.get(), nullptr};
  }

  static const device::OpTable& reference() { return host::ReferenceOps(); }
};

inline std::string TableName(const ::testing::TestParamInfo<const device::OpTable*>& info) {
  return info.param->name;
}

}  // namespace hipattn::testing

#define HIPATTN_FOR_ALL_TABLES(suite)                                             \
  INSTANTIATE_TEST_SUITE_P(Cpu,                                                   \
                           suite,                                                 \
                           ::testing::ValuesIn(::hipattn::device::CpuOpTables()), \
                           ::hipattn::testing::TableName)

#endif  // HIPATTN_TESTS_SUPPORT_OP_TABLES_H_
