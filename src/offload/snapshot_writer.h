// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Writes snapshot files so that a path names a whole snapshot or what it named before, whatever
// happens in between: all goes to PATH.part, which is synced and then renamed. A process that is
// killed leaves PATH.part, which the next save to PATH writes over.
#ifndef HIPATTN_OFFLOAD_SNAPSHOT_WRITER_H_
#define HIPATTN_OFFLOAD_SNAPSHOT_WRITER_H_

#include "base/status.h"
#include "device/device.h"
#include "offload/file_calls.h"
#include "offload/snapshot_layout.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace hipattn::offload {

// Copies the bytes of an extent from `offset` on, a whole number of pages from its begin, to `to`.
// Called from several threads at once.
using FillExtent = std::function<Status(uint32_t extent, uint64_t offset, std::span<std::byte> to)>;

// Writes the snapshot and puts it in the place of what was at `path`. Copies and checksums run on
// the device's executor while the disk writes. kIoError: what was at `path` is as it was, nothing
// is left beside it; also when another save to `path` is at work. An error of the last step, the
// folder's sync, is the exception: the new file is there, but may be gone after a power cut; the
// message says so.
Status WriteSnapshot(device::Device& device,
                     FileCalls& calls,
                     const std::string& path,
                     const SnapshotLayout& layout,
                     const FillExtent& fill);

}  // namespace hipattn::offload

#endif  // HIPATTN_OFFLOAD_SNAPSHOT_WRITER_H_
