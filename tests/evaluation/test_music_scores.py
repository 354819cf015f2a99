"""Scores of a run's music: complete rows, cached measures, and what missing inputs are reported as."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.atomic_io import read_json
from talim.audio import Audio
from talim.errors import TalimError, UsageError
from talim.evaluation import music_scores, score_table
from talim.evaluation.intervals import mean_by_recording
from talim.metrics.cache import MetricCache
from talim.run import Run

KEYS = {
    "name",
    "value",
    "low",
    "high",
    "n",
    "reference",
    "baseline",
    "direction",
    "sentence",
    "unit",
    "recording_values",
}
GAIN = {"gain", "gain_error", "gain_recordings", "gain_skewness", "resynthesis"}
BY_PROMPT = {"per_prompt", "baseline_per_prompt", "separation_p", "undecided", "too_few_clips"}
DIRECTIONS = {"match_reference", "lower_is_better", "higher_is_better"}


def test_score_music_of_a_finished_run_has_every_row(finished_run: Run) -> None:
    scores = read_json(finished_run.scores)
    assert {*scores["protocol"]} >= {"hash", "corpus", "seconds", "rate_hz", "embeddings", "measures"}
    assert all(set(row) == KEYS | GAIN | BY_PROMPT and row["direction"] in DIRECTIONS for row in scores["scores"])
    names = [row["name"] for row in scores["scores"]]
    assert [prompt["seed"] for prompt in scores["prompts"]] == [0, 1]
    rows = {row["name"]: row for row in scores["scores"]}
    for name in ("loudness_lufs", "silent_fraction"):
        assert len(rows[name]["per_prompt"]) == len(rows[name]["baseline_per_prompt"]) == 2
        recordings = [prompt["recording"] for prompt in scores["prompts"]]
        means = mean_by_recording(rows[name]["per_prompt"], recordings)
        assert rows[name]["value"] == pytest.approx(np.mean(list(means.values())))
    through_codec = {row["name"] for row in scores["scores"] if row["resynthesis"] is not None}
    assert through_codec == {f"kernel_distance_{name}" for name in ("timbre", "pitch", "rhythm")}
    expected = {"ornaments", "beat_phase_coherence", "ngram_similarity", "kernel_distance_timbre", "diversity_pitch"}
    assert expected | {"cycle_strength", "intonation_z_rms", "adherence_clap", "copied_tokens"} <= {*names}
    assert len(names) == len(set(names))
    assert any("rough" in warning for warning in scores["warnings"])  # two prompts are few
    page = (finished_run.folder / "scores.html").read_text("utf-8")
    assert scores["protocol"]["hash"] in page
    assert "kernel_distance_timbre" in page
    (copied,) = (row for row in scores["scores"] if row["name"] == "copied_tokens")
    assert copied["value"] is None
    assert "has to be measured on 10 held-out clips" in copied["sentence"]  # and this corpus has fewer
    assert all(clip["copied"] is None for clip in scores["copies"]["clips"])  # too few for a null distribution
    assert (finished_run.folder / "copies.html").is_file()
    assert scores["held_out_loss"]
    assert finished_run.metrics_cache.is_dir()


@pytest.mark.parametrize(
    ("real", "generated", "common", "reason"),
    [
        ([5.0, 8.0], [5.0], 5.0, ""),
        ([5.0, 8.0], [4.98], 4.98, ""),  # codec frames do not divide every length
        ([5.0, 2.952], [5.0], 2.952, "held-out clip clips/1.flac of take-1"),
        ([5.0], [5.0, 3.0], 3.0, "a generated clip"),
    ],
)
def test_common_length_says_why_it_is_not_the_one_that_was_asked_for(
    real: list[float], generated: list[float], common: float, reason: str
) -> None:
    sets: list[Any] = []
    for lengths in (real, generated):
        labels = [SimpleNamespace(file=f"clips/{n}.flac", recording=f"take-{n}") for n in range(len(lengths))]
        sets.append((lengths, labels))
    seconds, note = music_scores._common_length(5.0, sets)
    assert seconds == common
    assert bool(note) == bool(reason)
    assert reason in note
    if note:
        assert "5 s were asked for" in note
        assert f"first {common:.3g} s" in note


def test_a_clip_is_compared_in_one_channel_at_16_khz_and_holds_no_more_than_that() -> None:
    rng = np.random.default_rng(0)
    for rate_hz, channels in ((32_000, 2), (16_000, 1), (44_100, 1)):
        whole = Audio(rng.normal(size=(channels, 3 * rate_hz)), rate_hz)
        part = music_scores.as_compared(whole, 1.5)
        expected = whole.mono().resample(16_000).samples[:, :24_000]
        np.testing.assert_array_equal(part.samples, expected)
        assert part.samples.base is None or part.samples.base.nbytes == expected.nbytes
        np.testing.assert_array_equal(music_scores.as_compared(part, 1.5).samples, expected)


def test_one_whole_clip_is_held_at_a_time_when_clips_are_read() -> None:
    """Sixty stereo clips of 30 s at 32 kHz would be 460 MB, and they are compared at 16 kHz in one channel."""
    whole: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []

    def read() -> Iterator[Audio]:
        for number in range(6):
            held.append(sum(reference() is not None for reference in whole))
            samples = np.full((2, 32_000 + number), 0.1, np.float32)
            whole.append(weakref.ref(samples))
            yield Audio(samples, 32_000)
            del samples

    lengths, clips = music_scores._lengths_and_clips(read(), 0.5)
    assert lengths == [(32_000 + number) / 32_000 for number in range(6)]
    assert [clip.samples.shape for clip in clips] == [(1, 8000)] * 6
    assert max(held) <= 1  # the one before


def test_the_cut_end_of_a_recording_shortens_no_comparison() -> None:
    """Real recordings end anywhere: their last clips count only where a recording has no longer one."""
    lengths = {"long": [10.0, 10.0, 2.08], "near": [9.98, 4.0], "short": [3.0, 2.0]}
    held_out: Any = [
        SimpleNamespace(sound_group=name, seconds=seconds, id=f"{name} {seconds}")
        for name, every in lengths.items()
        for seconds in every
    ]
    chosen = music_scores.choose_real_clips(held_out, 10.0)
    assert sorted((clip.sound_group, clip.seconds) for clip in chosen) == [
        *[("long", 10.0)] * 2,
        *[("near", 9.98), ("short", 3.0)],
    ]
    assert len(music_scores.choose_real_clips(held_out, 2.0)) == 7  # all of them are long enough
    assert len(music_scores.choose_real_clips(held_out, 10.0, 2)) == 2
    assert music_scores.choose_real_clips([], 10.0) == []


def test_score_music_with_unknown_protocol_raises(finished_run: Run) -> None:
    with pytest.raises(UsageError, match="default, paper"):
        music_scores.score_music(finished_run, None, [], seconds=1, seed=0, protocol="other")  # type: ignore[arg-type]


def test_paper_distance_scores_without_weights_name_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise TalimError(f"{name}: cannot be loaded")

    monkeypatch.setattr(music_scores.embeddings, "load", missing)
    empty = score_table.ClipSet([], [], [])
    with pytest.raises(TalimError, match="--protocol paper needs vggish: vggish: cannot be loaded"):
        music_scores.paper_distance_scores(empty, empty, empty, MetricCache(None), np.random.default_rng(0))


def test_paper_distance_scores_split_the_reference_by_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recordings far apart, ten clips each: a split by clip would find hardly any distance between the halves."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0, 1, (10, 3)), rng.normal(50, 1, (10, 3))])
    order = np.arange(20).reshape(2, 10).T.ravel()  # the recordings alternate
    clips = list(range(20))
    real = score_table.ClipSet(clips, [], [f"recording {n // 10}" for n in order])  # type: ignore[arg-type]
    monkeypatch.setattr(music_scores.embeddings, "load", lambda name: name)
    monkeypatch.setattr(music_scores.embeddings, "embed", lambda clips, name, cache: rows[order][clips])
    score, _ = music_scores.paper_distance_scores(real, real, None, MetricCache(None), rng)
    assert score.reference is not None
    assert score.reference > 5000  # 3 * 50^2 between the recordings
    single = score_table.ClipSet(clips[:10], [], ["one recording"] * 10)  # type: ignore[arg-type]
    score, _ = music_scores.paper_distance_scores(real, single, None, MetricCache(None), rng)
    assert score.reference is None
    assert "halves of whole recordings" in score.sentence


def test_paper_distances_say_how_near_real_music_through_the_codec_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(0, 1, (40, 3))
    rows[20:] += 1.0
    monkeypatch.setattr(music_scores.embeddings, "load", lambda name: name)
    monkeypatch.setattr(music_scores.embeddings, "embed", lambda clips, name, cache: rows[clips])
    real, through = (
        score_table.ClipSet(list(part), [], [f"r{n}" for n in part])  # type: ignore[arg-type]
        for part in (range(20), range(20, 40))
    )
    scores = music_scores.paper_distance_scores(real, real, None, MetricCache(None), np.random.default_rng(0), through)
    limit = music_scores.frechet_distance(rows[:20], rows[20:])
    for score in scores:
        assert score.resynthesis == pytest.approx(limit)
        assert f"through the base's codec {limit:.3g}" in score.sentence
    (without, _) = music_scores.paper_distance_scores(real, real, None, MetricCache(None), np.random.default_rng(0))
    assert without.resynthesis is None


def test_token_matcher_cuts_null_clips_to_the_longest_output() -> None:
    tokens = [np.full((4, 50), n, np.int16) for n in range(2)]
    pair: Any = SimpleNamespace(adapted=SimpleNamespace(targets=tokens[0]), base=SimpleNamespace(targets=tokens[1]))
    training, held_out = [np.zeros((4, 90), np.int16)], [np.zeros((4, 80), np.int16)] * 2
    matcher = music_scores._token_matcher([pair], (training, held_out, 50.0))
    assert not isinstance(matcher, str)
    assert [codes.shape for codes in (*matcher.training, *matcher.null_clips)] == [(90,), (50,), (50,)]
    assert (matcher.generated[0][0], matcher.base[0][0], matcher.frame_rate_hz) == (0, 1, 50.0)
    assert "generates no tokens" in str(music_scores._token_matcher([pair], None))
