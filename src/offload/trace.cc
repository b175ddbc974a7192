// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "offload/trace.h"

#include "base/bad_alloc.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

namespace hipattn::offload {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 10;
constexpr size_t kMostEventBytes = 1024;  // more than any takes
constexpr int64_t kWriteAfterNs = 1'000'000'000;

}  // namespace

Trace::Trace(FileCalls* calls, device::Device* device, std::string path, Logger* log)
    : calls_(calls),
      device_(device),
      path_(std::move(path)),
      log_(log),
      origin_ns_(device->Now()),
      written_ns_(origin_ns_) {
  buffer_.reserve(kBufferBytes + kMostEventBytes);
}

Result<std::unique_ptr<Trace>> Trace::Open(FileCalls* calls,
                                           device::Device* device,
                                           const std::string& path,
                                           Logger* log) {
  std::unique_ptr<Trace> trace(new Trace(calls, device, path, log));
  HIPATTN_RETURN_IF_ERROR(trace->OpenFile());
  const std::lock_guard<std::mutex> lock(trace->mutex_);
  trace->buffer_ =
      "[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"hipattn\"}}";
  return trace;
}

// Emptied only when it is this trace's own.
Status Trace::OpenFile() {
  file_ = OwnedFile(calls_, calls_->Open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC));
  if (file_.get() < 0) {
    return FileError(path_, "opened", errno);
  }
  if (calls_->Lock(file_.get()) != 0) {
    return errno == EWOULDBLOCK
               ? Status(StatusCode::kIoError,
                        StrCat("path \"", path_, "\": another engine writes its trace to it"))
               : FileError(path_, "locked", errno);
  }
  struct stat found = {};
  if (calls_->StatFile(file_.get(), &found) != 0) {
    return FileError(path_, "examined", errno);
  }
  if (S_ISREG(found.st_mode) && calls_->Truncate(file_.get(), 0) != 0) {
    return FileError(path_, "emptied", errno);
  }
  return Status::Ok();
}

Trace::~Trace() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_) {
    return;
  }
  Append("\n]\n");
  Status written = Write();
  if (written.ok() && file_.Close() != 0) {
    written = FileError(path_, "closed", errno);
  }
  if (!written.ok()) {
    Stop(written);
  }
}

Trace::Track Trace::AddTrack(const char* name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return NameTrack(name, 0);
}

// A number other than 0 is part of the name.
Trace::Track Trace::NameTrack(const char* name, uint64_t number) {
  const Track track = ++num_tracks_;
  Begin("M", "thread_name");
  Append(",\"tid\":");
  AppendNumber(track);
  Append(",\"args\":{\"name\":\"");
  Append(name);
  if (number != 0) {
    Append(" ");
    AppendNumber(number);
  }
  Append("\"}}");
  return track;
}

Trace::Track Trace::TrackOfThisThread() {
  const std::thread::id id = std::this_thread::get_id();
  const auto known = std::find_if(
      threads_.begin(), threads_.end(), [&](const auto& thread) { return thread.first == id; });
  if (known != threads_.end()) {
    return known->second;
  }
  threads_.reserve(threads_.size() + 1);
  threads_.emplace_back(id, NameTrack("host thread", threads_.size() + 1));
  return threads_.back().second;
}

void Trace::Begin(const char* phase, const char* name) {
  Append(",\n{\"ph\":\"");
  Append(phase);
  Append("\",\"pid\":1,\"name\":\"");
  Append(name);
  Append("\"");
}

void Trace::AppendNumber(uint64_t number) {
  char digits[20];
  const std::to_chars_result end = std::to_chars(digits, digits + sizeof(digits), number);
  buffer_.append(digits, end.ptr);
}

// In microseconds, as the format has it.
void Trace::AppendTime(const char* key, int64_t ns) {
  const auto positive = static_cast<uint64_t>(std::max<int64_t>(ns, 0));
  Append(",\"");
  Append(key);
  Append("\":");
  AppendNumber(positive / 1000);
  const uint64_t rest = positive % 1000;
  const char decimals[] = {'.',
                           static_cast<char>('0' + rest / 100),
                           static_cast<char>('0' + rest / 10 % 10),
                           static_cast<char>('0' + rest % 10)};
  buffer_.append(decimals, sizeof(decimals));
}

void Trace::AppendArgs(std::span<const Arg> args) {
  const char* between = ",\"args\":{\"";
  for (const Arg& arg : args) {
    Append(between);
    Append(arg.name);
    Append("\":");
    AppendNumber(arg.value);
    between = ",\"";
  }
  Append(args.empty() ? "}" : "}}");
}

void Trace::Add(Track track,
                const char* name,
                int64_t begin_ns,
                int64_t end_ns,
                std::span<const Arg> args) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_) {
    return;
  }
  const Status added = CatchBadAlloc([&] {
    const Track known = track == kThisThread ? TrackOfThisThread() : track;
    Begin("X", name);
    Append(",\"tid\":");
    AppendNumber(known);
    AppendTime("ts", begin_ns - origin_ns_);
    AppendTime("dur", end_ns - begin_ns);
    AppendArgs(args);
    Finish(end_ns);
    return Status::Ok();
  });
  if (!added.ok()) {
    Stop(added);
  }
}

void Trace::Count(const char* name, std::span<const Arg> values) noexcept {
  const int64_t now_ns = Now();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stopped_) {
    return;
  }
  const Status added = CatchBadAlloc([&] {
    Begin("C", name);
    AppendTime("ts", now_ns - origin_ns_);
    AppendArgs(values);
    Finish(now_ns);
    return Status::Ok();
  });
  if (!added.ok()) {
    Stop(added);
  }
}

void Trace::Finish(int64_t now_ns) {
  if (buffer_.size() < kBufferBytes && now_ns - written_ns_ < kWriteAfterNs) {
    return;
  }
  written_ns_ = now_ns;
  if (Status written = Write(); !written.ok()) {
    Stop(written);
  }
}

Status Trace::Write() {
  for (size_t done = 0; done < buffer_.size();) {
    const ssize_t count = calls_->Write(file_.get(),
                                        buffer_.data() + done,
                                        buffer_.size() - done,
                                        static_cast<off_t>(written_bytes_));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return FileError(path_, "written", count < 0 ? errno : EIO);
    }
    done += static_cast<size_t>(count);
    written_bytes_ += static_cast<uint64_t>(count);
  }
  buffer_.clear();
  return Status::Ok();
}

// Where there is no memory for the line either, the end of the file has to say it.
void Trace::Stop(const Status& status) {
  stopped_ = true;
  buffer_.clear();
  static_cast<void>(CatchBadAlloc([&] {
    log_->Error(StrCat("the trace ends here: ", status.message()));
    return Status::Ok();
  }));
}

}  // namespace hipattn::offload
