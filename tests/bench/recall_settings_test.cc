// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What setting strings mean, and every way to get one wrong.
#include "setting.h"

#include <gtest/gtest.h>

namespace recall_bench {
namespace {

Setting One(const std::string& text) {
  Result<std::vector<Setting>> settings = ParseSetting(text, {64, 256});
  EXPECT_TRUE(settings.ok()) << settings.status().message();
  if (!settings.ok()) {
    return {};
  }
  EXPECT_EQ(settings.value().size(), 1U);
  return settings.value()[0];
}

TEST(RecallSettings, FieldsReachTheOptions) {
  const Setting setting =
      One("tree:scorer=bounds,budget=512,block=32,sinks=none,window=1024,refresh=4,rerank=2048,"
          "audit=none,"
          "scanned_heads=9,min_recall=0.95,decode=auto,dense_up_to=100,verify=on");
  const hipattn_attention_options_t& options = setting.attention;
  EXPECT_EQ(options.search, uint32_t{HIPATTN_SEARCH_TREE});
  EXPECT_EQ(options.scorer, uint32_t{HIPATTN_SCORER_BOUNDS});
  EXPECT_EQ(options.budget_tokens, 512U);
  EXPECT_EQ(setting.block_tokens, 32U);
  EXPECT_EQ(options.sink_tokens, HIPATTN_NONE);
  EXPECT_EQ(options.window_tokens, 1024U);
  EXPECT_EQ(options.refresh_interval, 4U);
  EXPECT_EQ(options.rerank_tokens, 2048U);
  EXPECT_EQ(options.audit_interval, HIPATTN_NONE);
  EXPECT_EQ(options.max_scanned_heads, 9U);
  EXPECT_FLOAT_EQ(options.min_recall, 0.95F);
  EXPECT_EQ(options.decode_mode, uint32_t{HIPATTN_DECODE_AUTO});
  EXPECT_EQ(options.dense_up_to_tokens, 100U);
  EXPECT_EQ(options.verify_recall, 1U);
}

TEST(RecallSettings, PrefillFieldsReachTheOptions) {
  const Setting setting =
      One("default:prefill=vertical-slash,sizes=500x100,last_q=128,threshold=0.5,skip=0.25,"
          "delta=64,chunk=2048");
  EXPECT_TRUE(setting.reads_text());
  EXPECT_EQ(setting.attention.prefill_mode, uint32_t{HIPATTN_PREFILL_VERTICAL_SLASH});
  EXPECT_EQ(setting.attention.prefill_sizes[0], 500U);
  EXPECT_EQ(setting.attention.prefill_sizes[1], 100U);
  EXPECT_EQ(setting.attention.prefill_last_q, 128U);
  EXPECT_FLOAT_EQ(setting.attention.prefill_threshold, 0.5F);
  EXPECT_FLOAT_EQ(setting.attention.prefill_skip_threshold, 0.25F);
  EXPECT_EQ(setting.attention.prefill_delta_interval, 64U);
  EXPECT_EQ(setting.chunk_tokens, 2048U);
  EXPECT_FALSE(One("tree:prefill=dense").reads_text());
  EXPECT_FALSE(One("tree").reads_text());
}

// One reading serves settings that decode otherwise, not those that read otherwise.
TEST(RecallSettings, OneReadingServesWhatDiffersInStepsOnly) {
  const std::string text = "tree:rerank=none,prefill=a-shape,sizes=16x64";
  const Setting setting = One(text);
  EXPECT_TRUE(ShareIndex(setting, One(text + ",budget=256,decode=dense")));
  for (const char* other : {"tree:rerank=none",
                            "tree:rerank=none,prefill=flex",
                            "tree:rerank=none,prefill=a-shape,sizes=17x64",
                            "tree:rerank=none,prefill=a-shape,sizes=16x65",
                            "tree:rerank=none,prefill=a-shape,sizes=16x64,chunk=512",
                            "tree:rerank=none,prefill=a-shape,sizes=16x64,skip=0.1",
                            "tree:rerank=none,prefill=a-shape,sizes=16x64,delta=64",
                            "tree:rerank=none,prefill=a-shape,sizes=16x64,last_q=128",
                            "tree:rerank=none,prefill=a-shape,sizes=16x64,threshold=0.1",
                            "tree:rerank=none,prefill=a-shape,sizes=16x64,verify=on"}) {
    EXPECT_FALSE(ShareIndex(setting, One(other))) << other;
  }
  // HiP's prefill searches by what its steps search by.
  EXPECT_FALSE(ShareIndex(One("tree:prefill=hip,budget=256"), One("tree:prefill=hip,budget=512")));
}

TEST(RecallSettings, WhatIsLeftOutIsTheDefault) {
  const Setting setting = One("default");
  EXPECT_EQ(setting.name, "default");
  EXPECT_EQ(setting.block_tokens, 16U);
  EXPECT_EQ(setting.chunk_tokens, 8192U);
  EXPECT_EQ(setting.attention.search, uint32_t{HIPATTN_SEARCH_DEFAULT});
  EXPECT_EQ(setting.attention.decode_mode, uint32_t{HIPATTN_DECODE_SPARSE});
  EXPECT_EQ(setting.attention.budget_tokens, 0U);
  EXPECT_EQ(setting.attention.rerank_tokens, 0U);
  EXPECT_EQ(setting.attention.sink_tokens, 64U);
  EXPECT_EQ(setting.attention.window_tokens, 256U);
}

TEST(RecallSettings, SeveralValuesMakeSeveralSettings) {
  const Result<std::vector<Setting>> settings =
      ParseSetting("tree:rerank=none,budget=256/512,scorer=mean/bounds", {});
  ASSERT_TRUE(settings.ok());
  ASSERT_EQ(settings.value().size(), 4U);
  // In the order of the table of fields, the first field fastest.
  EXPECT_EQ(settings.value()[0].name, "tree:scorer=mean,budget=256,rerank=none");
  EXPECT_EQ(settings.value()[1].name, "tree:scorer=bounds,budget=256,rerank=none");
  EXPECT_EQ(settings.value()[2].spec, "tree:scorer=mean,budget=512,rerank=none");
  EXPECT_EQ(settings.value()[2].series, "tree:scorer=mean,rerank=none");
}

TEST(RecallSettings, LabelsNameThem) {
  const Setting setting = One("mine=flat:budget=512");
  EXPECT_EQ(setting.name, "mine");
  EXPECT_EQ(setting.spec, "flat:budget=512");
  EXPECT_EQ(setting.attention.search, uint32_t{HIPATTN_SEARCH_FLAT});
  const Result<std::vector<Setting>> two = ParseSetting("mine=flat:budget=256/512", {});
  ASSERT_TRUE(two.ok());
  EXPECT_EQ(two.value()[1].name, "mine:budget=512");
  EXPECT_EQ(two.value()[1].series, "mine");
}

TEST(RecallSettings, OracleChoosesTheBudget) {
  const Setting setting = One("oracle:budget=512,block=64");
  EXPECT_TRUE(setting.oracle);
  EXPECT_EQ(setting.budget_tokens(), 512U);
  EXPECT_FALSE(One("tree:budget=512").oracle);
}

TEST(RecallSettings, WrongOnesNameWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "'' is none of the kinds"},
      {"trea:budget=512", "'trea' is none of the kinds"},
      {"tree:", "'' is none of the fields"},
      {"tree:budgets=512", "'budgets' is none of the fields"},
      {"tree:budget", "field budget has no value"},
      {"tree:budget=", "field budget is ''"},
      {"tree:budget=512,", "'' is none of the fields"},
      {"tree:budget=512,budget=256", "field budget is given twice"},
      {"tree:budget=-1", "field budget is '-1'"},
      {"tree:budget=0", "field budget is '0'"},
      {"tree:budget=5x", "field budget is '5x'"},
      {"tree:budget=99999999999", "field budget is '99999999999'"},
      {"tree:budget=none", "field budget is 'none', not a positive number"},
      {"tree:rerank=some", "not a positive number or 'none'"},
      {"tree:scorer=best", "field scorer is 'best', not one of representative, mean"},
      {"tree:min_recall=2", "field min_recall is '2', not a number from 0 to 1"},
      {"tree:min_recall=nan", "field min_recall is 'nan'"},
      {"tree:verify=yes", "field verify is 'yes', not one of off, on"},
      {"tree:prefill=some", "field prefill is 'some', not one of auto, dense, a-shape"},
      {"tree:prefill=a-shape,sizes=16", "field sizes is '16', not two numbers, as 500x100"},
      {"tree:prefill=a-shape,sizes=x16", "field sizes is 'x16'"},
      {"tree:prefill=a-shape,sizes=16x", "field sizes is '16x'"},
      {"tree:sizes=16x64", "field sizes needs field prefill, not dense"},
      {"tree:prefill=dense,chunk=512", "field chunk needs field prefill, not dense"},
      {"oracle:budget=512,prefill=flex", "so it has no field prefill"},
      {"oracle", "kind oracle needs field budget"},
      {"oracle:budget=100", "a multiple of 16, it is 100"},
      {"oracle:budget=512,rerank=none", "so it has no field rerank"},
      {"=tree:budget=512", "the label is empty"},
      {"dense=tree:budget=512", "'dense' is what settings are judged by"},
  };
  for (const auto& [text, part] : cases) {
    const Result<std::vector<Setting>> settings = ParseSetting(text, {});
    ASSERT_FALSE(settings.ok()) << text;
    EXPECT_NE(settings.status().message().find(part), std::string::npos)
        << text << ": " << settings.status().message();
    EXPECT_NE(settings.status().message().find(std::string("setting '") + text), std::string::npos);
  }
}

