// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "summary.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <set>
#include <sstream>

namespace recall_bench {
namespace {

using nlohmann::json;

// Means that lines carry as {"sum", "count"}, in the order of the summary.
constexpr const char* kMeans[] = {"mass",
                                  "mass_at_least_90",
                                  "mass_at_least_95",
                                  "fact_attended",
                                  "answer_mass",
                                  "answer_fact",
                                  "lse_gap",
                                  "estimate_error",
                                  "estimate_bias",
                                  "verify_error",
                                  "attended"};
// Numbers of a line whose mean over facts is told.
constexpr const char* kNumbers[] = {"kl",
                                    "tokens_as_dense",
                                    "scanned_heads",
                                    "search_keys_per_head",
                                    "search_bytes_per_head",
                                    "attended_bytes_per_head",
                                    "search_seconds",
                                    "attend_seconds",
                                    "seconds"};

// The same where there are any: where a text was read by the setting (recall only where it was
// verified), and where min_recall lets budgets grow.
constexpr const char* kOptionalNumbers[] = {
    "prefill_seconds", "prefill_density", "prefill_recall", "grown_tokens", "least_tokens"};

// sum / count, null for nothing.
json MeanOrNull(double sum, double count) {
  return count > 0 ? json(sum / count) : json();
}

// `right` are the facts that dense answers right, `counted` those that means are over.
json SummarizeSetting(const Setting& setting,
                      const ResultsFile::Results& results,
                      const std::set<uint64_t>& right,
                      const std::set<uint64_t>& counted) {
  std::vector<const json*> lines;
  uint64_t asked = 0;
  uint64_t answered = 0;
  json lost = json::array();
  for (const uint64_t fact : counted) {
    const auto found = results.find({fact, setting.name});
    if (found == results.end()) {
      continue;
    }
    lines.push_back(&found->second);
    if (right.count(fact) == 0) {
      continue;
    }
    ++asked;
    if (found->second.at("right").get<bool>()) {
      ++answered;
    } else {
      lost.push_back(fact);
    }
  }
  const Interval interval = WilsonInterval(answered, asked);
  json summary = {{"name", setting.name},
                  {"spec", setting.spec},
                  {"series", setting.series},
                  {"budget", setting.budget_tokens()},
                  {"measured", lines.size()},
                  {"facts", asked},
                  {"right", answered},
                  {"right_interval", {interval.low, interval.high}},
                  {"lost_facts", lost}};
  for (const char* name : kMeans) {
    double sum = 0;
    double count = 0;
    for (const json* line : lines) {
      sum += line->at(name).at("sum").get<double>();
      count += line->at(name).at("count").get<double>();
    }
    summary[name] = MeanOrNull(sum, count);
  }
  for (const char* name : kNumbers) {
    double sum = 0;
    for (const json* line : lines) {
      sum += line->at(name).get<double>();
    }
    summary[name] = MeanOrNull(sum, static_cast<double>(lines.size()));
  }
  for (const char* name : kOptionalNumbers) {
    double sum = 0;
    double count = 0;
    for (const json* line : lines) {
      const json value = line->value(name, json());
      sum += value.is_null() ? 0 : value.get<double>();
      count += value.is_null() ? 0 : 1;
    }
    summary[name] = MeanOrNull(sum, count);
  }
  return summary;
}

}  // namespace

Interval WilsonInterval(uint64_t right, uint64_t count) {
  if (count == 0) {
    return {};
  }
  constexpr double kZ = 1.959963984540054;  // 97.5 % quantile of the normal distribution
  const auto n = static_cast<double>(count);
  const double share = static_cast<double>(right) / n;
  const double scale = 1 / (1 + kZ * kZ / n);
  const double centre = scale * (share + kZ * kZ / (2 * n));
  const double half = scale * kZ * std::sqrt(share * (1 - share) / n + kZ * kZ / (4 * n * n));
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

json Summarize(const ResultsFile::Results& results,
               const std::vector<Setting>& settings,
               uint64_t num_facts,
               bool keep_wrong) {
  std::set<uint64_t> right;
  std::set<uint64_t> wrong;
  for (uint64_t fact = 0; fact < num_facts; ++fact) {
    if (const auto dense = results.find({fact, "dense"}); dense != results.end()) {
      (dense->second.at("right").get<bool>() ? right : wrong).insert(fact);
    }
  }
  std::set<uint64_t> counted = right;
  if (keep_wrong) {
    counted.insert(wrong.begin(), wrong.end());
  }
  json summary = {{"facts_asked", right.size() + wrong.size()},
                  {"facts_dense_right", right.size()},
                  {"facts_dense_wrong", wrong},
                  {"settings", json::array()}};
  for (const Setting& setting : settings) {
    summary["settings"].push_back(SummarizeSetting(setting, results, right, counted));
  }
  return summary;
}

std::string FormatSummary(const json& summary) {
  std::ostringstream out;
  out << "dense answers " << summary.at("facts_dense_right") << " of " << summary.at("facts_asked")
      << " facts right\n";
  const auto number = [](const json& value) {
    std::ostringstream text;
    if (value.is_null()) {
      text << "-";
    } else {
      text << std::fixed << std::setprecision(4) << value.get<double>();
    }
    return text.str();
  };
  for (const json& setting : summary.at("settings")) {
    out << setting.at("name").get<std::string>() << ": " << setting.at("right") << " of "
        << setting.at("facts") << " right, kl " << number(setting.at("kl")) << ", mass "
        << number(setting.at("mass")) << ", fact " << number(setting.at("fact_attended"));
    if (!setting.at("prefill_density").is_null()) {
      out << ", prefill density " << number(setting.at("prefill_density")) << " recall "
          << number(setting.at("prefill_recall"));
    }
    if (!setting.at("least_tokens").is_null()) {
      out << ", tokens searched " << number(setting.at("grown_tokens")) << " least "
          << number(setting.at("least_tokens")) << ", enough in "
          << number(setting.at("mass_at_least_95"));
    }
    out << "\n";
  }
  return out.str();
}

}  // namespace recall_bench
