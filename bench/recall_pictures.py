#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Pictures of what a run of hipattn-run attended: recall and audited loss per layer and head, and the blocks.

  hipattn-run ... --attention sparse --verify-recall --json RUN.json
  bench/recall_pictures.py RUN.json --out recall.svg

Three panels: the share of softmax mass that each q head attended (the true one where the run verified it, else the
library's estimate), the mass that audits say the tree loses of each kv head, and the attended blocks over the text, one
row per kv head, darker the more steps attended them.
"""
import argparse
import json
import math
import pathlib
import sys
from xml.sax.saxutils import escape

LEFT, TOP, GAP, CELL = 56, 64, 48, 14
TEXT_WIDTH, ROW = 720, 4
SHADES = 4  # of the map of blocks, beside white
UNKNOWN = "#eeeeee"
# Dark blue is much, near white little; a loss is little where all is well.
LOW, HIGH = (247, 251, 255), (8, 48, 107)
BAD = (165, 15, 21)
LEAST_LOSS, MOST_LOSS = 1e-4, 1e-1  # of the logarithmic scale


def blend(share, high):
    share = min(max(share, 0), 1)
    return "#" + "".join(f"{round(low + (top - low) * share):02x}" for low, top in zip(LOW, high))


def mass_colour(mass):
    """Of what is missing, on a scale that tells .99 from .9: white is all, red is half or less."""
    return UNKNOWN if mass is None else blend(math.sqrt(min(1 - mass, 0.5) / 0.5), BAD)


def loss_colour(loss):
    if loss is None:
        return UNKNOWN
    return blend(math.log(max(loss, LEAST_LOSS) / LEAST_LOSS) / math.log(MOST_LOSS / LEAST_LOSS), BAD)


def label(x, y, text, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def rect(x, y, width, height, colour, title=""):
    inside = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"{inside}'


def heat_map(x, heads, layers, value, colour, title):
    """One column per head of a layer, one row per layer; heads by layer, then head."""
    columns = len(heads) // layers
    out = [label(x, TOP - 24, title, extra=' font-weight="bold"')]
    out += [label(x + (i + 0.5) * CELL, TOP - 6, str(i), "middle") for i in range(columns)]
    for i, head in enumerate(heads):
        known = "unknown" if value(head) is None else f"{value(head):.4f}"
        out.append(rect(x + i % columns * CELL, TOP + i // columns * CELL, CELL - 1, CELL - 1,
                        colour(value(head)), f"layer {i // columns} head {i % columns}: {known}"))
    return out, columns * CELL


def block_shares(steps, total, columns):
    """The share of steps that attended each of `columns` pieces of the text, its best block counting."""
    shares = []
    for c in range(columns):
        begin = c * len(steps) // columns
        end = max(begin + 1, (c + 1) * len(steps) // columns)
        shares.append(max(steps[begin:end]) / total)
    return shares


def block_map(y, recall):
    """One row per kv head, the text from left to right; one path per shade, which keeps the file small."""
    heads = recall["kv_heads"]
    blocks = max(len(head["attended_steps"]) for head in heads)
    columns = min(blocks, TEXT_WIDTH // 3)
    tokens = blocks * recall["block_tokens"]
    out = [label(LEFT, y - 10, f"attended blocks over {tokens} tokens, one row per kv head",
                 extra=' font-weight="bold"')]
    lines = [[] for _ in range(SHADES + 1)]
    for i, head in enumerate(heads):
        if i % recall["num_kv_heads"] == 0 and head["layer"] % 5 == 0:
            out.append(label(LEFT - 6, y + i * ROW + 9, str(head["layer"]), "end"))
        shares = block_shares(head["attended_steps"], recall["steps"], columns)
        shades = [math.ceil(share * SHADES) for share in shares]
        begin = 0
        for c in range(1, columns + 1):
            if c == columns or shades[c] != shades[begin]:
                lines[shades[begin]].append(f"M{begin} {i}h{c - begin}")
                begin = c
    frame = f'transform="translate({LEFT} {y + ROW / 2}) scale({TEXT_WIDTH / columns:.4f} {ROW})" fill="none"'
    out.append(rect(LEFT, y, TEXT_WIDTH, len(heads) * ROW, blend(0, HIGH)))
    for shade in range(1, SHADES + 1):
        if lines[shade]:
            out.append(f'<path {frame} stroke="{blend(shade / SHADES, HIGH)}" d="{"".join(lines[shade])}"/>')
    return out, len(heads) * ROW


def draw(recall, title):
    layers = recall["num_layers"]
    verified = recall["truth"] is not None
    kind = "truth" if verified else "estimate"
    heads, width = heat_map(LEFT, recall["q_heads"], layers, lambda head: head[kind], mass_colour,
                            f"mass attended ({kind}), q heads")
    losses, _ = heat_map(LEFT + max(width, 250) + GAP, recall["kv_heads"], layers,
                         lambda head: head["audited_loss"], loss_colour, "audited loss, kv heads")
    y = TOP + layers * CELL + GAP
    blocks, height = block_map(y, recall)
    total_width, total_height = LEFT + TEXT_WIDTH + 20, y + height + 54
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_width}" height="{total_height}" '
           f'viewBox="0 0 {total_width} {total_height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           label(LEFT, 20, title, extra=' font-size="15"')]
    out += [label(LEFT - 6, TOP + i * CELL + 11, str(i), "end") for i in range(layers)]
    out += heads + losses + blocks
    error = "" if recall["error"] is None else f", mean error of the estimate {recall['error']:.3f}"
    out.append(label(LEFT, y + height + 22, f"{recall['steps']} steps, mean mass {recall[kind]:.3f}{error}"))
    out.append(label(LEFT, y + height + 38,
                     "white: all of the mass, no loss; red: half of the mass or less, a loss of .1 or more"))
    return "\n".join(out + ["</svg>\n"])


def read_recall(path):
    """The recall in a file of hipattn-run --json; ends the program with the reason if there is none."""
    try:
        recall = json.loads(path.read_text(encoding="utf-8"))["recall"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"recall_pictures: '{path}' is no result of hipattn-run: {error!r}")
    if recall is None or recall["estimate"] is None and recall["truth"] is None:
        sys.exit(f"recall_pictures: '{path}' says nothing of the recall: run with --verify-recall or --min-recall, "
                 "and more than one new token")
    return recall


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="file of hipattn-run --json")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="SVG file to write")
    parser.add_argument("--title", default="", help="default: the name of the file")
    options = parser.parse_args()
    recall = read_recall(options.run)
    options.out.write_text(draw(recall, options.title or options.run.stem), encoding="utf-8")


if __name__ == "__main__":
    main()
