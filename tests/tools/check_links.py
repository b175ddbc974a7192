#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when a link or picture in a Markdown file leads to a file or heading that is not there. Usage: check_links.py [<repo root>]."""
import re
import sys

import source_tree

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(text):
    """Names of the headings, as GitHub makes them."""
    names = re.findall(r"^#+\s+(.*?)\s*$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}


def main():
    root = source_tree.root_argument(sys.argv)
    pages = sorted(root.glob("*.md")) + sorted((root / "docs").rglob("*.md"))
    problems = []
    for page in pages:
        text = FENCE.sub(lambda match: "\n" * match.group(0).count("\n"), page.read_text())
        for match in LINK.finditer(text):
            target = match.group(1)
            where = f"{page.relative_to(root)}:{text.count(chr(10), 0, match.start()) + 1}"
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists():
                problems.append(f"{where}: {target} does not exist")
            elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text()):
                problems.append(f"{where}: no heading #{anchor} in {path.relative_to(root)}")
    if not pages:
        problems.append(f"{root}: no Markdown file found")
    return source_tree.report(problems)


if __name__ == "__main__":
    sys.exit(main())
