#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles the C and C++ examples of the documentation, so that they stay true.

Usage: check_snippets.py <repo root> <C compiler> <C++ compiler> [<library or linker option>...]
A code block marked ```c or ```cpp that has a main() is compiled, linked with what the command line names, and run; one that has
none is compiled as the inside of a function, after `#include <hipattn/hipattn.h>` (```cpp: hipattn.hpp). A block marked
```cpp file=PATH has to stand in that file, word by word, which a test compiles. Other marks (```text, ```sh) are not code of ours.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

import source_tree

BLOCK = re.compile(r"^```(c|cpp)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-Wno-unused-but-set-variable"]


def program(language, body):
    """The block as a whole source file."""
    if re.search(r"\bint main\(", body):
        return body
    header = "hipattn.h" if language == "c" else "hipattn.hpp"
    includes = "".join(re.findall(r"^#include.*\n", body, re.MULTILINE))
    rest = re.sub(r"^#include.*\n", "", body, flags=re.MULTILINE)
    return f"#include <hipattn/{header}>\n{includes}void snippet(void);\nvoid snippet(void) {{\n{rest}\n}}\n"


def check_block(block, where, root, compilers, link):
    """None, or what went wrong."""
    language, name, body = block.groups()
    if name:
        return None if body in (root / name).read_text() else f"{where}: the block does not stand in {name}"
    standard = "-std=c11" if language == "c" else "-std=c++20"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"snippet.{'c' if language == 'c' else 'cc'}"
        path.write_text(program(language, body))
        runs = "int main(" in body
        command = [compilers[language], standard, *WARNINGS, f"-I{root / 'include'}", str(path)]
        command += ["-o", f"{folder}/snippet", *link] if runs else ["-fsyntax-only"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0 and runs:
            result = subprocess.run([f"{folder}/snippet"], capture_output=True, text=True, check=False)
        return None if result.returncode == 0 else f"{where}: {result.stdout}{result.stderr}"


def main():
    root = source_tree.root_argument(sys.argv)
    compilers = {"c": sys.argv[2], "cpp": sys.argv[3]}
    problems, count = [], 0
    for page in sorted(root.glob("*.md")) + sorted((root / "docs").rglob("*.md")):
        text = page.read_text()
        for block in BLOCK.finditer(text):
            count += 1
            where = f"{page.relative_to(root)}:{text.count(chr(10), 0, block.start()) + 1}"
            problem = check_block(block, where, root, compilers, sys.argv[4:])
            if problem:
                problems.append(problem)
    print(f"{count} blocks")
    if not count:
        problems.append("no code block found")
    return source_tree.report(problems)


if __name__ == "__main__":
    sys.exit(main())
