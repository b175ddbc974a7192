// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn.hpp: hipattn.h for C++20. Handles that free themselves, errors as exceptions, arrays as
// spans whose lengths are checked. Header only; everything else, threads and streams included, is
// as hipattn.h says, and get() gives the C handle.
//
//   hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
//   options.num_layers = 30; options.num_q_heads = 9; options.num_kv_heads = 3; options.head_dim =
//   64; hipattn::Engine engine(options); hipattn::Sequence text(engine);
//   engine.Attend<float>(layer, text, {.q = q, .k = k, .v = v, .out = out});
#ifndef HIPATTN_HIPATTN_HPP_
#define HIPATTN_HIPATTN_HPP_

#include <hipattn/hipattn.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace hipattn {

// What every function below throws when the C function under it fails; what() names the status and
// says why.
class Error : public std::runtime_error {
 public:
  // `message` goes behind the status's name.
  Error(hipattn_status_t status, const std::string& message)
      : std::runtime_error(std::string(hipattn_status_name(status)) + ": " + message),
        status_(status) {}

  // What the C function returned.
  hipattn_status_t status() const noexcept { return status_; }

 private:
  hipattn_status_t status_;
};

// Throws Error unless `status`, of a C call that this thread has just made, is HIPATTN_OK.
inline void ThrowIfError(hipattn_status_t status) {
  if (status != HIPATTN_OK) {
    throw Error(status, hipattn_last_error_message());
  }
}

// Arrays of one attend call. T is float for F32, a 2-byte type for F16 and BF16. N is the sum of
// the new tokens.
template <typename T>
struct Tensors {
  std::span<const T> q;    // [N, num_q_heads, head_dim], or empty with out: append k and v only
  std::span<const T> k;    // [N, num_kv_heads, head_dim]
  std::span<const T> v;    // [N, num_kv_heads, head_dim]
  std::span<T> out;        // [N, num_q_heads, head_dim]
  std::span<float> lse{};  // [N, num_q_heads], or empty: not wanted
};

class Sequence;

