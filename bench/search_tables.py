#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Every candidate that hipattn-search tried, and how far outputs are off at which recall, as Markdown tables.

  hipattn-search ... --out patterns.json
  bench/search_tables.py patterns.scores.json

What ran dense on a head says nothing of its candidate and is counted apart.
"""
import argparse
import json
import pathlib
import sys
from statistics import fmean, quantiles

BOUNDS = (0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99)  # of recall, each up to the next


def table(header, rows):
    return "\n".join([f"| {' | '.join(header)} |", "|---" * len(header) + "|"] +
                     [f"| {' | '.join(row)} |" for row in rows])


def by_candidate(names, heads):
    rows = []
    for i, name in enumerate(names):
        tried = [head["trials"][i] for head in heads]
        masked = [trial for trial in tried if not trial["ran_dense"]]
        means = [f"{fmean(trial[score] for trial in masked):.3f}" if masked else ""
                 for score in ("recall", "error", "density")]
        rows.append([name, str(len(masked)), str(len(tried) - len(masked)), *means])
    return table(("candidate", "heads", "ran dense", "recall", "error", "density"), rows)


def by_recall(heads):
    masked = [trial for head in heads for trial in head["trials"] if not trial["ran_dense"]]
    rows = []
    for low, high in zip(BOUNDS, BOUNDS[1:] + (float("inf"),)):
        errors = [trial["error"] for trial in masked if low <= trial["recall"] < high]
        if errors:
            ninth = quantiles(errors, n=10)[-1] if len(errors) > 1 else errors[0]
            rows.append([f"{low:g} to {high:g}" if high < 1 else f"from {low:g} on", str(len(errors)),
                         f"{fmean(errors):.3f}", f"{ninth:.3f}"])
    return table(("recall", "masks", "mean error", "90th percentile"), rows)


def tables(path):
    """Ends the program with the reason where the file has no scores."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        heads = [head for layer in found["layers"] for head in layer]
        if found["kind"] == "hipattn-search" and heads:
            return f"{by_candidate(found['run']['candidates'], heads)}\n\n{by_recall(heads)}"
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        sys.exit(f"search_tables: '{path}' has no scores of hipattn-search: {error!r}")
    sys.exit(f"search_tables: '{path}' has no scores of hipattn-search")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scores", type=pathlib.Path, help="scores of hipattn-search")
    print(tables(parser.parse_args().scores))


if __name__ == "__main__":
    main()
