#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""bench/recall_pictures.py on a result made by hand. Usage: recall_pictures_test.py <repo root>"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

ROOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
PICTURES = ROOT / "bench" / "recall_pictures.py"
SVG = "{http://www.w3.org/2000/svg}"
LAYERS, Q_HEADS, KV_HEADS, BLOCKS = 3, 4, 2, 40


def result():
    q_heads = [{"layer": i // Q_HEADS, "q_head": i % Q_HEADS, "estimate": 0.9, "truth": 0.92, "error": 0.02,
                "least_truth": 0.8} for i in range(LAYERS * Q_HEADS)]
    kv_heads = [{"layer": i // KV_HEADS, "kv_head": i % KV_HEADS, "audited_loss": 0.001, "mode": "tree",
                 "attended_steps": [8] + [0] * (BLOCKS - 2) + [8]} for i in range(LAYERS * KV_HEADS)]
    return {"recall": {"steps": 8, "block_tokens": 16, "num_layers": LAYERS, "num_q_heads": Q_HEADS,
                       "num_kv_heads": KV_HEADS, "estimate": 0.9, "truth": 0.92, "error": 0.02,
                       "q_heads": q_heads, "kv_heads": kv_heads}}


class Pictures(unittest.TestCase):
    def run_script(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "run.json"
            path.write_text(text, encoding="utf-8")
            out = pathlib.Path(folder) / "recall.svg"
            ran = subprocess.run([sys.executable, PICTURES, path, "--out", out], capture_output=True, text=True,
                                 check=False)
            return ran, out.read_text(encoding="utf-8") if out.exists() else None

    def colours(self, run):
        ran, svg = self.run_script(json.dumps(run))
        self.assertEqual(ran.returncode, 0, ran.stderr)
        cells = {}
        for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
            title = rect.find(f"{SVG}title")
            if title is not None:
                cells.setdefault(title.text, []).append(rect.get("fill"))
        return svg, cells

    def test_every_head_is_a_cell(self):
        svg, cells = self.colours(result())
        self.assertEqual(sum(len(fills) for fills in cells.values()), LAYERS * (Q_HEADS + KV_HEADS))
        self.assertIn("layer 2 head 3: 0.9200", cells)
        self.assertIn("mean mass 0.920, mean error of the estimate 0.020", svg)

    def test_less_mass_and_more_loss_are_redder(self):
        run = result()
        run["recall"]["q_heads"][0]["truth"] = 0.55
        run["recall"]["kv_heads"][1]["audited_loss"] = 0.09
        _, cells = self.colours(run)
        def green(fill):
            return int(fill[3:5], 16)
        self.assertLess(green(cells["layer 0 head 0: 0.5500"][0]), green(cells["layer 1 head 0: 0.9200"][0]))
        self.assertLess(green(cells["layer 0 head 1: 0.0900"][0]), green(cells["layer 1 head 1: 0.0010"][0]))

    def test_blocks_lie_where_the_text_has_them(self):
        svg, _ = self.colours(result())
        paths = [path.get("d") for path in ElementTree.fromstring(svg).iter(f"{SVG}path")]
        self.assertEqual(paths, ["".join(f"M0 {i}h1M{BLOCKS - 1} {i}h1" for i in range(LAYERS * KV_HEADS))])

    def test_what_was_not_verified_is_estimated(self):
        run = result()
        run["recall"] |= {"truth": None, "error": None}
        for head in run["recall"]["kv_heads"]:
            head["audited_loss"] = None
        svg, cells = self.colours(run)
        self.assertIn("layer 0 head 0: 0.9000", cells)
        self.assertIn("layer 0 head 0: unknown", cells)
        self.assertNotIn("mean error", svg)

    def test_other_files_are_refused(self):
        for text, reason in (("", "no result"), ("[]", "no result"), ("{}", "no result"),
                             ('{"recall": null}', "--verify-recall")):
            ran, svg = self.run_script(text)
            self.assertEqual(ran.returncode, 1)
            self.assertIn(reason, ran.stderr)
            self.assertIsNone(svg)


if __name__ == "__main__":
    unittest.main()
