#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an object of kernels defines a symbol that an object of another instruction set could define as well.

The linker keeps one copy of an inline function or template: were it compiled with AVX-512 in one object and kept, it would run on
CPUs that lack it. So whatever such an object exports is in the namespace of its instruction set, hipattn::host::<set>.
Usage: check_kernel_symbols.py <instruction set> <object>...
"""
import re
import subprocess
import sys

import source_tree

# Kinds that nm prints for what other objects can see: text, data, weak, unique, common. Lower-case ones (but v, w) are local.
SHARED_KINDS = set("TDBRGSCVvWwu")


def main():
    isa, objects = sys.argv[1], sys.argv[2:]
    own = re.compile(rf"^((guard variable|vtable|typeinfo|typeinfo name) for )?(\S.*\s)?\(?hipattn::host::{isa}::|^DW\.ref\.")
    problems, seen = [], 0
    for name in objects:
        output = subprocess.run(["nm", "--demangle", "--defined-only", name], check=True, capture_output=True, text=True).stdout
        for line in output.splitlines():
            match = re.match(r"^[0-9a-f]*\s+(\w)\s+(.*)$", line)
            if match and match.group(1) in SHARED_KINDS:
                seen += 1
                if not own.match(match.group(2)):
                    problems.append(f"{name}: '{match.group(2)}' ({match.group(1)}) is outside hipattn::host::{isa}")
    if not seen:
        problems.append(f"no symbol of {isa} found in {len(objects)} objects: nothing was checked")
    return source_tree.report(problems)


if __name__ == "__main__":
    sys.exit(main())
