"""Sentences on where losses stand to predictors that need no model, in both languages, with hand-computed figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from talim.evaluation.predictor_comparison import KEY, standing
from talim.reporting import cost_quality_use, messages, run_report, sentences
from talim.reporting.predictor_sentences import calibration_sentence, predictor_rows, standing_sentences
from talim.reporting.run_results import RunResults

BEST = "the unigram mixed with the last token again"


def held_out(base: float, adapted: float, spread: float = 0.01, **fit: Any) -> dict[str, Any]:
    """Losses on four recordings around these means; of the predictors 6.931, 6.0 and 5.4."""

    def around(mean: float, own: float = 0.0) -> dict[str, Any]:
        rows = {name: mean + sign * own for name, sign in zip("abcd", (-1, 1, -1, 1), strict=True)}
        ends = [mean - own, mean + own]
        return {"mean": mean, "ci95": ends, "per_recording": rows, "per_part": [mean], "n_recordings": 4}

    known = {name: around(mean) for name, mean in (("uniform", 6.931), ("unigram", 6.0), ("last_token", 5.4))}
    losses = {"base_loss": around(base), "adapted_loss": around(adapted, spread)}
    fall = around(base - adapted, spread) | {"ci95": [base - adapted - spread, base - adapted + spread]}
    place = standing(losses["base_loss"], losses["adapted_loss"], known)
    return {**losses, "loss_reduction": fall, KEY: {"losses": known, "unit": "nats per token", "fit": fit, **place}}


def result(losses: dict[str, Any]) -> RunResults:
    return RunResults(Path("run"), scores={"held_out_loss": losses, "split": {}}, cost={"steps": 3})


@pytest.mark.parametrize(
    ("base", "adapted", "english"),
    [
        # from 8.10 to 5.40 are 2.70, of which 1.95 were closed: 72 %
        (8.1, 6.15, f"worse than a uniform guess. The loss fell, but it ends 0.750 above {BEST}: the adapter closes "
                    "72\u202f% of the way from the base to it. That is calibration"),
        (5.6, 5.1, f"The base lies 0.200 above {BEST}, the best prediction without a model; the adapter ends 0.300 "
                   "below it."),
        (4.8, 4.5, f"The base already lies 0.600 below {BEST}, the best prediction without a model; the adapter goes "
                   "0.300 further, 50\u202f% of that again."),
        (4.8, 4.95, "the adapter gives 0.150 of it back, 25\u202f%."),
        (4.8, 5.5, "the adapter ends 0.100 above it."),
        (5.6, 5.7, f"Base and adapter both lie above {BEST}, by 0.200 and 0.300."),
        (4.8, 4.8, "the adapter changes nothing about it."),
    ],
)  # fmt: skip
def test_standing_is_told_with_its_figures_in_both_languages(base: float, adapted: float, english: str) -> None:
    losses = held_out(base, adapted)
    told = standing_sentences(losses)
    assert english in told["en"]
    assert told["en"].startswith(
        "Without a model, on the same recordings: a uniform guess 6.931, the unigram of the training tokens 6.000, the "
        f"unigram mixed with the last token again 5.400 (nats per token); the base has {base:.3f}, with the adapter "
    )
    assert f"{adapted:.3f}" in told["ja"]
    assert told["ja"].endswith("。")
    said = ("calibration" in told["en"], "較正" in told["ja"], bool(calibration_sentence(losses)))
    assert said == (base == 8.1 and adapted == 6.15,) * 3
    short = standing_sentences(losses, with_levels=False)
    assert english in short["en"]
    assert all(told[language].endswith(short[language]) for language in told)
    assert short["en"] in " ".join(cost_quality_use.points(result(losses))["en"])


def test_a_margin_that_chance_may_explain_is_not_claimed() -> None:
    told = standing_sentences(held_out(8.1, 5.3, spread=0.4))
    assert "It is not shown that the adapter ends below the unigram mixed with the last token again" in told["en"]
    assert "示されていません" in told["ja"]


def test_fit_within_one_recording_is_said() -> None:
    assert "one training recording" in standing_sentences(held_out(8.1, 5.3, note="only one"))["en"]
    assert "one training recording" not in standing_sentences(held_out(8.1, 5.3, note=""))["en"]


def test_a_calibrated_base_is_not_called_better() -> None:
    verdict, headline = sentences.loss_verdict(result(held_out(8.1, 6.15)))
    assert verdict == "calibration"
    assert "calibration" in headline
    assert "predicted better" not in " ".join(cost_quality_use.points(result(held_out(8.1, 6.15)))["en"])
    assert sentences.loss_verdict(result(held_out(8.1, 4.0)))[0] == "better"


def test_rows_are_sorted_and_older_scores_have_none() -> None:
    rows = predictor_rows(held_out(8.1, 5.1))
    assert [row["loss"] for row in rows] == ["8.100", "6.931", "6.000", "5.400", "5.100"]
    assert [rows[0]["name"], rows[-1]["name"]] == ["the base", "the base with the adapter"]
    older = {name: values for name, values in held_out(8.1, 5.1).items() if name != KEY}
    assert predictor_rows(older) == []
    assert standing_sentences(older) == {}
    assert sentences.loss_verdict(result(older))[0] == "better"


def test_page_and_terminal_tell_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(result(held_out(8.1, 6.15)), folder=tmp_path)
    page = run_report.render("report.html", **run_report.context(tmp_path, found, [found]))
    assert "Loss on held-out recordings beside predictors that need no model, in nats per token" in page
    assert "Without a model, on the same recordings" not in page  # the table has these figures
    assert "較正" in page
    assert "That is calibration" in page
    monkeypatch.setattr(messages.run_results, "read_result", lambda _: found)
    assert "That is calibration" in messages.evaluation_message(tmp_path)
