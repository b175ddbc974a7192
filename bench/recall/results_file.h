// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The results of a run, one JSON object per line: the run itself first, then one line per fact and
// setting, "dense" among them. A run that was interrupted goes on from its file: what is there is
// not measured again, and a last line that was cut short is dropped. One process at a time may have
// it open.
#ifndef HIPATTN_BENCH_RECALL_RESULTS_FILE_H_
#define HIPATTN_BENCH_RECALL_RESULTS_FILE_H_

#include "result.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace recall_bench {

using hipattn_run::Result;
using hipattn_run::Status;

class ResultsFile {
 public:
  // `run` says what all results of the file have in common. Fails for a file of another run, naming
  // what differs, for one that is no results file, and while another process has it open. Makes the
  // file if there is none; changes nothing but a torn last line.
  static Result<std::unique_ptr<ResultsFile>> Open(const std::string& path,
                                                   const nlohmann::json& run);

  // Removes a file without a line.
  ~ResultsFile();
  ResultsFile(const ResultsFile&) = delete;
  ResultsFile& operator=(const ResultsFile&) = delete;

  // The result of a fact under a setting; null if there is none. Thread-safe; the pointer stays
  // valid.
  const nlohmann::json* Find(uint64_t fact, const std::string& setting) const;

  // Writes a result, which has "fact" and "setting". Thread-safe.
  Status Add(nlohmann::json result);

  using Results = std::map<std::pair<uint64_t, std::string>, nlohmann::json>;
  // Not while others add.
  const Results& results() const { return results_; }

 private:
  ResultsFile(std::string path, nlohmann::json run)
      : path_(std::move(path)), run_(std::move(run)) {}
  Status Lock();
  Status Read();
  Status ReadLine(const std::string& line, size_t number);
  Status WriteLine(const nlohmann::json& object);

  std::string path_;
  nlohmann::json run_;
  int locked_ = -1;  // descriptor of the file, which holds the lock
  bool has_run_line_ = false;
  mutable std::mutex mutex_;
  Results results_;
  std::ofstream out_;
};

}  // namespace recall_bench

#endif  // HIPATTN_BENCH_RECALL_RESULTS_FILE_H_
