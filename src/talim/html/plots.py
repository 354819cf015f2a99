"""Plots as inline SVG with text elements and colours that follow the page's light or dark scheme."""

from __future__ import annotations

import hashlib
import io
import re
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
    """Curves over a common x, each labelled at its end; `alt` is the text alternative."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=size_inches, layout="constrained")
        axes = figure.add_subplot()
        style_axes(axes)
        for line in lines:
            axes.plot(line.xs, line.ys, **STYLES[line.role])
        axes.set_xlabel(x_label, color=QUIET)
        axes.set_ylabel(y_label, color=QUIET)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        if title:
            axes.set_title(title, loc="left", color=INK, fontsize=11)
        _label_ends(axes, lines, size_inches[1])
        return svg_of(figure, alt)


def interval_plot(rows: Sequence[ErrorBar], *, alt: str, x_label: str, width_inches: float = 6.8) -> Markup:
    """Values with their intervals, one row each, with a line at 0; `strong` rows are emphasised."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(width_inches, 0.75 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        style_axes(axes, grid="x")
        axes.spines["left"].set_visible(False)
        axes.axvline(0, color=INK, linewidth=1)
        for y, row in enumerate(rows):
            color = ACCENT if row.strong else QUIET
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [y, y], color=color, linewidth=3 if row.strong else 1.5)
            axes.plot([row.value], [y], marker="D" if row.strong else "o", color=color, markersize=6)
        axes.set_yticks(range(len(rows)), [_short(row.label) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.set_xlabel(x_label, color=QUIET)
        return svg_of(figure, alt)


def responsive_pair(rows: Sequence[ErrorBar], *, alt: str, x_label: str) -> dict[str, Markup]:
    """The same intervals for wide (`broad`) and narrow (`narrow`) screens, of which the page shows one."""
    return {
        "broad": interval_plot(rows, alt=alt, x_label=x_label),
        "narrow": interval_plot(rows, alt=alt, x_label=x_label, width_inches=3.8),
    }


def _short(label: str, letters: int = 22) -> str:
    return label if len(label) <= letters else label[: letters - 1] + "…"


def style_axes(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Two thin spines, muted ticks and a grid along one axis, in the page's colours."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(HAIRLINE)
    axes.tick_params(color=HAIRLINE, labelcolor=QUIET, length=3)
    axes.grid(axis=grid, color=HAIRLINE, linewidth=0.7)
    axes.set_axisbelow(True)


def _label_ends(axes: Axes, lines: Sequence[LineSeries], height_inches: float) -> None:
    """Label each curve right of its last point; labels are moved apart if two would overlap."""
    ends = sorted((line for line in lines if line.label and len(line.ys)), key=lambda line: line.ys[-1])
    low, high = axes.get_ylim()
    gap = (high - low) * 0.24 / height_inches  # one line of 11 pt text, in the plot's units
    above = low - gap
    for line in ends:
        y = max(line.ys[-1], above + gap)
        above = y
        color = {"accent": ACCENT, "ink": INK, "quiet": QUIET}[line.role]
        axes.annotate(
            line.label,
            (line.xs[-1], y),
            xytext=(8, 0),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )


def svg_of(figure: Figure, alt: str) -> Markup:
    """The figure as inline SVG: unique ids, page colours and font, no external references."""
    FigureCanvasSVG(figure)
    for text in figure.findobj(matplotlib.text.Text):
        text.set_parse_math(False)  # a recording's name may contain a dollar sign
    buffer = io.StringIO()
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
