// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A trace file as tests look at it.
#ifndef HIPATTN_TESTS_SUPPORT_TRACE_FILE_H_
#define HIPATTN_TESTS_SUPPORT_TRACE_FILE_H_

#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace hipattn::test {

struct TraceEvent {
  std::string name;
  std::string track;
  int64_t begin_ns = 0, end_ns = 0;
  nlohmann::json args;

  bool Overlaps(const TraceEvent& other) const {
    return begin_ns < other.end_ns && other.begin_ns < end_ns;
  }
  bool Contains(const TraceEvent& other) const {
    return track == other.track && begin_ns <= other.begin_ns && other.end_ns <= end_ns;
  }
};

struct TraceContent {
  std::vector<TraceEvent> events;    // that take time
  std::vector<TraceEvent> counters;  // their values are args

  std::vector<TraceEvent> Named(const std::string& name) const {
    std::vector<TraceEvent> found;
    std::copy_if(events.begin(), events.end(), std::back_inserter(found), [&](const auto& event) {
      return event.name == name;
    });
    return found;
  }
  uint64_t Sum(const std::string& name, const char* arg) const {
    uint64_t sum = 0;
    for (const TraceEvent& event : Named(name)) {
      sum += event.args.at(arg).get<uint64_t>();
    }
    return sum;
  }
};

// Every event has what the format asks for, and its track a name.
inline TraceContent ParseTrace(const std::string& bytes) {
  TraceContent content;
  const nlohmann::json list = nlohmann::json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(list.is_array()) << bytes.substr(0, 200);
  if (!list.is_array()) {
    return content;
  }
  const auto ns = [](const nlohmann::json& us) { return std::llround(us.get<double>() * 1000); };
  std::map<int, std::string> tracks;
  for (const nlohmann::json& event : list) {
    if (event.at("ph") == "M" && event.at("name") == "thread_name") {
      tracks[event.at("tid").get<int>()] = event.at("args").at("name").get<std::string>();
    }
  }
  for (const nlohmann::json& event : list) {
    EXPECT_EQ(event.at("pid"), 1);
    const std::string phase = event.at("ph").get<std::string>();
    if (phase == "M") {
      continue;
    }
    TraceEvent read;
    read.name = event.at("name").get<std::string>();
    read.begin_ns = read.end_ns = ns(event.at("ts"));
    read.args = event.value("args", nlohmann::json::object());
    if (phase == "C") {
      content.counters.push_back(read);
      continue;
    }
    EXPECT_EQ(phase, "X");
    read.end_ns += ns(event.at("dur"));
    read.track = tracks[event.at("tid").get<int>()];
    EXPECT_FALSE(read.track.empty()) << event;
    content.events.push_back(read);
  }
  return content;
}

inline TraceContent ReadTrace(const std::string& path) {
  return ParseTrace(FileBytes(path));
}

// On one track events lie one behind the other or one inside the other.
inline void ExpectNested(const TraceContent& content) {
  std::vector<TraceEvent> sorted = content.events;
  std::stable_sort(sorted.begin(), sorted.end(), [](const TraceEvent& a, const TraceEvent& b) {
    return std::tuple(a.track, a.begin_ns, -a.end_ns) < std::tuple(b.track, b.begin_ns, -b.end_ns);
  });
  std::vector<TraceEvent> open;
  for (const TraceEvent& event : sorted) {
    while (!open.empty() &&
           (open.back().track != event.track || open.back().end_ns <= event.begin_ns)) {
      open.pop_back();
    }
    EXPECT_TRUE(open.empty() || open.back().Contains(event))
        << event.name << " ends at " << event.end_ns << ", " << open.back().name << " around it at "
        << open.back().end_ns << ", on " << event.track;
    open.push_back(event);
  }
}

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_SUPPORT_TRACE_FILE_H_
