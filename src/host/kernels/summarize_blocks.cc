// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// A job's blocks are cut where a node of KeptLevel ends. The first piece goes on with the open
// nodes of earlier calls; every later piece begins with none, so pieces run in parallel, and what
// they hand on, the f32 vectors of their KeptLevel node, is kept anyway. The levels above are
// folded from those in a last pass.
//
// No product is summed here, so nothing can be fused: the bits are those of the reference on every
// instruction set.
#include "base/tree.h"
#include "host/kernels/dispatch.h"
#include "host/kernels/kernels.h"
#include "host/kernels/steps.h"
#include "host/kernels/token_rows.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

constexpr uint32_t kPanel = device::kPanelTokens;
constexpr size_t kScaleBytes = 2 * kFanOut * sizeof(float);

// A node's vectors [low, high, mean or sum of means][head_dim].
struct Triple {
  alignas(64) float data[3 * device::kMaxHeadDim];
};

// What does not change within a job.
struct Build {
  const device::SummarizeParams* params;
  const device::SummarizeJob* job;
  uint32_t head_dim;
  uint32_t kept_level;
  uint32_t end_block;
};

Build MakeBuild(const device::SummarizeParams& params, const device::SummarizeJob& job) {
  return {&params,
          &job,
          params.pool.head_dim,
          device::KeptLevel(params.pool.block_tokens),
          job.first_block + job.num_blocks};
}

// First block behind the piece that holds `block`, or the end of the job.
uint32_t PieceEnd(const Build& build, uint32_t block) {
  const uint32_t shift = 3 * build.kept_level;
  const uint32_t end = ((block >> shift) + 1) << shift;
  return end < build.end_block ? end : build.end_block;
}

// open = low and high of both, sum of means; or child itself when it is the first.
void Fold(const float* child, bool is_first, uint32_t head_dim, float* open) {
  if (is_first) {
    ConvertRow(F32{}, open, F32{}, child, static_cast<int>(3 * head_dim));
    return;
  }
  const float* low = child;
  const float* high = child + head_dim;
  const float* mean = child + 2 * head_dim;
  float* open_low = open;
  float* open_high = open + head_dim;
  float* open_sum = open + 2 * head_dim;
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    open_low[dim] = low[dim] < open_low[dim] ? low[dim] : open_low[dim];
    open_high[dim] = high[dim] > open_high[dim] ? high[dim] : open_high[dim];
    open_sum[dim] = open_sum[dim] + mean[dim];
  }
}

// rows[16][head_dim] = the keys of one panel.
template <typename Tag>
void TransposePanel(Tag tag, const typename Tag::Elem* panel, uint32_t head_dim, float* rows) {
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    alignas(64) float lanes[kPanel];
    for (uint32_t i = 0; i < kPanel; i += kLanes) {
      Store(lanes + i, Load(tag, panel + size_t{dim} * kPanel + i));
    }
    for (uint32_t i = 0; i < kPanel; ++i) {
      rows[size_t{i} * head_dim + dim] = lanes[i];
    }
  }
}

template <typename Tag>
void SummarizeBlock(Tag tag, const Build& build, uint32_t block_idx, Triple* triple) {
  const device::BlockPool& pool = build.params->pool;
  const uint32_t head_dim = build.head_dim;
  const auto* keys = reinterpret_cast<const typename Tag::Elem*>(
      device::BlockAddress(pool, build.job->slots[block_idx]));
  alignas(64) float rows[kPanel * device::kMaxHeadDim];
  float* __restrict low = triple->data;
  float* __restrict high = low + head_dim;
  float* __restrict mean = high + head_dim;
  for (uint32_t panel = 0; panel < pool.block_tokens / kPanel; ++panel) {
    TransposePanel(tag, keys + size_t{panel} * head_dim * kPanel, head_dim, rows);
    for (uint32_t i = 0; i < kPanel; ++i) {
      const float* key = rows + size_t{i} * head_dim;
      const bool is_first = panel == 0 && i == 0;
      for (uint32_t dim = 0; dim < head_dim; ++dim) {
        low[dim] = is_first || key[dim] < low[dim] ? key[dim] : low[dim];
        high[dim] = is_first || key[dim] > high[dim] ? key[dim] : high[dim];
        mean[dim] = is_first ? key[dim] : mean[dim] + key[dim];
      }
    }
  }
  const auto count = static_cast<float>(pool.block_tokens);
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    mean[dim] = mean[dim] / count;
  }
}

// SPEC D30: m (which = 0) or w (1) of a group's child; returns the scale.
float Quantize(const float* x,
               uint32_t head_dim,
               bool has_spread,
               uint32_t which,
               uint32_t child,
               int8_t* lanes) {
  alignas(64) float steps[device::kMaxHeadDim + kLanes];
  const float scale = ToSteps(x, static_cast<int>(head_dim), 127.0F, steps);
  for (uint32_t dim = 0; dim < head_dim; ++dim) {
    lanes[device::SummaryPlace(has_spread, which, child, dim)] = static_cast<int8_t>(steps[dim]);
  }
  return scale;
}

