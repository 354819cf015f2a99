"""Outputs that copy training clips are counted, by audio and by tokens; unmeasured rows give the reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.audio import Audio
from talim.errors import TalimError
from talim.evaluation import copy_scores
from talim.evaluation.score_table import ClipSet
from talim.metrics.cache import MetricCache

RATE_HZ = 16000


def melody(seed: int, seconds: float = 6.0) -> np.ndarray:
    """Tones of eight harmonics, of random pitch, length and loudness."""
    rng = np.random.default_rng(seed)
    hz, loudness = np.zeros(round(seconds * RATE_HZ)), np.zeros(round(seconds * RATE_HZ))
    start = 0
    while start < hz.size:
        stop = start + round(rng.uniform(0.1, 0.5) * RATE_HZ)
        hz[start:stop] = rng.uniform(200, 500)
        loudness[start:stop] = rng.uniform(0.2, 1) * np.exp(-3 * np.arange(hz[start:stop].size) / RATE_HZ)
        start = stop
    turn = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    voice = sum(np.sin(k * turn) / k for k in range(1, 9))
    return (0.1 * loudness * voice + 1e-3 * rng.standard_normal(hz.size)).astype(np.float32)


def clips(*samples: np.ndarray) -> ClipSet:
    return ClipSet([Audio(one[None], RATE_HZ) for one in samples], [], [str(n) for n in range(len(samples))])


def corpus(*samples: np.ndarray) -> Any:
    train = tuple(
        SimpleNamespace(file=f"clips/{n}.flac", number=n, seconds=one.size / RATE_HZ, sound_group=f"recording {n}")
        for n, one in enumerate(samples)
    )
    return SimpleNamespace(
        folder=Path("corpus"), train=train, read_clip=lambda clip: Audio(samples[clip.number][None], RATE_HZ)
    )


def test_copy_scores_of_copied_audio_count_and_name_it() -> None:
    training = [melody(n) for n in range(4)]
    copied = melody(50)
    copied[:-RATE_HZ] = 0.5 * training[2][RATE_HZ:]
    generated, base = clips(copied, melody(51)), clips(melody(52), melody(53))
    real = clips(*(melody(100 + n) for n in range(12)))
    rows, copies = copy_scores.copy_scores(
        corpus(*training), generated, base, real, "no tokens here", MetricCache(None)
    )
    sound, tokens = rows
    assert (sound.name, sound.value, sound.baseline, sound.n) == ("copied_sound", 0.5, 0.0, 2)
    assert sound.reference is not None and sound.reference <= 1 / 12  # noqa: PT018
    assert tokens.value is None
    assert tokens.sentence.endswith("no tokens here")
    first, second = copies["clips"]
    assert (copies["copied"], first["copied"], second["copied"]) == (1, True, False)
    assert first["match"]["source"] == str(Path("corpus/clips/2.flac"))
    match = first["match"]
    assert match["source_seconds"][0] - match["clip_seconds"][0] == pytest.approx(1.0, abs=0.1)


def test_token_copy_scores_of_memorised_run_find_it() -> None:
    rng = np.random.default_rng(0)
    training, null, generated, base = ([rng.integers(0, 64, 300) for _ in range(n)] for n in (5, 12, 2, 2))
    generated[1][100:160] = training[3][20:80]
    found = copy_scores.token_copy_scores(copy_scores.TokenMatcher(training, null, generated, base, 50.0))
    assert not isinstance(found, str)
    assert [match.p_value <= 0.01 for match in found[0] if match] == [False, True]
    assert not any(match.p_value <= 0.01 for match in found[1] if match)
    assert sum(match.p_value <= 0.01 for match in found[2] if match) <= 1
    assert found[0][1] is not None
    assert (found[0][1].source, found[0][1].clip_seconds) == (3, (2.0, 3.2))


def test_copy_scores_of_too_few_or_too_short_clips_give_the_reason() -> None:
    few, short = (clips(*(melody(100 + n, 2.0) for n in range(count))) for count in (3, 10))
    generated, pieces = clips(melody(50, 10.0)), clips(melody(50, 1.0))
    whole, brief = corpus(melody(0), melody(1)), corpus(melody(0, 3.0), melody(1, 2.5))
    needed = (
        "how much alike unrelated music is (the null distribution) has to be measured on 10 clips of other recordings, "
        "of at least 3.2 s each, and there are {}: add recordings, or longer ones"
    )
    for training, outputs, real, reason in (
        (whole, generated, few, needed.format(0)),
        (whole, generated, short, needed.format(0)),
        (whole, generated, clips(*(melody(100 + n) for n in range(3))), needed.format(3)),
        (brief, generated, short, "a passage lasts 4 s, and the longest training clip 3 s"),
        (whole, pieces, short, "pieces of 1 s are too short to be compared: --seconds 4 or more"),
    ):
        rows, copies = copy_scores.copy_scores(training, outputs, outputs, real, "none", MetricCache(None))
        assert rows[0].value is None
        assert reason in rows[0].sentence
        assert (copies["copied"], copies["checked"]) == (0, 0)
    assert all(row["copied"] is None for row in copies["clips"])
    assert copy_scores.copies_sentence(copies).startswith(
        "Not checked for passages copied from the training recordings: "
    )
    assert "None of" not in copy_scores.copies_sentence(copies)


def test_copy_scores_of_too_few_held_out_clips_judge_by_training_clips_and_other_recordings_too() -> None:
    """Each of `others` is compared with the training clips of other recordings: it is no copy of itself."""
    training = corpus(*(melody(n) for n in range(5)))
    copied = melody(50)
    copied[:-RATE_HZ] = 0.5 * melody(2)[RATE_HZ:]
    one, base, real = clips(copied), clips(melody(51)), clips(*(melody(100 + n) for n in range(6)))
    rows, copies = copy_scores.copy_scores(training, one, base, real, "none", MetricCache(None), training.train)
    assert (copies["null_clips"], copies["checked"], copies["copied"]) == (10, 1, 1)
    assert (rows[0].value, rows[0].baseline, rows[0].reference) == (1.0, 0.0, 0.0)


def test_an_output_counts_as_checked_only_if_its_sound_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of tokens miss most copies, so that their absence clears nothing; a run that is found is a copy."""
    rng = np.random.default_rng(0)
    null, base = ([rng.integers(0, 64, 300) for _ in range(n)] for n in (12, 2))
    training, generated = ([rng.integers(0, 64, 300) for _ in range(2)] for _ in range(2))
    tokens = copy_scores.TokenMatcher(training, null, generated, base, 50.0)
    pair, real = clips(melody(50, 2.0), melody(51, 6.0)), clips(*(melody(100 + n) for n in range(12)))
    whole = corpus(melody(0), melody(1))

    def sentence(given: ClipSet = real) -> str:
        return copy_scores.copies_sentence(
            copy_scores.copy_scores(whole, pair, pair, given, tokens, MetricCache(None))[1]
        )

    said = (
        "None of 1 checked clip contains a passage of a training recording; 1 clip could not be checked: too short: 2 s"
    )
    assert sentence().startswith(f"{said}, and at least 3.2 s are needed;")
    brief = clips(*(melody(100 + n, 2.0) for n in range(12)))
    assert sentence(brief).startswith("Not checked for passages copied from the training recordings: how much alike")
    generated[0][100:160] = training[1][20:80]
    assert sentence(brief).startswith(
        "1 of 1 checked clip contains a passage of a training recording; 1 clip could not"
    )

    def gone(clip: Any) -> Audio:
        raise TalimError("0.flac is missing")

    monkeypatch.setattr(whole, "read_clip", gone)
    generated[0][100:160] = rng.integers(0, 64, 60)
    assert "the sound of the training clips cannot be read (0.flac is missing)" in sentence()


