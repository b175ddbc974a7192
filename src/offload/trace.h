// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Trace: what an engine did and when, as a file that ui.perfetto.dev and chrome://tracing open.
// Events are Chrome's trace events in the JSON array format, whose closing bracket may be missing:
// whole events are written, so a file of a process that died can be opened, too.
//
// A track is a row of the picture: a thread of the host, or a stream of the device. On one track
// events lie one behind the other or one inside the other. Times are those of the device
// (Device::Now) since the trace was opened.
//
// Events wait in a buffer of 64 KB and are written when it is full, or when one ends a second or
// more after the last write. A write that fails ends the trace with one line in the log, and
// changes nothing else.
#ifndef HIPATTN_OFFLOAD_TRACE_H_
#define HIPATTN_OFFLOAD_TRACE_H_

#include "base/log.h"
#include "base/result.h"
#include "device/device.h"
#include "offload/file_calls.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace hipattn::offload {

// Thread-safe.
class Trace {
 public:
  // What is said beside an event's name. Names here and below live as long as the trace, and are
  // JSON as they are.
  struct Arg {
    const char* name;
    uint64_t value;
  };
  static constexpr uint32_t kMostArgs = 4;

  using Track = uint32_t;
  static constexpr Track kThisThread = 0;  // that of the thread that ends the event

  // Empties the file, or makes it. kIoError: it cannot be opened, or another trace writes to it,
  // which it does undisturbed. All outlive the trace, but the device, which may end before.
  static Result<std::unique_ptr<Trace>> Open(FileCalls* calls,
                                             device::Device* device,
                                             const std::string& path,
                                             Logger* log);
  // Writes what is left, and the closing bracket.
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  Track AddTrack(const char* name);
  int64_t Now() { return device_->Now(); }

  // Something that took from begin_ns to end_ns, by Now(). At most kMostArgs.
  void Add(Track track,
           const char* name,
           int64_t begin_ns,
           int64_t end_ns,
           std::span<const Arg> args) noexcept;
  // Numbers as they are now.
  void Count(const char* name, std::span<const Arg> values) noexcept;

 private:
  Trace(FileCalls* calls, device::Device* device, std::string path, Logger* log);
  Status OpenFile();
  // All with mutex_ held.
  Track NameTrack(const char* name, uint64_t number);
  Track TrackOfThisThread();
  void Begin(const char* phase, const char* name);
  void Append(const char* text) { buffer_ += text; }
  void AppendNumber(uint64_t number);
  void AppendTime(const char* key, int64_t ns);
  void AppendArgs(std::span<const Arg> args);
  void Finish(int64_t now_ns);
  Status Write();
  void Stop(const Status& status);

  FileCalls* const calls_;
  device::Device* const device_;
  const std::string path_;
  Logger* const log_;
  const int64_t origin_ns_;
  OwnedFile file_;
  std::mutex mutex_;
  std::string buffer_;  // of whole events
  uint64_t written_bytes_ = 0;
  int64_t written_ns_;
  bool stopped_ = false;
  uint32_t num_tracks_ = 0;
  std::vector<std::pair<std::thread::id, Track>> threads_;
};

// An event from its construction to its end. Without a trace it is a test of a pointer.
class TraceSpan {
 public:
  TraceSpan(Trace* trace, const char* name, Trace::Track track = Trace::kThisThread)
      : trace_(trace), name_(name), track_(track), begin_ns_(trace == nullptr ? 0 : trace->Now()) {}
  ~TraceSpan() {
    if (trace_ != nullptr) {
      trace_->Add(track_, name_, begin_ns_, trace_->Now(), std::span(args_).first(num_args_));
    }
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

  // At most kMostArgs times.
  void Set(const char* name, uint64_t value) {
    if (trace_ != nullptr) {
      args_[num_args_++] = {name, value};
    }
  }

 private:
  Trace* const trace_;
  const char* const name_;
  const Trace::Track track_;
  const int64_t begin_ns_;
  uint32_t num_args_ = 0;
  Trace::Arg args_[Trace::kMostArgs] = {};
};

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_TRACE_H_
