// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// One golden case from its folder: case.json and the arrays it names (SPEC section 9; cases of the
// sparse prefill: section 9 of its own SPEC).
#ifndef HIPATTN_TESTS_GOLDEN_GOLDEN_CASE_H_
#define HIPATTN_TESTS_GOLDEN_GOLDEN_CASE_H_

#include "base/result.h"
#include "tests/golden/npy.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace hipattn::golden {

struct Tolerance {
  double relative;
  double absolute;
  double lse_absolute;
};

class GoldenCase {
 public:
  static Result<GoldenCase> Load(const std::filesystem::path& folder);

  const std::string& op() const { return op_; }

  // Parameters. An absent one is the fallback; one of another type throws, and the test fails.
  int64_t Int(const std::string& name, int64_t fallback = 0) const;
  uint32_t Count(const std::string& name, int64_t fallback = 0) const;  // negative: above 2^31
  double Number(const std::string& name, double fallback = 0.0) const;
  std::string Text(const std::string& name, const std::string& fallback = "") const;
  std::vector<uint32_t> Counts(const std::string& name) const;

  const nlohmann::json& params() const { return params_; }
  // The values that stand in a prefill case itself; null in other cases.
  const nlohmann::json& inline_expected() const { return inline_expected_; }
  // By name of an array, then by "fp32" or "bf16": {atol, rtol}. Of a prefill case.
  const nlohmann::json& tolerances() const { return tolerances_; }
  // A file that is no array. Throws std::out_of_range when the case has none of that name.
  const std::string& Bytes(const std::string& name) const { return bytes_.at(name); }

  bool HasInput(const std::string& name) const { return inputs_.contains(name); }
  // Throws std::out_of_range when the case has none of that name, as Expected and Values.
  const Array& Input(const std::string& name) const { return inputs_.at(name); }
  bool Expects(const std::string& name) const { return expected_.contains(name); }
  const Array& Expected(const std::string& name) const { return expected_.at(name); }
  bool HasValues(const std::string& name) const { return values_.contains(name); }
  const std::vector<int64_t>& Values(const std::string& name) const { return values_.at(name); }

  // For float32 KV, or for a narrower type.
  const Tolerance& tolerance(bool narrow) const { return narrow ? narrow_ : wide_; }

 private:
  std::string op_;
  nlohmann::json params_;
  nlohmann::json inline_expected_;
  nlohmann::json tolerances_;
  std::map<std::string, std::string> bytes_;
  std::map<std::string, Array> inputs_;
  std::map<std::string, Array> expected_;
  std::map<std::string, std::vector<int64_t>> values_;
  Tolerance wide_ = {};
  Tolerance narrow_ = {};
};

// The names of a folder's cases, from its manifest.json, or index.json of prefill cases.
Result<std::vector<std::string>> ReadManifest(const std::filesystem::path& folder);

}  // namespace hipattn::golden

#endif  // HIPATTN_TESTS_GOLDEN_GOLDEN_CASE_H_
