// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Plays a byte string as calls of the C API, good and bad ones, on a few sequences of one engine,
// beside a naive model of every text. After every call: status, lengths and outputs must be what
// the model says. An engine may be small, so OUT_OF_BUDGET may come at any time and must change
// nothing.
#include "hipattn/hipattn.h"

#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/prefill_modes.h"
#include "tests/support/naive_model.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace {

using hipattn::test::Geometry;
using hipattn::test::MakeRows;
using hipattn::test::NaiveLayer;
using hipattn::test::NaiveResult;
using hipattn::test::RelativeError;
using hipattn::test::Rows;

constexpr uint64_t kMostTokens = 700;  // of a text, so that the model stays quick
constexpr size_t kMostSequences = 5;
constexpr uint32_t kPicks = 3;  // external blocks per kv head

// The input, byte by byte; zeros after its end.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return at_ >= size_; }
  uint32_t Next() { return at_ < size_ ? data_[at_++] : 0; }
  uint32_t Below(uint32_t limit) { return Next() % limit; }
  // Small numbers mostly, now and then any.
  uint32_t Number() {
    const uint32_t kind = Next();
    if (kind < 200) {
      return kind % 8 * Next();
    }
    return Next() << 24 | Next() << 16 | Next() << 8 | Next();
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
};

// In memory where there is a folder for that.
std::string SnapshotPath() {
  const std::filesystem::path memory("/dev/shm");
  return ((std::filesystem::is_directory(memory) ? memory
                                                 : std::filesystem::temp_directory_path()) /
          ("hipattn_fuzz_api_" + std::to_string(getpid())))
      .string();
}

struct Text {
  hipattn_sequence_t* handle = nullptr;
  hipattn_attention_options_t options{};
  std::vector<NaiveLayer> layers;
  uint32_t seed = 0;

  uint64_t length() const {
    uint64_t length = UINT64_MAX;
    for (const NaiveLayer& layer : layers) {
      length = std::min(length, layer.length());
    }
    return length;
  }
};

// One sequence's share of an attend call.
struct Part {
  Text* text;
  uint32_t count;
};

class Player {
 public:
  Player(const uint8_t* data, size_t size) : bytes_(data, size) {}
  ~Player() {
    for (const auto& text : texts_) {
      hipattn_sequence_destroy(text->handle);
    }
    if (engine_ != nullptr) {
      hipattn_stats_t stats = HIPATTN_STATS_INIT;
      FUZZ_CHECK(hipattn_engine_stats(engine_, &stats, 1) == HIPATTN_OK);
      FUZZ_CHECK(stats.device_bytes == 0);
      hipattn_engine_destroy(engine_);
    }
  }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  void Play() {
    Setup();
    while (!bytes_.empty()) {
      switch (bytes_.Below(16)) {
        case 0:
          CreateSequence();
          break;
        case 1:
          Fork();
          break;
        case 2:
          Truncate();
          break;
        case 3:
          Reserve();
          break;
        case 4:
          Destroy();
          break;
        case 5:
          SetOptions();
          break;
        case 6:
          Query();
          break;
        case 7:
          WrongCall();
          break;
        case 8:
          RawStructs();
          break;
        case 9:
          SaveAndLoad();
          break;
        default:
          Attend();
      }
      for (const auto& text : texts_) {
        FUZZ_CHECK(hipattn_sequence_length(text->handle) == text->length());
      }
    }
  }

 private:
  void Setup() {
    const Geometry shapes[] = {{2, 1, 64}, {4, 2, 16}, {3, 3, 80}, {8, 1, 8}};
    geometry_ = shapes[bytes_.Below(4)];
    hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
    options.num_threads = 1;
    options.num_layers = num_layers_ = 1 + bytes_.Below(2);
    options.num_q_heads = geometry_.q_heads;
    options.num_kv_heads = geometry_.kv_heads;
    options.head_dim = geometry_.head_dim;
    options.block_tokens = block_tokens_ = 16U << bytes_.Below(3);
    options.kv_dtype = HIPATTN_F32;
    options.rope_mode = bytes_.Below(3);
    options.rope_theta = 10000.0F;
    options.device_kv_bytes = uint64_t{1} << (16 + bytes_.Below(10));
    naive_ = {.geometry = geometry_, .rope_mode = options.rope_mode, .rope_theta = 10000.0};
    FUZZ_CHECK(hipattn_engine_create(&options, &engine_) == HIPATTN_OK);
    CreateSequence();
  }

