"""The automatic checks: each passes on what it should and fails on what it should not, or says why it cannot tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fixtures.brief_folder import RATE_HZ, brief_of

from research.pretraining.western_style import perform as perform_western
from talim import audio
from talim.audio import Audio
from talim.briefs import automatic_checks
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.evaluation import copy_scores, music_scores
from talim.evaluation.score_table import ClipSet
from talim.metrics.cache import MetricCache
from talim.run import Run
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform


def performed(folder: Path, seeds: range, seconds: float) -> Path:
    folder.mkdir()
    for seed in seeds:
        piece = perform_western(seed, "western", seconds)
        audio.write(folder / f"piece-{seed}.flac", Audio(piece.samples[None], piece.rate_hz))
    return folder


def run_on(folder: Path, corpus: Path) -> Run:
    folder.mkdir()
    run = Run(folder)
    run.recipe_file.write_text(yaml.safe_dump({"corpus": str(corpus)}), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run, and the folder of its recordings; twelve training clips, beside validation, are enough strangers."""
    index = tmp_path_factory.mktemp("copying")
    recordings = performed(index / "recordings", range(40, 46), 20.0)
    options: dict[str, Any] = {"clip_seconds": 6.0, "sample_rate": 16000, "held_out": ("piece-44",)}
    prepare(recordings, index / "corpus", seed=16, **options)  # of this seed piece-45 is for validation
    return run_on(index / "run", index / "corpus"), recordings


@pytest.fixture(scope="module")
def check(trained: tuple[Run, Path]) -> automatic_checks.OriginalityCheck:
    return automatic_checks.originality_check(trained[0], 5.0)


def test_originality_check_and_evaluation_of_one_run_call_a_copied_passage_the_same(
    trained: tuple[Run, Path], check: automatic_checks.OriginalityCheck, tmp_path: Path
) -> None:
    """Three held-out clips are too few; the other clips of the corpus make ten for both."""
    run, recordings = trained
    copied = audio.read(recordings / "piece-41.flac").cut(6.5, 5.0)
    audio.write(tmp_path / "copy.flac", Audio(0.5 * copied.samples, copied.rate_hz))
    output = check(tmp_path / "copy.flac")
    assert output.passed is False
    assert "most similar to piece-41 at " in output.measured
    assert float(output.measured.partition("piece-41 at ")[2].partition(" s")[0]) == pytest.approx(6.5, abs=0.8)
    copies = evaluated(run, tmp_path / "copy.flac", 5.0)
    assert (copies["copied"], copies["checked"], copies["null_clips"]) == (1, 1, 10)
    assert f"(p = {copies['clips'][0]['match']['p_value']:.2g})" in output.measured


def test_originality_check_new_music_passes(check: automatic_checks.OriginalityCheck, tmp_path: Path) -> None:
    piece = perform_western(77, "western", 5.0)
    audio.write(tmp_path / "new.flac", Audio(piece.samples[None], piece.rate_hz))
    output = check(tmp_path / "new.flac")
    assert output.passed is True
    assert "p = " in output.measured


def test_originality_check_without_corpus_or_nulls_is_not_checked(
    trained: tuple[Run, Path], check: automatic_checks.OriginalityCheck, tmp_path: Path
) -> None:
    _, recordings = trained
    audio.write(tmp_path / "short.flac", audio.read(recordings / "piece-40.flac").cut(0.0, 1.0))
    nowhere = run_on(tmp_path / "alone", tmp_path / "nowhere")
    gone = automatic_checks.originality_check(nowhere, 5.0)(tmp_path / "short.flac")
    assert (gone.passed, gone.measured) == (None, "not checked: the corpus of this run is missing")
    short = check(tmp_path / "short.flac")
    assert (short.passed, short.measured) == (None, "not checked: too short: 1 s, and at least 3.2 s are needed")
    first = performed(tmp_path / "one", range(50, 52), 8.0)
    prepare(first, tmp_path / "corpus", clip_seconds=4.0, sample_rate=16000, held_out=("piece-51",))
    lonely = run_on(tmp_path / "run", tmp_path / "corpus")
    audio.write(tmp_path / "four.flac", audio.read(recordings / "piece-40.flac").cut(0.0, 4.0))
    output = automatic_checks.originality_check(lonely, 4.0)(tmp_path / "four.flac")
    reason = evaluated(lonely, tmp_path / "four.flac", 4.0)["not_checked"]
    assert "and there are 2: add recordings" in reason
    assert (output.passed, output.measured) == (None, f"not checked: {reason}")  # in the words of the evaluation


def evaluated(run: Run, path: Path, seconds: float) -> dict[str, Any]:
    """The matches that `talim evaluate` of the run finds of a clip."""
    corpus = Corpus.load(yaml.safe_load(run.recipe_file.read_text(encoding="utf-8"))["corpus"])
    real = music_scores.choose_real_clips(corpus.held_out, seconds)
    sounds = [music_scores.as_compared(corpus.read_clip(clip), seconds) for clip in real]
    piece = ClipSet([audio.read(path)], [], ["one"])
    held_out = ClipSet(sounds, [], [clip.sound_group for clip in real])
    others = music_scores.clips_beside(corpus, seconds)
    return copy_scores.copy_scores(corpus, piece, piece, held_out, "no tokens", MetricCache(None), others)[1]


def steady(seconds: float = 2.0, hz: float = 220.0, level: float = 0.2) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def sound(samples: np.ndarray) -> Audio:
    return Audio(samples[None], RATE_HZ)


