// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What device/device.h says of every device, on each there is.
#include "tests/device/device_fixture.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace hipattn::test {
namespace {

using device::MemoryKind;
using device::Ticket;

class DeviceContract : public ::testing::TestWithParam<std::string> {
 protected:
  device::Device& dev() { return *made_.device; }
  device::StreamId Stream(int priority = 0) { return dev().CreateStream(priority).value(); }

  MadeDevice made_ = MakeDevice(GetParam());
};

TEST_P(DeviceContract, WhatWasNeverGivenOutIsRefusedByName) {
  const Ticket none = {};
  EXPECT_TRUE(dev().Done(none));
  EXPECT_TRUE(dev().Sync(none).ok());
  EXPECT_TRUE(dev().Wait(0, none).ok());
  EXPECT_TRUE(dev().Done(dev().Everything()));

  const Ticket future = {0, 1000000};
  EXPECT_FALSE(dev().Done(future));
  for (const Status& status : {dev().Sync(future), dev().Wait(0, future)}) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("1000000"), std::string::npos) << status.message();
  }
  uint64_t value = 0;
  const auto launch = [&](device::StreamId stream) {
    return dev().Launch(stream, &Mix, MixParams{&value, 1, 1}).status();
  };
  for (const Status& status : {launch(77),
                               dev().Copy(77, {}).status(),
                               dev().Wait(77, none),
                               dev().Wait(device::kEveryStream, none)}) {
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  }
  // None of it made the device faulty.
  EXPECT_TRUE(launch(0).ok());
  EXPECT_TRUE(dev().Sync(dev().Everything()).ok());
  EXPECT_EQ(value, 1U);
}

TEST_P(DeviceContract, WorkOfAStreamIsInOrder) {
  const device::Buffer value = Take(dev(), MemoryKind::kHostVisible, sizeof(uint64_t));
  for (const device::StreamId stream : {device::StreamId{0}, Stream(), Stream(-1), Stream(1)}) {
    *value.as<uint64_t>() = 1;
    uint64_t want = 1;
    Ticket last;
    for (uint64_t i = 0; i < 100; ++i) {
      last = dev().Launch(stream, &Mix, MixParams{value.as<uint64_t>(), 3, i}).value();
      want = want * 3 + i;
    }
    ASSERT_TRUE(dev().Sync(last).ok());
    EXPECT_EQ(*value.as<uint64_t>(), want);
  }
}

TEST_P(DeviceContract, TicketsOfAStreamAscend) {
  const device::StreamId stream = Stream();
  Ticket before;
  for (int i = 0; i < 10; ++i) {
    const Ticket ticket = dev().Copy(stream, {}).value();
    EXPECT_EQ(ticket.stream, stream);
    EXPECT_GT(ticket.sequence, before.sequence);
    before = ticket;
  }
}

TEST_P(DeviceContract, ParametersAndPiecesAreKept) {
  const device::StreamId stream = Stream();
  const device::Buffer pinned = Take(dev(), MemoryKind::kPinned, 16);
  const device::Buffer value = Take(dev(), MemoryKind::kHostVisible, 8);
  std::memcpy(pinned.data(), "abcdefgh", 8);
  *value.as<uint64_t>() = 1;
  Hold hold(made_, stream);
  std::vector<device::CopyPiece> pieces = {{pinned.data() + 8, pinned.data(), 8}};
  MixParams params = {value.as<uint64_t>(), 2, 5};
  ASSERT_TRUE(dev().Copy(stream, pieces).ok());
  const Ticket last = dev().Launch(stream, &Mix, params).value();
  pieces[0] = {};
  params = {};
  hold.Release();
  ASSERT_TRUE(dev().Sync(last).ok());
  EXPECT_EQ(std::memcmp(pinned.data() + 8, "abcdefgh", 8), 0);
  EXPECT_EQ(*value.as<uint64_t>(), 7U);
}

TEST_P(DeviceContract, WaitOrdersStreams) {
  const device::Buffer value = Take(dev(), MemoryKind::kHostVisible, sizeof(uint64_t));
  const std::array<device::StreamId, 3> streams = {0, Stream(), Stream()};
  *value.as<uint64_t>() = 1;
  uint64_t want = 1;
  Ticket last;
  for (uint64_t i = 0; i < 60; ++i) {
    const device::StreamId stream = streams[i % 3];
    ASSERT_TRUE(dev().Wait(stream, last).ok());
    last = dev().Launch(stream, &Mix, MixParams{value.as<uint64_t>(), 3, i}).value();
    want = want * 3 + i;
  }
  ASSERT_TRUE(dev().Sync(last).ok());
  EXPECT_EQ(*value.as<uint64_t>(), want);
}