  hipattn_attention_options_t RandomOptions() {
    hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
    options.decode_mode = bytes_.Below(3);
    options.search = bytes_.Below(5);
    options.scorer =
        options.search == HIPATTN_SEARCH_STAGED || options.search == HIPATTN_SEARCH_BEAM
            ? 0
            : bytes_.Below(8);
    const bool tree =
        options.search != HIPATTN_SEARCH_STAGED && options.search != HIPATTN_SEARCH_BEAM;
    hipattn::test::RandomPrefill([&] { return bytes_.Next(); }, tree, &options);
    options.budget_tokens = 64 * (1 + bytes_.Below(4));
    options.sink_tokens = bytes_.Below(3) == 0 ? HIPATTN_NONE : bytes_.Next();
    options.window_tokens = block_tokens_ + 63 + bytes_.Next();
    options.refresh_interval = options.search == HIPATTN_SEARCH_STAGED ? 0 : bytes_.Below(5);
    options.dense_up_to_tokens = bytes_.Next() * 2;
    const bool estimates =
        tree && (options.scorer == 0 || options.scorer == HIPATTN_SCORER_CUBOID_MEAN);
    options.min_recall = estimates && bytes_.Below(4) == 0 ? 0.9F : 0.0F;
    options.verify_recall = bytes_.Below(2);
    const bool sketches = tree && options.scorer != HIPATTN_SCORER_EXACT;
    const uint32_t rerank = bytes_.Below(4);
    options.rerank_tokens = rerank == 0                ? HIPATTN_NONE
                            : rerank == 1 || !sketches ? 0
                                                       : options.budget_tokens + 64 * (rerank - 2);
    return options;
  }

  Text* Pick() {
    return texts_.empty() ? nullptr
                          : texts_[bytes_.Below(static_cast<uint32_t>(texts_.size()))].get();
  }

  void CreateSequence() {
    if (texts_.size() == kMostSequences) {
      return;
    }
    auto text = std::make_unique<Text>();
    text->options = RandomOptions();
    text->seed = next_seed_++;
    text->layers.assign(num_layers_, NaiveLayer(naive_));
    FUZZ_CHECK(hipattn_sequence_create(engine_, &text->options, &text->handle) == HIPATTN_OK);
    texts_.push_back(std::move(text));
  }

  void Fork() {
    Text* parent = Pick();
    if (parent == nullptr || texts_.size() == kMostSequences) {
      return;
    }
    const uint64_t tokens = bytes_.Number() % (parent->length() + 3);
    auto* const unset = reinterpret_cast<hipattn_sequence_t*>(uintptr_t{8});
    hipattn_sequence_t* handle = unset;
    const hipattn_status_t status = hipattn_sequence_fork(parent->handle, tokens, &handle);
    if (tokens > parent->length()) {
      FUZZ_CHECK(status == HIPATTN_INVALID_ARGUMENT);
    }
    if (status != HIPATTN_OK) {
      FUZZ_CHECK(handle == unset);
      FUZZ_CHECK(tokens > parent->length() || status == HIPATTN_OUT_OF_BUDGET);
      return;
    }
    auto child = std::make_unique<Text>(*parent);
    child->handle = handle;
    for (NaiveLayer& layer : child->layers) {
      layer.Truncate(tokens);
    }
    texts_.push_back(std::move(child));
  }

