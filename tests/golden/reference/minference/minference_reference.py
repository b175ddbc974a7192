# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""hipattn oracle for MInference 1.0 sparse prefill: plain numpy, float64, slow on purpose.

Every rounding, tie and clamp rule is in SPEC.md with its source. Names: q_len, kv_len = rows of q and of k, v;
d = head width; query row r sits at absolute position kv_len - q_len + r; a query block is BLOCK consecutive
query rows, R = ceil(q_len / BLOCK) of them. "Paper" = arXiv 2407.02490, numbered as SPEC.md says.
"""
from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

BLOCK = 64                                      # rows of a query block, columns of a tile
LAST_Q = 64                                     # probe rows of the vertical-slash estimate
FORCED_SINKS, FORCED_DIAGONALS = 30, 100        # first columns, smallest offsets: always rank first
MIN_VERTICALS, MIN_SLASHES = 30, 50             # lower bounds of the budgets
BLOCK_BUDGET = 100                              # block budget of a "block_sparse" file entry
BUDGET_LIMIT, HEAD_LIMIT = 1 << 24, 1 << 16     # pattern file: budgets up to the first, heads below the second
A_SHAPE, VERTICAL_SLASH, BLOCK_SPARSE = "stream_llm", "vertical_and_slash", "block_sparse"
Pattern = tuple[str, int, int]          # (type, a, b): (n_init, n_local) | (k_v, k_s) | (k_b, 0)
DEFAULT_ENTRY = (VERTICAL_SLASH, 1000, 6096, 1)


# ---------------------------------------------------------------- geometry
def query_offset(q_len: int, kv_len: int) -> int:
    """Absolute position of query row 0. Needs 1 <= q_len <= kv_len."""
    if not 1 <= q_len <= kv_len:
        raise ValueError("need 1 <= q_len <= kv_len")
    return kv_len - q_len


def block_count(length: int) -> int:
    return -(-length // BLOCK)


def key_limit(block: int, q_len: int, kv_len: int) -> int:
    """Number of keys the last real row of a query block may see (the causal clamp)."""
    return query_offset(q_len, kv_len) + min((block + 1) * BLOCK, q_len)


def distances(q_len: int, kv_len: int) -> np.ndarray:
    """(q_len, kv_len) int: position(row) - key; negative = in the future."""
    return query_offset(q_len, kv_len) + np.arange(q_len)[:, None] - np.arange(kv_len)[None, :]


def causal_mask(q_len: int, kv_len: int) -> np.ndarray:
    return distances(q_len, kv_len) >= 0


# ---------------------------------------------------------------- masks and attention
def mask_a_shape(q_len: int, kv_len: int, n_init: int, n_local: int) -> np.ndarray:
    """(q_len, kv_len) bool. Sinks j < n_init plus the window position - j < n_local; exact per token."""
    distance = distances(q_len, kv_len)
    return (distance >= 0) & ((np.arange(kv_len) < n_init) | (distance < n_local))


def mask_vertical_slash(q_len: int, kv_len: int, verticals, slashes) -> np.ndarray:
    """(q_len, kv_len) bool. Nominal lines only: whole key columns and diagonals position - j = s."""
    distance = distances(q_len, kv_len)
    return (distance >= 0) & (np.isin(np.arange(kv_len), verticals) | np.isin(distance, slashes))


def paint(q_len: int, kv_len: int, ranges, columns=None) -> np.ndarray:
    """(q_len, kv_len) bool: causal, and within the key ranges [lo, hi) or columns given per query block."""
    mask = np.zeros((q_len, kv_len), bool)
    for m in range(block_count(q_len)):
        rows = mask[m * BLOCK:(m + 1) * BLOCK]
        rows[:, columns[m] if columns else []] = True
        for lo, hi in ranges[m]:
            rows[:, lo:hi] = True
    return mask & causal_mask(q_len, kv_len)


def mask_block_sparse(q_len: int, kv_len: int, blocks: list[np.ndarray]) -> np.ndarray:
    """(q_len, kv_len) bool. blocks[m] = key blocks (of BLOCK keys, aligned to key 0) of query block m."""
    return paint(q_len, kv_len, [[(n * BLOCK, (n + 1) * BLOCK) for n in chosen] for chosen in blocks])


def attend(q, k, v, mask: np.ndarray, scale: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Masked softmax attention, paper eq. 1 with an infinite penalty: q (q_len, d), k, v (kv_len, d), mask (q_len,
    kv_len) -> out (q_len, d), natural-log lse (q_len,), float64. No attended key: out row 0, lse -inf.
    """
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    scale = 1 / math.sqrt(q.shape[1]) if scale is None else scale
    out, lse = np.zeros((len(q), v.shape[1])), np.full(len(q), -np.inf)
    for top in range(0, len(q), 256):
        rows = slice(top, top + 256)
        score = np.where(mask[rows], scale * (q[rows] @ k.T), -np.inf)
        peak = score.max(axis=1)
        full = peak > -np.inf
        weight = np.exp(score - np.where(full, peak, 0)[:, None])
        total = np.where(full, weight.sum(axis=1), 1)
        out[rows] = (weight @ v) / total[:, None]
        lse[rows] = np.where(full, peak + np.log(total), -np.inf)
    return out, lse