TEST_P(DeviceContract, WaitingForEverythingOrdersAllStreams) {
  const device::Buffer value = Take(dev(), MemoryKind::kHostVisible, 4 * sizeof(uint64_t));
  auto* const v = value.as<uint64_t>();
  std::fill_n(v, 4, 1);
  for (uint32_t i = 0; i < 3; ++i) {
    const device::StreamId stream = Stream();
    for (int k = 0; k < 10; ++k) {
      ASSERT_TRUE(dev().Launch(stream, &Mix, MixParams{v + i, 2, 0}).ok());
    }
  }
  const device::StreamId last = Stream();
  ASSERT_TRUE(dev().Wait(last, dev().Everything()).ok());
  const device::CopyPiece piece = {v + 3, v + 1, sizeof(uint64_t)};
  ASSERT_TRUE(dev().Sync(dev().Copy(last, {&piece, 1}).value()).ok());
  EXPECT_EQ(v[3], 1024U);
  EXPECT_TRUE(dev().Done({device::kEveryStream, 1}));
}

TEST_P(DeviceContract, DoneAndOtherStreamsDoNotWaitForABusyOne) {
  const device::StreamId busy = Stream();
  const device::StreamId other = Stream();
  const device::Buffer value = Take(dev(), MemoryKind::kHostVisible, sizeof(uint64_t));
  Hold hold(made_, busy);
  EXPECT_FALSE(dev().Done(hold.ticket()));
  const Ticket behind = dev().Launch(busy, &Mix, MixParams{value.as<uint64_t>(), 0, 1}).value();
  const Ticket everything = dev().Everything();
  EXPECT_FALSE(dev().Done(behind));
  EXPECT_FALSE(dev().Done(everything));
  if (!made_.simulated) {  // whose clock would move past the busy stream as well
    ASSERT_TRUE(dev().Sync(dev().Copy(other, {}).value()).ok());
    EXPECT_FALSE(dev().Done(hold.ticket()));
    // Waiting does not block the host.
    ASSERT_TRUE(dev().Wait(other, behind).ok());
    EXPECT_FALSE(dev().Done(dev().Copy(other, {}).value()));
  }
  hold.Release();
  EXPECT_TRUE(dev().Done(hold.ticket()));
  ASSERT_TRUE(dev().Sync(dev().Everything()).ok());
  EXPECT_TRUE(dev().Done(behind));
  EXPECT_TRUE(dev().Done(everything));
  EXPECT_EQ(*value.as<uint64_t>(), 1U);
}

TEST_P(DeviceContract, EveryPieceOfABatchArrives) {
  constexpr uint32_t kPieces = 64;
  std::vector<uint32_t> bytes(kPieces);
  for (uint32_t i = 0; i < kPieces; ++i) {
    bytes[i] = 1 + i * i % 1000;
  }
  const uint32_t total = std::accumulate(bytes.begin(), bytes.end(), 0U);
  const device::Buffer from = Take(dev(), MemoryKind::kPinned, total);
  const device::Buffer to = Take(dev(), MemoryKind::kDevice, total);
  const device::Buffer back = Take(dev(), MemoryKind::kPinned, total);
  for (uint32_t i = 0; i < total; ++i) {
    from.data()[i] = static_cast<std::byte>(i * 7 + i / 256);
  }
  // Pieces go in reversed order there and come back in one.
  std::vector<device::CopyPiece> pieces;
  uint32_t at = 0;
  for (const uint32_t n : bytes) {
    pieces.push_back({to.data() + total - at - n, from.data() + at, n});
    at += n;
  }
  const device::StreamId stream = Stream();
  ASSERT_TRUE(dev().Copy(stream, pieces).ok());
  const device::CopyPiece whole = {back.data(), to.data(), total};
  ASSERT_TRUE(dev().Sync(dev().Copy(stream, {&whole, 1}).value()).ok());
  at = 0;
  for (const uint32_t n : bytes) {
    EXPECT_EQ(std::memcmp(back.data() + total - at - n, from.data() + at, n), 0);
    at += n;
  }
}

TEST_P(DeviceContract, KindsOfMemoryAreWhereTheySay) {
  const bool unified = dev().capabilities().unified_addresses;
  const device::Buffer device = Take(dev(), MemoryKind::kDevice, 100);
  EXPECT_EQ(device.data(), device.device_data());
  const device::Buffer visible = Take(dev(), MemoryKind::kHostVisible, 100);
  EXPECT_EQ(visible.data(), visible.device_data());
  EXPECT_EQ(Take(dev(), MemoryKind::kPinned, 100).device_data(), nullptr);
  const device::Buffer mapped = Take(dev(), MemoryKind::kMapped, 2 * sizeof(uint64_t));
  EXPECT_EQ(mapped.data() == mapped.device_data(), unified);
  for (const auto kind : {MemoryKind::kDevice, MemoryKind::kHostVisible, MemoryKind::kMapped}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(Take(dev(), kind, 1).device_data()) % 64, 0U);
    const size_t large = size_t{2} << 20;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(Take(dev(), kind, large).device_data()) % large, 0U);
    EXPECT_EQ(Take(dev(), kind, 0).data(), nullptr);
  }

  // The host writes and reads one address, ops the other.
  mapped.as<uint64_t>()[0] = 20;
  const MixParams params = {mapped.device_as<uint64_t>(), 2, 2};
  ASSERT_TRUE(dev().Sync(dev().Launch(0, &Mix, params).value()).ok());
  EXPECT_EQ(mapped.as<uint64_t>()[0], 42U);
}

