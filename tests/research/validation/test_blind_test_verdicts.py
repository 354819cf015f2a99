"""Simulated blind tests: votes as an export holds them, planted effects that are found, and the page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from research.validation import blind_test_verdicts
from research.validation.blind_test_verdicts import SimulatedBlindTest, claims, page, shares, vote_rows

NONE = SimulatedBlindTest("pairwise", 3, 8)


@pytest.mark.parametrize(("kind", "rows"), [("pairwise", 8 * 20), ("mushra", 8 * 8 * 3)])
def test_vote_rows_are_the_same_for_the_same_seed(kind: str, rows: int) -> None:
    test = replace(NONE, kind=kind)
    first, again, other = (list(vote_rows(test, test.protocol, seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == rows


@pytest.mark.parametrize("kind", ["pairwise", "mushra"])
def test_large_planted_effect_is_found_against_all(kind: str) -> None:
    assert claims(replace(NONE, kind=kind, listeners=24, effect=4.0), 0)["found_all"]


def test_correction_claims_no_more_than_single_pairs_do() -> None:
    share = shares(replace(NONE, conditions=6, taste=None), 20, 0)
    assert share["false"] <= 0.2
    assert share["false"] < share["false_uncorrected"]
    assert share["found_one"] == share["found_all"] == 0


def test_page_has_a_row_for_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind_test_verdicts, "CONDITIONS", (3,))
    monkeypatch.setattr(blind_test_verdicts, "EFFECTS", (1.0,))
    text = page(1, 0)
    assert sum(line.startswith(("| pairwise", "| ratings")) for line in text.splitlines()) == 9
    assert text.count("| 1 | 72 % |") == 3
