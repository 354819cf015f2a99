"""Charts of many designs as inline SVG: quality against cost with the Pareto front, curves over size and over steps."""

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

from talim.html.plots import ACCENT, HAIRLINE, INK, QUIET, SETTINGS, label_ends, new_axes, svg_of

SIZE_INCHES = (4.4, 3.3)
# They differ in lightness, dash and marker, so that they can be told apart without colour.
STYLES: tuple[dict[str, Any], ...] = (
    {"color": ACCENT, "linewidth": 2.2, "marker": "o"},
    {"color": INK, "linewidth": 1.5, "marker": "s", "linestyle": (0, (5, 2))},
    {"color": QUIET, "linewidth": 1.5, "marker": "^"},
    {"color": INK, "linewidth": 1.2, "marker": "D", "linestyle": (0, (1, 2))},
    {"color": QUIET, "linewidth": 1.2, "marker": "v", "linestyle": (0, (5, 2))},
    {"color": ACCENT, "linewidth": 1.2, "marker": "P", "linestyle": (0, (1, 2))},
    {"color": INK, "linewidth": 1.2, "marker": "X"},
    {"color": ACCENT, "linewidth": 1.5, "marker": "*", "linestyle": (0, (5, 2))},
)


@dataclass(frozen=True)
class DesignPoint:
    """One design: cost and quality in the chart's units, and the marker next to it ("" for none)."""

    cost: float
    quality: float
    marker: str = ""
    on_front: bool = False
    recommended: bool = False


@dataclass(frozen=True)
class ErrorBarSeries:
    """One curve with an interval at each point where it is known; `style` is an index of STYLES."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float | None]
    highs: Sequence[float | None]
    style: int = 0


def pareto_plot(points: Sequence[DesignPoint], *, alt: str, title: str, x_label: str, y_label: str) -> Markup:
    """Quality over cost (logarithmic); the Pareto front is a stepped line, its designs have markers."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_axes(SIZE_INCHES, x_label, y_label, title)
        others = [point for point in points if not point.on_front]
        axes.plot([p.cost for p in others], [p.quality for p in others], "o", color=QUIET, markersize=3.6, alpha=0.65)
        front = sorted((point for point in points if point.on_front), key=lambda point: point.cost)
        axes.step([p.cost for p in front], [p.quality for p in front], where="post", color=ACCENT, linewidth=1.8)
        axes.plot([p.cost for p in front], [p.quality for p in front], "o", color=ACCENT, markersize=5.5)
        for point in points:
            if point.recommended:
                axes.plot([point.cost], [point.quality], "o", color=INK, markersize=12, fillstyle="none")
        _log_axis(axes, [point.cost for point in points])
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.margins(y=0.14)
        _add_markers(axes, front)
        return svg_of(figure, alt)


def size_curve_plot(
    curves: Sequence[ErrorBarSeries],
    *,
    alt: str,
    title: str,
    x_label: str,
    y_label: str,
    level: tuple[str, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """Curves over a logarithmic size, each labelled at its end; `level` is a labelled reference line.

    `y_range` is the lowest and highest y of all panels that are compared.
    """
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_axes(SIZE_INCHES, x_label, y_label, title)
        labels = []
        for curve in curves:
            style = STYLES[curve.style % len(STYLES)]
            axes.plot(curve.xs, curve.ys, markersize=5, **style)
            for x, low, high in zip(curve.xs, curve.lows, curve.highs, strict=True):
                if low is not None and high is not None:
                    axes.plot([x, x], [low, high], color=style["color"], linewidth=1, alpha=0.8)
            labels.append((curve.ys[-1], curve.label, style["color"]))
        if level:
            axes.axhline(level[1], color=QUIET, linewidth=1, linestyle=(0, (2, 2)))
            labels.append((level[1], level[0], QUIET))
        _log_axis(axes, [x for curve in curves for x in curve.xs], ticks=True)
        if y_range:
            low, high = y_range
            margin = 0.06 * (high - low or 1.0)
            axes.set_ylim(low - margin, high + margin)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        right = axes.get_xlim()[1]
        label_ends(axes, [(*label, right) for label in labels], SIZE_INCHES[1], 5)
        return svg_of(figure, alt)


def step_curve_plot(curves: Sequence[ErrorBarSeries], *, alt: str, title: str, x_label: str, y_label: str) -> Markup:
    """Curves over optimiser steps, each in its style; `style_sample` draws what a legend beside it shows."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_axes(SIZE_INCHES, x_label, y_label, title)
        for curve in curves:
            axes.plot(curve.xs, curve.ys, markersize=4.5, **STYLES[curve.style % len(STYLES)])
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        return svg_of(figure, alt)


def style_sample(style: int, label: str) -> Markup:
    """A short line with a marker in one of STYLES, for the legend of `step_curve_plot`."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(0.6, 0.2))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.plot([0, 1, 2], [0, 0, 0], markersize=5.5, markevery=[1], **STYLES[style % len(STYLES)])
        axes.margins(x=0.02)
        return svg_of(figure, f"line of {label}")


def _log_axis(axes: Axes, xs: Sequence[float], ticks: bool = False) -> None:
    """A logarithmic axis with plain decimal numbers; `ticks` puts a tick at each x."""
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
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", color=HAIRLINE)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}".replace(",", "\u202f")))


def _add_markers(axes: Axes, points: Sequence[DesignPoint]) -> None:
    """Markers of the points; of two that would overlap only the better one is drawn, the recommended one always."""
    drawn: list[tuple[float, float]] = []
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for point in sorted(points, key=lambda point: (not point.recommended, -point.quality)):
        position = math.log(point.cost / left) / math.log(right / left), (point.quality - low) / (high - low)
        if not point.marker or any(abs(position[0] - x) < 0.075 and abs(position[1] - y) < 0.07 for x, y in drawn):
            continue
        drawn.append(position)
        at = (point.cost, point.quality)
        axes.annotate(point.marker, at, xytext=(-5, 6), textcoords="offset points", ha="right", color=INK, fontsize=9.5)
