#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Draws the output of `hipattn-bench --json` as curves over the text length.

  bench/draw_curves.py RESULT.json... --out docs/measurements

Benchmark names are read as operation/key:value/key:value, e.g.
decode/T:131072/d:64/group:3/dtype:bf16/threads:1. For every operation two pictures are written:
OPERATION_rate.svg (share of the roof or of the multiply-add peak, or the rate) and
OPERATION_time.svg. T is the x axis, every combination
of head_dim and threads has a panel, and the other keys that vary tell the lines of a panel apart.
Where a benchmark was repeated, its median is drawn.
"""
import argparse
import json
import pathlib
import sys

from svg_chart import Panel, render

LENGTH_KEYS = ("T", "tokens", "kv_len")
PANEL_KEYS = ("d", "head_dim", "threads")
# Counters by preference: name, y label, scale.
RATES = (
    ("roof_%", "% of roof", 1),
    ("peak_%", "% of multiply-add peak", 1),
    ("GB/s", "GB/s", 1),
    ("dense/sparse", "dense time / sparse time", 1),
)
# What the project asks of an operation, drawn as a dashed line: (operation, counter) -> value.
TARGETS = {
    ("decode", "roof_%"): 80,
    ("score", "roof_%"): 80,
    ("sketches", "roof_%"): 80,
    ("prefill", "peak_%"): 60,
}
MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


def read_benchmarks(paths):
    """{operation: [(keys, benchmark)]}, keys a dict of text; medians instead of repetitions."""
    chosen = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            benchmarks = json.load(file)["benchmarks"]
        for benchmark in benchmarks:
            if benchmark.get("error_occurred"):
                continue
            name = benchmark.get("run_name", benchmark["name"])
            if benchmark.get("aggregate_name", "median") != "median":
                continue
            is_median = "aggregate_name" in benchmark
            if name not in chosen or is_median:
                chosen[name] = benchmark
    operations = {}
    for name, benchmark in chosen.items():
        parts = name.split("/")
        keys = dict(part.split(":", 1) for part in parts[1:] if ":" in part)
        for key in ("repeats", "iterations"):
            keys.pop(key, None)
        operations.setdefault(parts[0], []).append((keys, benchmark))
    return operations


def varying(rows, keys):
    return [key for key in keys if len({row_keys.get(key) for row_keys, _ in rows}) > 1]


def name_of(row_keys, keys, empty):
    return ", ".join(f"{key} {row_keys[key]}" for key in keys if key in row_keys) or empty


def sort_key(row):
    return [(0, int(v), "") if v.isdigit() else (1, 0, v) for _, v in sorted(row[0].items())]


def make_panels(operation, rows, length_key, value_of, **style):
    """One panel for each combination of the panel keys, its lines told apart by the other keys."""
    all_keys = list(dict.fromkeys(key for keys, _ in rows for key in keys))
    panel_keys = varying(rows, [key for key in PANEL_KEYS if key in all_keys])
    line_keys = varying(rows, [k for k in all_keys if k != length_key and k not in PANEL_KEYS])
    panels = {}
    for keys, benchmark in sorted(rows, key=sort_key):
        value = value_of(benchmark)
        if value is None or length_key not in keys:
            continue
        title = name_of(keys, panel_keys, operation)
        panel = panels.setdefault(title, Panel(title, "tokens", **style))
        line = panel.series.setdefault(name_of(keys, line_keys, operation), [])
        line.append((int(keys[length_key]), value))
    return list(panels.values())


def draw_operation(operation, rows, out):
    length_key = next((key for key in LENGTH_KEYS if any(key in keys for keys, _ in rows)), None)
    if length_key is None:
        return  # nothing to draw over, such as the measurement of the peaks
    written = {}
    rate = next((rate for rate in RATES if any(rate[0] in row for _, row in rows)), None)
    if rate is not None:
        counter, label, scale = rate
        target = TARGETS.get((operation, counter))
        written["rate"] = make_panels(
            operation, rows, length_key,
            lambda row: row[counter] * scale if counter in row else None,
            y_label=label, target=target, target_label=f"target {target} %",
            y_max=100 if counter.endswith("%") else None)
    written["time"] = make_panels(
        operation, rows, length_key,
        lambda row: row["real_time"] * MILLISECONDS[row.get("time_unit", "ns")],
        y_label="milliseconds", log_y=True)
    for kind, panels in written.items():
        if panels:
            path = out / f"{operation}_{kind}.svg"
            path.write_text(render(f"{operation}: {kind}", panels), encoding="utf-8")
            print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="files written by hipattn-bench --json")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the pictures")
    options = parser.parse_args()
    operations = read_benchmarks(options.results)
    if not operations:
        sys.exit("draw_curves: no benchmarks in the files given")
    options.out.mkdir(parents=True, exist_ok=True)
    for operation, rows in operations.items():
        draw_operation(operation, rows, options.out)


if __name__ == "__main__":
    main()