  void Truncate() {
    Text* text = Pick();
    if (text == nullptr) {
      return;
    }
    const uint64_t tokens = bytes_.Number() % (text->length() + 3);
    const hipattn_status_t status = hipattn_sequence_truncate(text->handle, tokens);
    FUZZ_CHECK(status == (tokens > text->length() ? HIPATTN_INVALID_ARGUMENT : HIPATTN_OK));
    if (status == HIPATTN_OK) {
      for (NaiveLayer& layer : text->layers) {
        layer.Truncate(tokens);
      }
    }
  }

  void Reserve() {
    Text* text = Pick();
    if (text != nullptr) {
      const hipattn_status_t status =
          hipattn_sequence_reserve(text->handle, bytes_.Number() % 5000);
      FUZZ_CHECK(status == HIPATTN_OK || status == HIPATTN_OUT_OF_BUDGET);
    }
  }

  // The text goes on from its snapshot, when there is room for both.
  void SaveAndLoad() {
    Text* text = Pick();
    if (text == nullptr || bytes_.Below(2) == 0) {  // files take their time
      return;
    }
    const std::string path = SnapshotPath();
    FUZZ_CHECK(hipattn_sequence_save(text->handle, path.c_str(), &text->seed, 4) == HIPATTN_OK);
    hipattn_sequence_t* loaded = nullptr;
    const hipattn_status_t status =
        hipattn_sequence_load(engine_, path.c_str(), &text->seed, 4, &loaded);
    std::filesystem::remove(path);
    FUZZ_CHECK((loaded != nullptr) == (status == HIPATTN_OK));
    FUZZ_CHECK(status == HIPATTN_OK || status == HIPATTN_OUT_OF_BUDGET);
    if (status == HIPATTN_OK) {
      hipattn_sequence_destroy(text->handle);
      text->handle = loaded;
    }
  }

  void Destroy() {
    if (!texts_.empty()) {
      const uint32_t i = bytes_.Below(static_cast<uint32_t>(texts_.size()));
      hipattn_sequence_destroy(texts_[i]->handle);
      texts_.erase(texts_.begin() + i);
    }
  }

  void SetOptions() {
    Text* text = Pick();
    if (text == nullptr) {
      return;
    }
    hipattn_attention_options_t options = RandomOptions();
    const hipattn_status_t status = hipattn_sequence_set_options(text->handle, &options);
    FUZZ_CHECK(status == HIPATTN_OK || status == HIPATTN_INVALID_ARGUMENT ||
               status == HIPATTN_OUT_OF_BUDGET);  // a reservation that is to hold more summaries
    if (status == HIPATTN_OK) {
      text->options = options;
    }
  }

  void Query() {
    Text* text = Pick();
    if (text == nullptr) {
      return;
    }
    const uint32_t layer = bytes_.Below(3);
    const uint32_t head = bytes_.Below(9);
    std::vector<int32_t> blocks(bytes_.Below(64), -1);
    uint32_t count = 0;
    const hipattn_status_t status = hipattn_sequence_selection(
        text->handle, layer, head, blocks.data(), static_cast<uint32_t>(blocks.size()), &count);
    FUZZ_CHECK(
        status ==
        (layer < num_layers_ && head < geometry_.kv_heads ? HIPATTN_OK : HIPATTN_INVALID_ARGUMENT));
    for (size_t i = 0; i < std::min<size_t>(count, blocks.size()); ++i) {
      FUZZ_CHECK(blocks[i] >= 0 &&
                 static_cast<uint64_t>(blocks[i]) * block_tokens_ < text->layers[layer].length());
      FUZZ_CHECK(i == 0 || blocks[i] > blocks[i - 1]);
    }
    hipattn_recall_t recall = HIPATTN_RECALL_INIT;
    const hipattn_status_t recall_status =
        hipattn_sequence_recall(text->handle, layer, head, &recall);
    FUZZ_CHECK(
        recall_status ==
        (layer < num_layers_ && head < geometry_.q_heads ? HIPATTN_OK : HIPATTN_INVALID_ARGUMENT));
    if (recall_status == HIPATTN_OK) {
      FUZZ_CHECK(std::isnan(recall.estimate) ||
                 (recall.estimate >= 0.0F && recall.estimate <= 1.0001F));
      FUZZ_CHECK(std::isnan(recall.truth) || (recall.truth >= 0.0F && recall.truth <= 1.0001F));
    }
  }

