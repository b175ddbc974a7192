// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// gather: scattered blocks of a host tier of 512 MB into neighbouring slots of the device, 16 MB a
// time, as a fetch of the CPU device copies them, in turn with bare loops over such a list and with
// one memcpy of as many bytes. Every turn takes blocks that the others left alone for 256 MB.
//   GB/s          of Device::Copy, from the median
//   loop_GB/s     of the best of the bare loops: memcpy block by block; the same with prefetches of
//                 the next block; the same past the caches (streaming stores)
//   loop_%        loop time / time of Device::Copy, from the medians
//   memcpy_%      of one memcpy of as many neighbouring bytes
// touch: taking pinned host memory, whose pages are touched by the executor's threads.
//   s/GiB         the median
//   alone_s/GiB   of pages that one thread touches, in turn
#include "bench/line.h"
#include "device/registry.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace hipattn::bench {
namespace {

constexpr size_t kPoolBytes = size_t{512} << 20;
constexpr size_t kTurnBytes = size_t{16} << 20;
constexpr size_t kSlotBytes = size_t{128} << 20;
constexpr size_t kTurns = kPoolBytes / kTurnBytes;
constexpr size_t kLine = 64;

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

using Pieces = std::vector<device::CopyPiece>;

void CopyPlainly(const Pieces& pieces) {
  for (const device::CopyPiece& piece : pieces) {
    std::memcpy(piece.dst, piece.src, piece.bytes);
  }
}

// While a part of a block is copied the same part of the next one is on its way.
void CopyPrefetching(const Pieces& pieces) {
  constexpr size_t kPart = 256;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto* next =
        static_cast<const std::byte*>(pieces[std::min(i + 1, pieces.size() - 1)].src);
    const auto* src = static_cast<const std::byte*>(pieces[i].src);
    auto* dst = static_cast<std::byte*>(pieces[i].dst);
    for (size_t at = 0; at < pieces[i].bytes; at += kPart) {
      for (size_t line = 0; line < kPart; line += kLine) {
        __builtin_prefetch(next + at + line);
      }
      std::memcpy(dst + at, src + at, kPart);
    }
  }
}

// Past the caches where the instruction is there.
void CopyStreaming(const Pieces& pieces) {
#ifdef __SSE2__
  for (const device::CopyPiece& piece : pieces) {
    const auto* src = static_cast<const __m128i*>(piece.src);
    auto* dst = static_cast<__m128i*>(piece.dst);
    for (size_t i = 0; i < piece.bytes / sizeof(__m128i); ++i) {
      _mm_stream_si128(dst + i, _mm_load_si128(src + i));
    }
  }
  _mm_sfence();
#else
  CopyPlainly(pieces);
#endif
}

// The pool's blocks in random order, cut into turns.
class Lists {
 public:
  Lists(std::byte* pool, std::byte* slots, size_t block_bytes)
      : pool_(pool), slots_(slots), block_bytes_(block_bytes), order_(kPoolBytes / block_bytes) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::shuffle(order_.begin(), order_.end(), std::mt19937_64(1));
  }

  Pieces Of(size_t turn) const {
    const size_t count = kTurnBytes / block_bytes_;
    Pieces pieces(count);
    for (size_t i = 0; i < count; ++i) {
      pieces[i] = {To(turn) + i * block_bytes_,
                   pool_ + order_[turn % kTurns * count + i] * block_bytes_,
                   block_bytes_};
    }
    return pieces;
  }
  Pieces Whole(size_t turn) const {
    return {{To(turn), pool_ + turn % kTurns * kTurnBytes, kTurnBytes}};
  }

 private:
  std::byte* To(size_t turn) const { return slots_ + turn * kTurnBytes % kSlotBytes; }

  std::byte* const pool_;
  std::byte* const slots_;
  const size_t block_bytes_;
  std::vector<size_t> order_;
};

