// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Times llama.cpp on the CPU: one decode step at any KV depth, a prefill chunk at that depth, and
// the prefill of a whole prompt. Prints one JSON object on stdout; `llama_depth --help` lists the
// options.
//
// Reaching depth D by prefill costs O(D^2). Here kSeedTokens real tokens are decoded, their KV rows
// are taken through llama.cpp's state interface, repeated up to row D and put back. The cost of an
// attention step does not depend on the values of the rows (apart from rescaling at a new maximum).
// Depths beyond the trained length give meaningless tokens; their times are what they would be.
//
// Wall time and CPU time (getrusage, all threads) are both recorded for every step: on a machine
// that is shared, the CPU time of a one-thread run is the better estimate of its quiet wall time.

#include "ggml.h"
#include "llama.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr uint32_t kSeedTokens =
    256;  // rows that are really computed; every deeper row repeats one
constexpr uint32_t kBatchTokens =
    2048;  // llama.cpp's default n_batch; also the room above the depth

struct Options {
  std::string model;
  std::vector<uint32_t> depths = {0};
  bool flash = false;
  ggml_type kv_type = GGML_TYPE_F16;
  int threads = 1;
  int steps = 16;              // timed decode steps at each depth, at least one
  double budget_s = 20;        // no further step starts at one depth after this many seconds
  uint32_t chunk_tokens = 0;   // prefill chunk timed at each depth; 0 = none
  uint32_t prompt_tokens = 0;  // whole prompt timed from an empty cache; 0 = none
  uint32_t ubatch_tokens = 512;
};

constexpr const char* kUsage =
    "usage: llama_depth --model FILE [options]\n"
    "  --depths N,N,...   KV depths of the timed decode steps (0)\n"
    "  --flash on|off     flash attention (off)\n"
    "  --kv-type T        f32, f16, bf16, q8_0 or q4_0 (f16)\n"
    "  --threads N        (1)\n"
    "  --steps N          timed decode steps per depth; 0 = none (16)\n"
    "  --budget SECONDS   no further step starts after this time at one depth (20)\n"
    "  --chunk N          also time a prefill chunk of N tokens at each depth\n"
    "  --prompt N         also time the prefill of a whole prompt of N tokens\n"
    "  --ubatch N         llama.cpp's n_ubatch (512)\n";

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "llama_depth: %s\n", message.c_str());
  std::exit(1);
}

// ---------------------------------------------------------------------------------------- options

uint32_t ParseCount(std::string_view text, const std::string& option) {
  uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc() || stop != end) {
    Die(option + ": not a number: '" + std::string(text) + "'");
  }
  return value;
}

std::vector<uint32_t> ParseCounts(std::string_view text, const std::string& option) {
  std::vector<uint32_t> values;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(ParseCount(text.substr(begin, end - begin), option));
    begin = end + 1;
  }
  return values;
}

ggml_type ParseType(std::string_view text) {
  for (const ggml_type type :
       {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0}) {
    if (text == ggml_type_name(type)) {
      return type;
    }
  }
  Die("--kv-type: unknown type '" + std::string(text) + "'");
}

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (i + 1 == argc) {
      Die(name + ": a value is missing\n" + kUsage);
    }
    const std::string value = argv[++i];
    if (name == "--model") {
      options.model = value;
    } else if (name == "--depths") {
      options.depths = ParseCounts(value, name);
    } else if (name == "--flash" && (value == "on" || value == "off")) {
      options.flash = value == "on";
    } else if (name == "--kv-type") {
      options.kv_type = ParseType(value);
    } else if (name == "--threads") {
      options.threads = static_cast<int>(ParseCount(value, name));
    } else if (name == "--steps") {
      options.steps = static_cast<int>(ParseCount(value, name));
    } else if (name == "--budget") {
      options.budget_s = ParseCount(value, name);
    } else if (name == "--chunk") {
      options.chunk_tokens = ParseCount(value, name);
    } else if (name == "--prompt") {
      options.prompt_tokens = ParseCount(value, name);
    } else if (name == "--ubatch") {
      options.ubatch_tokens = ParseCount(value, name);
    } else {
      Die("unknown option " + name + " " + value + "\n" + kUsage);
    }
  }
  if (options.model.empty() || options.threads < 1 || options.chunk_tokens > kBatchTokens) {
    Die("--model is required, --threads is at least 1, --chunk at most 2048");
  }
  return options;
}

// ----------------------------------------------------------------------------------------- timing

double WallSeconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Timing {
  std::vector<double> wall_ms;
  std::vector<double> cpu_ms;

  void Measure(const std::function<void()>& step) {
    const double wall = WallSeconds();
    const double cpu = CpuSeconds();
    step();
    wall_ms.push_back(1e3 * (WallSeconds() - wall));
    cpu_ms.push_back(1e3 * (CpuSeconds() - cpu));
  }
};

// --------------------------------------------------------------------- state of a sequence, by
// rows