TEST(RecallSettings, NamesAreUnique) {
  const Result<std::vector<Setting>> settings =
      ParseSettings({"tree:budget=512", "flat:budget=512", "tree:budget=256/512"}, {});
  ASSERT_FALSE(settings.ok());
  EXPECT_NE(settings.status().message().find("'tree:budget=512' is given twice"),
            std::string::npos);
}

TEST(RecallSettings, OneIndexServesWhatDiffersInStepsOnly) {
  const Setting tree = One("tree:budget=512,rerank=none");
  EXPECT_TRUE(ShareIndex(tree, One("tree:budget=256,rerank=none,window=512,refresh=2")));
  EXPECT_FALSE(ShareIndex(tree, One("flat:budget=512,rerank=none")));
  EXPECT_FALSE(ShareIndex(tree, One("tree:budget=512,rerank=none,scorer=mean")));
  EXPECT_FALSE(ShareIndex(tree, One("tree:budget=512,rerank=none,block=32")));
  EXPECT_FALSE(ShareIndex(tree, One("tree:budget=512")));
  // What an audit finds depends on what the tree keeps and on what is attended anyway.
  const Setting audited = One("tree:budget=512");
  EXPECT_TRUE(AuditsHeads(audited));
  EXPECT_TRUE(ShareIndex(audited, One("tree:budget=128,rerank=2048,audit=100,scanned_heads=3")));
  EXPECT_FALSE(ShareIndex(audited, One("tree:budget=512,audit=none")));
  EXPECT_FALSE(ShareIndex(audited, One("tree:budget=512,rerank=1024")));
  EXPECT_FALSE(ShareIndex(audited, One("tree:budget=4096")));
  EXPECT_FALSE(ShareIndex(audited, One("tree:budget=512,sinks=128")));
  EXPECT_FALSE(ShareIndex(audited, One("tree:budget=512,window=512")));
  const Setting unaudited = One("tree:budget=512,audit=none");
  EXPECT_TRUE(ShareIndex(unaudited, One("tree:budget=256,rerank=1024,window=512,audit=none")));
  for (const char* text : {"tree:budget=512,audit=none", "tree:budget=512,rerank=none"}) {
    EXPECT_FALSE(AuditsHeads(One(text))) << text;
  }
  EXPECT_FALSE(AuditsHeads(One("oracle:budget=512")));
}

TEST(RecallSettings, HelpNamesEveryKindAndField) {
  const std::string help = SettingHelp();
  for (const char* word :
       {"oracle", "staged", "scorer=", "cuboid-mean", "rerank=", "audit=", "min_recall="}) {
    EXPECT_NE(help.find(word), std::string::npos) << word;
  }
}

}  // namespace
}  // namespace recall_bench
