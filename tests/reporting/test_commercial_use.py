"""Tests of talim.reporting.commercial_use: one judgement of rights, which is no yes while anything is unknown."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from talim.reporting import commercial_use

RIGHTS: dict[str, Any] = {
    "base": "b",
    "base_licence": "MIT",
    "recordings": {"CC0-1.0": 3},
    "consent": {"given in writing": 2, "not needed: no person performs": 1},
    "attributions": [
        {"performer": "Meera", "consent": "given in writing"},
        {"performer": "unknown", "consent": "not needed: no person performs"},
    ],
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "base b (unknown)": {"base_licence": "unknown"},
    "recordings under 'unknown'": {"recordings": {"CC0-1.0": 1, "unknown": 2}},
    "recordings under 'ask me'": {"recordings": {"ask me": 2}},
    "unknown consent of the performers (2 recordings)": {"consent": {"given": 1, "unknown": 2}},
    "unknown consent of the performers (the recordings)": {"consent": {}},
    "unknown performers (1 recording)": {"attributions": [{"performer": "Meera; unknown", "consent": "given"}]},
    "unknown performers (the recordings)": {"attributions": []},
    "the adapter it began from, someone/lora (unknown)": {"adapter": "someone/lora", "adapter_licence": "unknown"},
    "the phrase alap.wav (unknown)": {"phrase": {"file": "alap.wav", "rights": "unknown"}},
}


def test_all_on_record_is_told_as_what_the_record_says() -> None:
    assert commercial_use.judge(RIGHTS) == ("allowed", [])
    text = commercial_use.sentence(RIGHTS)
    assert text["en"].startswith("nothing on record stands against it (licences, consent, performers)")
    assert "allow" not in text["en"]
    assert text["ja"].startswith("記録")


@pytest.mark.parametrize("obstacle", UNKNOWN)
def test_one_unknown_of_any_kind_is_no_yes(obstacle: str) -> None:
    rights = RIGHTS | UNKNOWN[obstacle]
    use, reasons = commercial_use.judge(rights)
    assert (use, [reason["en"] for reason in reasons]) == ("unknown", [obstacle])
    assert commercial_use.sentence(rights)["en"] == f"not cleared, because of {obstacle}"
    assert commercial_use.sentence(rights)["ja"].startswith("許可を確認できません（")


@pytest.mark.parametrize(("first", "second"), itertools.combinations(list(UNKNOWN)[:4:3], 2))
def test_every_obstacle_is_named_what_forbids_first(first: str, second: str) -> None:
    rights = RIGHTS | UNKNOWN[first] | UNKNOWN[second] | {"phrase": {"file": "a.wav", "rights": "CC BY-NC 4.0"}}
    use, reasons = commercial_use.judge(rights)
    assert use == "forbidden"
    assert [reason["en"] for reason in reasons] == ["the phrase a.wav (CC BY-NC 4.0)", first, second]


def test_refused_consent_forbids() -> None:
    use, reasons = commercial_use.judge(RIGHTS | {"consent": {"refused": 1}})
    assert (use, reasons[0]["en"]) == ("forbidden", "consent of performers: 'refused'")