  // A call for up to three sequences in one layer, with every array in place.
  struct Call {
    std::vector<Part> parts;
    std::vector<hipattn_sequence_t*> handles;
    std::vector<uint32_t> counts;
    std::unique_ptr<Rows> rows;
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  };

  Call MakeCall() {
    Call call;
    const uint32_t layer = bytes_.Below(num_layers_);
    uint64_t total = 0;
    for (uint32_t wanted = 1 + bytes_.Below(3), first = bytes_.Next(), i = 0;
         i < wanted && i < texts_.size();
         ++i) {
      Text* text = texts_[(first + i) % texts_.size()].get();
      const uint32_t kind = bytes_.Below(4);
      const uint32_t count = kind == 0 ? 1 + bytes_.Next() : kind == 1 ? 1 + bytes_.Below(8) : 1;
      if (text->layers[layer].length() + count > kMostTokens) {
        continue;
      }
      call.parts.push_back({text, count});
      call.handles.push_back(text->handle);
      call.counts.push_back(count);
      total += count;
    }
    call.rows = std::make_unique<Rows>(geometry_, total);
    uint64_t row = 0;
    for (const Part& part : call.parts) {
      const Rows rows = MakeRows(
          geometry_, part.text->seed, layer, part.text->layers[layer].length(), part.count);
      std::copy_n(rows.q.data(), rows.q.size(), call.rows->q.data() + row * geometry_.q_row());
      std::copy_n(rows.k.data(), rows.k.size(), call.rows->k.data() + row * geometry_.kv_row());
      std::copy_n(rows.v.data(), rows.v.size(), call.rows->v.data() + row * geometry_.kv_row());
      row += part.count;
    }
    call.args.layer = layer;
    call.args.num_sequences = static_cast<uint32_t>(call.parts.size());
    call.args.sequences = call.handles.data();
    call.args.num_new_tokens = call.counts.data();
    call.args.k = call.rows->k.data();
    call.args.v = call.rows->v.data();
    call.args.phase = bytes_.Below(3);
    if (bytes_.Below(6) != 0) {
      call.args.q = call.rows->q.data();
      call.args.out = call.rows->out.data();
      call.args.lse = call.rows->lse.data();
    }
    return call;
  }

  static bool Untouched(const Rows& rows) {
    const auto unset = [](float x) { return x == Rows::kUnset; };
    return std::all_of(rows.out.data(), rows.out.data() + rows.out.size(), unset) &&
           std::all_of(rows.lse.data(), rows.lse.data() + rows.lse.size(), unset);
  }

  void Attend() {
    Call call = MakeCall();
    if (call.parts.empty()) {
      return;
    }
    const std::vector<int32_t> picks = AddExternalBlocks(&call);
    const hipattn_status_t status = hipattn_attend(engine_, &call.args);
    if (status != HIPATTN_OK) {
      FUZZ_CHECK(status == HIPATTN_OUT_OF_BUDGET);
      FUZZ_CHECK(Untouched(*call.rows));
      return;
    }
    uint64_t row = 0;
    for (size_t i = 0; i < call.parts.size(); ++i) {
      const Part& part = call.parts[i];
      NaiveLayer& layer = part.text->layers[call.args.layer];
      layer.Append(call.rows->k.data() + row * geometry_.kv_row(),
                   call.rows->v.data() + row * geometry_.kv_row(),
                   part.count);
      if (!picks.empty()) {
        CheckExternalRow(call, picks, i, row + part.count - 1);
      } else if (call.args.q != nullptr) {
        const bool decode = call.args.phase == 1 || (call.args.phase == 0 && part.count == 1);
        CheckRow(*part.text, layer, *call.rows, row, layer.length() - part.count, decode);
        CheckRow(*part.text, layer, *call.rows, row + part.count - 1, layer.length() - 1, decode);
      }
      row += part.count;
    }
  }

