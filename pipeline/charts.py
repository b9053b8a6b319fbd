"""How does a curve become a picture that a page holds itself? Inline SVG whose points tell their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator

from pipeline import lineage

TEMPLATES = Environment(
    loader=FileSystemLoader(lineage.PACKAGE / "templates"), undefined=StrictUndefined, autoescape=True
)
WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 76, 16, 12, 44  # around the area of the curves


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    label: str  # what it tells


@dataclass(frozen=True)
class Axis:
    """Where values lie: `low` at `start`, `high` at `end`, both in SVG units."""

    label: str
    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.logarithmic else (self.low, self.high, value)
        )
        return round(self.start + (self.end - self.start) * (at - low) / ((high - low) or 1), 1)

    def ticks(self) -> list[tuple[float, str]]:
        locator = LogLocator() if self.logarithmic else MaxNLocator(6)
        return [
            (self.place(v), f"{v:g}") for v in locator.tick_values(self.low, self.high) if self.low <= v <= self.high
        ]


def chart(
    title: str, x_label: str, series: Mapping[str, Sequence[Point]], logarithmic: bool = False, radius: float = 4
) -> Markup:
    """Curves of named points; `logarithmic` is the axis of x."""
    points = [point for curve in series.values() for point in curve]
    margin = 0.05 * (max(p.y for p in points) - min(p.y for p in points))
    x = Axis(x_label, min(p.x for p in points), max(p.x for p in points), LEFT, WIDTH - RIGHT, logarithmic)
    y = Axis("", min(p.y for p in points) - margin, max(p.y for p in points) + margin, HEIGHT - BOTTOM, TOP)
    template = TEMPLATES.get_template("chart.svg.j2")
    return Markup(template.render(title=title, x=x, y=y, series=series, width=WIDTH, height=HEIGHT, radius=radius))
