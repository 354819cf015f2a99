"""Plots: well-formed SVG with readable text, page colours, own ids, and words for who cannot see them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from talim.html.plots import CSS_COLOR_PLACEHOLDERS, ErrorBar, LineSeries, curve_plot, interval_plot

FALLING = [
    LineSeries([0, 50, 100], [3.4, 3.2, 3.1], "held out"),
    LineSeries([1, 50, 100], [3.4, 3.1, 3.0], "training", "quiet"),
]


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("text")]


def test_curves_are_labelled_text_not_outlines() -> None:
    found = texts(
        curve_plot(FALLING, alt="two curves", x_label="training step", y_label="loss in nats", title="Loss")
    )
    assert {"held out", "training", "training step", "loss in nats", "Loss", "0", "100"} <= set(found)


def test_colours_come_from_the_page() -> None:
    svg = curve_plot(FALLING, alt="x")
    assert "var(--accent)" in svg
    assert "var(--quiet)" in svg
    assert not any(stand_in in svg for stand_in in CSS_COLOR_PLACEHOLDERS)
    assert not re.search(r"(stroke|fill): #", svg)


def test_nothing_points_outside_and_no_style_leaks() -> None:
    svg = curve_plot(FALLING, alt="x")
    assert "http" not in svg
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert not re.search(r'href="(?!#)', svg)


def test_two_plots_share_no_ids_and_one_plot_is_reproducible() -> None:
    first, second = curve_plot(FALLING, alt="one"), curve_plot(FALLING, alt="two")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', first))
    assert used
    assert used <= ids[0]
    assert curve_plot(FALLING, alt="one") == first


def test_alt_text_and_labels_are_escaped() -> None:
    svg = curve_plot([LineSeries([0, 1], [0, 1], "<b>&$x$")], alt='"quoted" <i>')
    assert ElementTree.fromstring(svg).get("aria-label") == '"quoted" <i>'
    assert "<b>&$x$" in texts(svg)
    assert 'role="img"' in svg


def label_heights(svg: str, *labels: str) -> list[float]:
    nodes = {"".join(node.itertext()): node for node in ElementTree.fromstring(svg).iter("text")}
    return [float(nodes[label].attrib["y"]) for label in labels]


def test_names_of_curves_that_end_together_do_not_overlap() -> None:
    svg = curve_plot([LineSeries([0, 1], [2, 1.00], "one"), LineSeries([0, 1], [2, 1.001], "two")], alt="x")
    first, second = label_heights(svg, "one", "two")
    assert abs(first - second) > 10


def test_curves_without_points_are_still_a_plot() -> None:
    assert "step" in texts(curve_plot([], alt="nothing yet"))


def test_intervals_show_each_row_and_the_strong_one_in_accent() -> None:
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
def test_interval_plot_grows_with_its_rows(n_rows: int) -> None:
    svg = interval_plot([ErrorBar(str(n), n) for n in range(n_rows)], alt="x", x_label="x")
    height = float(ElementTree.fromstring(svg).attrib["viewBox"].split()[-1])
    assert height == pytest.approx(72 * (0.75 + 0.34 * n_rows), rel=0.01)
