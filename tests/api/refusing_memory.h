// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The memory of the program this is linked into can run out on demand: operator new, and by the
// linker's --wrap aligned_alloc and mmap.
#ifndef HIPATTN_TESTS_API_REFUSING_MEMORY_H_
#define HIPATTN_TESTS_API_REFUSING_MEMORY_H_

#include <cstdint>

namespace hipattn::test {

// From now on `granted_first` allocations of any thread succeed, then one is refused, or with
// `all_that_follow` every one.
void StartRefusing(int64_t granted_first, bool all_that_follow);

// How many were refused.
int64_t StopRefusing();

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_API_REFUSING_MEMORY_H_
