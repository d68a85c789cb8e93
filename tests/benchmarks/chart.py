"""Curves over the number of events stored as an SVG: light and dark as its reader's page is, and readable without colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil, floor, log10
from xml.sax.saxutils import escape

__all__ = ["Line", "Panel", "Point", "draw"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 300, 62, 24, 56, 56
"""Of one panel, and its margins, in pixels."""
LABEL = 16
"""The height of a text, by which one makes room for another below it."""

_SIZE, _ROLE = 'width="{}" height="{}"', 'role="img" aria-labelledby="title desc"'
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .head { font-size: 15px; font-weight: 600 } .small { fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 } .page { fill: #ffffff }
polyline { fill: none; stroke-width: 2 } .line-0 { stroke: #0b5cad; fill: #0b5cad } .line-1 { stroke: #a04100; fill: #a04100 }
polyline.line-0, polyline.line-1 { fill: none }
text.line-0, text.line-1 { stroke: #ffffff; stroke-width: 4; paint-order: stroke; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .small { fill: #9198a1 } .grid { stroke: #3d444d } .page { fill: #0d1117 }
  .line-0 { stroke: #79b8ff; fill: #79b8ff } .line-1 { stroke: #ffab70; fill: #ffab70 }
  text.line-0, text.line-1 { stroke: #0d1117 }
}
"""


@dataclass(frozen=True, slots=True)
class Point:
    """So many events stored, and what was measured then."""

    stored: int
    value: float


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines of one unit, at most two."""

    title: str
    unit: str
    lines: Sequence[Line]


def draw(title: str, panels: Sequence[Panel], note: str = "") -> str:
    """The chart: panels side by side, each with a logarithmic axis of events stored and one from 0 of its unit."""
    width, height = WIDTH * len(panels), HEIGHT + (24 if note else 0)
    drawn = [f'<g transform="translate({WIDTH * n} 0)">{_panel(panel)}</g>' for n, panel in enumerate(panels)]
    said = " ".join(_said(panel) for panel in panels)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {_SIZE.format(width, height)} {_ROLE}>',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="desc">{escape(said)}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}"/>',
            *drawn,
            *([_text(LEFT, HEIGHT + 10, note, "small")] if note else []),
            "</svg>\n",
        ]
    )


def _said(panel: Panel) -> str:
    lines = (
        f"{line.name}: "
        + ", ".join(f"{_short(each.value)} {panel.unit} at {_many(each.stored)}" for each in line.points)
        for line in panel.lines
    )
    return f"{panel.title}, {'; '.join(lines)}."


def _panel(panel: Panel) -> str:
    points = list(chain.from_iterable(line.points for line in panel.lines))
    decades = floor(log10(min(each.stored for each in points))), ceil(log10(max(each.stored for each in points)))
    first, last = decades[0], max(decades[1], decades[0] + 1)
    step = _step(max(each.value for each in points))
    top = step * max(1, ceil(max(each.value for each in points) / step))

    def x(stored: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (log10(stored) - first) / (last - first)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    parts = [_text(LEFT, 24, panel.title, "head"), _text(LEFT, 44, panel.unit, "small")]
    for n in range(round(top / step) + 1):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(n * step):.1f}" y2="{y(n * step):.1f}"/>'
        )
        parts.append(_text(LEFT - 8, y(n * step) + 4, _short(n * step), "small", "end"))
    parts += [
        _text(x(10**decade), HEIGHT - BOTTOM + 20, _many(10**decade), "small", "middle")
        for decade in range(first, last + 1)
    ]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "events stored", "small", "middle"))
    for n, line in enumerate(panel.lines):
        at = [(x(each.stored), y(each.value)) for each in line.points]
        joined = " ".join(f"{left:.1f},{down:.1f}" for left, down in at)
        parts.append(f'<polyline class="line-{n}" points="{joined}"/>')
        parts += [f'<circle class="line-{n}" cx="{left:.1f}" cy="{down:.1f}" r="3.5"/>' for left, down in at]
        label = f"{line.name} {_short(line.points[-1].value)} {panel.unit}"
        crowded = any(0 < y(each.points[-1].value) - at[-1][1] < LABEL for each in panel.lines)
        parts.append(_text(at[-1][0], at[-1][1] - 9 - LABEL * crowded, label, f"line-{n}", "end"))
    return "".join(parts)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _step(most: float) -> float:
    """Between two lines of the grid: 1, 2 or 5 times a power of ten, so that there are three to seven of them."""
    power = 10.0 ** floor(log10(most / 4)) if most > 0 else 1.0
    return next(times * power for times in (1, 2, 5, 10) if most / (times * power) <= 6)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _many(stored: int) -> str:
    for size, name in ((1_000_000, "M"), (1_000, "k")):
        if stored >= size:
            return f"{stored / size:.4g} {name}"
    return str(stored)
