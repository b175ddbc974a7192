# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
"""Line charts as SVG text, from the standard library only: panels in a grid, one legend for all.

A series keeps its colour and marker by its label over all panels, and panels of one y label share
their y axis, so that panels can be compared by eye.
"""
import math
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
MARKERS = ("circle", "square", "diamond", "triangle")
PANEL_WIDTH, PANEL_HEIGHT = 380, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 46
LEGEND_ROW, TITLE_HEIGHT, CHARACTER = 20, 34, 6.6
SUFFIXES = (("M", 1 << 20), ("K", 1 << 10))


@dataclass
class Panel:
    title: str
    x_label: str
    y_label: str
    series: dict = field(default_factory=dict)  # label -> [(x, y)]
    log_y: bool = False
    target: float | None = None  # a dashed line at this y
    target_label: str = ""
    y_max: float | None = None
    y_min: float = 0  # where a linear axis begins


def binary_label(value):
    """131072 -> 128K."""
    for suffix, unit in SUFFIXES:
        if value >= unit and value % unit == 0:
            return f"{int(value // unit)}{suffix}"
    return f"{value:g}"


def _log2(x):
    return math.log2(x) if x > 0 else 0.0


class _Axes:
    """Maps the values of one panel to its rectangle. x, a text length, is logarithmic."""

    def __init__(self, panel, ys):
        self.xs = sorted({x for line in panel.series.values() for x, _ in line})
        self.log_y = panel.log_y and min(ys) > 0
        self.x_low, self.x_high = _log2(self.xs[0]), _log2(self.xs[-1])
        if self.xs[0] == 0 and len(self.xs) > 1:  # room for "0" just left of the first real length
            self.x_low = _log2(self.xs[1]) - 1.5
        if self.log_y:
            self.y_ticks = self._log_ticks(min(ys), max(ys))
            self.y_low, self.y_high = (math.log10(self.y_ticks[i]) for i in (0, -1))
        else:
            top = panel.y_max or max(ys)
            low = panel.y_min
            step = self._nice_step((top - low) / 5 or 1)
            self.y_low, self.y_high = low, low + step * math.ceil((top - low) / step - 1e-9)
            self.y_ticks = [low + step * i for i in range(round((self.y_high - low) / step) + 1)]

    @staticmethod
    def _log_ticks(low, high):
        """From the last tick <= low to the first >= high; 1, 2, 5 in each decade while few."""
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        steps = (1, 2, 5) if last - first <= 3 else (1,)
        ticks = [step * 10.0**e for e in range(first, last + 1) for step in steps]
        begin = max(i for i, tick in enumerate(ticks) if tick <= low)
        end = min(i for i, tick in enumerate(ticks) if tick >= high and i > begin)
        return ticks[begin:end + 1]

    @staticmethod
    def _nice_step(step):
        unit = 10.0 ** math.floor(math.log10(step))
        return unit * next(n for n in (1, 2, 2.5, 5, 10) if n * unit >= step)

    def x(self, value):
        span = self.x_high - self.x_low or 1
        position = self.x_low if value == 0 else _log2(value)
        inside = PANEL_WIDTH - LEFT - RIGHT
        return LEFT + inside * (0.03 + 0.94 * (position - self.x_low) / span)

    def y(self, value):
        position = math.log10(value) if self.log_y else value
        share = (position - self.y_low) / (self.y_high - self.y_low)
        return PANEL_HEIGHT - BOTTOM - (PANEL_HEIGHT - TOP - BOTTOM) * min(max(share, 0), 1)

    def labelled_xs(self):
        """Every x that leaves room for its label, the last one always."""
        kept = []
        for value in reversed(self.xs):
            if not kept or self.x(kept[-1]) - self.x(value) >= 34:
                kept.append(value)
        return kept


