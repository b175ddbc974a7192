#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Pictures of what hipattn-search found: the pattern of every head, or the masks of some.

  hipattn-search ... --out patterns.json --picture-head 5/3 --pictures masks.json
  bench/search_pictures.py patterns.scores.json --out patterns.svg
  bench/search_pictures.py masks.json --out masks.svg

Of a scores file: the pattern, its density and its recall, one row per layer, one column per head. Of a masks file: for
each head the softmax mass that dense attention gives each tile of 64 rows and 64 keys, and beside it what the pattern
attends; rows go down, keys to the right, darker is more, white is none.
"""
import argparse
import json
import math
import pathlib
import sys

from recall_pictures import CELL, GAP, HIGH, LEFT, TOP, blend, label, mass_colour, rect

COLOURS = {"dense": "#bdbdbd", "stream_llm": "#1b9e77", "vertical_and_slash": "#d95f02", "block_sparse": "#7570b3"}
NAMES = {"dense": "dense", "stream_llm": "A-shape", "vertical_and_slash": "vertical-slash",
         "block_sparse": "block-sparse"}
PANEL = 300  # of a mask
STEPS = (0, 1e-4, 1e-3, 1e-2, 1e-1)  # mass above which a tile gets the next shade
TITLE = ' font-weight="bold"'


def kind_of(head):
    return "dense" if head["label"] == "dense" else head["pattern"][0]


def heat_map(x, layers, title, colour, text=None):
    out = [label(x, TOP - 24, title, extra=TITLE)]
    out += [label(x + (i + 0.5) * CELL, TOP - 6, str(i), "middle") for i in range(len(layers[0]))]
    for y, layer in enumerate(layers):
        for i, head in enumerate(layer):
            out.append(rect(x + i * CELL, TOP + y * CELL, CELL - 1, CELL - 1, colour(head),
                            f"layer {y} head {i}: {text(head)}" if text else ""))
    return out


def draw_patterns(scores, title):
    layers = scores["layers"]
    width = max(len(layers[0]) * CELL, 150)
    y = TOP + len(layers) * CELL
    out = [label(LEFT - 6, TOP + i * CELL + 11, str(i), "end") for i in range(len(layers))]
    out += heat_map(LEFT, layers, "pattern", lambda head: COLOURS[kind_of(head)],
                    lambda head: f"{head['label']}, density {head['density']:.3f}, recall {head['recall']:.4f}")
    out += heat_map(LEFT + width + GAP, layers, "density", lambda head: blend(head["density"], HIGH))
    out += heat_map(LEFT + 2 * (width + GAP), layers, "recall", lambda head: mass_colour(head["recall"]))
    heads = [head for layer in layers for head in layer]
    for i, (kind, colour) in enumerate(COLOURS.items()):
        count = sum(kind_of(head) == kind for head in heads)
        out.append(rect(LEFT + i % 2 * 220, y + 14 + i // 2 * 20, CELL - 1, CELL - 1, colour))
        out.append(label(LEFT + i % 2 * 220 + CELL + 4, y + 25 + i // 2 * 20, f"{NAMES[kind]}: {count} heads"))
    means = ", ".join(f"mean {name} {sum(head[name] for head in heads) / len(heads):.3f}"
                      for name in ("density", "recall"))
    out.append(label(LEFT, y + 70, f"{means}; recall: white is all of the mass, red half or less"))
    return wrap(out, LEFT + 3 * width + 2 * GAP + 20, y + 84, title)


def shade(mass):
    return sum(mass > step for step in STEPS)


def mask_panel(x, y, rows):
    """One path per shade, which keeps the file small."""
    lines = [[] for _ in range(len(STEPS) + 1)]
    for i, row in enumerate(rows):
        shades = [shade(mass) for mass in row] + [-1]
        begin = 0
        for c in range(1, len(shades)):
            if shades[c] != shades[begin]:
                lines[shades[begin]].append(f"M{begin} {i}h{c - begin}")
                begin = c
    scale = PANEL / len(rows)
    frame = f'transform="translate({x} {y + scale / 2:.3f}) scale({scale:.4f})" fill="none"'
    out = [f'<rect x="{x}" y="{y}" width="{PANEL}" height="{PANEL}" fill="none" stroke="#cccccc"/>']
    for i, line in enumerate(lines):
        if i > 0 and line:
            out.append(f'<path {frame} stroke="{blend(i / len(STEPS), HIGH)}" d="{"".join(line)}"/>')
    return out


def draw_masks(masks, title):
    out, y = [], 50
    for head in masks["heads"]:
        out.append(label(LEFT, y, f"layer {head['layer']} head {head['head']}: mass by dense attention", extra=TITLE))
        out.append(label(LEFT + PANEL + GAP, y, f"{head['label']}: density {head['density']:.2f}, "
                         f"recall {head['recall']:.3f}", extra=TITLE))
        out += mask_panel(LEFT, y + 10, head["dense"]) + mask_panel(LEFT + PANEL + GAP, y + 10, head["attended"])
        y += PANEL + 36
    out.append(label(LEFT, y, f"{masks['tokens']} tokens in tiles of {masks['tile_tokens']}; mean mass of a row "
                     "in a tile: white none, then up to 1e-4, 1e-3, 1e-2, 1e-1, more"))
    return wrap(out, 2 * (LEFT + PANEL) + GAP - LEFT + 20, y + 16, title)


def wrap(out, width, height, title):
    width, height = math.ceil(width), math.ceil(height)
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
            '<rect width="100%" height="100%" fill="#ffffff"/>', label(LEFT, 20, title, extra=' font-size="15"')]
    return "\n".join(head + out + ["</svg>\n"])


def draw(path, title):
    """Ends the program with the reason where the file is none of both."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["kind"] == "hipattn-search" and found["layers"]:
            return draw_patterns(found, title)
        if found["kind"] == "hipattn-search pictures":
            return draw_masks(found, title)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        sys.exit(f"search_pictures: '{path}' is no file of hipattn-search: {error!r}")
    sys.exit(f"search_pictures: '{path}' is no file of hipattn-search with layers")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("found", type=pathlib.Path, help="scores or masks of hipattn-search")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="SVG file to write")
    parser.add_argument("--title", default="", help="default: the name of the file")
    options = parser.parse_args()
    options.out.write_text(draw(options.found, options.title or options.found.stem), encoding="utf-8")


if __name__ == "__main__":
    main()
