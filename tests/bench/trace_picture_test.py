#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""bench/trace_picture.py on a trace made by hand. Usage: trace_picture_test.py <repo root>"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

ROOT = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".")
SVG = "{http://www.w3.org/2000/svg}"


def span(name, tid, begin, duration, **args):
    return {"ph": "X", "pid": 1, "name": name, "tid": tid, "ts": begin, "dur": duration, "args": args}


def attend(layer, begin):
    return span("attend", 1, begin, 100.0, layer=layer, tokens=1, texts=1)


EVENTS = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "hipattn"}},
          {"ph": "M", "pid": 1, "name": "thread_name", "tid": 1, "args": {"name": "host thread 1"}},
          {"ph": "M", "pid": 1, "name": "thread_name", "tid": 2, "args": {"name": "stream of fetches"}},
          span("sparse_decode", 1, 20.0, 30.0), span("wait for fetch", 1, 50.0, 10.5), attend(3, 0.0),
          span("fetch", 2, 10.0, 50.5, blocks=7, bytes=28672), attend(3, 200.0), attend(4, 300.0),
          {"ph": "C", "pid": 1, "name": "blocks", "ts": 400.0, "args": {"hit": 1}}]


class Pictures(unittest.TestCase):
    def draw(self, folder, trace, *arguments):
        (folder / "trace.json").write_text(trace, encoding="utf-8")
        return subprocess.run([sys.executable, ROOT / "bench/trace_picture.py", folder / "trace.json", "--out", folder / "out.svg",
                               *arguments], check=False, capture_output=True, text=True)

    def test_bars_lie_where_their_times_are(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for ending in ("\n]\n", ""):  # with its bracket, and of a program that died
                trace = "[\n" + ",\n".join(json.dumps(event) for event in EVENTS) + ending
                self.assertEqual(self.draw(folder, trace, "--layer", "3", "--step", "0").returncode, 0)
                svg = ElementTree.parse(folder / "out.svg")
                bars = {bar.find(f"{SVG}title").text.split(":")[0]: bar
                        for bar in svg.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None}
                self.assertEqual(set(bars), {"attend", "sparse_decode", "wait for fetch", "fetch"})
                x = {name: float(bar.get("x")) for name, bar in bars.items()}
                width = {name: float(bar.get("width")) for name, bar in bars.items()}
                per_us = width["attend"] / 100
                self.assertAlmostEqual(x["sparse_decode"] - x["attend"], 20 * per_us, delta=0.2)
                self.assertAlmostEqual(width["fetch"], 50.5 * per_us, delta=0.2)
                y = {name: int(bar.get("y")) for name, bar in bars.items()}
                self.assertLess(y["attend"], y["sparse_decode"])
                self.assertEqual(y["sparse_decode"], y["wait for fetch"])
                self.assertLess(y["sparse_decode"], y["fetch"])
                texts = {text.text for text in svg.iter(f"{SVG}text")}
                self.assertLessEqual({"fetch 7", "stream of fetches", "wait for fetch 10 us"}, texts)

    def test_a_step_that_is_not_there(self):
        with tempfile.TemporaryDirectory() as name:
            result = self.draw(pathlib.Path(name), json.dumps(EVENTS), "--layer", "3", "--step", "2")
            self.assertEqual(result.returncode, 1)
            self.assertIn("2 decode calls of layer 3", result.stderr)


if __name__ == "__main__":
    unittest.main()
