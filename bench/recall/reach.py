#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Whether the default selection answers as dense attention does, on many facts in several texts.

  bench/recall/reach.py --program HIPATTN_RECALL --model GGUF --text FILE [--text FILE]... --folder FOLDER [--facts 100] [--jobs 2]

Runs hipattn-recall on each text with 100 facts of one sentence (seed 2000, which nothing was tuned on), budgets of 128 to 1024
tokens, sinks 64, window 256. What was measured stays in FOLDER, and a run goes on from it. Then prints a row per budget with
95 % intervals (Wilson) and what must hold, and exits with 1 if something does not.
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys

BUDGETS = (128, 256, 512, 1024)
# Budget -> least of each: share of answers, mass and fact over the steps that predict the answer; most of KL.
WANTED = {128: {"right": 0.94},
          256: {"right": 0.98, "kl": 0.012},
          512: {"right": 1.0, "answer_mass": 0.915, "answer_fact": 0.99},
          1024: {"right": 1.0, "answer_mass": 0.95, "answer_fact": 0.99}}


def wilson(right, facts):
    """The 95 % interval of a share."""
    z = 1.959964
    share = right / facts
    centre = share + z * z / (2 * facts)
    half = z * math.sqrt(share * (1 - share) / facts + z * z / (4 * facts * facts))
    return (centre - half) / (1 + z * z / facts), (centre + half) / (1 + z * z / facts)


def measure(args, text):
    """The settings of one text's summary, by budget."""
    name = pathlib.Path(text).stem
    summary = args.folder / f"{name}.json"
    command = [args.program, "--model", args.model, "--text", text, "--facts", str(args.facts), "--jobs", str(args.jobs),
               "--seed", "2000", "--form", "secret-number", "--distractors", "0",
               "--out", str(args.folder / f"{name}.jsonl"), "--summary", str(summary),
               "--setting", "default:budget=" + "/".join(map(str, BUDGETS))]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"reach: hipattn-recall failed on '{text}'")
    return {setting["budget"]: setting for setting in json.loads(summary.read_text(encoding="utf-8"))["settings"]
            if setting["series"] == "default"}


def pooled(settings):
    """What several texts say together, each fact counting once."""
    facts = sum(setting["facts"] for setting in settings)
    if facts == 0:
        sys.exit("reach: dense attention answers no fact")
    mean = {key: sum(setting[key] * setting["facts"] for setting in settings) / facts
            for key in ("kl", "answer_mass", "answer_fact")}
    right = sum(setting["right"] for setting in settings)
    return {"facts": facts, "count": right, "right": right / facts, **mean}


def misses(budget, found):
    """What does not hold, in words."""
    for key, bound in WANTED[budget].items():
        if (found[key] > bound) if key == "kl" else (found[key] < bound):
            yield f"budget {budget}: {key} is {found[key]:.4f}, need {'at most' if key == 'kl' else 'at least'} {bound}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True, action="append")
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--facts", type=int, default=100, help="in each text")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    texts = [measure(args, text) for text in args.text]
    print("| budget | right (95 %) | KL | mass, answer | fact, answer |\n|---|---|---|---|---|")
    missed = []
    for budget in BUDGETS:
        found = pooled([text[budget] for text in texts])
        low, high = wilson(found["count"], found["facts"])
        print(f"| {budget} | {found['count']} of {found['facts']} ({low:.3f}-{high:.3f}) | {found['kl']:.4f} | "
              f"{found['answer_mass']:.3f} | {found['answer_fact']:.3f} |")
        missed += misses(budget, found)
    for miss in missed:
        print(f"reach: {miss}", file=sys.stderr)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