class StateReader {
 public:
  explicit StateReader(const std::vector<uint8_t>& bytes) : bytes_(bytes) {}

  template <typename T>
  T Get() {
    T value;
    std::memcpy(&value, Take(sizeof value), sizeof value);
    return value;
  }

  const uint8_t* Take(size_t size) {
    if (size > bytes_.size() - position_) {
      Die("the state is shorter than its own description: another llama.cpp format?");
    }
    position_ += size;
    return bytes_.data() + position_ - size;
  }

  bool AtEnd() const { return position_ == bytes_.size(); }

 private:
  const std::vector<uint8_t>& bytes_;
  size_t position_ = 0;
};

class StateWriter {
 public:
  explicit StateWriter(size_t reserve) { bytes_.reserve(reserve); }

  template <typename T>
  T Put(T value) {
    Append(reinterpret_cast<const uint8_t*>(&value), sizeof value);
    return value;
  }

  void Append(const uint8_t* data, size_t size) { bytes_.insert(bytes_.end(), data, data + size); }

  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// Copies `seed_rows` rows of `row_bytes` each, repeated until there are `rows` of them.
void RepeatRows(
    StateReader& in, StateWriter& out, uint32_t seed_rows, uint32_t rows, size_t row_bytes) {
  const uint8_t* seed = in.Take(seed_rows * row_bytes);
  for (uint32_t row = 0; row < rows; row += seed_rows) {
    out.Append(seed, std::min(seed_rows, rows - row) * row_bytes);
  }
}

// The state of one sequence of `rows` tokens made from that of a short one. Layout
// (llama-kv-cache.cpp, state_write_meta and state_write_data): magic, sequence, streams, cells,
// then (position, sequence list) per cell, whether V is transposed, layers; per layer the K rows;
// per layer the V rows, or with flash attention off one row of elements per V channel.
std::vector<uint8_t> RepeatState(const std::vector<uint8_t>& seed, uint32_t rows) {
  StateReader in(seed);
  StateWriter out(seed.size() / kSeedTokens * rows + seed.size());
  out.Put(in.Get<uint32_t>());  // magic
  out.Put(in.Get<int32_t>());   // sequence
  out.Put(in.Get<uint32_t>());  // streams
  const auto seed_rows = in.Get<uint32_t>();
  if (seed_rows != kSeedTokens) {
    Die("the state does not hold one cell per decoded token");
  }
  out.Put(rows);
  for (uint32_t row = 0; row < seed_rows; ++row) {
    in.Get<int32_t>();  // position
    in.Take(in.Get<uint32_t>() * sizeof(int32_t));
  }
  for (uint32_t row = 0; row < rows; ++row) {
    out.Put(static_cast<int32_t>(row));
    out.Put(uint32_t{1});
    out.Put(int32_t{0});
  }
  const bool v_transposed = out.Put(in.Get<uint32_t>()) != 0;
  const auto layers = out.Put(in.Get<uint32_t>());
  for (uint32_t layer = 0; layer < layers; ++layer) {
    out.Put(in.Get<int32_t>());  // type
    RepeatRows(in, out, seed_rows, rows, out.Put(in.Get<uint64_t>()));
  }
  for (uint32_t layer = 0; layer < layers; ++layer) {
    out.Put(in.Get<int32_t>());  // type
    if (!v_transposed) {
      RepeatRows(in, out, seed_rows, rows, out.Put(in.Get<uint64_t>()));
      continue;
    }
    const auto element_bytes = out.Put(in.Get<uint32_t>());
    const auto channels = out.Put(in.Get<uint32_t>());
    for (uint32_t channel = 0; channel < channels; ++channel) {
      RepeatRows(in, out, seed_rows, rows, element_bytes);
    }
  }
  if (!in.AtEnd()) {
    Die("bytes are left over in the state: another llama.cpp format?");
  }
  return out.bytes();
}

// ----------------------------------------------------------------------------------------
// llama.cpp

class Peer {
 public:
  Peer(llama_model* model, const Options& options, uint32_t context_tokens)
      : vocab_tokens_(llama_vocab_n_tokens(llama_model_get_vocab(model))),
        batch_(llama_batch_init(static_cast<int32_t>(kBatchTokens), 0, 1)) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = context_tokens;
    params.n_batch = kBatchTokens;
    params.n_ubatch = options.ubatch_tokens;
    params.n_seq_max = 1;
    params.n_threads = params.n_threads_batch = options.threads;
    params.flash_attn_type =
        options.flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = options.kv_type;
    params.no_perf = true;
    context_.reset(llama_init_from_model(model, params));
    if (context_ == nullptr) {
      Die("llama.cpp refused the context (quantised V needs --flash on)");
    }
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() { llama_batch_free(batch_); }

