// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// The headers without any other, every initialiser in use.
#include <hipattn/hipattn.h>
#include <hipattn/hipattn.hpp>

uint32_t HeaderAlone();

uint32_t HeaderAlone() {
  hipattn_engine_options_t engine = HIPATTN_ENGINE_OPTIONS_INIT;
  hipattn_attention_options_t attention = HIPATTN_ATTENTION_OPTIONS_INIT;
  hipattn_memory_need_t need = HIPATTN_MEMORY_NEED_INIT;
  hipattn_attend_args_t attend = HIPATTN_ATTEND_ARGS_INIT;
  hipattn_recall_t recall = HIPATTN_RECALL_INIT;
  hipattn_stats_t stats = HIPATTN_STATS_INIT;
  return engine.struct_size + attention.struct_size + need.struct_size + attend.struct_size +
         recall.struct_size + stats.struct_size + HIPATTN_NONE;
}
