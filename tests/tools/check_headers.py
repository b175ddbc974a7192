#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on missing SPDX lines, include guards that do not name their file, and paths or hosts of one machine.

Usage: check_headers.py [<repo root>].
"""
import re
import sys

import source_tree

SPDX = "SPDX-License-Identifier: Apache-2.0"
# Folders and addresses that are only right where they were written. Public addresses may stand in documents and comments.
MACHINE = re.compile(
    r"(?<![\w.$}/-])/(work|home|root|Users|mnt|opt|builds?)/[\w.-]+"
    r"|\b(?!127\.0\.0\.1|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}\b"
    r"|https?://(?!www\.w3\.org/|www\.apache\.org/|arxiv\.org/|github\.com/|doi\.org/)[^\s)\"'>]+"
    r"|--(extra-)?index-url\b")


def guard_name(name):
    """Guard of the header `name`, a path from the root: src/base/log.h -> HIPATTN_BASE_LOG_H_."""
    name = re.sub(r"^(src|include/hipattn)/", "", name)
    return "HIPATTN_" + re.sub(r"\W", "_", name).upper() + "_"


def check(name, text):
    head = "\n".join(text.splitlines()[:5])
    is_code = name.endswith(tuple(source_tree.CODE | source_tree.SCRIPTS)) or name.endswith("CMakeLists.txt")
    if is_code and SPDX not in head:
        yield f"{name}:1: no line '{SPDX}' at the top"
    if name.endswith((".h", ".hpp")):
        guard = guard_name(name)
        if not re.search(rf"^#ifndef {guard}\n#define {guard}$", text, re.MULTILINE):
            yield f"{name}:1: include guard is not {guard}"
    for number, line in enumerate(text.splitlines(), 1):
        match = MACHINE.search(line)
        if match and "// allowed: " not in line and "# allowed: " not in line:
            yield f"{name}:{number}: '{match.group(0)}' belongs to one machine or host"


def main():
    root = source_tree.root_argument(sys.argv)
    suffixes = source_tree.CODE | source_tree.SCRIPTS | {".txt", ".md", ".json", ".in", ".map", ""}
    folders = source_tree.FOLDERS + ("cmake", "scripts", "docs", ".ci")
    paths = list(source_tree.files(root, folders, suffixes))
    paths += [path for path in sorted(root.iterdir()) if path.is_file() and path.suffix in suffixes and path.name != "LICENSE"]
    problems = []
    for path in paths:
        problems.extend(check(str(path.relative_to(root)), path.read_text(errors="replace")))
    return source_tree.report(problems)


if __name__ == "__main__":
    sys.exit(main())
