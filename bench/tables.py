#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Writes the output of `hipattn-bench --json` as a page of tables, one for each operation.

  bench/tables.py RESULT.json... --out docs/measurements/bench.md

Names and counters are hipattn-bench's (bench/line.h, bench/step_bench.cc). Where a line stands in
several files, as after several runs, its cell is the median, and the range stands in brackets.
"""
import argparse
import json
import pathlib
import statistics
import sys

SKIPPED_KEYS = {"iterations", "repeats"}
STANDARD = {"name", "family_index", "per_family_instance_index", "run_name", "run_type",
            "repetitions", "repetition_index", "threads", "iterations", "real_time", "cpu_time",
            "time_unit"}
CONTEXT = ("instruction_set", "multiply_add_gflops", "int16_multiply_add_gops",
           "sequential_gb_per_s")


def short_name(name):
    parts = name.split("/")
    kept = [part for part in parts[1:]
            if ":" in part and part.split(":", 1)[0] not in SKIPPED_KEYS]
    return "/".join([parts[0], *kept])


def read(paths):
    """(contexts, {operation: {line: {counter: [values]}}}) in the order of the files."""
    contexts, operations = [], {}
    for path in paths:
        document = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        contexts.append(document["context"])
        for benchmark in document["benchmarks"]:
            if benchmark.get("error_occurred"):
                sys.exit(f"tables: {path}: {benchmark['name']}: {benchmark['error_message']}")
            name = short_name(benchmark["name"])
            line = operations.setdefault(name.split("/")[0], {}).setdefault(name, {})
            for counter, value in benchmark.items():
                if counter not in STANDARD:
                    line.setdefault(counter, []).append(value)
    return contexts, operations


def number(value):
    return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f}"


def cell(values):
    if not values:
        return ""
    middle = number(statistics.median(values))
    low, high = number(min(values)), number(max(values))
    return middle if low == high else f"{middle} ({low}-{high})"


def describe(contexts):
    lines = []
    for key in sorted({key for context in contexts for key in context
                       if key.startswith(CONTEXT)}):
        values = [context[key] for context in contexts if key in context]
        try:
            text = cell([float(value) for value in values])
        except ValueError:
            text = ", ".join(dict.fromkeys(values))
        lines.append(f"- {key.replace('_', ' ')}: {text}")
    first, last = min(c["date"] for c in contexts), max(c["date"] for c in contexts)
    lines.append(f"- runs: {len(contexts)}, begun {first[:16]} to {last[:16]} UTC")
    return lines


def render(contexts, operations):
    lines = ["# hipattn-bench", "",
             "Machine: [README.md](README.md). Written by `bench/tables.py`; what a counter means "
             "stands in bench/line.h and", "bench/step_bench.cc. Medians over the runs, the range "
             "in brackets.", "", *describe(contexts)]
    for operation, rows in operations.items():
        counters = list(dict.fromkeys(counter for row in rows.values() for counter in row))
        lines += ["", f"## {operation}", "", "| line | " + " | ".join(counters) + " |",
                  "|---|" + "---|" * len(counters)]
        for name, row in rows.items():
            cells = " | ".join(cell(row.get(counter, [])) for counter in counters)
            lines.append(f"| `{name}` | {cells} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", help="files written by hipattn-bench --json")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the page")
    options = parser.parse_args()
    contexts, operations = read(options.results)
    if not operations:
        sys.exit("tables: no benchmarks in the files given")
    options.out.write_text(render(contexts, operations), encoding="utf-8")


if __name__ == "__main__":
    main()
