#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on code that does not belong into the library: commented-out code, `#if 0`, prints, exits, the environment, notes to self.

Usage: no_dead_code.py [<repo root>]. Looks at src/ and include/. A line that has to stay ends with `// allowed: <reason>`.
An example in a comment is indented by three spaces or more: `//   walk.Begin(config, range);`.
"""
import re
import sys

import source_tree

IN_CODE = {
    "reads the environment": re.compile(r"\b(secure_)?getenv\s*\("),
    "prints": re.compile(r"\b(v?f?printf|puts|fputs|putchar|perror)\s*\(|\bstd::(cout|cerr|clog)\b"),
    "ends the program": re.compile(r"\b(abort|_?exit|quick_exit|terminate)\s*\("),
    "is switched off": re.compile(r"^\s*#\s*(if\s+0|elif\s+0)\b"),
}
IN_COMMENT = {
    "is commented-out code": re.compile(
        r"^ ?(?! )(#\s*(include|if|define|endif)\b|(return|delete|break|continue|if|for|while|using|auto|const|static)\b[^.]*[;{]\s*$"
        r"|[\w:.>\[\]-]+\([^)]*\)\s*;\s*$|[\w:<>\s*&.\[\]-]+\s[-+*/]?=\s[^.]*;\s*$|\}\s*$)"),
    "is a note to self; open an issue": re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"),
}
ALLOWED = re.compile(r"//\s*allowed: \S")


def check(text):
    """(line, what is wrong with it) of `text`."""
    code = source_tree.blank(text).splitlines()
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOWED.search(line):
            continue
        for what, pattern in IN_CODE.items():
            if pattern.search(code[number - 1]):
                yield number, what
        comment = re.match(r"^\s*//[/!<]*(.*)$", line)
        if comment:
            for what, pattern in IN_COMMENT.items():
                if pattern.search(comment.group(1)):
                    yield number, what
        elif "//" in line and IN_COMMENT["is a note to self; open an issue"].search(line.split("//", 1)[1]):
            yield number, "is a note to self; open an issue"


def main():
    root = source_tree.root_argument(sys.argv)
    problems = []
    for path in source_tree.files(root, ("include", "src")):
        lines = path.read_text()
        problems.extend(f"{path.relative_to(root)}:{number}: {what}" for number, what in check(lines))
    return source_tree.report(problems)


if __name__ == "__main__":
    sys.exit(main())
