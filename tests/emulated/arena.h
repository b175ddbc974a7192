// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Arena: the memory of an emulated device. Every byte has two addresses, one in the host's view and
// one in the device's, so that mapped memory has an alias that differs. The device's view can be
// taken away while no op runs: a host that touches device memory then faults on the spot.
#ifndef HIPATTN_TESTS_EMULATED_ARENA_H_
#define HIPATTN_TESTS_EMULATED_ARENA_H_

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace hipattn::test {

// Thread-safe.
class Arena {
 public:
  // Reserves addresses only; pages come when they are touched. kOutOfMemory.
  static Result<std::unique_ptr<Arena>> Create(size_t reserved_bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Offset of `bytes` bytes, aligned as a device's memory.
  Result<size_t> Take(size_t bytes);
  void Give(size_t offset, size_t bytes);

  std::byte* host(size_t offset) const { return host_ + offset; }
  std::byte* device(size_t offset) const { return device_ + offset; }
  // The host's address of what lies at `address` of either view; `address` itself elsewhere.
  std::byte* HostOf(std::byte* address) const;
  bool InDeviceView(const void* address) const { return In(device_, address); }
  bool InHostView(const void* address) const { return In(host_, address); }

  // From the first call on the device's view is there only between Open and Close, which nest.
  void Guard();
  void Open();
  void Close();
  // The same of the host's view, the other way round: it is gone between Hide and Show.
  void HideHost();
  void ShowHost();

 private:
  Arena(std::byte* host, std::byte* device, size_t bytes)
      : host_(host), device_(device), bytes_(bytes), free_({{0, bytes}}) {}
  bool In(const std::byte* view, const void* address) const {
    return address >= view && address < view + bytes_;
  }
  void Protect(std::byte* view, int access);

  std::byte* const host_;
  std::byte* const device_;
  const size_t bytes_;
  std::mutex mutex_;
  std::map<size_t, size_t> free_;  // by offset; neighbours are joined
  std::mutex guard_mutex_;
  bool guarded_ = false;
  uint32_t open_ = 0;
};

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_EMULATED_ARENA_H_
