// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "core/search/config.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace hipattn::core {
namespace {

// Expects an error whose message has `part` in it.
void ExpectError(const Status& status, const std::string& part) {
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << part;
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}

TEST(SearchConfig, DefaultsAreValid) {
  EXPECT_TRUE(ValidateTree({}, {}, Scorer::kCuboidMean, SummaryForm::kInt8).ok());
  EXPECT_TRUE(ValidateBeam({}).ok());
  EXPECT_TRUE(ValidateStaged({}).ok());
  const uint32_t intervals[] = {16, 8, 4};
  EXPECT_TRUE(ValidateIntervals(intervals).ok());
}

Status Tree(const std::function<void(TreeConfig*, SearchRows*)>& change,
            Scorer scorer = Scorer::kCuboidMean,
            SummaryForm form = SummaryForm::kInt8) {
  TreeConfig config;
  SearchRows rows;
  change(&config, &rows);
  return ValidateTree(config, rows, scorer, form);
}

TEST(SearchConfig, TreeErrorsNameTheFieldAndItsValue) {
  ExpectError(Tree([](auto* c, auto*) { c->block_tokens = 24; }), "block_tokens is 24");
  ExpectError(Tree([](auto* c, auto*) { c->budget_tokens = 2040; }), "budget_tokens is 2040");
  ExpectError(Tree([](auto* c, auto*) { c->budget_tokens = 0; }), "budget_tokens is 0");
  ExpectError(Tree([](auto* c, auto*) { c->beam = 15; }), "beam is 15");
  EXPECT_TRUE(Tree([](auto* c, auto*) { c->beam = 16; }).ok());
  EXPECT_TRUE(Tree([](auto* c, auto*) {
                c->beam = 1;
                c->flat = true;
              }).ok())
      << "a flat search has no beam";
  ExpectError(Tree([](auto*, auto* r) { r->window_tokens = 15; }), "window_tokens is 15");
  ExpectError(Tree([](auto*, auto* r) {
                r->block_q = 64;
                r->window_tokens = 78;
              }),
              "window_tokens is 78");
  ExpectError(Tree([](auto*, auto* r) { r->query_stride = 2; }), "query_stride is 2");
  ExpectError(Tree([](auto*, auto* r) { r->sink_tokens = 0x80000000U; }),
              "sink_tokens is 2147483648");
  const auto same = [](auto*, auto*) {};
  ExpectError(Tree(same, Scorer::kExact), "exact");
  EXPECT_TRUE(Tree(same, Scorer::kExact, SummaryForm::kFloat32).ok());
  ExpectError(Tree(same, static_cast<Scorer>(8)), "scorer is 8");
  ExpectError(Tree(same, Scorer::kMean, static_cast<SummaryForm>(3)), "form is 3");
  ExpectError(ValidateTreePositions({8192, ScanMode::kRelative}, 8192), "position 8192");
  EXPECT_TRUE(ValidateTreePositions({8192, ScanMode::kRelative}, 8191).ok());
}

TEST(SearchConfig, ExtensionHasToFitBelowTheTrainedLength) {
  ExtensionUse use{256, 2048, 1024, 64, 768, 1000000};
  EXPECT_TRUE(ValidateExtension({8192, ScanMode::kRelative}, use).ok());
  EXPECT_TRUE(ValidateExtension({3392, ScanMode::kStreaming}, use).ok()) << "exact fit";
  ExpectError(ValidateExtension({3391, ScanMode::kRelative}, use), "trained_tokens is 3391");
  use.max_pos = 3390;
  EXPECT_TRUE(ValidateExtension({3391, ScanMode::kRelative}, use).ok()) << "never extended";
  ExpectError(ValidateExtension({8192, ScanMode::kTrue}, use), "scan mode is 1");
  ExpectError(ValidateExtension({769, ScanMode::kRelative}, {0, 0, 0, 1, 768, 1000}),
              "trained_tokens is 769");
}

}  // namespace
}  // namespace hipattn::core
