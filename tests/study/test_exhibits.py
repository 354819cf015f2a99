"""Which sounds stand side by side, and what is said where one is missing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fixtures.run_folder import make_run

from talim.study.exhibits import MOST_EXHIBITS, exhibits, group
from talim.study.results import Result, Sample, read_result


def sample(role: str, prompt: str, seed: int | None = None, recording: str = "") -> Sample:
    return Sample(Path(f"{role}.flac"), role, prompt, seed, recording)


def test_before_and_after_pair_by_prompt_and_seed() -> None:
    groups = group(
        [sample("before", "a", 0), sample("before", "a", 1), sample("after", "a", 1), sample("after", "a", 0)]
    )
    assert [(prompt, seed, sorted(sounds)) for prompt, seed, sounds in groups] == [
        ("a", 0, ["after", "before"]),
        ("a", 1, ["after", "before"]),
    ]


def test_a_real_sound_joins_its_prompt_first_then_a_free_place_then_stands_alone() -> None:
    reals = [
        sample("real", "other", recording="x"),
        sample("real", "b", recording="y"),
        sample("real", "more", recording="z"),
    ]
    groups = group([sample("before", "a", 0), sample("before", "b", 0), *reals])
    assert [(prompt, sounds["real"].recording) for prompt, _, sounds in groups] == [
        ("a", "x"),
        ("b", "y"),
        ("more", "z"),
    ]


def test_one_caption_for_many_recordings_keeps_them_apart() -> None:
    rows = [sample(role, "sitar", 0, name) for name in ("x", "y") for role in ("before", "after")]
    groups = group([*rows, sample("real", "sitar", recording="y"), sample("real", "sitar", recording="x")])
    assert [{role: sound.recording for role, sound in sounds.items()} for _, _, sounds in groups] == [
        {"before": "x", "after": "x", "real": "x"},
        {"before": "y", "after": "y", "real": "y"},
    ]


def test_pitch_is_drawn_and_told(tmp_path: Path) -> None:
    def tracker(samples: np.ndarray, rate_hz: int) -> SimpleNamespace:
        assert samples.ndim == 1
        assert rate_hz == 16_000
        return SimpleNamespace(hz=np.array([220.0, 220.0, np.nan, 440.0]), hop_seconds=0.05)

    shown, more = exhibits(read_result(make_run(tmp_path / "run", seconds=0.3)), tracker)
    assert (len(shown), more) == (2, 0)
    card = shown[0].cards[1]
    assert (card.role, card.title, card.details) == (
        "after",
        "After",
        "with the adapter, 0 s, pitched 75\u202f%",
    )
    assert card.drawing
    assert "mostly between 220 and" in card.drawing
    assert 'class="pitch"' in card.drawing
    assert card.player
    assert "audio/mpeg" in card.player


def test_without_a_tracker_the_page_says_so(tmp_path: Path) -> None:
    shown, _ = exhibits(read_result(make_run(tmp_path / "run", seconds=0.3)), None)
    assert "its pitch was not measured" in str(shown[0].cards[0].drawing)


def test_missing_and_broken_sounds_leave_a_word_in_their_place(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0.3)
    (run / "samples" / "before-0.flac").unlink()
    (run / "samples" / "after-0.flac").write_bytes(b"not audio")
    cards = exhibits(read_result(run), None)[0][0].cards
    assert "before-0.flac: cannot be played" in cards[0].problem
    assert "after-0.flac: cannot be played" in cards[1].problem
    assert cards[2].player
    alone = exhibits(Result(run, samples=[sample("after", "a", 0)]), None)[0][0].cards
    assert [card.problem[:22] for card in alone] == [
        "no sound from before t",
        "after.flac: cannot be ",
        "no held-out recording ",
    ]


def test_many_sounds_are_cut_and_counted() -> None:
    samples = [sample("before", "a", seed) for seed in range(MOST_EXHIBITS + 3)]
    shown, more = exhibits(Result(Path("run"), samples=samples), None)
    assert (len(shown), more) == (MOST_EXHIBITS, 3)
