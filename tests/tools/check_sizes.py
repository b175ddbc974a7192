#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails on files, functions and parameter lists that are too long. Usage: check_sizes.py [<repo root>].

Functions are found by matching braces: a heuristic, exact for code that clang-format has laid out. clang-tidy's
readability-function-size (label `tidy`) is the strict check. Files in size_waivers.txt beside this one may be longer.
"""
import pathlib
import re
import sys

import source_tree

FILE_LINES, KERNEL_FILE_LINES, TEST_FILE_LINES = 600, 800, 800
FUNCTION_LINES, KERNEL_FUNCTION_LINES, TEST_FUNCTION_LINES = 80, 200, 120
PARAMETERS = 7
KERNEL = re.compile(r"src/(host/(kernels|vec)|gpu/kernels)/")

NOT_A_FUNCTION = re.compile(r"^(if|for|while|switch|catch|else|do|return|namespace|class|struct|union|enum|extern|=)\b|=\s*$")
AFTER_PARAMETERS = re.compile(r"\)\s*(const|noexcept(\([^()]*\))?|override|final|&&?|mutable|->\s*[\w:<>,&*\s]+)*\s*$")
# The signatures of hipattn.h are a contract.
C_API = re.compile(r"^hipattn_status_t hipattn_\w+\(")


def parameters(head):
    """Number of parameters of the last bracket at top level of `head`, or of a constructor's first."""
    head = re.sub(r"\)\s*:\s.*$", ")", head, flags=re.DOTALL)   # constructor: drop the initialisers
    depth, end = 0, head.rfind(")")
    for start in range(end, -1, -1):
        depth += {")": 1, "(": -1}.get(head[start], 0)
        if depth == 0:
            break
    inside, count, depth = head[start + 1:end], 1, 0
    for character in inside:
        depth += 1 if character in "(<[{" else -1 if character in ")>]}" else 0
        count += character == "," and depth == 0
    return 0 if inside.strip() in ("", "void") else count


def functions(text):
    """(first line, body lines, parameters) of every function that is in no other one."""
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)),
                  source_tree.blank(text), flags=re.MULTILINE)
    found, stack, head_start, line = [], [], 0, 1
    inside = None                     # depth at which the function we are in began
    for position, character in enumerate(text):
        if character == "\n":
            line += 1
        elif character == ";":
            head_start = position + 1
        elif character == "{":
            head = text[head_start:position].strip()
            opens = inside is None and not NOT_A_FUNCTION.search(head) and AFTER_PARAMETERS.search(head)
            stack.append((line, 0 if C_API.search(head) else parameters(head) if opens else None))
            if opens:
                inside = len(stack)
            head_start = position + 1
        elif character == "}":
            if not stack:
                continue
            first, count = stack.pop()
            if inside == len(stack) + 1:
                found.append((first, max(0, line - first - 1), count))
                inside = None
            head_start = position + 1
    return found


def check(path, name, waived=()):
    text = path.read_text()
    kernel = bool(KERNEL.search(name))
    test = name.startswith("tests/")
    limit = KERNEL_FILE_LINES if kernel else TEST_FILE_LINES if test else FILE_LINES
    lines = text.count("\n")
    if lines > limit and name not in waived:
        yield f"{name}:1: {lines} lines, the limit is {limit}"
    if path.suffix not in source_tree.CODE:
        return
    limit = KERNEL_FUNCTION_LINES if kernel else TEST_FUNCTION_LINES if test else FUNCTION_LINES
    for first, body, count in functions(text):
        if body > limit:
            yield f"{name}:{first}: a function of {body} lines, the limit is {limit}"
        if count > PARAMETERS:
            yield f"{name}:{first}: {count} parameters, the limit is {PARAMETERS}: make a struct of them"


def main():
    root = source_tree.root_argument(sys.argv)
    waivers = (pathlib.Path(__file__).parent / "size_waivers.txt").read_text().splitlines()
    waived = {line.split(":")[0] for line in waivers if line and not line.startswith("#")}
    problems = [f"size_waivers.txt: {name} is not there" for name in waived if not (root / name).exists()]
    for path in source_tree.files(root, source_tree.FOLDERS + ("cmake", "scripts"), source_tree.CODE | source_tree.SCRIPTS):
        problems.extend(check(path, str(path.relative_to(root)), waived))
    return source_tree.report(problems)


if __name__ == "__main__":
    sys.exit(main())
