// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// trace_path, as a program gives it.
#include "tests/api/api_fixture.h"
#include "tests/support/trace_file.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace hipattn::test {
namespace {

std::vector<float> Answers(const hipattn_engine_options_t& options) {
  const EnginePtr engine = MakeEngine(options);
  const SequencePtr sequence = MakeSequence(engine.get());
  std::vector<float> results;
  for (uint32_t step = 0; step < 5; ++step) {
    for (uint32_t layer = 0; layer < 2; ++layer) {
      Arrays arrays(step == 0 ? 300 : 1, 2 * step + layer + 1);
      EXPECT_EQ(Step(engine.get(), sequence.get(), layer, step == 0 ? 300 : 1, arrays), HIPATTN_OK)
          << LastError();
      const std::vector<float> out = arrays.out.copy();
      results.insert(results.end(), out.begin(), out.end());
    }
  }
  return results;
}

hipattn_engine_options_t Traced(const char* path) {
  hipattn_engine_options_t options = SmallEngine();
  options.trace_path = path;
  return options;
}

hipattn_status_t Create(const hipattn_engine_options_t& options) {
  hipattn_engine_t* engine = nullptr;
  const hipattn_status_t status = hipattn_engine_create(&options, &engine);
  EXPECT_EQ(engine == nullptr, status != HIPATTN_OK);
  hipattn_engine_destroy(engine);
  return status;
}

TEST(CApiTrace, IsWrittenAndChangesNoBit) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("trace.json");
  hipattn_engine_options_t options = Traced(path.c_str());
  options.num_threads = 2;
  EXPECT_EQ(Answers(options), Answers(SmallEngine()));
  const TraceContent content = ReadTrace(path);
  ExpectNested(content);
  EXPECT_EQ(content.Named("attend").size(), 10U);
  EXPECT_EQ(content.Named("dense_prefill").size(), 2U);
  EXPECT_EQ(content.Named("sparse_decode").size(), 8U);
  EXPECT_FALSE(content.counters.empty());
}

TEST(CApiTrace, TheOptionsSayIt) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("trace.json");
  const EnginePtr engine = MakeEngine(Traced(path.c_str()));
  hipattn_engine_options_t resolved = HIPATTN_ENGINE_OPTIONS_INIT;
  ASSERT_EQ(hipattn_engine_get_options(engine.get(), &resolved), HIPATTN_OK);
  EXPECT_EQ(resolved.trace_path, path);
  const EnginePtr without = MakeEngine(SmallEngine());
  ASSERT_EQ(hipattn_engine_get_options(without.get(), &resolved), HIPATTN_OK);
  EXPECT_EQ(resolved.trace_path, nullptr);
}

TEST(CApiTrace, APathThatCannotBeOpenedIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("missing") + "/trace.json";
  EXPECT_EQ(Create(Traced(path.c_str())), HIPATTN_IO_ERROR);
  EXPECT_NE(LastError().find(path), std::string::npos) << LastError();
  EXPECT_EQ(Create(Traced("")), HIPATTN_INVALID_ARGUMENT);
  EXPECT_NE(LastError().find("trace_path is \"\""), std::string::npos) << LastError();
}

TEST(CApiTrace, OnlyOneEngineWritesToAFile) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("trace.json");
  {
    const EnginePtr engine = MakeEngine(Traced(path.c_str()));
    EXPECT_EQ(Create(Traced(path.c_str())), HIPATTN_IO_ERROR);
    EXPECT_NE(LastError().find("another engine writes its trace to it"), std::string::npos)
        << LastError();
    const SequencePtr sequence = MakeSequence(engine.get());
    Arrays arrays(1);
    EXPECT_EQ(Step(engine.get(), sequence.get(), 0, 1, arrays), HIPATTN_OK) << LastError();
  }
  EXPECT_EQ(ReadTrace(path).Named("attend").size(), 1U);
  EXPECT_EQ(Create(Traced(path.c_str())), HIPATTN_OK) << "it is free again";
}

TEST(CApiTrace, AFullDiskEndsTheTraceAlone) {
  std::vector<std::pair<int32_t, std::string>> lines;
  hipattn_engine_options_t options = Traced("/dev/full");
  options.log = [](void* to, int32_t level, const char* message) {
    static_cast<std::vector<std::pair<int32_t, std::string>>*>(to)->emplace_back(level, message);
  };
  options.log_user_data = &lines;
  EXPECT_EQ(Answers(options), Answers(SmallEngine()));
  std::vector<std::string> errors;
  for (const auto& [level, message] : lines) {
    if (level == 4) {
      errors.push_back(message);
    }
  }
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_NE(errors[0].find("\"/dev/full\""), std::string::npos) << errors[0];
}

// Programs of before know no trace_path; a pointer of which they give a half is none.
TEST(CApiTrace, BeyondStructSizeThereIsNone) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("trace.json");
  hipattn_engine_options_t options = Traced(path.c_str());
  for (const size_t bytes : {offsetof(hipattn_engine_options_t, trace_path),
                             offsetof(hipattn_engine_options_t, trace_path) + 4}) {
    options.struct_size = static_cast<uint32_t>(bytes);
    EXPECT_EQ(Create(options), HIPATTN_OK) << LastError();
    EXPECT_EQ(folder.NumFiles(), 0U);
  }
}

}  // namespace
}  // namespace hipattn::test
