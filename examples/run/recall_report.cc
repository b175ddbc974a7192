// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "recall_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>

namespace hipattn_run {
namespace {

using nlohmann::json;

// JSON has no NaN.
json Known(double value) {
  return std::isnan(value) ? json() : json(value);
}

struct Summary {
  MeanShare estimate, truth, error;
  double least_truth = 1;
  double worst_loss = std::numeric_limits<double>::quiet_NaN();
  size_t scanned = 0;
};

Summary Summarize(std::span<const RecallLog::QHead> q_heads,
                  std::span<const RecallLog::KvHead> kv_heads) {
  Summary summary;
  const auto add = [](const MeanShare& mean, MeanShare* sum) {
    sum->sum += mean.sum;
    sum->count += mean.count;
  };
  for (const RecallLog::QHead& head : q_heads) {
    add(head.estimate, &summary.estimate);
    add(head.truth, &summary.truth);
    add(head.error, &summary.error);
    summary.least_truth = std::min(summary.least_truth, head.least_truth);
  }
  for (const RecallLog::KvHead& head : kv_heads) {
    summary.worst_loss = std::fmax(summary.worst_loss, head.audited_loss);
    summary.scanned += head.scanned ? 1 : 0;
  }
  return summary;
}

std::string Cell(double value, int digits) {
  char text[32];
  static_cast<void>(std::snprintf(text, sizeof(text), "%12.*f", digits, value));
  return std::isnan(value) ? "           -" : text;
}

std::string Line(const std::string& name, const Summary& summary) {
  const bool verified = summary.truth.count != 0;
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  std::string line(7 - std::min<size_t>(7, name.size()), ' ');
  line += name;
  line += Cell(summary.estimate.mean(), 3);
  line += Cell(summary.truth.mean(), 3);
  line += Cell(summary.error.mean(), 3);
  line += Cell(verified ? summary.least_truth : unknown, 3);
  line += Cell(summary.worst_loss, 4);
  line += Cell(static_cast<double>(summary.scanned), 0);
  return line + "\n";
}

}  // namespace

json RecallToJson(const RecallLog& log) {
  if (log.steps == 0) {
    return {};
  }
  const Summary all = Summarize(log.q_heads, log.kv_heads);
  json object = {{"steps", log.steps},
                 {"block_tokens", log.block_tokens},
                 {"num_layers", log.num_layers()},
                 {"num_q_heads", log.num_q_heads},
                 {"num_kv_heads", log.num_kv_heads},
                 {"estimate", Known(all.estimate.mean())},
                 {"truth", Known(all.truth.mean())},
                 {"error", Known(all.error.mean())},
                 {"q_heads", json::array()},
                 {"kv_heads", json::array()}};
  for (size_t i = 0; i < log.q_heads.size(); ++i) {
    const RecallLog::QHead& head = log.q_heads[i];
    object["q_heads"].push_back(
        {{"layer", i / log.num_q_heads},
         {"q_head", i % log.num_q_heads},
         {"estimate", Known(head.estimate.mean())},
         {"truth", Known(head.truth.mean())},
         {"error", Known(head.error.mean())},
         {"least_truth", head.truth.count == 0 ? json() : json(head.least_truth)}});
  }
  for (size_t i = 0; i < log.kv_heads.size(); ++i) {
    const RecallLog::KvHead& head = log.kv_heads[i];
    object["kv_heads"].push_back({{"layer", i / log.num_kv_heads},
                                  {"kv_head", i % log.num_kv_heads},
                                  {"audited_loss", Known(head.audited_loss)},
                                  {"mode", head.scanned ? "scan" : "tree"},
                                  {"attended_steps", head.attended_steps}});
  }
  return object;
}

std::string FormatRecall(const RecallLog& log) {
  if (log.steps == 0) {
    return "";
  }
  std::string text =
      "softmax mass attended\n"
      "  layer    estimate       truth       error least truth  worst loss     scanned\n";
  const std::span<const RecallLog::QHead> q_heads(log.q_heads);
  const std::span<const RecallLog::KvHead> kv_heads(log.kv_heads);
  for (size_t layer = 0; layer < log.num_layers(); ++layer) {
    text += Line(std::to_string(layer),
                 Summarize(q_heads.subspan(layer * log.num_q_heads, log.num_q_heads),
                           kv_heads.subspan(layer * log.num_kv_heads, log.num_kv_heads)));
  }
  return text + Line("all", Summarize(log.q_heads, log.kv_heads));
}

}  // namespace hipattn_run
