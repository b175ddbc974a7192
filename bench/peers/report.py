# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""The report of compare.py: markdown tables, the ratios against their targets, and the picture."""
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from svg_chart import Panel, binary_label, render  # noqa: E402  (lies one folder up)

SPARSE, DENSE = "hipattn auto", "hipattn dense"
PLAIN, FLASH = "llama.cpp plain", "llama.cpp flash"
TITLES = {SPARSE: "hipattn auto", DENSE: "hipattn dense",
          PLAIN: "llama.cpp, flash off", FLASH: "llama.cpp, flash on"}
# Tokens per second of hipattn over those of the better llama.cpp, at least, by depth.
DECODE_TARGETS = {0: 1 / 1.3, 8192: 2.5, 32768: 8, 131072: 30}
DENSE_TARGETS = {32768: 2}
PROMPT_TARGET, PREFILL_TARGET = 1.5, 1.0
QUIET_CORES = 0.25  # others together below this: the machine counts as quiet
NOTES = f"""Written by `bench/peers/compare.py`; its `--help` and `bench/peers/build_llama.sh` say how
to repeat it. Cells are medians over the steps of a process, then over rounds that run the programs
in turns; the range over the rounds stands in brackets. llama.cpp: f16 KV filled through its state interface, default waiting.
"Others" is what all other processes used meanwhile (median, highest); above {QUIET_CORES} cores the
machine was not quiet, and [cpu] gives the CPU time of one-thread runs."""


class Cells:
    """Medians over the rounds, by (program, threads, tokens, shape) of one case."""

    def __init__(self, samples, case):
        self.groups = {}
        for sample in samples:
            if sample.case == case:
                key = (sample.program, sample.threads, sample.tokens, sample.shape)
                self.groups.setdefault(key, []).append(sample)

    def rows(self):
        """Distinct (threads, tokens, shape), sorted."""
        return sorted({key[1:] for key in self.groups}, key=lambda row: (row[0], row[2], row[1]))

    def wall_ms(self, program, row):
        group = self.groups.get((program, *row))
        return statistics.median(s.wall_ms for s in group) if group else None

    def rate(self, program, row):
        """Work per second, in 1e9."""
        group = self.groups.get((program, *row))
        return statistics.median(s.work / s.wall_ms for s in group) * 1e-6 if group else None

    def cell(self, program, row):
        """Median with the range over the rounds; the CPU time where it tells more."""
        group = self.groups.get((program, *row))
        if not group:
            return ""
        walls = sorted(s.wall_ms for s in group)
        text = f"{number(statistics.median(walls))}"
        if len(walls) > 1:
            text += f" ({number(walls[0])}-{number(walls[-1])})"
        if row[0] == 1 and all(s.cpu_ms for s in group) and any(
                s.others_cores > QUIET_CORES for s in group):
            text += f" [cpu {number(statistics.median(s.cpu_ms for s in group))}]"
        return text

    def others(self, row):
        found = [s.others_cores for key, group in self.groups.items() if key[1:] == row
                 for s in group]
        return f"{statistics.median(found):.2f}, at most {max(found):.2f}"


def number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def in_threads(count):
    return f"{count} thread{'s' if count > 1 else ''}"


def better_peer(cells, row):
    """Wall time of the faster llama.cpp, or None."""
    times = [t for t in (cells.wall_ms(p, row) for p in (PLAIN, FLASH)) if t]
    return min(times, default=None)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


class Verdicts:
    """Ratios against their targets, collected while the tables are written."""

    def __init__(self):
        self.rows = []

    def add(self, what, ratio, target):
        """Returns the ratio as a cell; a target of None only states it."""
        if ratio is None:
            return ""
        text = f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"
        if target is not None:
            self.rows.append([what, text, f"{target:.2f}x" if target < 1 else f"{target:g}x",
                              "met" if ratio >= target else "**missed**"])
        return text


def ratio_of(numerator, denominator):
    return numerator / denominator if numerator and denominator else None