def _text(x, y, text, anchor="middle", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _marker(shape, x, y, colour):
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour}"/>'
    corners = {
        "square": ((-3, -3), (3, -3), (3, 3), (-3, 3)),
        "diamond": ((0, -4.4), (4.4, 0), (0, 4.4), (-4.4, 0)),
        "triangle": ((0, -4.2), (4, 3.2), (-4, 3.2)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" fill="{colour}"/>'


def _style(labels, label):
    index = labels.index(label)
    return COLOURS[index % len(COLOURS)], MARKERS[index // len(COLOURS) % len(MARKERS)]


def _draw_frame(panel, axes):
    bottom, right = PANEL_HEIGHT - BOTTOM, PANEL_WIDTH - RIGHT
    out = [_text((LEFT + right) / 2, TOP - 12, panel.title, extra=' font-weight="bold"')]
    for tick in axes.y_ticks:
        y = axes.y(tick)
        out.append(_line(LEFT, y, right, y, 'stroke="#dddddd"'))
        out.append(_text(LEFT - 7, y + 4, f"{tick:g}", "end"))
    for value in axes.labelled_xs():
        out.append(_line(axes.x(value), bottom, axes.x(value), bottom + 4, 'stroke="#555555"'))
        out.append(_text(axes.x(value), bottom + 17, binary_label(value)))
    out.append(_line(LEFT, bottom, right, bottom, 'stroke="#555555"'))
    out.append(_text((LEFT + right) / 2, bottom + 35, panel.x_label))
    middle = (TOP + bottom) / 2
    out.append(_text(15, middle, panel.y_label, extra=f' transform="rotate(-90 15 {middle:.1f})"'))
    return out


def _all_ys(panels):
    ys = [y for panel in panels for line in panel.series.values() for _, y in line]
    return ys + [panel.target for panel in panels if panel.target]


def _draw_panel(panel, labels, ys):
    axes = _Axes(panel, ys)
    out = _draw_frame(panel, axes)
    for label, line in panel.series.items():
        colour, shape = _style(labels, label)
        points = [(axes.x(x), axes.y(y)) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        out.extend(_marker(shape, x, y, colour) for x, y in points)
    if panel.target is not None:
        y, right = axes.y(panel.target), PANEL_WIDTH - RIGHT
        out.append(_line(LEFT, y, right, y, 'stroke="#777777" stroke-dasharray="5 4"'))
        halo = ' fill="#555555" stroke="#ffffff" stroke-width="4" paint-order="stroke"'
        out.append(_text(LEFT + 4, y - 5, panel.target_label, "start", halo))
    return out


def _legend_rows(labels, width):
    """Rows of (label, x), each row within `width`."""
    rows, x = [[]], LEFT
    for label in labels:
        needed = 40 + CHARACTER * len(label)
        if rows[-1] and x + needed > width:
            rows.append([])
            x = LEFT
        rows[-1].append((label, x))
        x += needed
    return rows


def render(title, panels, columns=2):
    """The SVG text of `panels` (those without points are left out), `columns` side by side."""
    panels = [panel for panel in panels if any(panel.series.values())]
    columns = max(1, min(columns, len(panels)))
    labels = list(dict.fromkeys(label for panel in panels for label in panel.series))
    width = max(columns * PANEL_WIDTH, LEFT + CHARACTER * len(title))
    legend = _legend_rows(labels, width)
    head = TITLE_HEIGHT + LEGEND_ROW * len(legend) + 6
    height = head + PANEL_HEIGHT * math.ceil(len(panels) / columns)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
           f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           _text(width / 2, 22, title, extra=' font-size="15"')]
    for row, entries in enumerate(legend):
        y = TITLE_HEIGHT + LEGEND_ROW * row + 8
        for label, x in entries:
            colour, shape = _style(labels, label)
            out.append(_line(x, y, x + 24, y, f'stroke="{colour}" stroke-width="1.8"'))
            out.append(_marker(shape, x + 12, y, colour))
            out.append(_text(x + 30, y + 4, label, "start"))
    for index, panel in enumerate(panels):
        x, y = index % columns * PANEL_WIDTH, head + index // columns * PANEL_HEIGHT
        out.append(f'<g transform="translate({x} {y})">')
        comparable = [other for other in panels if other.y_label == panel.y_label]
        out.extend(_draw_panel(panel, labels, _all_ys(comparable)))
        out.append("</g>")
    out.append("</svg>\n")
    return "\n".join(out)
