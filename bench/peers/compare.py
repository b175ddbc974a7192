#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Compares hipattn with llama.cpp and torch on this machine, in one run, and writes the tables.

Every case runs hipattn and its peers in turns, each as a process of its own, the order reversed
from round to round, so that a slow minute of the machine hits all of them. A cell is the median
over the rounds of the medians over the steps of one process. Samples are appended to --raw as they
are made: a second run adds to them, and --report-only writes the report from the file alone.

  bench/peers/build_llama.sh DIR
  bench/peers/compare.py --hipattn-run build/release/examples/run/hipattn-run \\
    --hipattn-bench build/release/bench/hipattn-bench --llama DIR/llama_depth --model FILE.gguf \\
    --torch-python VENV/bin/python --prompt-file TEXT --raw DIR/samples.jsonl \\
    --out docs/measurements/peers.md

Programs that are not given are left out. Cases: decode, prompt, kernel_prefill, kernel_decode.
"""
import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

import report
from programs import (HipattnBench, HipattnRun, Llama, Sample, Torch, describe_machine, file_path,
                      program_path)

CASES = ("decode", "prompt", "kernel_prefill", "kernel_decode")
MOST_KERNEL_KV_BYTES = 4 << 30  # torch wants about this much for K and V; longer texts are skipped


class Samples:
    """Samples in memory and in a file of one JSON object per line."""

    def __init__(self, path):
        self.path = path
        self.all = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.all = [Sample(**json.loads(line)) for line in lines]

    def add(self, sample):
        self.all.append(sample)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(sample)) + "\n")
        print(f"{sample.case:14} {sample.threads} threads {sample.tokens:8} tokens "
              f"{sample.program:16} {sample.shape:22} {sample.wall_ms:11.3f} ms"
              f"  others {sample.others_cores:.2f} cores", flush=True)


def steps_at(depth):
    """Timed steps of one process: short steps need more of them for the same precision."""
    return 64 if depth == 0 else 24 if depth <= 1 << 14 else 8


def in_turns(samples, rounds, contenders):
    """Runs callables that return Samples, the order reversed in every other round.

    One that fails is reported and left out of the later rounds; the others go on.
    """
    failed = set()
    for round_index in range(rounds):
        ordered = list(enumerate(contenders))
        for index, contender in ordered if round_index % 2 == 0 else reversed(ordered):
            if index in failed:
                continue
            try:
                made = contender()
            except (RuntimeError, OSError, KeyError, ValueError,
                    subprocess.TimeoutExpired) as error:
                print(f"left out: {error!r}", file=sys.stderr)
                failed.add(index)
                continue
            for sample in made if isinstance(made, list) else [made]:
                samples.add(sample)


def measure_decode(options, samples):
    ours = HipattnRun(options.hipattn_run, options.model) if options.hipattn_run else None
    peer = Llama(options.llama, options.model) if options.llama else None
    for threads in options.threads:
        for depth in options.depths:
            steps = steps_at(depth)
            contenders = []
            if ours:
                contenders += [
                    lambda a=attention: ours.decode(depth, threads, a, max(steps, 32))
                    for attention in ("auto", "dense")]
            if peer:
                contenders += [
                    lambda f=flash: peer.decode(depth, threads, f, steps)
                    for flash in (False, True)]
            in_turns(samples, options.rounds, contenders)


def measure_prompt(options, samples):
    """hipattn, which runs first, tells how many tokens the text has; llama.cpp gets as many."""
    if not (options.hipattn_run and options.llama and options.prompt_file):
        return
    ours = HipattnRun(options.hipattn_run, options.model)
    peer = Llama(options.llama, options.model)
    for threads in options.threads:
        tokens = 0

        def ours_once():
            nonlocal tokens
            sample = ours.prompt(options.prompt_file, threads, "dense")
            tokens = sample.tokens
            return sample

        in_turns(samples, options.prompt_rounds, [
            ours_once,
            lambda: peer.prompt(tokens, threads, False),
            lambda: peer.prompt(tokens, threads, True)])


def measure_kernels(options, samples, case):
    """hipattn's benchmarks give the shapes; torch measures the same ones."""
    if not (options.hipattn_bench and options.torch_python):
        return
    ours, torch = HipattnBench(options.hipattn_bench), Torch(options.torch_python)
    decode = case == "kernel_decode"
    pattern = options.decode_pattern if decode else options.prefill_pattern
    counter = "bytes_per_second" if decode else "flops_per_second"
    for _ in range(options.rounds):
        for shape, sample in ours.measure(case, pattern, counter):
            samples.add(sample)
            element_bytes = 4 if shape.dtype == "f32" else 2
            kv_bytes = 2 * torch.KV_HEADS * shape.tokens * shape.head_dim * element_bytes
            if kv_bytes <= MOST_KERNEL_KV_BYTES:
                in_turns(samples, 1, [lambda s=shape: torch.measure(case, s)])


def parse_arguments():
    def counts(text):
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True, type=pathlib.Path, help="samples, JSON lines")
    parser.add_argument("--out", type=pathlib.Path, help="report (markdown, and an SVG beside it)")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    parser.add_argument("--hipattn-run", type=program_path)
    parser.add_argument("--hipattn-bench", type=program_path)
    parser.add_argument("--llama", type=program_path, help="llama_depth of build_llama.sh")
    parser.add_argument("--torch-python", type=program_path, help="a Python that has torch")
    parser.add_argument("--model", type=file_path, help="GGUF file")
    parser.add_argument("--prompt-file", type=file_path, help="text of about 8K tokens")
    parser.add_argument("--cases", default=",".join(CASES), help=f"({','.join(CASES)})")
    parser.add_argument("--threads", type=counts, default=[1, 2], help="(1,2)")
    parser.add_argument("--depths", type=counts, default=[0, 8192, 32768, 131072],
                        help="(0,8192,32768,131072)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--prompt-rounds", type=int, default=1,
                        help="rounds of whole prompts, which take minutes (1)")
    parser.add_argument("--prefill-pattern", default=r"^prefill/.*d:128/.*dtype:f32",
                        help="names of hipattn-bench's prefill to set beside torch's")
    parser.add_argument("--decode-pattern", default=r"^decode/.*d:128/.*group:4/",
                        help="names of hipattn-bench's decode to set beside torch's")
    options = parser.parse_args()
    if not options.report_only and (options.hipattn_run or options.llama) and not options.model:
        parser.error("--model is needed")
    options.cases = options.cases.split(",")
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(unknown)}")
    return options


def main():
    options = parse_arguments()
    samples = Samples(options.raw)
    if not options.report_only:
        if "decode" in options.cases:
            measure_decode(options, samples)
        if "prompt" in options.cases:
            measure_prompt(options, samples)
        for case in ("kernel_prefill", "kernel_decode"):
            if case in options.cases:
                measure_kernels(options, samples, case)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        picture = options.out.with_suffix(".svg")
        options.out.write_text(report.markdown(samples.all, describe_machine(), picture.name),
                               encoding="utf-8")
        picture.write_text(report.picture(samples.all), encoding="utf-8")
        print(options.out)


if __name__ == "__main__":
    main()
