"""The learning curve: nested shares of the recordings, paired by recording, undecided where it cannot be told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import pretend, short

from talim import recipe as recipes
from talim.poc.learning_curve import sentence
from talim.poc.pipeline import poc
from talim.recipe import Recipe


def point(share: float, recordings: int, *falls: float) -> dict[str, Any]:
    rows = {f"take-{n}": fall for n, fall in enumerate(falls)}
    mean = sum(falls) / len(falls)
    return {"share": share, "recordings": recordings, "mean": mean, "per_recording": rows}


@pytest.mark.parametrize(
    ("half", "whole", "words"),
    [
        ((0.2, 0.21, 0.22), (0.3, 0.31, 0.33), "more recordings would likely help"),
        ((0.3, 0.3, 0.3), (0.301, 0.3, 0.302), "would hardly help"),
        ((0.1, 0.3, 0.2), (0.3, 0.1, 0.3), "cannot be told from these"),
        ((0.1,), (0.3,), "is open"),
    ],
)
def test_it_says_what_the_last_doubling_brought(half: Any, whole: Any, words: str) -> None:
    said = sentence([point(0.25, 2, *half), point(0.5, 4, *half), point(1.0, 8, *whole)], 0.1)
    assert said.startswith("From 4 to 8 recordings, with the same number of steps, the fall grew by")
    assert words in said


def test_the_chosen_design_learns_from_a_quarter_and_a_half(
    tmp_path: Path, make_recordings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, lambda recipe: 0.5 * recipe.training.recordings_share**0.3)
    takes, out = make_recordings(tmp_path / "takes", count=12, seconds=2.5), tmp_path / "out"
    told = poc(takes, out, short(curve=True))
    points = told["curve"]["points"]
    heard = points[-1]["recordings"]
    assert [p["recordings"] for p in points] == [round(heard / 4), round(heard / 2), heard]
    assert points[0]["mean"] < points[1]["mean"] < points[2]["mean"]
    assert "more recordings would likely help" in told["curve"]["sentence"]
    assert made.trained[-2:] == ["0.25", "0.5"]
    quarter = recipes.load([Path(told["run"]) / "curve" / "0.25" / "recipe.yaml"])
    assert quarter.training.recordings_share == 0.25
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "Fall of the loss by the number of recordings learned from" in page
    assert told["curve"]["sentence"] in page
    assert poc(takes, out, short(curve=True))["curve"] == told["curve"]
    assert len(made.trained) == 5


def test_it_is_left_out_with_a_sentence(
    tmp_path: Path, recordings: Path, make_recordings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(recipe: Recipe) -> float:
        return 0.5

    pretend(monkeypatch, fall)
    one = {"designs": ("linear@all:2.7%",)}
    told = poc(recordings, tmp_path / "a", short(**one))
    assert told["curve"] == {"points": [], "sentence": "No learning curve was asked for."}
    few = make_recordings(tmp_path / "few", count=4, seconds=2.5)
    told = poc(few, tmp_path / "b", short(curve=True, held_out_share=0.5, **one))
    assert "cannot be cut in four" in told["curve"]["sentence"]
    monkeypatch.setattr("talim.poc.runs.PocContext.seconds_left", lambda _: 5.0)
    told = poc(recordings, tmp_path / "c", short(curve=True, **one))
    assert "it takes 22 s, and of the hours 5 s are left" in told["curve"]["sentence"]
