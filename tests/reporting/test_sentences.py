"""Sentences about a run: better, worse, unclear and unknown results."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_folder import SCORES, evaluated

from talim.evaluation.copy_scores import copies_sentence
from talim.reporting import cost_quality_use, run_report, sentences
from talim.reporting.run_results import RunResults


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ((0.2, 0.1, 0.3), "better"),
        ((0.2, -0.1, 0.5), "unclear"),
        ((0.0, 0.0, 0.0), "unclear"),
        ((-0.2, -0.3, -0.1), "worse"),
        ((0.2, None, None), "unclear"),
        ((None, None, None), "unknown"),
    ],
)
def test_loss_verdict_depends_on_the_whole_interval(reduction: tuple[Any, Any, Any], expected: str) -> None:
    assert sentences.loss_verdict(evaluated(*reduction))[0] == expected


def test_loss_verdict_without_scores_is_unknown() -> None:
    assert sentences.loss_verdict(RunResults(Path("run")))[0] == "unknown"


@pytest.mark.parametrize(
    ("steps", "asked", "changes", "expected"),
    [
        (0, 200, {}, "0 of 200 steps, not finished"),
        (80, 200, {}, "80 of 200 steps, not finished"),
        (1, None, {}, "1 step, not finished"),
        (200, 200, {"cost": {"steps": 200}}, "200 steps"),
        (140, 200, {"cost": {"steps": 140, "stopped_early": True}}, "140 of 200 steps, stopped early"),
    ],
)
def test_stage_of_tells_how_far_training_has_come(
    steps: int, asked: int | None, changes: dict[str, Any], expected: str
) -> None:
    log = [{"split": "validation", "step": 0}, *({"split": "train", "step": n + 1} for n in range(steps))]
    recipe = {"training": {"steps": asked}} if asked else {}
    result = RunResults(Path("my run"), recipe=recipe, log=log, **changes)
    assert sentences.stage_of(result) == expected
    unfinished = "not finished" in expected
    assert bool(sentences.unfinished_sentence(result)) == unfinished
    text = " ".join(
        [*cost_quality_use.points(result)["en"], sentences.loss_verdict(result)[1], sentences.loss_sentence(result)]
    )
    assert ("not finished" in text or "has not begun" in text) == unfinished
    if unfinished:
        assert "Trained" not in text
        assert "took" not in text
        assert shlex.split(sentences.unfinished_sentence(result).rpartition(": ")[2])[:3] == ["talim", "train", "--out"]


def test_a_run_that_never_improved_claims_no_chance_and_no_result() -> None:
    cost = {"steps": 40, "best_step": 0, "stored_step": 0}
    result = RunResults(Path("run"), cost=cost, scores=SCORES)
    assert sentences.loss_verdict(result) == ("unclear", sentences.unchanged_sentence(result))
    last = RunResults(Path("run"), cost=cost | {"stored_step": 40}, scores=SCORES)
    assert sentences.loss_verdict(last)[0] == "better"


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ([0], "not measured during training"),
        ([0, 40], "measured after 40 of 40 training steps, never lower than before training"),
        ([0, 30, 40], "measured after 30 and 40 of 40 training steps, never lower than before training"),
        ([0, 5, 10, 15, 20, 25], "measured 5 times in 40 training steps, never lower than before training"),
    ],
)
def test_unchanged_sentence_says_at_which_steps_validation_was_measured(measured: list[int], expected: str) -> None:
    log = [{"split": "validation", "step": step} for step in measured] + [{"split": "train", "step": 40}]
    result = RunResults(Path("run"), cost={"steps": 40, "stored_step": 0}, log=log)
    assert sentences.unchanged_sentence(result) == (
        f"The validation loss was {expected}, so the stored adapter is that of step 0: it changes nothing."
    )


def test_loss_sentence_names_direction_interval_recordings_and_split() -> None:
    assert sentences.loss_sentence(evaluated(0.2, 0.1, 0.3)) == (
        "On 3 held-out recordings the loss fell by 0.200 nats, from 3.400 to 3.200 "
        "(95\u202f% interval of the reduction 0.100 to 0.300; split by blocks)."
    )
    assert "rose by 0.200 nats" in sentences.loss_sentence(evaluated(-0.2, -0.3, -0.1))
    assert "reduction −0.300 to −0.100" in sentences.loss_sentence(evaluated(-0.2, -0.3, -0.1))
    assert "stayed the same, from" in sentences.loss_sentence(evaluated(0.0, 0.0, 0.0))
    assert "on 1 held-out recording the loss" in sentences.loss_sentence(evaluated(0.2, None, None, n_recordings=1))
    assert "its interval was not measured" in sentences.loss_sentence(evaluated(0.2, None, None))


def test_two_recordings_are_told_by_their_values_and_judged_by_their_interval() -> None:
    result = evaluated(0.2, -1.07, 1.47, n_recordings=2)
    reduction = result.scores["held_out_loss"]["loss_reduction"]
    reduction["per_recording"] = {"a": 0.1, "b": 0.3}
    assert "(reduction in 2 recordings: 0.100 and 0.300, too few for an interval" in sentences.loss_sentence(result)
    assert sentences.loss_verdict(result)[0] == "unclear"
    drawn = run_report.loss_reduction_plots(result)
    assert not [plot for plot in drawn.values() if "95 % interval" in plot]
    (row,) = run_report.runs_table(result.folder, [result])
    assert row["ci95"] == "2 recordings: 0.100 and 0.300"
    reduction |= {"per_recording": {"a": 0.19, "b": 0.2, "c": 0.21}, "ci95": [0.05, 0.35]}
    assert "0.190, 0.200 and 0.210; 95\u202f% interval 0.050 to 0.350; split" in sentences.loss_sentence(result)
    assert sentences.loss_verdict(result)[0] == "better"


def test_a_change_that_may_be_chance_is_told_so_before_its_size() -> None:
    for mean, ends, told in (
        (0.008, (-0.1, 0.116), "It may be chance that on 3 held-out recordings the loss fell by 0.008 nats"),
        (-0.008, (-0.116, 0.1), "It may be chance that on 3 held-out recordings the loss rose by 0.008 nats"),
        (0.2, (None, None), "It may be chance that on 3 held-out recordings the loss fell by 0.200 nats"),
    ):
        result = evaluated(mean, *ends)
        assert sentences.loss_sentence(result).startswith(told)
        ((_, meaning, is_shown, doubt), *_) = run_report.key_figures(result)
        assert meaning.endswith("against the untrained base")  # neither better nor worse
        assert (is_shown, doubt) == (False, "not told apart from no change")
    ((_, meaning, is_shown, doubt), *_) = run_report.key_figures(evaluated(0.2, 0.1, 0.3))
    assert meaning.startswith("the probability that what really comes next")
    assert (is_shown, doubt) == (True, "")  # in colour


@pytest.mark.parametrize(("mean", "figure", "word"), [(0.2, "+22\u202f%", "better"), (-0.2, "−18\u202f%", "worse")])
def test_key_figures_say_in_words_whether_the_loss_got_better(mean: float, figure: str, word: str) -> None:
    ((change, meaning, *_), *_) = run_report.key_figures(evaluated(mean, mean - 0.1, mean + 0.1))
    assert change == figure
    assert meaning.endswith(f"is given, against the untrained base ({word})")
    assert "nats" not in meaning


@pytest.mark.parametrize(
    ("mean", "unit", "change", "text"),
    [
        (0.0038, "nats", 0.0038, "0.4\u202f%"),
        (0.0002, "nats", 0.0002, "0.020\u202f%"),
        (0.34, "squared error", 0.1, "10\u202f%"),
        (-0.34, "squared error", -0.1, "10\u202f%"),
        (0.0, "nats", 0.0, "0.0\u202f%"),
    ],
)
def test_plain_change_is_a_share_of_what_the_base_does(mean: float, unit: str, change: float, text: str) -> None:
    result = evaluated(mean, mean - 0.1, mean + 0.1)
    result.scores["held_out_loss"]["loss_unit"] = unit
    found = sentences.plain_change(result)
    assert found == pytest.approx(change, rel=0.01)
    assert sentences.plain_percent(found or 0.0) == text


@pytest.mark.parametrize(
    ("base", "adapted", "expected"),
    [
        (1.1164, 0.9496, "fell by 0.1668 nats, from 1.1164 to 0.9496 "),  # three decimals: 0.167, 1.116, 0.950
        (1.0, 1.00004, "rose by 0.00004 nats, from 1.00000 to 1.00004 "),
        (2.0, 2.0, "stayed the same, from 2.000 to 2.000 "),
    ],
)
def test_loss_sentence_numbers_add_up(base: float, adapted: float, expected: str) -> None:
    result = evaluated(base - adapted, -1.0, 1.0)
    result.scores["held_out_loss"]["base_loss"]["mean"] = base
    result.scores["held_out_loss"]["adapted_loss"]["mean"] = adapted
    assert expected in sentences.loss_sentence(result)


def test_melody_sentence_tells_the_loss_without_it() -> None:
    assert sentences.melody_sentence(evaluated(0.2, 0.1, 0.3)) == ""
    for mean, ci95, expected in (
        (0.2, [0.1, 0.3], "Without it the loss fell from 3.400 to 3.200; 95\u202f% interval of the reduction 0.1"),
        (-0.2, None, "It may be chance that without it the loss rose from 3.400 to 3.600: what the adapter knows"),
        (0.0, None, "Without it the loss stayed the same: what"),
    ):
        result = evaluated(0.5, 0.4, 0.6)
        low, high = ci95 or (None, None)
        losses = evaluated(mean, low, high).scores["held_out_loss"]
        result.scores["held_out_loss_without_melody"] = losses
        assert expected in sentences.melody_sentence(result)
        assert sentences.melody_sentence(result) in run_report.details(replace(result, cost={"steps": 3}))


def test_effect_sentence_names_changes_or_their_absence() -> None:
    def effect(**values: Any) -> str:
        return sentences.effect_sentence(RunResults(Path("run"), scores={"adapter_effect": values}))

    both = effect(token_change_rate=0.87, log_mel_distance_db=6.4)
    assert both.endswith(
        "changes 87\u202f% of the tokens and the mel spectrogram (how loud each range of pitch is over time) by 6.4 dB."
    )
    assert effect(token_change_rate=0.0).endswith("changes nothing at all.")
    assert effect().endswith("was not measured.")


def test_loss_verdict_says_what_got_worse_in_the_samples() -> None:
    row = {
        "name": "pitched_fraction",
        "direction": "match_reference",
        "value": 0.23,
        "baseline": 0.91,
        "reference": 0.95,
        "gain": -0.68,
        "gain_error": 0.05,
        "gain_recordings": 8,
    }
    result = evaluated(0.2, 0.1, 0.3)
    assert "listeners decide" in sentences.loss_verdict(result)[1]
    result.scores["scores"] = [row]
    verdict, text = sentences.loss_verdict(result)
    assert verdict == "better"
    assert "its own music got worse than the untrained base: time in which a pitch is heard" in text


def test_copies_texts_of_copies_and_of_clips_that_were_not_checked_say_so_in_japanese() -> None:
    rows = [{"copied": True, "match": {}}, {"copied": None, "match": None, "seconds": 1.0}]
    copies = {"clips": rows, "null_clips": 20, "not_compared_with": "2 files are elsewhere"}
    copies["sentence"] = copies_sentence(copies)
    found = sentences.copies_texts({"copies": copies})
    assert found["en"] == copies["sentence"]
    for part in ("生成音1件のうち1件が", "ほかの1件は検査できません", "20件だけから", "比べていない"):
        assert part in found["ja"]
    assert "検査していません" in sentences.copies_texts({"copies": copies | {"clips": rows[1:]}})["ja"]
    assert sentences.copies_texts({}) == {}


def test_details_tell_what_was_found_of_copies_unless_the_stages_do() -> None:
    result = replace(evaluated(0.2, 0.1, 0.3), cost={"steps": 3})
    told = "None of 6 checked clips contains a passage of a training recording."
    assert told not in run_report.details(result)
    found = replace(result, scores=result.scores | {"copies": {"sentence": told}})
    assert run_report.details(found)[-1] == told
    assert told not in run_report.details(found, with_copies=False)
