// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "base/int_math.h"
#include "host/ref/log_sum.h"
#include "host/ref/ref_text.h"
#include "host/ref/reference_table.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hipattn::host::ref {
namespace {

// Keys [begin, end) of a text.
struct Segment {
  RefText& text;
  uint32_t number;
  uint32_t begin, end;
};

// The capped scores of row `row` against its keys in the segment.
std::vector<double> ScoresOf(const device::LinesParams& params,
                             const device::LinesJob& job,
                             uint32_t row,
                             const Segment& segment) {
  const float* q = job.q + row * params.q_row_stride;
  std::vector<double> scores;
  for (uint32_t key = segment.begin; key < segment.end && key <= job.first_pos + row; ++key) {
    const float* k = segment.text.Key(key);
    double dot = 0;
    for (uint32_t dim = 0; dim < params.pool.head_dim; ++dim) {
      dot += double{q[dim]} * double{k[dim]};
    }
    const double score = dot * double{params.scale};
    const double cap = double{params.softcap};
    scores.push_back(cap > 0 ? cap * std::tanh(score / cap) : score);
  }
  return scores;
}

uint32_t NumKeys(const device::LinesJob& job) {
  return job.first_pos + job.num_rows;
}

// [num_rows][kLinesSegment] kept scores of a segment, or null. f32 like the kernels', so that both
// passes see the same ones.
float* KeptScores(const device::LinesJob& job, uint32_t segment) {
  return segment < device::LinesKeptSegments(NumKeys(job), job.num_rows)
             ? job.workspace + segment * device::LinesScores(job.num_rows)
             : nullptr;
}

// [segments][num_rows] logs of the segments' sums.
float* SegmentSums(const device::LinesJob& job) {
  return job.workspace +
         device::LinesKeptSegments(NumKeys(job), job.num_rows) * device::LinesScores(job.num_rows);
}

// Calls fn(segment) for those of this launch.
template <typename Fn>
void ForEachSegment(const device::LinesParams& params, const device::LinesJob& job, const Fn& fn) {
  RefText text(params.pool, job.slots, NumKeys(job));
  const uint32_t all = CeilDiv(NumKeys(job), device::kLinesSegment);
  for (uint32_t number = job.segment_begin; number < std::min(all, job.segment_end); ++number) {
    const uint32_t begin = number * device::kLinesSegment;
    const uint32_t end = std::min(begin + device::kLinesSegment, NumKeys(job));
    fn(Segment{text, number, begin, end});
  }
}

void AddSums(const device::LinesParams& params, const device::LinesJob& job) {
  ForEachSegment(params, job, [&](const Segment& segment) {
    float* kept = KeptScores(job, segment.number);
    for (uint32_t row = 0; row < job.num_rows; ++row) {
      std::vector<double> scores = ScoresOf(params, job, row, segment);
      if (kept != nullptr) {
        float* row_scores = kept + size_t{row} * device::kLinesSegment;
        std::transform(scores.begin(), scores.end(), row_scores, [](double score) {
          return static_cast<float>(score);
        });
        scores.assign(row_scores, row_scores + scores.size());
      }
      SegmentSums(job)[segment.number * job.num_rows + row] = static_cast<float>(LogSum(scores));
    }
  });
}

void MergeSums(const device::LinesJob& job) {
  for (uint32_t row = 0; row < job.num_rows; ++row) {
    std::vector<double> parts;
    for (uint32_t key = 0; key < NumKeys(job); key += device::kLinesSegment) {
      parts.push_back(double{SegmentSums(job)[key / device::kLinesSegment * job.num_rows + row]});
    }
    job.lse[row] = static_cast<float>(LogSum(parts));
  }
}

// The scores of the first pass.
std::vector<double> SecondScores(const device::LinesParams& params,
                                 const device::LinesJob& job,
                                 uint32_t row,
                                 const Segment& segment) {
  const float* kept = KeptScores(job, segment.number);
  if (kept == nullptr) {
    return ScoresOf(params, job, row, segment);
  }
  const uint32_t end = std::min(segment.end, job.first_pos + row + 1);
  const float* scores = kept + size_t{row} * device::kLinesSegment;
  return {scores, scores + (end > segment.begin ? end - segment.begin : 0)};
}

void AddLines(const device::LinesParams& params, const device::LinesJob& job) {
  ForEachSegment(params, job, [&](const Segment& segment) {
    const uint32_t begin = segment.begin;
    std::vector<double> vertical(segment.end - begin);
    std::vector<double> slash(NumKeys(job));
    for (uint32_t row = 0; row < job.num_rows; ++row) {
      const std::vector<double> scores = SecondScores(params, job, row, segment);
      for (uint32_t i = 0; i < scores.size(); ++i) {
        const double weight = std::exp(scores[i] - double{job.lse[row]});
        vertical[i] += weight;
        slash[job.first_pos + row - begin - i] += weight;
      }
    }
    for (uint32_t key = begin; key < segment.end; ++key) {
      job.vertical[key] = static_cast<float>(vertical[key - begin]);
    }
    for (uint32_t i = 0; i < NumKeys(job); ++i) {
      job.slash[i] = static_cast<float>(slash[i]) + (segment.number == 0 ? 0.0F : job.slash[i]);
    }
  });
}

}  // namespace

void EstimateLines(const device::OpContext&, const device::LinesParams& params) {
  using device::LinesStep;
  const bool all = params.step == LinesStep::kAll;
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::LinesJob& job = params.jobs[job_idx];
    if (all || params.step == LinesStep::kSums) {
      AddSums(params, job);
    }
    if (all || params.step == LinesStep::kLse) {
      MergeSums(job);
    }
    if (all || params.step == LinesStep::kLines) {
      AddLines(params, job);
    }
  }
}

}  // namespace hipattn::host::ref
