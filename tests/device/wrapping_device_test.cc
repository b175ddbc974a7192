// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tests/emulated/wrapping_device.h"

#include "tests/device/device_fixture.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

namespace hipattn::test {
namespace {

using device::MemoryKind;
using device::Ticket;

template <typename Wrapper, typename... Args>
std::pair<MadeDevice, Wrapper*> Wrap(const std::string& name, const Args&... args) {
  MadeDevice made = MakeDevice(name);
  auto wrapper = std::make_unique<Wrapper>(std::move(made.device), args...);
  Wrapper* const raw = wrapper.get();
  made.device = std::move(wrapper);
  return {std::move(made), raw};
}

TEST(FaultyDeviceTest, OnlyTheCountedCallFails) {
  auto [made, faulty] = Wrap<FaultyDevice>("cpu");
  faulty->Arm({.allocation = 3, .copy = 0, .launch = 2});
  for (const bool ok : {true, true, false, true}) {
    EXPECT_EQ(faulty->Allocate(MemoryKind::kDevice, 8).ok(), ok);
  }
  uint64_t value = 0;
  EXPECT_TRUE(faulty->Launch(0, &Mix, MixParams{&value, 1, 1}).ok());
  EXPECT_TRUE(faulty->Sync({}).ok());
  EXPECT_EQ(faulty->Launch(0, &Mix, MixParams{&value, 1, 1}).status().code(),
            StatusCode::kDeviceError);
  EXPECT_EQ(faulty->Copy(0, {}).status().code(), StatusCode::kDeviceError);
  EXPECT_EQ(value, 1U);
}

TEST(RecordingDeviceTest, KeepsWhatSucceededInOrder) {
  using Call = RecordingDevice::Call;
  auto [made, recording] = Wrap<RecordingDevice>("threads");
  const device::StreamId stream = recording->CreateStream(0).value();
  uint64_t value = 0;
  device::Buffer buffer = Take(*recording, MemoryKind::kMapped, 100);
  const device::CopyPiece pieces[] = {{buffer.data(), buffer.data() + 50, 20},
                                      {buffer.data() + 20, buffer.data() + 70, 30}};
  const Ticket copied = recording->Copy(stream, pieces).value();
  EXPECT_FALSE(recording->Copy(99, pieces).ok());
  ASSERT_TRUE(recording->Wait(0, copied).ok());
  const Ticket launched = recording->Launch(0, &Mix, MixParams{&value, 1, 1}).value();
  ASSERT_TRUE(recording->Sync(launched).ok());
  buffer.FreeAfter(launched);

  const std::vector<RecordingDevice::Record> records = recording->Take();
  ASSERT_EQ(records.size(), 6U);
  const Call want[] = {
      Call::kAllocate, Call::kCopy, Call::kWait, Call::kLaunch, Call::kSync, Call::kFree};
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(records[i].call, want[i]) << i;
  }
  EXPECT_EQ(records[0].kind, MemoryKind::kMapped);
  EXPECT_EQ(records[0].bytes, 100U);
  EXPECT_EQ(records[1].stream, stream);
  EXPECT_EQ(records[1].pieces, 2U);
  EXPECT_EQ(records[1].bytes, 50U);
  EXPECT_EQ(records[2].ticket.sequence, copied.sequence);
  EXPECT_EQ(records[3].op, device::AnyOp<MixParams>(&Mix));
  EXPECT_NE(records[3].op, device::AnyOp(recording->ops().merge_states));
  EXPECT_EQ(records[5].ticket.sequence, launched.sequence);
  EXPECT_TRUE(recording->Take().empty());
}

TEST(LimitingDeviceTest, CountsMemoryUntilItsTicketIsReached) {
  auto [made, limiting] = Wrap<LimitingDevice>("threads", LimitingDevice::Limit{.bytes = 1000});
  const device::StreamId stream = limiting->CreateStream(0).value();
  device::Buffer first = Take(*limiting, MemoryKind::kDevice, 600);
  const device::Buffer host = Take(*limiting, MemoryKind::kPinned, 5000);  // does not count
  {
    Hold hold(made, stream);
    first.FreeAfter(hold.ticket());
    EXPECT_EQ(limiting->bytes_in_use(), 600U);
    EXPECT_EQ(limiting->Allocate(MemoryKind::kHostVisible, 500).status().code(),
              StatusCode::kInternal);
    EXPECT_EQ(limiting->num_refused(), 1U);
  }
  EXPECT_EQ(limiting->bytes_in_use(), 0U);
  const device::Buffer next = Take(*limiting, MemoryKind::kHostVisible, 1000);
  EXPECT_EQ(limiting->bytes_in_use(), 1000U);
  EXPECT_EQ(limiting->peak_bytes(), 1000U);
  EXPECT_EQ(limiting->num_refused(), 1U);
}

}  // namespace
}  // namespace hipattn::test
