# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""The programs that are compared, each behind a small adapter, and the machine they run on.

An adapter starts one process, waits for it and returns Samples. What a process reports about itself
is all that is known about the other program; only this file knows option names and result formats.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

ISA_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
             "avx512_fp16", "amx_bf16", "asimd", "sve", "bf16")


@dataclass
class Sample:
    """The steps of one process; wall_ms and cpu_ms are medians."""

    case: str  # decode, prompt, kernel_decode, kernel_prefill, contention
    program: str  # "hipattn sparse", "llama.cpp flash", "torch view", ...
    threads: int
    tokens: int  # KV depth, prompt length or text length of a kernel
    wall_ms: float
    cpu_ms: float | None = None  # of all threads; None where the program does not tell
    mean_ms: float = 0.0  # of the wall time: what a reader of the text waits
    work: float = 0.0  # bytes read or FLOPs of one step, for rates
    shape: str = ""  # geometry of a kernel, "d 128, group 4, f32"
    others_cores: float = 0.0  # what all other processes used meanwhile
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()))


# ------------------------------------------------------------------------------ types of arguments

def program_path(text):
    """Absolute, but links are kept: the python of a virtual environment is one."""
    if not os.access(text, os.X_OK):
        raise argparse.ArgumentTypeError(f"not a program: {text}")
    return pathlib.Path(text).absolute()


def file_path(text):
    if not pathlib.Path(text).is_file():
        raise argparse.ArgumentTypeError(f"no such file: {text}")
    return pathlib.Path(text).absolute()


# ------------------------------------------------------------------------------------- the machine

