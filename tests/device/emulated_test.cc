// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What an emulated device adds to the contract: late landing, NaN, aliases, faults, exact times.
#include "tests/device/device_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::test {
namespace {

using device::MemoryKind;
using device::Ticket;

EmulatedOptions Simulated() {
  EmulatedOptions options;
  options.simulated_clock = true;
  options.device_bytes = options.pinned_bytes = size_t{64} << 20;
  options.op_ns = [](const device::Submission&) { return kOpNs; };
  return options;
}

bool AllNan(const float* values, size_t count) {
  return std::all_of(values, values + count, [](float value) { return std::isnan(value); });
}

// The host's copy of device memory.
std::vector<std::byte> Read(device::Device& device, const void* from, size_t bytes) {
  const device::Buffer to = Take(device, MemoryKind::kPinned, bytes);
  const device::CopyPiece piece = {to.data(), from, bytes};
  EXPECT_TRUE(device.Sync(device.Copy(0, {&piece, 1}).value()).ok());
  return {to.data(), to.data() + bytes};
}

class EmulatedDeviceTest : public ::testing::TestWithParam<bool> {
 protected:
  EmulatedDeviceTest() {
    EmulatedOptions options = Simulated();
    options.simulated_clock = GetParam();
    made_ = MakeEmulated(options);
  }
  device::Device& dev() { return *made_.device; }
  MadeDevice made_;
};

TEST_P(EmulatedDeviceTest, FreshMemoryIsNan) {
  for (int round = 0; round < 2; ++round) {  // the second gets what the first gave back
    for (const auto kind : {MemoryKind::kHostVisible, MemoryKind::kPinned, MemoryKind::kMapped}) {
      const device::Buffer buffer = Take(dev(), kind, 4096);
      EXPECT_TRUE(AllNan(buffer.as<float>(), 1024));
      std::memset(buffer.data(), 0, 4096);
    }
    const device::Buffer device = Take(dev(), MemoryKind::kDevice, 4096);
    const std::vector<std::byte> got = Read(dev(), device.data(), 4096);
    EXPECT_EQ(got, std::vector<std::byte>(4096, std::byte{0xff}));
    const std::vector<std::byte> zeros(4096, std::byte{0});
    const device::CopyPiece piece = {device.data(), zeros.data(), 4096};
    ASSERT_TRUE(dev().Sync(dev().Copy(0, {&piece, 1}).value()).ok());
    EXPECT_EQ(Read(dev(), device.data(), 4096), zeros);
  }
}

TEST_P(EmulatedDeviceTest, FreedMemoryIsNanToWhoStillReadsIt) {
  device::Buffer gone = Take(dev(), MemoryKind::kHostVisible, 64);
  const auto* const dangling = gone.as<float>();
  std::memset(gone.data(), 0, 64);
  gone = {};
  EXPECT_TRUE(AllNan(dangling, 16));
}

TEST_P(EmulatedDeviceTest, BytesLandWhenTheCopyEndsAndNotBefore) {
  const device::Buffer from = Take(dev(), MemoryKind::kPinned, 64);
  const device::Buffer to = Take(dev(), MemoryKind::kPinned, 64);
  const device::StreamId stream = dev().CreateStream(0).value();
  Hold hold(made_, stream);
  std::memset(from.data(), 1, 64);
  const device::CopyPiece piece = {to.data(), from.data(), 64};
  const Ticket ticket = dev().Copy(stream, {&piece, 1}).value();
  EXPECT_TRUE(AllNan(to.as<float>(), 16));
  std::memset(from.data(), 2, 64);  // too early: the copy takes what is there at its end
  hold.Release();
  ASSERT_TRUE(dev().Sync(ticket).ok());
  EXPECT_EQ(to.data()[0], std::byte{2});
}

TEST_P(EmulatedDeviceTest, MemoryInUseIncludesWhatIsNotFreedYet) {
  const device::StreamId busy = dev().CreateStream(0).value();
  const device::StreamId idle = dev().CreateStream(0).value();
  const Ticket reached = dev().Copy(idle, {}).value();
  ASSERT_TRUE(dev().Sync(reached).ok());
  const auto in_use = [&] { return made_.emulated->bytes_in_use(MemoryKind::kDevice); };
  device::Buffer early = Take(dev(), MemoryKind::kDevice, 1000);
  device::Buffer late = Take(dev(), MemoryKind::kDevice, 200);
  device::Buffer last = Take(dev(), MemoryKind::kDevice, 30);
  EXPECT_EQ(in_use(), 1230U);
  {
    Hold hold(made_, busy);
    early.FreeAfter(reached);
    EXPECT_EQ(in_use(), 230U);
    late.FreeAfter(hold.ticket());
    last = {};
    EXPECT_EQ(in_use(), 230U);
  }
  ASSERT_TRUE(dev().Sync(dev().Everything()).ok());
  // The stream's thread may still be freeing; the device's end waits for it.
  if (made_.simulated) {
    EXPECT_EQ(in_use(), 0U);
  }
}

TEST_P(EmulatedDeviceTest, AFailingCopyIsKnownAtItsTicketAndSkipsWhatFollows) {
  EmulatedOptions options = Simulated();
  options.simulated_clock = GetParam();
  options.fail_copy = 2;
  MadeDevice made = MakeEmulated(options);
  device::Device& device = *made.device;
  const device::Buffer value = Take(device, MemoryKind::kHostVisible, 4 * sizeof(uint64_t));
  auto* const v = value.as<uint64_t>();
  std::fill_n(v, 4, 7);
  const device::StreamId stream = device.CreateStream(0).value();
  Hold hold(made, stream);
  const device::CopyPiece piece = {v + 1, v, sizeof(uint64_t)};
  const Ticket good = device.Copy(stream, {&piece, 1}).value();
  const device::CopyPiece both[] = {{v + 2, v, 8}, {v + 3, v, 8}};
  v[0] = 8;
  const Ticket bad = device.Copy(stream, both).value();  // it is not known yet
  const Ticket skipped = device.Launch(stream, &Mix, MixParams{v + 1, 0, 0}).value();
  device::Buffer freed = Take(device, MemoryKind::kPinned, 64);
  freed.FreeAfter(skipped);
  hold.Release();
  static_cast<void>(device.Sync(good));  // with or without the error
  const Status status = device.Sync(bad);
  EXPECT_EQ(status.code(), StatusCode::kDeviceError);
  EXPECT_EQ(device.Sync(skipped).message(), status.message());
  EXPECT_EQ(device.Copy(0, {}).status().message(), status.message());
  EXPECT_TRUE(device.Done(skipped));
  EXPECT_EQ(v[1], 8U);
  EXPECT_EQ((v[2] == 8) + (v[3] == 8), 1);  // half of it
  if (made.simulated) {
    EXPECT_EQ(made.emulated->bytes_in_use(MemoryKind::kPinned), 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Clocks, EmulatedDeviceTest, ::testing::Bool(), [](const auto& param) {
  return param.param ? "Simulated" : "Threads";
});

TEST(EmulatedMemoryTest, AllocationsFailWhenToldAndBeyondWhatTheDeviceHas) {
  EmulatedOptions options = Simulated();
  options.fail_allocation = 2;
  options.device_bytes = 1000;
  options.pinned_bytes = 100;
  const MadeDevice made = MakeEmulated(options);
  device::Device& device = *made.device;
  const device::Buffer first = Take(device, MemoryKind::kDevice, 600);
  EXPECT_EQ(device.Allocate(MemoryKind::kDevice, 1).status().code(), StatusCode::kOutOfMemory);
  const Status status = device.Allocate(MemoryKind::kHostVisible, 401).status();
  EXPECT_EQ(status.code(), StatusCode::kOutOfMemory);
  EXPECT_NE(status.message().find("400"), std::string::npos) << status.message();
  EXPECT_TRUE(device.Allocate(MemoryKind::kHostVisible, 400).ok());
  EXPECT_EQ(device.capabilities().pinned_bytes, 100U);
  const device::Buffer pinned = Take(device, MemoryKind::kPinned, 60);
  EXPECT_EQ(device.Allocate(MemoryKind::kMapped, 41).status().code(), StatusCode::kOutOfMemory);
  EXPECT_TRUE(device.Allocate(MemoryKind::kMapped, 40).ok());
}

TEST(EmulatedMemoryTest, ManySizesComeAndGoAndNothingOverlaps) {
  const MadeDevice made = MakeEmulated(Simulated());
  std::vector<device::Buffer> held(32);
  uint32_t random = 1;
  for (uint32_t i = 0; i < 2000; ++i) {
    random = random * 1664525 + 1013904223;
    device::Buffer& slot = held[random >> 27];
    const size_t bytes = 1 + (random >> 8) % (i % 50 == 0 ? 3000000 : 3000);
    slot = {};
    slot = Take(*made.device, MemoryKind::kHostVisible, bytes);
    std::memset(slot.data(), static_cast<int>(random >> 27), bytes);
  }
  for (uint32_t i = 0; i < held.size(); ++i) {
    const std::byte* const data = held[i].data();
    EXPECT_TRUE(std::all_of(
        data, data + held[i].size_bytes(), [&](std::byte b) { return b == std::byte(i); }));
  }
  held.clear();
  // All joined again: a single allocation gets nearly everything.
  EXPECT_TRUE(made.device->Allocate(MemoryKind::kHostVisible, size_t{64} << 20).ok());
}

TEST(EmulatedMemoryDeathTest, TheGuardCatchesAHostThatTouchesDeviceMemory) {
  EmulatedOptions options = Simulated();
  options.guard = true;
  const MadeDevice made = MakeEmulated(options);
  const device::Buffer buffer = Take(*made.device, MemoryKind::kDevice, 64);
  const device::Buffer mapped = Take(*made.device, MemoryKind::kMapped, 64);
  mapped.data()[0] = std::byte{1};
  EXPECT_DEATH(buffer.data()[0] = std::byte{1}, "");
  EXPECT_DEATH(mapped.device_data()[0] = std::byte{1}, "");
}

struct JobsParams {
  const uint64_t* jobs;
  uint64_t* sum;
};
void AddJob(const device::OpContext& /*context*/, const JobsParams& params) {
  *params.sum = params.jobs[0];
}

TEST(EmulatedMemoryTest, TheGuardRefusesAListOfJobsThatTheDeviceCannotSee) {
  EmulatedOptions options = Simulated();
  options.guard = true;
  const MadeDevice made = MakeEmulated(options);
  const uint64_t mine = 5;
  const device::Buffer its = Take(*made.device, MemoryKind::kHostVisible, 2 * sizeof(uint64_t));
  its.as<uint64_t>()[0] = 6;
  EXPECT_EQ(made.device->Launch(0, &AddJob, JobsParams{&mine, nullptr}).status().code(),
            StatusCode::kDeviceError);
  const JobsParams params = {its.as<uint64_t>(), its.as<uint64_t>() + 1};
  ASSERT_TRUE(made.device->Sync(made.device->Launch(0, &AddJob, params).value()).ok());
  EXPECT_EQ(its.as<uint64_t>()[1], 6U);
}

TEST(EmulatedMemoryDeathTest, TheGuardCatchesAnOpThatTakesTheHostsAddress) {
  EmulatedOptions options = Simulated();
  options.guard = true;
  options.cpu.num_threads = 1;
  const MadeDevice made = MakeEmulated(options);
  const device::Buffer its = Take(*made.device, MemoryKind::kHostVisible, sizeof(uint64_t));
  const device::Buffer mapped = Take(*made.device, MemoryKind::kMapped, sizeof(uint64_t));
  its.as<uint64_t>()[0] = 6;
  const auto launch = [&](uint64_t* sum) {
    const device::Ticket ticket =
        made.device->Launch(0, &AddJob, JobsParams{its.as<uint64_t>(), sum}).value();
    return made.device->Sync(ticket).ok();
  };
  EXPECT_TRUE(launch(mapped.device_as<uint64_t>()));
  EXPECT_EQ(mapped.as<uint64_t>()[0], 6U);
  EXPECT_DEATH(launch(mapped.as<uint64_t>()), "");
}

// One link of a byte per nanosecond and 100 ns, half as fast below 10 bytes; ops take kOpNs.
class SimulatedClockTest : public ::testing::Test {
 protected:
  static EmulatedOptions Options() {
    EmulatedOptions options = Simulated();
    options.links[kToDevice] = {100, 1.0, 10, 0.5};
    options.links[kToHost] = {100, 2.0, 0, 0.0};
    options.links[kOnDevice] = {};
    return options;
  }
  Ticket Copy(device::StreamId stream, Link link, size_t bytes, size_t pieces = 1) {
    std::vector<device::CopyPiece> list;
    for (size_t i = 0; i < pieces; ++i) {
      list.push_back({(link == kToHost ? host_ : device_).data() + 4096 + i * bytes,
                      (link == kToDevice ? host_ : device_).data() + i * bytes,
                      bytes});
    }
    return dev().Copy(stream, list).value();
  }
  Ticket Op(device::StreamId stream) {
    return dev().Launch(stream, &Mix, MixParams{&value_, 1, 1}).value();
  }
  int64_t EndOf(Ticket ticket) {
    for (const Event& event : clock().events()) {
      if (event.ticket.sequence == ticket.sequence) {
        return event.end_ns;
      }
    }
    return -1;
  }
  device::Device& dev() { return *made_.device; }
  SimulatedSchedule& clock() { return made_.emulated->clock(); }

  MadeDevice made_ = MakeEmulated(Options());
  device::Buffer device_ = Take(dev(), MemoryKind::kDevice, 8192);
  device::Buffer host_ = Take(dev(), MemoryKind::kPinned, 8192);
  const device::StreamId copies_ = dev().CreateStream(0).value();
  const device::StreamId more_ = dev().CreateStream(0).value();
  uint64_t value_ = 0;
};

TEST_F(SimulatedClockTest, ACopyTakesLatencyAndItsBytesAtTheRateOfTheirPieces) {
  EXPECT_EQ(EndOf(Copy(copies_, kToDevice, 1000)), 1100);
  EXPECT_EQ(EndOf(Copy(copies_, kToDevice, 10, 4)), 1100 + 140);
  EXPECT_EQ(EndOf(Copy(copies_, kToDevice, 8, 5)), 1240 + 180);  // the cliff: as long for less
  EXPECT_EQ(EndOf(Copy(copies_, kOnDevice, 1000)), 1420);
  EXPECT_EQ(clock().totals().link_ns[kToDevice], 1420);
  EXPECT_EQ(clock().now_ns(), 0);  // the host has not waited
}

TEST_F(SimulatedClockTest, OneDirectionDoesOneCopyAfterTheOtherDirectionsOverlap) {
  EXPECT_EQ(EndOf(Copy(copies_, kToDevice, 1000)), 1100);
  EXPECT_EQ(EndOf(Copy(more_, kToDevice, 500)), 1700);
  EXPECT_EQ(EndOf(Copy(0, kToHost, 1000)), 600);
}

TEST_F(SimulatedClockTest, SyncMovesTheHostToTheTicketAndCountsTheWait) {
  const Ticket ticket = Copy(copies_, kToDevice, 900);
  clock().Advance(400);
  EXPECT_FALSE(dev().Done(ticket));
  ASSERT_TRUE(dev().Sync(ticket).ok());
  EXPECT_EQ(clock().now_ns(), 1000);
  EXPECT_EQ(clock().totals().host_wait_ns, 600);
  ASSERT_TRUE(dev().Sync(ticket).ok());
  EXPECT_EQ(clock().totals().host_wait_ns, 600);
  // What is submitted now begins now.
  EXPECT_EQ(EndOf(Op(0)), 1000 + kOpNs);
}

TEST_F(SimulatedClockTest, HiddenTransferTimeComesOutExactly) {
  // Prefetched: the copy of the next step runs beside this step's op and is longer by 100.
  Ticket fetched = Copy(copies_, kToDevice, 1000);  // until 1100
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(dev().Wait(0, fetched).ok());
    Op(0);
    fetched = Copy(copies_, kToDevice, 1000);
  }
  // Ops begin at 1100, 2200, 3300; the stream was free at 0, 2100, 3200.
  const Totals totals = clock().totals();
  EXPECT_EQ(totals.link_ns[kToDevice], 4400);
  EXPECT_EQ(totals.op_ns, 3 * kOpNs);
  EXPECT_EQ(totals.stream_wait_ns, 1100 + 100 + 100);
}

TEST_F(SimulatedClockTest, RunsRepeatWithJitterToo) {
  const auto run = [](uint64_t seed) {
    EmulatedOptions options = Options();
    options.jitter_ns = 1000;
    options.seed = seed;
    const MadeDevice made = MakeEmulated(options);
    const device::Buffer buffer = Take(*made.device, MemoryKind::kDevice, 100);
    const std::vector<std::byte> zeros(100);
    const device::CopyPiece piece = {buffer.data(), zeros.data(), 100};
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(made.device->Copy(0, {&piece, 1}).ok());
    }
    EXPECT_TRUE(made.device->Sync(made.device->Everything()).ok());
    return made.emulated->clock().now_ns();
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
  EXPECT_GT(run(1), 20 * 200);
  EXPECT_LE(run(1), 20 * 1200);
}

}  // namespace
}  // namespace hipattn::test
