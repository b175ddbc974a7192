// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FileQueue: large transfers between a file and memory that run beside the caller, on threads of
// their own, because a thread that waits for a disk is no thread that computes. A transfer has a
// slot, which the caller numbers; one transfer per slot at a time.
#ifndef HIPATTN_OFFLOAD_FILE_QUEUE_H_
#define HIPATTN_OFFLOAD_FILE_QUEUE_H_

#include "base/result.h"
#include "offload/file_batch.h"

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hipattn::offload {

// One thread at a time calls it.
class FileQueue {
 public:
  static constexpr uint32_t kSlots = 4;
  // Two, so that the disk has the next transfer before one ends.
  static constexpr uint32_t kThreads = 2;

  // `calls` and the file outlive the queue; `path` is for messages. kOutOfMemory: no thread.
  static Result<std::unique_ptr<FileQueue>> Create(FileCalls* calls, int file, std::string path);
  // Waits for every transfer.
  ~FileQueue();
  FileQueue(const FileQueue&) = delete;
  FileQueue& operator=(const FileQueue&) = delete;

  // `data` stays until the slot has been waited for. REQUIRES: the slot is free.
  void Write(uint32_t slot, std::byte* data, size_t bytes, uint64_t offset) {
    Submit(slot, {true, data, bytes, offset});
  }
  void Read(uint32_t slot, std::byte* data, size_t bytes, uint64_t offset) {
    Submit(slot, {false, data, bytes, offset});
  }

  // Until the slot's transfer is done; a slot without one is free. kIoError; kCorrupt when the file
  // ends before what is read. The slot is free afterwards.
  Status Wait(uint32_t slot);

 private:
  enum class SlotState : uint8_t { kFree, kWaiting, kRunning, kDone };
  struct Slot {
    SlotState state = SlotState::kFree;
    uint64_t number = 0;  // transfers begin in the order of their submission
    FileTransfer transfer{};
  };

  FileQueue(FileCalls* calls, int file, std::string path)
      : calls_(calls), file_(file), path_(std::move(path)) {}
  void Submit(uint32_t slot, const FileTransfer& transfer);
  void Run();
  Slot* NextWaiting();

  FileCalls* const calls_;
  const int file_;
  const std::string path_;
  std::mutex mutex_;
  std::condition_variable submitted_, done_;
  std::array<Slot, kSlots> slots_;
  uint64_t num_submitted_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_FILE_QUEUE_H_
