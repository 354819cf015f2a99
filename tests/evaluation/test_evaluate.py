"""Judgement: losses are paired by clip, averaged by recording, and an adapter without effect scores zero."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim import audio
from talim.atomic_io import read_json, read_jsonl, write_json
from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation import evaluate, sample_pairs
from talim.evaluation.evaluate import compare_losses
from talim.run import Run


def test_golden_comparison() -> None:
    before = np.array([[4.0, 2.0], [2.0, 2.0], [5.0, 5.0]])
    after = np.array([[3.0, 1.0], [2.0, 2.0], [4.0, 2.0]])
    found = compare_losses(before, after, ["a", "a", "b"])
    assert found["base_loss"]["per_recording"] == {"a": 2.5, "b": 5.0}
    assert found["base_loss"]["mean"] == 3.75
    assert found["base_loss"]["per_part"] == [4.0, 3.5]
    assert found["loss_reduction"]["per_recording"] == {"a": 0.5, "b": 2.0}
    assert found["loss_reduction"]["mean"] == 1.25
    assert found["loss_reduction"]["relative_reduction"] == pytest.approx(1.25 / 3.75)
    assert found["loss_reduction"]["ci95"] == [0.5, 2.0]
    assert (found["loss_reduction"]["n_recordings"], found["loss_reduction"]["n_clips"]) == (2, 3)
    json.dumps(found)


@given(st.integers(1, 6), st.integers(1, 4), st.floats(-1, 1), st.integers(0, 99))
def test_a_constant_fall_has_an_interval_of_no_width(clips: int, books: int, fall: float, seed: int) -> None:
    before = np.random.default_rng(seed).uniform(2, 6, (clips, books))
    names = [f"r{i % 3}" for i in range(clips)]
    found = compare_losses(before, before - fall, names)
    assert found["loss_reduction"]["mean"] == pytest.approx(fall, abs=1e-9)
    if clips > 1:
        assert found["loss_reduction"]["ci95"] == pytest.approx([fall, fall], abs=1e-9)
    else:
        assert found["loss_reduction"]["ci95"] is None
        assert "one held-out recording" in found["loss_reduction"]["ci_note"]


def test_scores_of_a_run(finished_run: Run, corpus_folder: Path) -> None:
    scores = read_json(finished_run.scores)
    corpus = Corpus.load(corpus_folder)
    loss = scores["held_out_loss"]
    assert loss["base_loss"]["n_clips"] == len(corpus.held_out)
    assert set(loss["loss_reduction"]["per_recording"]) == {clip.recording for clip in corpus.held_out}
    assert loss["loss_reduction"]["mean"] == pytest.approx(loss["base_loss"]["mean"] - loss["adapted_loss"]["mean"])
    assert loss["loss_reduction"]["mean"] > 0.01  # a rate of 0.05 teaches even a random model which codes are common
    assert loss["loss_reduction"]["ci95"][0] <= loss["loss_reduction"]["mean"] <= loss["loss_reduction"]["ci95"][1]
    assert scores["split"]["strategy"] == corpus.summary["split"]["strategy"]
    assert 0 < scores["adapter_effect"]["token_change_rate"] <= 1
    assert scores["adapter_effect"]["log_mel_distance_db"] > 0


def test_the_untrained_loss_is_the_same_in_training_and_judgement(finished_run: Run) -> None:
    """The log's look 0 has an adapter that changes nothing; the judgement switches it off."""
    first = next(r["loss"] for r in read_jsonl(finished_run.log) if r["split"] == "held_out")
    before = read_json(finished_run.scores)["held_out_loss"]["base_loss"]
    corpus = Corpus.load(Path(read_yaml(finished_run)["corpus"]))
    if len(corpus.held_out) > 4:  # training looks at four of them only
        assert first == pytest.approx(before["mean"], rel=0.05)
    else:
        assert first == pytest.approx(before["mean"], rel=1e-5)


def read_yaml(run: Run) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(run.recipe_file.read_text())


def test_samples_come_in_threes_and_say_what_they_are(finished_run: Run) -> None:
    rows = read_jsonl(finished_run.samples / "manifest.jsonl")
    assert [r["role"] for r in rows] == ["before", "after", "real"] * 2
    assert [r["adapter"] for r in rows] == [False, True, False] * 2
    for row in rows:
        path = finished_run.samples / row["file"]
        assert audio.read(path).seconds == pytest.approx(1.0, abs=0.05)
        made = "AI-generated" in audio.read_tags(path).values()
        assert made == (row["role"] != "real")


def test_the_card_tells_the_measures(finished_run: Run) -> None:
    text = (finished_run.adapter / "README.md").read_text()
    mean = read_json(finished_run.scores)["held_out_loss"]["loss_reduction"]["mean"]
    assert f"Fall of the loss: {mean:.4f} nats, 95 % interval" in text


def test_an_unfinished_run_is_refused(tmp_path: Path, finished_run: Run) -> None:
    (tmp_path / "recipe.yaml").write_text(finished_run.recipe_file.read_text())
    with pytest.raises(TalimError, match="not finished; go on with: talim train"):
        evaluate.evaluate(tmp_path)
    with pytest.raises(TalimError, match="no run is here"):
        evaluate.evaluate(tmp_path / "nowhere")


def test_a_corpus_that_changed_is_refused(tmp_path: Path, finished_run: Run) -> None:
    run = Run(tmp_path)
    run.recipe_file.write_text(finished_run.recipe_file.read_text())
    run.adapter.mkdir()
    write_json(run.cost, {})
    write_json(run.facts_file, read_json(finished_run.facts_file) | {"corpus_hash": "other"})
    with pytest.raises(TalimError, match="the corpus has changed"):
        evaluate.evaluate(tmp_path)


def test_log_mel_distance_golden_and_symmetric() -> None:
    rng = np.random.default_rng(0)
    one = Audio(rng.standard_normal(16000).astype(np.float32) * 0.1, 16000)
    louder = Audio(one.samples * 10 ** (-6 / 20), 16000)
    other = Audio(rng.standard_normal(16000).astype(np.float32) * 0.1, 16000)
    silent = Audio(np.zeros(16000, dtype=np.float32), 16000)
    assert sample_pairs.log_mel_distance_db(one, one) == 0
    assert sample_pairs.log_mel_distance_db(one, louder) == pytest.approx(6, abs=0.01)
    assert sample_pairs.log_mel_distance_db(one, other) == sample_pairs.log_mel_distance_db(other, one) > 1
    assert sample_pairs.log_mel_distance_db(silent, silent) == 0
    assert sample_pairs.log_mel_distance_db(one, silent) <= sample_pairs.FLOOR_DB


def test_token_change_counts_the_common_frames() -> None:
    one = np.zeros((4, 10), dtype=np.int16)
    other = one.copy()
    other[0, :5] = 1
    assert sample_pairs.token_change_rate(one, one[:, :7]) == 0
    assert sample_pairs.token_change_rate(one, other) == 5 / 40
    assert sample_pairs.token_change_rate(one[:, :0], other) == 0
