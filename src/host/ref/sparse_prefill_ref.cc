// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Skip-softmax is left out: it may change a result by the weights it skips and no more.
#include "device/range_panels.h"
#include "host/ref/ref_attention.h"
#include "host/ref/ref_text.h"
#include "host/ref/reference_table.h"

namespace hipattn::host::ref {
namespace {

// The keys of the text and those of the means that one row attends.
class RowKeys {
 public:
  RowKeys(const device::SparsePrefillJob& job, uint32_t head_dim, uint32_t row, RefText* text)
      : job_(job),
        head_dim_(head_dim),
        text_(*text),
        tile_(row / kRowTile),
        position_(job.first_pos + row) {
    AddRanges();
    if (!job.state || job.panel_end >= device::NumRangePanels(job.mask, tile_)) {
      AddColumns();
      AddMeans();
    }
  }
  const TokenRows& rows() const { return rows_; }
  size_t size() const { return rows_.bias.size(); }

 private:
  void AddKey(uint32_t key) {
    rows_.k.insert(rows_.k.end(), text_.Key(key), text_.Key(key) + head_dim_);
    rows_.v.insert(rows_.v.end(), text_.Value(key), text_.Value(key) + head_dim_);
    rows_.bias.push_back(0);
  }
  // Ranges of a kind share the number of a panel that they share.
  void AddRanges() {
    uint64_t number = 0;
    const MaskRange* before = nullptr;
    for (uint32_t i = job_.mask.range_ptr[tile_]; i < job_.mask.range_ptr[tile_ + 1]; ++i) {
      const MaskRange& range = job_.mask.ranges[i];
      for (uint32_t key = range.begin; key < range.end; ++key) {
        const bool new_panel =
            key == range.begin ? !SharesPanel(before, range) : key % device::kPanelTokens == 0;
        number += new_panel ? 1 : 0;
        if (key <= position_ && IsInPart(number - 1) &&
            (range.windowed == 0 || position_ - key < job_.mask.window)) {
          AddKey(key);
        }
      }
      before = range.begin < range.end ? &range : before;
    }
  }
  static bool SharesPanel(const MaskRange* before, const MaskRange& range) {
    return before != nullptr && before->windowed == range.windowed &&
           (before->end - 1) / device::kPanelTokens == range.begin / device::kPanelTokens;
  }
  bool IsInPart(uint64_t panel) const {
    return job_.state == nullptr || (panel >= job_.panel_begin && panel < job_.panel_end);
  }
  // From the mask, not from the packed panel: the two ops check each other.
  void AddColumns() {
    const uint32_t first = job_.mask.range_ptr[tile_] + tile_;
    const uint32_t last = job_.mask.range_ptr[tile_ + 1] + tile_ + 1;
    for (uint32_t i = first; i < last; ++i) {
      for (uint32_t j = job_.mask.intervals[i].begin; j < job_.mask.intervals[i].end; ++j) {
        if (job_.mask.columns[j] <= position_) {
          AddKey(job_.mask.columns[j]);
        }
      }
    }
  }
  void AddMeans() {
    const device::PrunedMeans& means = job_.means;
    if (means.panel == nullptr) {
      return;
    }
    for (uint32_t i = means.interval_ptr[tile_]; i < means.interval_ptr[tile_ + 1]; ++i) {
      for (uint32_t n = means.intervals[i].begin; n < means.intervals[i].end; ++n) {
        const uint32_t lane = n % device::kPanelTokens;
        const float* panel = means.panel + device::ColumnPanelElements(n - lane, head_dim_);
        for (uint32_t dim = 0; dim < head_dim_; ++dim) {
          rows_.k.push_back(panel[size_t{dim} * device::kPanelTokens + lane]);
          rows_.v.push_back(panel[(size_t{device::kPanelTokens} + lane) * head_dim_ + dim]);
        }
        rows_.bias.push_back(means.log_tokens[n]);
      }
    }
  }

  const device::SparsePrefillJob& job_;
  uint32_t head_dim_;
  RefText& text_;
  uint32_t tile_;
  uint32_t position_;
  TokenRows rows_;
};

}  // namespace

void SparsePrefill(const device::OpContext&, const device::SparsePrefillParams& params) {
  const device::BlockPool& pool = params.pool;
  const RowConfig config{pool.head_dim, params.scale, params.softcap, params.out_dtype};
  for (uint32_t job_idx = 0; job_idx < params.num_jobs; ++job_idx) {
    const device::SparsePrefillJob& job = params.jobs[job_idx];
    const bool in_parts = job.state != nullptr;
    const bool more = in_parts && job.panel_end < device::NumRangePanels(job.mask, 0);
    RefText text(pool, job.slots, job.first_pos + job.num_rows);
    for (uint32_t row = 0; row < job.num_rows; ++row) {
      const RowKeys keys(job, pool.head_dim, row, &text);
      for (uint32_t head = 0; head < job.num_heads; ++head) {
        const size_t in_head = size_t{head} * pool.head_dim;
        const uint64_t state = device::PrefillStateFloats(row, job.num_heads, pool.head_dim) +
                               device::PrefillStateFloats(1, head, pool.head_dim);
        AttendPart(config,
                   job.q + row * params.q_row_stride + in_head,
                   keys.rows(),
                   keys.size(),
                   {in_parts ? job.state + state : nullptr, job.panel_begin > 0, more},
                   {job.out,
                    row * params.out_row_stride + in_head,
                    job.lse == nullptr ? nullptr : job.lse + row * params.lse_row_stride + head});
      }
    }
  }
}

}  // namespace hipattn::host::ref
