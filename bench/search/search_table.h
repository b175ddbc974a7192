// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// What a search found, as text for people.
#ifndef HIPATTN_BENCH_SEARCH_SEARCH_TABLE_H_
#define HIPATTN_BENCH_SEARCH_SEARCH_TABLE_H_

#include "search_record.h"

#include <string>

namespace pattern_search {

// How many heads have which pattern, most first, with their mean recall, error, density and cost;
// then the means over all heads. "" without layers.
std::string FormatTable(const SearchRecord& record);

}  // namespace pattern_search

#endif  // HIPATTN_BENCH_SEARCH_SEARCH_TABLE_H_
