#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Times torch's scaled_dot_product_attention on the CPU and prints one JSON object.

decode   one query token over T keys and values, batch 1. Forms:
           view     q heads of one kv head become query rows: q [1, kv, group, d], the best form
           natural  q [1, heads, 1, d] with enable_gqa=True, the call a model makes
prefill  causal attention of T tokens over themselves. Forms:
           view     K and V repeated to the q heads beforehand (repeating is not timed)
           natural  enable_gqa=True

Bytes are those of the unique K and V; FLOPs are 4 * d * q_heads per (query, key) pair with
key <= query, so half of the square. Wall and CPU time (all threads) are recorded for every call.
Waiting threads spin by default, which is also torch's best setting on a quiet machine.
"""
import argparse
import json
import os
import sys
import time

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
PATTERN_TOKENS = 4096  # random rows; longer texts repeat them, since filling must not take minutes


def random_rows(heads, tokens, head_dim, dtype):
    """[1, heads, tokens, head_dim], contiguous."""
    pattern = torch.randn(1, heads, min(tokens, PATTERN_TOKENS), head_dim).to(dtype)
    rows = torch.empty(1, heads, tokens, head_dim, dtype=dtype)
    for begin in range(0, tokens, PATTERN_TOKENS):
        part = min(PATTERN_TOKENS, tokens - begin)
        rows[:, :, begin:begin + part] = pattern[:, :, :part]
    return rows


def decode_forms(options, tokens, dtype):
    k = random_rows(options.kv_heads, tokens, options.head_dim, dtype)
    v = random_rows(options.kv_heads, tokens, options.head_dim, dtype)
    q = torch.randn(1, options.q_heads, 1, options.head_dim).to(dtype)
    grouped = q.view(1, options.kv_heads, options.q_heads // options.kv_heads, options.head_dim)
    return {
        "view": lambda: attend(grouped, k, v),
        "natural": lambda: attend(q, k, v, enable_gqa=True),
    }


def prefill_forms(options, tokens, dtype):
    group = options.q_heads // options.kv_heads
    q = random_rows(options.q_heads, tokens, options.head_dim, dtype)
    k = random_rows(options.kv_heads, tokens, options.head_dim, dtype)
    v = random_rows(options.kv_heads, tokens, options.head_dim, dtype)
    wide_k, wide_v = (t.repeat_interleave(group, dim=1).contiguous() for t in (k, v))
    return {
        "view": lambda: attend(q, wide_k, wide_v, is_causal=True),
        "natural": lambda: attend(q, k, v, is_causal=True, enable_gqa=True),
    }


def measure(call, budget_seconds, max_calls):
    """Wall and CPU milliseconds of each call; the first, untimed call warms up."""
    if max_calls > 1:
        call()
    wall_ms, cpu_ms = [], []
    end = time.perf_counter() + budget_seconds
    while not wall_ms or (len(wall_ms) < max_calls and time.perf_counter() < end):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        wall_ms.append(1e3 * (time.perf_counter() - wall))
        cpu_ms.append(1e3 * (time.process_time() - cpu))
    return wall_ms, cpu_ms


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=("decode", "prefill"))
    parser.add_argument("--tokens", default="8192", help="text lengths, comma separated (8192)")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="f32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--q-heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--forms", default="view,natural")
    parser.add_argument("--budget", type=float, default=3, help="seconds per form and length (3)")
    parser.add_argument("--calls", type=int, default=20,
                        help="most timed calls per form and length; 1 skips the warm-up (20)")
    return parser.parse_args()


@torch.inference_mode()
def main():
    options = parse_arguments()
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    dtype = DTYPES[options.dtype]
    make_forms = decode_forms if options.phase == "decode" else prefill_forms
    results = []
    for tokens in (int(text) for text in options.tokens.split(",")):
        forms = make_forms(options, tokens, dtype)
        kv_bytes = 2 * options.kv_heads * tokens * options.head_dim * dtype.itemsize
        pairs = tokens if options.phase == "decode" else tokens * (tokens + 1) // 2
        for name in options.forms.split(","):
            wall_ms, cpu_ms = measure(forms[name], options.budget, options.calls)
            results.append({"kind": options.phase, "form": name, "tokens": tokens,
                            "kv_bytes": kv_bytes,
                            "flops": 4 * options.head_dim * options.q_heads * pairs,
                            "wall_ms": wall_ms, "cpu_ms": cpu_ms})
    json.dump({"program": "torch", "version": torch.__version__,
               "system": torch.backends.cpu.get_cpu_capability(),
               "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
               "threads": options.threads, "dtype": options.dtype, "q_heads": options.q_heads,
               "kv_heads": options.kv_heads, "head_dim": options.head_dim, "results": results},
              sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
