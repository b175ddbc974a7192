// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "report.h"

#include "recall_report.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <iomanip>
#include <sstream>
#include <system_error>

namespace hipattn_run {
namespace {

using nlohmann::json;

uint64_t KvBytes(const hipattn_stats_t& stats) {
  return stats.device_bytes + stats.host_bytes + stats.disk_bytes;
}

json StatsToJson(const hipattn_stats_t& stats) {
  json object = {
      {"scanned_heads", stats.scanned_heads},
      {"device_bytes", stats.device_bytes},
      {"device_bytes_peak", stats.device_bytes_peak},
      {"device_index_bytes", stats.device_index_bytes},
      {"host_bytes", stats.host_bytes},
      {"disk_bytes", stats.disk_bytes},
      {"blocks_attended", stats.blocks_attended},
      {"blocks_hit", stats.blocks_hit},
      {"blocks_fetched", stats.blocks_fetched},
      {"blocks_prefetched", stats.blocks_prefetched},
      {"blocks_prefetched_used", stats.blocks_prefetched_used},
      {"blocks_evicted", stats.blocks_evicted},
      {"bytes_host_to_device", stats.bytes_host_to_device},
      {"bytes_device_to_host", stats.bytes_device_to_host},
      {"bytes_disk_read", stats.bytes_disk_read},
      {"bytes_disk_written", stats.bytes_disk_written},
      {"search_keys_read", stats.search_keys_read},
      {"search_bytes_read", stats.search_bytes_read},
      {"search_ns", stats.search_ns},
      {"fetch_wait_ns", stats.fetch_wait_ns},
      {"attend_ns", stats.attend_ns},
  };
  // JSON has no NaN; null is "not known".
  object["recall_estimate"] =
      std::isnan(stats.recall_estimate) ? json() : json(stats.recall_estimate);
  return object;
}

json InMilliseconds(const std::vector<double>& seconds) {
  json list = json::array();
  for (const double value : seconds) {
    list.push_back(value * 1e3);
  }
  return list;
}

// Scanned heads, and the worst of the others.
json HeadsToJson(const std::vector<AuditedHead>& heads) {
  constexpr size_t kMost = 20;
  json list = json::array();
  for (size_t i = 0; i < heads.size(); ++i) {
    if (i < kMost || heads[i].scanned) {
      list.push_back({{"layer", heads[i].layer},
                      {"kv_head", heads[i].kv_head},
                      {"loss", heads[i].loss},
                      {"mode", heads[i].scanned ? "scan" : "tree"}});
    }
  }
  return list;
}

json AnswerToJson(const NamedAnswer& named) {
  const Answer& answer = named.answer;
  return {
      {"attention", named.attention},
      {"text", answer.text},
      {"new_tokens", answer.tokens.size()},
      {"token_ids", answer.tokens},
      {"decode_steps", answer.decode_steps},
      {"decode_seconds", answer.decode_seconds},
      {"decode_cpu_seconds", answer.decode_cpu_seconds},
      {"decode_tokens_per_second", answer.tokens_per_second()},
      {"decode_step_ms", InMilliseconds(answer.step_seconds)},
      {"decode_step_median_seconds", answer.median_step_seconds},
      {"decode_step_least_seconds", answer.least_step_seconds},
      {"attended_share", answer.attended_share},
      {"decode_bytes_read", answer.bytes_read},
      {"kv_bytes", KvBytes(answer.stats)},
      {"stats", StatsToJson(answer.stats)},
      {"audited_heads", HeadsToJson(answer.audited_heads)},
      {"recall", RecallToJson(answer.recall)},
  };
}

json ReadingToJson(const Reading& reading) {
  const std::optional<double> density = reading.density();
  return {
      {"saved_tokens", reading.saved_tokens},
      {"save_seconds", reading.save_seconds},
      {"load_seconds", reading.load_seconds},
      {"prefill", reading.prefill},
      {"prefill_seconds", reading.seconds},
      {"prefill_cpu_seconds", reading.cpu_seconds},
      {"prefill_tiles", reading.tiles},
      {"prefill_dense_tiles", reading.dense_tiles},
      {"density", density ? json(*density) : json()},
      {"prefill_recall", std::isnan(reading.recall) ? json() : json(reading.recall)},
  };
}

// `text`, padded on the left to `width`.
std::string Right(const std::string& text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

std::string Fixed(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

std::string Percent(double share) {
  return Fixed(share * 100, 1) + " %";
}

double TokensPerSecond(const Report& report, const Reading& reading) {
  return reading.seconds > 0 ? static_cast<double>(report.prompt_tokens) / reading.seconds : 0;
}

// One line per reading, the first of which the others are compared with.
std::string FormatReadings(const Report& report) {
  std::string text =
      "prefill          seconds    tok/s  density   recall  speedup       KL  answer\n";
  for (const Reading& reading : report.readings) {
    const std::optional<double> density = reading.density();
    text += reading.prefill + std::string(15 - std::min<size_t>(15, reading.prefill.size()), ' ');
    text += Right(Fixed(reading.seconds, 2), 9);
    text += Right(Fixed(TokensPerSecond(report, reading), 0), 9);
    text += Right(density ? Percent(*density) : "?", 9);
    text += Right(std::isnan(reading.recall) ? "-" : Fixed(reading.recall, 4), 9);
    text += Right(Fixed(report.readings[0].seconds / reading.seconds, 2), 9);
    text += Right(Fixed(reading.kl, 4), 9);
    text += reading.same_answer ? "  same\n" : "  differs\n";
  }
  return text;
}

// What moved between the tiers while an answer was made; empty where everything is on the device.
std::string FormatTiers(const hipattn_stats_t& stats) {
  if (stats.host_bytes + stats.disk_bytes == 0) {
    return "";
  }
  const auto wanted = static_cast<double>(stats.blocks_hit + stats.blocks_fetched);
  const double hits = wanted > 0 ? static_cast<double>(stats.blocks_hit) / wanted : 1;
  return Concat("tiers: ",
                stats.blocks_hit,
                " blocks hit (",
                Percent(hits),
                "), ",
                stats.blocks_fetched,
                " fetched, ",
                Fixed(static_cast<double>(stats.bytes_host_to_device) / 1e6, 1),
                " MB to the device, ",
                Fixed(static_cast<double>(stats.bytes_device_to_host) / 1e6, 1),
                " MB from it; device ",
                Fixed(static_cast<double>(stats.device_bytes_peak) / 1e6, 1),
                " MB (index ",
                Fixed(static_cast<double>(stats.device_index_bytes) / 1e6, 1),
                "), host ",
                Fixed(static_cast<double>(stats.host_bytes) / 1e6, 1),
                " MB, disk ",
                Fixed(static_cast<double>(stats.disk_bytes) / 1e6, 1),
                " MB\n");
}

}  // namespace

Status WriteJson(const Report& report, const std::string& path) {
  json object = report.answers.empty() ? json::object() : AnswerToJson(report.answers[0]);
  object["threads"] = report.threads;
  object["depth"] = report.depth;
  object["prompt_tokens"] = report.prompt_tokens;
  if (!report.readings.empty()) {
    object.update(ReadingToJson(report.readings[0]));
  }
  if (report.readings.size() > 1) {
    for (const Reading& reading : report.readings) {
      object["prefills"].push_back(ReadingToJson(reading));
      object["prefills"].back()["same_answer"] = reading.same_answer;
      object["prefills"].back()["first_token_kl"] = reading.kl;
    }
  }
  if (report.answers.size() > 1) {
    for (const NamedAnswer& answer : report.answers) {
      object["answers"].push_back(AnswerToJson(answer));
    }
  }
  const std::string text = object.dump(2) + "\n";
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) {
    return Status::Error("cannot create '", path, "': ", std::generic_category().message(errno));
  }
  bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  written = std::fflush(file) == 0 && written;
  const int error = errno;
  written = std::fclose(file) == 0 && written;
  if (!written) {
    return Status::Error("cannot write '", path, "': ", std::generic_category().message(error));
  }
  return {};
}

std::string FormatSummary(const Report& report) {
  std::string text;
  if (report.readings.size() == 1) {
    const Reading& reading = report.readings[0];
    text = Concat("prompt: ",
                  report.prompt_tokens,
                  " tokens in ",
                  Fixed(reading.seconds, 2),
                  " s (",
                  Fixed(TokensPerSecond(report, reading), 0),
                  " tok/s), ",
                  report.threads,
                  " threads\n");
    if (reading.load_seconds > 0) {
      text += Concat("text: ",
                     reading.saved_tokens,
                     " of them loaded in ",
                     Fixed(reading.load_seconds, 3),
                     " s\n");
    } else if (reading.save_seconds > 0) {
      text += Concat("text: ",
                     reading.saved_tokens,
                     " of them saved in ",
                     Fixed(reading.save_seconds, 3),
                     " s more\n");
    }
    if (reading.dense_tiles > 0) {
      text += Concat("prefill ", reading.prefill, ": density ", Percent(*reading.density()));
      text +=
          std::isnan(reading.recall) ? "\n" : Concat(", recall ", Fixed(reading.recall, 4), "\n");
    }
  } else {
    text = Concat("prompt: ", report.prompt_tokens, " tokens, ", report.threads, " threads\n");
    text += FormatReadings(report);
  }
  text +=
      "attention  new tokens    tok/s  ms/token  attended  MB read/token  search ms/token    KV "
      "MB\n";
  for (const NamedAnswer& named : report.answers) {
    const Answer& answer = named.answer;
    const double steps = std::max<double>(1, static_cast<double>(answer.decode_steps));
    const double search_ms = static_cast<double>(answer.stats.search_ns) / 1e6 / steps;
    text += named.attention + std::string(9 - std::min<size_t>(9, named.attention.size()), ' ');
    text += Right(Concat(answer.tokens.size()), 12);
    text += Right(Fixed(answer.tokens_per_second(), 1), 9);
    text += Right(Fixed(answer.median_step_seconds * 1e3, 2), 10);
    text += Right(Percent(answer.attended_share), 10);
    text += Right(Fixed(static_cast<double>(answer.bytes_read) / 1e6 / steps, 1), 15);
    text += Right(Fixed(search_ms, 2), 17);
    text += Right(Fixed(static_cast<double>(KvBytes(answer.stats)) / 1e6, 1), 9) + "\n";
  }
  for (const NamedAnswer& named : report.answers) {
    text += FormatTiers(named.answer.stats);
    const std::string recall = FormatRecall(named.answer.recall);
    text += recall.empty() ? "" : named.attention + ": " + recall;
  }
  return text;
}

}  // namespace hipattn_run
