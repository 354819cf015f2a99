"""What became better and worse in the samples: only what is shown, by direction, next to real music."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from fixtures.japanese_block import foreign_words

from talim.evaluation import score_table
from talim.evaluation.score_table import Estimate, Measure
from talim.recordings_needed import HELD_OUT_TO_COMPARE
from talim.reporting.sample_changes import (
    BETTER,
    NAMES,
    SAME,
    TOO_FEW,
    UNCLEAR,
    WORSE,
    distances_note,
    got_worse,
    sample_changes,
    samples_rows,
    samples_sentence,
    samples_table,
)


def scores(*rows: dict[str, Any], generated: int = 3) -> dict[str, Any]:
    return {"scores": list(rows), "protocol": {"generated": generated}}


def row(
    name: str,
    direction: str,
    value: float | None,
    baseline: float | None,
    reference: float | None,
    gain: tuple[float, float, int] | None = None,
) -> dict[str, Any]:
    values = {"name": name, "direction": direction, "value": value, "baseline": baseline, "reference": reference}
    mean, error, recordings = gain or (None, None, 0)
    return values | {"gain": mean, "gain_error": error, "gain_recordings": recordings}


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (("pitched_fraction", "match_reference", 0.05, 0.71, 0.8, (-0.66, 0.1, 8)), WORSE),
        (("pitched_fraction", "match_reference", 0.79, 0.99, 0.8, (0.18, 0.01, 8)), BETTER),
        (("adherence_tempo", "higher_is_better", 0.67, 1.0, 1.0, (-0.33, 0.3, 8)), UNCLEAR),  # 0 is within its interval
        (("adherence_tempo", "higher_is_better", 0.67, 1.0, 1.0, (-0.33, 0.01, 3)), TOO_FEW),
        (("adherence_tempo", "higher_is_better", 0.67, 1.0, 1.0), TOO_FEW),  # an older file, without the gain
        (("kernel_distance_timbre", "lower_is_better", 21.9, 29.5, 11.7, (7.6, 1.0, 12)), BETTER),
        (("clipped_fraction", "lower_is_better", 0.0, 0.0, 0.0, (0.0, 0.0, 8)), SAME),
        (("pitched_fraction", "match_reference", 0.5001, 0.5, 0.8), SAME),  # equal as printed
        (("pitched_fraction", "match_reference", 0.9, 0.7, 0.4, (0.1, 0.001, 8)), UNCLEAR),  # means and clips disagree
    ],
)
def test_sample_changes_verdict(values: tuple[Any, ...], verdict: str) -> None:
    (change,) = sample_changes(scores(row(*values)))
    assert change.verdict == verdict
    assert bool(got_worse(scores(row(*values)))) == (verdict == WORSE)
    text = samples_sentence(scores(row(*values)))["en"]
    assert ("worse than the untrained base" in text) == (verdict == WORSE)
    assert ("better:" in text) == (verdict == BETTER)
    assert ("cannot be told" in text) == (verdict == TOO_FEW)


def test_samples_sentence_names_worse_before_better_and_the_table_has_the_values() -> None:
    found = scores(
        row("kernel_distance_timbre", "lower_is_better", 21.9, 29.5, 11.7, (7.6, 0.5, 9)),
        row("pitched_fraction", "match_reference", 0.23, 0.91, 0.95, (-0.6, 0.02, 9)),
        row("silent_fraction", "match_reference", 0.2, 0.1, None, (-0.1, 0.2, 9)),
        generated=9,
    )
    assert samples_sentence(found)["en"] == (
        "In 9 generated clips, worse than the untrained base: time in which a pitch is heard. "
        "Better: distance to real music in timbre. No difference is shown in: silence."
    )
    assert samples_sentence(found)["ja"] == (
        "生成した9件の音では、学習前のベースモデルより悪い：音高のある時間。良くなった：音色における実際の音楽との距離。"
        "差が示されない：無音。"
    )
    assert [line.replace("\u202f", " ") for line in samples_table(found)] == [
        "In the generated audio            with the adapter  untrained base  real music  compared with the base",
        "time in which a pitch is heard    23 %              91 %            95 %        worse",
        "distance to real music in timbre  21.9              29.5            11.7        better",
        "silence                           20 %              10 %            not known   no difference is shown",
        distances_note(found),
    ]
    assert "one half of the held-out recordings and the other" in distances_note(found)
    without = scores(row("silent_fraction", "match_reference", 0.2, 0.1, None, (-0.1, 0.2, 9)))
    assert distances_note(without) == ""
    assert samples_table({}) == []


def test_samples_sentence_of_few_recordings_says_how_many_are_needed() -> None:
    text = samples_sentence(scores(row("pitched_fraction", "match_reference", 0.23, 0.91, 0.95, (-0.6, 0.0, 3))))["en"]
    assert "from prompts of 3 recordings, whether it became better or worse cannot be told" in text
    assert f"prompts of {HELD_OUT_TO_COMPARE} held-out recordings or more" in text
    assert "91" not in text


@pytest.mark.parametrize(
    ("held_out", "recordings", "used", "english", "japanese"),
    [
        (9, 40, 3, "are needed (talim evaluate --num-prompts 6).", "（talim evaluate --num-prompts 6）"),
        (2, 10, 2, "the corpus has 2: add recordings, so that 6 or more can be held out.", "2本しかありません"),
        (1, 40, 1, "corpus has 1: name 6 or more of the 40 recordings with --held-out, or add", "全40本の録音のうち"),
        (9, 40, 7, "needed, and not all of the 7 that were used have one.", "使った7本のすべてに"),
    ],
)
def test_samples_sentence_never_advises_what_the_corpus_cannot_give(
    held_out: int, recordings: int, used: int, english: str, japanese: str
) -> None:
    found = scores(row("pitched_fraction", "match_reference", 0.23, 0.91, 0.95, (-0.6, 0.0, 3)))
    found |= {"split": {"held_out": {"recordings": held_out}}, "corpus": {"recordings": recordings}}
    found["prompts"] = [{"recording": str(number)} for number in range(used)]
    text = samples_sentence(found)
    assert english in text["en"]
    assert japanese in text["ja"]
    assert ("--num-prompts" in text["en"]) == (held_out == 9 and used == 3)


def test_samples_sentence_beside_advice_only_says_what_is_needed() -> None:
    found = scores(row("pitched_fraction", "match_reference", 0.23, 0.91, 0.95, (-0.6, 0.0, 3)))
    found |= {"split": {"held_out": {"recordings": 2}}, "corpus": {"recordings": 40}, "prompts": []}
    assert "--held-out" in samples_sentence(found)["en"]
    told = samples_sentence(found, advised=True)
    assert told["en"].endswith("6 held-out recordings or more are needed, and the corpus has 2.")
    assert told["ja"].endswith("6本以上必要ですが、2本しかありません。")


def test_a_distance_below_zero_is_told_as_none() -> None:
    (change,) = sample_changes(scores(row("kernel_distance_pitch", "lower_is_better", -0.4, 3.0, -0.1, (3.4, 0.1, 8))))
    assert change.values == ("not distinguishable from 0", "3", "not distinguishable from 0")
    assert "(untrained base 3, real music not distinguishable from 0)" in change.text


def test_distances_of_two_clips_are_too_few_to_tell_and_never_the_same() -> None:
    few = {"too_few_clips": ["value", "baseline", "reference"]}
    timbre = row("kernel_distance_timbre", "lower_is_better", -0.4, 65.9, 62.1) | few
    pitch = row("kernel_distance_pitch", "lower_is_better", -0.4, -3.0, 73.3) | few
    rhythm = row("kernel_distance_rhythm", "lower_is_better", 4.02, 4.01, None) | few
    found = scores(timbre, pitch, rhythm, generated=2)
    assert [change.values for change in sample_changes(found)][2] == ("4 (too few clips to tell)",) * 2 + ("",)
    cells = [cells for _, *cells in samples_rows(found)[1:]]
    assert [*map(tuple, cells)] == [
        ("too few clips to tell", "65.9 (too few clips to tell)", "62.1 (too few clips to tell)", "cannot be told"),
        ("too few clips to tell", "too few clips to tell", "73.3 (too few clips to tell)", "cannot be told"),
        ("4 (too few clips to tell)", "4 (too few clips to tell)", "not known", "cannot be told"),
    ]
    assert "none of" not in samples_sentence(found)["en"]
    assert "差がありません" not in samples_sentence(found)["ja"]
    assert "Too few clips to tell: fewer than 6 in a set, or" in distances_note(found)


def test_samples_table_in_japanese_is_aligned_and_has_no_english() -> None:
    few = {"too_few_clips": ["value", "reference"]}
    found = scores(
        row("kernel_distance_timbre", "lower_is_better", 21.9, -0.4, -0.2, (-7.6, 0.5, 9)) | few,
        row("silent_fraction", "match_reference", 0.2, 0.1, None, (-0.1, 0.2, 9)),
        row("pitched_fraction", "match_reference", 0.23, 0.91, 0.95, (-0.6, 0.02, 3)),
    )
    head, *rows, note = samples_table(found, "ja")
    assert foreign_words("".join([head, *rows, note])) == []
    assert [line.split()[-1] for line in (head, *rows)] == [
        "ベースモデルとの比較", "判断できない", "悪くなった", "差は示されない"
    ]  # fmt: skip
    assert "21.9 (クリップが少なく判断できない)  0と区別できない" in rows[1]
    columns = [sum(2 if ord(c) > 0x2FFF else 1 for c in line[: line.index(line.split()[-1])]) for line in (head, *rows)]
    assert len(set(columns)) == 1
    assert note.startswith("距離0は")


def test_distances_below_zero_of_many_recordings_show_no_difference() -> None:
    both = row("kernel_distance_pitch", "lower_is_better", -0.4, -0.1, 0.2, (0.3, 0.01, 8))
    assert [change.verdict for change in sample_changes(scores(both))] == [UNCLEAR]
    assert [change.verdict for change in sample_changes(scores(both | {"gain": None}))] == [TOO_FEW]


def test_samples_sentence_of_nothing_is_no_clearance() -> None:
    missing = row("adherence_mode", "higher_is_better", None, 0.5, None)
    for each in ({}, {"scores": []}, scores(missing), scores(row("ornaments", "match_reference", 1.0, 2.0, 1.0))):
        assert samples_sentence(each)["en"].endswith("was not measured: listen to it.")


def drawn(rng: np.random.Generator, recordings: int, shift: float) -> dict[str, Any]:
    """All scores of `recordings` prompts, with and without an adapter that changes each by `shift` deviations."""
    rows = []
    for number, name in enumerate(NAMES):
        direction = ("higher_is_better", "lower_is_better", "match_reference")[number % 3]
        real, music = rng.normal(5, 1), rng.normal(0, 1, recordings)
        sign = -1.0 if direction == "lower_is_better" else 1.0
        without, with_adapter = (music + rng.normal(0, 1, recordings) for _ in range(2))
        sets = [
            dict(zip(map(str, range(recordings)), part, strict=True)) for part in (with_adapter + sign * shift, without)
        ]
        value, baseline = (Estimate(float(np.mean(list(part.values()))), None, recordings, part) for part in sets)
        rows.append(asdict(score_table.score_row(Measure(name, direction, "", ""), value, real, baseline)))
    return scores(*rows, generated=recordings)


@pytest.mark.parametrize("recordings", [2, 3, 6, 12])
def test_equal_audio_is_called_better_or_worse_by_chance_alone(recordings: int) -> None:
    """The whole sentence, of eleven scores, is wrong in about one of twenty draws at most."""
    rng = np.random.default_rng(recordings)
    verdicts = [{change.verdict for change in sample_changes(drawn(rng, recordings, 0.0))} for _ in range(400)]
    wrong = np.mean([bool(each & {BETTER, WORSE}) for each in verdicts])
    assert wrong <= (0.0 if recordings < HELD_OUT_TO_COMPARE else 0.075)  # 0.05 and two standard errors


@pytest.mark.parametrize(("shift", "verdict", "other"), [(3.0, BETTER, WORSE), (-3.0, WORSE, BETTER)])
def test_a_planted_difference_is_found(shift: float, verdict: str, other: str) -> None:
    rng = np.random.default_rng(0)
    draws = [sample_changes(drawn(rng, 12, shift)) for _ in range(20)]
    assert np.mean([change.verdict == verdict for draw in draws for change in draw]) > 0.9
    assert not any(change.verdict == other for draw in draws for change in draw)