// A hipattn_engine_t, destroyed with the object.
class Engine {
 public:
  // As hipattn_engine_create.
  explicit Engine(const hipattn_engine_options_t& options) {
    ThrowIfError(hipattn_engine_create(&options, &handle_));
    const hipattn_status_t status = hipattn_engine_get_options(handle_, &options_);
    if (status != HIPATTN_OK) {
      hipattn_engine_destroy(handle_);
      ThrowIfError(status);
    }
  }
  // Moving leaves nothing behind.
  Engine(Engine&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), options_(other.options_) {}
  // Swaps.
  Engine& operator=(Engine&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(options_, other.options_);
    return *this;
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() { hipattn_engine_destroy(handle_); }

  // The C handle; stays this object's.
  hipattn_engine_t* get() const noexcept { return handle_; }
  // With every default and AUTO replaced.
  const hipattn_engine_options_t& options() const noexcept { return options_; }

  // One call for all sequences of a batch; spans shorter than their shapes are
  // HIPATTN_INVALID_ARGUMENT.
  template <typename T>
  void Attend(uint32_t layer,
              std::span<hipattn_sequence_t* const> sequences,
              std::span<const uint32_t> num_new_tokens,
              const Tensors<T>& tensors,
              uint32_t phase = 0) {
    Require(sequences.size() == num_new_tokens.size() && sequences.size() <= UINT32_MAX,
            "sequences and num_new_tokens differ in length");
    uint64_t rows = 0;
    for (const uint32_t count : num_new_tokens) {
      rows += count;
    }
    CheckShapes(rows, tensors);
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.layer = layer;
    args.num_sequences = static_cast<uint32_t>(sequences.size());
    args.sequences = sequences.data();
    args.num_new_tokens = num_new_tokens.data();
    args.q = tensors.q.data();
    args.k = tensors.k.data();
    args.v = tensors.v.data();
    args.out = tensors.out.data();
    args.lse = tensors.lse.data();
    args.phase = phase;
    Attend(args);
  }

  // One sequence; the number of new tokens follows from the length of k.
  template <typename T>
  void Attend(uint32_t layer, Sequence& sequence, const Tensors<T>& tensors, uint32_t phase = 0);

  // Everything hipattn_attend can do.
  void Attend(const hipattn_attend_args_t& args) { ThrowIfError(hipattn_attend(handle_, &args)); }

  // (a) and (b) over disjoint keys into (o, lse); as hipattn_merge_states.
  void MergeStates(uint32_t head_dim,
                   std::span<const float> o_a,
                   std::span<const float> lse_a,
                   std::span<const float> o_b,
                   std::span<const float> lse_b,
                   std::span<float> o,
                   std::span<float> lse) {
    const size_t rows = lse.size();
    Require(lse_a.size() == rows && lse_b.size() == rows, "lse, lse_a and lse_b differ in length");
    Require(o.size() == rows * head_dim && o_a.size() == o.size() && o_b.size() == o.size(),
            "o, o_a or o_b is not rows * head_dim long");
    ThrowIfError(hipattn_merge_states(handle_,
                                      rows,
                                      head_dim,
                                      o_a.data(),
                                      lse_a.data(),
                                      o_b.data(),
                                      lse_b.data(),
                                      o.data(),
                                      lse.data(),
                                      nullptr));
  }

  // As hipattn_engine_cancel.
  void Cancel() noexcept { hipattn_engine_cancel(handle_); }
  // As hipattn_engine_synchronize.
  void Synchronize() { ThrowIfError(hipattn_engine_synchronize(handle_)); }
  // As hipattn_engine_stats.
  hipattn_stats_t Stats(bool reset = false) {
    hipattn_stats_t stats = HIPATTN_STATS_INIT;
    ThrowIfError(hipattn_engine_stats(handle_, &stats, reset ? 1 : 0));
    return stats;
  }

 private:
  static void Require(bool condition, const char* message) {
    if (!condition) {
      throw Error(HIPATTN_INVALID_ARGUMENT, message);
    }
  }

  template <typename T>
  void CheckShapes(uint64_t rows, const Tensors<T>& tensors) const {
    Require(sizeof(T) == (options_.io_dtype == HIPATTN_F32 ? 4 : 2),
            "T has not the size of io_dtype");
    const uint64_t q_size = rows * options_.num_q_heads * options_.head_dim;
    const uint64_t kv_size = rows * options_.num_kv_heads * options_.head_dim;
    Require(tensors.k.size() >= kv_size && tensors.v.size() >= kv_size, "k or v is too short");
    Require(tensors.q.size() >= q_size || tensors.q.empty(), "q is too short");
    Require(tensors.out.size() >= q_size || tensors.out.empty(), "out is too short");
    Require(tensors.lse.size() >= rows * options_.num_q_heads || tensors.lse.empty(),
            "lse is too short");
  }

  hipattn_engine_t* handle_ = nullptr;
  hipattn_engine_options_t options_ = HIPATTN_ENGINE_OPTIONS_INIT;
};

// A hipattn_sequence_t, destroyed with the object.
class Sequence {
 public:
  // With all defaults.
  explicit Sequence(Engine& engine) {
    ThrowIfError(hipattn_sequence_create(engine.get(), nullptr, &handle_));
  }
  // As hipattn_sequence_create.
  Sequence(Engine& engine, const hipattn_attention_options_t& options) {
    ThrowIfError(hipattn_sequence_create(engine.get(), &options, &handle_));
  }
  // Moving leaves nothing behind.
  Sequence(Sequence&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  // Swaps.
  Sequence& operator=(Sequence&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;
  ~Sequence() { hipattn_sequence_destroy(handle_); }

  // The C handle; stays this object's.
  hipattn_sequence_t* get() const noexcept { return handle_; }
  // Tokens that every layer has.
  uint64_t length() const noexcept { return hipattn_sequence_length(handle_); }

  // As hipattn_sequence_set_options.
  void SetOptions(const hipattn_attention_options_t& options) {
    ThrowIfError(hipattn_sequence_set_options(handle_, &options));
  }
  // As hipattn_sequence_reserve.
  void Reserve(uint64_t num_tokens) { ThrowIfError(hipattn_sequence_reserve(handle_, num_tokens)); }
  // As hipattn_sequence_truncate.
  void Truncate(uint64_t num_tokens) {
    ThrowIfError(hipattn_sequence_truncate(handle_, num_tokens));
  }

  // A copy of the first num_tokens tokens that shares full blocks.
  Sequence Fork(uint64_t num_tokens) const {
    hipattn_sequence_t* child = nullptr;
    ThrowIfError(hipattn_sequence_fork(handle_, num_tokens, &child));
    return Sequence(child);
  }

  // As hipattn_sequence_save.
  void Save(const std::string& path, std::span<const std::byte> fingerprint) {
    ThrowIfError(
        hipattn_sequence_save(handle_, path.c_str(), fingerprint.data(), fingerprint.size()));
  }
  // As hipattn_sequence_load.
  static Sequence Load(Engine& engine,
                       const std::string& path,
                       std::span<const std::byte> fingerprint) {
    hipattn_sequence_t* handle = nullptr;
    ThrowIfError(hipattn_sequence_load(
        engine.get(), path.c_str(), fingerprint.data(), fingerprint.size(), &handle));
    return Sequence(handle);
  }

  // Blocks that the last decode step of `layer` attended for `kv_head`, ascending.
  std::vector<int32_t> Selection(uint32_t layer, uint32_t kv_head) const {
    uint32_t count = 0;
    ThrowIfError(hipattn_sequence_selection(handle_, layer, kv_head, nullptr, 0, &count));
    std::vector<int32_t> blocks(count);
    ThrowIfError(hipattn_sequence_selection(handle_, layer, kv_head, blocks.data(), count, &count));
    return blocks;
  }

  // As hipattn_sequence_recall.
  hipattn_recall_t Recall(uint32_t layer, uint32_t q_head) const {
    hipattn_recall_t recall = HIPATTN_RECALL_INIT;
    ThrowIfError(hipattn_sequence_recall(handle_, layer, q_head, &recall));
    return recall;
  }

 private:
  explicit Sequence(hipattn_sequence_t* handle) : handle_(handle) {}

  hipattn_sequence_t* handle_ = nullptr;
};

template <typename T>
void Engine::Attend(uint32_t layer, Sequence& sequence, const Tensors<T>& tensors, uint32_t phase) {
  const size_t row = size_t{options_.num_kv_heads} * options_.head_dim;
  Require(tensors.k.size() % row == 0 && tensors.k.size() / row <= UINT32_MAX,
          "k is not whole tokens long");
  hipattn_sequence_t* const handle = sequence.get();
  const auto count = static_cast<uint32_t>(tensors.k.size() / row);
  Attend<T>(layer, {&handle, 1}, {&count, 1}, tensors, phase);
}

// Bytes that num_sequences texts of num_tokens would take; `attention` null = defaults.
inline hipattn_memory_need_t MemoryNeed(const hipattn_engine_options_t& options,
                                        const hipattn_attention_options_t* attention,
                                        uint64_t num_tokens,
                                        uint32_t num_sequences) {
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  ThrowIfError(hipattn_memory_need(&options, attention, num_tokens, num_sequences, &need));
  return need;
}

}  // namespace hipattn

#endif  // HIPATTN_HIPATTN_HPP_