  // Now and then a call whose rows are all decode steps brings its own blocks: [part][kv head][3].
  std::vector<int32_t> AddExternalBlocks(Call* call) {
    const bool one_each = std::all_of(
        call->counts.begin(), call->counts.end(), [](uint32_t count) { return count == 1; });
    const bool decode = call->args.phase == 1 || (call->args.phase == 0 && one_each);
    std::vector<int32_t> picks;
    if (!decode || call->args.q == nullptr || bytes_.Below(4) != 0) {
      return picks;
    }
    for (const Part& part : call->parts) {
      const uint64_t length = part.text->layers[call->args.layer].length();
      const auto blocks = static_cast<uint32_t>(length / block_tokens_ + 1);
      for (uint32_t i = 0; i < geometry_.kv_heads * kPicks; ++i) {
        picks.push_back(static_cast<int32_t>(bytes_.Below(blocks + 1)) - 1);
      }
    }
    external_ = picks;
    call->args.external_blocks = external_.data();
    call->args.num_external = kPicks;
    return picks;
  }

  // Sinks, window and the given blocks, nothing else.
  void CheckExternalRow(const Call& call,
                        const std::vector<int32_t>& picks,
                        size_t part_index,
                        uint64_t row) {
    const Part& part = call.parts[part_index];
    const hipattn_attention_options_t& o = part.text->options;
    const NaiveLayer& layer = part.text->layers[call.args.layer];
    const uint64_t position = layer.length() - 1;
    const uint64_t sinks = SinksOf(o);
    const NaiveResult want = layer.Attend(
        call.rows->q.data() + row * geometry_.q_row(), position, [&](uint32_t head, uint64_t t) {
          const auto* first = &picks[(part_index * geometry_.kv_heads + head) * kPicks];
          return t < sinks || t + o.window_tokens > position ||
                 std::find(first, first + kPicks, static_cast<int32_t>(t / block_tokens_)) !=
                     first + kPicks;
        });
    const float* out = call.rows->out.data() + row * geometry_.q_row();
    FUZZ_CHECK(RelativeError(out, want.out, geometry_.head_dim) <= 2e-5);
  }

  static uint64_t SinksOf(const hipattn_attention_options_t& options) {
    const uint32_t sinks = options.sink_tokens;
    return sinks == HIPATTN_NONE ? 0 : sinks == 0 ? 128 : sinks;
  }

  // The output of a row at `position`: dense where it must be, else a part of dense attention that
  // holds at least the window.
  void CheckRow(const Text& text,
                const NaiveLayer& layer,
                const Rows& rows,
                uint64_t row,
                uint64_t position,
                bool decode) {
    const float* out = rows.out.data() + row * geometry_.q_row();
    const float* lse = rows.lse.data() + row * geometry_.q_heads;
    const float* q = rows.q.data() + row * geometry_.q_row();
    const hipattn_attention_options_t& o = text.options;
    if (!decode && hipattn::test::IsMaskedMode(o.prefill_mode)) {
      FUZZ_CHECK(hipattn::test::IsMaskedRow(geometry_, layer, o, position, q, out, lse));
      return;
    }
    const NaiveResult all = layer.AttendAll(q, position);
    const uint64_t sinks = SinksOf(o);
    const bool always_dense =
        decode ? o.decode_mode == HIPATTN_DECODE_DENSE : o.prefill_mode != HIPATTN_PREFILL_HIP;
    // A HiP prefill searches once for the rows of an aligned block of 64, over its last row's
    // range.
    const uint64_t searched = decode ? position : position | 63;
    const bool covered = searched + 1 <= sinks + o.window_tokens + o.budget_tokens;
    if (always_dense || covered) {
      FUZZ_CHECK(RelativeError(out, all.out, geometry_.head_dim) <= 2e-5);
      for (uint32_t h = 0; h < geometry_.q_heads; ++h) {
        FUZZ_CHECK(std::abs(lse[h] - all.lse[h]) <= 2e-5 * std::max(1.0, std::abs(all.lse[h])));
      }
      return;
    }
    const NaiveResult window = layer.Attend(q, position, [&](uint32_t, uint64_t t) {
      return t < sinks || t + o.window_tokens > position;
    });
    for (uint32_t h = 0; h < geometry_.q_heads; ++h) {
      FUZZ_CHECK(lse[h] <= all.lse[h] + 1e-4 && lse[h] >= window.lse[h] - 1e-4);
      for (uint32_t d = 0; d < geometry_.head_dim; ++d) {
        FUZZ_CHECK(std::abs(out[h * geometry_.head_dim + d]) <= hipattn::test::OutBound(o));
      }
    }
  }

