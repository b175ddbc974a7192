#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""A decode step beside a process that keeps one core busy, against the same step without it.

Threads that spin while they wait lose whole time slices to the busy process; threads that sleep
lose at most its share. The target for hipattn is 2.5 times the quiet time. For comparison llama.cpp
is measured with its default OpenMP waiting and with OMP_WAIT_POLICY=passive.

  bench/peers/contention.py --hipattn-run PROGRAM --llama DIR/llama_depth --model FILE.gguf \\
    --raw DIR/contention.jsonl --out docs/measurements/contention.md

Quiet and busy runs alternate. The busy process is bound to the last core (--unbound leaves its
place to the scheduler). Its own share of that core is reported: a program that starves it is no
good neighbour either.
"""
import argparse
import dataclasses
import json
import multiprocessing
import os
import pathlib
import statistics
import sys
import time

from programs import HipattnRun, Llama, describe_machine, file_path, program_path
from report import number, table

TARGET = 2.5
WAITING = {"default": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}  # of llama.cpp's threads


def _spin(core, ready):
    if core is not None:
        os.sched_setaffinity(0, {core})
    ready.set()
    while True:
        pass


class BusyProcess:
    """Keeps one core busy inside a with statement; `share` is how much of a core it got."""

    def __init__(self, core):
        self.core = core
        self.share = 0.0

    def _cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text("utf-8").rsplit(")", 1)[1]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        ready = multiprocessing.Event()
        self.process = multiprocessing.Process(target=_spin, args=(self.core, ready), daemon=True)
        self.process.start()
        ready.wait()
        self.began, self.cpu = time.monotonic(), self._cpu_seconds()
        return self

    def __exit__(self, *_):
        self.share = (self._cpu_seconds() - self.cpu) / (time.monotonic() - self.began)
        self.process.terminate()
        self.process.join()


def contenders(options):
    """name -> callable that returns a Sample of one process."""
    found = {}
    for depth in options.depths:
        if options.hipattn_run:
            ours = HipattnRun(options.hipattn_run, options.model)
            for attention in ("auto", "dense"):
                found[f"hipattn {attention}, depth {depth}"] = (
                    lambda d=depth, a=attention: ours.decode(
                        d, options.threads, a, options.steps, case="contention"))
        if options.llama:
            peer = Llama(options.llama, options.model)
            for waiting, environment in WAITING.items():
                found[f"llama.cpp, {waiting} waiting, depth {depth}"] = (
                    lambda d=depth, e=environment: peer.decode(
                        d, options.threads, True, options.steps, options.budget, e, "contention"))
    return found


def measure(options, core):
    """Appends {"name", "busy", "share", sample...} lines to the raw file."""
    with options.raw.open("a", encoding="utf-8") as file:
        for _ in range(options.rounds):
            for name, run_once in contenders(options).items():
                for busy in (False, True):
                    share = 0.0
                    if busy:
                        with BusyProcess(core) as neighbour:
                            sample = run_once()
                        share = neighbour.share
                    else:
                        sample = run_once()
                    record = {"name": name, "busy": busy, "share": share,
                              **dataclasses.asdict(sample)}
                    file.write(json.dumps(record) + "\n")
                    file.flush()
                    print(f"{name:44} {'busy ' if busy else 'quiet'} {sample.mean_ms:10.3f} ms  "
                          f"others {sample.others_cores:.2f} cores", flush=True)


def markdown(records, machine, threads):
    rows = []
    for name in dict.fromkeys(record["name"] for record in records):
        mine = [record for record in records if record["name"] == name]
        quiet = [record["mean_ms"] for record in mine if not record["busy"]]
        busy = [record["mean_ms"] for record in mine if record["busy"]]
        share = statistics.median(record["share"] for record in mine if record["busy"])
        ratio = statistics.median(busy) / statistics.median(quiet)
        verdict = "met" if ratio <= TARGET else "**missed**"
        rows.append([name, number(statistics.median(quiet)), number(statistics.median(busy)),
                     f"{ratio:.2f}x", f"{share:.2f}",
                     verdict if name.startswith("hipattn") else ""])
    head = ["program", "quiet, ms", "busy, ms", "busy / quiet", "cores the busy process got",
            f"target {TARGET}x"]
    return "\n".join([
        "# A decode step beside a busy process", "",
        *(f"- {key}: {value}" for key, value in machine.items()),
        f"- threads: {threads}", "",
        "One other process keeps one core busy. Mean time of a step in a run, median of the runs,",
        "quiet and busy in turns. Written by `bench/peers/contention.py`; its `--help` says how to",
        "repeat it.", "",
        *table(head, rows)]).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hipattn-run", type=program_path)
    parser.add_argument("--llama", type=program_path, help="llama_depth of build_llama.sh")
    parser.add_argument("--model", type=file_path, required=True, help="GGUF file")
    parser.add_argument("--raw", type=pathlib.Path, required=True, help="records, JSON lines")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="report (markdown)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="of the measured program (all cores)")
    parser.add_argument("--depths", default="0,8192", help="KV depths (0,8192)")
    parser.add_argument("--steps", type=int, default=64, help="decode steps of one process (64)")
    parser.add_argument("--budget", type=int, default=20,
                        help="seconds after which llama.cpp starts no further step (20)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--unbound", action="store_true", help="the busy process may change cores")
    options = parser.parse_args()
    options.depths = [int(text) for text in options.depths.split(",")]
    if not (options.hipattn_run or options.llama):
        sys.exit("contention.py: neither --hipattn-run nor --llama is given")
    core = None if options.unbound else max(os.sched_getaffinity(0))
    measure(options, core)
    records = [json.loads(line) for line in options.raw.read_text("utf-8").splitlines()]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(markdown(records, describe_machine(), options.threads), encoding="utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
