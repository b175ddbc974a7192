// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Counts the memory of the program this is linked into: operator new, and by the linker's --wrap
// aligned_alloc and free. Blocks of keys and values, which come from mmap, are not in it.
#ifndef HIPATTN_TESTS_ENGINE_COUNTING_MEMORY_H_
#define HIPATTN_TESTS_ENGINE_COUNTING_MEMORY_H_

#include <cstdint>

namespace hipattn::test {

// Bytes in use now; and the most there were since, which starts anew.
int64_t BeginCounting();

// The most that was in use at a time since BeginCounting.
int64_t MostInUse();

}  // namespace hipattn::test

#endif  // HIPATTN_TESTS_ENGINE_COUNTING_MEMORY_H_
