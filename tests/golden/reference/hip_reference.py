# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""HiP attention reference for hipattn: plain numpy, float64, written for reading, not for speed.

SPEC.md holds every rule; `D7` in a docstring is decision 7 there. Sources: P1 = HiP (arXiv 2406.09827),
P2 = InfiniteHiP (arXiv 2502.08910). Shapes: n query rows in a block, H query heads, Hkv kv heads,
G = H / Hkv, T cached keys, d head width. All ranges are half open, all positions start at 0.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np
from numpy.typing import NDArray as Array


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


# ----------------------------------------------------------------------------- partition (D1, D2)
class Partition(NamedTuple):
    """Keys a query sees, in three neighbouring ranges: sink [0, sink_end), searchable
    [sink_end, window_begin), window [window_begin, end)."""
    sink_end: int
    window_begin: int
    end: int


def split_partition(query_pos: int, kv_len: int, sink_tokens: int, window_tokens: int,
                    anchor_pos: Optional[int] = None) -> Partition:
    """Give each visible key of one query exactly one class. `anchor_pos` <= query_pos is the position
    of the last full refresh: the window begins where it began then (D18)."""
    end = min(query_pos + 1, kv_len)
    start_from = query_pos if anchor_pos is None else anchor_pos
    window_begin = min(max(start_from - window_tokens + 1, 0), end)
    return Partition(min(sink_tokens, window_begin), window_begin, end)


def exactness(begin: int, end: int, budget_tokens: int) -> bool:
    """True when the budget covers the searchable tokens [begin, end): every search keeps them all (D6)."""
    return end - begin <= budget_tokens


def class_masks(indices: Array, leaf_tokens: int, query_pos: int, kv_len: int, sink_tokens: int,
                window_tokens: int, anchor_pos: Optional[int] = None) -> tuple[Array, Array, Array]:
    """Leaf indices (any order, repeats allowed) -> bool [T] masks (sink, selected, window) of one query."""
    part = split_partition(query_pos, kv_len, sink_tokens, window_tokens, anchor_pos)
    t = np.arange(kv_len)
    chosen = np.isin(t // leaf_tokens, np.asarray(indices, dtype=np.int64))
    return (t < part.sink_end, chosen & (t >= part.sink_end) & (t < part.window_begin),
            (t >= part.window_begin) & (t < part.end))


# ----------------------------------------------------------------------------- attention and merge (D3, D4)
def attend(q: Array, k: Array, v: Array, token_mask: Array, scale: float, softcap: float = 0.0) -> tuple[Array, Array]:
    """Exact softmax attention over the masked tokens only; masked-out keys are never touched.

    q [n, H, d], k [T, Hkv, d], v [T, Hkv, dv], token_mask bool [Hkv, n, T].
    Returns out [n, H, dv] and lse [n, H], the NATURAL log of the sum of exp(score). Empty row: 0, -inf.
    """
    n, heads, _ = q.shape
    group = heads // k.shape[1]
    out, lse = np.zeros((n, heads, v.shape[2])), np.full((n, heads), -np.inf)
    for i in range(n):
        for h in range(heads):
            g = h // group
            tokens = np.flatnonzero(token_mask[g, i])
            if tokens.size == 0:
                continue
            s = k[tokens, g].astype(np.float64) @ q[i, h].astype(np.float64) * scale
            if softcap > 0.0:
                s = softcap * np.tanh(s / softcap)
            weights = np.exp(s - s.max())
            out[i, h] = weights @ v[tokens, g].astype(np.float64) / weights.sum()
            lse[i, h] = s.max() + np.log(weights.sum())
    return out, lse


def merge(o_a: Array, lse_a: Array, o_b: Array, lse_b: Array) -> tuple[Array, Array]:
    """Join two partial results over disjoint key sets: o [..., dv], lse [...]. A side whose lse is -inf
    counts as absent, whatever its o holds (NaN included); both absent gives 0 and -inf."""
    lse_a, lse_b = np.asarray(lse_a, np.float64), np.asarray(lse_b, np.float64)
    top = np.maximum(lse_a, lse_b)
    top = np.where(np.isneginf(top), 0.0, top)
    w_a, w_b = np.exp(lse_a - top)[..., None], np.exp(lse_b - top)[..., None]
    total = np.where(w_a + w_b > 0, w_a + w_b, 1.0)
    out = (np.where(w_a > 0, o_a, 0.0) * w_a + np.where(w_b > 0, o_b, 0.0) * w_b) / total
    return out, np.where((w_a + w_b)[..., 0] > 0, top + np.log(total[..., 0]), -np.inf)


# ----------------------------------------------------------------------------- RoPE (D20-D24)
@dataclass(frozen=True)
class Rope:
    """Rotary settings for un-rotated q and k. inv_freq [rotary_dim / 2]; layout 'half' or 'interleaved';
    scan_mode 'relative' or 'streaming' is used once positions reach trained_len."""
    inv_freq: Array
    layout: str
    trained_len: int
    scan_mode: str = "relative"


def rope_inv_freq(rotary_dim: int, base: float) -> Array:
    return base ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)