  // An attend call with one thing wrong.
  void WrongCall() {
    Call call = MakeCall();
    if (call.parts.empty()) {
      return;
    }
    hipattn_attend_args_t& a = call.args;
    a.q = call.rows->q.data();
    a.out = call.rows->out.data();
    const std::vector<int32_t> picks(3 * 3 * 2, 1 << 20);
    switch (bytes_.Below(14)) {
      case 0:
        a.layer = num_layers_ + bytes_.Next();
        break;
      case 1:
        a.num_sequences = 0;
        break;
      case 2:
        a.sequences = nullptr;
        break;
      case 3:
        call.handles[0] = nullptr;
        break;
      case 4:
        call.counts[0] = 0;
        break;
      case 5:
        a.k = nullptr;
        break;
      case 6:
        a.v = call.rows->v.data() + 1;
        break;
      case 7:
        a.out = call.rows->q.data();
        break;
      case 8:
        a.phase = 3 + bytes_.Next();
        break;
      case 9:
        a.stream = &call;
        break;
      case 10:
        a.external_blocks = picks.data();
        a.num_external = 2;
        break;
      case 11:
        call.handles.push_back(call.handles[0]);
        call.counts.push_back(1);
        a.sequences = call.handles.data();
        a.num_new_tokens = call.counts.data();
        a.num_sequences = static_cast<uint32_t>(call.handles.size());
        break;
      case 12:
        a.struct_size = bytes_.Next() % 8;
        break;
      default:
        call.counts[0] = UINT32_MAX - bytes_.Next();
    }
    FUZZ_CHECK(hipattn_attend(engine_, &a) == HIPATTN_INVALID_ARGUMENT);
    FUZZ_CHECK(Untouched(*call.rows));
  }

  // Option structs of arbitrary bytes, pointers apart.
  void RawStructs() {
    hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
    FUZZ_CHECK(hipattn_engine_get_options(engine_, &options) == HIPATTN_OK);
    hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
    for (uint32_t changes = 1 + bytes_.Below(3); changes > 0; --changes) {
      const uint32_t value = bytes_.Number();
      const uint32_t field = bytes_.Below(17 + 20);
      if (field < 17) {
        std::memcpy(reinterpret_cast<char*>(&options) + 4 + 4 * field, &value, 4);
      } else {
        std::memcpy(reinterpret_cast<char*>(&attention) + 4 * (field - 16), &value, 4);
      }
    }
    hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
    const hipattn_status_t status =
        hipattn_memory_need(&options, &attention, bytes_.Number(), bytes_.Number(), &need);
    FUZZ_CHECK(status == HIPATTN_OK || status == HIPATTN_INVALID_ARGUMENT ||
               status == HIPATTN_UNSUPPORTED);
    FUZZ_CHECK((need.device_bytes_full == 0) == (status != HIPATTN_OK));
    FUZZ_CHECK(need.device_bytes_full >= need.kv_bytes_total);
  }

  Bytes bytes_;
  Geometry geometry_;
  hipattn::test::NaiveOptions naive_;
  uint32_t num_layers_ = 1;
  uint32_t block_tokens_ = 16;
  uint32_t next_seed_ = 1;
  std::vector<int32_t> external_;  // of the present call
  hipattn_engine_t* engine_ = nullptr;
  std::vector<std::unique_ptr<Text>> texts_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Player(data, size).Play();
  return 0;
}
