// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Snapshot files through the C API: whatever is cut off, damaged or foreign is refused with the
// reason and leaves the engine as it was; a save that fails or is killed leaves the earlier file.
#include "tests/api/api_fixture.h"
#include "tests/support/temporary_folder.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>

namespace hipattn::test {
namespace {

constexpr const char* kFingerprint = "model 7, text 9";

hipattn_status_t Save(hipattn_sequence_t* sequence,
                      const std::string& path,
                      const std::string& fingerprint = kFingerprint) {
  return hipattn_sequence_save(sequence, path.c_str(), fingerprint.data(), fingerprint.size());
}

hipattn_status_t Load(hipattn_engine_t* engine,
                      const std::string& path,
                      SequencePtr* loaded,
                      const std::string& fingerprint = kFingerprint) {
  hipattn_sequence_t* sequence = nullptr;
  const hipattn_status_t status = hipattn_sequence_load(
      engine, path.c_str(), fingerprint.data(), fingerprint.size(), &sequence);
  EXPECT_EQ(sequence != nullptr, status == HIPATTN_OK);
  loaded->reset(sequence);
  return status;
}

uint64_t DeviceBytes(hipattn_engine_t* engine) {
  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  EXPECT_EQ(hipattn_engine_stats(engine, &stats, 0), HIPATTN_OK);
  return stats.device_bytes;
}

void ExpectRefused(hipattn_engine_t* engine,
                   const std::string& path,
                   hipattn_status_t code,
                   const std::string& words,
                   const std::string& fingerprint = kFingerprint) {
  const uint64_t bytes = DeviceBytes(engine);
  SequencePtr loaded;
  EXPECT_EQ(Load(engine, path, &loaded, fingerprint), code) << words << ": " << LastError();
  EXPECT_NE(LastError().find(words), std::string::npos) << words << ": " << LastError();
  EXPECT_EQ(DeviceBytes(engine), bytes);
}

// Geometry whose snapshots are a few pages.
hipattn_engine_options_t TinyEngine() {
  hipattn_engine_options_t options = HIPATTN_ENGINE_OPTIONS_INIT;
  options.num_threads = 1;
  options.num_layers = 1;
  options.num_q_heads = 2;
  options.num_kv_heads = 1;
  options.head_dim = 8;
  options.kv_dtype = HIPATTN_F16;
  options.device_kv_bytes = uint64_t{8} << 20;
  return options;
}

hipattn_attention_options_t TinyAttention() {
  hipattn_attention_options_t options = HIPATTN_ATTENTION_OPTIONS_INIT;
  options.decode_mode = HIPATTN_DECODE_SPARSE;
  options.budget_tokens = 16;
  options.rerank_tokens = 16;
  options.sink_tokens = 16;
  options.window_tokens = 16;
  return options;
}

// A text of `tokens` tokens, the last of which was a decode step.
SequencePtr TinyText(hipattn_engine_t* engine, uint32_t tokens) {
  const hipattn_attention_options_t options = TinyAttention();
  SequencePtr text = MakeSequence(engine, &options);
  Floats rows(size_t{tokens} * 16);
  rows.FillRandom(3);
  Floats out(size_t{tokens} * 16);
  for (const uint32_t count : {tokens - 1, 1U}) {
    hipattn_sequence_t* const handle = text.get();
    hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
    args.num_sequences = 1;
    args.sequences = &handle;
    args.num_new_tokens = &count;
    args.q = rows.data();
    args.k = rows.data();
    args.v = rows.data();
    args.out = out.data();
    EXPECT_EQ(hipattn_attend(engine, &args), HIPATTN_OK) << LastError();
  }
  return text;
}

// A file in memory, with a path.
class MemoryFile {
 public:
  MemoryFile() : file_(memfd_create("snapshot", MFD_CLOEXEC)) { EXPECT_GE(file_, 0); }
  ~MemoryFile() { close(file_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }
  void Set(const std::string& bytes) {
    EXPECT_EQ(ftruncate(file_, static_cast<off_t>(bytes.size())), 0);
    SetAt(0, bytes.data(), bytes.size());
  }
  void SetAt(size_t offset, const char* data, size_t size) {
    EXPECT_EQ(pwrite(file_, data, size, static_cast<off_t>(offset)), static_cast<ssize_t>(size));
  }
  void Cut(size_t size) { EXPECT_EQ(ftruncate(file_, static_cast<off_t>(size)), 0); }

 private:
  const int file_;
};

TEST(SnapshotFile, EveryDamagedByteIsRefused) {
  const TemporaryFolder folder;
  const EnginePtr engine = MakeEngine(TinyEngine());
  ASSERT_EQ(Save(TinyText(engine.get(), 100).get(), folder.Path("text")), HIPATTN_OK)
      << LastError();
  const std::string good = FileBytes(folder.Path("text"));
  ASSERT_LT(good.size(), 50000U);
  MemoryFile file;
  file.Set(good);
  SequencePtr loaded;
  ASSERT_EQ(Load(engine.get(), file.path(), &loaded), HIPATTN_OK) << LastError();
  loaded.reset();
  const uint64_t bytes = DeviceBytes(engine.get());
  for (size_t at = 0; at < good.size(); ++at) {
    // One bit; all of them take turns.
    const auto wrong = static_cast<char>(static_cast<uint8_t>(good[at]) ^ (1U << (at % 8)));
    file.SetAt(at, &wrong, 1);
    const hipattn_status_t status = Load(engine.get(), file.path(), &loaded);
    ASSERT_TRUE(status == HIPATTN_CORRUPT || status == HIPATTN_MISMATCH)
        << "byte " << at << ": " << status << " " << LastError();
    file.SetAt(at, &good[at], 1);
  }
  EXPECT_EQ(DeviceBytes(engine.get()), bytes);
  EXPECT_EQ(Load(engine.get(), file.path(), &loaded), HIPATTN_OK) << LastError();
}

TEST(SnapshotFile, EveryLengthButItsOwnIsRefused) {
  const TemporaryFolder folder;
  const EnginePtr engine = MakeEngine(TinyEngine());
  ASSERT_EQ(Save(TinyText(engine.get(), 100).get(), folder.Path("text")), HIPATTN_OK);
  const std::string good = FileBytes(folder.Path("text"));
  MemoryFile file;
  file.Set(good);
  SequencePtr loaded;
  for (size_t size = good.size() + 1; size < good.size() + 10000; size += 619) {
    file.Cut(size);
    ASSERT_EQ(Load(engine.get(), file.path(), &loaded), HIPATTN_CORRUPT) << size;
  }
  for (size_t size = good.size(); size-- > 0;) {
    file.Cut(size);
    ASSERT_EQ(Load(engine.get(), file.path(), &loaded), HIPATTN_CORRUPT)
        << size << ": " << LastError();
  }
}

TEST(SnapshotFile, DamageIsNamed) {
  const TemporaryFolder folder;
  const EnginePtr engine = MakeEngine(SmallEngine());
  const SequencePtr text = MakeSequence(engine.get());
  Arrays arrays(300);
  for (const uint32_t layer : {0U, 1U}) {
    ASSERT_EQ(Step(engine.get(), text.get(), layer, 300, arrays), HIPATTN_OK) << LastError();
  }
  const std::string path = folder.Path("text");
  ASSERT_EQ(Save(text.get(), path), HIPATTN_OK) << LastError();
  const std::string good = FileBytes(path);
  constexpr size_t kPage = 4096;
  // Pages: header, state, 4 indexes (of 18 blocks) of 5 pages each, 4 heads of 19 blocks, sums,
  // end.
  ASSERT_EQ(good.size() / kPage, 22U + 4 * 19 + 2);
  const struct {
    size_t page;
    const char* words;
  } table[] = {{0, "the header is damaged"},
               {1, "the state is damaged"},
               {2, "the index of layer 0, kv head 0 is damaged"},
               {21, "the index of layer 1, kv head 1 is damaged"},
               {22, "a block of layer 0, kv head 0 is damaged"},
               {22 + 2 * 19, "a block of layer 1, kv head 0 is damaged"},
               {22 + 4 * 19 - 1, "a block of layer 1, kv head 1 is damaged"},
               {22 + 4 * 19, "the checksums are not those written"},
               {22 + 4 * 19 + 1, "its last page is no end"}};
  for (const auto& row : table) {
    std::string bad = good;
    bad[row.page * kPage + 100] = static_cast<char>(bad[row.page * kPage + 100] ^ 1);
    SetFileBytes(path, bad);
    ExpectRefused(engine.get(), path, HIPATTN_CORRUPT, row.words);
  }
  std::string newer = good;
  newer[8] = 2;
  SetFileBytes(path, newer);
  ExpectRefused(engine.get(), path, HIPATTN_MISMATCH, "version is 2 in the snapshot, here 1");
  SetFileBytes(path, "no snapshot at all" + std::string(5000, ' '));
  ExpectRefused(engine.get(), path, HIPATTN_CORRUPT, "no snapshot");
  SetFileBytes(path, "");
  ExpectRefused(engine.get(), path, HIPATTN_CORRUPT, "no snapshot");
}

TEST(SnapshotFile, AnotherModelOrTextIsAMismatch) {
  const TemporaryFolder folder;
  const hipattn_engine_options_t tiny = TinyEngine();
  const EnginePtr engine = MakeEngine(tiny);
  const std::string path = folder.Path("text");
  ASSERT_EQ(Save(TinyText(engine.get(), 50).get(), path), HIPATTN_OK);
  const struct {
    const char* words;
    std::function<void(hipattn_engine_options_t*)> change;
  } table[] = {
      {"num_layers is 1 in the snapshot, here 2", [](auto* o) { o->num_layers = 2; }},
      {"num_q_heads is 2 in the snapshot, here 3", [](auto* o) { o->num_q_heads = 3; }},
      {"num_kv_heads is 1 in the snapshot, here 2", [](auto* o) { o->num_kv_heads = 2; }},
      {"head_dim is 8 in the snapshot, here 16", [](auto* o) { o->head_dim = 16; }},
      {"block_tokens is 16 in the snapshot, here 32", [](auto* o) { o->block_tokens = 32; }},
      {"kv_dtype is 2 in the snapshot, here 1", [](auto* o) { o->kv_dtype = HIPATTN_F32; }},
      {"softmax_scale is 0.353553 in the snapshot, here 2",
       [](auto* o) { o->softmax_scale = 2.0F; }},
      {"logit_softcap is 0 in the snapshot, here 30", [](auto* o) { o->logit_softcap = 30.0F; }},
      {"rope_mode is 0 in the snapshot, here 1",
       [](auto* o) {
         o->rope_mode = 1;
         o->rope_theta = 10000.0F;
       }},
  };
  for (const auto& row : table) {
    hipattn_engine_options_t options = tiny;
    row.change(&options);
    const EnginePtr other = MakeEngine(options);
    ExpectRefused(other.get(), path, HIPATTN_MISMATCH, row.words);
  }
  ExpectRefused(engine.get(),
                path,
                HIPATTN_MISMATCH,
                "fingerprint is another one in the snapshot from byte 14 on",
                "model 7, text 8");
  ExpectRefused(
      engine.get(), path, HIPATTN_MISMATCH, "fingerprint has 15 bytes in the snapshot, here 0", "");
  SequencePtr loaded;
  EXPECT_EQ(Load(engine.get(), path, &loaded), HIPATTN_OK) << LastError();
}

TEST(SnapshotFile, RotationsThatDifferAreAMismatch) {
  const TemporaryFolder folder;
  hipattn_engine_options_t options = TinyEngine();
  options.rope_mode = 1;
  const float inv_freq[2][4] = {{1.0F, 0.5F, 0.25F, 0.125F}, {1.0F, 0.5F, 0.2F, 0.125F}};
  options.rope_inv_freq = inv_freq[0];
  const EnginePtr engine = MakeEngine(options);
  const std::string path = folder.Path("text");
  ASSERT_EQ(Save(TinyText(engine.get(), 50).get(), path), HIPATTN_OK) << LastError();
  options.rope_inv_freq = inv_freq[1];
  ExpectRefused(MakeEngine(options).get(),
                path,
                HIPATTN_MISMATCH,
                "rope_inv_freq[2] is 0.25 in the snapshot, here 0.2");
  options.rope_inv_freq = nullptr;
  options.rope_theta = 10000.0F;
  ExpectRefused(MakeEngine(options).get(), path, HIPATTN_MISMATCH, "rope_theta is");
}

TEST(SnapshotFile, ATextThatDoesNotFitChangesNothing) {
  const TemporaryFolder folder;
  const EnginePtr engine = MakeEngine(SmallEngine());
  const SequencePtr text = MakeSequence(engine.get());
  Arrays arrays(2000);
  for (const uint32_t layer : {0U, 1U}) {
    ASSERT_EQ(Step(engine.get(), text.get(), layer, 2000, arrays), HIPATTN_OK) << LastError();
  }
  const std::string path = folder.Path("text");
  ASSERT_EQ(Save(text.get(), path), HIPATTN_OK) << LastError();
  hipattn_engine_options_t options = SmallEngine();
  options.device_kv_bytes = DeviceBytes(engine.get()) - 65536;
  const EnginePtr small = MakeEngine(options);
  ExpectRefused(small.get(), path, HIPATTN_OUT_OF_BUDGET, "");
  EXPECT_EQ(DeviceBytes(small.get()), 0U);
}

TEST(SnapshotFile, FilesThatCannotBeReadOrWritten) {
  const TemporaryFolder folder;
  const EnginePtr engine = MakeEngine(TinyEngine());
  const SequencePtr text = TinyText(engine.get(), 20);
  ExpectRefused(engine.get(), folder.Path("none"), HIPATTN_IO_ERROR, "none\" cannot be opened");
  ExpectRefused(engine.get(), folder.Path(""), HIPATTN_IO_ERROR, "is no file");
  ASSERT_EQ(mkfifo(folder.Path("pipe").c_str(), 0600), 0);
  ExpectRefused(engine.get(), folder.Path("pipe"), HIPATTN_IO_ERROR, "is no file");
  EXPECT_EQ(Save(text.get(), folder.Path("none/text")), HIPATTN_IO_ERROR);
  EXPECT_NE(LastError().find("none/text.part\" cannot be created"), std::string::npos)
      << LastError();
  std::filesystem::create_directories(folder.Path("folder/inside"));
  EXPECT_EQ(Save(text.get(), folder.Path("folder")), HIPATTN_IO_ERROR);
  EXPECT_EQ(Save(text.get(), ""), HIPATTN_IO_ERROR);
  EXPECT_EQ(folder.NumFiles(), 2U) << "nothing is left beside them";
}

// As long as it lives a file that grows beyond so many bytes is an error, not a signal.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(uint64_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before_), 0);
    (void)std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(SnapshotFile, ASaveWithoutRoomLeavesTheEarlierFile) {
  const TemporaryFolder folder;
  const EnginePtr engine = MakeEngine(TinyEngine());
  const std::string path = folder.Path("text");
  ASSERT_EQ(Save(TinyText(engine.get(), 20).get(), path), HIPATTN_OK);
  const std::string good = FileBytes(path);
  const SequencePtr longer = TinyText(engine.get(), 150);
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{5000}, uint64_t{good.size()}}) {
    const FileSizeLimit limit(bytes);
    EXPECT_EQ(Save(longer.get(), path), HIPATTN_IO_ERROR);
    EXPECT_NE(LastError().find("File too large"), std::string::npos) << LastError();
  }
  EXPECT_EQ(FileBytes(path), good);
  EXPECT_EQ(folder.NumFiles(), 1U);
  EXPECT_EQ(Save(longer.get(), path), HIPATTN_OK) << LastError();
}

// Saves two texts to one path in turn until it is killed, writing a byte after each.
[[noreturn]] void SaveForever(const std::string& path, int told) {
  const EnginePtr engine = MakeEngine(SmallEngine());
  SequencePtr texts[2];
  for (uint32_t i = 0; i < 2; ++i) {
    texts[i] = MakeSequence(engine.get());
    Arrays arrays(1000 + 1000 * i);
    for (const uint32_t layer : {0U, 1U}) {
      if (Step(engine.get(), texts[i].get(), layer, 1000 + 1000 * i, arrays) != HIPATTN_OK) {
        _exit(1);
      }
    }
  }
  for (uint32_t i = 0;; ++i) {
    if (Save(texts[i % 2].get(), path) != HIPATTN_OK || write(told, "s", 1) != 1) {
      _exit(2);
    }
  }
}

// kill -9 at any moment: the path names a whole snapshot, and what is left beside it goes with the
// next save. The loads are in another process than the saves.
TEST(SnapshotFile, AKilledSaveLeavesAWholeFile) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("text");
  const EnginePtr engine = MakeEngine(SmallEngine());
  for (uint32_t round = 0; round < 25; ++round) {
    int told[2];
    ASSERT_EQ(pipe(told), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      SaveForever(path, told[1]);
    }
    close(told[1]);
    char byte = 0;
    ASSERT_EQ(read(told[0], &byte, 1), 1) << "the child has failed";
    usleep(round * 397);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    close(told[0]);
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
    SequencePtr loaded;
    ASSERT_EQ(Load(engine.get(), path, &loaded), HIPATTN_OK) << LastError();
    const uint64_t length = hipattn_sequence_length(loaded.get());
    EXPECT_TRUE(length == 1000 || length == 2000) << length;
    EXPECT_LE(folder.NumFiles(), 2U);
    if (round % 5 == 4) {
      EXPECT_EQ(Save(loaded.get(), path), HIPATTN_OK) << LastError();
      EXPECT_EQ(folder.NumFiles(), 1U);
    }
  }
}

}  // namespace
}  // namespace hipattn::test
