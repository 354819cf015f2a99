"""Tests of talim.training.batches: encoding once, draws from (seed, step), subsets of recordings."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.progress import Progress
from talim.recipe import Training
from talim.training import batches


class FakeBackbone:
    """Counts calls; tokens are 0..49, text states hold the length of the caption."""

    window_seconds, frame_rate_hz, device = 1.0, 25, "cpu"
    codec_hash, text_encoder_hash, fingerprint = "codec", "text", "weights"
    target_kind, accepts_beats_chords, melody_rate_hz = "tokens", False, 0.0

    def __init__(self) -> None:
        self.encoded = self.text_encoded = 0

    def encode(self, audio: Audio) -> np.ndarray:
        self.encoded += 1
        return np.tile(np.arange(50, dtype=np.int16), (4, 1))

    def read_as(self, prompt: str) -> str:
        return prompt

    def encode_text(self, prompts: list[str]) -> list[np.ndarray]:
        self.text_encoded += 1
        return [np.full((2, 3), len(prompt), dtype=np.float32) for prompt in prompts]

    def collate(self, pairs: list[Any], drop: list[bool]) -> Any:
        batch = SimpleNamespace(pairs=pairs, drop=drop)
        batch.to = lambda device: batch
        return batch


def clip_of(recording: int, number: int) -> Any:
    return SimpleNamespace(recording=f"take-{recording}", sound_group=f"take-{recording}", number=number)


def corpus_in(folder: Path, count: int = 3) -> Corpus:
    clips = [
        SimpleNamespace(**vars(clip_of(i % 2, i)), audio_hash=f"h{i}", seconds=2.0, caption="text")
        for i in range(count)
    ]
    return SimpleNamespace(  # type: ignore[return-value]
        folder=folder, features=folder / "features", clips=clips, read_clip=lambda clip: Audio(np.ones(8), 8)
    )


def test_encode_clips_encodes_once_and_truncates_to_the_window(tmp_path: Path) -> None:
    backbone, corpus = FakeBackbone(), corpus_in(tmp_path)
    items = batches.encode_clips(corpus, corpus.clips, backbone, Progress())  # type: ignore[arg-type]
    again = batches.encode_clips(corpus, corpus.clips, backbone, Progress())  # type: ignore[arg-type]
    assert (backbone.encoded, backbone.text_encoded) == (3, 1)
    assert items[0].targets.shape == (4, 25)
    assert all(np.array_equal(a.targets, b.targets) for a, b in zip(items, again, strict=True))


def test_encode_clips_shares_the_states_of_equal_captions_and_keeps_no_file_open(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path, count=40)
    before = len(psutil.Process().open_files())
    items = batches.encode_clips(corpus, corpus.clips, FakeBackbone(), Progress())  # type: ignore[arg-type]
    assert len({id(item.states) for item in items}) == 1
    if sys.platform == "linux":
        open_now = [path for path in Path("/proc/self/fd").iterdir() if str(tmp_path) in str(path.resolve())]
        assert not open_now
    assert len(psutil.Process().open_files()) == before
    with pytest.raises(ValueError, match="read-only"):
        items[0].targets[0, 0] = 1


def test_encode_clips_says_how_many_clips_are_longer_than_the_window(tmp_path: Path) -> None:
    lines: list[str] = []
    steps: list[int] = []
    progress = SimpleNamespace(log=lines.append, step=lambda _title, done, _total: steps.append(done))
    corpus = corpus_in(tmp_path)
    batches.encode_clips(corpus, corpus.clips, FakeBackbone(), progress)  # type: ignore[arg-type]
    assert steps == [0, 1, 2, 3]  # the first clip may take long
    assert [line.split(":")[0] for line in lines] == ["3 of 3 clips are longer than the 1 s that the base takes"]


def test_unusual_settings_are_those_beyond_what_the_clips_have() -> None:
    items: Any = [SimpleNamespace(targets=np.zeros((4, 50)))] * 12
    training = Training(batch_size=500, crop_seconds=1000)
    batch, crop = batches.unusual_settings(items, training, 25.0)
    assert "training.batch_size is 500, but there are 12 training clips" in batch
    assert "training.crop_seconds is 1000, but the longest training clip has 2 s" in crop
    assert batches.unusual_settings(items, Training(batch_size=12, crop_seconds=2.0), 25.0) == []


@pytest.mark.parametrize(
    ("steps", "every", "told"),
    [
        (40, 50, ("only 1 time in 40 training steps", "training.eval_every=10 ")),
        (60, 50, ("only 2 times in 60 training steps", "training.eval_every=15 ")),
        (2, 5, ("only 1 time in 2 training steps", "training.eval_every=1 ")),
        (200, 50, ()),
        (40, 10, ()),
        (3, 1, ()),
    ],
)
def test_few_evaluations_is_told_where_validation_hardly_happens(steps: int, every: int, told: tuple[str, ...]) -> None:
    note = batches.few_evaluations(Training(steps=steps, eval_every=every, warmup_steps=0))
    assert bool(note) == bool(told)
    assert all(words in note for words in told)


@pytest.mark.parametrize("changed", ["codec_hash", "text_encoder_hash"])
def test_encode_clips_with_another_codec_or_text_encoder_encodes_again(tmp_path: Path, changed: str) -> None:
    corpus = corpus_in(tmp_path)
    batches.encode_clips(corpus, corpus.clips, FakeBackbone(), Progress())  # type: ignore[arg-type]
    other = FakeBackbone()
    setattr(other, changed, "another")
    batches.encode_clips(corpus, corpus.clips, other, Progress())  # type: ignore[arg-type]
    assert (other.encoded, other.text_encoded) == ((3, 0) if changed == "codec_hash" else (0, 1))


def test_encode_clips_without_clips_raises_talim_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="talim prepare"):
        batches.encode_clips(corpus_in(tmp_path), [], FakeBackbone(), Progress())  # type: ignore[arg-type]


@given(count=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_sample_batch_indices_draws_every_clip_once_per_epoch(count: int, size: int, seed: int) -> None:
    steps = -(-2 * count // size)
    drawn = [i for step in range(1, steps + 1) for i in batches.sample_batch_indices(count, size, seed, step)]
    assert set(Counter(drawn[:count]).values()) == {1}
    assert set(Counter(drawn[count : 2 * count]).values()) == {1}


def test_training_batch_depends_on_seed_and_step_only(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path, 7)
    items = batches.encode_clips(corpus, corpus.clips, FakeBackbone(), Progress())  # type: ignore[arg-type]

    def drawn(step: int, seed: int = 5) -> Any:
        training = Training(batch_size=4, condition_dropout=0.5, crop_seconds=0.4)
        batch = batches.training_batch(items, FakeBackbone(), training, seed, step)  # type: ignore[arg-type]
        return [tokens.tolist() for tokens, _ in batch.pairs], batch.drop  # type: ignore[attr-defined]

    forward = [drawn(step) for step in range(1, 6)]
    backward = [drawn(step) for step in range(5, 0, -1)][::-1]
    assert forward == backward
    assert forward[0] != forward[1]
    assert drawn(1, seed=6) != forward[0]
    assert {len(row[0]) for row in forward[0][0]} == {10}  # 0.4 s at 25 frames a second


def test_training_batch_drops_the_requested_fraction_of_conditions(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path)
    items = batches.encode_clips(corpus, corpus.clips, FakeBackbone(), Progress())  # type: ignore[arg-type]
    dropped = {}
    for fraction in (0.0, 0.1, 1.0):
        drops = [
            drop
            for step in range(1, 201)
            for drop in batches.training_batch(
                items,
                FakeBackbone(),  # type: ignore[arg-type]
                Training(batch_size=10, condition_dropout=fraction),
                seed=0,
                step=step,
            ).drop  # type: ignore[attr-defined]
        ]
        dropped[fraction] = np.mean(drops)
    assert dropped[0.0] == 0.0
    assert dropped[1.0] == 1.0
    assert dropped[0.1] == pytest.approx(0.1, abs=0.03)  # 2000 draws: four standard errors


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=5), max_clips=st.integers(1, 30))
def test_stratified_sample_alternates_between_recordings(counts: list[int], max_clips: int) -> None:
    clips = [clip_of(r, i) for r, count in enumerate(counts) for i in range(count)]
    picked = batches.stratified_sample(clips, max_clips)  # type: ignore[arg-type]
    assert len(picked) == min(max_clips, len(clips))
    assert len({id(clip) for clip in picked}) == len(picked)
    first = picked[: len(counts)]
    assert len({clip.recording for clip in first}) == len(first)


def test_stratified_sample_covers_a_recording_evenly() -> None:
    clips = [clip_of(0, i) for i in range(8)]
    assert [clip.number for clip in batches.stratified_sample(clips, 4)] == [0, 4, 2, 6]  # type: ignore[arg-type]


@given(st.integers(1, 12), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 99))
def test_training_subset_of_smaller_fraction_is_contained_in_a_larger_one(
    count: int, first: float, second: float, seed: int
) -> None:
    clips = [clip_of(n % count, n) for n in range(2 * count)]
    corpus: Any = SimpleNamespace(train=clips)
    less, more = (
        [c.number for c in batches.training_subset(corpus, fraction, seed)] for fraction in sorted((first, second))
    )
    assert set(less) <= set(more)
    assert len(less) % 2 == 0  # whole recordings
    assert abs(len(more) / 2 - max(first, second) * count) <= 0.5 or len(more) == 2
    assert batches.training_subset(corpus, 1.0, seed) == clips


def test_training_subset_is_drawn_by_the_seed() -> None:
    corpus: Any = SimpleNamespace(train=[clip_of(n, n) for n in range(10)])
    drawn = {seed: tuple(clip.recording for clip in batches.training_subset(corpus, 0.5, seed)) for seed in range(20)}
    assert drawn[3] == tuple(clip.recording for clip in batches.training_subset(corpus, 0.5, 3))
    assert len(set(drawn.values())) > 10