def apply_rope(x: Array, positions: Array, inv_freq: Array, layout: str) -> Array:
    """Rotate x [..., d] by positions [...] (broadcast); dims past 2 * len(inv_freq) pass through.
    'half' pairs (i, i + r/2); 'interleaved' pairs (2i, 2i + 1)."""
    half, x = len(inv_freq), np.asarray(x, np.float64)
    angle = np.asarray(positions, np.float64)[..., None] * inv_freq
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = (slice(0, half), slice(half, 2 * half)) if layout == "half" else (
        slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    out = np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, angle.shape[:-1] + (1,))))
    a, b = x[..., first], x[..., second]
    out[..., first], out[..., second] = a * cos - b * sin, b * cos + a * sin
    return out


def position_mode(query_pos_max: int, trained_len: int, mode: str) -> str:
    """True positions as long as the block's last position was seen in training (D21)."""
    return "true" if query_pos_max < trained_len else mode


def scan_positions(mode: str, n_candidates: int, row_pos: Array, scan_window: int,
                   trained_len: int) -> tuple[Array, Array, Array]:
    """Positions used while searching: (left probe [n_candidates], right probe [n_candidates], query [rows]).
    'streaming' numbers the candidates 0, 1, ... and squeezes them when they exceed the trained length (D23)."""
    row_pos = np.asarray(row_pos, np.int64)
    if mode == "relative":
        zeros = np.zeros(n_candidates, np.int64)
        return zeros, zeros + 1, np.full(row_pos.shape, scan_window + 1, np.int64)
    span = min(n_candidates, trained_len - 1 - scan_window)
    index = np.arange(n_candidates, dtype=np.int64) * span // max(n_candidates, 1)
    return index, index, np.minimum(row_pos, span + scan_window)


def attend_positions(sink_tokens: int, n_selected: int, window_begin: int) -> Array:
    """Positions of [sinks ++ selected tokens] past the trained length: consecutive, ending just before the
    window of the block's FIRST row, never below 0 (D24)."""
    slots = np.arange(sink_tokens + n_selected, dtype=np.int64)
    return np.maximum(0, slots + window_begin - sink_tokens - n_selected)


# ----------------------------------------------------------------------------- search helpers
@dataclass
class SearchResult:
    """indices int32 [m], ascending leaf numbers (token // leaf size); probes: scored keys; margin: the smallest
    score gap a decision hung on (inf: none); anchor_pos: position of the last full search (D18). Staged only:
    candidates[s] went into stage s and kept[s] came out, both as chunk numbers of stage s."""
    indices: Array
    levels: int = 0
    probes: int = 0
    margin: float = np.inf
    candidates: list[Array] = field(default_factory=list)
    kept: list[Array] = field(default_factory=list)
    anchor_pos: int = -1


def sample_from_end(count: int, stride: int) -> Array:
    """Rows count-1, count-1-stride, ... in ascending order: the last of each stride group (D8)."""
    return np.arange(count - 1, -1, -stride)[::-1]


def query_blocks(first_pos: int, n_queries: int, block_q: int) -> list[tuple[int, int]]:
    """Row ranges of one call's query blocks; block edges lie at positions divisible by block_q (D7)."""
    cuts = [0] + [r for r in range(1, n_queries) if (first_pos + r) % block_q == 0] + [n_queries]
    return list(zip(cuts[:-1], cuts[1:]))


def _scores(q: Array, k: Array, tokens: Array, key_pos: Optional[Array], row_pos: Optional[Array],
            rope: Optional[Rope]) -> Array:
    """tokens [c, m] (-1 = no token) -> best q.k over all rows and the m tokens, [c]. No softmax scale (D9)."""
    live = tokens >= 0
    keys, queries = k[tokens[live]].astype(np.float64), q.astype(np.float64)
    if rope is not None:
        positions = tokens if key_pos is None else np.broadcast_to(key_pos[:, None], tokens.shape)
        keys = apply_rope(keys, positions[live], rope.inv_freq, rope.layout)
        queries = apply_rope(queries, row_pos, rope.inv_freq, rope.layout)
    best = np.full(tokens.shape, -np.inf)
    best[live] = (queries @ keys.T).max(axis=0)
    return best.max(axis=1)


