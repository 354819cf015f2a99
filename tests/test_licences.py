"""Tests of talim.licences: only names known to allow commercial use count as allowed."""

from __future__ import annotations

import pytest

from talim.licences import allows_commercial_use, commercial_use_objection


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        ("CC0-1.0", "allowed"),
        ("cc0", "allowed"),
        ("Public Domain", "allowed"),
        ("CC BY 4.0", "allowed"),
        ("CC-BY-SA-4.0", "allowed"),
        ("Apache-2.0", "allowed"),
        ("MIT", "allowed"),
        ("CC-BY-NC-4.0", "forbidden"),
        ("CC BY-NC-SA 4.0 (SymbTr)", "forbidden"),
        ("cc_by_nc_4.0", "forbidden"),
        ("CC BY-ND 4.0", "forbidden"),
        ("Non-commercial use only", "forbidden"),
        ("All rights reserved", "forbidden"),
        ("© the artist", "forbidden"),
        ("unknown", "unknown"),
        ("", "unknown"),
        ("see the label's website", "unknown"),
        ("CC BY 4.0, but ask the archive first", "unknown"),
        ("committee", "unknown"),
    ],
)
def test_allows_commercial_use_judges_the_name(licence: str, use: str) -> None:
    assert allows_commercial_use(licence) == use
    assert bool(commercial_use_objection(licence)) is (use != "allowed")


def test_commercial_use_objection_names_the_licence() -> None:
    assert commercial_use_objection("CC BY-NC 4.0") == "its licence (CC BY-NC 4.0) forbids commercial use"
    assert commercial_use_objection("") == "its licence (unknown) is not known to allow commercial use"