def decode_section(cells, verdicts):
    if not cells.groups:
        return []
    rows = []
    for row in cells.rows():
        threads, depth, _ = row
        peer = better_peer(cells, row)
        where = f"{in_threads(threads)}, depth {binary_label(depth)}"
        sparse = verdicts.add(f"decode, {where}", ratio_of(peer, cells.wall_ms(SPARSE, row)),
                              DECODE_TARGETS.get(depth))
        dense = verdicts.add(f"dense decode, {where}", ratio_of(peer, cells.wall_ms(DENSE, row)),
                             DENSE_TARGETS.get(depth))
        rows.append([str(threads), binary_label(depth)]
                    + [cells.cell(p, row) for p in (SPARSE, DENSE, PLAIN, FLASH)]
                    + [sparse, dense, cells.others(row)])
    head = ["threads", "depth", *TITLES.values(), "auto / better llama.cpp",
            "dense / better llama.cpp", "others, cores"]
    return ["## Decode: milliseconds per token at a KV depth", "",
            "The whole model, one token. Ratios are of tokens per second.", "",
            *table(head, rows)]


def prompt_section(cells, verdicts):
    if not cells.groups:
        return []
    rows = []
    for row in cells.rows():
        threads, tokens, _ = row
        ratio = ratio_of(better_peer(cells, row), cells.wall_ms(DENSE, row))
        what = f"whole prompt of {tokens} tokens, {in_threads(threads)}"
        rows.append([str(threads), str(tokens)]
                    + [cells.cell(p, row) for p in (DENSE, PLAIN, FLASH)]
                    + [verdicts.add(what, ratio, PROMPT_TARGET), cells.others(row)])
    head = ["threads", "tokens", TITLES[DENSE], TITLES[PLAIN], TITLES[FLASH], "ratio",
            "others, cores"]
    return ["## Prefill of a whole prompt: milliseconds", "", *table(head, rows)]


def kernel_section(cells, verdicts, title, unit, target):
    if not cells.groups:
        return []
    rows = []
    for row in cells.rows():
        threads, tokens, shape = row
        ours, view, natural = (
            cells.rate(p, row) for p in ("hipattn", "torch view", "torch natural"))
        peer = max((r for r in (view, natural) if r), default=None)
        what = f"{title.lower()}, {shape}, {binary_label(tokens)}, {in_threads(threads)}"
        rows.append([str(threads), binary_label(tokens), shape]
                    + [f"{rate:.1f}" if rate else "" for rate in (ours, view, natural)]
                    + [verdicts.add(what, ratio_of(ours, peer), target), cells.others(row)])
    head = ["threads", "tokens", "shape", "hipattn", "torch, view form", "torch, natural form",
            "hipattn / better torch", "others, cores"]
    return [f"## {title}: {unit}", "", *table(head, rows)]


def markdown(samples, machine, picture_name):
    verdicts = Verdicts()
    sections = [
        *decode_section(Cells(samples, "decode"), verdicts),
        *prompt_section(Cells(samples, "prompt"), verdicts),
        *kernel_section(Cells(samples, "kernel_prefill"), verdicts,
                        "Dense causal prefill of one layer", "GFLOP/s", PREFILL_TARGET),
        *kernel_section(Cells(samples, "kernel_decode"), verdicts,
                        "Dense decode of one layer", "GB/s of unique K and V", None),
    ]
    dates = sorted(s.date for s in samples)
    lines = ["# hipattn beside llama.cpp and torch", "",
             *(f"- {key}: {value}" for key, value in machine.items() if key != "date"),
             f"- measured {dates[0]} to {dates[-1]} UTC" if dates else "- nothing measured yet",
             "", NOTES, "", f"![milliseconds per token by depth]({picture_name})", ""]
    head = ["what", "ratio", "target", ""]
    lines += ["## Targets", "", *table(head, verdicts.rows), *sections]
    return "\n".join(lines).rstrip() + "\n"


def picture(samples):
    """Milliseconds per token over the depth, one panel per thread count."""
    cells = Cells(samples, "decode")
    panels = {}
    for row in cells.rows():
        threads, depth, _ = row
        panel = panels.setdefault(
            threads, Panel(in_threads(threads), "KV depth, tokens", "ms per token", log_y=True))
        for program, label in TITLES.items():
            if (value := cells.wall_ms(program, row)) is not None:
                panel.series.setdefault(label, []).append((depth, value))
    if not panels:
        return render("decode: nothing measured yet", [])
    return render("Decode of the whole model: time per token", list(panels.values()))
