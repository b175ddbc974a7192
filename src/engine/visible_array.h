// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// VisibleArray: a growing array in memory that both host and device see: block tables and pointer
// tables that ops read. Grows by an eighth, because these tables count against the KV budget.
#ifndef HIPATTN_ENGINE_VISIBLE_ARRAY_H_
#define HIPATTN_ENGINE_VISIBLE_ARRAY_H_

#include "base/bad_alloc.h"
#include "device/device.h"
#include "offload/memory_budget.h"

#include <algorithm>
#include <atomic>
#include <span>
#include <type_traits>
#include <utility>

namespace hipattn::engine {

// Memory that is charged to a budget for as long as it lives.
class ChargedBuffer {
 public:
  ChargedBuffer() = default;
  ChargedBuffer(ChargedBuffer&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)),
        index_bytes_(other.index_bytes_),
        buffer_(std::move(other.buffer_)) {}
  ChargedBuffer& operator=(ChargedBuffer&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(index_bytes_, other.index_bytes_);
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ChargedBuffer(const ChargedBuffer&) = delete;
  ChargedBuffer& operator=(const ChargedBuffer&) = delete;
  ~ChargedBuffer() {
    if (budget_ != nullptr) {
      budget_->Release(buffer_.size_bytes());
      index_bytes_->fetch_sub(buffer_.size_bytes(), std::memory_order_relaxed);
    }
  }

  const device::Buffer& buffer() const { return buffer_; }

 private:
  friend class IndexMemory;
  offload::MemoryBudget* budget_ = nullptr;
  std::atomic<uint64_t>* index_bytes_ = nullptr;
  device::Buffer buffer_;
};

// Where tables and summaries of one tier get their memory; counts what they hold. Thread-safe.
class IndexMemory {
 public:
  // Both outlive it. `tables`: what tables are made of, kHostVisible or kMapped.
  IndexMemory(device::Device* device,
              offload::MemoryBudget* budget,
              device::MemoryKind tables = device::MemoryKind::kHostVisible)
      : device_(device), budget_(budget), tables_(tables) {}

  Result<ChargedBuffer> Allocate(device::MemoryKind kind, size_t bytes) {
    HIPATTN_RETURN_IF_ERROR(budget_->Charge(bytes));
    device::Buffer buffer;
    Status allocated = CatchBadAlloc([&]() -> Status {
      HIPATTN_ASSIGN_OR_RETURN(buffer, device_->Allocate(kind, bytes));
      return Status::Ok();
    });
    if (!allocated.ok()) {
      budget_->Release(bytes);
      return allocated;
    }
    index_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    ChargedBuffer charged;
    charged.budget_ = budget_;
    charged.index_bytes_ = &index_bytes_;
    charged.buffer_ = std::move(buffer);
    return charged;
  }

  uint64_t bytes() const { return index_bytes_.load(std::memory_order_relaxed); }
  device::Device& device() const { return *device_; }
  device::MemoryKind tables() const { return tables_; }

 private:
  device::Device* const device_;
  offload::MemoryBudget* const budget_;
  const device::MemoryKind tables_;
  std::atomic<uint64_t> index_bytes_{0};
};

template <typename T>
class VisibleArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  VisibleArray() = default;
  VisibleArray(VisibleArray&& other) noexcept
      : memory_(std::move(other.memory_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  VisibleArray& operator=(VisibleArray&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  VisibleArray(const VisibleArray&) = delete;
  VisibleArray& operator=(const VisibleArray&) = delete;
  ~VisibleArray() = default;

  size_t size() const { return size_; }
  T* data() const { return memory_.buffer().template as<T>(); }
  T* device_data() const { return memory_.buffer().template device_as<T>(); }  // as ops take it
  T& operator[](size_t i) const { return data()[i]; }
  T& back() const { return data()[size_ - 1]; }
  std::span<T> span() const { return {data(), size_}; }

  // Room for `size` elements.
  Status Reserve(IndexMemory& memory, size_t size) {
    if (size <= capacity_) {
      return Status::Ok();
    }
    const size_t capacity = std::max(size, capacity_ + capacity_ / 8 + 8);
    HIPATTN_ASSIGN_OR_RETURN(ChargedBuffer grown,
                             memory.Allocate(memory.tables(), capacity * sizeof(T)));
    std::copy_n(data(), size_, grown.buffer().template as<T>());
    memory_ = std::move(grown);
    capacity_ = capacity;
    return Status::Ok();
  }

  // REQUIRES: room.
  void Append(T value) { data()[size_++] = value; }
  void Truncate(size_t size) { size_ = std::min(size, size_); }

  void DropIfEmpty() noexcept {
    if (size_ == 0) {
      *this = VisibleArray();
    }
  }

  // Gives back room that is more than twice what is used; keeps it when a smaller copy cannot be
  // had.
  void Shrink(IndexMemory& memory) noexcept {
    DropIfEmpty();
    if (capacity_ <= 2 * size_ + 16) {
      return;
    }
    VisibleArray smaller;
    if (CatchBadAlloc([&] { return smaller.Reserve(memory, size_); }).ok()) {
      std::copy_n(data(), size_, smaller.data());
      smaller.size_ = size_;
      *this = std::move(smaller);
    }
  }

 private:
  ChargedBuffer memory_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace hipattn::engine

#endif  // HIPATTN_ENGINE_VISIBLE_ARRAY_H_
