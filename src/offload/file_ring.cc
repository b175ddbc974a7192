// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/file_ring.h"

#include <cerrno>
#include <utility>

#ifdef HIPATTN_URING
#include <liburing.h>
#endif

namespace hipattn::offload {
#ifdef HIPATTN_URING
namespace {

class SystemRing final : public FileRing {
 public:
  explicit SystemRing(int file) : file_(file) {}
  ~SystemRing() override {
    if (opened_) {
      io_uring_queue_exit(&ring_);
    }
  }

  int Open(unsigned depth) {
    const int opened = io_uring_queue_init(depth, &ring_, 0);
    opened_ = opened == 0;
    return opened;
  }

  void Push(const Request& request) override {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    const auto bytes = static_cast<unsigned>(request.bytes);
    if (request.writes) {
      io_uring_prep_write(entry, file_, request.data, bytes, request.offset);
    } else {
      io_uring_prep_read(entry, file_, request.data, bytes, request.offset);
    }
    io_uring_sqe_set_data64(entry, request.tag);
  }

  int Submit() override { return io_uring_submit_and_wait(&ring_, 1); }

  int Await() override {
    io_uring_cqe* entry = nullptr;
    return io_uring_wait_cqe(&ring_, &entry);
  }

  bool Next(Result* result) override {
    io_uring_cqe* entry = nullptr;
    if (io_uring_peek_cqe(&ring_, &entry) != 0) {
      return false;
    }
    *result = {io_uring_cqe_get_data64(entry), entry->res};
    io_uring_cqe_seen(&ring_, entry);
    return true;
  }

 private:
  const int file_;
  bool opened_ = false;
  io_uring ring_{};
};

}  // namespace

int MakeSystemRing(int file, unsigned depth, std::unique_ptr<FileRing>* ring) {
  auto made = std::make_unique<SystemRing>(file);
  const int opened = made->Open(depth);
  if (opened != 0) {
    errno = -opened;
    return -1;
  }
  *ring = std::move(made);
  return 0;
}
#else
int MakeSystemRing(int /*file*/, unsigned /*depth*/, std::unique_ptr<FileRing>* /*ring*/) {
  errno = ENOSYS;
  return -1;
}
#endif

}  // namespace hipattn::offload
