"""Line charts as inline SVG that takes its colours from the page, so that they suit light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 560, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 34


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: for the legend.
        points: (x, y), x ascending; points that are not finite leave a gap.
    """

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    series: Sequence[Series], *, label: str, log: bool = False, bounds: tuple[float, float] | None = None
) -> str:
    """Draw lines over training iterations.

    Args:
        series: at most eight; their order decides their colours.
        label: what a screen reader says.
        log: logarithmic y axis (values that are not positive are left out).
        bounds: lowest and highest y; None: from the values.

    Returns:
        An ``<svg>`` element and its legend, or an empty text where there are fewer than two points.
    """
    finite = (
        Series(one.name, [p for p in one.points if math.isfinite(p[1]) and (p[1] > 0 or not log)]) for one in series
    )
    kept = [one for one in finite if one.points]
    xs = [x for one in kept for x, _ in one.points]
    ys = [y for one in kept for _, y in one.points]
    if len(set(xs)) < 2:
        return ""
    transform = math.log10 if log else float
    low, high = (transform(min(ys)), transform(max(ys))) if bounds is None else map(transform, bounds)
    ticks = _log_ticks(low, high) if log else _ticks(low, high)
    if bounds is None and not log:
        low, high = min(low, ticks[0]), max(high, ticks[-1])
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    first, last = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        column = _LEFT + (x - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        row = _TOP + (high - transform(y)) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return column, row

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">']
    for tick in ticks:
        value = 10**tick if log else tick
        if low - 1e-9 <= tick <= high + 1e-9:
            row = place(first, value)[1]
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{row:.1f}" y2="{row:.1f}"/>')
            parts.append(f'<text class="y" x="{_LEFT - 8}" y="{row + 4:.1f}">{_short(value)}</text>')
    for tick in _ticks(first, last):
        if first <= tick <= last:
            column = place(tick, 1.0 if log else low)[0]
            parts.append(f'<text class="x" x="{column:.1f}" y="{_HEIGHT - 12}">{_short(tick)}</text>')
    for index, one in enumerate(kept):
        places = [place(x, min(max(y, bounds[0]), bounds[1]) if bounds else y) for x, y in one.points]
        path = " ".join(f"{column:.1f},{row:.1f}" for column, row in places)
        parts.append(f'<polyline class="line c{index % 8}" points="{path}"/>')
        if len(places) <= 30:
            parts += [f'<circle class="dot c{index % 8}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
    parts.append("</svg>")
    names = "".join(
        f'<span><i class="key c{index % 8}"></i>{escape(one.name)} <b>{_short(one.points[-1][1])}</b></span>'
        for index, one in enumerate(kept)
    )
    return "".join(parts) + f'<div class="keys">{names}</div>'


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round values that span [low, high]."""
    span = max(high - low, 1e-9 * max(abs(low), abs(high), 1e-3))
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(start, end + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return the logarithms of 1, 2, 5, 10... inside [low, high]."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [decade + math.log10(factor) for decade in decades for factor in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) <= 7 else [tick for tick in inside if abs(tick - round(tick)) < 1e-9]


def _short(value: float) -> str:
    """Write a number with at most three digits, thousands as k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}" if abs(value) < 100 or value != round(value) else f"{value:.0f}"
