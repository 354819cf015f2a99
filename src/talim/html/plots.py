"""Plots as inline SVG with text elements and colours that follow the page's light or dark scheme."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import matplotlib.text
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Role = Literal["accent", "ink", "quiet"]

# matplotlib draws in these placeholder colours; each is then replaced by a variable of the page's style sheet, so that
# one SVG serves both schemes. The three roles also differ in lightness, width and dash.
CSS_COLOR_PLACEHOLDERS = {"#010203": "--ink", "#040506": "--accent", "#070809": "--quiet", "#0a0b0c": "--hairline"}
INK, ACCENT, QUIET, HAIRLINE = CSS_COLOR_PLACEHOLDERS
STYLES: dict[Role, dict[str, Any]] = {
    "accent": {"color": ACCENT, "linewidth": 2.2, "marker": "o", "markersize": 4.2},
    "ink": {"color": INK, "linewidth": 1.4, "linestyle": (0, (5, 2))},
    "quiet": {"color": QUIET, "linewidth": 1.3},
}
SCREENS_INCHES = {"broad": (8.4, 3.1), "narrow": (4.4, 3.0)}  # of curves, for a wide and a narrow screen
SETTINGS: Any = {"svg.fonttype": "none", "font.size": 11, "axes.linewidth": 0.8, "svg.hashsalt": "talim"}


@dataclass(frozen=True)
class LineSeries:
    """One curve: points in the plot's units, the label at its end, and its role."""

    xs: Sequence[float]
    ys: Sequence[float]
    label: str
    role: Role = "accent"


@dataclass(frozen=True)
class ErrorBar:
    """One row of an interval plot: a value, and the ends of its interval if they are known."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = False


def curve_plot(
    lines: Sequence[LineSeries],
    *,
    alt: str,
    x_label: str = "step",
    y_label: str = "",
    title: str = "",
    size_inches: tuple[float, float] = (6.8, 3.0),
) -> Markup:
    """Curves over a common x, each labelled at its end; one of a single point is a marker. `alt`: text alternative."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_axes(size_inches, x_label, y_label, title)
        for line in lines:
            point = {"marker": "o", "markersize": 4.2} if len(line.xs) == 1 else {}
            axes.plot(line.xs, line.ys, **STYLES[line.role] | point)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        ends = [(line.ys[-1], line.label, STYLES[line.role]["color"], line.xs[-1]) for line in lines if len(line.ys)]
        label_ends(axes, [end for end in ends if end[1]], size_inches[1], 8)
        return svg_of(figure, alt)


def interval_plot(rows: Sequence[ErrorBar], *, alt: str, x_label: str, width_inches: float = 6.8) -> Markup:
    """Values with their intervals, one row each, with a line at 0; `strong` rows are emphasised."""
    with matplotlib.rc_context(SETTINGS):
        figure, axes = new_axes((width_inches, 0.75 + 0.34 * len(rows)), x_label, grid="x")
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=INK, linewidth=1)
        for y, row in enumerate(rows):
            color = ACCENT if row.strong else QUIET
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [y, y], color=color, linewidth=3 if row.strong else 1.5)
            axes.plot([row.value], [y], marker="D" if row.strong else "o", color=color, markersize=6)
        labels = [row.label if len(row.label) <= 22 else f"{row.label[:21]}…" for row in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        return svg_of(figure, alt)


def responsive_pair(
    rows: Sequence[ErrorBar], *, alt: str, x_label: str, widths_inches: tuple[float, float] = (6.8, 3.8)
) -> dict[str, Markup]:
    """The same intervals for wide (`broad`) and narrow (`narrow`) screens, of which the page shows one."""
    widths = zip(SCREENS_INCHES, widths_inches, strict=True)
    return {name: interval_plot(rows, alt=alt, x_label=x_label, width_inches=width) for name, width in widths}


def responsive_curves(lines: Sequence[LineSeries], *, alt: str, x_label: str, y_label: str) -> dict[str, Markup]:
    """The same curves for wide and narrow screens, as in `responsive_pair`."""
    return {
        name: curve_plot(lines, alt=alt, x_label=x_label, y_label=y_label, size_inches=size)
        for name, size in SCREENS_INCHES.items()
    }


def new_axes(
    size_inches: tuple[float, float], x_label: str, y_label: str = "", title: str = "", grid: Literal["x", "y"] = "y"
) -> tuple[Figure, Axes]:
    """A figure with two thin spines, muted ticks and a grid along one axis, in the page's colours."""
    figure = Figure(figsize=size_inches, layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(HAIRLINE)
    axes.tick_params(color=HAIRLINE, labelcolor=QUIET, length=3)
    axes.grid(axis=grid, color=HAIRLINE, linewidth=0.7)
    axes.set_axisbelow(True)
    # a long label is centred on the axes, which a narrow drawing shares with the names of the rows
    axes.set_xlabel(textwrap.fill(x_label, max(18, int(8 * size_inches[0]))), color=QUIET)
    axes.set_ylabel(y_label, color=QUIET)
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    return figure, axes


def label_ends(
    axes: Axes, ends: Sequence[tuple[float, str, str, float]], height_inches: float, offset_points: float
) -> None:
    """Texts (y, label, colour, x) right of the ends of curves; they are moved apart if two would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.24 / height_inches  # one line of 11 pt text, in the plot's units
    above = low - gap
    style: Any = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
    for y, label, color, x in sorted(ends):
        above = max(y, above + gap)
        axes.annotate(label, (x, above), xytext=(offset_points, 0), color=color, **style)


def svg_of(figure: Figure, alt: str) -> Markup:
    """The figure as inline SVG: unique ids, page colours and font, no external references."""
    FigureCanvasSVG(figure)
    for text in figure.findobj(matplotlib.text.Text):
        text.set_parse_math(False)  # a recording's name may contain a dollar sign
    buffer = io.StringIO()
    with warnings.catch_warnings():  # letters that matplotlib's font lacks are drawn with one of the browser's
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    prefix = f"plot-{hashlib.sha256((alt + text).encode()).hexdigest()[:8]}-"  # two plots share no ids
    text = re.sub(r'(\bid="|href="#|url\(#)', lambda match: match.group(1) + prefix, text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for placeholder, variable in CSS_COLOR_PLACEHOLDERS.items():
        text = text.replace(placeholder, f"var({variable})")
    view = re.search(r'viewBox="([^"]*)"', text)
    head = f'<svg class="plot" role="img" aria-label="{escape(alt)}" viewBox="{view.group(1) if view else ""}">'
    return Markup(head + text[text.index(">") + 1 :].strip())
