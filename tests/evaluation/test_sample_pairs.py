"""Samples with and without the adapter: files, tags, and the difference between two clips."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim import audio
from talim.atomic_io import read_jsonl
from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.evaluation import sample_pairs
from talim.generation.generate import GenerationOptions
from talim.run import Run


def test_generate_pairs_writes_before_after_and_real_with_tags(finished_run: Run) -> None:
    rows = read_jsonl(finished_run.samples / "manifest.jsonl")
    assert [r["role"] for r in rows] == ["before", "after", "real"] * 2
    assert [r["adapter"] for r in rows] == [False, True, False] * 2
    for row in rows:
        path = finished_run.samples / row["file"]
        assert audio.read(path).seconds == pytest.approx(1.0, abs=0.05)
        made = "AI-generated" in audio.read_tags(path).values()
        assert made == (row["role"] != "real")


@pytest.mark.parametrize(("count", "numbers"), [(2, [0, 1]), (3, [0, 1, 2]), (7, [0, 1, 2, 0, 1, 2, 0])])
def test_captions_are_asked_for_again_where_fewer_clips_are_held_out_and_it_is_said(
    count: int, numbers: list[int]
) -> None:
    held_out = [SimpleNamespace(id=str(n), sound_group=f"take {n}") for n in range(3)]
    corpus: Any = SimpleNamespace(held_out=held_out)
    clips, note = sample_pairs.prompt_clips(corpus, count)
    assert [clip.id for clip in clips] == [str(n) for n in numbers]
    assert ("7 prompts were asked for, and the corpus holds out 3 clips:" in note) == (count == 7)


def test_no_base_is_given_beats_or_chords_and_a_caption_has_another_seed_each_time(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also a base that takes beats: what others are not given would be compared."""
    corpus = Corpus.load(finished_run.recipe.corpus)
    asked: list[tuple[Any, ...]] = []

    def generate(captions: list[str], seconds: float, seeds: list[int], **options: Any) -> list[tuple[int, np.ndarray]]:
        asked.append((captions, seeds, options.get("beats_chords")))
        return [(number, np.zeros((4, 10), np.int16)) for number in range(len(captions))]

    sound = Audio(np.zeros((1, 16000), np.float32), 16000)
    backbone: Any = SimpleNamespace(
        options={}, accepts_beats_chords=True, generate_each=generate, decode=lambda _: sound
    )
    monkeypatch.setattr(sample_pairs.injection, "disabled", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(sample_pairs, "provenance_tags", lambda *_: {})
    monkeypatch.setattr(sample_pairs, "LONG_SECONDS", 0.0)
    run, count, said = Run(tmp_path / "run"), len(corpus.held_out) + 2, Lines()
    run.folder.mkdir()
    pairs = sample_pairs.generate_pairs(
        run, corpus, backbone, None, said, num_prompts=count, seconds=1.0, seed=5, options=GenerationOptions()
    )
    (line,) = (line for line in said.lines if " took " in line)  # so that it is known how long the rest will take
    assert line.startswith(f"{count} pieces took ")
    assert line.endswith(" more, and then all of it is measured")
    assert len(asked) == 2  # with the adapter and without
    for captions, seeds, beats_chords in asked:
        assert seeds == [5 + n for n in range(count)]
        assert captions == [pair.prompt for pair in pairs]
        assert not beats_chords
    assert [pair.clip.id for pair in pairs[-2:]] == [pair.clip.id for pair in pairs[:2]]


def test_log_mel_distance_db_of_gain_is_the_gain_and_symmetric() -> None:
    rng = np.random.default_rng(0)
    one = Audio(rng.standard_normal(16000).astype(np.float32) * 0.1, 16000)
    louder = Audio(one.samples * 10 ** (-6 / 20), 16000)
    other = Audio(rng.standard_normal(16000).astype(np.float32) * 0.1, 16000)
    silent = Audio(np.zeros(16000, dtype=np.float32), 16000)
    assert sample_pairs.log_mel_distance_db(one, one) == 0
    assert sample_pairs.log_mel_distance_db(one, louder) == pytest.approx(6, abs=0.01)
    assert sample_pairs.log_mel_distance_db(one, other) == sample_pairs.log_mel_distance_db(other, one) > 1
    assert sample_pairs.log_mel_distance_db(silent, silent) == 0
    assert sample_pairs.log_mel_distance_db(one, silent) <= sample_pairs.DYNAMIC_RANGE_DB


def test_token_change_rate_counts_common_frames_only() -> None:
    one = np.zeros((4, 10), dtype=np.int16)
    other = one.copy()
    other[0, :5] = 1
    assert sample_pairs.token_change_rate(one, one[:, :7]) == 0
    assert sample_pairs.token_change_rate(one, other) == 5 / 40
    assert sample_pairs.token_change_rate(one[:, :0], other) == 0


def test_latent_change_of_equal_latents_is_zero_and_of_independent_ones_root_two() -> None:
    rng = np.random.default_rng(0)
    base, other = rng.normal(size=(2, 8, 200, 16))
    assert sample_pairs.latent_change(base, base[:, :50]) == 0
    assert sample_pairs.latent_change(base, other) == pytest.approx(2**0.5, rel=0.02)
    assert sample_pairs.latent_change(base[:, :0], other) == 0
