# SPDX-License-Identifier: Apache-2.0
"""Which files the checks look at, and C++ text without comments and literals. Standard library only."""
import pathlib
import re

CODE = {".h", ".hpp", ".c", ".cc", ".cu", ".cuh"}
SCRIPTS = {".py", ".sh", ".cmake"}
FOLDERS = ("include", "src", "examples", "bench", "tests")


def root_argument(argv):
    """The repository root: the first argument, or the folder above this one."""
    return pathlib.Path(argv[1]).resolve() if len(argv) > 1 else pathlib.Path(__file__).resolve().parents[2]


def files(root, folders=FOLDERS, suffixes=frozenset(CODE)):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


LITERAL = re.compile(
    r'R"(?P<delimiter>[^()\\ ]{0,16})\(.*?\)(?P=delimiter)"'   # raw string
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-zA-Z_])'(?:\\.|[^'\\\n])+'"                    # a character, not a digit separator
    r"|//[^\n]*"
    r"|/\*.*?\*/",
    re.DOTALL)


def blank(text):
    """`text` with comments and the insides of literals replaced by spaces: every line and column stays where it was."""

    def spaces(match):
        token = match.group(0)
        kept = re.sub(r"[^\n]", " ", token)
        return kept if token.startswith("/") else '"' + kept[1:-1] + '"'

    return LITERAL.sub(spaces, text)


def report(problems):
    """Prints problems, one a line; the exit status."""
    for problem in problems:
        print(problem)
    return 1 if problems else 0
