"""Recordings of one sound count once; the validation loss of a finished run agrees with evaluate's."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from talim.atomic_io import read_json
from talim.corpus.corpus_folder import write_corpus
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation.evaluate import evaluate
from talim.evaluation.held_out_loss import validation_loss
from talim.training.train import train


def test_recordings_of_one_sound_count_once_in_losses_and_intervals(tmp_path: Any, quick_recipe: Any) -> None:
    recipe = quick_recipe()
    shared = tmp_path / "corpus"
    shutil.copytree(recipe.corpus, shared)
    corpus = Corpus.load(shared)
    names = sorted({clip.recording for clip in corpus.held_out})
    assert len(names) > 1
    clips = [
        clip.model_copy(update={"shares_sound_with": names[0]}) if clip.recording in names else clip
        for clip in corpus.clips
    ]
    write_corpus(Corpus(shared, tuple(clips), corpus.summary))
    run = train(recipe.model_copy(update={"corpus": str(shared)}), tmp_path / "run")
    losses = evaluate(run.folder, num_prompts=1, num_continuations=0, seconds=1.0)["held_out_loss"]
    for name in ("base_loss", "adapted_loss", "loss_reduction"):
        assert losses[name]["n_recordings"] == 1
        assert losses[name]["ci95"] is None  # as of a single recording, however many files it has
        assert list(losses[name]["per_recording"]) == [names[0]]


def test_validation_loss_equals_that_of_evaluate_and_is_stored(tmp_path: Any, quick_recipe: Any) -> None:
    with pytest.raises(TalimError, match="not finished"):
        validation_loss(tmp_path / "run")
    run = train(quick_recipe(training={"train_fraction": 0.5}), tmp_path / "run")
    assert read_json(run.cost)["recordings"] == 2
    alone = validation_loss(run.folder)
    scores = evaluate(run.folder, num_prompts=1, num_continuations=0, seconds=1.0)
    whole = scores["validation_loss"]["adapted_loss"]
    assert alone["per_recording"] == pytest.approx(whole["per_recording"])
    assert alone["mean"] == pytest.approx(whole["mean"])
    run.scores.unlink()
    assert validation_loss(run.folder) == alone
    assert "50%" in (run.adapter / "README.md").read_text(encoding="utf-8")
