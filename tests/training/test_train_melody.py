"""Training and evaluation on MusicGen-melody: its melodies, how often they are dropped, and both losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released_musicgen

from talim.adapters import serialization
from talim.atomic_io import read_json, read_jsonl
from talim.backbones.load import load
from talim.backbones.musicgen.melody import MusicGenMelody
from talim.corpus.manifest import Corpus
from talim.errors import UsageError
from talim.evaluation.evaluate import evaluate
from talim.evaluation.held_out_loss import per_clip_losses, prepare_held_out
from talim.progress import Progress
from talim.recipe import Recipe, Training, recipe_differences, run_id
from talim.run import Run
from talim.training import batches
from talim.training.train import train


@pytest.fixture(scope="module")
def melody_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released_musicgen.write(tmp_path_factory.mktemp("bases") / "tiny-melody", layers=3, melody=True)


@pytest.fixture(scope="module")
def melody_base(melody_folder: Path) -> MusicGenMelody:
    return load(melody_folder, precision="fp32", device="cpu")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def items(corpus_folder: Path, melody_base: MusicGenMelody) -> list[Any]:
    corpus = Corpus.load(corpus_folder)
    return batches.encode_clips(corpus, corpus.train, melody_base, Progress())


def test_encoded_clips_have_the_melody_of_their_sound(
    items: list[Any], corpus_folder: Path, melody_base: MusicGenMelody
) -> None:
    corpus = Corpus.load(corpus_folder)
    for item in items[:3]:
        expected = melody_base.encode_melody(corpus.read_clip(item.clip))
        assert item.melody.rate_hz == 12.5
        assert np.array_equal(item.melody.classes, expected)
    assert len({tuple(item.melody.classes) for item in items}) > 1


def test_training_batches_drop_melodies_alone_and_with_the_text(items: list[Any], melody_base: MusicGenMelody) -> None:
    """As in pretraining: half of the clips lose the melody, a fifth all conditions, each by itself."""
    training = Training(batch_size=50, condition_dropout=0.2, melody_dropout=0.5, crop_seconds=0.3)
    silent, dropped, both = 0, 0, 0
    for step in range(1, 21):
        batch = batches.training_batch(items, melody_base, training, 0, step)
        assert batch.melody is not None
        no_melody, no_text = ~batch.melody.any(1), ~batch.states_mask.any(1)
        assert bool(no_melody[no_text].all())  # guidance's null has neither
        silent, dropped = silent + int(no_melody.sum()), dropped + int(no_text.sum())
        both += len(no_melody)
    assert abs(dropped / both - 0.2) < 0.04
    assert abs(silent / both - (0.5 + 0.5 * 0.2)) < 0.05
    for share, expected in ((0.0, True), (1.0, False)):
        settings = Training(batch_size=20, condition_dropout=0.0, melody_dropout=share)
        batch = batches.training_batch(items, melody_base, settings, 0, 1)
        assert bool(batch.melody.any()) is expected  # type: ignore[union-attr]
        assert bool(batch.states_mask.any(1).all())


def test_crops_have_the_melody_of_their_part(items: list[Any], melody_base: MusicGenMelody) -> None:
    crop = items[0].full_length._replace(start=8, frames=10)  # of 50 Hz: 0.16 to 0.36 s
    tokens, states, melody = crop.content(50.0)
    assert tokens.shape[1] == 10
    assert np.array_equal(melody, items[0].melody.classes[2:5])
    assert len(crop.without_melody.content(50.0)) == 2
    batch = melody_base.collate([(tokens, states, melody)], [False])
    assert batch.melody.tolist()[0] == np.resize(melody, 7).tolist()  # type: ignore[union-attr]


def train_run(quick_recipe: Any, melody_folder: Path, out: Path, **changes: Any) -> Run:
    fixed = {"base": str(melody_folder), "training__crop_seconds": None, "training__crop": "fixed"}
    return train(quick_recipe(**{**fixed, **changes}), out)


def test_runs_with_and_without_the_cache_of_frozen_layers_are_equal(
    quick_recipe: Any, melody_folder: Path, tmp_path: Path
) -> None:
    """Rows with a melody, without one and without text, of captions of unequal length."""
    losses = []
    for mode in ("on", "off"):
        settings = {"design": "conv@post:width8", "training__frozen_cache": mode, "training__condition_dropout": 0.3}
        run = train_run(quick_recipe, melody_folder, tmp_path / mode, **settings)
        rows = [row for row in read_jsonl(run.log) if "loss" in row]
        losses.append([row["loss"] for row in rows])
        facts = read_json(run.cost)["frozen_cache"]
        assert facts["used"] is (mode == "on")
    assert len(losses[0]) == len(losses[1]) > 3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_held_out_losses_with_and_without_the_melody(
    quick_recipe: Any, melody_folder: Path, melody_base: MusicGenMelody, corpus_folder: Path
) -> None:
    recipe = quick_recipe(base=str(melody_folder), training__melody_from="pitch")
    clips: list[Any] = prepare_held_out(recipe, Corpus.load(corpus_folder), melody_base, Progress())[0]
    by_chroma: list[Any] = batches.encode_clips(
        Corpus.load(corpus_folder), Corpus.load(corpus_folder).held_out, melody_base, Progress()
    )
    assert any(not np.array_equal(a.melody.classes, b.melody.classes) for a, b in zip(clips, by_chroma, strict=True))
    sets = clips, by_chroma, [clip.without_melody for clip in clips]
    losses = [per_clip_losses(melody_base, chosen, 3, Progress(), "loss").mean() for chosen in sets]
    assert len({round(float(loss), 4) for loss in losses}) == 3


@pytest.mark.slow
def test_evaluate_gives_both_losses_and_a_loaded_adapter_generates(
    quick_recipe: Any, melody_folder: Path, tmp_path: Path
) -> None:
    run = train_run(quick_recipe, melody_folder, tmp_path / "run", training__melody_from="pitch")
    scores = evaluate(run.folder, num_prompts=1, seconds=0.5)
    given, silent = scores["held_out_loss"], scores["held_out_loss_without_melody"]
    assert silent["base_loss"]["mean"] != given["base_loss"]["mean"]
    assert silent["adapted_loss"]["mean"] < silent["base_loss"]["mean"]
    assert set(silent) == set(given)
    base = load(melody_folder, precision="fp32", device="cpu")
    plain = base.generate_tokens(["a"], 0.4, seed=0, temperature=0, melody=[np.arange(7)])
    serialization.load(base, run.adapter)
    adapted = base.generate_tokens(["a"], 0.4, seed=0, temperature=0, melody=[np.arange(7)])
    assert adapted.shape == (1, 4, 20)
    assert not np.array_equal(plain, adapted)


@pytest.mark.parametrize(("setting", "value"), [("melody_from", "pitch"), ("melody_dropout", 0.3)])
def test_settings_of_a_melody_are_refused_on_another_base(
    quick_recipe: Any, tmp_path: Path, setting: str, value: Any
) -> None:
    recipe = quick_recipe(**{f"training__{setting}": value})
    with pytest.raises(UsageError, match=rf"training\.{setting} is {value}.*takes no melody.*musicgen-melody"):
        train(recipe, tmp_path / "run")


def test_settings_of_a_melody_count_in_the_id_where_they_are_set() -> None:
    plain, other = Recipe(corpus="a"), Recipe(corpus="a", training=Training(melody_dropout=0.3))
    assert run_id(plain) == run_id(Recipe(corpus="a", training=Training(melody_dropout=0.5)))
    assert run_id(plain) != run_id(other)
    assert recipe_differences(other, plain) == {"training.melody_dropout": (0.3, 0.5)}


def test_loss_of_a_bf16_base_is_near(melody_folder: Path, melody_base: MusicGenMelody, items: list[Any]) -> None:
    half = load(melody_folder, precision="bf16", device="cpu")
    rows = [item.full_length.content(50.0) for item in items[:3]]
    with torch.no_grad():
        exact, rounded = (model.loss(model.collate(rows, [False, True, False])) for model in (melody_base, half))
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(rounded.parts, exact.parts, atol=0.2, rtol=0)


def test_training_uses_the_melody_that_it_says(
    quick_recipe: Any, melody_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    encode, sources = batches.encode_clips, []

    def watch(*arguments: Any) -> Any:
        sources.append(arguments[-1])
        return encode(*arguments)

    monkeypatch.setattr(batches, "encode_clips", watch)
    log = Progress()
    log.log = lines.append  # type: ignore[method-assign]
    settings = {
        "training__steps": 1,
        "training__warmup_steps": 0,
        "training__eval_every": 1,
        "training__crop_seconds": 0.3,
    }
    settings |= {"training__melody_dropout": 0.25, "training__melody_from": "pitch"}
    train(quick_recipe(base=str(melody_folder), **settings), tmp_path / "run", log)
    assert "melody: each clip's own, by its pitch (training.melody_from); 25% are given none" in lines
    assert set(sources) == {"pitch"}
