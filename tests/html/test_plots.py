"""Plots: well-formed SVG with text elements, page colours, unique ids and text alternatives."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from talim.html.plots import CSS_COLOR_PLACEHOLDERS, ErrorBar, LineSeries, Role, curve_plot, interval_plot

FALLING = [
    LineSeries([0, 50, 100], [3.4, 3.2, 3.1], "held out"),
    LineSeries([1, 50, 100], [3.4, 3.1, 3.0], "training", "quiet"),
]


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("text")]


def test_curve_plot_labels_are_text() -> None:
    found = texts(curve_plot(FALLING, alt="two curves", x_label="training step", y_label="loss in nats", title="Loss"))
    assert {"held out", "training", "training step", "loss in nats", "Loss", "0", "100"} <= set(found)


def test_curve_plot_colours_are_page_variables() -> None:
    svg = curve_plot(FALLING, alt="x")
    assert "var(--accent)" in svg
    assert "var(--quiet)" in svg
    assert not any(stand_in in svg for stand_in in CSS_COLOR_PLACEHOLDERS)
    assert not re.search(r"(stroke|fill): #", svg)


def test_curve_plot_has_no_external_references_or_styles() -> None:
    svg = curve_plot(FALLING, alt="x")
    assert "http" not in svg
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert not re.search(r'href="(?!#)', svg)


def test_curve_plot_ids_are_unique_and_reproducible() -> None:
    first, second = curve_plot(FALLING, alt="one"), curve_plot(FALLING, alt="two")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', first))
    assert used
    assert used <= ids[0]
    assert curve_plot(FALLING, alt="one") == first


def test_curve_plot_escapes_alt_and_labels() -> None:
    svg = curve_plot([LineSeries([0, 1], [0, 1], "<b>&$x$")], alt='"quoted" <i>')
    assert ElementTree.fromstring(svg).get("aria-label") == '"quoted" <i>'
    assert "<b>&$x$" in texts(svg)
    assert 'role="img"' in svg


def label_heights(svg: str, *labels: str) -> list[float]:
    nodes = {"".join(node.itertext()): node for node in ElementTree.fromstring(svg).iter("text")}
    return [float(nodes[label].attrib["y"]) for label in labels]


def test_curve_plot_labels_of_equal_ends_do_not_overlap() -> None:
    svg = curve_plot([LineSeries([0, 1], [2, 1.00], "one"), LineSeries([0, 1], [2, 1.001], "two")], alt="x")
    first, second = label_heights(svg, "one", "two")
    assert abs(first - second) > 10


@pytest.mark.parametrize(("role", "color"), [("quiet", "--quiet"), ("ink", "--ink"), ("accent", "--accent")])
def test_curve_plot_of_one_point_draws_it(role: Role, color: str) -> None:
    svg = ElementTree.fromstring(curve_plot([LineSeries([1], [3.4], "training", role)], alt="one step"))
    axes = next(node for node in svg.iter() if node.get("id", "").endswith("axes_1"))
    lines = [node for node in axes if "-line2d_" in node.get("id", "")]  # of the axes themselves: curves
    markers = [use for line in lines for use in line.iter("use")]
    assert len(markers) == 1
    assert color in markers[0].get("style", "")


def test_curve_plot_without_points_is_drawn() -> None:
    assert "step" in texts(curve_plot([], alt="nothing yet"))


def test_interval_plot_draws_each_row_and_emphasises_strong_ones() -> None:
    rows = [
        ErrorBar("phone 0042", 0.12),
        ErrorBar("a name that is much too long for a row", 0.3),
        ErrorBar("mean", 0.2, 0.1, 0.3, True),
    ]
    svg = interval_plot(rows, alt="falls", x_label="fall in nats")
    found = texts(svg)
    assert "phone 0042" in found
    assert "a name that is much t…" in found
    assert "fall in nats" in found
    assert "var(--accent)" in svg
    assert "var(--accent)" not in interval_plot(rows[:2], alt="falls", x_label="x")


@pytest.mark.parametrize("n_rows", [1, 30])
def test_interval_plot_height_grows_with_rows(n_rows: int) -> None:
    svg = interval_plot([ErrorBar(str(n), n) for n in range(n_rows)], alt="x", x_label="x")
    height = float(ElementTree.fromstring(svg).attrib["viewBox"].split()[-1])
    assert height == pytest.approx(72 * (0.75 + 0.34 * n_rows), rel=0.01)
