// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/offload/faulty_calls.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace hipattn::test {
namespace {

// Runs its requests when they are handed over; the last comes back first.
class EmulatedRing final : public offload::FileRing {
 public:
  EmulatedRing(FaultyCalls* calls, int file) : calls_(*calls), file_(file) {}

  void Push(const Request& request) override { pushed_.push_back(request); }

  int Submit() override {
    if (calls_.submit_errors > 0) {
      --calls_.submit_errors;
      return -calls_.submit_error;
    }
    if (calls_.refuse_after > 0 && --calls_.refuse_after == 0) {
      return -ENOMEM;
    }
    const size_t count = std::min(pushed_.size(), calls_.submit_most);
    for (size_t i = 0; i < count; ++i) {
      const Request& request = pushed_[i];
      const auto offset = static_cast<off_t>(request.offset);
      const ssize_t moved = request.writes
                                ? calls_.Write(file_, request.data, request.bytes, offset)
                                : calls_.Read(file_, request.data, request.bytes, offset);
      results_.push_back({request.tag, moved < 0 ? -errno : moved});
    }
    pushed_.erase(pushed_.begin(), pushed_.begin() + static_cast<std::ptrdiff_t>(count));
    // One result per call, so that the others are still in flight.
    shown_ = std::min(results_.size(), shown_ + 1);
    return static_cast<int>(count);
  }

  int Await() override {
    shown_ = results_.size();
    return 0;
  }

  bool Next(Result* result) override {
    if (shown_ == 0) {
      return false;
    }
    --shown_;
    *result = results_.back();
    results_.pop_back();
    return true;
  }

 private:
  FaultyCalls& calls_;
  const int file_;
  std::vector<Request> pushed_;
  std::vector<Result> results_;
  size_t shown_ = 0;  // of them
};

}  // namespace

bool FaultyCalls::Interrupted() {
  if (interrupts.load() > 0 && interrupts.fetch_sub(1) > 0) {
    errno = EINTR;
    return true;
  }
  return false;
}

int FaultyCalls::Open(const char* path, int flags) {
  if (no_nameless && (flags & O_TMPFILE) == O_TMPFILE) {
    errno = EOPNOTSUPP;
    return -1;
  }
  file = FileCalls::Open(path, flags);
  return file;
}

int FaultyCalls::Allocate(int number, off_t bytes) {
  if (allocate_error != 0) {
    errno = allocate_error;
    return -1;
  }
  return FileCalls::Allocate(number, bytes);
}

ssize_t FaultyCalls::Write(int number, const void* data, size_t bytes, off_t offset) {
  if (Interrupted()) {
    return -1;
  }
  if (write_error != 0) {
    errno = write_error;
    return -1;
  }
  return FileCalls::Write(number, data, std::min(bytes, most), offset);
}

ssize_t FaultyCalls::Read(int number, void* data, size_t bytes, off_t offset) {
  if (Interrupted()) {
    return -1;
  }
  if (read_error != 0) {
    errno = read_error;
    return -1;
  }
  if (ends_early) {
    return 0;
  }
  const ssize_t moved = FileCalls::Read(number, data, std::min(bytes, most), offset);
  if (flipped_byte < bytes) {
    static_cast<char*>(data)[flipped_byte] ^= 4;
  }
  return moved;
}

int FaultyCalls::MakeRing(int number, unsigned depth, std::unique_ptr<offload::FileRing>* made) {
  if (ring_error != 0 || ring == Ring::kRefused) {
    errno = ring_error != 0 ? ring_error : EPERM;
    return -1;
  }
  ++rings_made;
  if (ring == Ring::kSystem) {
    return FileCalls::MakeRing(number, depth, made);
  }
  *made = std::make_unique<EmulatedRing>(this, number);
  return 0;
}

}  // namespace hipattn::test
