// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/file_queue.h"

#include <cerrno>
#include <system_error>
#include <utility>

namespace hipattn::offload {

Result<std::unique_ptr<FileQueue>> FileQueue::Create(FileCalls* calls, int file, std::string path) {
  std::unique_ptr<FileQueue> queue(new FileQueue(calls, file, std::move(path)));
  queue->threads_.reserve(kThreads);
  try {
    for (uint32_t i = 0; i < kThreads; ++i) {
      queue->threads_.emplace_back([raw = queue.get()] { raw->Run(); });
    }
  } catch (const std::system_error& error) {
    return OutOfMemory("no thread to read and write files: ", error.what());
  }
  return queue;
}

FileQueue::~FileQueue() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  submitted_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void FileQueue::Submit(uint32_t slot, const Transfer& transfer) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    slots_[slot] = {SlotState::kWaiting, num_submitted_++, transfer};
  }
  submitted_.notify_one();
}

FileQueue::Slot* FileQueue::NextWaiting() {
  Slot* next = nullptr;
  for (Slot& slot : slots_) {
    if (slot.state == SlotState::kWaiting && (next == nullptr || slot.number < next->number)) {
      next = &slot;
    }
  }
  return next;
}

void FileQueue::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    Slot* slot = nullptr;
    submitted_.wait(lock, [&] { return (slot = NextWaiting()) != nullptr || stopping_; });
    if (slot == nullptr) {
      return;
    }
    slot->state = SlotState::kRunning;
    lock.unlock();
    RunTransfer(slot);
    lock.lock();
    slot->state = SlotState::kDone;
    done_.notify_all();
  }
}

// Its results are read after the state says kDone, under the mutex.
void FileQueue::RunTransfer(Slot* slot) {
  Transfer left = slot->transfer;
  while (left.bytes > 0) {
    const auto offset = static_cast<off_t>(left.offset);
    const ssize_t moved = left.writes ? calls_->Write(file_, left.data, left.bytes, offset)
                                      : calls_->Read(file_, left.data, left.bytes, offset);
    if (moved < 0 && errno == EINTR) {
      continue;
    }
    if (moved < 0) {
      slot->error = errno;
      return;
    }
    if (moved == 0) {
      slot->ended_early = !left.writes;
      slot->error = left.writes ? ENOSPC : 0;
      return;
    }
    left.data += moved;
    left.bytes -= static_cast<size_t>(moved);
    left.offset += static_cast<uint64_t>(moved);
  }
}

Status FileQueue::Wait(uint32_t number) {
  std::unique_lock<std::mutex> lock(mutex_);
  Slot& slot = slots_[number];
  done_.wait(lock,
             [&] { return slot.state == SlotState::kDone || slot.state == SlotState::kFree; });
  const Slot finished = std::exchange(slot, Slot{});
  lock.unlock();
  if (finished.error != 0) {
    return FileError(path_, finished.transfer.writes ? "written" : "read", finished.error);
  }
  if (finished.ended_early) {
    return {StatusCode::kCorrupt,
            StrCat("path \"",
                   path_,
                   "\" ends before byte ",
                   finished.transfer.offset,
                   " and ",
                   finished.transfer.bytes,
                   " more")};
  }
  return Status::Ok();
}

}  // namespace hipattn::offload