  // Appends `count` tokens at `position`; only the last one asks for logits.
  void Decode(uint32_t count, uint32_t position) {
    while (count > 0) {
      const uint32_t part = std::min(count, kBatchTokens);
      batch_.n_tokens = static_cast<int32_t>(part);
      for (uint32_t i = 0; i < part; ++i) {
        const uint32_t token = (position + i) * 7919U % static_cast<uint32_t>(vocab_tokens_);
        batch_.token[i] = static_cast<llama_token>(token);
        batch_.pos[i] = static_cast<llama_pos>(position + i);
        batch_.n_seq_id[i] = 1;
        batch_.seq_id[i][0] = 0;
        batch_.logits[i] = static_cast<int8_t>(i + 1 == count);
      }
      if (llama_decode(context_.get(), batch_) != 0) {
        Die("llama_decode failed at position " + std::to_string(position));
      }
      position += part;
      count -= part;
    }
    llama_synchronize(context_.get());
  }

  // Forgets everything from `position` on.
  void Truncate(uint32_t position) {
    llama_memory_seq_rm(llama_get_memory(context_.get()), 0, static_cast<llama_pos>(position), -1);
  }

  // Fills the cache with `rows` tokens without computing them.
  void Fill(uint32_t rows) {
    Decode(kSeedTokens, 0);
    std::vector<uint8_t> seed(llama_state_seq_get_size(context_.get(), 0));
    if (llama_state_seq_get_data(context_.get(), seed.data(), seed.size(), 0) != seed.size()) {
      Die("llama_state_seq_get_data failed");
    }
    Truncate(0);
    const std::vector<uint8_t> full = RepeatState(seed, rows);
    if (llama_state_seq_set_data(context_.get(), full.data(), full.size(), 0) != full.size()) {
      Die("llama_state_seq_set_data failed at " + std::to_string(rows) + " rows");
    }
  }

 private:
  struct FreeContext {
    void operator()(llama_context* context) const { llama_free(context); }
  };

  int32_t vocab_tokens_;
  llama_batch batch_;
  std::unique_ptr<llama_context, FreeContext> context_;
};

// -------------------------------------------------------------------------------------------
// output

void PrintList(const char* name, const std::vector<double>& values) {
  std::printf(", \"%s\": [", name);
  for (size_t i = 0; i < values.size(); ++i) {
    std::printf("%s%.4f", i == 0 ? "" : ", ", values[i]);
  }
  std::printf("]");
}

// Prints one entry of "results"; the separator goes before every entry but the first.
void PrintResult(const char* kind, uint32_t depth, uint32_t tokens, const Timing& timing) {
  static bool first = true;
  std::printf("%s\n  {\"kind\": \"%s\", \"depth\": %u, \"tokens\": %u",
              first ? "" : ",",
              kind,
              depth,
              tokens);
  PrintList("wall_ms", timing.wall_ms);
  PrintList("cpu_ms", timing.cpu_ms);
  std::printf("}");
  std::fflush(stdout);
  first = false;
}

void MeasureDepth(llama_model* model, const Options& options, uint32_t depth) {
  Peer peer(model, options, depth + kBatchTokens);
  if (depth > 0) {
    peer.Fill(depth);
  }
  peer.Decode(1, depth);  // warm-up
  if (options.steps > 0) {
    Timing decode;
    const double end = WallSeconds() + options.budget_s;
    for (int i = 0; i < options.steps && (i == 0 || WallSeconds() < end); ++i) {
      peer.Truncate(depth);
      decode.Measure([&] { peer.Decode(1, depth); });
    }
    PrintResult("decode", depth, 1, decode);
  }
  if (options.chunk_tokens > 0) {
    Timing chunk;
    peer.Truncate(depth);
    chunk.Measure([&] { peer.Decode(options.chunk_tokens, depth); });
    PrintResult("chunk", depth, options.chunk_tokens, chunk);
  }
}

void MeasurePrompt(llama_model* model, const Options& options) {
  Peer peer(model, options, options.prompt_tokens + kSeedTokens);
  peer.Decode(kSeedTokens, 0);  // warm-up
  peer.Truncate(0);
  Timing prompt;
  prompt.Measure([&] { peer.Decode(options.prompt_tokens, 0); });
  PrintResult("prompt", 0, options.prompt_tokens, prompt);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_ERROR) {
          std::fputs(text, stderr);
        }
      },
      nullptr);
  llama_backend_init();
  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(options.model.c_str(), llama_model_default_params()),
      &llama_model_free);
  if (model == nullptr) {
    Die("cannot load " + options.model);
  }
  std::printf("{\"program\": \"llama.cpp\", \"version\": \"%s, ggml %s\", \"system\": \"%s\",\n",
              llama_version(),
              ggml_version(),
              llama_print_system_info());
  std::printf(" \"threads\": %d, \"flash\": %s, \"kv_type\": \"%s\", \"results\": [",
              options.threads,
              options.flash ? "true" : "false",
              ggml_type_name(options.kv_type));
  for (const uint32_t depth : options.depths) {
    MeasureDepth(model.get(), options, depth);
  }
  if (options.prompt_tokens > 0) {
    MeasurePrompt(model.get(), options);
  }
  std::printf("\n]}\n");
  return 0;
}