TEST_P(DeviceContract, MemoryStaysUntilItsLastUserIsDone) {
  const device::StreamId busy = Stream();
  constexpr uint32_t kCount = 1000;
  const std::vector<uint32_t> values(kCount, 3);
  const device::Buffer sums = Take(dev(), MemoryKind::kHostVisible, 2 * sizeof(uint64_t));
  Ticket last;
  Hold hold(made_, busy);
  for (uint32_t way = 0; way < 2; ++way) {
    device::Buffer source = Take(dev(), MemoryKind::kHostVisible, kCount * sizeof(uint32_t));
    std::copy(values.begin(), values.end(), source.as<uint32_t>());
    const SumParams params = {source.as<uint32_t>(), kCount, sums.as<uint64_t>() + way};
    last = dev().Launch(busy, &Sum, params).value();
    if (way == 0) {
      source.FreeAfter(last);
      EXPECT_EQ(source.data(), nullptr);
    }
  }
  // Whoever comes next may not get that memory yet.
  const device::Buffer next = Take(dev(), MemoryKind::kHostVisible, 2 * kCount * sizeof(uint32_t));
  std::memset(next.data(), 0, next.size_bytes());
  hold.Release();
  ASSERT_TRUE(dev().Sync(last).ok());
  EXPECT_EQ(sums.as<uint64_t>()[0], 3U * kCount);
  EXPECT_EQ(sums.as<uint64_t>()[1], 3U * kCount);
}

TEST_P(DeviceContract, AFaultSticksAndLaterWorkIsSkipped) {
  auto faulty = std::make_unique<FaultyDevice>(std::move(made_.device));
  FaultyDevice& device = *faulty;
  made_.device = std::move(faulty);
  const device::StreamId stream = Stream();
  uint64_t value = 0;
  ASSERT_TRUE(dev().Copy(stream, {}).ok());
  ASSERT_TRUE(dev().Sync(dev().Everything()).ok());
  device.Arm({.allocation = 1, .copy = 2, .launch = 0});
  EXPECT_EQ(dev().Allocate(MemoryKind::kDevice, 8).status().code(), StatusCode::kOutOfMemory);
  EXPECT_TRUE(dev().Allocate(MemoryKind::kDevice, 8).ok());  // the device is not faulty
  const Ticket good = dev().Copy(stream, {}).value();
  const Status first = dev().Copy(stream, {}).status();
  EXPECT_EQ(first.code(), StatusCode::kDeviceError);
  for (const Status& later : {dev().Copy(0, {}).status(),
                              dev().Launch(stream, &Mix, MixParams{&value, 1, 1}).status(),
                              dev().Wait(0, good),
                              dev().Sync(good),
                              dev().Sync({})}) {
    EXPECT_EQ(later.code(), StatusCode::kDeviceError);
    EXPECT_EQ(later.message(), first.message());
  }
  EXPECT_TRUE(dev().Done(good));
  EXPECT_EQ(value, 0U);
}

TEST_P(DeviceContract, AllThatWasSubmittedRunsBeforeTheDeviceGoes) {
  std::vector<uint64_t> values(3, 0);
  for (uint64_t& value : values) {
    const device::StreamId stream = Stream();
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(dev().Launch(stream, &Mix, MixParams{&value, 1, 1}).ok());
    }
  }
  made_.device.reset();
  EXPECT_EQ(values, std::vector<uint64_t>(3, 100));
}

TEST_P(DeviceContract, ManyHostThreads) {
  constexpr uint32_t kThreads = 4;
  constexpr uint32_t kSteps = 50;
  const device::Buffer value = Take(dev(), MemoryKind::kHostVisible, kThreads * sizeof(uint64_t));
  std::fill_n(value.as<uint64_t>(), kThreads, 0);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const device::StreamId here = Stream();
      const device::StreamId there = Stream(-1);
      const MixParams params = {value.as<uint64_t>() + t, 1, 1};
      for (uint32_t i = 0; i < kSteps; ++i) {
        const device::Buffer temporary = Take(dev(), MemoryKind::kDevice, 256);
        const device::StreamId stream = i % 2 == 0 ? here : there;
        const Ticket ticket = dev().Launch(stream, &Mix, params).value();
        EXPECT_TRUE(dev().Wait(i % 2 == 0 ? there : here, ticket).ok());
        if (i % 10 == 0) {
          EXPECT_TRUE(dev().Sync(ticket).ok());
          EXPECT_TRUE(dev().Done(ticket));
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(dev().Sync(dev().Everything()).ok());
  for (uint32_t t = 0; t < kThreads; ++t) {
    EXPECT_EQ(value.as<uint64_t>()[t], kSteps);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Devices,
    DeviceContract,
    ::testing::Values("cpu", "wrapped", "threads", "simulated", "unified", "guarded"),
    [](const ::testing::TestParamInfo<std::string>& param) { return param.param; });

}  // namespace
}  // namespace hipattn::test