def test_check_length_within_tolerance_passes() -> None:
    assert automatic_checks.check_length(sound(steady(2.05)), brief_of()).passed
    assert automatic_checks.check_length(sound(steady(2.2)), brief_of()).passed is False


def test_check_loudness_within_1_lu_passes() -> None:
    loud = audio.loudness_lufs(sound(steady()))
    assert automatic_checks.check_loudness(sound(steady()), brief_of(loudness_lufs=loud + 0.9)).passed
    assert automatic_checks.check_loudness(sound(steady()), brief_of(loudness_lufs=loud + 1.1)).passed is False
    assert automatic_checks.check_loudness(sound(np.zeros(RATE_HZ, np.float32)), brief_of()).measured == "silent"


def test_check_clipping_flat_tops_fail() -> None:
    assert automatic_checks.check_clipping(sound(steady())).passed
    assert automatic_checks.check_clipping(sound(np.clip(steady(), -0.15, 0.15))).passed is False
    assert automatic_checks.check_clipping(sound(np.zeros(100, np.float32))).passed  # silence is another check's


def test_check_silence_long_gap_fails() -> None:
    gap = steady(4.0)
    gap[RATE_HZ : 2 * RATE_HZ + 2000] = 0
    assert automatic_checks.check_silence(sound(gap)).passed is False
    assert automatic_checks.check_silence(sound(steady())).passed
    assert automatic_checks.check_silence(sound(np.zeros(RATE_HZ, np.float32))).passed is False


def test_check_tempo_within_8_percent_or_octave_passes() -> None:
    clicks = np.zeros(10 * RATE_HZ, np.float32)
    for start in range(0, clicks.size, RATE_HZ // 2):  # 120 a minute
        clicks[start : start + 200] = steady(200 / RATE_HZ, 880.0, 0.8)
    assert automatic_checks.check_tempo(sound(clicks), 120.0).passed
    assert automatic_checks.check_tempo(sound(clicks), 60.0).passed  # half is forgiven
    assert automatic_checks.check_tempo(sound(clicks), 95.0).passed is False
    assert automatic_checks.check_tempo(sound(np.zeros(RATE_HZ * 4, np.float32)), 95.0).passed is None


def test_check_mode_synthetic_performance_passes_or_is_not_judged(tmp_path: Path) -> None:
    """The performer plays Malkauns: its own mode is found, another is not; a steady tone tells none."""
    piece = perform(1, "hindustani", 30.0, PerformanceRequest(mode="Malkauns"))
    path = tmp_path / "malkauns.flac"
    audio.write(path, Audio(np.atleast_2d(piece.samples), piece.rate_hz))
    expected: dict[str, Any] = {"tradition": "hindustani", "seconds": 30}
    assert automatic_checks.check_mode(path, brief_of(mode="Malkauns", **expected)).passed
    assert automatic_checks.check_mode(path, brief_of(mode="Bhairav", **expected)).passed is False
    short = automatic_checks.check_mode(path, brief_of(mode="Bhairav", **expected | {"seconds": 10}))
    assert short.passed is None
    assert "not judged in 10 s: rank" in short.measured
    audio.write(tmp_path / "tone.flac", sound(steady()))
    result = automatic_checks.check_mode(tmp_path / "tone.flac", brief_of(mode="Yaman", **expected))
    assert result.passed is None
    assert "too little melody" in result.measured


def test_check_cycle_short_piece_is_not_checked() -> None:
    result = automatic_checks.check_cycle(sound(steady()), brief_of(tradition="hindustani", cycle="teental"))
    assert result.passed is None
    assert "two cycles have 32" in result.measured


def test_run_checks_all_labels_give_all_checks_in_order(tmp_path: Path) -> None:
    audio.write(tmp_path / "x.flac", sound(steady()))
    output = automatic_checks.run_checks(tmp_path / "x.flac", brief_of(loop=True, tempo_bpm=90))
    assert [first["name"] for first in output] == [
        *("length", "loudness", "clipping", "silence", "seam", "tempo", "originality")
    ]
    assert output[-1]["passed"] is None
    assert "not checked" in output[-1]["measured"]
    given = automatic_checks.CheckResult("originality", False, "0.9 like piece-01", "at most 0.8")
    assert automatic_checks.run_checks(tmp_path / "x.flac", brief_of(), lambda _: given)[-1]["passed"] is False


@pytest.mark.parametrize("noise_level", [0.0, 1e-3, 5.0])
def test_every_number_of_a_check_has_its_unit(tmp_path: Path, noise_level: float) -> None:
    noise = np.clip(noise_level * np.random.default_rng(1).normal(size=32000), -1, 1)
    audio.write(tmp_path / "x.flac", Audio(noise[None].astype(np.float32), 16000))
    rows = automatic_checks.run_checks(tmp_path / "x.flac", brief_of(tempo_bpm=90))
    said = [row[key] for row in rows if row["name"] != "originality" for key in ("measured", "required")]
    assert [text for text in said if re.search(r"\d(?![\d.]| ?(s|bpm|LUFS|LU|dB|%)\b| ?%)", text)] == []


@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_run_checks_tiny_clip_fails_length_and_skips_what_is_too_short(tmp_path: Path, seconds: float) -> None:
    audio.write(tmp_path / "x.flac", sound(steady(seconds)))
    brief = brief_of(loop=True, tempo_bpm=90, tradition="makam", mode="Hicaz", cycle="düyek")
    passed = {row["name"]: row["passed"] for row in automatic_checks.run_checks(tmp_path / "x.flac", brief)}
    assert passed["length"] is False
    assert (passed["mode"], passed["cycle"], passed["originality"]) == (None, None, None)
    assert (passed["clipping"], passed["silence"]) == (True, True)
