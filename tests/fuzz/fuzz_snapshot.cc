// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Snapshots that somebody made to deceive: bytes of a good file are changed and its checksums made
// right again, or the file is any bytes. A load refuses it, or the text it gives can be gone on
// with; nothing may crash or read outside its memory, and everything is given back.
#include "hipattn/hipattn.hpp"

#include "offload/snapshot_layout.h"
#include "tests/fuzz/fuzz_check.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

namespace {

using hipattn::Engine;
using hipattn::Sequence;
using hipattn::offload::Checksum;
using hipattn::offload::SnapshotEnd;

constexpr size_t kPage = 4096;
constexpr uint32_t kLayers = 2;
constexpr uint32_t kRow = 8;
constexpr uint32_t kQHeads = 2;

Engine MakeEngine() {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_threads = 1;
  options.num_layers = kLayers;
  options.num_q_heads = kQHeads;
  options.num_kv_heads = 1;
  options.head_dim = kRow;
  options.kv_dtype = HIPATTN_F16;
  options.rope_mode = 1;
  options.rope_theta = 100.0F;
  options.trained_tokens = 1000;
  options.device_kv_bytes = uint64_t{4} << 20;
  return Engine(options);
}

std::vector<float> Numbers(size_t count) {
  std::vector<float> numbers(count);
  uint32_t state = 12345;
  for (float& number : numbers) {
    state = state * 1664525 + 1013904223;
    number = static_cast<float>(state >> 8) * 0x1p-23F - 1.0F;
  }
  return numbers;
}

// Steps of `count` rows in every layer.
hipattn_status_t Attend(Engine& engine, const Sequence& text, uint32_t count) {
  static const std::vector<float> rows = Numbers(size_t{256} * kQHeads * kRow);
  std::vector<float> out(size_t{count} * kQHeads * kRow);
  hipattn_sequence_t* const handle = text.get();
  hipattn_status_t status = HIPATTN_OK;
  for (uint32_t layer = 0; layer < kLayers && status == HIPATTN_OK; ++layer) {
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.layer = layer;
    args.num_sequences = 1;
    args.sequences = &handle;
    args.num_new_tokens = &count;
    args.q = rows.data();
    args.k = rows.data();
    args.v = rows.data();
    args.out = out.data();
    status = hipattn_attend(engine.get(), &args);
  }
  return status;
}

std::string SnapshotOf(uint32_t search) {
  Engine engine = MakeEngine();
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_SPARSE;
  options.search = search;
  options.budget_tokens = 32;
  options.sink_tokens = 16;
  options.window_tokens = 16;
  options.refresh_interval = search == HIPATTN_SEARCH_STAGED ? 0 : 5;
  options.rerank_tokens = search == HIPATTN_SEARCH_TREE ? 48 : 0;
  Sequence text(engine, options);
  FUZZ_CHECK(Attend(engine, text, 200) == HIPATTN_OK);
  FUZZ_CHECK(Attend(engine, text, 1) == HIPATTN_OK);
  FUZZ_CHECK(Attend(engine, text, 1) == HIPATTN_OK);
  const std::string path = (std::filesystem::temp_directory_path() /
                            ("hipattn_fuzz_snapshot_" + std::to_string(getpid())))
                               .string();
  text.Save(path, {});
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::filesystem::remove(path);
  return bytes;
}

const std::string& Good(uint32_t which) {
  static const std::string good[] = {SnapshotOf(HIPATTN_SEARCH_TREE),
                                     SnapshotOf(HIPATTN_SEARCH_STAGED),
                                     SnapshotOf(HIPATTN_SEARCH_BEAM)};
  return good[which % std::size(good)];
}

// Makes the sums and the end those of the pages.
void Resum(std::string* bytes) {
  const std::span<std::byte> file = std::as_writable_bytes(std::span(*bytes));
  const std::span<std::byte> last = file.last(kPage);
  SnapshotEnd end = {};
  std::memcpy(&end, last.data(), sizeof(end));
  for (size_t page = 0; page < end.data_pages; ++page) {
    const uint64_t sum = Checksum(file.subspan(page * kPage, kPage));
    std::memcpy(file.data() + end.data_pages * kPage + page * sizeof(sum), &sum, sizeof(sum));
  }
  const std::span<std::byte> sums = file.subspan(end.data_pages * kPage);
  end.sums_sum = Checksum(sums.first(sums.size() - kPage));
  std::memcpy(last.data(), &end, sizeof(end));
  const uint64_t sum = Checksum(last.first(kPage - sizeof(uint64_t)));
  std::memcpy(last.data() + kPage - sizeof(sum), &sum, sizeof(sum));
}

// The first bytes say what is done to which file.
std::string MakeFile(std::span<const uint8_t> input) {
  if (input.empty() || input[0] % 16 == 0) {
    return {input.begin(), input.end()};
  }
  std::string bytes = Good(input[0]);
  const bool summed = input[0] % 16 != 1;
  for (size_t i = 1; i + 4 <= input.size(); i += 4) {
    // Half of the changes are in the header and the state, where every byte matters.
    const size_t place = size_t{input[i]} << 8 | input[i + 1];
    const size_t within = input[i + 2] % 2 == 0 ? 3 * kPage : bytes.size();
    bytes[(place * 3 + input[i + 2] / 2) % within] = static_cast<char>(input[i + 3]);
  }
  if (summed) {
    Resum(&bytes);
  }
  return bytes;
}

void GoOn(Engine& engine, Sequence& text) {
  const auto fine = [](hipattn_status_t status) {
    return status == HIPATTN_OK || status == HIPATTN_OUT_OF_BUDGET || status == HIPATTN_UNSUPPORTED;
  };
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    (void)text.Selection(layer, 0);
    (void)text.Recall(layer, 1);
  }
  for (const uint32_t count : {1U, 1U, 40U, 1U}) {
    FUZZ_CHECK(fine(Attend(engine, text, count)));
  }
  if (text.length() > 10) {
    const Sequence fork = text.Fork(text.length() - 7);
    text.Truncate(text.length() - 9);
    FUZZ_CHECK(fine(Attend(engine, text, 1)));
    FUZZ_CHECK(fine(Attend(engine, fork, 1)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Engine engine = MakeEngine();
  const std::string bytes = MakeFile({data, size});
  const int file = memfd_create("snapshot", MFD_CLOEXEC);
  FUZZ_CHECK(write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  hipattn_sequence_t* handle = nullptr;
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  const hipattn_status_t status =
      hipattn_sequence_load(engine.get(), path.c_str(), nullptr, 0, &handle);
  hipattn_sequence_destroy(handle);
  if (status == HIPATTN_OK) {
    Sequence text = Sequence::Load(engine, path, {});
    GoOn(engine, text);
  } else {
    FUZZ_CHECK(status == HIPATTN_CORRUPT || status == HIPATTN_MISMATCH ||
               status == HIPATTN_OUT_OF_BUDGET);
  }
  close(file);
  FUZZ_CHECK(engine.Stats().device_bytes == 0);
  return 0;
}
