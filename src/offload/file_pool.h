// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FilePool: transfers of a file by threads that mostly wait for the disk, where there is no
// io_uring.
#ifndef HIPATTN_OFFLOAD_FILE_POOL_H_
#define HIPATTN_OFFLOAD_FILE_POOL_H_

#include "offload/file_batch.h"

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace hipattn::offload {

class FilePool final : public FileBatch {
 public:
  FilePool(FileCalls* calls, int file, unsigned depth, std::string reason)
      : calls_(calls), file_(file), depth_(depth), reason_(std::move(reason)) {}
  ~FilePool() override;

  // The caller's thread takes part, so that it also goes, more slowly, when no thread is to be had.
  void Run(std::span<FileTransfer> transfers, const Ended& ended) override;
  std::string Name() const override;

 private:
  void AddThreads(size_t most);
  void Work();
  // Runs transfers of the batch until none is left to begin.
  void RunSome(std::unique_lock<std::mutex>* lock);

  FileCalls* const calls_;
  const int file_;
  const unsigned depth_;
  const std::string reason_;
  std::mutex mutex_;
  std::condition_variable came_, ended_;
  std::span<FileTransfer> batch_;
  const Ended* on_end_ = nullptr;
  size_t next_ = 0;     // of batch_, that nobody has begun
  size_t running_ = 0;  // transfers
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_FILE_POOL_H_
