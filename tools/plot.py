#!/usr/bin/env python3
"""Writes a line chart as SVG. Standard library only.

chart(path, title, x_label, y_label, series, x_range, y_log) draws series = [(name, [(x, y), ...])]
with a frame, a grid, ticks at round numbers and a legend. `plot.py OUT.svg CSV X Y GROUP` draws one
line per value of the column GROUP of a CSV file.
"""
import csv
import math
import sys
from xml.sax.saxutils import escape

# Readable on white and, by most colour-blind readers, apart (after Okabe and Ito).
COLOURS = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555", "#8c564b",
           "#7b3fbf", "#111111"]
SHAPES = ["circle", "square", "triangle", "diamond"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 520, 80, 210, 44, 56


def linear_ticks(low, high, want=8):
    step = 10 ** math.floor(math.log10((high - low) / want))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= want:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [first * step + i * step for i in range(int((high - first * step) / step + 1e-9) + 1)]


def log_ticks(low, high):
    ticks = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        ticks += [m * 10.0 ** power for m in (1, 2, 5)]
    return [t for t in ticks if low <= t <= high]


def number(value):
    if abs(value) >= 1000:
        return "{:,.0f}".format(value)
    return "{:.4g}".format(value)


def marker(shape, x, y, colour):
    if shape == "circle":
        return '<circle cx="%.1f" cy="%.1f" r="3.2" fill="%s"/>' % (x, y, colour)
    if shape == "square":
        return '<rect x="%.1f" y="%.1f" width="6" height="6" fill="%s"/>' % (x - 3, y - 3, colour)
    points = {"triangle": [(0, -4), (4, 3), (-4, 3)],
              "diamond": [(0, -4), (4, 0), (0, 4), (-4, 0)]}[shape]
    text = " ".join("%.1f,%.1f" % (x + dx, y + dy) for dx, dy in points)
    return '<polygon points="%s" fill="%s"/>' % (text, colour)


def chart(path, title, x_label, y_label, series, x_range=None, y_log=True):
    series = [(name, sorted(points)) for name, points in series]
    if x_range:
        series = [(name, [p for p in points if x_range[0] <= p[0] <= x_range[1]])
                  for name, points in series]
    series = [s for s in series if s[1]]
    if not series:
        return False
    xs = [x for _, points in series for x, _ in points]
    ys = [y for _, points in series for _, y in points]
    x0, x1 = x_range or (min(xs), max(xs))
    if x1 <= x0:
        x1 = x0 + 1
    scale = math.log10 if y_log else float
    y0, y1 = (min(ys) * 0.85, max(ys) * 1.15) if y_log else (0.0, max(ys) * 1.05)
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    at_x = lambda x: LEFT + (x - x0) / (x1 - x0) * inner_w
    at_y = lambda y: TOP + inner_h - (scale(y) - scale(y0)) / (scale(y1) - scale(y0)) * inner_h
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif"'
           ' font-size="12">' % (WIDTH, HEIGHT),
           '<rect width="%d" height="%d" fill="#ffffff"/>' % (WIDTH, HEIGHT),
           '<text x="%d" y="24" font-size="15" fill="#111111">%s</text>' % (LEFT, escape(title))]
    for t in linear_ticks(x0, x1):
        out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#dddddd"/>'
                   % (at_x(t), at_x(t), TOP, TOP + inner_h))
        out.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#333333">%s</text>'
                   % (at_x(t), TOP + inner_h + 18, number(t)))
    for t in log_ticks(y0, y1) if y_log else linear_ticks(y0, y1):
        out.append('<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#dddddd"/>'
                   % (LEFT, LEFT + inner_w, at_y(t), at_y(t)))
        out.append('<text x="%d" y="%.1f" text-anchor="end" fill="#333333">%s</text>'
                   % (LEFT - 8, at_y(t) + 4, number(t)))
    out.append('<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#333333"/>'
               % (LEFT, TOP, inner_w, inner_h))
    out.append('<text x="%.1f" y="%d" text-anchor="middle" fill="#111111">%s</text>'
               % (LEFT + inner_w / 2, HEIGHT - 14, escape(x_label)))
    out.append('<text x="18" y="%.1f" text-anchor="middle" fill="#111111"'
               ' transform="rotate(-90 18 %.1f)">%s</text>'
               % (TOP + inner_h / 2, TOP + inner_h / 2, escape(y_label)))
    for i, (name, points) in enumerate(series):
        colour, shape = COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)]
        path_text = " ".join("%.1f,%.1f" % (at_x(x), at_y(y)) for x, y in points)
        out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="%s"/>'
                   % (path_text, colour, "2.6" if i == 0 else "1.6"))
        out += [marker(shape, at_x(x), at_y(y), colour) for x, y in points]
        row = TOP + 12 + 20 * i
        out.append(marker(shape, LEFT + inner_w + 18, row - 4, colour))
        out.append('<text x="%d" y="%d" fill="#111111">%s</text>'
                   % (LEFT + inner_w + 30, row, escape(name)))
    out.append("</svg>")
    with open(path, "w", encoding="ascii", errors="xmlcharrefreplace") as f:
        f.write("\n".join(out) + "\n")
    return True


def main():
    if len(sys.argv) != 6:
        sys.exit("usage: plot.py OUT.svg FILE.csv X_COLUMN Y_COLUMN GROUP_COLUMN")
    _, out, source, x, y, group = sys.argv
    lines = {}
    with open(source, newline="") as f:
        for row in csv.DictReader(f):
            lines.setdefault(row[group], []).append((float(row[x]), float(row[y])))
    if not chart(out, source, x, y, list(lines.items())):
        sys.exit("%s: nothing to draw" % source)


if __name__ == "__main__":
    main()
