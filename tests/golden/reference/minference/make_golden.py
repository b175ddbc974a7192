# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Writes the golden cases of hipattn's MInference prefill: python make_golden.py [--seed N] [--out DIR] [--replace].

One folder per case, holding case.json and little-endian .npy files; the fields are described in SPEC.md, section 9.
The same seed gives the same bytes; another seed gives other numbers in the same kinds of cases.
"""
from __future__ import annotations

import argparse
import json
import math
import shutil
import zlib
from pathlib import Path

import numpy as np

import minference_reference as ref
from minference_reference import A_SHAPE, BLOCK_SPARSE, VERTICAL_SLASH

SIZE_LIMIT = 8_000_000
GAP = 1e-3          # relative distance between the last chosen and the first rejected score of an exact case
OFF = {"cost_ratio": 0.0}          # guard arguments that leave only the decode rule
TOLERANCE = {"out": {"fp32": {"atol": 1e-5, "rtol": 1e-5}, "bf16": {"atol": 2e-2, "rtol": 1e-2}},
             "lse": {"fp32": {"atol": 2e-5, "rtol": 1e-5}, "bf16": {"atol": 2e-2, "rtol": 1e-2}},
             "estimate": {"fp32": {"atol": 1e-6, "rtol": 2e-5}, "bf16": {"atol": 1e-6, "rtol": 1e-3}},
             "pooled": {"fp32": {"atol": 1e-5, "rtol": 1e-6}, "bf16": {"atol": 1e-5, "rtol": 1e-6}},
             "score": {"fp32": {"atol": 1e-4, "rtol": 1e-4}, "bf16": {"atol": 2e-2, "rtol": 2e-2}}}


class Writer:
    def __init__(self, out: Path):
        self.out, self.names = out, []

    def array(self, folder: str, name: str, value: np.ndarray) -> None:
        value = np.ascontiguousarray(value)
        kind = {"f": "<f4", "i": "<i4"}[value.dtype.kind]
        (self.out / folder).mkdir(parents=True, exist_ok=True)
        np.save(self.out / folder / f"{name}.npy", value.astype(kind))

    def case(self, name: str, op: str, params: dict, inputs: dict, files: dict, expected: dict,
             tolerance: dict) -> None:
        """inputs / files: arrays to store, or a path to a file already stored; raw bytes are kept as they are."""
        assert name not in self.names, name
        self.names.append(name)
        (self.out / name).mkdir(parents=True)
        paths: dict[str, dict[str, str]] = {"inputs": {}, "expected_files": {}}
        for group, items in (("inputs", inputs), ("expected_files", files)):
            for key, value in items.items():
                if isinstance(value, bytes):
                    (self.out / name / f"{key}.json").write_bytes(value)
                elif not isinstance(value, str):
                    self.array(name, key, value)
                suffix = "json" if isinstance(value, bytes) else "npy"
                paths[group][key] = value if isinstance(value, str) else f"{key}.{suffix}"
        document = {"name": name, "op": op, "params": params, **paths, "expected": expected,
                    "tolerance": {key: TOLERANCE[kind] for key, kind in tolerance.items()}}
        (self.out / name / "case.json").write_text(json.dumps(document, indent=1) + "\n")


# ---------------------------------------------------------------- inputs
class Inputs:
    """q (H, q_len, d), k, v (H_kv, kv_len, d): small integers (v: eighths), all exact in bf16 and fp16.

    Planted in k and q: a few heavy columns and a family of diagonals one period apart. Stored once, in a folder of
    its own, and used by many cases. The longest inputs use k as v, to save room.
    """
    def __init__(self, writer: Writer, rng, q_heads: int, kv_heads: int, q_len: int, kv_len: int, d: int):
        q = rng.integers(-1, 2, (q_heads, q_len, d))
        k = rng.integers(-1, 2, (kv_heads, kv_len, d))
        q[:, :, 16:24] = 2
        k[:, :, 16:24] = 0
        for g in range(kv_heads):
            period = int(rng.integers(kv_len // 8 + 23, kv_len // 3 + 50))
            code = rng.choice([-1, 1], (period, 16))
            k[g, :, :16] = code[(np.arange(kv_len) + int(rng.integers(period))) % period]
            q[g * q_heads // kv_heads:(g + 1) * q_heads // kv_heads, :, :16] = \
                2 * code[(kv_len - q_len + np.arange(q_len)) % period]
            heavy = rng.choice(kv_len, max(1, kv_len // 50), replace=False)
            k[g, heavy, 16:24] = rng.integers(1, 3, (len(heavy), 1))
        self.q, self.k = q.astype(np.float32), k.astype(np.float32)
        self.v = self.k if kv_len > 4000 else (rng.integers(-16, 17, k.shape) / 8).astype(np.float32)
        self.q_len, self.kv_len, self.d, self.heads = q_len, kv_len, d, q_heads
        self.name = (f"t{q_len}" if q_len == kv_len else f"chunk_q{q_len}_kv{kv_len}") + f"_h{q_heads}of{kv_heads}_d{d}"
        self.stored = {"q": "q", "k": "k", "v": "k" if self.v is self.k else "v"}
        for key in set(self.stored.values()):
            writer.array(f"inputs_{self.name}", key, getattr(self, key))

    def pick(self, names: str) -> dict:
        """Paths of the stored arrays, as seen from a case folder."""
        return {key: f"../inputs_{self.name}/{self.stored[key]}.npy" for key in names}

    def head(self, h: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        g = h * len(self.k) // len(self.q)
        return self.q[h], self.k[g], self.v[g]


def gap(scores: np.ndarray, count: int, forced: int) -> float:
    """Relative distance between the last chosen and the first rejected score; inf where nothing can flip."""
    scores = np.array(scores, np.float64)
    scores[:forced] = np.inf
    order = np.sort(scores)[::-1]
    if count >= len(order) or np.isinf(order[count - 1]):
        return math.inf
    return float((order[count - 1] - order[count]) / order[count - 1])


def safe_budget(inputs: Inputs, h: int, k_v: int, k_s: int, last_q: int = ref.LAST_Q) -> tuple[str, int, int]:
    """The first budgets from (k_v, k_s) on whose selection survives any fp32 summation order."""
    q, k, _ = inputs.head(h)
    vertical, slash = ref.estimate_vertical_slash(q, k, last_q=last_q)
    k_v, k_s = max(k_v, ref.MIN_VERTICALS), max(k_s, ref.MIN_SLASHES)
    while gap(vertical, k_v, ref.FORCED_SINKS) < GAP:
        k_v += 1
    while gap(slash, k_s, ref.FORCED_DIAGONALS) < GAP:
        k_s += 1
    return VERTICAL_SLASH, k_v, k_s


def pack(lists) -> tuple[np.ndarray, np.ndarray]:
    """Lists of integer arrays -> (all items in a row, int32 pointers of length n + 1)."""
    lists = [np.asarray(x, np.int32) for x in lists]
    return np.concatenate(lists), np.cumsum([0] + [len(x) for x in lists]).astype(np.int32)


def lines(*numbers) -> np.ndarray:
    return np.array(numbers, np.int32)


# ---------------------------------------------------------------- cases
def convert_case(writer: Writer, name: str, verticals, slashes, q_len: int, kv_len: int) -> None:
    index = ref.convert_vertical_slash(verticals, slashes, q_len, kv_len)
    files = {"verticals_clean": index.verticals}
    tiles = [ref.tile_starts(slashes, m, q_len, kv_len) for m in range(ref.block_count(q_len))]
    for key, items in (("range", index.ranges), ("column", index.columns), ("tile_start", tiles)):
        files[f"{key}s"], files[f"{key}_ptr"] = pack(items)
    files["intervals"] = np.concatenate(index.intervals)
    computed = ref.count_tiles(index.ranges, index.columns)
    writer.case(name, "convert_vs", {"q_len": q_len, "kv_len": kv_len},
                {"verticals": np.asarray(verticals, np.int32), "slashes": np.asarray(slashes, np.int32)}, files,
                {"computed_tiles": computed, "causal_tiles": ref.causal_tiles(q_len, kv_len)}, {})


def convert_cases(writer: Writer, rng) -> None:
    def some(count: int, limit: int, *always: int) -> np.ndarray:
        return np.unique(np.append(rng.choice(limit, min(count, limit), replace=False), always)).astype(np.int32)
    empty = lines()
    convert_case(writer, "convert_brief_n130", [0, 1], [0], 130, 130)
    convert_case(writer, "convert_brief_n256", [0, 1, 70, 130, 200], [0, 1, 100], 256, 256)
    convert_case(writer, "convert_brief_n320", [0, 3, 64, 129, 300], [0, 63, 64, 65, 200], 320, 320)
    for n in (1, 63, 64, 65, 127, 1000, 4097):
        convert_case(writer, f"convert_t{n}", some(n // 8 + 1, n), some(n // 60 + 1, n, 0), n, n)
    convert_case(writer, "convert_clustered_t4097", some(200, 4097),
                 np.unique([c + np.arange(64) for c in rng.integers(0, 4000, 8)] + [np.arange(64)]), 4097, 4097)
    convert_case(writer, "convert_contiguous_t1000", some(90, 1000), np.arange(200), 1000, 1000)
    convert_case(writer, "convert_no_slash_zero_t1000", some(100, 1000), some(6, 900) + 70, 1000, 1000)
    convert_case(writer, "convert_no_slashes_t127", some(20, 127), empty, 127, 127)
    convert_case(writer, "convert_no_verticals_t127", empty, some(3, 127, 0), 127, 127)
    convert_case(writer, "convert_nothing_t65", empty, empty, 65, 65)
    convert_case(writer, "convert_dirty_t200", [7, 3, 7, -1, 199, 200, 10 ** 9, 3, 0],
                 [150, 0, 200, 0, -5, 64, 10 ** 9], 200, 200)
    convert_case(writer, "convert_all_slashes_t130", some(9, 130), np.arange(130), 130, 130)
    convert_case(writer, "convert_all_verticals_t130", np.arange(130), lines(0), 130, 130)
    convert_case(writer, "convert_all_verticals_no_slashes_t130", np.arange(130), empty, 130, 130)
    convert_case(writer, "convert_edges_t321", [0, 63, 64, 65, 127, 128, 192, 320],
                 [0, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 320], 321, 321)
    convert_case(writer, "convert_slash_equals_end_t400", [399, 64, 63], lines(0, 63, 64, 192, 256, 257), 400, 400)
    convert_case(writer, "convert_tail_tile_past_end_t65", lines(0, 40, 64), lines(0, 20), 65, 65)
    convert_case(writer, "convert_only_far_slash_t200", lines(5), lines(190), 200, 200)
    convert_case(writer, "convert_chunk_aligned_q128_kv320", some(30, 320), some(5, 320, 0), 128, 320)
    convert_case(writer, "convert_chunk_unaligned_q100_kv357", some(40, 357), some(6, 357, 0), 100, 357)
    convert_case(writer, "convert_chunk_no_slash_zero_q100_kv357", some(40, 357), some(4, 300) + 57, 100, 357)
    convert_case(writer, "convert_chunk_q1_kv1000", some(40, 1000), some(4, 1000, 0), 1, 1000)
    convert_case(writer, "convert_chunk_q65_kv4097", some(300, 4097), some(60, 4097, 0), 65, 4097)
    for name, q_len, kv_len in (("q_longer_than_kv", 5, 3), ("q_empty", 0, 3)):
        writer.case(f"convert_bad_{name}", "convert_vs", {"q_len": q_len, "kv_len": kv_len},
                    {"verticals": lines(0), "slashes": lines(0)}, {}, {"error": "invalid_argument"}, {})


def sampled(rng, out: np.ndarray) -> dict[str, np.ndarray]:
    """All rows of (H, q_len, d), or with their numbers some of them: 8192 values' worth, at least 24 rows."""
    heads, q_len, d = out.shape
    limit = max(24, 8192 // (heads * d))
    if q_len <= limit:
        return {"out": out}
    step = ref.BLOCK * -(-4 * ref.block_count(q_len) // limit)
    edges = [r for m in range(0, q_len, step) for r in (m - 1, m) if r >= 0] + [q_len - 1]
    rows = np.unique(np.append(edges, rng.choice(q_len, max(0, limit - len(edges)), replace=False))).astype(np.int32)
    return {"out": out[:, rows], "out_rows": rows}


def attend_cases(writer: Writer, rng, pool) -> None:
    def case(name: str, inputs: Inputs, index: list[tuple]) -> None:
        """index = (verticals, slashes) of each query head."""
        converted = [ref.convert_vertical_slash(v, s, inputs.q_len, inputs.kv_len) for v, s in index]
        pairs = [ref.attend(*inputs.head(h), ref.mask_from_index(x)) for h, x in enumerate(converted)]
        given = dict(zip(("verticals", "vertical_ptr", "slashes", "slash_ptr"),
                         pack([v for v, _ in index]) + pack([s for _, s in index])))
        writer.case(f"attend_vs_{name}_{inputs.name}", "attend_vs", {"scale": None}, {**inputs.pick("qkv"), **given},
                    {**sampled(rng, np.stack([p[0] for p in pairs])), "lse": np.stack([p[1] for p in pairs])},
                    {"computed_tiles": [ref.count_tiles(x.ranges, x.columns) for x in converted]},
                    {"out": "out", "lse": "lse"})

    def some(count: int, limit: int, *always: int) -> np.ndarray:
        return np.append(rng.choice(limit, min(count, limit), replace=False), always).astype(np.int32)
    for n in (1, 63, 64, 65):
        case("lines", pool(1, 1, n, n, 64), [(some(5, n), some(2, n, 0))])
    case("lines", pool(1, 1, 1000, 1000, 64), [(some(120, 1000), some(4, 1000, 0))])
    case("lines", pool(1, 1, 4097, 4097, 64), [(some(200, 4097), some(12, 4097, 0))])
    case("per_head", pool(4, 1, 127, 127, 128), [(some(7, 127), some(1, 127, 0)), (lines(), lines(0)),
                                                  (some(90, 127), lines()), (some(3, 127), some(2, 60) + 30)])
    case("empty_rows", pool(2, 2, 130, 130, 64), [(lines(), lines()), (lines(70), lines(100))])
    case("all_slashes", pool(2, 2, 130, 130, 64), [(lines(), np.arange(130)), (some(9, 130), np.arange(130))])
    case("all_verticals", pool(2, 2, 130, 130, 64), [(np.arange(130), lines()), (np.arange(130), lines(0))])
    case("lines", pool(1, 1, 100, 230, 128), [(some(40, 230), some(3, 230, 0))])
    case("lines", pool(4, 2, 128, 320, 64), [(some(40, 320), some(3, 320, 0)), (some(4, 320), some(3, 200) + 90),
                                              (some(99, 320), some(1, 320, 0)), (some(9, 320), some(9, 320, 0))])
    case("per_head", pool(8, 2, 70, 70, 64), [(some(h + 1, 70), some(1, 30, *[0] * (h % 2))) for h in range(8)])


def estimate_cases(writer: Writer, rng, pool) -> None:
    def case(name: str, inputs: Inputs, last_q: int = ref.LAST_Q, scale: float | None = None, zero: bool = False):
        arrays = [(q * (not zero), k) for q, k, _ in map(inputs.head, range(inputs.heads))]
        scores = [ref.estimate_vertical_slash(q, k, scale, last_q) for q, k in arrays]
        given = inputs.pick("qk") | ({"q": np.stack([q for q, _ in arrays])} if zero else {})
        writer.case(f"estimate_vs_{name}_{inputs.name}", "estimate_vs", {"last_q": last_q, "scale": scale}, given,
                    {"vertical": np.stack([s[0] for s in scores]), "slash": np.stack([s[1] for s in scores])}, {},
                    {"vertical": "estimate", "slash": "estimate"})
    for n in (1, 63, 64, 65, 1000, 4097):
        case("plain", pool(1, 1, n, n, 64))
    for shape in ((4, 1, 127, 127, 128), (8, 2, 70, 70, 64), (1, 1, 100, 230, 128), (1, 1, 40, 300, 64)):
        case("plain", pool(*shape))
    case("last_q_128", pool(4, 1, 260, 260, 64), last_q=128)
    case("uniform", pool(1, 1, 65, 65, 64), zero=True)
    case("large_logits", pool(1, 1, 65, 65, 64), scale=2.0)


def select_cases(writer: Writer, rng) -> None:
    def case(name: str, vertical, slash, k_v: int, k_s: int, ratio: float = 1.0) -> None:
        vertical, slash = np.asarray(vertical, np.float32), np.asarray(slash, np.float32)
        chosen = ref.select_vertical_slash(vertical, slash, k_v, k_s, ratio)
        writer.case(f"select_vs_{name}", "select_vs", {"k_v": k_v, "k_s": k_s, "ratio": ratio},
                    {"vertical": vertical, "slash": slash}, {"verticals": chosen[0], "slashes": chosen[1]}, {}, {})

    def levels(n: int, count: int) -> np.ndarray:
        return rng.integers(0, count, n) / 4
    case("all_equal_n1000", np.ones(1000), np.ones(1000), 100, 200)
    case("few_levels_n1000", levels(1000, 4), levels(1000, 3), 150, 260)
    case("many_levels_n4097", levels(4097, 500), levels(4097, 500), 1000, 600)
    case("random_n1000", rng.permutation(1000), rng.permutation(1000), 64, 333)
    case("zero_budgets_n500", levels(500, 9), levels(500, 9), 0, 0)
    case("slashes_below_forced_n500", levels(500, 9), levels(500, 9) + 50, 31, 60)
    case("budgets_at_forced_n500", levels(500, 9), levels(500, 9), 30, 100)
    case("budgets_above_n_n130", levels(130, 5), levels(130, 5), 1000, 6096)
    case("ratio_half_n600", levels(600, 30), levels(600, 30), 101, 301, 0.5)
    case("ratio_truncates_n600", rng.permutation(600), rng.permutation(600), 79, 213, 1.3)
    case("n1", [1.0], [1.0], 1000, 6096)
    case("n20", levels(20, 4), levels(20, 4), 5, 5)
    odd = levels(300, 6).astype(np.float64)
    odd[rng.choice(np.arange(100, 300), 40, replace=False)] = np.nan
    odd[250], odd[260] = np.inf, -0.0
    case("nan_and_inf_n300", odd, odd[::-1], 280, 290)


def block_cases(writer: Writer, rng, pool) -> None:
    def select(name: str, score, q_len: int, kv_len: int, k_b: int, compat: bool) -> None:
        score = np.asarray(score, np.float32)
        blocks, pointer = pack(ref.select_block_sparse(score, q_len, kv_len, k_b, compat))
        writer.case(f"select_bs_{name}", "select_bs", {"q_len": q_len, "kv_len": kv_len, "k_b": k_b, "compat": compat},
                    {"score": score}, {"blocks": blocks, "block_ptr": pointer}, {}, {})

    def grid(q_len: int, kv_len: int, levels: int) -> np.ndarray:
        return rng.integers(-levels, levels + 1, (ref.block_count(q_len), ref.block_count(kv_len))) / 16
    for shape in ((1, 1, 1, 1, 64), (1, 1, 63, 63, 64), (1, 1, 65, 65, 64), (1, 1, 1000, 1000, 64),
                  (1, 1, 4097, 4097, 64), (4, 1, 127, 127, 128), (1, 1, 100, 230, 128)):
        inputs = pool(*shape)
        scores = np.stack([ref.estimate_block_sparse(*inputs.head(h)[:2]) for h in range(inputs.heads)])
        writer.case(f"estimate_bs_{inputs.name}", "estimate_bs", {}, inputs.pick("qk"), {"score": scores}, {},
                    {"score": "pooled"})
    for compat in (False, True):
        tag = "compat" if compat else "forced"
        select(f"t4097_{tag}", grid(4097, 4097, 300), 4097, 4097, 9, compat)
        select(f"ties_t1000_{tag}", grid(1000, 1000, 1), 1000, 1000, 5, compat)
        select(f"all_equal_t1000_{tag}", np.zeros((16, 16)), 1000, 1000, 4, compat)
        select(f"one_block_t500_{tag}", grid(500, 500, 9), 500, 500, 1, compat)
        select(f"zero_blocks_t300_{tag}", grid(300, 300, 9), 300, 300, 0, compat)
        select(f"more_than_all_t300_{tag}", grid(300, 300, 9), 300, 300, 100, compat)
        select(f"chunk_unaligned_q100_kv357_{tag}", grid(100, 357, 20), 100, 357, 3, compat)
    select("t1_forced", [[1.0]], 1, 1, 100, False)


def prefill_cases(writer: Writer, rng, pool) -> None:
    def case(name: str, inputs: Inputs, patterns: list[tuple], guard: dict = OFF, compat: bool = False,
             ratio: float = 1.0) -> None:
        out, lse, reasons, heads = ref.prefill(inputs.q, inputs.k, inputs.v, patterns, guard, compat=compat,
                                               ratio=ratio)
        files = {**sampled(rng, out), "lse": lse}
        for h, head in enumerate(heads):
            if head.blocks is not None:
                files[f"h{h}_blocks"], files[f"h{h}_block_ptr"] = pack(head.blocks)
            if head.verticals is not None:
                files[f"h{h}_verticals"], files[f"h{h}_slashes"] = head.verticals, head.slashes
        writer.case(f"prefill_{name}_{inputs.name}", "prefill",
                    {**settings, "patterns": patterns, "guard": guard, "compat": compat, "ratio": ratio},
                    inputs.pick("qkv"), files,
                    {"reasons": reasons, "computed_tiles": [head.tiles for head in heads],
                     "causal_tiles": ref.causal_tiles(inputs.q_len, inputs.kv_len)}, {"out": "out", "lse": "lse"})

    def a(n_init: int, n_local: int) -> tuple:
        return A_SHAPE, n_init, n_local

    def b(k_b: int) -> tuple:
        return BLOCK_SPARSE, k_b, 0
    settings = {"guard": OFF, "compat": False, "ratio": 1.0, "last_q": ref.LAST_Q, "scale": None}
    for n in (1, 63, 64, 65):
        inputs = pool(1, 1, n, n, 64)
        case("a_shape", inputs, [a(4, 20)])
        case("vs", inputs, [(VERTICAL_SLASH, 1000, 6096)])
        case("bs", inputs, [b(1)])
    case("a_shape", pool(4, 1, 127, 127, 128), [a(0, 1), a(1, 64), a(100, 20), a(128, 3968)])
    case("a_shape_empty_and_edges", pool(4, 1, 260, 260, 64), [a(0, 0), a(5, 0), a(64, 64), a(230, 60)])
    case("groups", pool(8, 2, 70, 70, 64), [a(h, 9 - h) if h % 3 else b(h) for h in range(8)])
    case("a_shape_meeting", pool(2, 2, 130, 130, 64), [a(65, 65), a(129, 1)])
    case("bs_budgets", pool(4, 1, 127, 127, 128), [b(0), b(1), b(2), b(100)])
    case("bs_compat_budgets", pool(4, 1, 260, 260, 64), [b(0), b(1), b(2), b(100)], compat=True)
    inputs = pool(4, 1, 127, 127, 128)
    case("vs_budgets", inputs, [safe_budget(inputs, 0, 30, 50), safe_budget(inputs, 1, 40, 60),
                                safe_budget(inputs, 2, 60, 105), (VERTICAL_SLASH, 1000, 6096)])
    for n, wide in ((1000, (100, 400)), (4097, (128, 900))):
        inputs = pool(1, 1, n, n, 64)
        case("a_shape", inputs, [a(*wide)])
        case("vs", inputs, [vs := safe_budget(inputs, 0, n // 16, 101 + n // 600)])
        assert ref.build_head(*inputs.head(0)[:2], vs).tiles < 0.95 * ref.causal_tiles(n, n)
        case("bs", inputs, [b(n // 320)])
        case("bs_compat", inputs, [b(n // 320)], compat=True)
    inputs = pool(1, 1, 1000, 1000, 64)
    _, k_v, k_s = safe_budget(inputs, 0, 50, 102)
    case("vs_ratio", inputs, [(VERTICAL_SLASH, 2 * k_v + 1, 2 * k_s)], ratio=0.5)
    for shape in ((4, 1, 260, 260, 64), (4, 1, 150, 420, 64), (4, 2, 128, 320, 64)):
        inputs = pool(*shape)
        last = inputs.heads - 1
        patterns = [a(10, 90), b(3), safe_budget(inputs, 2 % inputs.heads, 50, 102), safe_budget(inputs, last, 35, 101)]
        case("mixed", inputs, patterns[-inputs.heads:])
    for shape in ((1, 1, 100, 230, 128), (1, 1, 40, 300, 64)):
        inputs = pool(*shape)
        for name, pattern in (("a_shape", a(7, 70)), ("vs", safe_budget(inputs, 0, 31, 101)), ("bs", b(3))):
            case(name, inputs, [pattern])
    inputs = pool(4, 1, 260, 260, 64)
    patterns = [safe_budget(inputs, 0, 60, 130), a(1, 20), b(2), b(100)]
    for name, guard in (("density", {"cost_ratio": 1.0}), ("off", OFF),
                        ("short", {"dense_up_to": 260, "cost_ratio": 0.0}),
                        ("just_long_enough", {"dense_up_to": 259, "cost_ratio": 0.0}),
                        ("layer", {"layer": 1, "starting_layer": 2, "cost_ratio": 1.0})):
        case(f"guard_{name}", inputs, patterns, guard)
    wrong = (("heads_not_a_multiple", 3, 2, [a(1, 1)] * 3), ("pattern_count", 2, 1, [a(1, 1)]),
             ("negative_width", 1, 1, [a(1, -1)]), ("unknown_type", 1, 1, [("dense", 1, 1)]))
    for name, heads, kv_heads, patterns in wrong:
        q, k = np.zeros((heads, 5, 64), np.float32), np.zeros((kv_heads, 5, 64), np.float32)
        try:
            ref.prefill(q, k, k, patterns, OFF)
            raise AssertionError(name)
        except ValueError:
            writer.case(f"prefill_bad_{name}", "prefill", {**settings, "patterns": patterns}, {"q": q, "k": k, "v": k},
                        {}, {"error": "invalid_argument"}, {})


def fallback_cases(writer: Writer, rng) -> None:
    rows = []
    for _ in range(60):
        kv_len = int(rng.choice([1, 64, 65, 127, 1000, 4097, int(rng.integers(1, 5000))]))
        q_len = int(rng.choice([1, kv_len, int(rng.integers(1, kv_len + 1))]))
        full = ref.causal_tiles(q_len, kv_len)
        guard = {"layer": int(rng.integers(0, 4)), "starting_layer": int(rng.choice([-1, -1, -1, 0, 2])),
                 "dense_up_to": int(rng.choice([0, 0, kv_len - 1, kv_len, 4096])),
                 "cost_ratio": float(rng.choice([0.0, 0.5, 1.0, 1.0, 1.25, 2.0]))}
        computed = int(rng.choice([0, full, full - 1, full + 1, full // 2, (full + 1) // 2, rng.integers(0, full + 1)]))
        rows.append({"q_len": q_len, "kv_len": kv_len, "computed_tiles": computed, **guard, "causal_tiles": full,
                     "density": ref.density(computed, q_len, kv_len),
                     "reason": ref.dense_reason(q_len, kv_len, computed, **guard)})
    writer.case("fallback_rules", "fallback", {}, {}, {}, {"rows": rows}, {})


def search_cases(writer: Writer, rng, pool) -> None:
    def jitter(low: int, high: int) -> int:
        return int(rng.integers(low, high))
    for shape in ((1, 1, 1000, 1000, 64), (4, 1, 150, 420, 64)):
        inputs, apart = pool(*shape), 0.0
        while apart < 2 * TOLERANCE["score"]["fp32"]["atol"]:
            candidates = [(A_SHAPE, jitter(20, 60), jitter(80, 150)), (A_SHAPE, jitter(80, 120), jitter(250, 350)),
                          safe_budget(inputs, 0, 30, jitter(100, 103)),
                          safe_budget(inputs, 0, jitter(40, 80), jitter(103, 108)),
                          safe_budget(inputs, 0, jitter(120, 160), 101), (BLOCK_SPARSE, 4, 0)]
            scores = [ref.score_candidate(*inputs.head(0), c) for c in candidates]
            recalls, errors = sorted(s.recall for s in scores), sorted(s.error for s in scores)
            apart = min(np.diff(recalls).min(), np.diff(errors).min())
        costs = sorted(s.cost for s in scores)
        queries = [["error", costs[-1]], ["error", costs[2]], ["recall", costs[3]], ["error", 0],
                   ["cost", (recalls[2] + recalls[3]) / 2], ["cost", 2.0]]
        writer.case(f"search_{inputs.name}", "search",
                    {"head": 0, "candidates": candidates, "queries": queries, "first_row": 0, "scale": None},
                    inputs.pick("qkv"), {},
                    {"tiles": [s.tiles for s in scores], "cost": [s.cost for s in scores],
                     "recall": [s.recall for s in scores], "error": [s.error for s in scores],
                     "chosen": [ref.choose(scores, mode, bound) for mode, bound in queries]},
                    {"recall": "score", "error": "score"})
    inputs = pool(1, 1, 1000, 1000, 64)
    q, k, _ = inputs.head(0)
    rows = []
    for pattern in ((A_SHAPE, 100, 100), (A_SHAPE, 10, 600), (A_SHAPE, 10, 20), (BLOCK_SPARSE, 4, 0)):
        for blocks, tolerance in ((20, 0), (75, 0), (75, 6), (10 ** 6, 0), (0, 0)):
            target, slack = ref.kernel_flops(blocks, inputs.d), ref.kernel_flops(tolerance, inputs.d)
            rows.append({"pattern": pattern, "target": target, "tolerance": slack, "step": 50,
                         "result": ref.nudge(q, k, pattern, target, slack)})
    writer.case(f"nudge_{inputs.name}", "nudge", {"head": 0}, inputs.pick("qk"), {}, {"rows": rows}, {})
    recalls = [1.0005, 1.0, 0.9, 0.8999, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5999, 0.1, 0.0]
    budgets = [(int(a), int(b)) for a, b in rng.integers(30, 7000, (len(recalls), 2))]
    rows = [{"k_v": a, "k_s": b, "recall": r, "result": ref.refine_step(a, b, r)}
            for (a, b), r in zip(budgets, recalls)]
    writer.case("refine_bands", "refine", {}, {}, {}, {"rows": rows}, {})


def config_cases(writer: Writer, rng) -> None:
    rows: list[dict] = []

    def good(name: str, text: str, layers: int | None = None, heads: int | None = None, ask=()) -> None:
        parsed = ref.parse_config(text.encode(), layers, heads)
        found = [ref.lookup(parsed, *place) for place in ask]
        writer.case(f"config_{name}", "config_read", {"num_layers": layers, "num_heads": heads, "lookups": ask},
                    {"config": text.encode()}, {},
                    {"layers": [[[h, *layer[h]] for h in sorted(layer)] for layer in parsed], "lookups": found,
                     "patterns": [ref.pattern_of(e) for e in found]}, {})

    def bad(name: str, data: str | bytes, code: str, layers: int | None = None, heads: int | None = None) -> None:
        raw = data if isinstance(data, bytes) else data.encode()
        try:
            ref.parse_config(raw, layers, heads)
            raise AssertionError(name)
        except ref.ConfigError as problem:
            assert problem.args[0] == code, (name, problem)
        rows.append({"name": name, "hex": raw.hex()} if isinstance(data, bytes) else {"name": name, "text": data})
        rows[-1] |= {"num_layers": layers, "num_heads": heads, "error": code}

    def entry(kind: str = VERTICAL_SLASH) -> list:
        score = int(rng.integers(0, 10 ** 7)) if rng.integers(2) else float(rng.random())
        return [kind, int(rng.integers(0, 7000)), int(rng.integers(0, 20000)), score]
    ok = json.dumps(entry())
    full = [{str(h): entry() for h in range(4)} for _ in range(3)]
    good("full_one_line", json.dumps(full), 3, 4, [[0, 0, 0], [2, 3, 0], [1, 1, 2]])
    mixed = [{"11": entry(A_SHAPE), "2": entry(), "0": entry(BLOCK_SPARSE)}, {}, {"3": entry(BLOCK_SPARSE)}]
    good("sparse_indented", json.dumps(mixed, indent=4), 5, 12,
         [[0, 0, 0], [0, 1, 0], [0, 2, 0], [0, 3, 8], [1, 0, 0], [2, 3, 0], [3, 0, 0], [4, 11, 0]])
    good("empty_array", "[]", 2, 2, [[0, 0, 0], [1, 1, 0]])
    good("no_limits", f' [ {{"65535" :{ok}}}\n]\t', None, None, [[0, 65535, 0], [9, 0, 0]])
    good("scores", '[{"0":["stream_llm",0,0,0],"1":["stream_llm",1,1,1.0005],"2":["stream_llm",2,2,14994473],'
         '"3":["stream_llm",3,3,1e-3],"4":["stream_llm",4,16777216,-1]}]', 1, 5, [[0, 4, 0]])
    good("escaped_key", '[{"\\u0031":' + ok + '}]', 1, 2, [[0, 1, 0], [0, 0, 0]])
    vs = '["vertical_and_slash",%s,%s,%s]'
    bad("empty_file", "", "syntax")
    bad("truncated", json.dumps(full)[:-20], "syntax")
    bad("trailing_comma", '[{"0":%s,}]' % ok, "syntax")
    bad("trailing_text", "[] x", "syntax")
    bad("nan_score", '[{"0":%s}]' % (vs % (1, 2, "NaN")), "syntax")
    bad("infinity_score", '[{"0":%s}]' % (vs % (1, 2, "-Infinity")), "syntax")
    bad("comment", '[] // none', "syntax")
    bad("single_quotes", "[{'0':%s}]" % ok, "syntax")
    bad("not_utf8", b'[{"0":["vertical_and_slash\xff",1,2,3]}]', "syntax")
    bad("byte_order_mark", b"\xef\xbb\xbf[]", "syntax")
    bad("deep_nesting", "[" * 20000, "syntax")
    bad("raw_newline_in_key", '[{"0\n":%s}]' % ok, "syntax")
    bad("top_object", '{"0":%s}' % ok, "not_array")
    bad("top_null", "null", "not_array")
    bad("layer_is_array", "[[%s]]" % ok, "layer_not_object")
    bad("layer_is_null", '[{"0":%s},null]' % ok, "layer_not_object")
    bad("too_many_layers", "[{},{},{}]", "too_many_layers", 2)
    for tag, key in (("word", "head"), ("negative", "-1"), ("plus", "+1"), ("leading_zero", "01"), ("space", " 1"),
                     ("empty", ""), ("fraction", "1.0"), ("huge", "99999999999999999999"), ("above_limit", "65536"),
                     ("other_digits", "\u0661")):
        bad(f"key_{tag}", '[{"%s":%s}]' % (key, ok), "bad_head_key")
    bad("head_out_of_range", '[{"4":%s}]' % ok, "head_out_of_range", 1, 4)
    bad("duplicate_head", '[{"1":%s,"1":%s}]' % (ok, ok), "duplicate_head")
    for tag, text in (("three_items", '["vertical_and_slash",1,2]'), ("five_items", '["vertical_and_slash",1,2,3,4]'),
                      ("object", '{"type":"vertical_and_slash"}'), ("string", '"vertical_and_slash"'),
                      ("null", "null")):
        bad(f"entry_{tag}", '[{"0":%s}]' % text, "entry_shape")
    for tag, text in (("unknown", '["vertical-slash",1,2,3]'), ("case", '["Vertical_And_Slash",1,2,3]'),
                      ("number", "[1,1,2,3]"), ("null", "[null,1,2,3]")):
        bad(f"type_{tag}", '[{"0":%s}]' % text, "bad_type")
    for tag, one, two in (("negative", -1, 2), ("negative_second", 1, -2), ("fraction", 1.5, 2), ("float", "1000.0", 2),
                          ("exponent", 1, "1e3"), ("string", '"1000"', 2), ("bool", "true", 2), ("null", 1, "null")):
        bad(f"budget_{tag}", '[{"0":%s}]' % (vs % (one, two, 1)), "bad_budget")
    for tag, one, two in (("billion", 10 ** 9, 2), ("limit_plus_one", 1, 16777217), ("beyond_int64", 10 ** 25, 2)):
        bad(f"budget_{tag}", '[{"0":%s}]' % (vs % (one, two, 1)), "budget_too_large")
    for tag, text in (("string", '"0.9"'), ("null", "null"), ("bool", "false"), ("array", "[1]"),
                      ("overflow", "1e999")):
        bad(f"score_{tag}", '[{"0":%s}]' % (vs % (1, 2, text)), "bad_score")
    writer.case("config_malformed", "config_read", {}, {}, {}, {"rows": rows}, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "cases")
    parser.add_argument("--replace", action="store_true", help="empty the folder first")
    options = parser.parse_args()
    if options.out.exists() and any(options.out.iterdir()):
        if not options.replace or not (options.out / "index.json").exists():
            parser.error(f"{options.out} is not empty; use --replace on a folder written by this program")
        shutil.rmtree(options.out)
    writer, stored = Writer(options.out), {}

    def stream(name: str):
        return np.random.default_rng([options.seed, zlib.crc32(name.encode())])

    def pool(*shape: int) -> Inputs:
        if shape not in stored:
            stored[shape] = Inputs(writer, stream(f"inputs {shape}"), *shape)
        return stored[shape]
    for build in (convert_cases, select_cases, fallback_cases, config_cases):
        build(writer, stream(build.__name__))
    for build in (attend_cases, estimate_cases, block_cases, prefill_cases, search_cases):
        build(writer, stream(build.__name__), pool)
    (options.out / "index.json").write_text(json.dumps({"seed": options.seed, "cases": writer.names}, indent=1) + "\n")
    size = sum(f.stat().st_size for f in options.out.rglob("*") if f.is_file())
    print(f"{len(writer.names)} cases, {size / 1e6:.2f} MB in {options.out.name}")
    if size > SIZE_LIMIT:
        raise SystemExit("too large")


if __name__ == "__main__":
    main()
