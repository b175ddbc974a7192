#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws layers.svg and decode-step.svg beside this file. Standard library only."""
import html
import pathlib

FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"
INK, SOFT, LINE = "#1f2933", "#52606d", "#7b8794"
FILL = {"policy": "#dbeafe", "memory": "#dcfce7", "compute": "#ffedd5", "face": "#ede9fe", "plain": "#f1f5f9", "later": "#ffffff"}


class Picture:
    def __init__(self, width, height, title):
        self.parts = [
            f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}' role='img'>",
            f"<title>{html.escape(title)}</title>",
            "<defs><marker id='a' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto-start-reverse'>"
            f"<path d='M0 0L10 5L0 10z' fill='{LINE}'/></marker></defs>",
            f"<rect width='{width}' height='{height}' fill='white'/>",
        ]

    def text(self, x, y, words, size=13, color=INK, weight="normal", anchor="start"):
        self.parts.append(f"<text x='{x}' y='{y}' {FONT} font-size='{size}' font-weight='{weight}' fill='{color}' "
                          f"text-anchor='{anchor}'>{html.escape(words)}</text>")

    def box(self, x, y, w, h, kind, head, lines=(), dashed=False):
        dash = " stroke-dasharray='5 4'" if dashed else ""
        self.parts.append(f"<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='6' fill='{FILL[kind]}' stroke='{LINE}'{dash}/>")
        self.text(x + 12, y + 22, head, 14, weight="bold")
        for number, line in enumerate(lines):
            self.text(x + 12, y + 41 + 17 * number, line, 12, SOFT)

    def arrow(self, *points, label=None, at=None, anchor="middle", both=False):
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        start = " marker-start='url(#a)'" if both else ""
        self.parts.append(f"<path d='{path}' fill='none' stroke='{LINE}' stroke-width='1.5' marker-end='url(#a)'{start}/>")
        if label:
            self.text(*at, label, 11, SOFT, anchor=anchor)

    def save(self, name):
        (pathlib.Path(__file__).resolve().parent / name).write_text("\n".join(self.parts) + "\n</svg>\n")


def layers():
    p = Picture(860, 560, "The layers of hipattn: arrows point at what a layer may include")
    p.text(20, 30, "Layers: an arrow points at what a layer may include (base: everyone)", 15, weight="bold")
    p.box(300, 48, 260, 62, "face", "src/api", ["hipattn.h: checks, handles, last error"])
    p.box(300, 150, 260, 80, "plain", "src/engine", ["sequences and steps: the only place", "where policy meets memory"])
    p.box(20, 290, 250, 97, "policy", "src/core", ["pure policy: tree walk, scorers,", "partition, refresh, plan; no threads,", "clock, files or devices"])
    p.box(305, 290, 250, 97, "memory", "src/offload", ["slots of blocks, byte budgets", "(later: tiers, cache, transfer);", "knows bytes, not attention"])
    p.box(590, 290, 250, 97, "plain", "src/device", ["the contract: memory, streams,", "tickets, parameter structs,", "the table of ops, Executor"])
    p.box(590, 425, 120, 62, "compute", "src/host", ["CPU, kernels"])
    p.box(720, 425, 120, 62, "later", "src/gpu", ["CUDA: later"], dashed=True)
    p.box(20, 510, 820, 36, "plain", "src/base   Status, Result, dtypes, tree words, integer arithmetic, log")
    p.arrow((430, 110), (430, 148))
    p.arrow((360, 230), (145, 288))
    p.arrow((430, 230), (430, 288))
    p.arrow((500, 230), (715, 288))
    p.arrow((555, 338), (588, 338))
    p.arrow((650, 425), (650, 389))
    p.arrow((780, 425), (780, 389))
    p.box(20, 48, 250, 97, "face", "users", ["examples/run, your program:", "include/hipattn/hipattn.h (C),", "hipattn.hpp (C++20, header only)"])
    p.arrow((270, 79), (298, 79))
    p.text(20, 446, "Nothing includes host or gpu: the engine asks device/registry.h", 12, SOFT)
    p.text(20, 464, "for a device, and the layer that has it defines the function.", 12, SOFT)
    p.save("layers.svg")


