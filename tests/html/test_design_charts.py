"""Charts: markers and labels are text, the Pareto front is a stepped line, panels share their y range."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from talim.html.design_charts import (
    STYLES,
    DesignPoint,
    ErrorBarSeries,
    pareto_plot,
    size_curve_plot,
    step_curve_plot,
    style_sample,
)

POINTS = [
    DesignPoint(10.0, 0.5, "1", on_front=True),
    DesignPoint(100.0, 0.9, "2", on_front=True, recommended=True),
    DesignPoint(101.0, 0.901, "3", on_front=True),
    DesignPoint(200.0, 0.6),
]
CURVES = [
    ErrorBarSeries("conv", [0.5, 2.7], [0.8, 1.0], [0.7, 0.9], [0.9, 1.1]),
    ErrorBarSeries("linear", [0.5, 2.7], [0.79, 0.99], [None, None], [None, None], 2),
]


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("text")]


def heights(svg: str, words: str) -> float:
    """The y of a text, which stands in its transform."""
    for node in ElementTree.fromstring(svg).iter("text"):
        if "".join(node.itertext()) == words:
            place = node.get("y") or re.findall(r"[-\d.]+", node.get("transform", "0 0"))[1]
            return float(place)
    raise AssertionError(f"no {words}")


def test_pareto_plot_has_axis_labels_and_markers() -> None:
    svg = pareto_plot(POINTS, alt="four designs", title="Time", x_label="seconds", y_label="loss_reduction")
    found = texts(svg)
    assert {"Time", "seconds", "loss_reduction", "1", "2"} <= set(found)
    assert "3" not in found  # it would overlap the recommended design's marker
    assert 'aria-label="four designs"' in svg
    assert "var(--accent)" in svg
    assert not re.search(r"(stroke|fill): #", svg)


def test_pareto_plot_of_one_point_without_cost_is_drawn() -> None:
    for points in ([DesignPoint(1.0, 1.0, "1", True)], [DesignPoint(0.0, 1.0)], []):
        assert "<svg" in pareto_plot(points, alt="x", title="", x_label="", y_label="")


def test_size_curve_plot_labels_do_not_overlap_and_share_the_range() -> None:
    panels = [
        size_curve_plot(
            curves,
            alt="x",
            title="t",
            x_label="size",
            y_label="loss_reduction",
            level=("full@all", 1.05),
            y_range=(0.0, 1.5),
        )
        for curves in (CURVES, CURVES[:1])
    ]
    for svg in panels:
        assert {"conv", "full@all", "0.5", "2.7", "size"} <= set(texts(svg))
    assert abs(heights(panels[0], "conv") - heights(panels[0], "linear")) > 10
    assert heights(panels[0], "0.5") == heights(panels[1], "0.5")


def test_styles_differ_without_their_colours() -> None:
    """By marker, so that a reader who sees no colours finds each line of the legend."""
    assert len({style["marker"] for style in STYLES}) == len(STYLES)
    samples = [style_sample(number, "x") for number in range(len(STYLES))]
    assert len({re.sub(r'plot-[0-9a-f]+-|var\(--\w+\)|"m[0-9a-f]+"', "", str(sample)) for sample in samples}) == len(
        STYLES
    )


def test_step_curve_plot_draws_each_curve_in_its_style() -> None:
    svg = step_curve_plot(CURVES, alt="two", title="ney", x_label="optimiser steps", y_label="validation loss")
    assert {"ney", "optimiser steps", "validation loss", "0"} <= set(texts(svg))
    assert "conv" not in texts(svg)  # its name stands in the legend
    assert all(f"var({variable})" in svg for variable in ("--accent", "--quiet"))
