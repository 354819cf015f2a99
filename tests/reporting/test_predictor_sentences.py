"""Sentences on where losses stand to predictors that need no model, in both languages, with hand-computed figures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from talim.evaluation.predictor_comparison import KEY, standing
from talim.reporting import cost_quality_use, messages, run_report, sentences
from talim.reporting.predictor_sentences import (
    calibration_sentence,
    plain_standing,
    predictor_rows,
    standing_sentences,
    unigram_sentence,
)
from talim.reporting.run_results import RunResults

BEST = "a guess that the last sound goes on"


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
        (8.1, 6.15, f"worse than a uniform guess. The loss fell, but it is still 0.750 above that of {BEST}: the "
                    "adapter closed 72\u202f% of the gap. So the base became less certain"),
        (5.6, 5.1, f"The loss of the base is 0.200 above that of {BEST}, the best prediction without a model; with the "
                   "adapter it is 0.300 below that."),
        (4.8, 4.5, f"The loss of the base is already 0.600 below that of {BEST}, the best prediction without a model; "
                   "the adapter goes 0.300 further, by 50\u202f%."),
        (4.8, 4.95, "the adapter loses 0.150 of this, 25\u202f%."),
        (4.8, 5.5, "with the adapter it is 0.100 above that."),
        (5.6, 5.7, f"Without and with the adapter the loss is above that of {BEST}, the best prediction without a "
                   "model: by 0.200 and 0.300."),
        (4.8, 4.8, "the adapter changes nothing about it."),
    ],
)  # fmt: skip
def test_standing_is_told_with_its_figures_in_both_languages(base: float, adapted: float, english: str) -> None:
    losses = held_out(base, adapted)
    told = standing_sentences(losses)
    assert english in told["en"]
    assert told["en"].startswith(
        "Losses on the same recordings: without a model, a uniform guess 6.931, a guess by how often each sound occurs "
        f"(unigram) 6.000, {BEST} (unigram with last token) 5.400; the base {base:.3f}, with the adapter "
    )
    assert told["en"].count("last token") == 1  # what researchers call it stands once
    assert f"{adapted:.3f}" in told["ja"]
    assert told["ja"].endswith("。")
    said = ("calibration" in told["en"], "較正" in told["ja"], bool(calibration_sentence(losses)))
    assert said == (base == 8.1 and adapted == 6.15,) * 3
    short = standing_sentences(losses, with_levels=False)
    assert english in short["en"]
    assert all(told[language].endswith(short[language]) for language in told)
    said = cost_quality_use.points(result(losses))["en"][1]
    assert plain_standing(losses)["en"] in said
    assert not re.search(r"\d\.\d{3}|nats", said)  # figures in nats stand in small print and in the table
    assert short["en"] in run_report.details(result(losses))


def test_why_a_unigram_is_worse_than_a_uniform_guess_is_said_where_it_is() -> None:
    losses = held_out(8.1, 6.15)
    assert unigram_sentence(losses) == {}
    losses[KEY]["losses"]["unigram"]["mean"] = 7.1
    text = unigram_sentence(losses)
    assert "counted in the training recordings" in text["en"]
    assert text["en"] in standing_sentences(losses)["en"]
    assert text["en"] not in standing_sentences(losses, with_levels=False)["en"]


@pytest.mark.parametrize(
    ("adapted", "spread", "told"),
    [(6.0, 0.0, "Yet the best guess"), (5.0, 0.0, "With the adapter the model is better"), (5.3, 0.4, "is not shown.")],
)
def test_plain_standing_has_no_figures(adapted: float, spread: float, told: str) -> None:
    text = plain_standing(held_out(8.1, adapted, spread))
    assert told in text["en"]
    assert not re.search(r"\d", text["en"] + text["ja"])
    assert plain_standing({}) == {}


@pytest.mark.parametrize(
    ("adapted", "spread", "told", "japanese"),
    [
        (4.5, 0.0, "and the adapter adds to that.", "その差を広げました。"),
        (4.7, 0.2, "and the adapter adds to that (perhaps by chance).", "その差を（偶然かもしれませんが）広げました。"),
        (4.9, 0.0, "and the adapter takes some of that away.", "その差を縮めました。"),
        (4.8, 0.0, "and the adapter changes nothing about it.", "それを変えていません。"),
    ],
)
def test_plain_standing_of_a_base_that_is_already_better_claims_no_success_of_training(
    adapted: float, spread: float, told: str, japanese: str
) -> None:
    text = plain_standing(held_out(4.8, adapted, spread))
    assert text["en"].startswith("Already the untrained base is better than the best guess")
    assert text["en"].endswith(told)
    assert text["ja"].endswith(japanese)


def test_a_margin_that_chance_may_explain_is_not_claimed() -> None:
    told = standing_sentences(held_out(8.1, 5.3, spread=0.4), with_levels=False)
    doubt = f"It is not shown that the loss with the adapter is below that of {BEST} "
    assert told["en"].index(doubt) < told["en"].index("with the adapter it is 0.100 below that")
    assert told["ja"].index("示されていません") < told["ja"].index("0.100低くなりました")


@pytest.mark.parametrize(
    ("base", "adapted", "english", "japanese"),
    [
        (
            8.1,
            8.0,
            "It may be chance that the loss fell, and it is still 2.600 above",
            "損失が下がったのは偶然かもしれず",
        ),
        (
            4.8,
            4.7,
            "; it may be chance that the adapter goes 0.100 further",
            "（偶然かもしれませんが）アダプターはさらに",
        ),
        (
            4.8,
            4.9,
            "; it may be chance that the adapter loses 0.100 of this",
            "（偶然かもしれませんが）アダプターを付けると",
        ),
        (
            5.2,
            5.5,
            "; it may be chance that with the adapter it is 0.100 above",
            "（偶然かもしれませんが）アダプター付きでは",
        ),
    ],
)
def test_a_change_that_chance_may_explain_is_told_as_one(
    base: float, adapted: float, english: str, japanese: str
) -> None:
    losses = held_out(base, adapted)
    losses["loss_reduction"]["ci95"] = [base - adapted - 0.4, base - adapted + 0.4]
    told = standing_sentences(losses)
    assert english in told["en"]
    assert japanese in told["ja"]
    losses["loss_reduction"]["ci95"] = None  # one recording
    assert english in standing_sentences(losses)["en"]
    said = cost_quality_use.points(result(losses))
    assert "probability, not told apart from no change." in said["en"][1]
    assert "変化なしとは区別できません" in said["ja"][1]


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
    assert "Losses on the same recordings" not in page  # the table has these figures
    assert "a guess that the last sound goes on (unigram with last token)" in page
    assert "較正" in page
    assert "less certain of what is wrong (calibration)" in page
    monkeypatch.setattr(messages.run_results, "read_result", lambda _: found)
    assert "less certain of what is wrong (calibration)" in messages.evaluation_message(tmp_path)
