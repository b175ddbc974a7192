#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""bench/search_pictures.py and search_tables.py on results made by hand. Usage: search_pictures_test.py <repo root>"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

ROOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
PICTURES = ROOT / "bench" / "search_pictures.py"
TABLES = ROOT / "bench" / "search_tables.py"
SVG = "{http://www.w3.org/2000/svg}"
LAYERS, HEADS, TILES = 3, 4, 5


def head(label, pattern, density, recall):
    return {"label": label, "pattern": pattern, "density": density, "recall": recall}


def scores():
    window = head("a-shape 64,256", ["stream_llm", 64, 256], 0.5, 0.98)
    dense = head("dense", ["stream_llm", 1 << 24, 1 << 24], 1.0, 1.0)
    return {"kind": "hipattn-search", "layers": [[window] * (HEADS - 1) + [dense] for _ in range(LAYERS)]}


def masks():
    shape = head("a-shape 64,64", ["stream_llm", 64, 64], 0.5, 0.9) | {"layer": 1, "head": 2}
    shape["dense"] = [[0.5] * (row + 1) for row in range(TILES)]
    shape["attended"] = [[0.5 if key == 0 or key + 1 >= row else 0 for key in range(row + 1)] for row in range(TILES)]
    return {"kind": "hipattn-search pictures", "tokens": 320, "tile_tokens": 64, "heads": [shape]}


class Pictures(unittest.TestCase):
    def run_script(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "found.json"
            path.write_text(text, encoding="utf-8")
            out = pathlib.Path(folder) / "found.svg"
            ran = subprocess.run([sys.executable, PICTURES, path, "--out", out], capture_output=True, text=True,
                                 check=False)
            return ran, out.read_text(encoding="utf-8") if out.exists() else None

    def draw(self, found):
        ran, svg = self.run_script(json.dumps(found))
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return svg, ElementTree.fromstring(svg)

    def test_every_head_has_pattern_density_and_recall(self):
        svg, root = self.draw(scores())
        rects = list(root.iter(f"{SVG}rect"))[1:]  # without the background
        self.assertEqual(len(rects), 3 * LAYERS * HEADS + 4)  # and the legend
        cells = {rect.find(f"{SVG}title").text: rect.get("fill") for rect in rects[:LAYERS * HEADS]}
        window, dense = "a-shape 64,256, density 0.500, recall 0.9800", "dense, density 1.000, recall 1.0000"
        self.assertNotEqual(cells[f"layer 0 head 0: {window}"], cells[f"layer 0 head 3: {dense}"])
        self.assertEqual(cells[f"layer 2 head 3: {dense}"], cells[f"layer 0 head 3: {dense}"])
        densities = [rect.get("fill") for rect in rects[LAYERS * HEADS:2 * LAYERS * HEADS]]
        self.assertEqual(densities, densities[:HEADS] * LAYERS)
        self.assertNotEqual(densities[0], densities[HEADS - 1])
        self.assertIn(f"A-shape: {LAYERS * (HEADS - 1)} heads", svg)
        self.assertIn("mean density 0.625, mean recall 0.985", svg)

    def test_masks_show_what_is_attended(self):
        svg, root = self.draw(masks())
        paths = [path.get("d") for path in root.iter(f"{SVG}path")]
        dense = "".join(f"M0 {row}h{row + 1}" for row in range(TILES))
        self.assertEqual(paths, [dense, "M0 0h1M0 1h2M0 2h3M0 3h1M2 3h2M0 4h1M3 4h2"])
        self.assertIn("layer 1 head 2", svg)

    def test_little_mass_is_lighter(self):
        found = masks()
        found["heads"][0]["attended"][4] = [1e-5, 5e-4, 5e-3, 5e-2, 0.9]
        _, root = self.draw(found)
        strokes = [path.get("stroke") for path in root.iter(f"{SVG}path")]
        self.assertEqual(len(set(strokes)), 5)

    def test_other_files_are_refused(self):
        for text in ("", "[]", "{}", '{"kind": "hipattn-search"}', '{"kind": "hipattn-search", "layers": []}',
                     '{"kind": "hipattn-search pictures"}'):
            ran, svg = self.run_script(text)
            self.assertEqual(ran.returncode, 1, text)
            self.assertIn("no file of hipattn-search", ran.stderr)
            self.assertIsNone(svg)


def trial(recall, error, density, ran_dense=False):
    return {"recall": recall, "error": error, "density": density, "ran_dense": ran_dense}


class Tables(unittest.TestCase):
    def run_script(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "found.scores.json"
            path.write_text(text, encoding="utf-8")
            return subprocess.run([sys.executable, TABLES, path], capture_output=True, text=True, check=False)

    def test_what_ran_dense_counts_for_no_candidate(self):
        layer = [{"trials": [trial(0.96, 0.02, 0.2), trial(0.4, 0.5, 0.1)]},
                 {"trials": [trial(1, 0, 1, ran_dense=True), trial(0.6, 0.3, 0.3)]}]
        found = {"kind": "hipattn-search", "run": {"candidates": ["a", "b"]}, "layers": [layer]}
        ran = self.run_script(json.dumps(found))
        self.assertEqual(ran.returncode, 0, ran.stderr)
        rows = ran.stdout.splitlines()
        self.assertIn("| a | 1 | 1 | 0.960 | 0.020 | 0.200 |", rows)
        self.assertIn("| b | 2 | 0 | 0.500 | 0.400 | 0.200 |", rows)
        self.assertIn("| 0.95 to 0.975 | 1 | 0.020 | 0.020 |", rows)
        self.assertNotIn("from 0.99 on", ran.stdout)

    def test_other_files_are_refused(self):
        for text in ("", "[]", "{}", '{"kind": "hipattn-search", "layers": []}',
                     '{"kind": "hipattn-search", "run": {}, "layers": [[{}]]}'):
            ran = self.run_script(text)
            self.assertEqual(ran.returncode, 1, text)
            self.assertIn("no scores of hipattn-search", ran.stderr)


if __name__ == "__main__":
    unittest.main()
