// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "tile_costs.h"

#include "core/pattern/pattern_cost.h"

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <utility>

namespace pattern_search {
namespace {

using hipattn::core::HeadPattern;
using hipattn::core::PatternType;
using nlohmann::json;

constexpr std::pair<const char*, double TileCosts::*> kFields[] = {
    {"dense_tile", &TileCosts::dense_tile},
    {"masked_tile", &TileCosts::masked_tile},
    {"lines", &TileCosts::lines},
    {"blocks", &TileCosts::blocks},
};

HeadInput RandomInput(size_t size) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  HeadInput input;
  for (std::vector<float>* values : {&input.q, &input.k, &input.v}) {
    values->resize(size);
    std::generate(values->begin(), values->end(), [&] { return normal(random); });
  }
  return input;
}

}  // namespace

double TileCosts::ShareOf(const HeadPattern& pattern, const Attended& attended) const {
  const double choice = pattern.type == PatternType::kAShape          ? 0.0
                        : pattern.type == PatternType::kVerticalSlash ? lines
                                                                      : blocks;
  // A block-sparse head whose mask is not worth it is known by its size alone.
  const bool chooses = pattern.type == PatternType::kVerticalSlash || !attended.ran_dense();
  const double tile = attended.ran_dense() ? dense_tile : masked_tile;
  const double cost = (chooses ? choice : 0.0) + static_cast<double>(attended.tiles) * tile;
  return cost / (static_cast<double>(attended.dense_tiles) * dense_tile);
}

Result<TileCosts> MeasureCosts(HeadAttention* attention, uint32_t num_tokens, uint32_t head_dim) {
  constexpr int kRuns = 3;
  constexpr double kNever = std::numeric_limits<double>::max();
  const HeadInput input = RandomInput(size_t{num_tokens} * head_dim);
  const uint32_t part = std::max(1U, num_tokens / 8);
  const HeadPattern window = {PatternType::kAShape, part, part};
  const HeadPattern lines = {PatternType::kVerticalSlash, part, part};
  const HeadPattern blocks = {PatternType::kBlockSparse, std::max(1U, part / 64), 0};
  TileCosts costs = {kNever, kNever, kNever, kNever};
  for (int run = 0; run < kRuns; ++run) {
    const auto measure =
        [&](const std::optional<HeadPattern>& pattern, const auto& of, double* least) -> Status {
      const Result<Attended> attended = attention->Run(input, pattern);
      if (attended.ok()) {
        *least = std::min(*least, of(attended.value()));
      }
      return attended.status();
    };
    const auto per_tile = [](const Attended& attended) {
      return attended.attend_ns / static_cast<double>(attended.tiles);
    };
    const auto select = [](const Attended& attended) { return attended.select_ns; };
    RUN_RETURN_IF_ERROR(measure(std::nullopt, per_tile, &costs.dense_tile));
    RUN_RETURN_IF_ERROR(measure(window, per_tile, &costs.masked_tile));
    RUN_RETURN_IF_ERROR(measure(lines, select, &costs.lines));
    RUN_RETURN_IF_ERROR(measure(blocks, select, &costs.blocks));
  }
  return costs;
}

TileCosts CountCosts(uint32_t num_tokens, uint32_t head_dim) {
  const hipattn::core::PrefillShape shape = {num_tokens, num_tokens};
  const double tile = hipattn::core::KernelFlops(1, head_dim);
  return {tile,
          tile,
          hipattn::core::EstimateFlops({PatternType::kVerticalSlash, 1, 1}, shape, head_dim),
          hipattn::core::EstimateFlops({PatternType::kBlockSparse, 1, 0}, shape, head_dim)};
}

json CostsToJson(const TileCosts& costs) {
  json object;
  for (const auto& [name, field] : kFields) {
    object[name] = costs.*field;
  }
  return object;
}

bool CostsFromJson(const json& object, TileCosts* costs) {
  for (const auto& [name, field] : kFields) {
    if (!object.is_object() || !object.contains(name) || !object[name].is_number() ||
        !(object[name].get<double>() > 0)) {
      return false;
    }
    costs->*field = object[name].get<double>();
  }
  return true;
}

}  // namespace pattern_search
