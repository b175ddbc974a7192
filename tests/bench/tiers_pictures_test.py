#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""bench/tiers/hit_rates.py on results made by hand. Usage: tiers_pictures_test.py <repo root>"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

ROOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
SVG = "{http://www.w3.org/2000/svg}"
SIZES = (0.25, 1, 2, 4, 8)


def replay():
    predicted = [{"predictor": name, "size": size, "hit_rate": 0.75, "switches_off": off}
                 for name in ("last", "markov") for size in (1, 2, 4) for off in (False, True)]
    return {"policies": {name: [[size, size / 16] for size in SIZES] for name in ("lru", "use-queue", "best possible")},
            "predictors": predicted}


class Pictures(unittest.TestCase):
    def test_a_curve_for_each_policy_and_predictor(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for trace in ("a.512.json", "b.2048.json"):
                (folder / trace).write_text(json.dumps(replay()), encoding="utf-8")
            subprocess.run([sys.executable, ROOT / "bench/tiers/hit_rates.py", folder / "a.512.json", folder / "b.2048.json",
                            "--out", folder], check=True)
            for picture, curves, points in (("policies", 3, len(SIZES)), ("predictors", 4, 3)):
                svg = ElementTree.parse(folder / f"tiers_{picture}.svg")
                lines = [line.get("points").split() for line in svg.iter(f"{SVG}polyline")]
                self.assertEqual(len(lines), 2 * curves)
                self.assertTrue(all(len(line) == points for line in lines))
                xs = [float(point.split(",")[0]) for point in lines[0]]
                self.assertTrue(all(left < right for left, right in zip(xs, xs[1:])), xs)
                texts = {text.text for text in svg.iter(f"{SVG}text")}
                self.assertLessEqual({"a.512", "b.2048"}, texts)


if __name__ == "__main__":
    unittest.main()
