"""Charts of many designs as inline SVG: quality against cost with its frontier, and curves over size with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from talim.html.plots import ACCENT, HAIRLINE, INK, QUIET, SETTINGS, style_axes, svg_of

SIZE_INCHES = (4.4, 3.3)
# One after another: they differ in lightness, dash and marker, since hue alone never tells.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": ACCENT, "linewidth": 2.2, "marker": "o"},
    {"color": INK, "linewidth": 1.5, "marker": "s", "linestyle": (0, (5, 2))},
    {"color": QUIET, "linewidth": 1.5, "marker": "^"},
    {"color": INK, "linewidth": 1.2, "marker": "D", "linestyle": (0, (1, 2))},
    {"color": QUIET, "linewidth": 1.2, "marker": "v", "linestyle": (0, (5, 2))},
    {"color": ACCENT, "linewidth": 1.2, "marker": "P", "linestyle": (0, (1, 2))},
)


@dataclass(frozen=True)
class DesignPoint:
    """One design: price and quality in the chart's units, and the mark beside it ("" for none)."""

    price: float
    quality: float
    mark: str = ""
    on_frontier: bool = False
    chosen: bool = False


@dataclass(frozen=True)
class ErrorBarSeries:
    """One curve with an interval at each point where it is known; `style` counts through STYLES."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float | None]
    highs: Sequence[float | None]
    style: int = 0


def frontier_plot(
    points: Sequence[DesignPoint], *, alt: str, title: str, x_label: str, y_label: str
) -> Markup:
    """Quality over price (logarithmic); the frontier is a line of steps, its designs carry their marks."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        style_axes(axes)
        rest = [point for point in points if not point.on_frontier]
        axes.plot(
            [p.price for p in rest], [p.quality for p in rest], "o", color=QUIET, markersize=3.6, alpha=0.65
        )
        best = sorted((point for point in points if point.on_frontier), key=lambda point: point.price)
        axes.step(
            [p.price for p in best], [p.quality for p in best], where="post", color=ACCENT, linewidth=1.8
        )
        axes.plot([p.price for p in best], [p.quality for p in best], "o", color=ACCENT, markersize=5.5)
        for point in points:
            if point.chosen:
                axes.plot([point.price], [point.quality], "o", color=INK, markersize=12, fillstyle="none")
        _log_axis(axes, [point.price for point in points])
        axes.set_title(title, loc="left", color=INK, fontsize=11)
        axes.set_xlabel(x_label, color=QUIET)
        axes.set_ylabel(y_label, color=QUIET)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.margins(y=0.14)
        _marks(axes, best)
        return svg_of(figure, alt)


def size_curve_plot(
    curves: Sequence[ErrorBarSeries],
    *,
    alt: str,
    title: str,
    x_label: str,
    y_label: str,
    level: tuple[str, float] | None = None,
    ends: tuple[float, float] | None = None,
) -> Markup:
    """Curves over a logarithmic size, each named at its end; `level` is a named height to compare with.

    `ends` are the lowest and highest y of all the panels that are to be compared.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        style_axes(axes)
        named = []
        for curve in curves:
            style = STYLES[curve.style % len(STYLES)]
            axes.plot(curve.xs, curve.ys, markersize=5, **style)
            for x, low, high in zip(curve.xs, curve.lows, curve.highs, strict=True):
                if low is not None and high is not None:
                    axes.plot([x, x], [low, high], color=style["color"], linewidth=1, alpha=0.8)
            named.append((curve.ys[-1], curve.label, style["color"]))
        if level:
            axes.axhline(level[1], color=QUIET, linewidth=1, linestyle=(0, (2, 2)))
            named.append((level[1], level[0], QUIET))
        _log_axis(axes, [x for curve in curves for x in curve.xs], ticks=True)
        if ends:
            room = 0.06 * (ends[1] - ends[0] or 1.0)
            axes.set_ylim(ends[0] - room, ends[1] + room)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_title(title, loc="left", color=INK, fontsize=11)
        axes.set_xlabel(x_label, color=QUIET)
        axes.set_ylabel(y_label, color=QUIET)
        _names(axes, named)
        return svg_of(figure, alt)


def _log_axis(axes: Axes, xs: Sequence[float], ticks: bool = False) -> None:
    """A logarithmic axis that writes numbers as people do; `ticks` puts one at each x."""
    positive = sorted({x for x in xs if x > 0})
    if not positive:
        return
    axes.set_xscale("log")
    axes.set_xlim(positive[0] / 1.3, positive[-1] * 1.3)
    if ticks:
        axes.set_xticks([x for n, x in enumerate(positive) if n == 0 or x / positive[n - 1] > 1.3])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        narrow = positive[-1] / positive[0] < 30
        axes.xaxis.set_major_locator(
            LogLocator(base=10, subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=6)
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", color=HAIRLINE)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}".replace(",", "\u202f")))


def _marks(axes: Axes, points: Sequence[DesignPoint]) -> None:
    """Marks of the points; where two would overlap the better one keeps its mark, and the advised one always."""
    written: list[tuple[float, float]] = []
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for point in sorted(points, key=lambda point: (not point.chosen, -point.quality)):
        place = math.log(point.price / left) / math.log(right / left), (point.quality - low) / (high - low)
        if not point.mark or any(abs(place[0] - x) < 0.075 and abs(place[1] - y) < 0.07 for x, y in written):
            continue
        written.append(place)
        at = (point.price, point.quality)
        axes.annotate(
            point.mark, at, xytext=(-5, 6), textcoords="offset points", ha="right", color=INK, fontsize=9.5
        )


def _names(axes: Axes, named: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the curves' ends, pushed apart where two would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.24 / SIZE_INCHES[1]
    right = axes.get_xlim()[1]
    above = low - gap
    for y, label, color in sorted(named):
        above = max(y, above + gap)
        axes.annotate(
            label,
            (right, above),
            xytext=(5, 0),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )
