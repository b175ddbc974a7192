// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "results_file.h"

#include "mapped_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace recall_bench {

using nlohmann::json;

Result<std::unique_ptr<ResultsFile>> ResultsFile::Open(const std::string& path, const json& run) {
  std::unique_ptr<ResultsFile> file(new ResultsFile(path, run));
  Status status = file->Lock();
  if (status.ok() && std::filesystem::file_size(path) != 0) {
    status = file->Read();
  }
  if (!status.ok()) {
    return status;
  }
  return file;
}

ResultsFile::~ResultsFile() {
  if (locked_ == -1) {
    return;
  }
  struct stat state = {};
  if (fstat(locked_, &state) == 0 && state.st_size == 0) {
    unlink(path_.c_str());
  }
  close(locked_);
}

Status ResultsFile::Lock() {
  const auto failed = [&](const char* what) {
    return Status::Error(
        "cannot ", what, " '", path_, "': ", std::generic_category().message(errno));
  };
  while (true) {
    const int file = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file == -1) {
      return failed("open");
    }
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
      const Status status =
          errno == EWOULDBLOCK
              ? Status::Error("another process has '", path_, "' open: one at a time may write it")
              : failed("lock");
      close(file);
      return status;
    }
    // Whoever had it may have removed it between the two.
    struct stat state = {};
    if (fstat(file, &state) == 0 && state.st_nlink != 0) {
      locked_ = file;
      return {};
    }
    close(file);
  }
}

Status ResultsFile::Read() {
  Result<std::string> text = hipattn_run::ReadTextFile(path_);
  if (!text.ok()) {
    return text.status();
  }
  size_t begin = 0;
  for (size_t number = 1;; ++number) {
    const size_t end = text.value().find('\n', begin);
    if (end == std::string::npos) {
      break;
    }
    RUN_RETURN_IF_ERROR(ReadLine(text.value().substr(begin, end - begin), number));
    begin = end + 1;
  }
  if (begin == text.value().size()) {
    return {};
  }
  if (!has_run_line_ && text.value()[0] != '{') {
    return Status::Error("'", path_, "' is no results file");
  }
  std::error_code error;
  std::filesystem::resize_file(path_, begin, error);
  return error ? Status::Error("cannot drop the torn last line of '", path_, "': ", error.message())
               : Status();
}

Status ResultsFile::ReadLine(const std::string& line, size_t number) {
  json object = json::parse(line, nullptr, false);
  if (!object.is_object()) {
    return Status::Error(
        "'", path_, "' is no results file: line ", number, " is not a JSON object");
  }
  if (number == 1) {
    for (const auto& [key, value] : run_.items()) {
      const json there = object.value(key, json());
      if (there != value) {
        return Status::Error("'",
                             path_,
                             "' has results of another run: ",
                             key,
                             " is ",
                             there.dump(),
                             " there, ",
                             value.dump(),
                             " here");
      }
    }
    has_run_line_ = true;
    return {};
  }
  const json fact = object.value("fact", json());
  const json setting = object.value("setting", json());
  if (!fact.is_number_unsigned() || !setting.is_string()) {
    return Status::Error("'", path_, "' line ", number, " has no fact and setting");
  }
  results_[{fact.get<uint64_t>(), setting.get<std::string>()}] = std::move(object);
  return {};
}

const json* ResultsFile::Find(uint64_t fact, const std::string& setting) const {
  const std::lock_guard lock(mutex_);
  const auto found = results_.find({fact, setting});
  return found == results_.end() ? nullptr : &found->second;
}

Status ResultsFile::WriteLine(const json& object) {
  if (!out_.is_open()) {
    out_.open(path_, std::ios::app);
  }
  out_ << object.dump() << '\n' << std::flush;
  return out_ ? Status() : Status::Error("cannot write to '", path_, "'");
}

Status ResultsFile::Add(json result) {
  const std::lock_guard lock(mutex_);
  if (!has_run_line_) {
    RUN_RETURN_IF_ERROR(WriteLine(run_));
    has_run_line_ = true;
  }
  RUN_RETURN_IF_ERROR(WriteLine(result));
  const std::pair key(result.at("fact").get<uint64_t>(), result.at("setting").get<std::string>());
  results_[key] = std::move(result);
  return {};
}

}  // namespace recall_bench
