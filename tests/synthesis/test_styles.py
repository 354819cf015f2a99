"""Schools: tempi from what a cycle's facts say, courses from a mode's contour, only instruments that exist."""

from __future__ import annotations

from dataclasses import replace

import pytest

from talim.synthesis.instruments import INSTRUMENTS
from talim.synthesis.styles import load_styles, style_of
from talim.traditions.schema import Cycle
from talim.traditions.tradition import load

HINDUSTANI, MAKAM, PLAIN_STYLE = (style_of(slug) for slug in ("hindustani", "makam", "carnatic"))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"tempo_bpm": [70, 90]}, (70, 90)),
        ({"tempo": "slow to medium"}, (14, 170)),
        ({"tempo": "very slow or fast"}, (14, 280)),
        ({"signature": "9/8"}, (96, 245)),
        ({"signature": "9/4"}, (58, 115)),
        ({}, PLAIN_STYLE.tempo_bpm),
        ({"tempo": "brisk"}, PLAIN_STYLE.tempo_bpm),
    ],
)
def test_tempo_range_comes_from_cycle_facts(facts: dict, expected: tuple[float, float]) -> None:
    assert PLAIN_STYLE.tempo_range_bpm(Cycle("c", "C", (), 9, facts=facts)) == expected


def test_register_contour_starts_by_contour_and_ends_low() -> None:
    rast = load("makam").mode("Rast")
    starts = {c: MAKAM.register_contour(replace(rast, contour=c))[0][1] for c in ("ascending", "both", "descending")}
    assert starts["ascending"] < starts["both"] < starts["descending"] == 1200
    for contour in ("ascending", "both", "descending", ""):
        contour_points = MAKAM.register_contour(replace(rast, contour=contour))
        assert contour_points[-1] == (1.0, 0.0)
        assert [fraction for fraction, _ in contour_points] == sorted(fraction for fraction, _ in contour_points)


def test_styles_instruments_exist_and_cover_families() -> None:
    for style in (HINDUSTANI, MAKAM, PLAIN_STYLE):
        names = {*style.lead_instruments, *style.accompanying_instruments}
        assert names <= set(INSTRUMENTS)
        assert {INSTRUMENTS[name].family for name in names} == {"voice", "bowed", "plucked", "blown"}
        assert len(set(style.accompanying_instruments)) >= 3
    assert HINDUSTANI is load_styles()["hindustani"]
    assert PLAIN_STYLE is load_styles()["plain"]
    assert style_of("marsh") is PLAIN_STYLE