# ---------------------------------------------------------------- estimators
def top_k(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the `count` largest scores; equal scores: lower index wins; NaN counts as -inf."""
    clean = np.where(np.isnan(scores), -np.inf, np.asarray(scores, np.float64))
    return np.sort(np.argsort(-clean, kind="stable")[:max(count, 0)]).astype(np.int32)


def estimate_vertical_slash(q, k, scale: float | None = None, last_q: int = LAST_Q) -> tuple[np.ndarray, np.ndarray]:
    """Column and diagonal sums of the causal softmax of the last query rows (paper alg. 2): q (q_len, d), k (kv_len,
    d) -> vertical, slash (kv_len,), float64, before any forcing. Each of the two sums to min(last_q, q_len).
    """
    q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
    scale = 1 / math.sqrt(q.shape[1]) if scale is None else scale
    distance = distances(min(last_q, len(q)), len(k))
    seen = distance >= 0
    score = np.where(seen, scale * (q[len(q) - len(seen):] @ k.T), -np.inf)
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return weight.sum(axis=0), np.bincount(distance[seen], weights=weight[seen], minlength=len(k))


def select_vertical_slash(vertical, slash, k_v: int, k_s: int, ratio: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(kv_len,) scores -> verticals ascending, slashes descending, int32 (paper alg. 2)."""
    vertical, slash = np.array(vertical, np.float64), np.array(slash, np.float64)
    vertical[:FORCED_SINKS] = np.inf
    slash[:FORCED_DIAGONALS] = np.inf
    k_v, k_s = max(int(k_v * ratio), MIN_VERTICALS), max(int(k_s * ratio), MIN_SLASHES)
    return top_k(vertical, k_v), top_k(slash, k_s)[::-1]


def pool_blocks(x: np.ndarray) -> np.ndarray:
    """(n, d) -> (ceil(n / BLOCK), d): sums of BLOCK rows divided by BLOCK, a short last block as if zero-padded."""
    padded = np.pad(np.asarray(x, np.float64), ((0, -len(x) % BLOCK), (0, 0)))
    return padded.reshape(-1, BLOCK, padded.shape[1]).sum(axis=1) / BLOCK


def estimate_block_sparse(q, k) -> np.ndarray:
    """(R, ceil(kv_len / BLOCK)) dots of pooled blocks, no scale, no softmax (paper alg. 3); unseen blocks -inf."""
    score = pool_blocks(q) @ pool_blocks(k).T
    for m in range(block_count(len(q))):
        score[m, block_count(key_limit(m, len(q), len(k))):] = -np.inf
    return score


def select_block_sparse(score: np.ndarray, q_len: int, kv_len: int, k_b: int, compat: bool = False) -> list[np.ndarray]:
    """Key blocks of each query block, ascending int32 (paper alg. 3). Default: block 0 and every key block that
    meets the rows' own positions are kept even beyond k_b; compat: nothing is forced.
    """
    blocks = []
    for m in range(block_count(q_len)):
        seen = block_count(key_limit(m, q_len, kv_len))
        row = np.array(score[m, :seen], np.float64)
        if not compat:
            row[0] = row[(query_offset(q_len, kv_len) + m * BLOCK) // BLOCK:] = np.inf
        blocks.append(top_k(row, max(k_b, int(np.isposinf(row).sum()))))
    return blocks


# ---------------------------------------------------------------- index conversion
def clean_lines(lines, kv_len: int) -> np.ndarray:
    """Line numbers in any order -> ascending, unique, within [0, kv_len), int32."""
    lines = np.unique(np.asarray(lines, np.int64))
    return lines[(lines >= 0) & (lines < kv_len)].astype(np.int32)


def tile_starts(slashes, block: int, q_len: int, kv_len: int) -> list[int]:
    """Starts of the BLOCK-wide key tiles of one query block, ascending, not clamped to key_limit. The rows, padded to
    BLOCK, touch keys [edge - BLOCK, edge) of slash s, edge = end - s. In ascending order each edge beyond the keys
    tiled so far adds one tile: ending at the edge, or moved right to begin where those keys end.
    """
    end = query_offset(q_len, kv_len) + (block + 1) * BLOCK
    starts, covered = [], 0
    for s in clean_lines(slashes, kv_len)[::-1]:
        edge = end - int(s)
        if edge > covered:
            starts.append(max(covered, edge - BLOCK))
            covered = starts[-1] + BLOCK
    return starts


def merge(spans, limit: int) -> np.ndarray:
    """Ascending [lo, hi) spans -> (n, 2) int32: clamped to [0, limit), empty ones dropped, touching ones joined."""
    joined: list[list[int]] = []
    for lo, hi in ((max(lo, 0), min(hi, limit)) for lo, hi in spans):
        if joined and lo <= joined[-1][1]:
            joined[-1][1] = max(hi, joined[-1][1])
        elif lo < hi:
            joined.append([lo, hi])
    return np.array(joined, np.int32).reshape(-1, 2)


@dataclass
class LineIndex:
    """Converted vertical-slash index of one head; each list has one item per query block."""
    q_len: int
    kv_len: int
    verticals: np.ndarray                                       # (n_v,) ascending, shared by all query blocks
    ranges: list[np.ndarray] = field(default_factory=list)      # (n, 2) disjoint key ranges [lo, hi)
    intervals: list[np.ndarray] = field(default_factory=list)   # (n + 1, 2) ranges of `verticals`, gaps of `ranges`
    columns: list[np.ndarray] = field(default_factory=list)     # keys named by the intervals, ascending


def convert_vertical_slash(verticals, slashes, q_len: int, kv_len: int) -> LineIndex:
    """Vertical columns and slash offsets -> ranges + intervals + columns per query block. Interval t names the
    verticals between range t - 1 and range t; the first gap begins at key 0, the last ends at key_limit.
    """
    query_offset(q_len, kv_len)                                 # refuses bad lengths
    index = LineIndex(q_len, kv_len, clean_lines(verticals, kv_len))
    for m in range(block_count(q_len)):
        limit = key_limit(m, q_len, kv_len)
        ranges = merge([(t, t + BLOCK) for t in tile_starts(slashes, m, q_len, kv_len)], limit)
        gaps = np.stack([np.append(0, ranges[:, 1]), np.append(ranges[:, 0], limit)], axis=1)
        index.ranges.append(ranges)
        index.intervals.append(np.searchsorted(index.verticals, gaps).astype(np.int32))
        index.columns.append(np.concatenate([index.verticals[a:b] for a, b in index.intervals[-1]]))
    return index


def mask_from_index(index: LineIndex) -> np.ndarray:
    """(q_len, kv_len) bool: what the converted index attends."""
    return paint(index.q_len, index.kv_len, index.ranges, index.columns)


# ---------------------------------------------------------------- density and dense fallback
def count_tiles(ranges: list[np.ndarray], columns: list[np.ndarray] | None = None) -> int:
    """Tiles of the key ranges of every query block plus groups of BLOCK gathered columns."""
    tiles = sum(block_count(r[:, 1] - r[:, 0]).sum() for r in ranges)
    return int(tiles) + sum(block_count(len(c)) for c in columns or [])


def a_shape_ranges(q_len: int, kv_len: int, n_init: int, n_local: int) -> list[np.ndarray]:
    """Sink range and window range of every query block, joined where they touch; they hold the exact mask."""
    ranges = []
    for m in range(block_count(q_len)):
        first, limit = query_offset(q_len, kv_len) + m * BLOCK, key_limit(m, q_len, kv_len)
        ranges.append(merge([(0, n_init), (first - n_local + 1, limit if n_local else 0)], limit))
    return ranges


def causal_tiles(q_len: int, kv_len: int) -> int:
    """Tiles a dense causal kernel computes: the sum of ceil(key_limit / BLOCK)."""
    return sum(block_count(key_limit(m, q_len, kv_len)) for m in range(block_count(q_len)))


def density(computed: int, q_len: int, kv_len: int) -> float:
    """Fraction of the causal tiles that is computed; may exceed 1 (unaligned tiles, padded column groups)."""
    return computed / causal_tiles(q_len, kv_len)


def dense_reason(q_len: int, kv_len: int, computed: int, *, layer: int = 0, starting_layer: int = -1,
                 dense_up_to: int = 0, cost_ratio: float = 1.0) -> str:
    """Why a head runs dense, first match wins; "" = runs sparse. computed = tiles of the pattern."""
    rules = {"layer": layer < starting_layer, "decode": q_len == 1, "short": kv_len <= dense_up_to,
             "density": computed * cost_ratio >= causal_tiles(q_len, kv_len)}
    return next((name for name, hit in rules.items() if hit), "")


# ---------------------------------------------------------------- one head, all heads
@dataclass
class Head:
    mask: np.ndarray                      # (q_len, kv_len) bool, what the sparse kernel attends
    tiles: int
    verticals: np.ndarray | None = None   # vertical-slash only
    slashes: np.ndarray | None = None
    blocks: list[np.ndarray] | None = None   # block-sparse only


def build_head(q, k, pattern: Pattern, *, scale: float | None = None, last_q: int = LAST_Q,
               ratio: float = 1.0, compat: bool = False) -> Head:
    """Index of one head from its own q (q_len, d), k (kv_len, d)."""
    (kind, a, b), q_len, kv_len = pattern, len(q), len(k)
    if kind not in (A_SHAPE, VERTICAL_SLASH, BLOCK_SPARSE) or min(a, b) < 0:
        raise ValueError("unknown pattern type or negative budget")
    if kind == A_SHAPE:
        return Head(mask_a_shape(q_len, kv_len, a, b), count_tiles(a_shape_ranges(q_len, kv_len, a, b)))
    if kind == BLOCK_SPARSE:
        blocks = select_block_sparse(estimate_block_sparse(q, k), q_len, kv_len, a, compat)
        return Head(mask_block_sparse(q_len, kv_len, blocks), sum(map(len, blocks)), blocks=blocks)
    verticals, slashes = select_vertical_slash(*estimate_vertical_slash(q, k, scale, last_q), a, b, ratio)
    index = convert_vertical_slash(verticals, slashes, q_len, kv_len)
    return Head(mask_from_index(index), count_tiles(index.ranges, index.columns), verticals, slashes)


def prefill(q, k, v, patterns: list[Pattern], guard: dict, *, scale: float | None = None, last_q: int = LAST_Q,
            ratio: float = 1.0, compat: bool = False):
    """q (H, q_len, d), k and v (H_kv, kv_len, d), one pattern per query head; guard = arguments of dense_reason ->
    out (H, q_len, d), lse (H, q_len), reasons [H], heads [H].
    """
    if len(q) % len(k) or len(patterns) != len(q):
        raise ValueError("query heads must be a multiple of key heads, with one pattern each")
    results, reasons, heads = [], [], []
    for h, pattern in enumerate(patterns):
        g = h * len(k) // len(q)                # grouped heads
        heads.append(build_head(q[h], k[g], pattern, scale=scale, last_q=last_q, ratio=ratio, compat=compat))
        reasons.append(dense_reason(q.shape[1], k.shape[1], heads[h].tiles, **guard))
        mask = causal_mask(q.shape[1], k.shape[1]) if reasons[h] else heads[h].mask
        results.append(attend(q[h], k[g], v[g], mask, scale))
    return np.stack([r[0] for r in results]), np.stack([r[1] for r in results]), reasons, heads


# ---------------------------------------------------------------- kernel-aware search, paper alg. 1
TARGET: Pattern = (A_SHAPE, 1024, 4096)         # paper app. C.2: the kernel FLOPs of this one are the budget
DEFAULT_CANDIDATES: list[Pattern] = [
    (A_SHAPE, 1024, 4096), (A_SHAPE, 100, 800),
    *[(VERTICAL_SLASH, a, b) for a, b in ((30, 800), (30, 2048), (100, 750), (100, 800), (100, 1800), (500, 700),
                                          (500, 1500), (1000, 4096), (3000, 200), (3500, 100))],
    (BLOCK_SPARSE, BLOCK_BUDGET, 0)]


def kernel_flops(tiles: int, d: int) -> int:
    """2 d for the score and 2 d for the weighted value of each of the BLOCK x BLOCK pairs of a tile."""
    return 4 * d * BLOCK * BLOCK * tiles


def estimate_flops(pattern: Pattern, q_len: int, kv_len: int, d: int, last_q: int = LAST_Q) -> int:
    if pattern[0] == VERTICAL_SLASH:
        return 2 * min(last_q, q_len) * kv_len * d
    return 2 * d * block_count(q_len) * block_count(kv_len) + d * (q_len + kv_len) if pattern[0] == BLOCK_SPARSE else 0


def row_mean(values: np.ndarray, kv_len: int, first_row: int) -> float:
    """Mean of (q_len,) over the rows at position >= first_row; over all rows when there is none."""
    kept = values[max(0, first_row - query_offset(len(values), kv_len)):]
    return float((kept if len(kept) else values).mean())


def mass_recall(q, k, mask: np.ndarray, scale: float | None = None, first_row: int = 0) -> float:
    """Mean over rows of the dense softmax mass that falls inside the mask."""
    dense = attend(q, k, np.eye(len(k)), causal_mask(len(q), len(k)), scale)[0]      # the softmax matrix
    return row_mean((dense * mask).sum(axis=1), len(k), first_row)


def lse_recall(lse_sparse: np.ndarray, lse_full: np.ndarray, kv_len: int, first_row: int = 0) -> float:
    """Mean over rows of exp(lse_sparse - lse_full): equals mass_recall without any score matrix."""
    return row_mean(np.exp(lse_sparse - lse_full), kv_len, first_row)


@dataclass
class Score:
    pattern: Pattern
    tiles: int
    cost: int        # kernel FLOPs + estimate FLOPs
    recall: float    # lse_recall
    error: float     # |sparse - dense| / |dense|, Frobenius; 0 when |dense| is 0


def score_candidate(q, k, v, pattern: Pattern, scale: float | None = None, first_row: int = 0) -> Score:
    """One candidate on one head: q (q_len, d), k and v (kv_len, d)."""
    q_len, kv_len, d = len(q), len(k), q.shape[1]
    dense, lse_full = attend(q, k, v, causal_mask(q_len, kv_len), scale)
    head = build_head(q, k, pattern, scale=scale)
    out, lse = attend(q, k, v, head.mask, scale)
    error = float(np.linalg.norm(out - dense) / (np.linalg.norm(dense) or 1.0))
    return Score(pattern, head.tiles, kernel_flops(head.tiles, d) + estimate_flops(pattern, q_len, kv_len, d),
                 lse_recall(lse, lse_full, kv_len, first_row), error)


def choose(scores: list[Score], mode: str, bound: float) -> int:
    """Position of the winner; ties: lower cost, then earlier in the list. Mode "error": least error, "recall":
    greatest recall, both with cost <= bound (nothing fits: least cost); "cost": least cost with recall >= bound
    (nothing fits: greatest recall).
    """
    fits = [i for i, s in enumerate(scores) if (s.recall >= bound if mode == "cost" else s.cost <= bound)]
    keys = {"error": lambda s: s.error, "recall": lambda s: -s.recall, "cost": lambda s: s.cost}
    key = keys[mode] if fits else keys["recall" if mode == "cost" else "cost"]
    return min(fits or range(len(scores)), key=lambda i: (key(scores[i]), scores[i].cost, i))


def nudge(q, k, pattern: Pattern, target: int, tolerance: int, step: int = 50) -> Pattern:
    """Move one budget in steps until kernel FLOPs come within `tolerance` of `target` (paper alg. 1): n_local of an
    A-shape, the larger of k_v, k_s (k_s when equal) of vertical-slash; block-sparse stays. The walk never turns and
    ends past the target (the nearer of the last two wins, the earlier when equal), at 0 or at kv_len.
    """
    def gap_of(p: Pattern) -> int:
        return kernel_flops(build_head(q, k, p).tiles, q.shape[1]) - target
    gap = gap_of(pattern)
    sign = -1 if gap > 0 else 1
    moved = 1 if pattern[0] == VERTICAL_SLASH and pattern[1] > pattern[2] else 2
    while abs(gap) > tolerance and pattern[0] != BLOCK_SPARSE:
        value = min(max(pattern[moved] + sign * step, 0), len(k))
        if (value - pattern[moved]) * sign <= 0:
            break
        last, last_gap = pattern, gap
        pattern = (*pattern[:moved], value, *pattern[moved + 1:])
        gap = gap_of(pattern)
        if gap * sign > 0:                     # crossed the target
            return pattern if abs(gap) < abs(last_gap) else last
    return pattern


def refine_step(k_v: int, k_s: int, recall: float) -> tuple[int, int]:
    """One budget refinement of a vertical-slash head: the step of the recall band, added to both budgets."""
    step = next(s for low, s in ((0.9, 0), (0.8, 2048), (0.7, 4096), (0.6, 8192), (0, 12244)) if recall >= low)
    return k_v + step, k_s + step


# ---------------------------------------------------------------- pattern file
class ConfigError(ValueError):
    """args[0] is one of the codes of SPEC.md."""


def _entry(value) -> tuple:
    rules = (("entry_shape", lambda: isinstance(value, list) and len(value) == 4),
             ("bad_type", lambda: value[0] in (A_SHAPE, VERTICAL_SLASH, BLOCK_SPARSE)),
             ("bad_budget", lambda: all(type(b) is int and b >= 0 for b in value[1:3])),
             ("budget_too_large", lambda: max(value[1:3]) <= BUDGET_LIMIT),
             ("bad_score", lambda: type(value[3]) in (int, float) and math.isfinite(value[3])))
    if broken := next((code for code, good in rules if not good()), None):
        raise ConfigError(broken)
    return tuple(value)


def parse_config(data: bytes, num_layers: int | None = None, num_heads: int | None = None) -> list[dict[int, tuple]]:
    """Pattern file -> one {head: (type, a, b, score)} per layer. Raises ConfigError with one of the SPEC codes."""
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=tuple, parse_constant=int)  # int("NaN") raises
    except (ValueError, RecursionError) as problem:
        raise ConfigError("syntax") from problem
    if not isinstance(document, list):
        raise ConfigError("not_array")
    if num_layers is not None and len(document) > num_layers:
        raise ConfigError("too_many_layers")
    layers = []
    for item in document:
        if not isinstance(item, tuple):
            raise ConfigError("layer_not_object")
        layers.append({})
        for key, value in item:
            if not (key.isascii() and key.isdigit() and str(int(key[:6])) == key and int(key) < HEAD_LIMIT):
                raise ConfigError("bad_head_key")
            if num_heads is not None and int(key) >= num_heads:
                raise ConfigError("head_out_of_range")
            if int(key) in layers[-1]:
                raise ConfigError("duplicate_head")
            layers[-1][int(key)] = _entry(value)
    return layers


def write_config(layers: list[dict[int, tuple]]) -> bytes:
    """One line of JSON, heads ascending; parse_config(write_config(x)) == x."""
    return json.dumps([{str(h): list(layer[h]) for h in sorted(layer)} for layer in layers]).encode()


def lookup(layers: list[dict[int, tuple]], layer: int, head: int, head_offset: int = 0) -> tuple:
    """Entry of a local head; missing head or layer: DEFAULT_ENTRY."""
    return layers[layer].get(head_offset + head, DEFAULT_ENTRY) if layer < len(layers) else DEFAULT_ENTRY


def pattern_of(entry: tuple) -> Pattern:
    """File entry -> pattern; a block-sparse entry always means BLOCK_BUDGET blocks, whatever a and b say."""
    return (BLOCK_SPARSE, BLOCK_BUDGET, 0) if entry[0] == BLOCK_SPARSE else (entry[0], entry[1], entry[2])
