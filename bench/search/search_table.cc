// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "search_table.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

namespace pattern_search {
namespace {

using nlohmann::json;

constexpr const char* kScores[] = {"recall", "error", "density", "cost"};

struct Row {
  size_t heads = 0;
  std::map<std::string, double> sums;

  void Add(const json& head) {
    ++heads;
    for (const char* score : kScores) {
      sums[score] += head.at(score).get<double>();
    }
  }
};

void Print(std::ostream& out, const std::string& label, const Row& row) {
  out << std::left << std::setw(28) << label << std::right << std::setw(7) << row.heads;
  for (const char* score : kScores) {
    out << std::setw(9) << row.sums.at(score) / static_cast<double>(row.heads);
  }
  out << '\n';
}

}  // namespace

std::string FormatTable(const SearchRecord& record) {
  std::map<std::string, Row> rows;
  Row all;
  for (const json& layer : record.layers()) {
    for (const json& head : layer) {
      rows[head.at("label").get<std::string>()].Add(head);
      all.Add(head);
    }
  }
  if (all.heads == 0) {
    return "";
  }
  std::vector<std::pair<std::string, Row>> sorted(rows.begin(), rows.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second.heads > b.second.heads;
  });
  std::ostringstream out;
  out << std::fixed << std::setprecision(4) << std::left << std::setw(28) << "pattern" << std::right
      << std::setw(7) << "heads";
  for (const char* score : kScores) {
    out << std::setw(9) << score;
  }
  out << '\n';
  for (const auto& [label, row] : sorted) {
    Print(out, label, row);
  }
  Print(out, "all", all);
  return out.str();
}

}  // namespace pattern_search
