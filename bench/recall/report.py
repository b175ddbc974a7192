#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""The summaries of hipattn-recall as markdown tables and curves over the budget.

  bench/recall/report.py SUMMARY.json... [--pictures FOLDER]

Tables go to stdout, one per summary; --pictures writes recall_<name of the summary>.svg for each.
"""
import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from svg_chart import Panel, render  # noqa: E402  (lies one folder up)

# Title, key of the summary and form of a cell; answers come before them.
COLUMNS = (("KL", "kl", "{:.4f}"),
           ("tokens as dense", "tokens_as_dense", "{:.2f}"),
           ("mass", "mass", "{:.3f}"),
           ("fact", "fact_attended", "{:.3f}"),
           ("mass, answer", "answer_mass", "{:.3f}"),
           ("fact, answer", "answer_fact", "{:.3f}"),
           ("estimate: error", "estimate_error", "{:.3f}"),
           ("bias", "estimate_bias", "{:+.3f}"),
           ("attended", "attended", "{:.3f}"),
           ("scanned", "scanned_heads", "{:.1f}"),
           ("search KB", "search_bytes_per_head", "{:.1f}"),
           ("KV KB", "attended_bytes_per_head", "{:.1f}"))
KILO = ("search_bytes_per_head", "attended_bytes_per_head")
# Title, axis, value of a setting, and how the axis looks.
PANELS = (("answers right", "share of facts", lambda s: s["right"] / s["facts"] if s["facts"] else None, {}),
          ("KL of the first answer token", "nats", lambda s: s["kl"], {"log_y": True}),
          ("softmax mass attended", "share of mass", lambda s: s["mass"], {"y_min": 0.5}),
          ("mass of the fact attended", "share of the fact's mass", lambda s: s["fact_attended"], {}))


def read_summary(path):
    """The summary in a file; ends the program with the reason if there is none."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["run"]["kind"] != "hipattn-recall":
            raise KeyError("kind")
        return summary
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"report: '{path}' is no summary of hipattn-recall: {error!r}")


def cell(setting, key, form):
    value = setting[key]
    if value is None:
        return "-"
    return form.format(value / 1024 if key in KILO else value)


def answers(setting):
    low, high = setting["right_interval"]
    return f"{setting['right']} of {setting['facts']} ({low:.2f}-{high:.2f})"


def table(summary):
    run = summary["run"]
    lines = [f"{run['model']['name']}, {run['text']['name']}, {run['tokens']} tokens, seed {run['seed']}, "
             f"{run['distractors']} distractors, sinks {run['sinks']}, window {run['window']}; dense answers "
             f"{summary['facts_dense_right']} of {summary['facts_asked']} facts.",
             "",
             "| setting | right (95 %) | " + " | ".join(title for title, _, _ in COLUMNS) + " |",
             "|---" * (len(COLUMNS) + 2) + "|"]
    for setting in summary["settings"]:
        cells = [f"`{setting['name']}`", answers(setting)]
        cells += [cell(setting, key, form) for _, key, form in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def curves(summary):
    """One panel per measure, a curve per series; settings without a budget are in none."""
    panels = []
    for title, y_label, value, axis in PANELS:
        panel = Panel(title=title, x_label="budget, tokens", y_label=y_label, **axis)
        for setting in summary["settings"]:
            if setting["budget"] and value(setting) is not None:
                panel.series.setdefault(setting["series"], []).append((setting["budget"], value(setting)))
        panels.append(panel)
    return panels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("summaries", nargs="+", type=pathlib.Path, help="files of hipattn-recall --summary")
    parser.add_argument("--pictures", type=pathlib.Path, help="folder for the curves")
    options = parser.parse_args()
    summaries = {path: read_summary(path) for path in options.summaries}
    for path, summary in summaries.items():
        print(table(summary))
        panels = curves(summary)
        if options.pictures and any(panel.series for panel in panels):
            options.pictures.mkdir(parents=True, exist_ok=True)
            title = f"{summary['run']['text']['name']}, {summary['facts_dense_right']} facts"
            picture = options.pictures / f"recall_{path.stem}.svg"
            picture.write_text(render(title, panels), encoding="utf-8")


if __name__ == "__main__":
    main()