def decode_step():
    p = Picture(860, 640, "One decode step of one layer")
    p.text(20, 30, "One decode step of one layer, for every sequence of the batch and every kv head", 15, weight="bold")
    p.box(20, 46, 200, 76, "face", "1. check", ["api the arguments, engine the", "state, before any change"])
    p.box(240, 46, 190, 76, "compute", "2. append_kv", ["k, v into the tail block,", "rounded to the KV type"])
    p.box(450, 46, 200, 76, "compute", "3. summarize_blocks", ["the block that got full and", "the nodes it completes"])
    p.box(670, 46, 170, 76, "compute", "4. load_q", ["queries to f32"])
    for x in (220, 430, 650):
        p.arrow((x, 84), (x + 18, 84))

    p.text(20, 150, "5. Search (core/search), from the level with at most 8 x beam nodes down; ops score, policy cuts", 13, weight="bold")
    rows = ((170, 4, "8192 tokens", 180), (215, 8, "1024 tokens", 90), (260, 16, "128 tokens", 45), (305, 32, "blocks: 16 tokens", 22.5))
    kept = ({1, 3}, {2, 6, 7}, {4, 5, 13, 14}, {9, 26, 27, 28, 29})
    looked = (set(range(4)), {2, 3, 6, 7}, {4, 5, 12, 13, 14, 15}, {8, 9, 10, 11, 26, 27, 28, 29})
    for (y, count, label, width), best, seen in zip(rows, kept, looked):
        for i in range(count):
            color = "#60a5fa" if i in best else "#dbeafe" if i in seen else "#f8fafc"
            p.parts.append(f"<rect x='{20 + i * width:.1f}' y='{y}' width='{width - 3:.1f}' height='28' rx='3' fill='{color}' stroke='{LINE}' "
                           "stroke-width='0.7'/>")
        p.text(750, y + 19, label, 12, SOFT)
    for x, color, words in ((20, "#dbeafe", "summary read: int8, score = q.m + |q|.w"), (310, "#60a5fa", "kept"),
                            (390, "#f8fafc", "never looked at"), (520, None, "Schematic: a node has 8 children.")):
        if color:
            p.parts.append(f"<rect x='{x}' y='343' width='12' height='12' fill='{color}' stroke='{LINE}' stroke-width='0.7'/>")
        p.text(x + 18, 353, words, 11, SOFT)

    p.text(20, 390, "6. Plan (core/plan): every key at or before the query is in exactly one class", 13, weight="bold")
    segments = [("sinks", 60, "#fde68a"), ("", 150, "#f8fafc"), ("selected", 30, "#60a5fa"), ("", 190, "#f8fafc"), ("selected", 90, "#60a5fa"),
                ("", 100, "#f8fafc"), ("window", 110, "#fde68a")]
    x = 20
    for name, width, color in segments:
        p.parts.append(f"<rect x='{x}' y='405' width='{width}' height='30' fill='{color}' stroke='{LINE}' stroke-width='0.7'/>")
        if name and width > 50:
            p.text(x + width / 2, 425, name, 12, anchor="middle")
        x += width
    p.text(x + 8, 425, "query", 12, SOFT)

    p.text(20, 475, "7. sparse_decode: the list is cut by position, never by thread", 13, weight="bold")
    for i in range(12):
        shade = "#ffedd5" if i // 4 % 2 == 0 else "#fed7aa"
        p.parts.append(f"<rect x='{20 + i * 38}' y='490' width='34' height='26' rx='3' fill='{shade}' stroke='{LINE}' stroke-width='0.7'/>")
    p.text(490, 508, "pieces of 8 ranges, folded in order by online softmax", 12, SOFT)
    for i in range(3):
        p.box(20 + i * 152, 535, 148, 34, "compute", f"split {i}")
        p.arrow((94 + i * 152, 516), (94 + i * 152, 533))
    p.text(490, 557, "splits of 8 pieces: the unit of parallel work", 12, SOFT)
    p.box(20, 590, 452, 34, "compute", "splits merged in list order: out, lse")
    for i in range(3):
        p.arrow((94 + i * 152, 569), (94 + i * 152, 588))
    p.text(490, 612, "so the bits depend on the list alone", 12, SOFT)
    p.save("decode-step.svg")


if __name__ == "__main__":
    layers()
    decode_step()
