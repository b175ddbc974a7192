// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "summary.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace recall_bench {
namespace {

using nlohmann::json;

// Means that lines carry as {"sum", "count"}, in the order of the summary.
constexpr const char* kMeans[] = {"mass",
                                  "mass_at_least_90",
                                  "mass_at_least_95",
                                  "fact_attended",
                                  "lse_gap",
                                  "estimate_error",
                                  "estimate_bias",
                                  "verify_error",
                                  "attended"};
// Numbers of a line whose mean over facts is told.
constexpr const char* kNumbers[] = {"kl",
                                    "tokens_as_dense",
                                    "search_keys_per_head",
                                    "search_bytes_per_head",
                                    "attended_bytes_per_head",
                                    "search_seconds",
                                    "attend_seconds",
                                    "seconds"};

// sum / count, null for nothing.
json MeanOrNull(double sum, double count) {
  return count > 0 ? json(sum / count) : json();
}

json SummarizeSetting(const Setting& setting, const std::vector<const json*>& lines) {
  json summary = {{"name", setting.name},
                  {"spec", setting.spec},
                  {"series", setting.series},
                  {"budget", setting.budget_tokens()},
                  {"facts", lines.size()}};
  uint64_t right = 0;
  json lost = json::array();
  for (const json* line : lines) {
    if (line->at("right").get<bool>()) {
      ++right;
    } else {
      lost.push_back(line->at("fact"));
    }
  }
  const Interval interval = WilsonInterval(right, lines.size());
  summary["right"] = right;
  summary["right_interval"] = {interval.low, interval.high};
  summary["lost_facts"] = lost;
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
               uint64_t num_facts) {
  std::vector<uint64_t> right;
  json wrong = json::array();
  uint64_t asked = 0;
  for (uint64_t fact = 0; fact < num_facts; ++fact) {
    const auto dense = results.find({fact, "dense"});
    if (dense == results.end()) {
      continue;
    }
    ++asked;
    if (dense->second.at("right").get<bool>()) {
      right.push_back(fact);
    } else {
      wrong.push_back(fact);
    }
  }
  json summary = {{"facts_asked", asked},
                  {"facts_dense_right", right.size()},
                  {"facts_dense_wrong", wrong},
                  {"settings", json::array()}};
  for (const Setting& setting : settings) {
    std::vector<const json*> lines;
    for (const uint64_t fact : right) {
      if (const auto found = results.find({fact, setting.name}); found != results.end()) {
        lines.push_back(&found->second);
      }
    }
    summary["settings"].push_back(SummarizeSetting(setting, lines));
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
        << number(setting.at("mass")) << ", fact " << number(setting.at("fact_attended")) << "\n";
  }
  return out.str();
}

}  // namespace recall_bench
