"""Ratings of simulated votes: strengths found again, exclusions counted, groups apart, files and pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.simulated_votes import simulated

from talim.errors import TalimError
from talim.listening import protocol as p
from talim.listening.assignment import LOW_QUALITY_ANCHOR, trials_for
from talim.listening.ratings import ALL_LISTENERS, rate_conditions
from talim.listening.verdict import verdict_sentences

Make = Callable[..., Path]
TRUTH = {"linear": 0.8, "conv": 0.2, "untrained": -1.0, "real": 1.6}
TRIALS = {"per_listener": 12, "repeats": 3, "attention": 2}


def protocol(**changes: Any) -> p.Protocol:
    return protocol_of(trials=TRIALS, **changes)


def test_rate_conditions_simulated_votes_recover_strengths() -> None:
    created = rate_conditions(simulated(protocol(), TRUTH, 24), protocol())
    result = created["groups"][ALL_LISTENERS]["overall"]
    assert [c["name"] for c in sorted(result["conditions"], key=lambda c: -c["strength"]["value"])] == [
        *("real", "linear", "conv", "untrained")
    ]
    for condition in result["conditions"]:
        ends = condition["strength"]
        assert ends["low"] < ends["value"] < ends["high"]
        assert ends["low"] - 0.2 < TRUTH[condition["name"]] - 0.4 < ends["high"] + 0.2
    pair = next(x for x in result["pairs"] if (x["first"], x["second"]) == ("untrained", "real"))
    assert pair["significant"] is True
    assert pair["preference"]["high"] < 0.3
    assert result["cut_points"][0] < result["cut_points"][1]
    assert 0 < result["alpha"] < 1
    assert created["intra_rater_agreement"]["repeats"] == 24 * 3 * 2
    assert created["intra_rater_agreement"]["reversed"] < created["intra_rater_agreement"]["same"]
    json.dumps(created, allow_nan=False)


def test_rate_conditions_equal_strengths_are_not_significant() -> None:
    result = rate_conditions(simulated(protocol(), dict.fromkeys(TRUTH, 0.0), 16), protocol())["groups"][ALL_LISTENERS][
        "melody"
    ]
    assert sum(pair["significant"] for pair in result["pairs"]) <= 1


def test_rate_conditions_careless_listeners_are_excluded() -> None:
    created = rate_conditions(simulated(protocol(), TRUTH, 12, careless=3), protocol())
    assert created["excluded"] == {"attention": 3}
    assert created["listeners"] == {"answered": 12, "counted": 9}
    stored = rate_conditions(
        simulated(protocol(), TRUTH, 12, careless=3), protocol(exclusions={"attention_below": None})
    )
    assert stored["excluded"] == {}


def test_rate_conditions_groups_are_rated_separately() -> None:
    liked = simulated(protocol(), TRUTH, 10, seed=1, group="expert")
    disliked = simulated(protocol(), {k: -v for k, v in TRUTH.items()}, 10, seed=2, group="general")
    groups = rate_conditions(liked + disliked, protocol())["groups"]
    assert list(groups) == [ALL_LISTENERS, "expert", "general"]

    def strength(group: str) -> float:
        return next(c["strength"]["value"] for c in groups[group]["overall"]["conditions"] if c["name"] == "real")

    assert strength("general") < -0.3 < 0.3 < strength("expert")


def test_rate_conditions_few_listeners_have_warning_and_no_interval() -> None:
    result = rate_conditions(simulated(protocol(), TRUTH, 4), protocol())["groups"][ALL_LISTENERS]["overall"]
    assert result["conditions"][0]["strength"]["low"] is None
    assert "too few" in result["warning"]
    assert (
        "Only 8"
        in rate_conditions(simulated(protocol(), TRUTH, 8), protocol())["groups"][ALL_LISTENERS]["overall"]["warning"]
    )


def test_rate_conditions_cannot_say_is_counted_without_effect_on_strengths() -> None:
    rows = simulated(protocol(), TRUTH, 8)
    blank = [row | ({"answer": None} if row["aspect"] == "melody" else {}) for row in rows]
    result = rate_conditions(blank, protocol())["groups"][ALL_LISTENERS]
    assert result["melody"]["cannot_say"] == 8 * 12
    assert {c["strength"]["value"] for c in result["melody"]["conditions"]} == {None}
    assert {pair["preference"]["value"] for pair in result["melody"]["pairs"]} == {None}
    assert result["overall"] == rate_conditions(rows, protocol())["groups"][ALL_LISTENERS]["overall"]


def test_rate_conditions_rates_no_pair_and_no_condition_without_answers() -> None:
    """Nobody compared `untrained` with anything, and `linear` with `conv` only through the real music."""
    kept = ({"linear", "real"}, {"conv", "real"})
    rows = [row for row in simulated(protocol(), TRUTH, 12) if {row["first"], row["second"]} in kept]
    rows += [row for row in simulated(protocol(), TRUTH, 12) if row["kind"] == "attention"]
    few = protocol_of(trials=TRIALS, exclusions={"trials_below": 1})
    result = rate_conditions(rows, few, {"fad": {"linear": 1, "untrained": 2, "real": 3}})
    rating = result["groups"][ALL_LISTENERS]["overall"]
    strengths = {c["name"]: c["strength"]["value"] for c in rating["conditions"]}
    assert strengths["untrained"] is None
    assert strengths["real"] > strengths["linear"]
    rated = {(pair["first"], pair["second"]) for pair in rating["pairs"] if pair["preference"]["value"] is not None}
    assert rated == {("linear", "real"), ("conv", "real")}
    assert all((pair["answers"] == 0) == (pair["p"] is None) for pair in rating["pairs"])
    assert result["rank_correlation"] == [{"metric": "fad", "conditions": 2, "spearman": None, "p": None}]
    said = verdict_sentences(rating, {name: name for name in TRUTH})
    assert said[-1].startswith("Not rated, as no answer compares them: linear with conv, linear with untrained, ")
    assert not any("untrained" in sentence for sentence in said[:-1])


def mushra_rows(created: p.Protocol, listeners: int) -> list[dict[str, Any]]:
    score = {"real": 95, "linear": 60, "conv": 50, "untrained": 20, "anchor": 15, LOW_QUALITY_ANCHOR: 3}
    rows = []
    for number in range(listeners):
        head = {
            "test": "t",
            "site": "s",
            "listener": str(number),
            "group": "expert",
            "familiarity": 1,
            "language": "en",
        }
        for position, trial in enumerate(trials_for(created, ["a", "b"], number)):
            for name in trial.order:
                row = {"position": position, "kind": trial.kind, "item": trial.item, "aspect": trial.aspect}
                points = score[name] + (number + position) % 5
                rows.append(head | row | {"condition": name, "score": points, "listened_seconds": 4.0, "at": 0.0})
    return rows


def test_rate_conditions_mushra_gives_means_and_excludes() -> None:
    created = protocol(kind="mushra", reference="real")
    rows = mushra_rows(created, 8)
    result = rate_conditions(rows, created)["groups"][ALL_LISTENERS]["overall"]
    real = next(c for c in result["conditions"] if c["name"] == "real")
    assert 95 <= real["strength"]["value"] <= 99
    assert next(c for c in result["conditions"] if c["name"] == "conv")["to_reference"]["value"] == pytest.approx(-45)
    assert result["alpha"] > 0.9
    assert all(0 <= row["strength"]["low"] <= row["strength"]["high"] <= 100 for row in result["conditions"])
    few = mushra_rows(created, 6)
    torn = [row | {"score": 100 * (int(row["listener"]) % 2)} if row["condition"] == "conv" else row for row in few]
    torn_result = rate_conditions(torn, created)["groups"][ALL_LISTENERS]["overall"]
    strength = next(c for c in torn_result["conditions"] if c["name"] == "conv")["strength"]
    assert (strength["low"], strength["high"]) == (0.0, 100.0)  # no rating lies beyond the scale
    deaf = [row | ({"score": 40} if row["condition"] == "real" and row["listener"] == "0" else {}) for row in rows]
    assert rate_conditions(deaf, created)["excluded"] == {"reference": 1}


def test_rate_conditions_without_valid_votes_raises_error() -> None:
    with pytest.raises(TalimError, match=r"no ratings yet: 2 listeners have answered.*fewer than 99 pages"):
        rate_conditions(simulated(protocol(), TRUTH, 2), protocol(exclusions={"trials_below": 99}))
