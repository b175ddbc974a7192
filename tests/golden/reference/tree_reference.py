# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""The default search of hipattn: a beam over an 8-ary tree of blocks. Plain numpy, float64, written for reading.

SPEC.md section 8 holds every rule; `D26` in a docstring is decision 26 there. Block i is the tokens
[i b, (i + 1) b); node j of level l is the blocks [j 8^l, (j + 1) 8^l), so its size is b 8^l tokens.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray as Array

from hip_reference import _keep_best, _require, ceil_div, exactness, sample_from_end, split_partition

FAN_OUT = 8
BLOCK_SIZES = (16, 32, 64)
SCORERS = ("cuboid_mean", "bounds", "mean", "representative", "first", "last", "exact")


def node_tokens(level: int, block_tokens: int) -> int:
    return block_tokens * FAN_OUT ** level


# ----------------------------------------------------------------------------- summaries (D28-D30)
class Summary(NamedTuple):
    """Elementwise minimum, maximum and mean of the keys of every complete node of one level: [nodes, d] each."""
    low: Array
    high: Array
    mean: Array


def summarize(k: Array, block_tokens: int) -> list[Summary]:
    """All levels from scratch, k [T, d]. Level l has T // (b 8^l) nodes; the list ends before the first empty level."""
    levels, size = [], block_tokens
    while (n := k.shape[0] // size) > 0:
        x = np.asarray(k[:n * size], np.float64).reshape(n, size, -1)
        levels.append(Summary(x.min(axis=1), x.max(axis=1), x.mean(axis=1)))
        size *= FAN_OUT
    return levels


class BlockTree:
    """The same summaries, kept up to date while tokens come and go (D29). A closed block is summarised once; every
    eighth node closes its parent, which is made from its 8 children only."""

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self.keys: list[Array] = []
        self.nodes: list[list[tuple[Array, Array, Array]]] = []

    def append(self, keys: Array) -> None:
        for key in np.asarray(keys, np.float64):
            self.keys.append(key)
            if len(self.keys) % self.block_tokens == 0:
                block = np.stack(self.keys[-self.block_tokens:])
                self._close(0, (block.min(axis=0), block.max(axis=0), block.mean(axis=0)))

    def truncate(self, tokens: int) -> None:
        """Forget everything from token `tokens` on: the nodes that reach past it are dropped, their children stay."""
        del self.keys[tokens:]
        for level, nodes in enumerate(self.nodes):
            del nodes[tokens // node_tokens(level, self.block_tokens):]

    def summaries(self) -> list[Summary]:
        return [Summary(*(np.stack(part) for part in zip(*nodes))) for nodes in self.nodes if nodes]

    def _close(self, level: int, node: tuple[Array, Array, Array]) -> None:
        if level == len(self.nodes):
            self.nodes.append([])
        self.nodes[level].append(node)
        if len(self.nodes[level]) % FAN_OUT == 0:
            low, high, mean = (np.stack(part) for part in zip(*self.nodes[level][-FAN_OUT:]))
            self._close(level + 1, (low.min(axis=0), high.max(axis=0), mean.mean(axis=0)))


def representative_offset(scorer: str, size: int) -> int:
    return {"representative": size // 2, "first": 0, "last": size - 1}[scorer]


def node_vectors(k: Array, summary: Summary, level: int, block_tokens: int, scorer: str) -> tuple[Array, Optional[Array]]:
    """The float32 vectors kept for the nodes of one level: (m, w), score = q.m + |q|.w; w is None where it is zero (D28)."""
    low, high, mean = summary
    if scorer == "cuboid_mean":
        m, w = ((low + high) / 2 + mean) / 2, (high - low) / 4
    elif scorer == "bounds":
        m, w = (low + high) / 2, (high - low) / 2
    elif scorer == "mean":
        m, w = mean, None
    else:
        size = node_tokens(level, block_tokens)
        m, w = k[np.arange(len(mean)) * size + representative_offset(scorer, size)], None
    return m.astype(np.float32), None if w is None else w.astype(np.float32)


def quantize(x: Array, round_up: bool = False) -> tuple[Array, Array]:
    """Float32 vectors [..., d] -> whole numbers in -127..127 and one float32 scale per vector (D30). The division is
    IEEE float32, half rounds to even; an all-zero vector has scale 0. `round_up` is the rejected rule for w."""
    x = np.asarray(x, np.float32)
    scale = np.abs(x).max(axis=-1) / np.float32(127)
    steps = x / np.where(scale > 0, scale, np.float32(1))[..., None]
    return np.clip(np.ceil(steps) if round_up else np.rint(steps), -127, 127).astype(np.int8), scale


def stored_vectors(k: Array, summary: Summary, level: int, block_tokens: int, scorer: str,
                   summary_form: str) -> tuple[Array, Optional[Array]]:
    """The vectors a search sees, as float64: the float32 ones, or what their int8 form stands for."""
    vectors = node_vectors(k, summary, level, block_tokens, scorer)
    if summary_form == "int8":
        pairs = [None if x is None else quantize(x) for x in vectors]
        vectors = [None if x is None else x[0].astype(np.float64) * x[1][:, None].astype(np.float64) for x in pairs]
    return tuple(None if x is None else x.astype(np.float64) for x in vectors)


# ----------------------------------------------------------------------------- search (D26, D27, D31-D33)
@dataclass
class TreeResult:
    """indices int32 [m], ascending block numbers; candidates[l], kept[l]: node numbers of level l, for the levels walked
    (0 .. start_level; none when the budget covers the range: start_level -1); scored: summaries read; margin: smallest
    score gap at a cut; anchor_pos: position of this refresh (D34)."""
    indices: Array
    start_level: int = -1
    scored: int = 0
    margin: float = np.inf
    candidates: list[Array] = field(default_factory=list)
    kept: list[Array] = field(default_factory=list)
    anchor_pos: int = -1


def meeting_nodes(size: int, lo: int, hi: int, complete: int) -> Array:
    """Nodes of `size` tokens that meet [lo, hi) and lie wholly in [0, complete)."""
    return np.arange(lo // size, min(ceil_div(hi, size), complete // size) if hi > lo else lo // size, dtype=np.int64)


def start_level(lo: int, hi: int, complete: int, block_tokens: int, beam: int) -> int:
    """Lowest level with at most 8 beam nodes to look at (D31); more than 8 at one level always leave some above."""
    level = 0
    while len(meeting_nodes(node_tokens(level, block_tokens), lo, hi, complete)) > FAN_OUT * beam:
        level += 1
    return level


def search_tree(q: Array, k: Array, last_pos: int, block_tokens: int, budget_tokens: int, sink_tokens: int, window_tokens: int,
                scorer: str = "cuboid_mean", beam: int = 0, block_q: int = 1, query_stride: int = 1,
                summary_form: str = "float32") -> TreeResult:
    """One query block, one kv head: q [n, G, d], row i at last_pos - n + 1 + i; k [T, d]; beam 0 = budget / b."""
    validate_tree(block_q, query_stride, block_tokens, budget_tokens, beam, sink_tokens, window_tokens, scorer, summary_form)
    _require(last_pos < k.shape[0] and q.shape[0] <= block_q, "the query block must be cached and no longer than block_q")
    lo, hi, _ = split_partition(last_pos, k.shape[0], sink_tokens, window_tokens)
    complete = last_pos - q.shape[0] + 2  # tokens the block's first row sees: no summary holds a later key (D27)
    beam = beam or budget_tokens // block_tokens
    if exactness(lo, hi, budget_tokens):
        return TreeResult(meeting_nodes(block_tokens, lo, hi, complete).astype(np.int32), anchor_pos=last_pos)
    rows = q[sample_from_end(q.shape[0], query_stride)].reshape(-1, q.shape[2])
    levels = summarize(k[:complete], block_tokens)
    top = start_level(lo, hi, complete, block_tokens, beam)
    result = TreeResult(np.zeros(0, np.int32), top, candidates=[None] * (top + 1), kept=[None] * (top + 1), anchor_pos=last_pos)
    for level in range(top, -1, -1):
        size = node_tokens(level, block_tokens)
        nodes = meeting_nodes(size, lo, hi, complete)
        if level < top:  # children of the kept nodes, and the edge: nodes whose parent is not complete
            nodes = nodes[np.isin(nodes // FAN_OUT, result.kept[level + 1]) | (nodes // FAN_OUT >= complete // (FAN_OUT * size))]
        result.candidates[level], keep = nodes, beam if level else budget_tokens // block_tokens
        if len(nodes) > keep:
            scores = node_scores(rows, k, levels[level], nodes, level, block_tokens, scorer, summary_form, lo, hi)
            chosen, gap = _keep_best(nodes, scores, keep)
            result.scored, result.margin = result.scored + len(nodes), min(result.margin, gap)
            nodes = nodes[chosen]
        result.kept[level] = nodes
    result.indices = result.kept[0].astype(np.int32)
    return result


def node_scores(rows: Array, k: Array, summary: Summary, nodes: Array, level: int, block_tokens: int, scorer: str,
                summary_form: str, lo: int, hi: int) -> Array:
    """Best score over rows [r, d] of the given nodes (D28); no softmax scale, no softcap (D9)."""
    rows = rows.astype(np.float64)
    if scorer == "exact":  # reads keys, so it stays inside [lo, hi)
        tokens = nodes[:, None] * node_tokens(level, block_tokens) + np.arange(node_tokens(level, block_tokens))
        best = (k[np.clip(tokens, lo, hi - 1)].astype(np.float64) @ rows.T).max(axis=2)
        return best.max(axis=1)
    m, w = stored_vectors(k, summary, level, block_tokens, scorer, summary_form)
    scores = rows @ m[nodes].T
    return (scores if w is None else scores + np.abs(rows) @ w[nodes].T).max(axis=0)


def tree_count(lo: int, hi: int, complete: int, block_tokens: int, budget_tokens: int, beam: int) -> tuple[int, int]:
    """(start level, most summaries scored) of one search over [lo, hi); -1 and 0 when nothing is scored. The count is
    exact when no kept node is cut by lo or hi (D33)."""
    if exactness(lo, hi, budget_tokens):
        return -1, 0
    beam = beam or budget_tokens // block_tokens
    top = start_level(lo, hi, complete, block_tokens, beam)
    scored = above = 0
    for level in range(top, -1, -1):
        size, keep = node_tokens(level, block_tokens), beam if level else budget_tokens // block_tokens
        nodes = meeting_nodes(size, lo, hi, complete)
        edge = int((nodes // FAN_OUT >= complete // (FAN_OUT * size)).sum())
        most = len(nodes) if level == top else min(len(nodes), FAN_OUT * above + edge)
        scored += most if most > keep else 0
        above = min(most, keep)
    return top, scored


# ----------------------------------------------------------------------------- refresh, estimate, validation (D34-D36)
def tree_refreshes(interval: int, layer: int, step: int) -> bool:
    """Whether layer `layer` searches anew at `step`; steps count from 0 after every prefill, extend or truncate (D34)."""
    return step == 0 or (step + layer) % interval == 0


def estimate_recall(q: Array, k: Array, found: TreeResult, lo: int, hi: int, lse: Array, block_tokens: int, scale: float,
                    softcap: float = 0.0, summary_form: str = "float32", spread: float = 1.0, centre: str = "m") -> Array:
    """Estimated share of one row's softmax mass that was attended, one number per q head (D36), from the cuboid_mean vectors
    of the pruned nodes alone. q [G, d], lse [G] of the attended keys; k [T, d]; [lo, hi): the row's own searchable range.
    `spread` (of the variance) and `centre` ('m' or 'mean') are there to show what other choices cost."""
    q, levels = np.asarray(q, np.float64), summarize(k, block_tokens)
    terms = [np.full((q.shape[0], 1), -np.inf)]
    for level in range(found.start_level + 1):
        size = node_tokens(level, block_tokens)
        pruned = np.setdiff1d(found.candidates[level], found.kept[level])
        tokens = np.minimum((pruned + 1) * size, hi) - np.maximum(pruned * size, lo)
        pruned, tokens = pruned[tokens > 0], tokens[tokens > 0]
        m, w = stored_vectors(k, levels[level], level, block_tokens, "cuboid_mean", summary_form)
        m = levels[level].mean if centre == "mean" else m
        exponent = scale * (q @ m[pruned].T) + spread * scale ** 2 / 2 * (q ** 2 @ (w[pruned] ** 2).T)
        terms.append(np.log(tokens) + (softcap * np.tanh(exponent / softcap) if softcap > 0.0 else exponent))
    rest = np.logaddexp.reduce(np.concatenate(terms, axis=1), axis=1)
    return np.exp(lse - np.logaddexp(lse, rest))


def validate_tree(block_q: int, query_stride: int, block_tokens: int, budget_tokens: int, beam: int, sink_tokens: int,
                  window_tokens: int, scorer: str, summary_form: str, extended: bool = False) -> None:
    """`extended`: positions reach trained_len, where keys and queries share no one frame (D35)."""
    _require(block_q >= 1 and 1 <= query_stride <= block_q, "need 1 <= query_stride <= block_q")
    _require(block_tokens in BLOCK_SIZES, "block size not 16, 32 or 64")
    _require(budget_tokens >= block_tokens and budget_tokens % block_tokens == 0, "budget not a positive multiple of the block")
    _require(beam >= 0 and FAN_OUT * (beam or budget_tokens) >= budget_tokens // block_tokens, "beam too small to fill the budget")
    _require(sink_tokens >= 0, "need sinks >= 0")
    _require(window_tokens >= block_tokens + block_q - 1, "need window >= block + block_q - 1")
    _require(scorer in SCORERS and summary_form in ("float32", "int8"), "unknown scorer or summary form")
    _require(scorer != "exact" or summary_form == "float32", "the exact scorer has no summary")
    _require(not extended, "the tree search knows no position extension")
