#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang-tidy over src/ and examples/, several files at a time; fails on any warning.

Usage: run_clang_tidy.py <repo root> <build folder> <clang-tidy> [<part of a path>...]. A kernel source is checked once, as the portable set.
"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys


def commands(root, build):
    """One compile command per source file."""
    chosen = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"]).resolve()
        if not path.is_relative_to(root) or path.relative_to(root).parts[0] not in ("src", "examples"):
            continue
        if str(path) not in chosen or "hipattn_kernels_portable" in entry.get("command", ""):
            chosen[str(path)] = entry
    return chosen


def main():
    root, build, program = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve(), sys.argv[3]
    parts = sys.argv[4:]
    chosen = commands(root, build)
    paths = sorted(path for path in chosen if not parts or any(part in path for part in parts))
    database = build / "tidy"
    database.mkdir(exist_ok=True)
    (database / "compile_commands.json").write_text(json.dumps([chosen[path] for path in paths]))

    def check(path):
        command = [program, "--quiet", "-p", str(database), path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for number, (path, result) in enumerate(zip(paths, pool.map(check, paths)), 1):
            if result.returncode != 0:
                failed += 1
                print(result.stdout)
            print(f"[{number}/{len(paths)}] {os.path.relpath(path, root)}{': failed' if result.returncode else ''}", flush=True)
    print(f"{len(paths)} files, {failed} with warnings")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