def describe_machine():
    """Lines that say what was measured on, without naming the machine."""
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", text.split("\n\n")[0], re.MULTILINE))
    flags = (found.get("flags") or found.get("Features", "")).split()
    memory = pathlib.Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    family = ", ".join(f"{key.removeprefix('cpu ')} {found[key]}"
                       for key in ("cpu family", "model", "stepping") if key in found)
    return {
        "processor": f"{found.get('model name', 'unknown')} ({family})",
        "cores": f"{len(os.sched_getaffinity(0))}" + (
            ", in a virtual machine" if "hypervisor" in flags else ""),
        "instruction sets": " ".join(flag for flag in ISA_FLAGS if flag in flags) or "none listed",
        "memory": f"{int(memory) / (1 << 20):.0f} GiB",
        "kernel": os.uname().release,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _busy_seconds():
    """CPU seconds that all processes together have used since boot."""
    ticks = [int(n) for n in pathlib.Path("/proc/stat").read_text("utf-8").split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def run(command, environment=None, timeout=1800):
    """Runs a program; returns its stdout and the cores that other processes kept busy meanwhile."""
    busy, wall = _busy_seconds(), time.monotonic()
    own = os.times()
    command = [str(part) for part in command]
    done = subprocess.run(command, env={**os.environ, **(environment or {})},
                          capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\nfailed ({done.returncode}): "
                           f"{done.stderr.strip()[-500:]}")
    now = os.times()
    own_seconds = (now.children_user + now.children_system + now.user + now.system
                   - own.children_user - own.children_system - own.user - own.system)
    seconds = time.monotonic() - wall
    return done.stdout, max(0.0, (_busy_seconds() - busy - own_seconds) / seconds)


def _median_sample(result, others, **identity):
    return Sample(wall_ms=statistics.median(result["wall_ms"]),
                  cpu_ms=statistics.median(result["cpu_ms"]),
                  mean_ms=statistics.fmean(result["wall_ms"]), others_cores=others, **identity)


# -------------------------------------------------------------------------------------- llama.cpp

class Llama:
    """llama.cpp through llama_depth; f16 KV, flash attention on or off, its own thread waiting."""

    def __init__(self, program, model):
        self.program, self.model = program, model

    @staticmethod
    def name(flash):
        return f"llama.cpp {'flash' if flash else 'plain'}"

    def _run(self, flash, threads, arguments, environment=None):
        text, others = run([self.program, "--model", self.model, "--threads", threads,
                            "--flash", "on" if flash else "off", *arguments], environment)
        return json.loads(text), others

    def version(self):
        return self._run(True, 1, ["--steps", 1])[0]["version"]

    def decode(self, depth, threads, flash, steps, budget=5, environment=None, case="decode"):
        report, others = self._run(flash, threads, ["--depths", depth, "--steps", steps,
                                                    "--budget", budget], environment)
        return _median_sample(report["results"][0], others, case=case, program=self.name(flash),
                              threads=threads, tokens=depth)

    def prompt(self, tokens, threads, flash):
        report, others = self._run(flash, threads, ["--steps", 0, "--prompt", tokens])
        return _median_sample(report["results"][0], others, case="prompt",
                              program=self.name(flash), threads=threads, tokens=tokens)


# -------------------------------------------------------------------------------------- hipattn-run

class HipattnRun:
    """hipattn-run: decode at a depth reached by synthetic KV rows, and prefill of a real prompt."""

    def __init__(self, program, model):
        self.program, self.model = program, model

    def _run(self, threads, attention, arguments):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "result.json")
            _, others = run([self.program, "--model", self.model, "--threads", threads,
                             "--attention", attention, "--temperature", 0, "--quiet",
                             "--json", path, *arguments])
            return json.loads(path.read_text(encoding="utf-8")), others

    def decode(self, depth, threads, attention, steps, case="decode"):
        report, others = self._run(threads, attention, ["--depth", depth, "--prompt", "The",
                                                        "--ignore-end", "--max-new-tokens", steps])
        cpu = report["decode_cpu_seconds"]
        mean_ms = 1e3 / report["decode_tokens_per_second"]
        return Sample(case=case, program=f"hipattn {attention}", threads=threads, tokens=depth,
                      wall_ms=statistics.median(report["decode_step_ms"]), mean_ms=mean_ms,
                      cpu_ms=mean_ms * cpu / report["decode_seconds"],
                      others_cores=others)

    def prompt(self, prompt_file, threads, attention):
        """The prompt's own length in tokens is in the Sample."""
        report, others = self._run(threads, attention, ["--prompt-file", prompt_file,
                                                        "--max-new-tokens", 1])
        return Sample(case="prompt", program=f"hipattn {attention}", threads=threads,
                      tokens=report["prompt_tokens"], wall_ms=1e3 * report["prefill_seconds"],
                      cpu_ms=1e3 * report["prefill_cpu_seconds"], others_cores=others)


# ---------------------------------------------------------------------------------------- kernels

def parse_benchmark_name(name):
    """decode/T:8192/d:64 -> ("decode", {"T": "8192", "d": "64"})."""
    operation, *parts = name.split("/")
    return operation, dict(part.split(":", 1) for part in parts if ":" in part)


@dataclass(frozen=True)
class KernelShape:
    tokens: int
    head_dim: int
    group: int
    dtype: str
    threads: int

    def label(self):
        return f"d {self.head_dim}, group {self.group}, {self.dtype}"


class HipattnBench:
    """hipattn-bench, a google-benchmark program; `pattern` selects its benchmarks by name."""

    def __init__(self, program):
        self.program = program

    def measure(self, case, pattern, counter):
        """[(shape, Sample)] of the benchmarks that `pattern` matches; `counter` is their rate."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "result.json")
            _, others = run([self.program, f"--benchmark_filter={pattern}",
                             f"--benchmark_out={path}", "--benchmark_out_format=json"])
            benchmarks = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        units = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
        found = []
        for row in benchmarks:
            _, keys = parse_benchmark_name(row.get("run_name", row["name"]))
            is_value = row.get("aggregate_name", "median") == "median"  # not a mean or a deviation
            if not is_value or counter not in row or "T" not in keys:
                continue
            shape = KernelShape(int(keys["T"]), int(keys.get("d", 128)), int(keys.get("group", 1)),
                                keys.get("dtype", "f32"), int(keys.get("threads", 1)))
            wall_ms = row["real_time"] * units[row["time_unit"]]
            found.append((shape, Sample(case=case, program="hipattn", threads=shape.threads,
                                        tokens=shape.tokens, wall_ms=wall_ms,
                                        work=row[counter] * wall_ms * 1e-3, shape=shape.label(),
                                        others_cores=others)))
        return found


class Torch:
    """torch_sdpa.py under a Python that has torch."""

    KV_HEADS = 8

    def __init__(self, python):
        self.python = python
        self.script = pathlib.Path(__file__).resolve().parent / "torch_sdpa.py"

    def measure(self, case, shape):
        """Samples of the view form and the natural form for one shape."""
        phase = case.removeprefix("kernel_")
        text, others = run([self.python, "-W", "ignore", self.script, phase,
                            "--tokens", shape.tokens, "--dtype", shape.dtype,
                            "--threads", shape.threads, "--head-dim", shape.head_dim,
                            "--kv-heads", self.KV_HEADS, "--q-heads", self.KV_HEADS * shape.group])
        work = "kv_bytes" if phase == "decode" else "flops"
        return [_median_sample(result, others, case=case, program=f"torch {result['form']}",
                               threads=shape.threads, tokens=shape.tokens, work=result[work],
                               shape=shape.label())
                for result in json.loads(text)["results"]]