def test_copies_sentence_says_which_training_music_was_not_at_hand() -> None:
    copies = {"null_clips": 99, "clips": [{"copied": False, "match": {}}], "not_compared_with": "2 files are elsewhere"}
    assert copy_scores.copies_sentence(copies).endswith("of a training recording; 2 files are elsewhere.")


def test_copies_sentence_of_a_folder_calls_nothing_a_training_recording() -> None:
    rows = [{"copied": False, "match": {}}, {"copied": None, "match": None, "seconds": 9.0}]
    assert copy_scores.copies_sentence({"null_clips": 99, "clips": rows, "folder": "takes"}) == (
        "None of 1 checked clip contains a passage of a recording in takes; 1 clip could not be checked: no recording, "
        "other than what the clip itself comes from, lasts the 4 s of a passage."
    )
    assert copy_scores.copies_sentence({"clips": rows[1:], "folder": "takes"}).startswith(
        "Not checked for passages copied from the recordings in takes: no recording, other"
    )


def test_copies_sentence_says_where_the_rate_of_false_alarms_is_extrapolated() -> None:
    copies = {"copied": 0, "clips": [{"copied": False, "match": {}}]}
    said = "copies nothing is called a copy by mistake, a rate that is estimated from only 20 such clips"
    assert said in copy_scores.copies_sentence({**copies, "null_clips": 20})
    assert "by mistake" not in copy_scores.copies_sentence({**copies, "null_clips": 99})
