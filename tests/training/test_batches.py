"""Draws follow from (seed, step) alone; targets are encoded once and found again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.progress import Progress
from talim.training import batches


class FakeBackbone:
    """Counts what it is asked; tokens are the sample count, states the length of the words."""

    window_seconds, frame_rate_hz, device = 1.0, 25, "cpu"
    codec_identity, text_identity, fingerprint = "codec", "text", "weights"
    targets, hears_music = "tokens", False

    def __init__(self) -> None:
        self.encoded = self.described = 0

    def encode(self, audio: Audio) -> np.ndarray:
        self.encoded += 1
        return np.tile(np.arange(50, dtype=np.int16), (4, 1))

    def describe(self, prompts: list[str]) -> list[np.ndarray]:
        self.described += 1
        return [np.full((2, 3), len(prompt), dtype=np.float32) for prompt in prompts]

    def collate(self, pairs: list[Any], drop: list[bool]) -> Any:
        made = SimpleNamespace(pairs=pairs, drop=drop)
        made.to = lambda device: made
        return made


def corpus_in(folder: Path, count: int = 3) -> Corpus:
    clips = [
        SimpleNamespace(audio_hash=f"h{i}", seconds=2.0, caption="words", recording=f"r{i % 2}")
        for i in range(count)
    ]
    return SimpleNamespace(  # type: ignore[return-value]
        folder=folder, targets=folder / "targets", clips=clips, read_clip=lambda clip: Audio(np.ones(8), 8)
    )


def test_targets_are_encoded_once_and_cut_to_the_window(tmp_path: Path) -> None:
    backbone, corpus = FakeBackbone(), corpus_in(tmp_path)
    items = batches.encode_clips(corpus, corpus.clips, backbone, Progress())  # type: ignore[arg-type]
    again = batches.encode_clips(corpus, corpus.clips, backbone, Progress())  # type: ignore[arg-type]
    assert (backbone.encoded, backbone.described) == (3, 1)
    assert items[0].targets.shape == (4, 25)
    assert all(np.array_equal(a.targets, b.targets) for a, b in zip(items, again, strict=True))


@pytest.mark.parametrize("changed", ["codec_identity", "text_identity"])
def test_another_codec_or_text_encoder_is_never_served_stale(tmp_path: Path, changed: str) -> None:
    corpus = corpus_in(tmp_path)
    batches.encode_clips(corpus, corpus.clips, FakeBackbone(), Progress())  # type: ignore[arg-type]
    other = FakeBackbone()
    setattr(other, changed, "another")
    batches.encode_clips(corpus, corpus.clips, other, Progress())  # type: ignore[arg-type]
    assert (other.encoded, other.described) == ((3, 0) if changed == "codec_identity" else (0, 1))


def test_no_clips_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="talim prepare"):
        batches.encode_clips(corpus_in(tmp_path), [], FakeBackbone(), Progress())  # type: ignore[arg-type]


@given(count=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_clip_comes_once_before_any_comes_again(count: int, size: int, seed: int) -> None:
    steps = -(-2 * count // size)
    drawn = [i for step in range(1, steps + 1) for i in batches.sample_batch_indices(count, size, seed, step)]
    assert set(Counter(drawn[:count]).values()) == {1}
    assert set(Counter(drawn[count : 2 * count]).values()) == {1}


def test_a_step_is_the_same_whatever_came_before(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path, 7)
    items = batches.encode_clips(corpus, corpus.clips, FakeBackbone(), Progress())  # type: ignore[arg-type]

    def drawn(step: int, seed: int = 5) -> Any:
        made = batches.training_batch(
            items,
            FakeBackbone(),  # type: ignore[arg-type]
            batch_size=4,
            seed=seed,
            step=step,
            condition_dropout=0.5,
            clip_seconds=0.4,
        )
        return [tokens.tolist() for tokens, _ in made.pairs], made.drop  # type: ignore[attr-defined]

    forward = [drawn(step) for step in range(1, 6)]
    backward = [drawn(step) for step in range(5, 0, -1)][::-1]
    assert forward == backward
    assert forward[0] != forward[1]
    assert drawn(1, seed=6) != forward[0]
    assert {len(row[0]) for row in forward[0][0]} == {10}  # 0.4 s at 25 frames a second


def test_condition_dropout_has_the_share_that_was_asked_for(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path)
    items = batches.encode_clips(corpus, corpus.clips, FakeBackbone(), Progress())  # type: ignore[arg-type]
    shares = {}
    for share in (0.0, 0.1, 1.0):
        drops = [
            drop
            for step in range(1, 201)
            for drop in batches.training_batch(
                items,
                FakeBackbone(),  # type: ignore[arg-type]
                batch_size=10,
                seed=0,
                step=step,
                condition_dropout=share,
                clip_seconds=None,
            ).drop  # type: ignore[attr-defined]
        ]
        shares[share] = np.mean(drops)
    assert shares[0.0] == 0.0
    assert shares[1.0] == 1.0
    assert shares[0.1] == pytest.approx(0.1, abs=0.03)  # 2000 draws: four standard errors


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=5), most=st.integers(1, 30))
def test_spread_takes_turns_between_recordings(counts: list[int], most: int) -> None:
    clips = [
        SimpleNamespace(recording=f"r{r}", number=i) for r, count in enumerate(counts) for i in range(count)
    ]
    picked = batches.stratified_sample(clips, most)  # type: ignore[arg-type]
    assert len(picked) == min(most, len(clips))
    assert len({id(clip) for clip in picked}) == len(picked)
    first = picked[: len(counts)]
    assert len({clip.recording for clip in first}) == len(first)


def test_spread_covers_a_recording_evenly() -> None:
    clips = [SimpleNamespace(recording="r", number=i) for i in range(8)]
    assert [clip.number for clip in batches.stratified_sample(clips, 4)] == [0, 4, 2, 6]  # type: ignore[arg-type]


@given(st.integers(1, 12), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 99))
def test_less_to_learn_from_is_a_part_of_more(count: int, one: float, other: float, seed: int) -> None:
    clips = [SimpleNamespace(recording=f"take-{n % count}", place=n) for n in range(2 * count)]
    corpus: Any = SimpleNamespace(train=clips)
    less, more = (
        [c.place for c in batches.training_subset(corpus, share, seed)] for share in sorted((one, other))
    )
    assert set(less) <= set(more)
    assert len(less) % 2 == 0  # whole recordings
    assert abs(len(more) / 2 - max(one, other) * count) <= 0.5 or len(more) == 2
    assert batches.training_subset(corpus, 1.0, seed) == clips


def test_which_recordings_are_learned_from_follows_from_the_seed() -> None:
    corpus: Any = SimpleNamespace(train=[SimpleNamespace(recording=f"take-{n}") for n in range(10)])
    drawn = {
        seed: tuple(clip.recording for clip in batches.training_subset(corpus, 0.5, seed))
        for seed in range(20)
    }
    assert drawn[3] == tuple(clip.recording for clip in batches.training_subset(corpus, 0.5, 3))
    assert len(set(drawn.values())) > 10