// The stored key that stands for a node (scorers representative, first, last).
template <typename Tag>
void ReadStandIn(Tag tag, const Build& build, uint32_t level, uint32_t node, float* m) {
  const device::BlockPool& pool = build.params->pool;
  const uint64_t size = uint64_t{pool.block_tokens} << (3 * level);
  uint64_t offset = 0;
  if (build.params->scorer == Scorer::kRepresentative) {
    offset = size / 2;
  } else if (build.params->scorer == Scorer::kLast) {
    offset = size - 1;
  }
  const uint64_t token = node * size + offset;
  std::byte* block = device::BlockAddress(pool, build.job->slots[token / pool.block_tokens]);
  ReadKey(tag, pool, block, static_cast<uint32_t>(token % pool.block_tokens), m);
}

// SPEC D28: m and, for scorers with a spread, w.
template <typename Tag>
void NodeVectors(Tag tag,
                 const Build& build,
                 uint32_t level,
                 uint32_t node,
                 const Triple& triple,
                 float* m,
                 float* w) {
  const float* low = triple.data;
  const float* high = low + build.head_dim;
  const float* mean = high + build.head_dim;
  switch (build.params->scorer) {
    case Scorer::kCuboidMean:
      for (uint32_t dim = 0; dim < build.head_dim; ++dim) {
        m[dim] = ((low[dim] + high[dim]) / 2.0F + mean[dim]) / 2.0F;
        w[dim] = (high[dim] - low[dim]) / 4.0F;
      }
      return;
    case Scorer::kBounds:
      for (uint32_t dim = 0; dim < build.head_dim; ++dim) {
        m[dim] = (low[dim] + high[dim]) / 2.0F;
        w[dim] = (high[dim] - low[dim]) / 2.0F;
      }
      return;
    case Scorer::kMean:
      ConvertRow(F32{}, m, F32{}, mean, static_cast<int>(build.head_dim));
      return;
    default:
      ReadStandIn(tag, build, level, node, m);
      return;
  }
}

template <typename Tag>
void WriteSummary(
    Tag tag, const Build& build, uint32_t level, uint32_t node, const Triple& triple) {
  alignas(64) float m[device::kMaxHeadDim];
  alignas(64) float w[device::kMaxHeadDim];
  NodeVectors(tag, build, level, node, triple, m, w);
  const bool has_spread = ScorerHasSpread(build.params->scorer);
  const uint64_t group_bytes = device::SummaryGroupBytes(build.head_dim, has_spread);
  std::byte* group =
      device::SummaryGroupAddress(build.job->levels[level], group_bytes, node / kFanOut);
  const uint32_t child = node % kFanOut;
  auto* scales = reinterpret_cast<float*>(group);
  auto* lanes = reinterpret_cast<int8_t*>(group + kScaleBytes);
  scales[child] = Quantize(m, build.head_dim, has_spread, 0, child, lanes);
  scales[kFanOut + child] =
      has_spread ? Quantize(w, build.head_dim, true, 1, child, lanes) : scales[child];
}

// Writes what stays of a complete node.
template <typename Tag>
void KeepNode(Tag tag, const Build& build, uint32_t level, uint32_t node, const Triple& triple) {
  if (build.job->rebuild != 0) {
    return;
  }
  WriteSummary(tag, build, level, node, triple);
  if (level >= build.kept_level) {
    ConvertRow(F32{},
               build.job->kept[level - build.kept_level][node],
               F32{},
               triple.data,
               static_cast<int>(3 * build.head_dim));
  }
}

// Folds a complete node of `level` into the open nodes above it, `open` being that of level 1, and
// completes those that it fills, up to `top`.
template <typename Tag>
void Cascade(Tag tag,
             const Build& build,
             uint32_t level,
             uint32_t node,
             const Triple& complete,
             uint32_t top,
             float* open) {
  const float* child = complete.data;
  Triple parent;
  for (; level < top; ++level, node /= kFanOut) {
    float* above = open + size_t{level} * 3 * build.head_dim;
    Fold(child, node % kFanOut == 0, build.head_dim, above);
    if (node % kFanOut != kFanOut - 1) {
      return;
    }
    ConvertRow(F32{}, parent.data, F32{}, above, static_cast<int>(3 * build.head_dim));
    for (uint32_t dim = 2 * build.head_dim; dim < 3 * build.head_dim; ++dim) {
      parent.data[dim] = parent.data[dim] / static_cast<float>(kFanOut);
    }
    KeepNode(tag, build, level + 1, node / kFanOut, parent);
    child = parent.data;
  }
}

