#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Draws what `hipattn-tiers replay --json` measured: hit rates over cache sizes.

  bench/tiers/hit_rates.py TRACE.json... --out docs/measurements

Writes tiers_policies.svg, a panel per trace with a curve per policy, and tiers_predictors.svg, the same with a curve per
predictor. A panel is named by its file: kjv.512.json -> kjv.512.
"""
import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from svg_chart import Panel, render  # noqa: E402

SIZE = "cache, in multiples of what one step may select"


def policies(name, replay):
    return Panel(title=name, x_label=SIZE, y_label="hit rate", series=replay["policies"], y_max=1)


def predictors(name, replay):
    """The library's queue without a guess, and with each predictor that always guesses."""
    series = {"none": [point for point in replay["policies"]["use-queue"] if 1 <= point[0] <= 4]}
    for found in replay["predictors"]:
        if not found["switches_off"]:
            series.setdefault(found["predictor"], []).append((found["size"], found["hit_rate"]))
    series["best possible without guesses"] = [point for point in replay["policies"]["best possible"] if 1 <= point[0] <= 4]
    return Panel(title=name, x_label=SIZE, y_label="hit rate", series=series, y_max=1, y_min=0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replays", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="a folder")
    args = parser.parse_args()
    replays = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in args.replays}
    for kind, draw in (("policies", policies), ("predictors", predictors)):
        panels = [draw(name, replay) for name, replay in replays.items()]
        (args.out / f"tiers_{kind}.svg").write_text(render(f"Recorded decode steps: {kind}", panels), encoding="utf-8")


if __name__ == "__main__":
    main()
