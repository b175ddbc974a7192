// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "bench/line.h"

#include <algorithm>
#include <cstddef>

namespace hipattn::bench {
namespace {

// The value below which `share` of the numbers lie. REQUIRES: numbers is not empty.
double Quantile(std::vector<double>* numbers, double share) {
  const double place = share * static_cast<double>(numbers->size() - 1);
  const auto at = numbers->begin() + static_cast<std::ptrdiff_t>(place);
  std::nth_element(numbers->begin(), at, numbers->end());
  return *at;
}

}  // namespace

void SetCounters(benchmark::State& state, const Work& work, unsigned num_threads, LineTimes times) {
  if (times.kernel.empty()) {
    return;
  }
  const Peaks& peaks = PeaksOf(num_threads);
  if (times.read.empty()) {
    times.read.push_back(work.bytes / peaks.sequential_bytes);
  }
  constexpr double kBest = 0.05;
  const double flop_seconds = work.flops / (work.whole_numbers ? peaks.short_ops : peaks.flops);
  const double kernel = Quantile(&times.kernel, kBest);
  const double read = Quantile(&times.read, kBest);
  state.counters["GB/s"] = work.bytes / kernel * 1e-9;
  state.counters["GFLOP/s"] = work.flops / kernel * 1e-9;
  state.counters["peak_%"] = 100 * flop_seconds / kernel;
  state.counters["read_GB/s"] = work.bytes / read * 1e-9;
  state.counters["read_of_seq_%"] = 100 * work.bytes / read / peaks.sequential_bytes;
  state.counters["roof_%"] = 100 * std::max(read, flop_seconds) / kernel;
  state.counters["roof_median_%"] =
      100 * std::max(Quantile(&times.read, 0.5), flop_seconds) / Quantile(&times.kernel, 0.5);
}

}  // namespace hipattn::bench
