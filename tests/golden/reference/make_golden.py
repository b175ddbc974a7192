# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Write the HiP golden cases of hipattn: python make_golden.py [--seed N] [--out DIR] [--check].

DIR/<case>/case.json describes a case; SPEC.md explains the format. Seed 0 is the public set. Any other seed
draws new data and new sizes, sinks, windows and positions for the same kinds of cases (a held-out set).
--check reloads every case under DIR, runs the reference again from the files alone and compares.
"""
from __future__ import annotations

import argparse
import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

import hip_reference as R
import tree_reference as TR

FORMAT_VERSION = 1
MIN_MARGIN = 5e-3       # float search cases: smallest allowed score gap at any decision
SHARED_BYTES = 16384    # bigger arrays live in _data/ so that cases can share them
SHARED_DIR = "_data"
TOLERANCE = {"rtol": 1e-5, "atol": 2e-5, "lse_atol": 1e-4, "bf16_rtol": 2e-2, "bf16_atol": 2e-2, "bf16_lse_atol": 5e-2}

Params, Arrays = dict[str, Any], dict[str, np.ndarray]
Outcome = tuple[Arrays, dict[str, list], float]


# ------------------------------------------------------------------ running one case from parameters and arrays
def pad(rows: list[np.ndarray]) -> np.ndarray:
    """Ragged index lists -> int32 [rows, longest], filled with -1."""
    out = np.full((len(rows), max([len(r) for r in rows] + [1])), -1, np.int32)
    for i, row in enumerate(rows):
        out[i, :len(row)] = row
    return out


def rope_of(p: Params) -> R.Rope | None:
    if p.get("rope_layout", "none") == "none":
        return None
    return R.Rope(R.rope_inv_freq(p["rope_dim"], p["rope_base"]), p["rope_layout"], p["trained_len"], p["scan_mode"])


def stages_of(p: Params) -> list[R.Stage]:
    return [R.Stage(*row) for row in zip(p["stage_block_q"], p["stage_query_stride"], p["stage_chunk_tokens"],
                                         p["stage_keep_tokens"])]


def block_q_of(p: Params) -> int:
    return p["block_q"] if p["search"] == "beam" else p["stage_block_q"][0]


def leaf_of(p: Params) -> int:
    return p["leaf_tokens"] if p["search"] == "beam" else p["stage_chunk_tokens"][-1]


def search_group(p: Params, q: np.ndarray, k: np.ndarray, last_pos: int, first_stage: int = 0,
                 cached: R.SearchResult | None = None) -> R.SearchResult:
    """q [n, G, d] of one query block, k [T, d] of its kv head."""
    if p["search"] == "staged":
        return R.search_staged(q, k, last_pos, stages_of(p), p["sink_tokens"], p["window_tokens"], rope=rope_of(p),
                               first_stage=first_stage, cached=cached)
    if first_stage > 0:
        return cached
    R.validate_beam(p["block_q"], p["query_stride"], p["block_tokens"], p["budget_tokens"], p["leaf_tokens"],
                    p["key_stride"], p["window_tokens"], p["sink_tokens"])
    rows = R.sample_from_end(q.shape[0], p["query_stride"])
    row_pos = np.repeat(last_pos - q.shape[0] + 1 + rows, q.shape[1])
    return R.search_beam(q[rows].reshape(-1, q.shape[2]), k, last_pos, p["block_tokens"], p["budget_tokens"],
                         p["sink_tokens"], p["window_tokens"], p["representative"], p["leaf_tokens"], p["key_stride"],
                         rope_of(p), row_pos)


def search_heads(p: Params, q: np.ndarray, k: np.ndarray, last_pos: int, first_stage: int = 0,
                 cached: list[R.SearchResult] | None = None) -> list[R.SearchResult]:
    group = q.shape[1] // k.shape[1]
    return [search_group(p, q[:, g * group:(g + 1) * group], k[:, g], last_pos, first_stage, cached and cached[g])
            for g in range(k.shape[1])]


def run_partition(p: Params, a: Arrays) -> Outcome:
    rows = [R.split_partition(*(int(x) for x in r[:4]), None if r[4] < 0 else int(r[4])) for r in a["queries"]]
    return {"bounds": np.array(rows, np.int32)}, {}, np.inf


def run_query_blocks(p: Params, a: Arrays) -> Outcome:
    return {"rows": np.array(R.query_blocks(p["first_pos"], p["n_queries"], p["block_q"]), np.int32)}, {}, np.inf


def run_attend(p: Params, a: Arrays) -> Outcome:
    out, lse = R.attend(a["q"], a["k"], a["v"], a["token_mask"] != 0, p["scale"], p["softcap"])
    return {"out": out, "lse": lse}, {}, np.inf


def run_attend_leaves(p: Params, a: Arrays) -> Outcome:
    leaves = [row[row >= 0] for row in a["indices"]]
    anchor = None if p["anchor_pos"] < 0 else p["anchor_pos"]
    out, lse, parts = R.sparse_attention(a["q"], a["k"], a["v"], p["first_pos"], leaves, p["leaf_tokens"], p["sink_tokens"],
                                         p["window_tokens"], p["scale"], rope_of(p), anchor)
    result = {"out": out, "lse": lse}
    for name, (part_out, part_lse) in zip(("sink", "selected", "window"), parts):
        result[f"out_{name}"], result[f"lse_{name}"] = part_out, part_lse
    return result, {}, np.inf


def run_merge(p: Params, a: Arrays) -> Outcome:
    out, lse = R.merge(a["o_a"], a["lse_a"], a["o_b"], a["lse_b"])
    return {"out": out, "lse": lse}, {}, np.inf


def run_rope(p: Params, a: Arrays) -> Outcome:
    freq = R.rope_inv_freq(p["rope_dim"], p["rope_base"])
    return {"out": R.apply_rope(a["x"], a["positions"][:, None], freq, p["rope_layout"])}, {}, np.inf


def run_scan_positions(p: Params, a: Arrays) -> Outcome:
    names = ("left", "right", "query")
    got = R.scan_positions(p["mode"], p["n_candidates"], a["row_pos"], p["scan_window"], p["trained_len"])
    return {n: x.astype(np.int32) for n, x in zip(names, got)}, {}, np.inf


def run_attend_positions(p: Params, a: Arrays) -> Outcome:
    got = R.attend_positions(p["sink_tokens"], p["n_selected"], p["window_begin"])
    return {"positions": got.astype(np.int32)}, {}, np.inf


def run_search(p: Params, a: Arrays) -> Outcome:
    found = search_heads(p, a["q"], a["k"], p["last_pos"])
    result = {"indices": pad([f.indices for f in found]), "counts": np.array([len(f.indices) for f in found], np.int32)}
    for s in range(len(found[0].kept)):
        result[f"candidates_{s}"] = pad([f.candidates[s] for f in found])
        result[f"kept_{s}"] = pad([f.kept[s] for f in found])
    values = {"probes": [f.probes for f in found]}
    if p["search"] == "beam":
        values["levels"] = [f.levels for f in found]
    return result, values, min(f.margin for f in found)


def run_hip_attention(p: Params, a: Arrays) -> Outcome:
    out, lse, found = R.hip_attention(a["q"], a["k"], a["v"], p["first_pos"], block_q_of(p),
                                      lambda q, k, last: search_group(p, q, k, last), leaf_of(p), p["sink_tokens"],
                                      p["window_tokens"], p["scale"], rope_of(p))
    n_kv = a["k"].shape[1]
    indices = pad([f.indices for block in found for f in block])
    counts = np.array([len(f.indices) for block in found for f in block], np.int32)
    return {"out": out, "lse": lse, "indices": indices.reshape(len(found), n_kv, -1),
            "counts": counts.reshape(len(found), n_kv)}, {}, min(f.margin for block in found for f in block)


def run_decode(p: Params, a: Arrays) -> Outcome:
    """Step s: the cache holds keys 0 .. first_pos + s, the query sits at first_pos + s."""
    R.validate_intervals(p["intervals"])
    cached, outs, lses, rows, first_stages, begins, margin = None, [], [], [], [], [], np.inf
    for step in range(a["q"].shape[0]):
        pos = p["first_pos"] + step
        q, k, v = a["q"][step:step + 1], a["k"][:pos + 1], a["v"][:pos + 1]
        first_stage = R.refresh_schedule(p["intervals"], step)
        cached = search_heads(p, q, k, pos, first_stage, cached)
        anchor = cached[0].anchor_pos
        out, lse, _ = R.sparse_attention(q, k, v, pos, [f.indices for f in cached], leaf_of(p), p["sink_tokens"],
                                         p["window_tokens"], p["scale"], rope_of(p), anchor)
        outs.append(out), lses.append(lse), first_stages.append(first_stage)
        rows += [f.indices for f in cached]
        margin = min([margin] + [f.margin for f in cached])
        begins.append(R.split_partition(pos, pos + 1, p["sink_tokens"], p["window_tokens"], anchor).window_begin)
    shape = (len(outs), a["k"].shape[1])
    return {"out": np.concatenate(outs), "lse": np.concatenate(lses), "indices": pad(rows).reshape(*shape, -1),
            "counts": np.array([len(r) for r in rows], np.int32).reshape(shape),
            "first_stage": np.array(first_stages, np.int32), "window_begin": np.array(begins, np.int32)}, {}, margin


def run_refresh_schedule(p: Params, a: Arrays) -> Outcome:
    return {"first_stage": np.array([R.refresh_schedule(p["intervals"], s) for s in range(p["n_steps"])], np.int32)}, {}, np.inf


def run_probe_count(p: Params, a: Arrays) -> Outcome:
    if p["search"] == "staged":
        probes, distinct, longer = R.probe_count_staged(stages_of(p), p["lo"], p["hi"])
        return {}, {"probes": [probes], "distinct_keys_at_most": [distinct], "probes_with_extra_step": [longer]}, np.inf
    levels, probes = R.probe_count_beam(p["lo"], p["hi"], p["block_tokens"], p["budget_tokens"], p["leaf_tokens"], p["key_stride"])
    return {}, {"levels": [levels], "probes": [probes]}, np.inf


def tree_options(p: Params) -> dict[str, Any]:
    names = ("block_tokens", "budget_tokens", "sink_tokens", "window_tokens", "scorer", "beam", "block_q", "query_stride",
             "summary_form")
    return {n: p[n] for n in names}


def tree_heads(p: Params, q: np.ndarray, k: np.ndarray, last_pos: int) -> list[TR.TreeResult]:
    group = q.shape[1] // k.shape[1]
    return [TR.search_tree(q[:, g * group:(g + 1) * group], k[:, g], last_pos, **tree_options(p)) for g in range(k.shape[1])]


def tree_attend(p: Params, q: np.ndarray, k: np.ndarray, v: np.ndarray, first_pos: int, found: list[TR.TreeResult],
                anchor: int | None) -> tuple[np.ndarray, np.ndarray]:
    return R.sparse_attention(q, k, v, first_pos, [f.indices for f in found], p["block_tokens"], p["sink_tokens"],
                              p["window_tokens"], p["scale"], anchor_pos=anchor)[:2]


def run_tree_search(p: Params, a: Arrays) -> Outcome:
    found = tree_heads(p, a["q"], a["k"], p["last_pos"])
    result = {"indices": pad([f.indices for f in found]), "counts": np.array([len(f.indices) for f in found], np.int32)}
    for level in range(found[0].start_level + 1):
        result[f"candidates_{level}"] = pad([f.candidates[level] for f in found])
        result[f"kept_{level}"] = pad([f.kept[level] for f in found])
    return result, {"start_level": [f.start_level for f in found], "summaries_scored": [f.scored for f in found]}, \
        min(f.margin for f in found)


def run_tree_summaries(p: Params, a: Arrays) -> Outcome:
    """Vectors [Hkv, nodes, d] and int8 scales [Hkv, nodes] of every level that has a complete node."""
    heads = [TR.summarize(a["k"][:, g], p["block_tokens"]) for g in range(a["k"].shape[1])]
    result = {"nodes": np.array([len(level.mean) for level in heads[0]] or [0], np.int32)}
    for level in range(len(heads[0])):
        pairs = [TR.node_vectors(a["k"][:, g], tree[level], level, p["block_tokens"], p["scorer"]) for g, tree in enumerate(heads)]
        for name, x in zip("mw", ([pair[i] for pair in pairs] for i in (0, 1))):
            if x[0] is not None:
                result[f"{name}_{level}"] = np.stack(x)
                if p["int8"]:
                    steps, result[f"{name}_scale_{level}"] = TR.quantize(np.stack(x))
                    result[f"{name}_int8_{level}"] = steps.astype(np.float32)
    return result, {}, np.inf


def run_tree_attention(p: Params, a: Arrays) -> Outcome:
    q, k, v, outs, lses, found, shares = a["q"], a["k"], a["v"], [], [], [], []
    group = q.shape[1] // k.shape[1]
    for begin, end in R.query_blocks(p["first_pos"], q.shape[0], p["block_q"]):
        first_pos = p["first_pos"] + begin
        found.append(tree_heads(p, q[begin:end], k, p["first_pos"] + end - 1))
        out, lse = tree_attend(p, q[begin:end], k, v, first_pos, found[-1], None)
        for i in range(end - begin):
            lo, hi, _ = R.split_partition(first_pos + i, k.shape[0], p["sink_tokens"], p["window_tokens"])
            shares.append(np.concatenate([TR.estimate_recall(
                q[begin + i, g * group:(g + 1) * group], k[:first_pos + 1, g], f, lo, hi, lse[i, g * group:(g + 1) * group],
                p["block_tokens"], p["scale"], summary_form=p["summary_form"]) for g, f in enumerate(found[-1])]))
        outs.append(out), lses.append(lse)
    rows = [f.indices for block in found for f in block]
    shape = (len(found), k.shape[1])
    result = {"out": np.concatenate(outs), "lse": np.concatenate(lses), "indices": pad(rows).reshape(*shape, -1),
              "counts": np.array([len(r) for r in rows], np.int32).reshape(shape)}
    if p["scorer"] == "cuboid_mean":  # the estimate reads the vectors of this scorer (D36)
        result["recall"] = np.array(shares)
    return result, {}, min(f.margin for block in found for f in block)


def run_tree_decode(p: Params, a: Arrays) -> Outcome:
    """Step s: the cache holds keys 0 .. first_pos + s, the query sits at first_pos + s."""
    found, outs, lses, rows, fresh, begins, margin = [], [], [], [], [], [], np.inf
    for step in range(a["q"].shape[0]):
        pos = p["first_pos"] + step
        q, k, v = a["q"][step:step + 1], a["k"][:pos + 1], a["v"][:pos + 1]
        fresh.append(TR.tree_refreshes(p["interval"], p["layer"], step))
        if fresh[-1]:
            found = tree_heads(p, q, k, pos)
            margin = min([margin] + [f.margin for f in found])
        anchor = found[0].anchor_pos
        out, lse = tree_attend(p, q, k, v, pos, found, anchor)
        outs.append(out), lses.append(lse)
        rows += [f.indices for f in found]
        begins.append(R.split_partition(pos, pos + 1, p["sink_tokens"], p["window_tokens"], anchor).window_begin)
    shape = (len(outs), a["k"].shape[1])
    return {"out": np.concatenate(outs), "lse": np.concatenate(lses), "indices": pad(rows).reshape(*shape, -1),
            "counts": np.array([len(r) for r in rows], np.int32).reshape(shape), "refreshed": np.array(fresh, np.int32),
            "window_begin": np.array(begins, np.int32)}, {}, margin


def run_tree_refresh(p: Params, a: Arrays) -> Outcome:
    table = [[TR.tree_refreshes(p["interval"], layer, step) for step in range(p["n_steps"])] for layer in range(p["n_layers"])]
    return {"refreshed": np.array(table, np.int32)}, {}, np.inf


def run_tree_count(p: Params, a: Arrays) -> Outcome:
    top, scored = TR.tree_count(p["lo"], p["hi"], p["complete"], p["block_tokens"], p["budget_tokens"], p["beam"])
    return {}, {"start_level": [top], "summaries_at_most": [scored]}, np.inf


def run_validate(p: Params, a: Arrays) -> Outcome:
    try:
        if p["search"] == "tree":
            TR.validate_tree(p["block_q"], p["query_stride"], p["block_tokens"], p["budget_tokens"], p["beam"], p["sink_tokens"],
                             p["window_tokens"], p["scorer"], p["summary_form"],
                             extended=rope_of(p) is not None and p["max_pos"] >= p["trained_len"])
        elif p["search"] == "staged":
            R.validate_staged(stages_of(p), p["window_tokens"], p["sink_tokens"])
        else:
            R.validate_beam(p["block_q"], p["query_stride"], p["block_tokens"], p["budget_tokens"], p["leaf_tokens"],
                            p["key_stride"], p["window_tokens"], p["sink_tokens"])
        R.validate_intervals(p["intervals"])
        if rope_of(p) is not None and p["search"] != "tree":
            budget = p["budget_tokens"] if p["search"] == "beam" else p["stage_keep_tokens"][-1]
            scan_window = p["window_tokens"] if p["search"] == "beam" else max(0, p["window_tokens"] - p["stage_chunk_tokens"][0])
            R.validate_rope(rope_of(p), budget, p["sink_tokens"], p["window_tokens"], max(block_q_of(p), p["intervals"][0]),
                            scan_window, p["max_pos"])
    except ValueError:
        return {}, {"valid": [0]}, np.inf
    return {}, {"valid": [1]}, np.inf


RUN: dict[str, Callable[[Params, Arrays], Outcome]] = {
    "partition": run_partition, "query_blocks": run_query_blocks, "attend": run_attend, "attend_leaves": run_attend_leaves,
    "merge": run_merge, "rope": run_rope, "scan_positions": run_scan_positions, "attend_positions": run_attend_positions,
    "search": run_search, "hip_attention": run_hip_attention, "decode": run_decode,
    "refresh_schedule": run_refresh_schedule, "probe_count": run_probe_count, "validate": run_validate,
    "tree_search": run_tree_search, "tree_summaries": run_tree_summaries, "tree_attention": run_tree_attention,
    "tree_decode": run_tree_decode, "tree_refresh": run_tree_refresh, "tree_count": run_tree_count}


# ------------------------------------------------------------------ data
class Source:
    """Random data of one golden set. Keys are drawn once per (kind, T, Hkv, d), so cases can share the file."""

    def __init__(self, seed: int) -> None:
        self.seed, self.keys = seed, {}

    def rng(self, *tag: Any) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(repr(tag).encode())])

    def vary(self, value: int, low: int, high: int, *tag: Any) -> int:
        """The listed value in the public set, a random one in [low, high] elsewhere."""
        return value if self.seed == 0 else int(self.rng("vary", value, *tag).integers(low, high + 1))

    def ints(self, tag: Any, shape: tuple[int, ...], bound: int) -> np.ndarray:
        return self.rng(tag, shape).integers(-bound, bound + 1, size=shape).astype(np.float32)

    def floats(self, tag: Any, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng(tag, shape).standard_normal(shape).astype(np.float32)

    def key_ints(self, kind: str, t: int, n_kv: int, d: int) -> np.ndarray:
        """'walk' drifts slowly in -4..4; 'ties' repeats whole keys of -1, 0, 1; 'const' is one key everywhere."""
        if (kind, t, n_kv, d) not in self.keys:
            rng = self.rng(kind, t, n_kv, d)
            if kind == "walk":
                steps = rng.integers(-1, 2, size=(t, n_kv, d), dtype=np.int8) * (rng.random((t, n_kv, d), np.float32) < 0.2)
                x, out = rng.integers(-4, 5, size=(n_kv, d)), np.empty((t, n_kv, d), np.float32)
                for i in range(t):
                    x = np.clip(x + steps[i], -4, 4)
                    out[i] = x
            elif kind == "ties":
                runs = rng.integers(1, 40, size=t)
                rows = np.repeat(np.arange(t), runs)[:t]
                out = rng.integers(-1, 2, size=(t, n_kv, d)).astype(np.float32)[rows]
            else:
                out = np.broadcast_to(rng.integers(-2, 3, size=(1, n_kv, d)).astype(np.float32), (t, n_kv, d)).copy()
            self.keys[kind, t, n_kv, d] = out
        return self.keys[kind, t, n_kv, d]


def beam(block: int, budget: int, sink: int, window: int, leaf: int = 0, rep: str = "center", key_stride: int = 1,
         block_q: int = 1, query_stride: int = 1) -> Params:
    return {"search": "beam", "block_q": block_q, "query_stride": query_stride, "block_tokens": block,
            "budget_tokens": budget, "leaf_tokens": leaf or block, "key_stride": key_stride, "representative": rep,
            "sink_tokens": sink, "window_tokens": window}


def staged(chunks: list[int], keeps: list[int], sink: int, window: int, block_q: int = 1, strides: list[int] | None = None) -> Params:
    return {"search": "staged", "stage_block_q": [block_q] * len(chunks), "stage_query_stride": strides or [1] * len(chunks),
            "stage_chunk_tokens": chunks, "stage_keep_tokens": keeps, "sink_tokens": sink, "window_tokens": window}


def tree(block: int, budget: int, sink: int, window: int, scorer: str = "cuboid_mean", beam: int = 0, block_q: int = 1,
         query_stride: int = 1, form: str = "float32") -> Params:
    return {"search": "tree", "block_q": block_q, "query_stride": query_stride, "block_tokens": block, "budget_tokens": budget,
            "beam": beam, "scorer": scorer, "summary_form": form, "sink_tokens": sink, "window_tokens": window}


def rope(layout: str, dim: int, trained_len: int, mode: str, base: float = 10000.0) -> Params:
    return {"rope_layout": layout, "rope_dim": dim, "rope_base": base, "trained_len": trained_len, "scan_mode": mode}


Case = tuple[str, str, Params, Arrays, str]


# ------------------------------------------------------------------ the cases
def basic_cases(s: Source) -> Iterator[Case]:
    rng = s.rng("partition")
    rows = [[0, 1, 0, 1, -1], [0, 1, 4, 8, -1], [6, 7, 4, 8, -1], [11, 12, 4, 8, -1], [12, 13, 4, 8, -1], [63, 64, 16, 48, -1],
            [64, 65, 16, 48, -1], [999, 1000, 0, 1, -1], [999, 1000, 1000, 1, -1], [999, 1000, 4, 5000, -1], [500, 1000, 4, 64, -1],
            [1500, 1000, 4, 64, -1], [1015, 1016, 4, 64, 1000], [40, 41, 4, 64, 30], [4096, 4097, 256, 777, -1]]
    for _ in range(300):
        kv_len = int(rng.integers(1, 5000))
        p = int(rng.integers(0, kv_len + 20))
        anchor = -1 if rng.random() < 0.7 else max(0, p - int(rng.integers(0, 32)))
        rows.append([p, kv_len, int(rng.integers(0, 300)), int(rng.integers(1, 1500)), anchor])
    yield "partition_many", "partition", {}, {"queries": np.array(rows, np.int32)}, \
        "columns query_pos, kv_len, sink_tokens, window_tokens, anchor_pos (-1: none) -> sink_end, window_begin, end"
    for first, n, block in ((0, 130, 64), (100, 200, 64), (63, 1, 64), (64, 64, 64), (5, 7, 1)):
        first = s.vary(first, 0, 300, n, block)
        yield f"query_blocks_{first}_{n}_{block}", "query_blocks", {"first_pos": first, "n_queries": n, "block_q": block}, {}, ""
    for t, heads, n_kv, d, n in ((1, 1, 1, 64, 1), (7, 4, 1, 128, 7), (63, 16, 2, 64, 3), (64, 2, 2, 128, 4), (65, 8, 2, 64, 5),
                                 (1000, 8, 1, 128, 2), (4097, 4, 1, 64, 2), (16384, 8, 1, 64, 1)):
        small = t <= 65
        q = s.floats("q", (n, heads, d)) if small else s.ints("q", (n, heads, d), 2)
        k = s.floats("k", (t, n_kv, d)) if small else s.key_ints("walk", t, n_kv, d)
        v = s.floats("v", (t, n_kv, d)) if small else s.key_ints("ties", t, n_kv, d)
        mask = (s.rng("mask", t).random((n_kv, n, t)) < s.rng("density", t).uniform(0.05, 0.9)).astype(np.uint8)
        if n > 1:
            mask[0, 1] = 0
        mask[0, 0, 0] = 1
        yield f"attend_T{t}_g{heads // n_kv}_d{d}", "attend", {"scale": d ** -0.5 if small else 0.0625, "softcap": 0.0}, \
            {"q": q, "k": k, "v": v, "token_mask": mask}, "token_mask [Hkv, n, T]; row 1 of kv head 0 is empty when n > 1"
    mask = np.ones((1, 2, 65), np.uint8)
    yield "attend_softcap", "attend", {"scale": 1.0, "softcap": 5.0}, \
        {"q": s.floats("cq", (2, 4, 64)), "k": s.floats("ck", (65, 1, 64)), "v": s.floats("cv", (65, 1, 64)), "token_mask": mask}, ""


def merge_cases(s: Source) -> Iterator[Case]:
    n, heads, d = 3, 4, 64
    o_a, o_b = s.floats("o_a", (n, heads, d)), s.floats("o_b", (n, heads, d))
    lse_a, lse_b = s.floats("l_a", (n, heads)) * 4, s.floats("l_b", (n, heads)) * 4
    gone, junk = np.full((n, heads), -np.inf, np.float32), np.full((n, heads, d), np.nan, np.float32)
    some = np.where(s.rng("some").random((n, heads)) < 0.5, gone, lse_b)
    for name, arrays, note in (
            ("plain", (o_a, lse_a, o_b, lse_b), ""), ("a_empty", (junk, gone, o_b, lse_b), "o_a is NaN, lse_a -inf: result is side b"),
            ("b_empty", (o_a, lse_a, junk, gone), "o_b is NaN, lse_b -inf: result is side a"),
            ("both_empty", (junk, gone, junk, gone), "result is 0 and -inf"),
            ("some_rows_empty", (o_a, lse_a, np.where(np.isinf(some)[..., None], junk, o_b), some), ""),
            ("far_apart", (o_a, lse_a + 3e4, o_b, lse_b - 3e4), ""), ("equal", (o_a, lse_a, o_b, lse_a), "")):
        yield f"merge_{name}", "merge", {}, dict(zip(("o_a", "lse_a", "o_b", "lse_b"), (x.astype(np.float32) for x in arrays))), note


def leaf_cases(s: Source) -> Iterator[Case]:
    plan = (("dups", 65, 4, 2, 64, 3, 8, 4, 16), ("leaf2", 1000, 4, 1, 64, 2, 2, 16, 64), ("leaf16", 1000, 8, 1, 128, 2, 16, 13, 50),
            ("leaf64", 4097, 4, 1, 64, 1, 64, 100, 200), ("long", 16384, 8, 1, 64, 1, 8, 16, 256), ("short", 7, 1, 1, 64, 7, 8, 4, 8))
    for name, t, heads, n_kv, d, n, leaf, sink, window in plan:
        sink, window = s.vary(sink, 0, 2 * sink, name, "s"), s.vary(window, n, 2 * window, name, "w")
        idx = s.rng("idx", name).integers(0, R.ceil_div(t, leaf), size=(n_kv, 24)).astype(np.int32)
        idx[:, 12:15], idx[:, 20:] = idx[:, 0:3], -1
        yield f"attend_leaves_{name}", "attend_leaves", \
            {"first_pos": t - n, "leaf_tokens": leaf, "sink_tokens": sink, "window_tokens": window, "scale": 0.0625, "anchor_pos": -1}, \
            {"q": s.ints(("q", name), (n, heads, d), 2), "k": s.key_ints("walk", t, n_kv, d), "v": s.key_ints("ties", t, n_kv, d),
             "indices": idx}, "indices [Hkv, m]: unsorted, with repeats, -1 = unused"
    base = {"first_pos": 999, "leaf_tokens": 8, "sink_tokens": 4, "window_tokens": 32, "scale": 0.0625, "anchor_pos": 990}
    arrays = {"q": s.ints("qa", (1, 4, 64), 2), "k": s.key_ints("walk", 1000, 1, 64), "v": s.key_ints("ties", 1000, 1, 64),
              "indices": np.arange(0, 122, 5, dtype=np.int32)[None]}
    yield "attend_leaves_anchor", "attend_leaves", base, arrays, "frozen selection: the window still begins where it did at anchor_pos"
    yield "attend_leaves_empty_row", "attend_leaves", {**base, "first_pos": 5000, "sink_tokens": 0, "anchor_pos": -1}, \
        {**arrays, "indices": np.full((1, 1), -1, np.int32)}, "no visible key: out 0, lse -inf"
    for mode, trained in (("below", 1000), ("at", 999), ("above", 512)):
        yield f"attend_leaves_rope_{mode}_trained", "attend_leaves", \
            {**base, "anchor_pos": -1, "first_pos": 996, **rope("half", 64, trained, "streaming")}, \
            {**arrays, "q": s.ints("qr", (4, 4, 64), 2)}, "un-rotated q and k; positions by D21 and D24"


def rope_cases(s: Source) -> Iterator[Case]:
    for layout in ("half", "interleaved"):
        for d, dim, top in ((64, 64, 4096), (128, 128, 1 << 20), (128, 64, 60000)):
            pos = np.sort(s.rng("pos", layout, d, dim).integers(0, top, size=6)).astype(np.int32)
            yield f"rope_{layout}_d{d}_r{dim}", "rope", {"rope_layout": layout, "rope_dim": dim, "rope_base": 10000.0 if dim == d else 5e5}, \
                {"x": s.floats((layout, d, dim), (6, 2, d)), "positions": pos}, "x [n, heads, d], positions [n]"
    for mode, nc, window, trained in (("relative", 9, 768, 8192), ("streaming", 300, 768, 8192), ("streaming", 9000, 768, 8192)):
        nc = s.vary(nc, nc // 2, nc * 2, mode)
        rows = np.array([3, 500, 5000, 123456], np.int32)
        yield f"scan_positions_{mode}_{nc}", "scan_positions", \
            {"mode": mode, "n_candidates": nc, "scan_window": window, "trained_len": trained}, {"row_pos": rows}, ""
    for sink, n_sel, begin in ((16, 100, 5000), (0, 64, 64), (4, 0, 777), (16, 512, 400)):
        begin = s.vary(begin, begin, begin + 500, sink)
        yield f"attend_positions_{sink}_{n_sel}_{begin}", "attend_positions", \
            {"sink_tokens": sink, "n_selected": n_sel, "window_begin": begin}, {}, ""


def search_case(s: Source, name: str, p: Params, t: int, n: int, heads: int, n_kv: int, d: int, kind: str = "walk",
                note: str = "") -> Case:
    p = {**p, "last_pos": t - 1}
    return name, "search", p, {"q": s.ints(("q", name), (n, heads, d), 3), "k": s.key_ints(kind, t, n_kv, d)}, note


def poisoned_keys(s: Source, lo: int, hi: int) -> np.ndarray:
    """1000 keys; outside [lo, hi) they are huge, so a search that reads them there goes wrong."""
    k = s.key_ints("walk", 1000, 1, 64).copy()
    k[:lo], k[hi:] = 100, 100
    return k


def poison_cases(s: Source) -> Iterator[Case]:
    n, last, sink, window = 16, s.vary(700, 600, 900), 16, 64
    note = "sink keys, window keys and keys past the query must not be probed"
    for p in (beam(2, 128, sink, window, leaf=8, block_q=16, query_stride=2),
              staged([64, 16, 8], [512, 256, 128], sink, window, 16, [4, 4, 1])):
        arrays = {"q": s.ints(("poison", p["search"]), (n, 4, 64), 3), "k": poisoned_keys(s, sink, last - window + 1)}
        yield f"{p['search']}_poisoned_keys", "search", {**p, "last_pos": last}, arrays, note
        arrays = {**arrays, "k": poisoned_keys(s, 0, last + 1), "v": s.key_ints("ties", 1000, 1, 64)}
        yield f"sparse_{p['search']}_keys_past_query", "hip_attention", {**p, "first_pos": last - n + 1, "scale": 0.0625}, arrays, \
            "k holds more keys than the queries may see"


def beam_cases(s: Source) -> Iterator[Case]:
    sizes = [s.vary(1000, 900, 1300), s.vary(4097, 4000, 4500), 16384]
    for rep in ("center", "first", "last"):
        for block, t, heads, n_kv, d in ((2, sizes[0], 4, 1, 64), (8, sizes[1], 8, 1, 64), (64, sizes[2], 8, 1, 64)):
            sink, window = s.vary(16, 0, 40, rep, block, "s"), s.vary(64, 1, 100, rep, block, "w")
            budget = {2: 128, 8: 512, 64: 2048}[block]
            yield search_case(s, f"beam_b{block}_{rep}_T{t}", beam(block, budget, sink, window, rep=rep), t, 1, heads, n_kv, d)
    for leaf in (2, 8, 16, 64):
        for t, budget in ((sizes[0], 256), (sizes[2], 1024)):
            sink = s.vary(13, 0, 70, leaf, t)
            yield search_case(s, f"beam_page{leaf}_T{t}", beam(2, budget, sink, s.vary(50, 1, 90, leaf, t), leaf=leaf), t, 1, 4, 1, 64,
                              note="page leaves bigger than the probe block; sinks and window cut through pages")
    yield search_case(s, "beam_page64_block8_stride4", beam(8, 1024, 13, 50, leaf=64, key_stride=4), sizes[2], 1, 4, 1, 64)
    yield search_case(s, "beam_stride3_partial_group", beam(8, 128, 5, 33, key_stride=3), sizes[0], 1, 4, 2, 64,
                      note="key stride does not divide the block; the last leaf is cut by the window")
    for kind in ("ties", "const"):
        for rep in ("center", "last"):
            yield search_case(s, f"beam_{kind}_{rep}", beam(2, 96, 7, 40, rep=rep), sizes[0], 1, 4, 1, 64, kind, "ties: the lower start wins")
    yield search_case(s, "beam_prefill_block", beam(2, 256, 16, 64, leaf=8, block_q=64, query_stride=2), sizes[0], 64, 8, 2, 64)
    yield search_case(s, "beam_prefill_partial_block", beam(2, 128, 16, 64, block_q=64, query_stride=8), sizes[0], 21, 4, 1, 64,
                      note="21 rows: sampled rows are 20, 12, 4")
    yield search_case(s, "beam_gqa8_d128", beam(8, 512, 16, 128), sizes[1], 1, 8, 1, 128)
    yield search_case(s, "beam_odd_beam", beam(8, 8 * 37, 3, 21), sizes[1], 1, 1, 1, 64, note="beam is no power of two")
    for t, sink, window, budget in ((1, 4, 8, 8), (7, 0, 7, 8), (7, 0, 1, 8), (63, 4, 8, 64), (64, 16, 48, 8), (65, 16, 48, 8),
                                    (65, 0, 1, 64), (65, 64, 1, 8), (65, 0, 1, 8), (69, 5, 1, 64), (70, 5, 1, 64), (71, 5, 1, 64)):
        yield search_case(s, f"beam_edge_T{t}_s{sink}_w{window}_k{budget}", beam(8, budget, sink, window), t, 1, 4, 1, 64,
                          note="budget at or around the searchable range")


def staged_cases(s: Source) -> Iterator[Case]:
    sizes = [s.vary(1000, 900, 1300), s.vary(4097, 4000, 4500), 16384]
    small, keeps = [64, 16, 8], [512, 256, 128]
    for heads, n_kv in ((1, 1), (4, 1), (16, 2)):
        sink, window = s.vary(16, 0, 70, heads), s.vary(64, 64, 120, heads)
        yield search_case(s, f"staged_64_16_8_g{heads // n_kv}", staged(small, keeps, sink, window), sizes[0], 1, heads, n_kv, 64)
    yield search_case(s, "staged_T4097_d128", staged(small, [1024, 512, 256], 13, s.vary(77, 64, 120)), sizes[1], 1, 8, 1, 128,
                      note="sink and window cut through chunks")
    yield search_case(s, "staged_256_32_8_decode", staged([256, 32, 8], [8192, 4096, 1024], 256, 1024), sizes[2], 1, 8, 1, 64)
    yield search_case(s, "staged_256_32_8_prefill", staged([256, 32, 8], [4096, 2048, 512], 16, 256, 64, [4, 4, 1]), sizes[2], 64, 8, 1, 64)
    yield search_case(s, "staged_64_32_16", staged([64, 32, 16], [2048, 1024, 512], 64, 128), sizes[1], 1, 4, 1, 64)
    for kind in ("ties", "const"):
        yield search_case(s, f"staged_{kind}", staged(small, keeps, 7, 70), sizes[0], 1, 4, 1, 64, kind,
                          "walk ties go right, cut ties go to the lower start")
    yield search_case(s, "staged_prefill_block", staged(small, keeps, 16, 64, 64, [4, 4, 1]), sizes[0], 64, 8, 2, 64)
    yield search_case(s, "staged_prefill_partial_block", staged(small, keeps, 16, 64, 64, [8, 4, 1]), sizes[0], 21, 4, 1, 64)
    yield search_case(s, "staged_single_stage", staged([8], [128], 3, 30), sizes[0], 1, 4, 1, 64)
    yield search_case(s, "staged_equal_chunks", staged([16, 16], [512, 128], 3, 30), sizes[0], 1, 4, 1, 64)
    yield search_case(s, "staged_first_stage_keeps_all", staged(small, [1024, 512, 64], 16, 64), sizes[0], 1, 4, 1, 64,
                      note="no cut in stage 0, so it scores nothing")
    for t, sink, window, keep in ((1, 4, 16, 8), (7, 0, 16, 8), (64, 16, 48, 8), (65, 16, 48, 8), (63, 4, 16, 64), (100, 5, 16, 80),
                                  (101, 5, 16, 80), (102, 5, 16, 80)):
        yield search_case(s, f"staged_edge_T{t}_s{sink}_w{window}_k{keep}", staged([16, 8], [R.ceil_div(keep, 16) * 16, keep], sink, window),
                          t, 1, 4, 1, 64, note="budget at or around the searchable range")


def rope_search_cases(s: Source) -> Iterator[Case]:
    """Float scores: data are redrawn until every decision has a margin far above float32 error."""
    for search in ("beam", "staged"):
        for mode, trained, layout in (("relative", 700, "half"), ("streaming", 700, "interleaved"), ("streaming", 4096, "half")):
            p = beam(2, 128, 16, 64, leaf=8) if search == "beam" else staged([64, 16, 8], [512, 256, 128], 16, 96)
            kind = mode if trained < 1000 else "true"
            for attempt in range(100):
                q = s.ints(("rq", search, mode, trained, attempt), (1, 4, 64), 3)
                k = s.ints(("rk", search, mode, trained), (1000, 1, 64), 4)
                case = (f"{search}_rope_{kind}", "search", {**p, **rope(layout, 64, trained, mode), "last_pos": 999, "kv_len": 1000},
                        {"q": q, "k": k}, "un-rotated q and k; the search rotates them by D21-D23")
                if run_search(case[2], case[3])[2] >= MIN_MARGIN:
                    break
            else:
                raise RuntimeError("no draw has a wide enough margin")
            yield case


def attention_cases(s: Source) -> Iterator[Case]:
    for t, heads, n_kv, d, n in ((1, 1, 1, 64, 1), (7, 4, 1, 128, 7), (63, 8, 1, 64, 63), (64, 4, 4, 64, 64), (65, 8, 2, 64, 65),
                                 (1000, 4, 1, 64, 20), (4097, 8, 1, 64, 1)):
        small = t <= 65
        q = s.floats(("dq", t), (n, heads, d)) if small else s.ints(("dq", t), (n, heads, d), 2)
        k = s.floats(("dk", t), (t, n_kv, d)) if small else s.key_ints("walk", t, n_kv, d)
        v = s.floats(("dv", t), (t, n_kv, d)) if small else s.key_ints("ties", t, n_kv, d)
        need = R.ceil_div(t, 64) * 64
        for p in (beam(2, need, 4, 16, leaf=8, block_q=16), staged([16, 8], [need, need], 4, 16, 16, [4, 1])):
            yield f"dense_{p['search']}_T{t}", "hip_attention", {**p, "first_pos": t - n, "scale": d ** -0.5 if small else 0.0625}, \
                {"q": q, "k": k, "v": v}, "the budget covers everything: equals dense causal attention"
    for name, p, t, n, heads, n_kv, d in (
            ("beam_decode", beam(2, 1024, 16, 128, leaf=8), 16384, 1, 8, 1, 64), ("beam_page16", beam(8, 256, 13, 50, leaf=16), 1000, 1, 8, 1, 128),
            ("staged_decode", staged([256, 32, 8], [8192, 4096, 1024], 256, 1024), 16384, 1, 8, 1, 64),
            ("staged_prefill", staged([64, 16, 8], [256, 128, 64], 16, 64, 16, [4, 4, 1]), 1000, 40, 4, 1, 64),
            ("beam_prefill", beam(2, 64, 16, 32, block_q=16, query_stride=2), 1000, 40, 4, 1, 64),
            ("window_only_shorter_than_window", staged([64, 8], [64, 64], 16, 64), 65, 1, 8, 2, 64)):
        yield f"sparse_{name}", "hip_attention", {**p, "first_pos": t - n, "scale": 0.0625}, \
            {"q": s.ints(("sq", name), (n, heads, d), 2), "k": s.key_ints("walk", t, n_kv, d), "v": s.key_ints("ties", t, n_kv, d)}, ""
    for mode, layout in (("relative", "half"), ("streaming", "interleaved")):
        for attempt in range(100):
            p = {**staged([64, 16, 8], [512, 256, 128], 16, 96), **rope(layout, 64, 700, mode), "first_pos": 999, "scale": 0.0625}
            arrays = {"q": s.ints(("xq", mode, attempt), (1, 4, 64), 2), "k": s.ints(("xk", mode), (1000, 1, 64), 4),
                      "v": s.key_ints("ties", 1000, 1, 64)}
            if run_hip_attention(p, arrays)[2] >= MIN_MARGIN:
                break
        else:
            raise RuntimeError("no draw has a wide enough margin")
        yield f"sparse_extended_{mode}", "hip_attention", p, arrays, "position extension in search and attention"


PRESET = ([256, 32, 8], [32768, 8192, 128], 16)  # what an engine's options can say; each stage but the first prunes 9000 tokens


def decode_cases(s: Source) -> Iterator[Case]:
    yield "decode_preset", "decode", {**staged(*PRESET, 64), "intervals": [16, 8, 4], "first_pos": 8980, "scale": 0.0625}, \
        {"q": s.ints(("gq", "preset"), (20, 4, 64), 2), "k": s.key_ints("walk", 9000, 1, 64), "v": s.key_ints("ties", 9000, 1, 64)}, \
        "20 decode steps; q [steps, H, d]; indices [steps, Hkv, m]"
    for name, p, intervals in (
            ("every_step", staged([64, 16, 8], [512, 256, 128], 16, 64), [1, 1, 1]),
            ("16_8_4", staged([64, 16, 8], [512, 256, 128], 16, 64), [16, 8, 4]),
            ("full_budget", staged([64, 16, 8], [1024, 1024, 1024], 16, 64), [16, 8, 4]), ("beam_8", beam(2, 128, 16, 64), [8])):
        first = s.vary(960, 920, 960, name)
        yield f"decode_{name}", "decode", {**p, "intervals": intervals, "first_pos": first, "scale": 0.0625}, \
            {"q": s.ints(("gq", name), (20, 4, 64), 2), "k": s.key_ints("walk", 1000, 1, 64), "v": s.key_ints("ties", 1000, 1, 64)}, \
            "20 decode steps; q [steps, H, d]; indices [steps, Hkv, m]"
    own = ([64, 16, 8], [512, 256, 128], 16)
    for name, mode, trained, stages in (("extended", "relative", 700, own), ("crosses_trained_length", "streaming", 970, own),
                                        ("preset_extended", "relative", 700, PRESET),
                                        ("preset_crosses_trained_length", "streaming", 970, PRESET)):
        first = s.vary(960, 955, 962, name)
        p = {**staged(*stages, 96), **rope("half", 64, trained, mode), "intervals": [16, 8, 4], "first_pos": first, "scale": 0.0625}
        for attempt in range(100):
            arrays = {"q": s.ints(("eq", name, attempt), (20, 4, 64), 2), "k": s.ints(("ek", name), (1000, 1, 64), 4),
                      "v": s.key_ints("ties", 1000, 1, 64)}
            if run_decode(p, arrays)[2] >= MIN_MARGIN:
                break
        else:
            raise RuntimeError("no draw has a wide enough margin")
        yield f"decode_{name}", "decode", p, arrays, "20 decode steps on un-rotated q and k with position extension"
    for intervals in ([1, 1, 1], [16, 8, 4], [32, 16, 8], [96, 24, 8], [8]):
        yield "refresh_" + "_".join(map(str, intervals)), "refresh_schedule", {"intervals": intervals, "n_steps": s.vary(100, 60, 200)}, {}, ""


def config_cases(s: Source) -> Iterator[Case]:
    three = ([256, 32, 8], [32768, 8192, 2048])
    for i, (lo, hi) in enumerate(((0, 65536), (256, 131072), (0, 1 << 20), (0, 3 << 20), (0, 2048), (0, 16384), (256, 2304))):
        hi = hi if s.seed == 0 else hi + 256 * s.vary(0, 1, 64, i)
        yield f"probes_staged_{lo}_{hi}", "probe_count", {**staged(*three, 0, 1024), "lo": lo, "hi": hi}, {}, ""
        yield f"probes_beam_{lo}_{hi}", "probe_count", {**beam(2, 2048, 0, 1), "lo": lo, "hi": hi}, {}, ""
        yield f"probes_beam_page16_{lo}_{hi}", "probe_count", {**beam(2, 2048, 0, 1, leaf=16), "lo": lo, "hi": hi}, {}, ""
    good_beam, good_staged = beam(2, 512, 16, 777, leaf=16, block_q=64, query_stride=2), staged(*three, 256, 777, 64, [4, 4, 1])
    changes: list[tuple[str, Params, Params]] = [
        ("beam_ok_window_777", good_beam, {}), ("beam_leaf_not_multiple", good_beam, {"leaf_tokens": 3}),
        ("beam_budget_not_multiple", good_beam, {"budget_tokens": 520}), ("beam_budget_zero", good_beam, {"budget_tokens": 0}),
        ("beam_key_stride_too_big", good_beam, {"key_stride": 3}), ("beam_query_stride_zero", good_beam, {"query_stride": 0}),
        ("beam_window_below_block_q", good_beam, {"window_tokens": 63}), ("beam_negative_sink", good_beam, {"sink_tokens": -1}),
        ("beam_intervals_not_nested", good_beam, {"intervals": [8, 3]}),
        ("staged_ok_window_777", good_staged, {}), ("staged_chunk_not_power_of_two", good_staged, {"stage_chunk_tokens": [192, 32, 8]}),
        ("staged_chunk_grows", good_staged, {"stage_chunk_tokens": [256, 8, 32]}),
        ("staged_keep_not_multiple", good_staged, {"stage_keep_tokens": [32768, 8200, 2048]}),
        ("staged_last_keep_not_multiple", good_staged, {"stage_keep_tokens": [32768, 8192, 2044]}),
        ("staged_keep_grows", good_staged, {"stage_keep_tokens": [8192, 32768, 2048]}),
        ("staged_block_q_differs", good_staged, {"stage_block_q": [64, 64, 32]}),
        ("staged_window_below_block_q", good_staged, {"window_tokens": 63}),
        ("staged_intervals_not_nested", good_staged, {"intervals": [16, 6, 4]}),
        ("staged_rope_ok", good_staged, {**rope("half", 128, 8192, "relative"), "max_pos": 1000000}),
        ("staged_rope_exact_fit", good_staged, {**rope("half", 128, 2048 + 256 + 777 + 64, "relative"), "max_pos": 1000000}),
        ("staged_rope_too_long", good_staged, {**rope("half", 128, 2048 + 256 + 777 + 63, "relative"), "max_pos": 1000000}),
        ("staged_rope_too_long_for_refresh", good_staged,
         {**rope("half", 128, 2048 + 256 + 777 + 64, "relative"), "max_pos": 1000000, "intervals": [96, 24, 8]}),
        ("staged_rope_never_extended", good_staged, {**rope("half", 128, 2048, "relative"), "max_pos": 2047}),
        ("beam_rope_unknown_layout", good_beam, {**rope("twisted", 128, 8192, "relative"), "max_pos": 1000000})]
    for name, good, change in changes:
        yield f"validate_{name}", "validate", {**good, "intervals": [16, 8, 4], **change}, {}, ""


def check_exact_in_float32(p: Params, q: np.ndarray, k: np.ndarray) -> None:
    """Whole-numbered q and k: every partial sum of every score must be exact in float32, in any order of summation."""
    if p["scorer"] == "exact":
        return
    for g in range(k.shape[1]):
        for level, summary in enumerate(TR.summarize(k[:, g], p["block_tokens"])):
            m, w = TR.stored_vectors(k[:, g], summary, level, p["block_tokens"], p["scorer"], "float32")
            steps = max(4, 2 * TR.node_tokens(level, p["block_tokens"]))  # m and w are multiples of 1 / steps
            most = (np.abs(m) if w is None else np.abs(m) + w) @ np.abs(q).reshape(-1, q.shape[2]).astype(np.float64).T
            if (m * steps != np.rint(m * steps)).any() or most.max() * steps >= 1 << 24:
                raise RuntimeError("scores are not exact in float32")


def with_margin(run: Callable[[Params, Arrays], Outcome], p: Params, draw: Callable[[int], Arrays]) -> Arrays:
    """int8 scores are fractions: redraw until every decision has a margin far above float32 error."""
    for attempt in range(100):
        arrays = draw(attempt)
        if run(p, arrays)[2] >= MIN_MARGIN:
            return arrays
    raise RuntimeError("no draw has a wide enough margin")


def tree_case(s: Source, name: str, p: Params, t: int, n: int, heads: int, n_kv: int, d: int, kind: str = "walk",
              note: str = "") -> Case:
    p, k = {**p, "last_pos": t - 1}, s.key_ints(kind, t, n_kv, d)
    arrays = {"q": s.ints(("q", name), (n, heads, d), 3), "k": k}
    if p["summary_form"] == "int8":
        arrays = with_margin(run_tree_search, p, lambda i: {"q": s.ints(("q", name, i), (n, heads, d), 3), "k": k})
    else:
        check_exact_in_float32(p, arrays["q"], k)
    return f"tree_{name}", "tree_search", p, arrays, note


def tree_cases(s: Source) -> Iterator[Case]:
    short, middle, long, top = s.vary(1000, 900, 1300), s.vary(4097, 4000, 4500), 16384, s.vary(20000, 18000, 20000)
    for scorer in TR.SCORERS:
        sink, window = s.vary(13, 0, 40, scorer, "ts"), s.vary(50, 16, 100, scorer, "tw")
        yield tree_case(s, f"b16_{scorer}", tree(16, 128, sink, window, scorer), short, 1, 4, 1, 64,
                        note="sinks and window cut through blocks")
        yield tree_case(s, f"b32_{scorer}_beam4", tree(32, 512, sink, window + 16, scorer, beam=4), middle, 1, 8, 1, 64)
        yield tree_case(s, f"b16_{scorer}_prefill", tree(16, 128, 16, 96, scorer, block_q=64, query_stride=4), short, 64, 4, 1, 64)
    for block, budget, beam in ((16, 1024, 0), (16, 256, 2), (16, 512, 100), (32, 1024, 0), (64, 2048, 5), (64, 1024, 0)):
        yield tree_case(s, f"b{block}_top_k{budget}_beam{beam}", tree(block, budget, 64, s.vary(256, 64, 400, block, budget), beam=beam),
                        top, 1, 4, 1, 64, note="20000 tokens: up to four levels")
    for block, budget, beam in ((16, 256, 3), (64, 1024, 0), (16, 16, 1), (16, 2048, 500)):
        yield tree_case(s, f"b{block}_long_k{budget}_beam{beam}", tree(block, budget, 100, s.vary(777, 64, 900, block), beam=beam),
                        long, 1, 8, 1, 64)
    for group, n_kv, d in ((1, 1, 64), (3, 2, 64), (4, 1, 128), (8, 2, 64), (1, 1, 128), (3, 1, 128), (8, 1, 128)):
        t = short if (group, d) != (8, 128) else middle
        yield tree_case(s, f"gqa{group}_kv{n_kv}_d{d}", tree(16, 128, 7, s.vary(33, 16, 80, group, d)), t, 1, group * n_kv, n_kv, d)
    for kind in ("ties", "const"):
        for scorer in ("cuboid_mean", "mean", "representative", "exact"):
            yield tree_case(s, f"{kind}_{scorer}", tree(16, 160, 20, 40, scorer, beam=3), short, 1, 4, 1, 64, kind,
                            "ties: the lower start wins")
    yield tree_case(s, "ties_middle", tree(32, 256, 0, 32, beam=2), middle, 1, 4, 1, 64, "ties")
    for t, block, sink, window, budget in (
            (1, 16, 4, 16, 16), (15, 16, 0, 16, 16), (16, 16, 0, 16, 16), (17, 16, 0, 16, 16), (33, 16, 0, 16, 16),
            (34, 16, 1, 16, 16), (127, 16, 0, 16, 16), (128, 16, 0, 16, 16), (129, 16, 0, 16, 16), (143, 16, 5, 16, 32),
            (144, 16, 0, 16, 32), (127, 32, 9, 40, 32), (128, 32, 0, 32, 32), (129, 32, 33, 32, 32),
            (129, 64, 0, 64, 64), (193, 64, 0, 64, 64), (128, 16, 200, 16, 16)):
        yield tree_case(s, f"edge_T{t}_b{block}_s{sink}_w{window}_k{budget}", tree(block, budget, sink, window), t, 1, 4, 1, 64,
                        note="short texts: few or no complete nodes")
    for sink in (7, 8, 9, 24):
        yield tree_case(s, f"budget_edge_s{sink}", tree(16, 928, sink, 64), 1000, 1, 4, 1, 64,
                        note="928 tokens of budget against 929, 928, 927 and 912 searchable ones")
    for n, stride, block, window in ((21, 8, 16, 79), (64, 2, 32, 95), (64, 64, 64, 127), (1, 4, 16, 100)):
        yield tree_case(s, f"rows{n}_stride{stride}_b{block}", tree(block, 4 * block, 16, s.vary(window, window, 200, n, block), block_q=64,
                        query_stride=stride), short, n, 6, 2, 64, note="a query block; the narrowest window allowed when listed")
    for scorer in ("cuboid_mean", "bounds", "mean", "representative"):
        yield tree_case(s, f"int8_{scorer}", tree(16, 128, 13, 50, scorer, form="int8"), short, 1, 4, 1, 64, note="int8 summaries")
        yield tree_case(s, f"int8_{scorer}_b32_beam4", tree(32, 512, 13, 50, scorer, beam=4, form="int8"), middle, 1, 8, 1, 128)
    yield tree_case(s, "int8_top", tree(16, 1024, 64, 256, form="int8"), top, 1, 4, 1, 64)
    yield tree_case(s, "int8_prefill", tree(16, 128, 16, 96, block_q=64, query_stride=4, form="int8"), short, 64, 4, 1, 64)
    n, last = 16, s.vary(770, 767, 781, "tree")  # a node ends at 768, between the block's first and last row
    k = s.key_ints("walk", 1000, 1, 64).copy()
    k[last - n + 2:] = 100
    ends = poisoned_keys(s, 13, last - 49)[:last + 1]
    for scorer in ("cuboid_mean", "exact"):
        p = {**tree(16, 128, 13, 64, scorer, beam=2, block_q=16, query_stride=4), "last_pos": last}
        yield f"tree_poisoned_{scorer}", "tree_search", p, {"q": s.ints(("tree_poison", scorer), (n, 4, 64), 3), "k": k}, \
            "no summary holds a key after the block's first row"
        p = {**tree(16, 128, 13, 50, scorer, beam=2), "last_pos": last}
        yield f"tree_poisoned_ends_{scorer}", "tree_search", p, {"q": s.ints(("tree_ends", scorer), (1, 4, 64), 3), "k": ends}, \
            "huge sink and window keys: part of the summaries of the end nodes, not of `exact`"


def tree_summary_cases(s: Source) -> Iterator[Case]:
    for t, n_kv, d, block, scorer in ((1, 1, 64, 16, "cuboid_mean"), (15, 1, 64, 16, "cuboid_mean"),
                                      (16, 2, 64, 16, "cuboid_mean"), (17, 1, 128, 16, "bounds"),
                                      (127, 1, 64, 16, "cuboid_mean"), (128, 1, 64, 16, "cuboid_mean"),
                                      (129, 1, 128, 16, "cuboid_mean"), (1000, 2, 64, 16, "cuboid_mean"), (1000, 1, 64, 16, "bounds"),
                                      (1000, 1, 64, 32, "mean"), (1000, 1, 64, 32, "representative"), (1000, 1, 64, 32, "first"),
                                      (1000, 1, 64, 32, "last"), (4097, 1, 64, 32, "cuboid_mean"), (20000, 1, 64, 64, "cuboid_mean")):
        t = t if t < 1000 else s.vary(t, t * 9 // 10, t)
        yield f"tree_summaries_T{t}_kv{n_kv}_d{d}_b{block}_{scorer}", "tree_summaries", {"block_tokens": block, "scorer": scorer, "int8": 1}, \
            {"k": s.key_ints("walk", t, n_kv, d)}, "m, w exact in float32; *_int8 and *_scale: the int8 form"
    p = {"block_tokens": 16, "scorer": "cuboid_mean", "int8": 1}
    yield "tree_summaries_const", "tree_summaries", p, {"k": s.key_ints("const", 150, 1, 64)}, "w is all zero: scale 0"
    yield "tree_summaries_zero", "tree_summaries", p, {"k": np.zeros((40, 1, 64), np.float32)}, ""
    yield "tree_summaries_floats", "tree_summaries", {**p, "int8": 0}, {"k": s.floats("tk", (150, 1, 64))}, \
        "fractions: no int8 form, for it may differ by a step where the mean differs in its last bit"


def tree_attention_cases(s: Source) -> Iterator[Case]:
    for t, heads, n_kv, d, n, block in ((1, 1, 1, 64, 1, 16), (15, 4, 1, 64, 15, 16), (16, 3, 1, 64, 16, 16), (17, 8, 1, 64, 17, 16),
                                        (127, 3, 1, 64, 20, 32), (128, 4, 1, 64, 1, 16), (129, 4, 1, 64, 17, 64)):
        p = tree(block, R.ceil_div(t, block) * block, 4, block + 15, block_q=16, query_stride=4)
        yield f"tree_dense_T{t}", "tree_attention", {**p, "first_pos": t - n, "scale": d ** -0.5}, \
            {"q": s.floats(("tq", t), (n, heads, d)), "k": s.floats(("tk", t), (t, n_kv, d)), "v": s.floats(("tv", t), (t, n_kv, d))}, \
            "the budget covers everything: equals dense causal attention, recall 1"
    for name, p, t, n, heads, n_kv, d in (
            ("decode", tree(16, 128, 16, 64), 1000, 1, 4, 1, 64), ("decode_long", tree(16, 1024, 100, 300), 16384, 1, 8, 1, 64),
            ("decode_b64", tree(64, 512, 13, 70, beam=2), 4097, 1, 8, 1, 64),
            ("prefill", tree(16, 64, 16, 40, block_q=16, query_stride=4), 1000, 40, 4, 1, 64),
            ("prefill_gqa3", tree(32, 128, 16, 64, block_q=32, query_stride=8), 1000, 50, 6, 2, 64),
            ("mean", tree(16, 128, 16, 64, "mean"), 1000, 1, 8, 1, 128),
            ("int8", tree(16, 128, 16, 64, form="int8"), 1000, 1, 4, 1, 64)):
        k = s.key_ints("walk", t, n_kv, d)
        p, arrays = {**p, "first_pos": t - n, "scale": 0.0625}, {"k": k, "v": s.key_ints("ties", t, n_kv, d)}
        arrays["q"] = s.ints(("taq", name), (n, heads, d), 2)
        if p["summary_form"] == "int8":
            arrays = with_margin(run_tree_attention, p, lambda i: {**arrays, "q": s.ints(("taq", name, i), (n, heads, d), 2)})
        else:
            check_exact_in_float32(p, arrays["q"], k)
        yield f"tree_sparse_{name}", "tree_attention", p, arrays, "recall [n, H]: the estimate of D36"
    for name, p, interval, layer in (("every_step", tree(16, 128, 16, 64), 1, 5), ("8_layer0", tree(16, 128, 16, 64), 8, 0),
                                     ("8_layer3", tree(16, 128, 13, 50, beam=2), 8, 3), ("full_budget", tree(16, 1024, 16, 64), 16, 4),
                                     ("narrow_window", tree(32, 128, 0, 32), 8, 13)):
        first = s.vary(960, 920, 960, "tree", name)
        yield f"tree_decode_{name}", "tree_decode", {**p, "interval": interval, "layer": layer, "first_pos": first, "scale": 0.0625}, \
            {"q": s.ints(("tdq", name), (20, 4, 64), 2), "k": s.key_ints("walk", 1000, 1, 64), "v": s.key_ints("ties", 1000, 1, 64)}, \
            "20 decode steps; q [steps, H, d]; indices [steps, Hkv, m]"
    for interval in (1, 4, 8, 5):
        yield f"tree_refresh_{interval}", "tree_refresh", {"interval": interval, "n_layers": 12, "n_steps": s.vary(30, 20, 40)}, {}, ""


def tree_config_cases(s: Source) -> Iterator[Case]:
    for lo, hi, complete, block, budget, beam in (
            (0, 131072, 131072 + 1024, 16, 2048, 0), (128, (1 << 20) - 1023, 1 << 20, 16, 2048, 0),
            (128, (1 << 20) - 1023, 1 << 20, 16, 2048, 64),
            (0, 16384, 16400, 16, 2048, 0), (0, 16400, 16416, 16, 2048, 0), (0, 2048, 2100, 16, 2048, 0), (0, 2049, 2100, 16, 2048, 0),
            (100, 99000, 100001, 64, 2048, 0), (77, 5000, 5040, 32, 512, 2), (0, 1 << 23, 1 << 23, 16, 2048, 0)):
        more = 0 if s.seed == 0 else 4096 * s.vary(0, 1, 9, lo, hi)
        hi, complete = hi + more, complete + more
        yield f"tree_count_{lo}_{hi}_b{block}_k{budget}_beam{beam}", "tree_count", \
            {"lo": lo, "hi": hi, "complete": complete, "block_tokens": block, "budget_tokens": budget, "beam": beam}, {}, ""
    good = tree(16, 2048, 128, 1024, block_q=64, query_stride=4)
    for name, change in (("ok", {}), ("ok_window_777", {"window_tokens": 777}), ("ok_narrowest_window", {"window_tokens": 79}),
                         ("window_too_narrow", {"window_tokens": 78}), ("decode_ok", {"block_q": 1, "query_stride": 1, "window_tokens": 16}),
                         ("decode_window_below_block", {"block_q": 1, "query_stride": 1, "window_tokens": 15}),
                         ("block_24", {"block_tokens": 24, "budget_tokens": 2400}), ("block_8", {"block_tokens": 8}),
                         ("budget_not_multiple", {"budget_tokens": 2040}), ("budget_zero", {"budget_tokens": 0}),
                         ("beam_smallest", {"beam": 16}), ("beam_too_small", {"beam": 15}), ("beam_negative", {"beam": -1}),
                         ("query_stride_too_big", {"query_stride": 65}), ("negative_sink", {"sink_tokens": -1}),
                         ("interval_zero", {"intervals": [0]}),
                         ("unknown_scorer", {"scorer": "landmark"}), ("int8_ok", {"summary_form": "int8"}),
                         ("rope_below_trained", {**rope("half", 128, 8192, "relative"), "max_pos": 8191}),
                         ("rope_extended", {**rope("half", 128, 8192, "relative"), "max_pos": 8192}),
                         ("int8_exact", {"summary_form": "int8", "scorer": "exact"}), ("unknown_form", {"summary_form": "int4"})):
        yield f"validate_tree_{name}", "validate", {**good, "intervals": [8], **change}, {}, ""


def all_cases(seed: int) -> Iterator[Case]:
    s = Source(seed)
    for make in (basic_cases, merge_cases, leaf_cases, rope_cases, beam_cases, staged_cases, poison_cases, rope_search_cases, attention_cases,
                 decode_cases, config_cases, tree_cases, tree_summary_cases, tree_attention_cases, tree_config_cases):
        yield from make(s)


# ------------------------------------------------------------------ files
def stored(x: np.ndarray) -> np.ndarray:
    """Compact and exact: whole numbers within a byte as int8, other floats as little-endian float32."""
    if x.dtype.kind == "f":
        whole = np.isfinite(x).all() and (np.abs(x) <= 127).all() and (x == np.rint(x)).all() and not np.signbit(x[x == 0]).any()
        return np.ascontiguousarray(x.astype(np.int8 if whole else "<f4"))
    return np.ascontiguousarray(x if x.dtype == np.uint8 else x.astype("<i4"))


def save(root: Path, case: Path, name: str, x: np.ndarray) -> str:
    x = stored(x)
    if x.nbytes >= SHARED_BYTES:
        shared = root / SHARED_DIR / f"{x.dtype.name}_{'x'.join(map(str, x.shape))}_{zlib.crc32(x.tobytes()):08x}.npy"
        shared.parent.mkdir(exist_ok=True)
        if not shared.exists():
            np.save(shared, x)
        return f"../{SHARED_DIR}/{shared.name}"
    np.save(case / f"{name}.npy", x)
    return f"{name}.npy"


def as_float32(arrays: Arrays) -> Arrays:
    return {n: x.astype(np.float32) if x.dtype.kind == "f" else x for n, x in arrays.items()}


def write(root: Path, seed: int) -> None:
    if root.exists() and any(root.iterdir()):
        if not (root / "manifest.json").exists():
            raise SystemExit(f"{root} holds something other than golden cases: not overwriting it")
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    listing = []
    for name, op, params, inputs, note in all_cases(seed):
        inputs = as_float32(inputs)
        expected, values, margin = RUN[op](params, inputs)
        folder = root / name
        folder.mkdir()
        floating = params.get("rope_layout", "none") != "none" or params.get("summary_form") == "int8"
        case = {"name": name, "op": op, "note": note, "params": params,
                "inputs": {n: save(root, folder, n, x) for n, x in inputs.items()},
                "expected": {n: save(root, folder, f"want_{n}", x.astype(np.float32) if x.dtype.kind == "f" else x)
                             for n, x in expected.items()},
                "values": values,
                "tolerance": {**TOLERANCE, **({"index_margin": round(margin, 6)} if floating and np.isfinite(margin) else {})}}
        (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
        listing.append({"name": name, "op": op})
    (root / "manifest.json").write_text(json.dumps({"format": FORMAT_VERSION, "seed": seed, "cases": listing}, indent=1) + "\n")


def load(folder: Path, relative: str) -> np.ndarray:
    x = np.load(folder / relative)
    return x.astype(np.float32) if x.dtype == np.int8 else x


def check(root: Path) -> list[str]:
    """Names of cases whose files do not reproduce from the reference."""
    bad = []
    for entry in json.loads((root / "manifest.json").read_text())["cases"]:
        folder = root / entry["name"]
        case = json.loads((folder / "case.json").read_text())
        expected, values, _ = RUN[case["op"]](case["params"], {n: load(folder, f) for n, f in case["inputs"].items()})
        same = values == case["values"] and set(expected) == set(case["expected"])
        for n, x in expected.items():
            want = load(folder, case["expected"][n])
            same = same and np.array_equal(want, x.astype(np.float32) if x.dtype.kind == "f" else x, equal_nan=x.dtype.kind == "f")
        if not same:
            bad.append(case["name"])
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "cases")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        bad = check(args.out)
        print("all cases reproduce" if not bad else "cases that differ: " + ", ".join(bad))
        return len(bad) > 0
    write(args.out, args.seed)
    size = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    print(f"{len(json.loads((args.out / 'manifest.json').read_text())['cases'])} cases, {size / 1e6:.2f} MB in {args.out.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
