#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""bench/recall/report.py on a summary made by hand. Usage: recall_report_test.py <repo root>"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

ROOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
REPORT = ROOT / "bench" / "recall" / "report.py"


def setting(name, budget, right, mass):
    keys = ("kl", "tokens_as_dense", "fact_attended", "answer_mass", "answer_fact", "estimate_error",
            "estimate_bias", "attended", "scanned_heads", "search_bytes_per_head", "attended_bytes_per_head")
    entry = {key: 0.5 for key in keys}
    entry |= {"name": f"{name}:budget={budget}", "series": name, "budget": budget, "facts": 8, "right": right,
              "right_interval": [0.25, 0.75], "mass": mass, "search_bytes_per_head": 2048.0,
              "estimate_bias": None}
    return entry


SUMMARY = {
    "run": {"kind": "hipattn-recall", "model": {"name": "m.gguf"}, "text": {"name": "t.txt"}, "tokens": 7168,
            "seed": 1, "distractors": 2, "sinks": 64, "window": 256},
    "facts_asked": 9, "facts_dense_right": 8, "facts_dense_wrong": [3],
    "settings": [setting("tree", 256, 5, 0.8125), setting("tree", 512, 7, 0.9),
                 setting("oracle", 256, 8, 0.95)]}


class Report(unittest.TestCase):
    def run_report(self, text, *more):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "summary.json"
            path.write_text(text, encoding="utf-8")
            result = subprocess.run([sys.executable, REPORT, path, "--pictures", folder, *more],
                                    capture_output=True, text=True, check=False)
            picture = pathlib.Path(folder) / "recall_summary.svg"
            return result, picture.read_text(encoding="utf-8") if picture.exists() else None

    def test_table_has_a_row_per_setting(self):
        result, _ = self.run_report(json.dumps(SUMMARY))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("dense answers 8 of 9 facts", result.stdout)
        row = next(line for line in result.stdout.splitlines() if line.startswith("| `tree:budget=256`"))
        self.assertIn("| 5 of 8 (0.25-0.75) | 0.5000 | 0.50 | 0.812 |", row)
        self.assertIn("| - |", row)      # a mean of nothing
        self.assertIn("| 2.0 |", row)    # bytes as KB
        lines = [line for line in result.stdout.splitlines() if line.startswith("|")]
        self.assertEqual(len(lines), 5)
        self.assertEqual(len({line.count("|") for line in lines}), 1)

    def test_curves_go_over_the_budget(self):
        _, picture = self.run_report(json.dumps(SUMMARY))
        svg = ElementTree.fromstring(picture)
        lines = [e for e in svg.iter() if e.tag.endswith("polyline")]
        points = sorted(len(line.get("points").split()) for line in lines)
        self.assertEqual(points, [1, 1, 1, 1, 2, 2, 2, 2])  # oracle and tree in four panels
        self.assertIn("softmax mass attended", picture)

    def test_other_files_are_refused(self):
        for text in ("", "[]", "{}", '{"run": {"kind": "other"}}'):
            result, picture = self.run_report(text)
            self.assertEqual(result.returncode, 1)
            self.assertIn("is no summary of hipattn-recall", result.stderr)
            self.assertEqual(result.stdout, "")
            self.assertIsNone(picture)


if __name__ == "__main__":
    unittest.main()
