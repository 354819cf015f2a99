"""The music of a run in scores: complete, between floor and ceiling, of one protocol, and cached."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.atomic_io import read_json
from talim.audio import Audio
from talim.errors import TalimError, UsageError
from talim.evaluation import clip_measures, music_scores, score_table
from talim.metrics.cache import MetricCache
from talim.run import Run

KEYS = {"name", "value", "low", "high", "n", "reference", "baseline", "direction", "sentence", "unit"}


def test_scores_of_a_run_are_complete(finished_run: Run) -> None:
    told = read_json(finished_run.scores)
    assert {*map(str, told["protocol"])} >= {"hash", "corpus", "seconds", "rate_hz", "embeddings", "measures"}
    assert all(set(row) == KEYS for row in told["scores"])
    names = [row["name"] for row in told["scores"]]
    wanted = {"ornaments", "beat_phase_coherence", "ngram_similarity", "kernel_distance_timbre", "diversity_pitch"}
    assert wanted | {"cycle_strength", "intonation_z_rms", "adherence_clap", "copied_tokens"} <= {*names}
    assert len(names) == len(set(names))
    assert any("rough" in warning for warning in told["warnings"])  # two prompts are few, and it is said
    page = (finished_run.folder / "scores.html").read_text("utf-8")
    assert told["protocol"]["hash"] in page
    assert "kernel_distance_timbre" in page
    (copied,) = (row for row in told["scores"] if row["name"] == "copied_tokens")
    assert copied["value"] is None
    assert "it takes 10 held-out clips" in copied["sentence"]  # and this corpus has fewer
    assert told["copies"]["clips"] == []
    assert (finished_run.folder / "copies.html").is_file()
    assert told["held_out_loss"]  # what was there before stays


def test_scores_of_two_protocols_share_no_table() -> None:
    one, other = ({"protocol": score_table.score_protocol({"seconds": s})} for s in (10, 5))
    assert score_table.common_protocol_hash([one, one]) == one["protocol"]["hash"]
    with pytest.raises(TalimError, match="different protocols"):
        score_table.common_protocol_hash([one, other])


def test_an_unknown_protocol_is_refused(finished_run: Run) -> None:
    with pytest.raises(UsageError, match="default, paper"):
        music_scores.score_music(finished_run, None, [], seconds=1, seed=0, kind="other")  # type: ignore[arg-type]


def test_the_papers_distances_say_which_weights_they_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise TalimError(f"{name}: cannot be loaded")

    monkeypatch.setattr(music_scores.embeddings, "load", missing)
    empty = score_table.ClipSet([], [], [])
    with pytest.raises(TalimError, match="--protocol paper needs vggish: vggish: cannot be loaded"):
        music_scores.paper_distance_scores(empty, empty, empty, MetricCache(None))


def sung(seconds: float = 3.0) -> Audio:
    """A voice with vibrato, a little noise under it."""
    at = np.arange(round(seconds * 16000)) / 16000
    turn = 2 * np.pi * np.cumsum(220 * 2 ** (0.4 / 12 * np.sin(2 * np.pi * 5.5 * at))) / 16000
    voice = sum(np.sin(k * turn) / k for k in range(1, 6))
    noise = np.random.default_rng(0).standard_normal(at.size)
    return Audio((0.1 * voice + 0.001 * noise).astype(np.float32)[None], 16000)


def test_a_clip_is_heard_once_and_gain_changes_nothing_but_loudness(tmp_path, monkeypatch) -> None:
    cache, clip = MetricCache(tmp_path), sung()
    one = clip_measures.measure_clip(clip, cache)
    quieter = clip_measures.measure_clip(Audio(clip.samples * 0.5, 16000), cache)
    for name, value in one.measures.items():
        if name == "loudness_lufs":
            assert quieter.measures[name] == pytest.approx(value - 6.02, abs=0.05)
        else:
            assert quieter.measures[name] == pytest.approx(value, rel=0.02, abs=1e-3, nan_ok=True), name
    assert one.measures["ornaments"] > 0
    monkeypatch.setattr(clip_measures, "_packed", lambda audio: pytest.fail("heard twice"))
    assert clip_measures.measure_clip(clip, cache).measures == pytest.approx(one.measures, nan_ok=True)


def test_intervals_and_floors_come_from_recordings() -> None:
    def part(values: list[float], names: list[str]) -> score_table.ClipSet:
        heard = [
            clip_measures.ClipMeasures(dict.fromkeys(clip_measures.MEASURE_DESCRIPTIONS, v), np.zeros(0), {})
            for v in values
        ]  # type: ignore[arg-type]
        return score_table.ClipSet([], heard, names)

    rows = score_table.clip_measure_rows(
        part([1, 1, 4], ["a", "a", "b"]), part([2, 2], ["a", "b"]), part([float("nan")], ["a"])
    )
    first = rows[0]
    assert (first.value, first.low, first.high, first.n) == (2.5, 1, 4, 3)
    assert first.reference == 2
    assert np.isnan(first.baseline)
    assert score_table.rows_as_json(rows)[0]["baseline"] is None


def test_strangers_tokens_are_no_longer_than_the_outputs() -> None:
    made = [np.full((4, 50), n, np.int16) for n in range(2)]
    pair = SimpleNamespace(after=SimpleNamespace(targets=made[0]), before=SimpleNamespace(targets=made[1]))
    known, strangers = [np.zeros((4, 90), np.int16)], [np.zeros((4, 80), np.int16)] * 2
    found: Any = music_scores._tokens([pair], (known, strangers, 50.0))  # type: ignore[list-item]
    assert [codes.shape for codes in (*found.training, *found.strangers)] == [(90,), (50,), (50,)]
    assert (found.generated[0][0], found.base[0][0], found.frame_hz) == (0, 1, 50.0)
    assert "writes no tokens" in str(music_scores._tokens([pair], None))  # type: ignore[list-item]
