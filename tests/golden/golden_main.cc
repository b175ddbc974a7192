// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
// hipattn_golden_tests --cases DIR [GoogleTest options]: one test per case of DIR/manifest.json (of
// the sparse prefill: index.json) and
// table of ops that this CPU can run, named Golden/<table>.<case>. A case whose keys and values fit
// f16 and bf16 exactly runs with those KV types, too, at their tolerance. See SPEC.md section 9 for
// the folder's format.
#include "device/registry.h"
#include "host/executors.h"
#include "tests/golden/checks.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace hipattn::golden {
namespace {

constexpr unsigned kThreads = 2;

struct OpCheck {
  Check check;
  bool uses_kv;  // runs once per KV type
};

const std::map<std::string, OpCheck>& OpChecks() {
  static const std::map<std::string, OpCheck> checks = {
      {"partition", {CheckPartition, false}},
      {"query_blocks", {CheckQueryBlocks, false}},
      {"attend", {CheckAttend, true}},
      {"attend_leaves", {CheckAttendLeaves, true}},
      {"merge", {CheckMerge, false}},
      {"rope", {CheckRope, true}},
      {"scan_positions", {CheckScanPositions, false}},
      {"attend_positions", {CheckAttendPositions, false}},
      {"search", {CheckSearch, true}},
      {"hip_attention", {CheckHipAttention, true}},
      {"decode", {CheckDecode, true}},
      {"refresh_schedule", {CheckRefreshSchedule, false}},
      {"probe_count", {CheckProbeCount, false}},
      {"validate", {CheckValidate, false}},
      {"tree_search", {CheckTreeSearch, true}},
      {"tree_summaries", {CheckTreeSummaries, true}},
      {"tree_attention", {CheckTreeAttention, true}},
      {"tree_decode", {CheckTreeDecode, true}},
      {"tree_refresh", {CheckTreeRefresh, false}},
      {"tree_count", {CheckTreeCount, false}},
      {"convert_vs", {CheckConvertLines, false}},
      {"select_vs", {CheckSelectLines, false}},
      {"select_bs", {CheckSelectBlocks, false}},
      {"fallback", {CheckFallback, false}},
      {"nudge", {CheckNudge, false}},
      {"refine", {CheckRefine, false}},
      {"config_read", {CheckConfigRead, false}},
      {"attend_vs", {CheckAttendLines, true}},
      {"estimate_vs", {CheckEstimateLines, true}},
      {"estimate_bs", {CheckEstimateBlocks, true}},
      {"prefill", {CheckPrefill, true}},
      {"pattern_search", {CheckPatternSearch, true}},
  };
  return checks;
}

// The case's op; "search" stands in both sets of cases, and means patterns where there are
// candidates.
std::string OpOf(const GoldenCase& golden) {
  return golden.params().contains("candidates") ? "pattern_search" : golden.op();
}

// Whether keys and values keep their values in a KV type.
bool FitsExactly(const GoldenCase& golden, DType dtype) {
  for (const char* name : {"k", "v"}) {
    if (!golden.HasInput(name)) {
      continue;
    }
    for (const float value : golden.Input(name).floats) {
      uint32_t stored = 0;
      StoreElement(&stored, dtype, 0, value);
      if (LoadElement(&stored, dtype, 0) != value) {
        return false;
      }
    }
  }
  return true;
}

class GoldenTest : public ::testing::Test {
 public:
  GoldenTest(std::filesystem::path folder, const device::OpTable* table)
      : folder_(std::move(folder)), table_(table) {}

  void TestBody() override {
    const Result<GoldenCase> golden = GoldenCase::Load(folder_);
    ASSERT_TRUE(golden.ok()) << golden.status().message();
    const auto found = OpChecks().find(OpOf(golden.value()));
    ASSERT_NE(found, OpChecks().end()) << "unknown op " << golden.value().op();
    const std::unique_ptr<device::Executor> executor = host::CreateExecutor(kThreads);
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      SCOPED_TRACE(DTypeName(dtype));
      if (dtype != DType::kF32 && (!found->second.uses_kv || !FitsExactly(golden.value(), dtype))) {
        continue;
      }
      found->second.check(golden.value(), {table_, {executor.get(), nullptr}, dtype});
    }
  }

 private:
  std::filesystem::path folder_;
  const device::OpTable* table_;
};

// The value behind --cases; empty when there is none.
std::filesystem::path CasesFolder(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string_view(argv[i]) == "--cases") {
      return argv[i + 1];
    }
  }
  return {};
}

void RegisterCase(const std::filesystem::path& cases,
                  const std::string& name,
                  const device::OpTable* table) {
  const std::filesystem::path folder = cases / name;
  ::testing::RegisterTest(
      (std::string("Golden/") + table->name).c_str(),
      name.c_str(),
      nullptr,
      nullptr,
      __FILE__,
      __LINE__,
      [folder, table]() -> ::testing::Test* { return new GoldenTest(folder, table); });
}

int Run(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const std::filesystem::path cases = CasesFolder(argc, argv);
  if (cases.empty()) {
    std::fputs("usage: hipattn_golden_tests --cases DIR [GoogleTest options]\n", stderr);
    return 2;
  }
  const Result<std::vector<std::string>> names = ReadManifest(cases);
  if (!names.ok()) {
    std::fprintf(stderr, "%s\n", names.status().message().c_str());
    return 2;
  }
  for (const device::OpTable* table : device::CpuOpTables()) {
    for (const std::string& name : names.value()) {
      RegisterCase(cases, name, table);
    }
  }
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace hipattn::golden

int main(int argc, char** argv) {
  return hipattn::golden::Run(argc, argv);
}
