"""The learning curve: nested fractions of the recordings, paired by recording, skipped with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import fake_runs, short_options

from talim import recipe as recipes
from talim.html.languages import words
from talim.poc.learning_curve import curve_texts
from talim.poc.pipeline import poc


def point(fraction: float, recordings: int, *reductions: float) -> dict[str, Any]:
    rows = {f"take-{n}": value for n, value in enumerate(reductions)}
    mean = sum(reductions) / len(reductions)
    return {"fraction": fraction, "recordings": recordings, "mean": mean, "per_recording": rows}


@pytest.mark.parametrize(
    ("half", "full", "message"),
    [
        ((0.2, 0.21, 0.22), (0.3, 0.31, 0.33), "more recordings would likely help"),
        ((0.3, 0.3, 0.3), (0.301, 0.3, 0.302), "would hardly help"),
        ((0.1, 0.3, 0.2), (0.3, 0.1, 0.3), "cannot be decided with these"),
        ((0.1,), (0.3,), "is open"),
    ],
)
def test_curve_texts_depends_on_the_gain_of_the_last_doubling(half: Any, full: Any, message: str) -> None:
    text = curve_texts([point(0.25, 2, *half), point(0.5, 4, *half), point(1.0, 8, *full)], 0.1)["en"]
    grew = "from 4 to 8 recordings, with the same number of steps, the loss reduction on validation grew by"
    assert text.lower().index(grew) >= 0
    assert message in text
    if "cannot be decided" in message:  # what may be chance is told so before its size
        assert text.startswith("Whether more recordings would help cannot be decided with these: from 4")
    assert text.startswith("With one validation recording it may be chance that from 4") == (len(half) == 1)


@pytest.mark.parametrize(("half", "full"), [((0.3, 0.31, 0.3), (0.29, 0.3, 0.1)), ((0.3,), (0.2,))])
def test_curve_texts_of_a_loss_that_rose_with_more_recordings_have_no_negative_growth(half: Any, full: Any) -> None:
    texts = curve_texts([point(0.25, 2, *half), point(0.5, 4, *half), point(1.0, 8, *full)], 0.1)
    assert f"the loss reduction on validation shrank by 0.{'073' if len(half) == 3 else '100'}" in texts["en"]
    assert ("the gain, " in texts["en"]) == (len(half) == 3)
    assert "減りました" in texts["ja"]


def test_learning_curve_trains_on_a_quarter_and_a_half(
    tmp_path: Path, make_recordings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fake_runs(monkeypatch, lambda recipe: 0.5 * recipe.training.train_fraction**0.3)
    takes, out = make_recordings(tmp_path / "takes", count=12, seconds=2.5), tmp_path / "out"
    result = poc(takes, out, short_options(learning_curve=True))
    points = result["learning_curve"]["points"]
    total = points[-1]["recordings"]
    assert [p["recordings"] for p in points] == [round(total / 4), round(total / 2), total]
    assert points[0]["mean"] < points[1]["mean"] < points[2]["mean"]
    assert "more recordings would likely help" in result["learning_curve"]["sentence"]
    assert "録音を増やすと、おそらく役立ちます" in result["learning_curve"]["sentence_translated"]["ja"]
    assert fakes.trained[-2:] == ["0.25", "0.5"]
    quarter = recipes.load([Path(result["run"]) / "curve" / "0.25" / "recipe.yaml"])
    assert quarter.training.train_fraction == 0.25
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert "Loss reduction by the number of training recordings" in page
    assert result["learning_curve"]["sentence"] in page
    assert poc(takes, out, short_options(learning_curve=True))["learning_curve"] == result["learning_curve"]
    assert len(fakes.trained) == 5


def test_learning_curve_skipped_has_a_reason(
    tmp_path: Path, short_takes: Path, make_recordings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda recipe: 0.5)
    one = {"designs": ("linear@all:2.7%",)}
    result = poc(short_takes, tmp_path / "a", short_options(**one))
    off = {
        "sentence": "The learning curve was switched off.",
        "sentence_translated": {"ja": words("ja")["poc_curve_off"]},
    }
    assert result["learning_curve"] == {"points": [], **off}
    few = make_recordings(tmp_path / "few", count=4, seconds=2.5)
    result = poc(few, tmp_path / "b", short_options(learning_curve=True, held_out_fraction=0.5, **one))
    assert "cannot be divided by four" in result["learning_curve"]["sentence"]
    monkeypatch.setattr("talim.poc.runs.PocContext.seconds_left", lambda _: 5.0)
    result = poc(short_takes, tmp_path / "c", short_options(learning_curve=True, **one))
    assert "it takes 22 s, and 5 s of the time budget are left" in result["learning_curve"]["sentence"]
