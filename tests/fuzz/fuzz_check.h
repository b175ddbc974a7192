// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// FUZZ_CHECK: what must hold in a fuzz target whatever its input; aborts, so that the fuzzer keeps
// the input.
#ifndef HIPATTN_TESTS_FUZZ_FUZZ_CHECK_H_
#define HIPATTN_TESTS_FUZZ_FUZZ_CHECK_H_

#include <hipattn/hipattn.h>

#include <cstdio>
#include <cstdlib>

#define FUZZ_CHECK(condition)                       \
  do {                                              \
    if (!(condition)) {                             \
      std::fprintf(stderr,                          \
                   "%s:%d: %s\n  last error: %s\n", \
                   __FILE__,                        \
                   __LINE__,                        \
                   #condition,                      \
                   hipattn_last_error_message());   \
      std::abort();                                 \
    }                                               \
  } while (false)

#endif  // HIPATTN_TESTS_FUZZ_FUZZ_CHECK_H_
