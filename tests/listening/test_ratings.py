"""Ratings of simulated votes: strengths found again, exclusions counted, groups apart, files and pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.simulated_votes import simulated

from talim.errors import TalimError, UsageError
from talim.listening import protocol as p
from talim.listening.assignment import LOW_QUALITY_ANCHOR, trials_for
from talim.listening.exclusions import exclusion_reason
from talim.listening.export import to_jsonl
from talim.listening.ratings import ALL_LISTENERS, rate_conditions
from talim.listening.ratings_report import rate_folder, sentences

Make = Callable[..., Path]
TRUTH = {"linear": 0.8, "conv": 0.2, "untrained": -1.0, "real": 1.6}
TRIALS = {"per_listener": 12, "repeats": 3, "attention": 2}


def protocol(**changes: Any) -> p.Protocol:
    return protocol_of(trials=TRIALS, **changes)


def test_strengths_are_found_again() -> None:
    made = rate_conditions(simulated(protocol(), TRUTH, 24), protocol())
    told = made["groups"][ALL_LISTENERS]["overall"]
    assert [c["name"] for c in sorted(told["conditions"], key=lambda c: -c["strength"]["value"])] == [
        *("real", "linear", "conv", "untrained")
    ]
    for condition in told["conditions"]:
        ends = condition["strength"]
        assert ends["low"] < ends["value"] < ends["high"]
        assert ends["low"] - 0.2 < TRUTH[condition["name"]] - 0.4 < ends["high"] + 0.2
    pair = next(x for x in told["pairs"] if (x["first"], x["second"]) == ("untrained", "real"))
    assert pair["significant"] is True
    assert pair["preference"]["high"] < 0.3
    assert told["cut_points"][0] < told["cut_points"][1]
    assert 0 < told["alpha"] < 1
    assert made["intra_rater_agreement"]["repeats"] == 24 * 3 * 2
    assert made["intra_rater_agreement"]["reversed"] < made["intra_rater_agreement"]["same"]
    json.dumps(made, allow_nan=False)


def test_equal_designs_are_not_told_apart() -> None:
    told = rate_conditions(simulated(protocol(), dict.fromkeys(TRUTH, 0.0), 16), protocol())["groups"][
        ALL_LISTENERS
    ]["melody"]
    assert sum(pair["significant"] for pair in told["pairs"]) <= 1


def test_careless_listeners_are_left_out_and_counted() -> None:
    made = rate_conditions(simulated(protocol(), TRUTH, 12, careless=3), protocol())
    assert made["excluded"] == {"attention": 3}
    assert made["listeners"] == {"answered": 12, "counted": 9}
    kept = rate_conditions(
        simulated(protocol(), TRUTH, 12, careless=3), protocol(exclusions={"attention_below": None})
    )
    assert kept["excluded"] == {}


def test_each_rule_of_exclusion() -> None:
    rows = simulated(protocol(), TRUTH, 1)
    assert exclusion_reason(rows, protocol()) is None
    assert exclusion_reason(rows[:2], protocol(exclusions={"trials_below": 3})) == "too_few_trials"
    same = [row | ({"answer": 1} if row["kind"] == "normal" else {}) for row in rows]
    assert exclusion_reason(same, protocol()) == "same_answer"
    turned = [row | {"answer": 2 if row["kind"] == "normal" else row["answer"]} for row in rows]
    turned = [row | ({"answer": 2} if row["kind"] == "repeat" else {}) for row in turned]
    rules = {"repeats_reversed_above": 0.5, "same_answer_above": None}
    assert exclusion_reason(turned, protocol(exclusions=rules)) == "repeats_reversed"


def test_groups_are_told_apart() -> None:
    liked = simulated(protocol(), TRUTH, 10, seed=1, group="expert")
    disliked = simulated(protocol(), {k: -v for k, v in TRUTH.items()}, 10, seed=2, group="general")
    groups = rate_conditions(liked + disliked, protocol())["groups"]
    assert list(groups) == [ALL_LISTENERS, "expert", "general"]

    def strength(group: str) -> float:
        return next(
            c["strength"]["value"] for c in groups[group]["overall"]["conditions"] if c["name"] == "real"
        )

    assert strength("general") < -0.3 < 0.3 < strength("expert")


def test_few_listeners_get_no_interval_and_a_warning() -> None:
    told = rate_conditions(simulated(protocol(), TRUTH, 4), protocol())["groups"][ALL_LISTENERS]["overall"]
    assert told["conditions"][0]["strength"]["low"] is None
    assert "too few" in told["warning"]
    assert (
        "only 8"
        in rate_conditions(simulated(protocol(), TRUTH, 8), protocol())["groups"][ALL_LISTENERS]["overall"][
            "warning"
        ]
    )


def test_cannot_say_is_counted_and_leaves_the_model_alone() -> None:
    rows = simulated(protocol(), TRUTH, 8)
    blank = [row | ({"answer": None} if row["aspect"] == "melody" else {}) for row in rows]
    told = rate_conditions(blank, protocol())["groups"][ALL_LISTENERS]
    assert told["melody"]["cannot_say"] == 8 * 12
    assert told["melody"]["conditions"][0]["strength"] == {"value": 0.0, "low": None, "high": None}
    assert told["overall"] == rate_conditions(rows, protocol())["groups"][ALL_LISTENERS]["overall"]


def mushra_rows(made: p.Protocol, listeners: int) -> list[dict[str, Any]]:
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
        for position, trial in enumerate(trials_for(made, ["a", "b"], number)):
            for name in trial.order:
                row = {"position": position, "kind": trial.kind, "item": trial.item, "aspect": trial.aspect}
                points = score[name] + (number + position) % 5
                rows.append(
                    head | row | {"condition": name, "score": points, "listened_seconds": 4.0, "at": 0.0}
                )
    return rows


def test_mushra_means_and_post_screening() -> None:
    made = protocol(kind="mushra", reference="real")
    rows = mushra_rows(made, 8)
    told = rate_conditions(rows, made)["groups"][ALL_LISTENERS]["overall"]
    real = next(c for c in told["conditions"] if c["name"] == "real")
    assert 95 <= real["strength"]["value"] <= 99
    assert next(c for c in told["conditions"] if c["name"] == "conv")["to_reference"][
        "value"
    ] == pytest.approx(-45)
    assert told["alpha"] > 0.9
    deaf = [
        row | ({"score": 40} if row["condition"] == "real" and row["listener"] == "0" else {}) for row in rows
    ]
    assert rate_conditions(deaf, made)["excluded"] == {"reference": 1}


def test_no_votes_say_so() -> None:
    with pytest.raises(TalimError, match="no valid votes"):
        rate_conditions(simulated(protocol(), TRUTH, 2), protocol(exclusions={"trials_below": 99}))


def test_a_folder_becomes_json_and_a_page_with_two_sites(make_test: Make, tmp_path: Path) -> None:
    folder = make_test(trials=TRIALS)
    made = p.load(folder)
    for site in ("delhi", "ankara"):
        rows = simulated(made, TRUTH, 7, seed=len(site), site=site)
        (tmp_path / f"{site}.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    scores = tmp_path / "scores.json"
    scores.write_text(
        json.dumps({"fad": {"linear": 2, "conv": 3, "untrained": 9, "real": 1}}), encoding="utf-8"
    )
    result = rate_folder(folder, [tmp_path / "delhi.jsonl", tmp_path / "ankara.jsonl"], scores)
    assert result["sites"] == {"delhi": 7, "ankara": 7}
    assert result["rank_correlation"][0]["spearman"] == pytest.approx(-1)
    assert json.loads((folder / "ratings.json").read_text("utf-8"))["test"] == "0" * 16
    page = Path(result["page"]).read_text("utf-8")
    assert page.count('class="plot"') >= 2
    assert "<script src" not in page
    assert re.search("real (leads|and linear lead)", page)
    assert "14 of 14 listeners included" in sentences(result)
    scores.write_text('{"fad": 3}', encoding="utf-8")
    with pytest.raises(UsageError, match="expected"):
        rate_folder(folder, [tmp_path / "delhi.jsonl"], scores)


def test_a_folder_without_votes_and_with_anothers(make_test: Make, tmp_path: Path) -> None:
    folder = make_test(trials=TRIALS)
    with pytest.raises(TalimError, match="no votes yet"):
        rate_folder(folder)
    rows = [row | {"first": "martian"} for row in simulated(p.load(folder), TRUTH, 2)]
    (tmp_path / "x.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    with pytest.raises(TalimError, match="martian"):
        rate_folder(folder, [tmp_path / "x.jsonl"])
