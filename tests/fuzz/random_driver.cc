// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Runs a libFuzzer target without libFuzzer, on any compiler.
//   <target> FILE...            replays files, as libFuzzer would
//   <target> --runs N [--seed S] [--bytes B] [--first R]   N random inputs of up to B bytes, the
//   first of them number R
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

// For the message of a run that fails.
unsigned long present_run = 0;
unsigned long present_seed = 0;

void SayWhichRun(int /*signal*/) {
  std::fprintf(stderr, "random input: --seed %lu, run %lu\n", present_seed, present_run);
}

bool Replay(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path);
    return false;
  }
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file),
                                std::istreambuf_iterator<char>()};
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  unsigned long runs = 0;
  unsigned long first = 0;
  unsigned long seed = 1;
  unsigned long most_bytes = 400;
  for (int i = 1; i < argc; ++i) {
    unsigned long* number = std::strcmp(argv[i], "--runs") == 0    ? &runs
                            : std::strcmp(argv[i], "--first") == 0 ? &first
                            : std::strcmp(argv[i], "--seed") == 0  ? &seed
                            : std::strcmp(argv[i], "--bytes") == 0 ? &most_bytes
                                                                   : nullptr;
    if (number == nullptr) {
      if (!Replay(argv[i])) {
        return 1;
      }
    } else if (++i < argc) {
      *number = std::strtoul(argv[i], nullptr, 10);
    }
  }
  present_seed = seed;
  std::signal(SIGABRT, SayWhichRun);
  for (unsigned long run = first; run < first + runs; ++run) {
    present_run = run;
    std::mt19937_64 random(seed * 1000003 + run);
    std::vector<uint8_t> bytes(random() % (most_bytes + 1));
    for (uint8_t& byte : bytes) {
      byte = static_cast<uint8_t>(random());
    }
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%lu random inputs\n", runs);
  return 0;
}
