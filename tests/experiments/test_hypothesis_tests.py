"""Verdicts: planted effects are found, absent ones are not, and what cannot be told is called so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talim.errors import TalimError
from talim.experiments import hypotheses as written
from talim.experiments.hypotheses import Hypotheses
from talim.experiments.hypothesis_tests import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    TrialMeasures,
    test_hypotheses,
)

KINDS = ("linear", "conv", "transformer")


def trials(
    planted: dict[tuple[str, str], float],
    *,
    noise: float = 0.05,
    seeds: int = 3,
    recordings: int = 8,
    rng: Any = 0,
) -> list[TrialMeasures]:
    """A grid of kinds, sites and genres whose falls differ by `planted[genre or "", kind]` and by luck alone."""
    draw = np.random.default_rng(rng)
    found = []
    hard = {(g, r): draw.normal() for g in ("hindustani", "makam") for r in range(recordings)}
    for genre in ("hindustani", "makam"):
        for kind in KINDS:
            for site in ("shallow", "deep"):
                for seed in range(seeds):
                    luck = noise / 2 * draw.normal()
                    effect = planted.get(("", kind), 0.0) + planted.get((genre, kind), 0.0)
                    falls = {
                        f"{genre}-{r}": hard[genre, r] + effect + luck + noise * draw.normal()
                        for r in range(recordings)
                    }
                    factors = {"base": "tiny", "genre": genre, "kind": kind, "site": site, "share": 0.027}
                    found.append(TrialMeasures(factors, seed, {"fall": falls}))
    return found


def claims(*comparisons: dict[str, Any], count: int = 8) -> Hypotheses:
    """The comparisons as one claim, beside others that only widen the intervals."""
    usual = {"measure": "fall", "interest": 0.1}
    rows = [{"id": "it", "says": "so it is", "comparisons": [usual | each for each in comparisons]}]
    rows += [
        {"id": str(n), "says": "-", "comparisons": [usual | {"this": {"kind": "a"}, "that": {"kind": "b"}}]}
        for n in range(count - 1)
    ]
    return Hypotheses.model_validate({"claims": rows})


CONV_OVER = [{"this": {"kind": "conv"}, "that": {"kind": other}} for other in ("linear", "transformer")]


def verdict(found: list[TrialMeasures], *comparisons: dict[str, Any]) -> str:
    return test_hypotheses(found, claims(*comparisons))[0]["verdict"]


def test_a_planted_effect_is_found_and_no_other() -> None:
    found = trials({("", "conv"): 0.3})
    assert verdict(found, *CONV_OVER) == SUPPORTED
    assert verdict(found, {"this": {"kind": "linear"}, "that": {"kind": "conv"}}) == CONTRADICTED
    assert verdict(found, {"this": {"kind": "linear"}, "that": {"kind": "transformer"}}) == CONTRADICTED
    one_of_two = trials({("", "conv"): 0.3, ("", "transformer"): 0.3})
    assert verdict(one_of_two, *CONV_OVER) == CONTRADICTED


def test_no_more_is_the_reverse() -> None:
    found = trials({("", "conv"): 0.3})
    reverse = {"this": {"kind": "conv"}, "that": {"kind": "linear"}, "expect": "no more"}
    assert verdict(found, reverse) == CONTRADICTED
    assert verdict(trials({}), reverse) == SUPPORTED


def test_too_much_luck_leaves_it_undecided_and_says_what_would_have_been_seen() -> None:
    found = trials({("", "conv"): 0.12}, noise=1.0, recordings=3)
    row = test_hypotheses(found, claims(*CONV_OVER))[0]
    assert row["verdict"] == UNDECIDED
    for finding in row["findings"]:
        assert finding["low"] < finding["mean"] < finding["high"]
        assert finding["smallest_visible"] > 0.12
        assert finding["pairs"] == 12
        assert finding["recordings"] == 6
        assert finding["level"] == pytest.approx(1 - 0.05 / 8)


def test_a_difference_between_genres() -> None:
    between = {"this": {"kind": "conv"}, "that": {"kind": "transformer"}}
    between["between"] = [{"genre": "hindustani"}, {"genre": "makam"}]
    assert verdict(trials({("hindustani", "conv"): 0.4}), between) == SUPPORTED
    assert verdict(trials({("", "conv"): 0.4}), between) == CONTRADICTED
    [row] = [test_hypotheses(trials({("hindustani", "conv"): 0.4}), claims(between))[0]["findings"][0]]
    assert row["mean"] == pytest.approx(0.4, abs=0.1)


def test_narrowing_leaves_the_rest_out() -> None:
    found = trials({("makam", "conv"): 0.4})
    assert verdict(found, CONV_OVER[0] | {"within": {"genre": "makam"}}) == SUPPORTED
    assert verdict(found, CONV_OVER[0] | {"within": {"genre": "hindustani"}}) == CONTRADICTED


def test_nothing_to_compare_is_undecided_and_says_why() -> None:
    row = test_hypotheses(trials({}), claims({"this": {"kind": "conv"}, "that": {"kind": "lora"}}))[0]
    assert row["verdict"] == UNDECIDED
    assert "no two trials" in row["findings"][0]["why"]
    row = test_hypotheses(trials({}), claims(CONV_OVER[0] | {"measure": "beauty"}))[0]
    assert "beauty" in row["findings"][0]["why"]


def test_a_missing_recording_is_left_out_of_all_pairs() -> None:
    found = trials({("", "conv"): 0.3})
    dropped = next(t for t in found if t.factors["kind"] == "conv" and t.factors["site"] == "deep")
    falls = {
        "fall": {name: value for name, value in dropped.measures["fall"].items() if not name.endswith("-0")}
    }
    found[found.index(dropped)] = TrialMeasures(dropped.factors, dropped.seed, falls)
    assert test_hypotheses(found, claims(*CONV_OVER))[0]["findings"][0]["recordings"] == 15


@pytest.mark.slow
def test_false_verdicts_are_as_rare_as_promised() -> None:
    """Where nothing was planted, no claim is supported more often than the level allows; planted ones are found."""
    nothing = [verdict(trials({}, rng=n), CONV_OVER[0] | {"interest": 1e-6}) for n in range(400)]
    assert np.mean([v == SUPPORTED for v in nothing]) < 0.05
    found = [verdict(trials({("", "conv"): 0.2}, rng=n), *CONV_OVER) for n in range(200)]
    assert np.mean([v == SUPPORTED for v in found]) > 0.9


TWO = "measure: m, this: {kind: x}, that: {kind: y}, interest: 1"


@pytest.mark.parametrize(
    ("comparison", "says"),
    [
        ("measure: m, this: {mood: x}, that: {mood: y}, interest: 1", "mood is no factor"),
        ("measure: m, this: {kind: x}, that: {kind: x}, interest: 1", "are the same"),
        ("measure: m, this: {kind: x}, that: {site: x}, interest: 1", "same factors"),
        (TWO.replace("interest: 1", "interest: 0"), "interest"),
        (f"{TWO}, how: 2", "how"),
        (f"{TWO}, expect: less", "expect"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path: Path, comparison: str, says: str) -> None:
    text = f"claims: [{{id: a, says: b, comparisons: [{{{comparison}}}]}}]"
    (tmp_path / "claims.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TalimError, match=says):
        written.load(tmp_path / "claims.yaml")


@pytest.mark.parametrize(("text", "says"), [("claims: [", "no YAML"), ("claims: []", "claims")])
def test_a_file_that_holds_no_claims(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "claims.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TalimError, match=says):
        written.load(tmp_path / "claims.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="No such file"):
        written.load(tmp_path / "none.yaml")
