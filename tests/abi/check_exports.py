#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails unless the shared library exports exactly the listed symbols, and the header declares exactly these.

Usage: check_exports.py <libhipattn.so> <hipattn.h> <exported_symbols.txt>. The list only ever grows within a major version.
"""
import pathlib
import re
import subprocess
import sys

library, header, listed_path = sys.argv[1:4]
listed = pathlib.Path(listed_path).read_text().split()
table = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
# Version names (HIPATTN_0) are absolute symbols; the rest is what a program can link to.
exported = sorted(line.split()[-1].split("@")[0] for line in table.splitlines() if line.split()[-2] not in ("A",))
text = re.sub(r"/\*.*?\*/", "", pathlib.Path(header).read_text(), flags=re.DOTALL)
declared = sorted(re.findall(r"HIPATTN_API [\w *]*?\b(hipattn_\w+)\(", text))

bad = False
for name, symbols in (("the library exports", exported), ("the header declares", declared)):
    for symbol in sorted(set(symbols) - set(listed)):
        print(f"{name} {symbol}, which is not in {listed_path}")
        bad = True
    for symbol in sorted(set(listed) - set(symbols)):
        print(f"{listed_path} has {symbol}, but nothing of that name is what {name}")
        bad = True
if listed != sorted(listed):
    print(f"{listed_path} is not sorted")
    bad = True
sys.exit(1 if bad else 0)
