"""Evaluation of a run: losses are paired by clip and averaged by recording, and what is written for a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from hypothesis import given
from hypothesis import strategies as st

from talim.adapters import serialization
from talim.atomic_io import read_json, read_jsonl, write_json
from talim.backbones.musicgen.backbone import MusicGen
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation import clip_measures, evaluate
from talim.evaluation.base_results import BaseResults
from talim.evaluation.evaluate import compare_losses
from talim.evaluation.intervals import mean_interval
from talim.run import Run


def test_compare_losses_matches_hand_computed_values() -> None:
    before = np.array([[4.0, 2.0], [2.0, 2.0], [5.0, 5.0]])
    after = np.array([[3.0, 1.0], [2.0, 2.0], [4.0, 2.0]])
    found = compare_losses(before, after, ["a", "a", "b"])
    assert found["base_loss"]["per_recording"] == {"a": 2.5, "b": 5.0}
    assert found["base_loss"]["mean"] == 3.75
    assert found["base_loss"]["per_part"] == [4.0, 3.5]
    assert found["loss_reduction"]["per_recording"] == {"a": 0.5, "b": 2.0}
    assert found["loss_reduction"]["mean"] == 1.25
    assert found["loss_reduction"]["relative_reduction"] == pytest.approx(1.25 / 3.75)
    assert found["loss_reduction"]["ci95"] == pytest.approx(mean_interval([0.5, 2.0]))  # of the two recordings
    assert (found["loss_reduction"]["n_recordings"], found["loss_reduction"]["n_clips"]) == (2, 3)
    json.dumps(found)


@given(st.integers(1, 6), st.integers(1, 4), st.floats(-1, 1), st.integers(0, 99))
def test_compare_losses_of_constant_reduction_has_interval_of_zero_width(
    clips: int, books: int, reduction: float, seed: int
) -> None:
    before = np.random.default_rng(seed).uniform(2, 6, (clips, books))
    names = [f"r{i % 3}" for i in range(clips)]
    found = compare_losses(before, before - reduction, names)
    assert found["loss_reduction"]["mean"] == pytest.approx(reduction, abs=1e-9)
    if clips > 1:
        assert found["loss_reduction"]["ci95"] == pytest.approx([reduction, reduction], abs=1e-9)
    else:
        assert found["loss_reduction"]["ci95"] is None
        assert "only one held-out recording" in found["loss_reduction"]["ci_note"]


@pytest.mark.parametrize(("recordings", "told"), [(1, True), (5, True), (6, False)])
def test_too_few_held_out_recordings_are_told_before_anything_is_measured(recordings: int, told: bool) -> None:
    corpus: Any = SimpleNamespace(held_out=[SimpleNamespace(sound_group=f"take {n % recordings}") for n in range(12)])
    note = evaluate.few_held_out(corpus)
    assert note.startswith("note: only ") == told
    assert note.endswith("--held-out-fraction does too, and leaves fewer to train on") == told
    said = evaluate._what_is_done(Run("my run"), corpus, 3, 5.0, 0)
    assert said == (
        "my run: the loss on 12 held-out clips; then 3 pieces of 5 s, each with and without the adapter; then measures "
        "of all of it"
    )
    assert " and 2 continuations, each" in evaluate._what_is_done(Run("my run"), corpus, 3, 5.0, 2)


def test_evaluate_run_writes_losses_split_and_adapter_effect(finished_run: Run, corpus_folder: Path) -> None:
    assert (finished_run.evaluation_seconds or 0.0) > 0.0
    scores = read_json(finished_run.scores)
    corpus = Corpus.load(corpus_folder)
    loss = scores["held_out_loss"]
    assert loss["base_loss"]["n_clips"] == len(corpus.held_out)
    assert set(loss["loss_reduction"]["per_recording"]) == {clip.recording for clip in corpus.held_out}
    assert loss["loss_reduction"]["mean"] == pytest.approx(loss["base_loss"]["mean"] - loss["adapted_loss"]["mean"])
    assert loss["loss_reduction"]["mean"] > 0.01  # a rate of 0.05 teaches even a random model which codes are common
    assert loss["loss_reduction"]["ci95"][0] <= loss["loss_reduction"]["mean"] <= loss["loss_reduction"]["ci95"][1]
    known = loss["reference_predictors"]
    assert known["unit"] == "nats per token"
    assert set(known["losses"]) == {"uniform", "unigram", "last_token"}
    for row in known["losses"].values():  # of the same clips and recordings
        assert row["n_clips"] == loss["base_loss"]["n_clips"]
        assert row["per_recording"].keys() == loss["base_loss"]["per_recording"].keys()
    assert known["losses"]["uniform"]["mean"] == pytest.approx(np.log(64))
    best = known["losses"][known["best"]]["mean"]
    assert known["adapted_margin"]["mean"] == pytest.approx(best - loss["adapted_loss"]["mean"])
    page = finished_run.scores.with_suffix(".html").read_text(encoding="utf-8")
    assert "beside predictors that need no model" in page
    assert scores["split"]["strategy"] == corpus.summary["split"]["strategy"]
    assert 0 < scores["adapter_effect"]["token_change_rate"] <= 1
    assert scores["adapter_effect"]["log_mel_distance_db"] > 0


def test_evaluate_base_loss_equals_the_first_validation_loss_of_training(finished_run: Run) -> None:
    """At step 0 the adapter changes nothing; the evaluation disables it."""
    first = next(r["loss"] for r in read_jsonl(finished_run.log) if r["split"] == "validation")
    before = read_json(finished_run.scores)["validation_loss"]["base_loss"]
    corpus = Corpus.load(Path(read_yaml(finished_run)["corpus"]))
    assert before["n_clips"] == len(corpus.validation)
    if len(corpus.validation) > 4:  # training validates on four of them only
        assert first == pytest.approx(before["mean"], rel=0.05)
    else:
        assert first == pytest.approx(before["mean"], rel=1e-5)


def read_yaml(run: Run) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(run.recipe_file.read_text())


def test_evaluate_model_card_contains_the_loss_reduction(finished_run: Run) -> None:
    text = (finished_run.adapter / "README.md").read_text()
    mean = read_json(finished_run.scores)["held_out_loss"]["loss_reduction"]["mean"]
    assert f": {mean:.4f} nats, " in text.partition("Loss reduction")[2]


def test_evaluate_with_the_measures_of_another_run_measures_no_clip_again(
    tmp_path: Path, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another adapter: only what it has made itself is new."""
    run, shared = Run(tmp_path / "run"), tmp_path / "shared"
    shutil.copytree(finished_run.folder, run.folder, ignore=shutil.ignore_patterns("metrics_cache", "samples"))
    shutil.copytree(finished_run.metrics_cache, shared)
    weights = run.adapter / "adapter_model.safetensors"
    safetensors.torch.save_file(
        {name: 2 * value for name, value in safetensors.torch.load_file(weights).items()}, weights, {"format": "pt"}
    )
    facts = run.adapter / serialization.INFO_FILE
    write_json(facts, {name: value for name, value in read_json(facts).items() if name != "sha256"})
    measured: list[bytes] = []
    measure = clip_measures._packed_measures
    monkeypatch.setattr(
        clip_measures, "_packed_measures", lambda sound: (measured.append(sound.samples.tobytes()), measure(sound))[1]
    )
    kept, prepare = BaseResults(), evaluate.prepare_held_out
    # with stored outputs of frozen layers losses are computed otherwise, and not kept
    monkeypatch.setattr(evaluate, "prepare_held_out", lambda *a: (prepare(*a)[0], None))
    request: dict[str, Any] = {"num_prompts": 2, "metrics_cache": shared, "base_results": kept}
    scores = evaluate.evaluate(run.folder, seconds=1.0, **request)
    # two samples and two continuations with the adapter; what the base makes and all recordings are known
    assert 1 <= len(measured) <= 4
    before = read_json(finished_run.scores)
    for row, known in zip(scores["scores"], before["scores"], strict=True):
        assert [row[name] for name in ("reference", "baseline")] == [known[name] for name in ("reference", "baseline")]
    assert not run.metrics_cache.exists()
    base_losses = [each["held_out_loss"]["base_loss"]["mean"] for each in (scores, before)]
    assert base_losses[0] == pytest.approx(base_losses[1], abs=1e-5)
    calls: list[str] = []
    losses, samples = evaluate.per_clip_losses, MusicGen.generate_each
    monkeypatch.setattr(evaluate, "per_clip_losses", lambda *a: (calls.append(a[4]), losses(*a))[1])
    monkeypatch.setattr(MusicGen, "generate_each", lambda *a, **n: (calls.append("tokens"), samples(*a, **n))[1])
    again = evaluate.evaluate(run.folder, seconds=1.0, **request)
    assert calls == ["loss with adapter", "loss with adapter, validation", "tokens", "tokens"]
    told = {name: value for name, value in again.items() if name != "provenance"}  # it holds the time
    assert told == {name: scores[name] for name in told}


