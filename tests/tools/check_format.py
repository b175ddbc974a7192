#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when clang-format would change a file, or changes it. Usage: check_format.py [--fix] [<repo root>].

clang-format 14, Debian 12's, is the one that counts: other versions lay out some lines differently. Exit status 77: not installed.
"""
import shutil
import subprocess
import sys

import source_tree


def main():
    fix = "--fix" in sys.argv
    root = source_tree.root_argument([argument for argument in sys.argv if argument != "--fix"])
    program = shutil.which("clang-format-14")
    if program is None:
        print("clang-format-14 is not installed (Debian and Ubuntu package clang-format-14): formatting not checked")
        return 77
    paths = [str(path) for path in source_tree.files(root)]
    options = ["-i"] if fix else ["--dry-run", "-Werror", "--ferror-limit=3"]
    return subprocess.run([program, *options, *paths], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
