// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// score_sketches: log-sum-exp of a query's products with the sketched keys of a block, best over
// rows and heads (docs/search.md, device/params.h).
//
// One row of codes is 16 dimensions of 16 tokens, a token per lane, so the products of a whole
// sketch end in one sum per token. What a code is multiplied by, q times the sketch's step, is
// rounded to int8 once per sketch and query; sums of whole numbers have no order. Horizontal steps
// (the best token, the sum of powers, q times base) are taken for four sketches at once.
//
// A batch is some tens of sketches of one job, by their place in its list. Parallel work is a run
// of batches. While four sketches are multiplied, the lines of those kAhead places later are asked
// for, and those kAgain places later once more: requests are dropped while all miss buffers are
// busy.
#include "base/fixed_point.h"
#include "host/kernels/dispatch.h"
#include "host/kernels/hadamard.h"
#include "host/kernels/kernels.h"
#include "host/kernels/steps.h"
#include "host/vec/vec.h"

namespace hipattn::host::HIPATTN_ISA {
namespace {

using device::kSketchTokens;
using device::ScoreSketchJob;
using device::ScoreSketchParams;

constexpr uint32_t kBatchSketches = 64;
constexpr uint32_t kAhead = 16;
constexpr uint32_t kAgain = 8;
constexpr uint32_t kAtOnce = 4;                    // sketches of a horizontal step
constexpr uint32_t kTileQueries = kRegisters / 4;  // a sum of one vector for each
constexpr int kDimsAtOnce = 4 * kLanes;            // dimensions whose weights are made at once
constexpr uint32_t kDims = device::kMaxHeadDim + kDimsAtOnce;  // room for a vector too many
constexpr float kMinusInf = -__builtin_inff();

struct Batch {
  uint32_t num_sketches;  // a multiple of kAtOnce: the last one is repeated
  uint32_t num_blocks;
  const std::byte* sketch[kBatchSketches + kAhead];
  float step_scale[kBatchSketches];
  float base_scale[kBatchSketches];
  bool each;                                 // query: scores of its own, no maximum over all
  float best[kTileQueries][kBatchSketches];  // by block; for the maximum the first row alone
};

// Queries in whole numbers; one step of q times one step of a sketch's scale 1 is `unit`.
struct Queries {
  uint32_t count;
  float unit[kTileQueries];
  alignas(64) int16_t q[kTileQueries][kDims];  // kDimsAtOnce by kDimsAtOnce in ByteTurn
};

// What is known of every sketch of a batch for one query.
struct Sums {
  alignas(64) float step_unit[kBatchSketches];
  alignas(64) float top[kBatchSketches];    // the best token's sum of codes
  alignas(64) float power[kBatchSketches];  // sum over the tokens of 2^(score - best score)
  alignas(64) int32_t base[kBatchSketches];
};

// Of four sketches: what codes are multiplied by, their sums by query, sketch and token, and parts
// of q.base.
struct Four {
  alignas(64) int8_t weights[kAtOnce][kTileQueries][kDims];
  alignas(64) float sums[kTileQueries][kAtOnce][kSketchTokens];
  VI base[kTileQueries][kAtOnce];
};

void LoadQueries(const ScoreSketchParams& params,
                 const device::QueryRows& rows,
                 uint32_t first,
                 Queries* queries) {
  const uint32_t left = rows.num_rows * rows.group - first;
  queries->count = left < kTileQueries ? left : kTileQueries;
  for (uint32_t i = 0; i < queries->count; ++i) {
    const uint32_t vector = first + i;
    const float* q = rows.q + vector / rows.group * rows.row_stride +
                     uint64_t{vector % rows.group} * params.head_dim;
    alignas(64) float rotated[device::kMaxHeadDim];
    alignas(64) float steps[device::kMaxHeadDim + kLanes];
    __builtin_memcpy(rotated, q, params.head_dim * sizeof(float));
    HadamardRow(params.head_dim, rotated);
    const float scale = ToSteps(rotated, static_cast<int>(params.head_dim), kMaxInt16Steps, steps);
    queries->unit[i] = scale * (params.scale * 1.44269504F);
    int16_t* const whole = queries->q[i];
    __builtin_memset(whole, 0, sizeof(queries->q[i]));
    for (uint32_t dim = 0; dim < params.head_dim; dim += 8) {
      const auto in_turn = static_cast<int>(dim % kDimsAtOnce);
      int16_t* const eight = whole + (dim - dim % kDimsAtOnce) + ByteTurn(in_turn);
      for (uint32_t j = 0; j < 8; ++j) {
        eight[j] = static_cast<int16_t>(steps[dim + j]);
      }
    }
  }
}

uint32_t SketchesPerBlock(const ScoreSketchParams& params) {
  return params.block_tokens / kSketchTokens;
}

// Number of the sketch at `place` of a job's list.
uint32_t SketchNumber(const ScoreSketchParams& params, const ScoreSketchJob& job, uint32_t place) {
  const uint32_t per_block = SketchesPerBlock(params);
  const uint32_t i = place / per_block;
  const uint32_t block =
      job.blocks == nullptr ? job.first_block + i : static_cast<uint32_t>(job.blocks[i]);
  return block * per_block + place % per_block;
}

// Sketches [first, ..) of the job's list, and behind them those to prefetch.
void FillBatch(const ScoreSketchParams& params,
               const ScoreSketchJob& job,
               uint32_t first,
               Batch* batch) {
  const uint64_t sketch_bytes = device::SketchBytes(params.head_dim);
  const uint32_t total = job.num_blocks * SketchesPerBlock(params);
  const uint32_t count = total - first < kBatchSketches ? total - first : kBatchSketches;
  batch->num_blocks = count / SketchesPerBlock(params);
  batch->num_sketches = (count + kAtOnce - 1) / kAtOnce * kAtOnce;
  for (uint32_t i = 0; i < batch->num_sketches + kAhead; ++i) {
    // The list goes on behind the batch, but not behind its own end.
    const uint32_t place = i < batch->num_sketches && i >= count ? first + count - 1 : first + i;
    const uint32_t number = SketchNumber(params, job, place < total ? place : total - 1);
    batch->sketch[i] = device::SketchAddress(job.table, sketch_bytes, number);
  }
}

// All lines of the first sketches of a run of batches, which nothing has asked for yet.
void PrefetchFirst(const Batch& batch, uint64_t sketch_bytes) {
  for (uint32_t i = 0; i < kAhead; ++i) {
    for (uint64_t line = 0; line < sketch_bytes; line += 64) {
      PrefetchL2(batch.sketch[i] + line);
    }
  }
}

// 2^e of an exponent that a sketch may hold.
inline float PowerOf2(int32_t exponent) {
  const int32_t bits = (exponent + 127) << 23;
  float power;
  __builtin_memcpy(&power, &bits, sizeof(power));
  return power;
}

inline void ReadScales(const std::byte* sketch, uint32_t at, Batch* batch) {
  const uint32_t bits = HighBits(reinterpret_cast<const uint8_t*>(sketch));
  batch->step_scale[at] = PowerOf2(static_cast<int8_t>(bits & 0xff));
  batch->base_scale[at] = PowerOf2(static_cast<int8_t>(bits >> 8));
}

// q times step for H queries, as what codes are multiplied by, and parts of q.base, of four
// sketches. Asks for the same bytes of later ones. The big steps are functions of their own:
// inlined into one, their registers spill.
template <uint32_t H>
[[gnu::noinline]] void MakeWeights(const std::byte* const* sketches,
                                   const Queries& queries,
                                   int dims,
                                   Four* four) {
  for (uint32_t i = 0; i < kAtOnce; ++i) {
    const auto* step = reinterpret_cast<const uint8_t*>(sketches[i]);
    const auto* base = reinterpret_cast<const int8_t*>(sketches[i]) + dims;
    VI sum[H];
    HIPATTN_UNROLL
    for (uint32_t h = 0; h < H; ++h) {
      sum[h] = ZeroInts();
    }
    // The last round may read behind steps and bases, in the codes: q is 0 there.
    for (int dim = 0; dim < dims; dim += kDimsAtOnce) {
      HIPATTN_UNROLL
      for (int line = 2 * dim; line < 2 * (dim + kDimsAtOnce); line += 64) {
        PrefetchL2(sketches[i + kAhead] + line);
        PrefetchL1(sketches[i + kAgain] + line);
      }
      VS steps[2];
      VS bases[2];
      LoadLow7(step + dim, steps);
      LoadBytes(base + dim, bases);
      HIPATTN_UNROLL
      for (uint32_t h = 0; h < H; ++h) {
        const VS first = LoadShorts(queries.q[h] + dim);
        const VS second = LoadShorts(queries.q[h] + dim + 2 * kLanes);
        StoreBytes(
            four->weights[i][h] + dim, MulRound15(first, steps[0]), MulRound15(second, steps[1]));
        sum[h] = DotAdd(second, bases[1], DotAdd(first, bases[0], sum[h]));
      }
    }
    HIPATTN_UNROLL
    for (uint32_t h = 0; h < H; ++h) {
      four->base[h][i] = sum[h];
    }
  }
}

// Sketches whose sums grow side by side for H queries: enough sums to hide what one takes, few
// enough that they and the codes stay in registers.
constexpr uint32_t Together(uint32_t h) {
  const uint32_t sums = kRegisters / 4;
  return h * 4 <= sums ? 4 : h * 2 <= sums ? 2 : 1;
}

// Sums of codes times weights, by token, of the sketches [at, at + S) of four.
template <uint32_t H, uint32_t S>
[[gnu::noinline]] void SumCodes(const std::byte* const* sketches,
                                int dims,
                                uint32_t at,
                                Four* four) {
  const std::byte* codes[S];
  const std::byte* ahead[S];
  const std::byte* again[S];
  HIPATTN_UNROLL
  for (uint32_t i = 0; i < S; ++i) {
    codes[i] = sketches[at + i] + 2 * static_cast<int64_t>(dims);
    ahead[i] = sketches[at + i + kAhead] + 2 * static_cast<int64_t>(dims);
    again[i] = sketches[at + i + kAgain] + 2 * static_cast<int64_t>(dims);
  }
  HIPATTN_UNROLL
  for (int part = 0; part < kPanelVectors; ++part) {
    VI sum[S][H];
    HIPATTN_UNROLL
    for (uint32_t i = 0; i < S * H; ++i) {
      sum[i / H][i % H] = ZeroInts();
    }
    for (int dim = 0; dim < dims; dim += 16) {
      HIPATTN_UNROLL
      for (uint32_t i = 0; i < S; ++i) {
        PrefetchL2(ahead[i] + dim * 4);
        PrefetchL1(again[i] + dim * 4);
        VI split[4];
        SplitCodes(codes[i] + dim * 4 + part * kLanes * 4, split);
        HIPATTN_UNROLL
        for (uint32_t h = 0; h < H; ++h) {
          sum[i][h] = DotCodes(split, four->weights[at + i][h] + dim, sum[i][h]);
        }
      }
    }
    HIPATTN_UNROLL
    for (uint32_t i = 0; i < S * H; ++i) {
      Store(four->sums[i % H][at + i / H] + part * kLanes, ToFloat(sum[i / H][i % H]));
    }
  }
}

// About 2^y for y <= 0, at least 2^-126.
inline VF PowerOf2(VF y) {
  const VF bounded = Max(y, Set1(-126.0F));
  const VF whole = Floor(bounded);
  const VF part = Sub(bounded, whole);
  const VF slope = Add(Mul(part, Set1(87.0F / 256)), Set1(169.0F / 256));
  return Scale2(Add(Mul(slope, part), Set1(1.0F)), whole);
}

inline void LoadRows(const float (&sums)[kAtOnce][kSketchTokens],
                     VF (&rows)[kAtOnce][kPanelVectors]) {
  HIPATTN_UNROLL
  for (uint32_t i = 0; i < kAtOnce; ++i) {
    HIPATTN_UNROLL
    for (int part = 0; part < kPanelVectors; ++part) {
      rows[i][part] = Load(sums[i] + part * kLanes);
    }
  }
}

// Best token, sum of powers and q.base of the four sketches from `at` on, for each query. One step
// for all queries before the next: each is a chain of its own, and a short one.
template <uint32_t H>
void FinishFour(uint32_t at, Four* four, Sums (&sums)[H]) {
  VF rows[kAtOnce][kPanelVectors];
  for (uint32_t h = 0; h < H; ++h) {
    LoadRows(four->sums[h], rows);
    MaxOfRows(rows, sums[h].top + at);
    SumOfRows(four->base[h], sums[h].base + at);
  }
  for (uint32_t h = 0; h < H; ++h) {
    HIPATTN_UNROLL
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      HIPATTN_UNROLL
      for (int part = 0; part < kPanelVectors; ++part) {
        float* const lanes = four->sums[h][i] + part * kLanes;
        const VF below = Sub(Load(lanes), Set1(sums[h].top[at + i]));
        rows[i][part] = PowerOf2(Mul(below, Set1(sums[h].step_unit[at + i])));
      }
    }
    SumOfRows(rows, sums[h].power + at);
  }
}

// About log2(x) for 1 <= x <= 16.
inline float Log2(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const auto exponent = static_cast<float>((bits >> 23) - 127);
  const int32_t fraction = (bits & 0x7fffff) | 0x3f800000;
  float part;
  __builtin_memcpy(&part, &fraction, sizeof(part));
  part = part - 1.0F;
  return exponent + (part * (-87.0F / 256) + 343.0F / 256) * part;
}

inline float ScalarPowerOf2(float y) {
  alignas(64) float power[kLanes];
  Store(power, PowerOf2(Set1(y)));
  return power[0];
}

// Folds one query's scores into the blocks' `best`.
void FinishBatch(
    float unit, uint32_t per_block, const Sums& sums, const Batch& batch, float* best_of_blocks) {
  alignas(64) float scores[kBatchSketches];
  for (uint32_t i = 0; i < batch.num_sketches; ++i) {
    const float base_unit = unit * batch.base_scale[i];
    const float best =
        base_unit * static_cast<float>(sums.base[i]) + sums.step_unit[i] * sums.top[i];
    scores[i] = best + Log2(sums.power[i]);
  }
  for (uint32_t i = 0; i < batch.num_blocks; ++i) {
    float score = scores[i * per_block];
    if (per_block > 1) {
      for (uint32_t j = 1; j < per_block; ++j) {
        score = scores[i * per_block + j] > score ? scores[i * per_block + j] : score;
      }
      float power = 0.0F;
      for (uint32_t j = 0; j < per_block; ++j) {
        power = power + ScalarPowerOf2(scores[i * per_block + j] - score);
      }
      score = score + Log2(power);
    }
    best_of_blocks[i] = score > best_of_blocks[i] ? score : best_of_blocks[i];
  }
}

template <uint32_t H>
void ScoreTile(const ScoreSketchParams& params, const Queries& queries, Batch* batch) {
  const int dims = static_cast<int>(device::SketchDims(params.head_dim));
  Sums sums[H];
  Four four;
  for (uint32_t at = 0; at < batch->num_sketches; at += kAtOnce) {
    for (uint32_t i = 0; i < kAtOnce; ++i) {
      ReadScales(batch->sketch[at + i], at + i, batch);
    }
    MakeWeights<H>(batch->sketch + at, queries, dims, &four);
    for (uint32_t i = 0; i < kAtOnce; i += Together(H)) {
      SumCodes<H, Together(H)>(batch->sketch + at, dims, i, &four);
    }
    for (uint32_t h = 0; h < H; ++h) {
      const float step = queries.unit[h] * 32768.0F;
      for (uint32_t i = at; i < at + kAtOnce; ++i) {
        sums[h].step_unit[i] = step * batch->step_scale[i];
      }
    }
    FinishFour(at, &four, sums);
  }
  for (uint32_t h = 0; h < H; ++h) {
    float* const best = batch->best[batch->each ? h : 0];
    FinishBatch(queries.unit[h], SketchesPerBlock(params), sums[h], *batch, best);
  }
}

template <uint32_t H>
void ScoreQueries(const ScoreSketchParams& params, const Queries& queries, Batch* batch) {
  if constexpr (H > 0) {
    if (queries.count == H) {
      return ScoreTile<H>(params, queries, batch);
    }
    ScoreQueries<H - 1>(params, queries, batch);
  }
}

uint32_t NumBatches(const ScoreSketchParams& params, const ScoreSketchJob& job) {
  const uint64_t sketches = uint64_t{job.num_blocks} * SketchesPerBlock(params);
  return static_cast<uint32_t>((sketches + kBatchSketches - 1) / kBatchSketches);
}

void ClearBest(Batch* batch) {
  for (uint32_t h = 0; h < (batch->each ? kTileQueries : 1); ++h) {
    for (uint32_t block = 0; block < batch->num_blocks; ++block) {
      batch->best[h][block] = kMinusInf;
    }
  }
}

void StoreBest(const Batch& batch, uint32_t h, float* scores) {
  __builtin_memcpy(scores, batch.best[h], batch.num_blocks * sizeof(float));
}

// All queries of a job against a filled batch, from `scores` on. Queries that fit one tile are
// loaded once per job: *loaded says whether they are.
void ScoreBatch(const ScoreSketchParams& params,
                const ScoreSketchJob& job,
                float* scores,
                Batch* batch,
                Queries* queries,
                bool* loaded) {
  const uint32_t num_queries = job.rows.num_rows * job.rows.group;
  batch->each = job.query_stride != 0;
  ClearBest(batch);
  for (uint32_t query = 0; query < num_queries; query += kTileQueries) {
    if (!*loaded || num_queries > kTileQueries) {
      LoadQueries(params, job.rows, query, queries);
      *loaded = true;
    }
    ScoreQueries<kTileQueries>(params, *queries, batch);
    if (batch->each) {
      for (uint32_t h = 0; h < queries->count; ++h) {
        StoreBest(*batch, h, scores + (query + h) * job.query_stride);
      }
      ClearBest(batch);
    }
  }
  if (!batch->each) {
    StoreBest(*batch, 0, scores);
  }
}

// Batches [first, last), counted over all jobs.
void RunBatches(const ScoreSketchParams& params, uint64_t first, uint64_t last) {
  Batch batch;
  Queries queries;
  uint64_t batch_base = 0;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs && batch_base < last; ++job_idx) {
    const ScoreSketchJob& job = params.jobs[job_idx];
    const uint64_t job_end = batch_base + NumBatches(params, job);
    bool loaded = false;
    for (uint64_t i = first > batch_base ? first : batch_base; i < job_end && i < last; ++i) {
      const uint32_t first_sketch = static_cast<uint32_t>(i - batch_base) * kBatchSketches;
      FillBatch(params, job, first_sketch, &batch);
      if (!loaded) {
        PrefetchFirst(batch, device::SketchBytes(params.head_dim));
      }
      float* const scores = job.scores + first_sketch / SketchesPerBlock(params);
      ScoreBatch(params, job, scores, &batch, &queries, &loaded);
    }
    batch_base = job_end;
  }
}

}  // namespace

void ScoreSketches(const device::OpContext& context, const ScoreSketchParams& params) {
  uint64_t num_batches = 0;
  for (uint32_t i = 0; i < params.num_jobs; ++i) {
    num_batches += NumBatches(params, params.jobs[i]);
  }
  ParallelRuns(context, num_batches, [&](uint64_t first, uint64_t last) {
    RunBatches(params, first, last);
  });
}

}  // namespace hipattn::host::HIPATTN_ISA