def test_evaluate_unfinished_run_raises(tmp_path: Path, finished_run: Run) -> None:
    (tmp_path / "recipe.yaml").write_text(finished_run.recipe_file.read_text())
    with pytest.raises(TalimError, match="not finished; resume it with: talim train"):
        evaluate.evaluate(tmp_path)
    with pytest.raises(TalimError, match="no run is here"):
        evaluate.evaluate(tmp_path / "nowhere")


def test_evaluate_changed_corpus_raises(tmp_path: Path, finished_run: Run) -> None:
    run = Run(tmp_path)
    run.recipe_file.write_text(finished_run.recipe_file.read_text())
    run.adapter.mkdir()
    write_json(run.cost, {})
    write_json(run.facts_file, read_json(finished_run.facts_file) | {"corpus_hash": "other"})
    with pytest.raises(TalimError, match="the corpus has changed"):
        evaluate.evaluate(tmp_path)


def test_evaluate_after_a_kill_counts_the_time_of_all_parts(
    tmp_path: Path, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    scores, clock, part = read_json(run.scores), [1000.0], [40.0]

    def score_adapter(*arguments: Any, **options: Any) -> dict[str, Any]:
        clock[0] += part[0] or 100.0
        arguments[2].log("some of it is done")
        unfinished = sum(
            read_json(run.folder / evaluate.UNFINISHED_TIME).values()
        )  # what any end of the process leaves
        assert unfinished == {40.0: 40.0, 7.0: 47.0}.get(part[0], unfinished)
        if part[0]:
            raise KeyboardInterrupt
        return scores

    monkeypatch.setattr("talim.time_log.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(evaluate, "score_adapter", score_adapter)
    for part[0] in (40.0, 7.0):
        with pytest.raises(KeyboardInterrupt):
            evaluate.evaluate(run.folder)
        clock[0] += 5000.0  # between two sessions nothing is counted
    part[0] = 0.0
    evaluate.evaluate(run.folder)
    assert run.evaluation_seconds == 147.0
    evaluate.evaluate(run.folder)  # a whole one is made again: the time of the first is not part of it
    assert run.evaluation_seconds == 100.0
    assert not (run.folder / evaluate.UNFINISHED_TIME).exists()
