#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""The adapter of bench/peers reads what hipattn-run writes: peers_test.py <repo root> <hipattn-run> <write_gguf_corpus>."""
import pathlib
import statistics
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(sys.argv[1], "bench", "peers")))
import programs

RUN, WRITE_MODELS = sys.argv[2:4]


class Adapter(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        subprocess.run([WRITE_MODELS, self.folder], check=True)
        self.run = programs.HipattnRun(RUN, self.folder / "model")
        self.reports = []
        read = self.run._run

        def remember(*arguments):
            report, others = read(*arguments)
            self.reports.append(report)
            return report, others

        self.run._run = remember

    def test_decode_is_the_median_step(self):
        sample = self.run.decode(64, 1, "dense", 8)
        report = self.reports[0]
        self.assertEqual(len(report["decode_step_ms"]), 7)  # the first token comes from the prompt
        self.assertEqual(sample.wall_ms, statistics.median(report["decode_step_ms"]))
        self.assertAlmostEqual(sample.mean_ms, statistics.fmean(report["decode_step_ms"]), delta=1e-9 * sample.mean_ms)
        self.assertAlmostEqual(sample.cpu_ms, 1e3 * report["decode_cpu_seconds"] / 7, delta=1e-9 * sample.cpu_ms)
        self.assertEqual((sample.program, sample.threads, sample.tokens), ("hipattn dense", 1, 64))

    def test_prompt(self):
        text = self.folder / "text"
        text.write_text("In the beginning", encoding="utf-8")
        sample = self.run.prompt(text, 1, "auto")
        report = self.reports[0]
        self.assertEqual(sample.tokens, report["prompt_tokens"])
        self.assertEqual(sample.wall_ms, 1e3 * report["prefill_seconds"])
        self.assertEqual(sample.cpu_ms, 1e3 * report["prefill_cpu_seconds"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
