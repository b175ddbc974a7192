// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-bench: how near the ops come to what the machine can do. Options are google-benchmark's
// (--benchmark_filter=REGEX, ...), and
//   --json FILE   writes the results as JSON too
// A line's name gives its shape: decode/T:131072/d:64/group:3/dtype:bf16/list:scattered/threads:1.
// Its counters: bench/line.h.
#include "bench/line.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace hipattn::bench {
namespace {

// Replaces --json FILE by what google-benchmark understands.
std::vector<std::string> TranslateOptions(int argc, char** argv) {
  std::vector<std::string> options;
  for (int i = 0; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--json" && i + 1 < argc) {
      options.push_back(std::string("--benchmark_out=") + argv[++i]);
      options.emplace_back("--benchmark_out_format=json");
    } else {
      options.push_back(option);
    }
  }
  return options;
}

void DescribeMachine() {
  benchmark::AddCustomContext("instruction_set", device::CpuOpTables().back()->name);
  for (const unsigned num_threads : {1U, 2U}) {
    const Peaks& peaks = PeaksOf(num_threads);
    const std::string suffix = "_threads_" + std::to_string(num_threads);
    benchmark::AddCustomContext("multiply_add_gflops" + suffix, std::to_string(peaks.flops * 1e-9));
    benchmark::AddCustomContext("int16_multiply_add_gops" + suffix,
                                std::to_string(peaks.short_ops * 1e-9));
    benchmark::AddCustomContext("sequential_gb_per_s" + suffix,
                                std::to_string(peaks.sequential_bytes * 1e-9));
  }
}

int Main(int argc, char** argv) {
  std::vector<std::string> options = TranslateOptions(argc, argv);
  std::vector<char*> pointers;
  for (std::string& option : options) {
    pointers.push_back(option.data());
  }
  int count = static_cast<int>(pointers.size());
  pointers.push_back(nullptr);
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) {
    return 1;
  }
  DescribeMachine();
  RegisterDecode();
  RegisterSearch();
  RegisterSketches();
  RegisterIndex();
  RegisterPrefill();
  RegisterSparsePrefill();
  RegisterAutoPrefill();
  RegisterSelectorPrefill();
  RegisterMerge();
  RegisterSteps();
  RegisterTierSteps();
  RegisterSnapshots();
  RegisterGather();
  RegisterDisk();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace hipattn::bench

int main(int argc, char** argv) {
  return hipattn::bench::Main(argc, argv);
}
