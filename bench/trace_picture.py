#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Draws one call of hipattn_attend from a trace file (trace_path, hipattn-run --trace) as SVG: a row per track and depth.

Usage: trace_picture.py TRACE --layer 12 --step -1 --out step.svg
"""
import argparse
import json
import pathlib
from xml.sax.saxutils import escape

from svg_chart import COLOURS

WIDTH, LEFT, RIGHT, TOP = 1100, 190, 20, 46
ROW, BAR, GAP, LEGEND_ROW, CHARACTER = 22, 18, 12, 18, 6.2
AROUND = {"attend", "append", "index", "prefill", "select", "decode", "audit", "pin"}  # pale: what lies inside counts
PALE = "#e5e7eb"
BARS = [colour for colour in COLOURS if colour != "#000000"]


def read(path):
    """The events of a file, one whose writer died included."""
    text = path.read_text(encoding="utf-8").rstrip()
    return json.loads(text if text.endswith("]") else text + "]")


def spans(events):
    """[(track, begin, end, name, args)] in microseconds, what is around before what is inside."""
    tracks = {event["tid"]: event["args"]["name"] for event in events
              if event["ph"] == "M" and event["name"] == "thread_name"}
    found = [(tracks[event["tid"]], event["ts"], event["ts"] + event["dur"], event["name"], event.get("args", {}))
             for event in events if event["ph"] == "X"]
    return sorted(found, key=lambda span: (span[1], -span[2]))


def choose(found, layer, step):
    """The step-th decode call of a layer: (begin, end)."""
    calls = [span for span in found if span[3] == "attend" and span[4]["layer"] == layer and span[4]["tokens"] == span[4]["texts"]]
    if not -len(calls) <= step < len(calls):
        raise SystemExit(f"--step is {step}; the trace has {len(calls)} decode calls of layer {layer}")
    return calls[step][1:3]


def rows_of(found, begin, end):
    """{(track, depth): [span]} of what lies in the time, tracks in the order of their first event."""
    rows, open_ends = {}, {}
    order = []
    for span in found:
        if span[2] <= begin or span[1] >= end:
            continue
        track = span[0]
        if track not in order:
            order.append(track)
        ends = open_ends.setdefault(track, [])
        while ends and ends[-1] <= span[1]:
            ends.pop()
        rows.setdefault((track, len(ends)), []).append(span)
        ends.append(span[2])
    return sorted(rows.items(), key=lambda row: (order.index(row[0][0]), row[0][1]))


def tick_step(microseconds):
    step = 1
    while microseconds / step > 10:
        step *= 2 if str(step)[0] == "1" else 2.5 if str(step)[0] == "2" else 2
        step = int(step)
    return step


def text(x, y, words, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}"{extra}>{escape(words)}</text>'


def draw(found, begin, end, title):
    rows = rows_of(found, begin, end)
    leaves = list(dict.fromkeys(span[3] for _, row in rows for span in row if span[3] not in AROUND))
    colour = {name: BARS[index % len(BARS)] for index, name in enumerate(leaves)}

    def x(time):
        return LEFT + (WIDTH - LEFT - RIGHT) * (min(max(time, begin), end) - begin) / (end - begin)

    out, y, track = [], TOP, None
    for (name, _), row in rows:
        if name != track:
            y += GAP
            out.append(text(8, y + 13, name, ' font-weight="bold"'))
            track = name
        for _, span_begin, span_end, what, args in row:
            width = max(x(span_end) - x(span_begin), 0.6)
            fill = PALE if what in AROUND else colour[what]
            shown = f"{what} {args['blocks']}" if "blocks" in args else what
            tip = f"{what}: {span_end - span_begin:.1f} us" + "".join(f", {key} {value}" for key, value in args.items())
            out.append(f'<rect x="{x(span_begin):.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{fill}" '
                       f'stroke="#ffffff" stroke-width="0.4"><title>{escape(tip)}</title></rect>')
            if width > CHARACTER * len(shown) + 4:
                ink = "#333333" if what in AROUND else "#ffffff"
                out.append(text(x(span_begin) + 3, y + 13, shown, f' fill="{ink}"'))
        y += ROW
    bottom = y + 4
    step = tick_step(end - begin)
    axis = []
    for tick in range(0, int(end - begin) + 1, step):
        at = x(begin + tick)
        axis.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}" stroke="#dddddd"/>')
        axis.append(text(at, bottom + 15, f"{tick} us", ' text-anchor="middle"'))
    legend, legend_x, legend_y = [], LEFT, bottom + 38
    for name in leaves:
        total = sum(min(span[2], end) - max(span[1], begin) for _, row in rows for span in row if span[3] == name)
        shown = f"{name} {total:.0f} us"
        if legend_x + 24 + CHARACTER * len(shown) > WIDTH:
            legend_x, legend_y = LEFT, legend_y + LEGEND_ROW
        legend.append(f'<rect x="{legend_x}" y="{legend_y - 10}" width="12" height="12" fill="{colour[name]}"/>')
        legend.append(text(legend_x + 16, legend_y, shown))
        legend_x += 34 + CHARACTER * len(shown)
    height = legend_y + 14
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
                      'font-family="sans-serif" font-size="11">', '<rect width="100%" height="100%" fill="#ffffff"/>',
                      text(8, 22, title, ' font-size="15"'), *axis, *out, *legend, "</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=pathlib.Path)
    parser.add_argument("--layer", type=int, default=0)
    parser.add_argument("--step", type=int, default=-1, help="which decode call of the layer; -1 is the last")
    parser.add_argument("--title", default="")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    found = spans(read(options.trace))
    begin, end = choose(found, options.layer, options.step)
    title = options.title or f"A decode step of layer {options.layer}: {end - begin:.0f} us"
    options.out.write_text(draw(found, begin, end, title), encoding="utf-8")


if __name__ == "__main__":
    main()
