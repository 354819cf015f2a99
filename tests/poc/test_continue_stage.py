"""Going on from finished runs: only past the gate, reusing everything, within the hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.fake_pipeline import pretend, short, untraced

from talim import recipe as recipes
from talim.atomic_io import read_json
from talim.errors import UsageError
from talim.poc.pipeline import poc
from talim.recipe import Recipe
from talim.run import Run

ONE = ("conv@all:2.7%",)


def lucky(recipe: Recipe) -> float:
    """More steps help, another seed less, a part of the base does harm."""
    return 0.2 + 0.1 * (recipe.training.steps > 10) - 0.02 * recipe.seed - 0.1 * ("full" in recipe.design)


def test_there_must_be_something_to_go_on_from(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, lambda recipe: 0.0)
    out = tmp_path / "out"
    for stage in ("extend", "hybrid"):
        with pytest.raises(UsageError, match=f"no finished runs.*type first: talim poc .* --out {out}"):
            poc(recordings, out, short(designs=ONE), stage=stage)
    poc(recordings, out, short(designs=ONE))
    with pytest.raises(UsageError, match="has passed the quality gate yet"):
        poc(recordings, out, short(designs=ONE), stage="extend")


def test_other_seeds_and_more_steps_go_on_from_what_is_there(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = pretend(monkeypatch, lucky), tmp_path / "out"
    poc(recordings, out, short(designs=ONE))
    told = poc(recordings, out, short(designs=ONE), stage="extend")
    names = ["conv-all-2.7-seed-1", "conv-all-2.7-seed-2", "conv-all-2.7-steps-20"]
    assert made.trained == ["conv-all-2.7", *names]
    (row,) = told["further"]
    assert (row["name"], row["passed"], row["runs"]) == ("extend", True, names)
    assert row["sentences"][0].startswith("Over 3 seeds the loss fell by 0.")
    assert "not one seed's luck" in row["sentences"][0]
    assert row["sentences"][1].startswith("In 20 steps instead of 10 the loss fell by 0.1")
    assert "worth its cost" in row["sentences"][1]
    assert row["gate"] == read_json(out / "gates.json")["extend"]
    assert "Other seeds and more steps: met" in Path(told["page"]).read_text(encoding="utf-8")
    again = poc(recordings, out, short(designs=ONE), stage="extend")
    assert again["further"] == told["further"]
    assert (
        poc(recordings, out, short(designs=ONE))["further"] == told["further"]
    )  # and the first road keeps it
    assert len(made.trained) == 4
    with pytest.raises(UsageError, match="other recordings or wishes"):
        poc(recordings, out, short(designs=ONE, seed=3), stage="extend")


def test_hours_cut_the_extension_and_it_says_what_was_left_out(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, lucky)
    poc(recordings, tmp_path / "out", short(designs=ONE))
    monkeypatch.setattr("talim.poc.runs.PocContext.seconds_left", lambda _: 15.0)  # a run takes ten
    told = poc(recordings, tmp_path / "out", short(designs=ONE), stage="extend")
    assert told["further"][0]["runs"] == ["conv-all-2.7-seed-1", "conv-all-2.7-seed-2"]
    assert (
        "Left out, as the hours would not hold it: conv-all-2.7-steps-20." in told["further"][0]["sentences"]
    )


def test_a_hybrid_trains_a_part_of_the_base_too_and_has_to_be_worth_it(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = pretend(monkeypatch, lucky), tmp_path / "out"
    poc(recordings, out, short(designs=ONE))
    told = poc(recordings, out, short(designs=ONE), stage="hybrid")
    assert made.trained[-1] == "conv-all-2.7-full-post"
    mixed = recipes.load([Run(out / "conv-all-2.7-full-post").recipe_file])
    assert mixed.design == "conv@all:2.7%+full@post"
    assert told["further"][0]["passed"] is False
    assert "the loss fell by 0.1" in told["further"][0]["sentences"][0]
    assert told["further"][0]["sentences"][0].endswith(": worse.")
    assert told["run"].endswith("conv-all-2.7")
    untraced(monkeypatch, memory_bytes=1e15)
    other = poc(recordings, out, short(designs=ONE), stage="hybrid")
    assert "may be taken" in other["further"][0]["sentences"][0]


def test_gates_given_later_must_be_those_that_were_written(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, lucky)
    own = tmp_path / "gates.yaml"
    own.write_text("quality: {fall_above: 0.05}\n")
    poc(recordings, tmp_path / "out", short(designs=ONE, gates=own))
    own.write_text("quality: {fall_above: 0.01}\n")
    for stage in ("all", "extend"):
        with pytest.raises(UsageError, match="written before the results"):
            poc(recordings, tmp_path / "out", short(designs=ONE, gates=own), stage=stage)
