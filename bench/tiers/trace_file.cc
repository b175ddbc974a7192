// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "trace_file.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace tiers_bench {
namespace {

using nlohmann::json;

constexpr const char* kKind = "hipattn-tiers trace";

// {"picks": [[num_strong, block, ...], ...]}
json LineOf(const std::vector<Picks>& step) {
  json heads = json::array();
  for (const Picks& picks : step) {
    json head = json::array({picks.num_strong});
    for (const uint32_t block : picks.blocks) {
      head.push_back(block);
    }
    heads.push_back(std::move(head));
  }
  return json{{"picks", std::move(heads)}};
}

void ReadHeader(const json& line, Trace* trace) {
  if (line.at("kind") != kKind) {
    throw std::runtime_error("is not a trace of hipattn-tiers");
  }
  trace->run = line;
  line.at("num_layers").get_to(trace->num_layers);
  line.at("num_kv_heads").get_to(trace->num_kv_heads);
  line.at("block_tokens").get_to(trace->block_tokens);
  line.at("budget_tokens").get_to(trace->budget_tokens);
  if (trace->num_heads() == 0 || trace->block_tokens == 0 ||
      trace->budget_tokens < trace->block_tokens) {
    throw std::runtime_error("has a geometry without heads, blocks or budget");
  }
}

void ReadStep(const json& line, Trace* trace) {
  std::vector<Picks> step;
  for (const json& head : line.at("picks")) {
    Picks picks;
    head.at(0).get_to(picks.num_strong);
    for (size_t i = 1; i < head.size(); ++i) {
      picks.blocks.push_back(head[i].get<uint32_t>());
      trace->max_blocks = std::max(trace->max_blocks, picks.blocks.back() + 1);
    }
    if (picks.num_strong > picks.blocks.size()) {
      throw std::runtime_error("has more strong picks than picks");
    }
    step.push_back(std::move(picks));
  }
  if (step.size() != trace->num_heads()) {
    throw std::runtime_error("has another number of heads than the first line says");
  }
  trace->steps.push_back(std::move(step));
}

}  // namespace

Result<std::unique_ptr<TraceWriter>> TraceWriter::Create(const std::string& path, const json& run) {
  std::unique_ptr<TraceWriter> writer(new TraceWriter(path));
  json header = run;
  header["kind"] = kKind;
  writer->file_ << header.dump() << '\n';
  const Status status = writer->Check();
  if (!status.ok()) {
    return status;
  }
  return writer;
}

Status TraceWriter::Check() {
  return file_ ? Status() : Status::Error("cannot write '", path_, ".part'");
}

Status TraceWriter::Add(const std::vector<Picks>& step) {
  file_ << LineOf(step).dump() << '\n';
  return Check();
}

Status TraceWriter::Finish() {
  file_.close();
  RUN_RETURN_IF_ERROR(Check());
  std::error_code error;
  std::filesystem::rename(path_ + ".part", path_, error);
  return error ? Status::Error("cannot write '", path_, "': ", error.message()) : Status();
}

Result<Trace> ReadTrace(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return Status::Error("cannot read '", path, "'");
  }
  Trace trace;
  std::string text;
  for (size_t number = 1; std::getline(file, text); ++number) {
    try {
      const json line = json::parse(text);
      if (number == 1) {
        ReadHeader(line, &trace);
      } else {
        ReadStep(line, &trace);
      }
    } catch (const std::exception& error) {
      return Status::Error("'", path, "' line ", number, ": ", error.what());
    }
  }
  if (trace.steps.empty()) {
    return Status::Error("'", path, "' has no steps");
  }
  return trace;
}

}  // namespace tiers_bench