def _keep_best(starts: Array, scores: Array, count: int) -> tuple[Array, float]:
    """Positions (into starts) of the `count` best scores, ties to the lower start, returned in start
    order (D10); plus the score gap at the cut."""
    order = np.lexsort((starts, -scores))
    gap = float(scores[order[count - 1]] - scores[order[count]]) if 0 < count < len(order) else np.inf
    chosen = order[:count]
    return chosen[np.argsort(starts[chosen])], gap


# ----------------------------------------------------------------------------- beam search (HiP, P1)
def beam_nodes(n_leaves: int, beam: int) -> tuple[Array, Array, int]:
    """First beam: `beam` >= 1 nodes over leaves [0, n_leaves), starts rounded down to a common step (D12).
    Returns (start, length, levels); lengths may be 0; levels = ceil(log2(longest)), at least 1."""
    step = ceil_div(1 << (n_leaves.bit_length() - 1), beam)
    start = np.array([n_leaves * j // beam // step * step for j in range(beam)] + [n_leaves], np.int64)
    return start[:-1], np.diff(start), max(1, int(np.diff(start).max() - 1).bit_length())


def search_beam(q: Array, k: Array, query_pos_max: int, block_tokens: int, budget_tokens: int, sink_tokens: int,
                window_tokens: int, representative: str = "center", leaf_tokens: Optional[int] = None,
                key_stride: int = 1, rope: Optional[Rope] = None, row_pos: Optional[Array] = None) -> SearchResult:
    """HiP search: a beam over a binary tree, cut to the global best nodes at every level (P1's block algorithm;
    its single-query form is block_tokens = 1). One query block, one kv head. The beam holds budget /
    block_tokens nodes; only the last cut is down to budget / leaf_tokens leaves (D14). q [rows, d]: the sampled
    query rows of every q head of the group, row_pos [rows] their positions (only for `rope`). k [T, d]."""
    leaf = leaf_tokens or block_tokens
    validate_beam(1, 1, block_tokens, budget_tokens, leaf, key_stride, window_tokens, sink_tokens)
    lo, hi, _ = split_partition(query_pos_max, k.shape[0], sink_tokens, window_tokens)
    first_leaf, end_leaf = lo // leaf, ceil_div(hi, leaf)
    everything = np.arange(first_leaf, end_leaf if hi > lo else first_leaf, dtype=np.int32)
    result = SearchResult(everything, anchor_pos=query_pos_max)
    if exactness(lo, hi, budget_tokens):
        return result
    beam, per_leaf = min(budget_tokens // block_tokens, end_leaf - first_leaf), leaf // block_tokens
    start, length, levels = beam_nodes(end_leaf - first_leaf, beam)
    start += first_leaf
    for level in range(1, levels + 1):
        left = length // 2
        start, length = np.concatenate([start, start + left]), np.concatenate([left, length - left])
        is_right = np.repeat([False, True], len(left))
        live = np.flatnonzero(length > 0)
        live = live[np.argsort(start[live])]
        start, length, is_right = start[live], length[live], is_right[live]
        # probe block, in units of block_tokens, inside the searchable part of the node (D13)
        first = np.maximum(start * per_leaf, lo // block_tokens)
        count = np.minimum((start + length) * per_leaf, ceil_div(hi, block_tokens)) - first
        block = first + {"center": count // 2, "first": 0 * count, "last": count - 1}[representative]
        end = np.minimum((block + 1) * block_tokens, hi)[:, None]
        begin = np.maximum(block * block_tokens, lo)[:, None] + np.arange(0, block_tokens, key_stride)
        tokens = np.where(begin < end, (begin + np.minimum(begin + key_stride, end)) // 2, -1)  # middle of each group (D8)
        key_pos, query_pos = None, row_pos
        if rope is not None and (mode := position_mode(query_pos_max, rope.trained_len, rope.scan_mode)) != "true":
            left_pos, right_pos, query_pos = scan_positions(mode, len(start), row_pos, window_tokens, rope.trained_len)
            key_pos = np.where(is_right, right_pos, left_pos)
        scores = _scores(q, k, tokens, key_pos, query_pos, rope)
        kept, gap = _keep_best(start, scores, beam if level < levels else budget_tokens // leaf)
        start, length = start[kept], length[kept]
        result.levels, result.margin = level, min(result.margin, gap)
        result.probes += int((tokens >= 0).sum())
    result.indices = start.astype(np.int32)
    return result


# ----------------------------------------------------------------------------- staged search (InfiniteHiP, P2)
class Stage(NamedTuple):
    """One pruning stage: chunks of chunk_tokens come in, the best keep_tokens / chunk_tokens go out.
    Every query_stride-th row of the block_q rows takes part."""
    block_q: int
    query_stride: int
    chunk_tokens: int
    keep_tokens: int


def walk_steps(chunk_tokens: int) -> int:
    return max(1, chunk_tokens.bit_length() - 1)  # log2, at least 1 (D15)


def chunk_scores(q: Array, k: Array, chunks: Array, chunk_tokens: int, lo: int, hi: int, scorer: str = "probe",
                 rope: Optional[Rope] = None, mode: str = "true", row_pos: Optional[Array] = None,
                 scan_window: int = 0) -> tuple[Array, float]:
    """Score chunks [c] clipped to [lo, hi) (P2 Alg. 2-3 with the rules of D15). 'probe' walks down one half at
    a time by the middle key of each half, ties to the right, keeping the best score seen on the way;
    'exact' is the true maximum. Returns scores [c] and the smallest left/right gap."""
    left = np.maximum(chunks * chunk_tokens, lo).astype(np.int64)
    right = np.minimum((chunks + 1) * chunk_tokens, hi).astype(np.int64)
    pos_left = pos_right = None
    if rope is not None and mode != "true":
        pos_left, pos_right, row_pos = scan_positions(mode, len(chunks), row_pos, scan_window, rope.trained_len)
    if scorer == "exact":
        tokens = left[:, None] + np.arange(chunk_tokens)
        return _scores(q, k, np.where(tokens < right[:, None], tokens, -1), pos_right, row_pos, rope), np.inf
    best, margin = np.full(len(chunks), -np.inf), np.inf
    for _ in range(walk_steps(chunk_tokens)):
        mid = (left + right) // 2
        probe_a, probe_b = (left + mid) // 2, (mid + right) // 2
        score_a = _scores(q, k, probe_a[:, None], pos_left, row_pos, rope)
        score_b = _scores(q, k, probe_b[:, None], pos_right, row_pos, rope)
        best = np.maximum(best, np.maximum(score_a, score_b))
        real = probe_a != probe_b
        margin = min(margin, float(np.abs(score_a - score_b)[real].min())) if real.any() else margin
        go_left = real & (score_a > score_b)
        left, right = np.where(go_left, left, np.where(real, mid, left)), np.where(go_left, mid, right)
    return best, margin


def search_staged(q: Array, k: Array, query_pos_max: int, stages: Sequence[Stage], sink_tokens: int, window_tokens: int,
                  scorer: str = "probe", rope: Optional[Rope] = None, first_stage: int = 0,
                  cached: Optional[SearchResult] = None) -> SearchResult:
    """InfiniteHiP search: every stage scores its chunks independently and cuts once (P2 Alg. 1).
    One query block, one kv head: q [n, G, d] (row i sits at query_pos_max - n + 1 + i), k [T, d].
    With first_stage > 0 the candidates of that stage and the searchable range come from `cached`, the result of
    an earlier call (D17, D18); first_stage == len(stages) repeats the cached selection."""
    validate_staged(stages, window_tokens, sink_tokens)
    old = cached if first_stage > 0 else SearchResult(np.zeros(0, np.int32), anchor_pos=query_pos_max)
    lo, hi, _ = split_partition(query_pos_max, k.shape[0], sink_tokens, window_tokens, old.anchor_pos)
    result = SearchResult(old.indices, anchor_pos=old.anchor_pos, candidates=old.candidates[:first_stage],
                          kept=old.kept[:first_stage])
    scan_window = max(0, window_tokens - stages[0].chunk_tokens)
    mode = "true" if rope is None else position_mode(query_pos_max, rope.trained_len, rope.scan_mode)
    for s in range(first_stage, len(stages)):
        stage, size = stages[s], stages[s].chunk_tokens
        if s == 0:
            chunks = np.arange(lo // size, ceil_div(hi, size) if hi > lo else lo // size, dtype=np.int64)
        elif s == first_stage:
            chunks = old.candidates[s]
        else:
            ratio = stages[s - 1].chunk_tokens // size
            chunks = (result.kept[s - 1][:, None] * ratio + np.arange(ratio)).ravel()
            chunks = chunks[(chunks * size < hi) & ((chunks + 1) * size > lo)]
        result.candidates.append(chunks)
        covered = np.minimum((chunks + 1) * size, hi) - np.maximum(chunks * size, lo)
        if covered.sum() > stage.keep_tokens:  # otherwise nothing is cut and nothing is scored (D6)
            rows = sample_from_end(q.shape[0], stage.query_stride)
            row_pos = np.repeat(query_pos_max - q.shape[0] + 1 + rows, q.shape[1])
            scores, descent_gap = chunk_scores(q[rows].reshape(-1, q.shape[2]), k, chunks, size, lo, hi, scorer, rope, mode,
                                               row_pos, scan_window)
            kept, cut_gap = _keep_best(chunks, scores, stage.keep_tokens // size)
            result.margin = min(result.margin, descent_gap, cut_gap)
            result.probes += 2 * walk_steps(size) * len(chunks)
            chunks = chunks[kept]
        result.kept.append(chunks)
        result.indices = chunks.astype(np.int32)
    return result


# ----------------------------------------------------------------------------- refresh and probe counts
def refresh_schedule(intervals: Sequence[int], step: int) -> int:
    """First stage to run at decode step `step` (0 right after prefill); len(intervals) = reuse all (D16)."""
    for stage, interval in enumerate(intervals):
        if step % interval == 0:
            return stage
    return len(intervals)


def probe_count_staged(stages: Sequence[Stage], lo: int, hi: int) -> tuple[int, int, int]:
    """(probes, most distinct keys, probes with one more step) of one staged search over [lo, hi) (D19). Probes
    are exact when lo and hi are multiples of the first chunk size, else an upper bound."""
    probes = distinct = longer = 0
    covered = hi - lo
    for s, stage in enumerate(stages):
        size = stage.chunk_tokens
        chunks = ceil_div(hi, size) - lo // size if covered == hi - lo else covered // size
        if covered > stage.keep_tokens:
            probes += 2 * walk_steps(size) * chunks
            distinct += (2 * walk_steps(size) - (size != 2)) * chunks
            longer += 2 * size.bit_length() * chunks
            covered = stage.keep_tokens
    return probes, distinct, longer


def probe_count_beam(lo: int, hi: int, block_tokens: int, budget_tokens: int, leaf_tokens: int,
                     key_stride: int = 1) -> tuple[int, int]:
    """(levels, probes) of one beam search over [lo, hi) (D19). Levels are exact; probes are an upper bound, exact
    when lo, hi are leaf multiples and the leaf count is the beam times a power of two."""
    if exactness(lo, hi, budget_tokens):
        return 0, 0
    leaves = ceil_div(hi, leaf_tokens) - lo // leaf_tokens
    beam = min(budget_tokens // block_tokens, leaves)
    levels = beam_nodes(leaves, beam)[2]
    return levels, levels * min(2 * beam, leaves) * ceil_div(block_tokens, key_stride)


# ----------------------------------------------------------------------------- validation (D25)
def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)


def validate_beam(block_q: int, query_stride: int, block_tokens: int, budget_tokens: int, leaf_tokens: int,
                  key_stride: int, window_tokens: int, sink_tokens: int) -> None:
    _require(block_q >= 1 and 1 <= query_stride <= block_q, "need 1 <= query_stride <= block_q")
    _require(block_tokens >= 1 and leaf_tokens >= 1 and leaf_tokens % block_tokens == 0, "leaf not a multiple of block")
    _require(budget_tokens >= leaf_tokens and budget_tokens % leaf_tokens == 0, "budget not a positive multiple of the leaf")
    _require(1 <= key_stride <= block_tokens, "need 1 <= key_stride <= block_tokens")
    _require(sink_tokens >= 0 and window_tokens >= block_q, "need sinks >= 0 and window >= block_q")


def validate_staged(stages: Sequence[Stage], window_tokens: int, sink_tokens: int) -> None:
    _require(len(stages) >= 1, "need a stage")
    for before, stage in zip([stages[0], *stages], stages):
        size, keep = stage.chunk_tokens, stage.keep_tokens
        _require(size >= 1 and size & (size - 1) == 0, "chunk size not a power of two")
        _require(keep >= size and keep % size == 0, "keep not a positive multiple of the chunk")
        _require(1 <= stage.query_stride <= stage.block_q == before.block_q, "bad query_stride or block_q")
        _require(size <= before.chunk_tokens and keep <= before.keep_tokens, "chunk or keep grows between stages")
    _require(sink_tokens >= 0 and window_tokens >= stages[0].block_q, "need sinks >= 0 and window >= block_q")


def validate_intervals(intervals: Sequence[int]) -> None:
    _require(len(intervals) >= 1 and min(intervals) >= 1, "intervals must be positive")
    _require(all(a % b == 0 for a, b in zip(intervals, intervals[1:])), "intervals must be nested multiples")


def validate_rope(rope: Rope, budget_tokens: int, sink_tokens: int, window_tokens: int, slack_tokens: int,
                  scan_window: int, max_pos: int) -> None:
    """Position extension must keep every distance inside the trained length; slack = max(block_q, intervals[0])."""
    _require(rope.layout in ("half", "interleaved") and rope.scan_mode in ("relative", "streaming"), "unknown rope mode")
    if max_pos >= rope.trained_len:
        _require(sink_tokens + budget_tokens + window_tokens + slack_tokens <= rope.trained_len, "trained length too short")
        _require(scan_window + 2 <= rope.trained_len, "scan window exceeds trained length")


# ----------------------------------------------------------------------------- whole operation
def sparse_attention(q: Array, k: Array, v: Array, first_pos: int, indices: Sequence[Array], leaf_tokens: int,
                     sink_tokens: int, window_tokens: int, scale: float, rope: Optional[Rope] = None,
                     anchor_pos: Optional[int] = None) -> tuple[Array, Array, list[tuple[Array, Array]]]:
    """Attention of one query block over sinks, selected leaves and window (exact partition, D1-D4).
    q [n, H, d] at positions first_pos + i; indices: one leaf list per kv head.
    Returns out, lse (natural log) and the three partial (out, lse) pairs: sink, selected, window."""
    n, kv_len, n_kv = q.shape[0], k.shape[0], k.shape[1]
    last_pos = first_pos + n - 1
    masks = np.zeros((3, n_kv, n, kv_len), bool)
    for g in range(n_kv):
        for i in range(n):
            masks[:, g, i] = class_masks(indices[g], leaf_tokens, first_pos + i, kv_len, sink_tokens, window_tokens, anchor_pos)
    near = far = k
    if rope is not None:
        q = apply_rope(q, (first_pos + np.arange(n))[:, None], rope.inv_freq, rope.layout)
        near = far = apply_rope(k, np.arange(kv_len)[:, None], rope.inv_freq, rope.layout)
        if position_mode(last_pos, rope.trained_len, "streaming") != "true":
            far_pos = np.zeros((kv_len, n_kv), np.int64)
            window_begin = (first_pos if anchor_pos is None else anchor_pos) - window_tokens + 1
            for g in range(n_kv):  # the last row sees the most: its selected class names the block's slots
                slots = np.concatenate([np.arange(min(sink_tokens, kv_len)), np.flatnonzero(masks[1, g, n - 1])])
                far_pos[slots, g] = attend_positions(sink_tokens, len(slots) - sink_tokens, window_begin)
            far = apply_rope(k, far_pos, rope.inv_freq, rope.layout)
    parts = [attend(q, keys, v, masks[c], scale) for c, keys in enumerate((far, far, near))]
    out, lse = merge(*merge(*parts[0], *parts[1]), *parts[2])
    return out, lse, parts


def hip_attention(q: Array, k: Array, v: Array, first_pos: int, block_q: int,
                  search: Callable[[Array, Array, int], SearchResult], leaf_tokens: int, sink_tokens: int, window_tokens: int,
                  scale: float, rope: Optional[Rope] = None) -> tuple[Array, Array, list[list[SearchResult]]]:
    """Search then attend, block by block: q [n, H, d], k [T, Hkv, d], v [T, Hkv, dv]. `search(q_group
    [rows, G, d], k_head [T, d], last_pos)` picks the leaves. Returns out, lse, results[block][kv head]."""
    group = q.shape[1] // k.shape[1]
    outs, lses, results = [], [], []
    for begin, end in query_blocks(first_pos, q.shape[0], block_q):
        rows = q[begin:end]
        found = [search(rows[:, g * group:(g + 1) * group], k[:, g], first_pos + end - 1) for g in range(k.shape[1])]
        out, lse, _ = sparse_attention(rows, k, v, first_pos + begin, [r.indices for r in found], leaf_tokens,
                                       sink_tokens, window_tokens, scale, rope)
        outs.append(out), lses.append(lse), results.append(found)
    return np.concatenate(outs), np.concatenate(lses), results
