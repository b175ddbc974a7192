// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The system calls of this process, some of which go wrong.
#ifndef HIPATTN_TESTS_OFFLOAD_FAULTY_CALLS_H_
#define HIPATTN_TESTS_OFFLOAD_FAULTY_CALLS_H_

#include "offload/file_calls.h"

#include <atomic>
#include <cstddef>
#include <memory>

namespace hipattn::test {

class FaultyCalls : public offload::FileCalls {
 public:
  // kRefused: as where the system has no io_uring. kEmulated: its requests are the calls below,
  // with their faults, and come back in another order.
  enum class Ring { kRefused, kEmulated, kSystem };

  explicit FaultyCalls(Ring kind = Ring::kRefused) : ring(kind) {}

  int Open(const char* path, int flags) override;
  int Allocate(int number, off_t bytes) override;
  ssize_t Write(int number, const void* data, size_t bytes, off_t offset) override;
  ssize_t Read(int number, void* data, size_t bytes, off_t offset) override;
  int MakeRing(int number, unsigned depth, std::unique_ptr<offload::FileRing>* made) override;

  Ring ring;
  int file = -1;  // that was opened last
  bool no_nameless = false, ends_early = false;
  int allocate_error = 0, read_error = 0;
  std::atomic<int> write_error{0};
  std::atomic<int> interrupts{0};  // calls to come that a signal interrupts
  size_t most = SIZE_MAX;          // bytes of a call
  size_t flipped_byte = SIZE_MAX;  // of a read
  // Of emulated rings.
  int submit_error = 0, submit_errors = 0;  // an error, and how often it comes
  size_t submit_most = SIZE_MAX;            // requests that one call takes
  int refuse_after = 0;                     // calls until one is out of memory; 0: none will be
  int rings_made = 0;
  int ring_error = 0;  // of making one

 private:
  bool Interrupted();
};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_OFFLOAD_FAULTY_CALLS_H_
