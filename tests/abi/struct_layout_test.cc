// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Sizes and offsets of release 0.1 on 64-bit machines. Numbers here never change within a major
// version; a field that is appended gets a new line, and the size grows.
#include "hipattn/hipattn.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

namespace {

#define HIPATTN_EXPECT_OFFSET(type, field, offset) \
  static_assert(offsetof(type, field) == (offset), #type "." #field " moved")

static_assert(sizeof(hipattn_engine_options_t) == 160);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, struct_size, 0);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, device, 4);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, device_index, 8);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, num_threads, 12);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, num_layers, 16);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, num_q_heads, 20);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, num_kv_heads, 24);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, head_dim, 28);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, block_tokens, 32);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, io_dtype, 36);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, kv_dtype, 40);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, softmax_scale, 44);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, logit_softcap, 48);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, rope_mode, 52);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, rope_theta, 56);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, rope_dim, 60);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, trained_tokens, 64);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, reserved, 68);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, rope_inv_freq, 72);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, device_kv_bytes, 80);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, host_kv_bytes, 88);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, disk_kv_bytes, 96);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, disk_path, 104);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, pool_endpoints, 112);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, pool_key, 120);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, log, 128);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, log_user_data, 136);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, first_q_head, 144);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, model_q_heads, 148);
HIPATTN_EXPECT_OFFSET(hipattn_engine_options_t, trace_path, 152);

static_assert(sizeof(hipattn_memory_need_t) == 56);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, struct_size, 0);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, reserved, 4);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, device_bytes_min, 8);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, device_bytes_full, 16);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, device_index_bytes, 24);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, host_bytes, 32);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, disk_bytes, 40);
HIPATTN_EXPECT_OFFSET(hipattn_memory_need_t, kv_bytes_total, 48);

static_assert(sizeof(hipattn_attention_options_t) == 84);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, struct_size, 0);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, decode_mode, 4);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, search, 8);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, scorer, 12);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, prefill_mode, 16);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, budget_tokens, 20);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, sink_tokens, 24);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, window_tokens, 28);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, refresh_interval, 32);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, min_recall, 36);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, dense_up_to_tokens, 40);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, rerank_tokens, 44);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, audit_interval, 48);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, max_scanned_heads, 52);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, verify_recall, 56);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, prefill_sizes, 60);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, prefill_last_q, 68);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, prefill_delta_interval, 72);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, prefill_threshold, 76);
HIPATTN_EXPECT_OFFSET(hipattn_attention_options_t, prefill_skip_threshold, 80);

static_assert(sizeof(hipattn_attend_args_t) == 96);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, struct_size, 0);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, layer, 4);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, num_sequences, 8);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, sequences, 16);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, num_new_tokens, 24);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, q, 32);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, k, 40);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, v, 48);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, out, 56);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, lse, 64);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, stream, 72);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, external_blocks, 80);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, num_external, 88);
HIPATTN_EXPECT_OFFSET(hipattn_attend_args_t, phase, 92);

static_assert(sizeof(hipattn_recall_t) == 20);
HIPATTN_EXPECT_OFFSET(hipattn_recall_t, struct_size, 0);
HIPATTN_EXPECT_OFFSET(hipattn_recall_t, mode, 4);
HIPATTN_EXPECT_OFFSET(hipattn_recall_t, estimate, 8);
HIPATTN_EXPECT_OFFSET(hipattn_recall_t, truth, 12);
HIPATTN_EXPECT_OFFSET(hipattn_recall_t, audited_loss, 16);

static_assert(sizeof(hipattn_stats_t) == 200);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, struct_size, 0);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, scanned_heads, 4);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, device_bytes, 8);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, device_bytes_peak, 16);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, device_index_bytes, 24);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, host_bytes, 32);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, disk_bytes, 40);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, blocks_attended, 48);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, blocks_hit, 56);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, blocks_fetched, 64);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, blocks_prefetched, 72);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, blocks_prefetched_used, 80);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, blocks_evicted, 88);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, bytes_host_to_device, 96);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, bytes_device_to_host, 104);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, bytes_disk_read, 112);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, bytes_disk_written, 120);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, search_keys_read, 128);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, search_ns, 136);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, fetch_wait_ns, 144);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, attend_ns, 152);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, recall_estimate, 160);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, search_bytes_read, 168);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, prefill_tiles, 176);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, prefill_dense_tiles, 184);
HIPATTN_EXPECT_OFFSET(hipattn_stats_t, prefill_recall, 192);

