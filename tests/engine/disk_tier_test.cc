// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The disk tier and its end: a process that is killed, a disk that is full.
#include "tests/engine/engine_fixture.h"
#include "tests/support/temporary_folder.h"

#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

namespace hipattn::test {
namespace {

constexpr Geometry kGeometry = {4, 2, 64};
constexpr uint64_t kTokens = 4000;

hipattn_engine_options_t OnDisk(const std::string& path) {
  hipattn_engine_options_t options = EngineOptionsOf(kGeometry, HIPATTN_BF16, 1, 1);
  options.device_kv_bytes = uint64_t{2} << 20;
  options.disk_kv_bytes = uint64_t{256} << 20;
  options.disk_path = path.c_str();
  return options;
}

hipattn_attention_options_t Attention() {
  hipattn_attention_options_t options = SparseOptions(128, 32, 64);
  options.prefill_mode = HIPATTN_PREFILL_DENSE;
  return options;
}

// Spills texts until it is killed; a byte to `report` when some blocks are on disk.
[[noreturn]] void SpillForever(const std::string& path, int report) {
  Engine engine(OnDisk(path));
  for (bool reported = false;;) {
    Sequence text(engine, Attention());
    for (uint64_t at = 0; at < kTokens; at += 500) {
      Rows rows = MakeRows(kGeometry, 1, 0, at, 500);
      if (TryAttend(engine, text, 0, rows, kPrefill) != HIPATTN_OK) {
        _exit(2);
      }
      if (!reported && engine.Stats().bytes_disk_written > (uint64_t{1} << 20)) {
        reported = write(report, "x", 1) == 1;
      }
    }
  }
}

TEST(DiskTier, TheLogSaysWhatMovesItsBlocks) {
  const TemporaryFolder folder;
  const std::string path = folder.Path(".");
  hipattn_engine_options_t options = OnDisk(path);
  std::string lines;
  options.log = [](void* text, int32_t, const char* line) {
    *static_cast<std::string*>(text) += line;
  };
  options.log_user_data = &lines;
  const Engine engine(options);
  EXPECT_NE(lines.find("disk tier in \"" + path + "\": "), std::string::npos) << lines;
  EXPECT_NE(lines.find("io_uring"), std::string::npos) << lines;  // it, or why there is none
}

TEST(DiskTier, NothingIsLeftOfAProcessThatWasKilled) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer refuses threads in a forked process";
#endif
  const TemporaryFolder folder;
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    SpillForever(folder.Path("."), pipe_ends[1]);
  }
  close(pipe_ends[1]);
  char byte = 0;
  EXPECT_EQ(read(pipe_ends[0], &byte, 1), 1);
  close(pipe_ends[0]);
  EXPECT_EQ(kill(child, SIGKILL), 0);
  int ended = 0;
  EXPECT_EQ(waitpid(child, &ended, 0), child);
  EXPECT_TRUE(WIFSIGNALED(ended));
  EXPECT_EQ(folder.NumFiles(), 0U);
}

hipattn_status_t TryAppend(Engine& engine, Sequence& text, uint64_t at, uint64_t tokens) {
  Rows rows = MakeRows(kGeometry, 1, 0, at, tokens);
  hipattn_sequence_t* const handle = text.get();
  const auto count = static_cast<uint32_t>(tokens);
  hipattn_attend_args_t args = HIPATTN_ATTEND_ARGS_INIT;
  args.num_sequences = 1;
  args.sequences = &handle;
  args.num_new_tokens = &count;
  args.k = rows.k.data();
  args.v = rows.v.data();
  return hipattn_attend(engine.get(), &args);
}

// A file system of 16 MB for the life of the object.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& path) : path_(path) {
    error_ = mount("tmpfs", path_.c_str(), "tmpfs", 0, "size=16m") == 0 ? 0 : errno;
  }
  ~SmallDisk() {
    if (error_ == 0) {
      umount2(path_.c_str(), MNT_DETACH);
    }
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  int error() const { return error_; }

 private:
  const std::string path_;
  int error_ = 0;
};

TEST(DiskTier, AFullDiskIsATypedErrorAndTheTextGoesOn) {
  const TemporaryFolder folder;
  const SmallDisk disk(folder.Path("."));
  if (disk.error() != 0) {
    GTEST_SKIP() << "no file system can be mounted here: " << std::strerror(disk.error());
  }
  Engine engine(OnDisk(folder.Path(".")));
  hipattn_engine_options_t resident_options = EngineOptionsOf(kGeometry, HIPATTN_BF16, 1, 1);
  Engine resident(resident_options);
  Sequence text(engine, Attention());
  Sequence want(resident, Attention());
  uint64_t at = 0;
  while (TryAppend(engine, text, at, kTokens) == HIPATTN_OK) {
    ASSERT_EQ(TryAppend(resident, want, at, kTokens), HIPATTN_OK);
    at += kTokens;
    ASSERT_LT(at, 200'000U);
  }
  EXPECT_EQ(TryAppend(engine, text, at, kTokens), HIPATTN_IO_ERROR) << hipattn_last_error_message();
  EXPECT_EQ(hipattn_sequence_length(text.get()), at);
  for (uint64_t step = 0; step < 3; ++step) {
    ExpectSameRows(Decode(engine, text, kGeometry, 1, at + step),
                   Decode(resident, want, kGeometry, 1, at + step));
  }
}

}  // namespace
}  // namespace hipattn::test