void RunGather(benchmark::State& state, size_t block_bytes) {
  const auto device = std::move(device::CreateCpuDevice({1, {}}).value());
  const device::Buffer pool =
      std::move(device->Allocate(device::MemoryKind::kPinned, kPoolBytes).value());
  const device::Buffer slots =
      std::move(device->Allocate(device::MemoryKind::kDevice, kSlotBytes).value());
  std::memset(pool.data(), 1, kPoolBytes);
  std::memset(slots.data(), 2, kSlotBytes);
  const Lists lists(pool.data(), slots.data(), block_bytes);
  enum Way : size_t { kOurs, kPlain, kPrefetching, kStreaming, kOneCopy, kWays };
  std::array<std::vector<double>, kWays> times;
  const auto run = [&](size_t way, size_t turn) {
    const Pieces pieces = way == kOneCopy ? lists.Whole(turn) : lists.Of(turn);
    const double begin = Now(1);
    switch (way) {
      case kOurs:
        static_cast<void>(device->Sync(device->Copy(0, pieces).value()));
        break;
      case kPrefetching:
        CopyPrefetching(pieces);
        break;
      case kStreaming:
        CopyStreaming(pieces);
        break;
      default:
        CopyPlainly(pieces);
        break;
    }
    times[way].push_back(Now(1) - begin);
  };
  size_t turn = 0;
  for (auto _ : state) {
    for (size_t i = 0; i < kWays; ++i) {
      // Each way in each place of the round, and on lists that are not those of the last round.
      run((turn + i) % kWays, turn + i * (kTurns / 2 + 1));
    }
    state.SetIterationTime(times[kOurs].back());
    ++turn;
  }
  const double ours = Median(times[kOurs]);
  const double loop =
      std::min({Median(times[kPlain]), Median(times[kPrefetching]), Median(times[kStreaming])});
  const double bytes = kTurnBytes;
  state.counters["GB/s"] = bytes / ours * 1e-9;
  state.counters["plain_GB/s"] = bytes / Median(times[kPlain]) * 1e-9;
  state.counters["prefetching_GB/s"] = bytes / Median(times[kPrefetching]) * 1e-9;
  state.counters["streaming_GB/s"] = bytes / Median(times[kStreaming]) * 1e-9;
  state.counters["loop_GB/s"] = bytes / loop * 1e-9;
  state.counters["loop_%"] = 100.0 * loop / ours;
  state.counters["memcpy_%"] = 100.0 * Median(times[kOneCopy]) / ours;
}

void RunTouch(benchmark::State& state, unsigned num_threads) {
  const auto device = std::move(device::CreateCpuDevice({num_threads, {}}).value());
  const auto alone = std::move(device::CreateCpuDevice({1, {}}).value());
  std::vector<double> times;
  std::vector<double> alone_times;
  const auto take = [](device::Device& from, unsigned threads, std::vector<double>* out) {
    const double begin = Now(threads);
    const auto memory = from.Allocate(device::MemoryKind::kPinned, kPoolBytes);
    out->push_back(memory.ok() ? Now(threads) - begin : 1e9);
  };
  for (auto _ : state) {
    take(*device, num_threads, &times);
    take(*alone, 1, &alone_times);
    state.SetIterationTime(times.back());
  }
  const double gib = static_cast<double>(kPoolBytes) / static_cast<double>(1 << 30);
  state.counters["s/GiB"] = Median(times) / gib;
  state.counters["alone_s/GiB"] = Median(alone_times) / gib;
}

}  // namespace

void RegisterGather() {
  for (const size_t block_bytes : {size_t{4} << 10, size_t{8} << 10, size_t{32} << 10}) {
    const std::string name = "gather/block:" + std::to_string(block_bytes) + "/threads:1";
    benchmark::RegisterBenchmark(name.c_str(),
                                 [=](benchmark::State& state) { RunGather(state, block_bytes); })
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(60);
  }
  for (const unsigned num_threads : {1U, 2U}) {
    const std::string name = "touch/threads:" + std::to_string(num_threads);
    benchmark::RegisterBenchmark(name.c_str(),
                                 [=](benchmark::State& state) { RunTouch(state, num_threads); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(9);
  }
}

}  // namespace hipattn::bench
