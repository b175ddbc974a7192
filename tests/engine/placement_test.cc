// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What an engine says of a system that does not place memory.
#include "device/registry.h"
#include "engine/engine.h"
#include "engine/options.h"
#include "tests/emulated/wrapping_device.h"
#include "tests/host/fake_host_memory.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

namespace hipattn::engine {
namespace {

class ElsewhereDevice : public test::WrappingDevice {
 public:
  ElsewhereDevice(std::unique_ptr<device::Device> inner, device::Placement placement)
      : WrappingDevice(std::move(inner)) {
    memory_.placed = placement;
  }
  device::HostMemory& host_memory() override { return memory_; }

 private:
  test::FakeHostMemory memory_;
};

std::string LogOf(device::Placement placement) {
  std::string log;
  EngineOptions options;
  options.num_layers = options.num_q_heads = options.num_kv_heads = 1;
  options.head_dim = 64;
  options.device_kv_bytes = uint64_t{64} << 20;
  options.log.fn = [](void* to, int32_t /*level*/, const char* message) {
    *static_cast<std::string*>(to) += message;
  };
  options.log.user_data = &log;
  auto device = std::make_unique<ElsewhereDevice>(
      std::move(device::CreateCpuDevice({1, {}}).value()), placement);
  EXPECT_TRUE(Engine::CreateOn(std::move(device), ResolveEngineOptions(options).value()).ok());
  return log;
}

TEST(PlacementLogTest, ARefusalIsLogged) {
  EXPECT_NE(LogOf(device::Placement::kFirstTouch).find("NUMA"), std::string::npos);
  EXPECT_EQ(LogOf(device::Placement::kPolicy).find("NUMA"), std::string::npos);
  EXPECT_EQ(LogOf(device::Placement::kOneNode).find("NUMA"), std::string::npos);
}

}  // namespace
}  // namespace hipattn::engine