// Blocks [begin, end) of one piece; levels up to KeptLevel.
template <typename Tag>
void BuildPiece(Tag tag, const Build& build, uint32_t begin, uint32_t end, float* open) {
  Triple triple;
  for (uint32_t block_idx = begin; block_idx < end; ++block_idx) {
    SummarizeBlock(tag, build, block_idx, &triple);
    KeepNode(tag, build, 0, block_idx, triple);
    Cascade(tag, build, 0, block_idx, triple, build.kept_level, open);
  }
}

template <typename Tag>
void BuildFirstPiece(Tag tag, const Build& build) {
  const uint32_t begin = build.job->first_block;
  BuildPiece(tag, build, begin, PieceEnd(build, begin), build.job->open);
}

// Pieces behind the first one.
uint32_t LaterPieces(const Build& build) {
  const uint32_t begin = PieceEnd(build, build.job->first_block);
  const uint32_t piece_blocks = uint32_t{1} << (3 * build.kept_level);
  return (build.end_block - begin + piece_blocks - 1) / piece_blocks;
}

template <typename Tag>
void BuildLaterPiece(Tag tag, const Build& build, uint32_t piece) {
  constexpr uint32_t kMostKeptLevel = device::KeptLevel(kPanel);
  const uint32_t piece_blocks = uint32_t{1} << (3 * build.kept_level);
  const uint32_t begin = PieceEnd(build, build.job->first_block) + piece * piece_blocks;
  const uint32_t end = PieceEnd(build, begin);
  if (end - begin < piece_blocks) {
    BuildPiece(tag, build, begin, end, build.job->open);
    return;
  }
  alignas(64) float open[kMostKeptLevel * 3 * device::kMaxHeadDim];
  BuildPiece(tag, build, begin, end, open);
}

// Levels above KeptLevel, from the kept vectors of the KeptLevel nodes that this call completed.
template <typename Tag>
void BuildTop(Tag tag, const Build& build) {
  const uint32_t shift = 3 * build.kept_level;
  Triple triple;
  for (uint32_t node = build.job->first_block >> shift; node < build.end_block >> shift; ++node) {
    ConvertRow(
        F32{}, triple.data, F32{}, build.job->kept[0][node], static_cast<int>(3 * build.head_dim));
    Cascade(tag, build, build.kept_level, node, triple, kMaxLevels - 1, build.job->open);
  }
}

// The open nodes above KeptLevel, from the kept vectors of their children.
void RebuildTop(const Build& build) {
  uint32_t complete = build.end_block >> (3 * build.kept_level);
  for (uint32_t level = build.kept_level + 1; level < kMaxLevels; ++level) {
    const uint32_t first = complete / kFanOut * kFanOut;
    float* open = build.job->open + size_t{level - 1} * 3 * build.head_dim;
    for (uint32_t child = first; child < complete; ++child) {
      Fold(build.job->kept[level - 1 - build.kept_level][child],
           child == first,
           build.head_dim,
           open);
    }
    complete /= kFanOut;
  }
}

template <typename Tag>
void SummarizeAll(Tag tag,
                  const device::OpContext& context,
                  const device::SummarizeParams& params) {
  const uint64_t block_elements = uint64_t{params.pool.block_tokens} * params.pool.head_dim;
  uint64_t first_blocks = 0;
  uint64_t later_pieces = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const Build build = MakeBuild(params, params.jobs[job_idx]);
    first_blocks += PieceEnd(build, build.job->first_block) - build.job->first_block;
    later_pieces += LaterPieces(build);
  }
  RunTasks(context, params.num_jobs, first_blocks * block_elements, [&](size_t job_idx) {
    BuildFirstPiece(tag, MakeBuild(params, params.jobs[job_idx]));
  });
  const uint64_t piece_elements = block_elements
                                  << (3 * device::KeptLevel(params.pool.block_tokens));
  RunTasks(context, later_pieces, later_pieces * piece_elements, [&](size_t task) {
    const device::SummarizeJob* job = params.jobs;
    uint32_t pieces = LaterPieces(MakeBuild(params, *job));
    while (task >= pieces) {
      task -= pieces;
      ++job;
      pieces = LaterPieces(MakeBuild(params, *job));
    }
    BuildLaterPiece(tag, MakeBuild(params, *job), static_cast<uint32_t>(task));
  });
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const Build build = MakeBuild(params, params.jobs[job_idx]);
    if (build.job->rebuild != 0) {
      RebuildTop(build);
    } else {
      BuildTop(tag, build);
    }
  }
}

}  // namespace

void SummarizeBlocks(const device::OpContext& context, const device::SummarizeParams& params) {
  WithTag(params.pool.kv_dtype, [&](auto tag) { SummarizeAll(tag, context, params); });
}

}  // namespace hipattn::host::HIPATTN_ISA