static_assert(sizeof(hipattn_status_t) == 4);
static_assert(HIPATTN_NONE == UINT32_MAX);

// Constants are part of what programs were compiled with.
TEST(Abi, ConstantsKeepTheirValues) {
  const int statuses[] = {HIPATTN_OK,
                          HIPATTN_INVALID_ARGUMENT,
                          HIPATTN_OUT_OF_BUDGET,
                          HIPATTN_OUT_OF_MEMORY,
                          HIPATTN_UNSUPPORTED,
                          HIPATTN_DEVICE_ERROR,
                          HIPATTN_IO_ERROR,
                          HIPATTN_CORRUPT,
                          HIPATTN_MISMATCH,
                          HIPATTN_UNAVAILABLE,
                          HIPATTN_DEADLINE,
                          HIPATTN_CANCELLED,
                          HIPATTN_INTERNAL};
  const int devices[] = {HIPATTN_DEVICE_AUTO, HIPATTN_DEVICE_CPU, HIPATTN_DEVICE_CUDA};
  const int dtypes[] = {HIPATTN_DTYPE_DEFAULT,
                        HIPATTN_F32,
                        HIPATTN_F16,
                        HIPATTN_BF16,
                        HIPATTN_F8E4M3,
                        HIPATTN_INT8,
                        HIPATTN_INT4};
  const int decodes[] = {HIPATTN_DECODE_AUTO, HIPATTN_DECODE_DENSE, HIPATTN_DECODE_SPARSE};
  const int searches[] = {HIPATTN_SEARCH_DEFAULT,
                          HIPATTN_SEARCH_TREE,
                          HIPATTN_SEARCH_STAGED,
                          HIPATTN_SEARCH_FLAT,
                          HIPATTN_SEARCH_BEAM};
  const int scorers[] = {HIPATTN_SCORER_DEFAULT,
                         HIPATTN_SCORER_REPRESENTATIVE,
                         HIPATTN_SCORER_MEAN,
                         HIPATTN_SCORER_BOUNDS,
                         HIPATTN_SCORER_CUBOID_MEAN,
                         HIPATTN_SCORER_EXACT,
                         HIPATTN_SCORER_FIRST,
                         HIPATTN_SCORER_LAST};
  const int prefills[] = {HIPATTN_PREFILL_AUTO,
                          HIPATTN_PREFILL_DENSE,
                          HIPATTN_PREFILL_A_SHAPE,
                          HIPATTN_PREFILL_VERTICAL_SLASH,
                          HIPATTN_PREFILL_BLOCK_SPARSE,
                          HIPATTN_PREFILL_HIP,
                          HIPATTN_PREFILL_PATTERNS,
                          HIPATTN_PREFILL_FLEX,
                          HIPATTN_PREFILL_XATTENTION,
                          HIPATTN_PREFILL_FLASH_V2};
  const auto expect_counting = [](const auto& values) {
    int want = 0;
    for (const int value : values) {
      EXPECT_EQ(value, want++);
    }
  };
  expect_counting(statuses);
  expect_counting(devices);
  expect_counting(dtypes);
  expect_counting(decodes);
  expect_counting(searches);
  expect_counting(scorers);
  expect_counting(prefills);
}

TEST(Abi, InitialisersSetTheSizeAndNothingElse) {
  const hipattn_engine_options_t engine = HIPATTN_ENGINE_OPTIONS_INIT;
  const hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  const hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  const hipattn_attend_args_t attend = HIPATTN_ATTEND_ARGS_INIT;
  const hipattn_recall_t recall = HIPATTN_RECALL_INIT;
  const hipattn_stats_t stats = HIPATTN_STATS_INIT;
  const auto expect_empty = [](const auto& value) {
    EXPECT_EQ(value.struct_size, sizeof(value));
    const auto* words = reinterpret_cast<const uint32_t*>(&value);
    for (size_t i = 1; i < sizeof(value) / 4; ++i) {
      EXPECT_EQ(words[i], 0U) << i;
    }
  };
  expect_empty(engine);
  expect_empty(attention);
  expect_empty(need);
  expect_empty(recall);
  expect_empty(stats);
  EXPECT_EQ(attend.struct_size, sizeof(attend));  // has padding, which may hold anything
  EXPECT_EQ(attend.phase, 0U);
}

}  // namespace
