// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Facts: what makes one the only answer to its question, and where it ends up in the tokens.
#include "fact.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace recall_bench {
namespace {

// One token per byte.
Result<std::vector<int32_t>> EncodeBytes(std::string_view text) {
  return std::vector<int32_t>(text.begin(), text.end());
}

std::vector<int32_t> Text(size_t tokens) {
  std::vector<int32_t> text(tokens);
  for (size_t i = 0; i < tokens; ++i) {
    text[i] = 1000 + static_cast<int32_t>(i);
  }
  return text;
}

bool Contains(const std::vector<int32_t>& tokens, const std::string& part) {
  return std::search(tokens.begin(), tokens.end(), part.begin(), part.end()) != tokens.end();
}

TEST(RecallFacts, DependOnSeedAndNumberAlone) {
  FactOptions options;
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(MakeFact(options, i).hidden.statement, MakeFact(options, i).hidden.statement);
  }
  FactOptions other = options;
  other.seed = 2;
  std::set<std::string> statements;
  for (uint64_t i = 0; i < 50; ++i) {
    statements.insert(MakeFact(options, i).hidden.statement);
    statements.insert(MakeFact(other, i).hidden.statement);
  }
  // Numbers have 90000 values, words 30: a few may meet.
  EXPECT_GT(statements.size(), 85U);
}

TEST(RecallFacts, OnlyTheRightPlaceAnswers) {
  FactOptions options;
  options.distractors = kMaxDistractors;
  std::set<std::string> forms;
  for (uint64_t i = 0; i < 200; ++i) {
    const Fact fact = MakeFact(options, i);
    forms.insert(fact.form);
    EXPECT_NE(fact.hidden.statement.find(fact.value), std::string::npos);
    EXPECT_NE(fact.hidden.statement.find(fact.name), std::string::npos);
    EXPECT_EQ(fact.question.find(fact.value), std::string::npos) << fact.question;
    EXPECT_NE(fact.question.find(fact.name), std::string::npos);
    ASSERT_EQ(fact.distractors.size(), kMaxDistractors);
    const std::string beginning = fact.hidden.statement.substr(0, 7);
    for (const Hidden& distractor : fact.distractors) {
      EXPECT_EQ(distractor.statement.find(fact.value), std::string::npos);
      EXPECT_EQ(distractor.statement.find(fact.name), std::string::npos);
      EXPECT_EQ(distractor.statement.substr(0, 7), beginning);
    }
  }
  EXPECT_EQ(forms.size(), FactForms().size());
}

TEST(RecallFacts, FormsCanBeChosen) {
  FactOptions options;
  options.forms = {"password"};
  for (uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(MakeFact(options, i).form, "password");
  }
}

TEST(RecallFacts, LiesWhereItSays) {
  FactOptions options;
  const std::vector<int32_t> text = Text(5000);
  for (uint64_t i = 0; i < 50; ++i) {
    const Fact fact = MakeFact(options, i);
    const Result<Prompt> hidden = HideFact(fact, text, {2000, 8, std::nullopt}, EncodeBytes);
    ASSERT_TRUE(hidden.ok()) << hidden.status().message();
    const Prompt& prompt = hidden.value();
    const std::string statement(
        prompt.tokens.begin() + static_cast<std::ptrdiff_t>(prompt.fact_begin),
        prompt.tokens.begin() + static_cast<std::ptrdiff_t>(prompt.fact_end));
    EXPECT_EQ(statement, fact.hidden.statement);
    EXPECT_EQ(prompt.tokens.size() + prompt.question.size() + 8, 2000U);
    for (const Hidden& distractor : fact.distractors) {
      EXPECT_TRUE(Contains(prompt.tokens, distractor.statement));
    }
    // What remains of the text is in its order, without gaps.
    std::vector<int32_t> rest;
    std::copy_if(
        prompt.tokens.begin(), prompt.tokens.end(), std::back_inserter(rest), [](int32_t token) {
          return token >= 1000;
        });
    for (size_t t = 1; t < rest.size(); ++t) {
      ASSERT_EQ(rest[t], rest[t - 1] + 1);
    }
  }
}

TEST(RecallFacts, DepthsAndSlicesDiffer) {
  std::set<size_t> places;
  std::set<int32_t> slices;
  const std::vector<int32_t> text = Text(50000);
  for (uint64_t i = 0; i < 20; ++i) {
    const Result<Prompt> hidden = HideFact(MakeFact({}, i), text, {2000, 8, {}}, EncodeBytes);
    ASSERT_TRUE(hidden.ok());
    places.insert(hidden.value().fact_begin);
    slices.insert(hidden.value().tokens[0]);
  }
  EXPECT_GT(places.size(), 15U);
  EXPECT_GT(slices.size(), 15U);
}

TEST(RecallFacts, BeginOfTextComesFirstAndCounts) {
  const Result<Prompt> hidden = HideFact(MakeFact({}, 0), Text(5000), {2000, 8, 7}, EncodeBytes);
  ASSERT_TRUE(hidden.ok());
  EXPECT_EQ(hidden.value().tokens[0], 7);
  EXPECT_EQ(hidden.value().tokens.size() + hidden.value().question.size() + 8, 2000U);
}

TEST(RecallFacts, ShortTextsAreRefused) {
  const Fact fact = MakeFact({}, 0);
  const Result<Prompt> short_text = HideFact(fact, Text(500), {2000, 8, {}}, EncodeBytes);
  ASSERT_FALSE(short_text.ok());
  EXPECT_NE(short_text.status().message().find("the text has 500 tokens"), std::string::npos);
  const Result<Prompt> short_prompt = HideFact(fact, Text(500), {100, 8, {}}, EncodeBytes);
  ASSERT_FALSE(short_prompt.ok());
  EXPECT_NE(short_prompt.status().message().find("--tokens is 100"), std::string::npos);
}

}  // namespace
}  // namespace recall_bench
