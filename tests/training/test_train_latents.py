"""Tests with a base whose targets are latents (Mustango): training, resuming, evaluation, generation, reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released_mustango
from safetensors.torch import load_file

from talim import audio
from talim import recipe as recipes
from talim.atomic_io import read_json, read_jsonl
from talim.cli import main
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.errors import UsageError
from talim.evaluation.evaluate import evaluate
from talim.generation.generate import GenerationOptions
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.recipe import Recipe
from talim.reporting.run_report import write_report
from talim.run import Run
from talim.training.crops import Crop
from talim.training.train import train

QUICK = {
    "design": "conv@all:width4",
    "training.steps": 2,
    "training.batch_size": 2,
    "training.learning_rate": 0.01,
    "training.warmup_steps": 1,
    "training.eval_every": 1,
    "training.eval_clips": 2,
    "training.checkpoint_every": 1,
    "training.crop_seconds": 0.7,  # 18 latent frames, no multiple of anything
    "training.precision": "fp32",
}
DESIGNS = ["transformer@up:width8", "lora@mid:r2", "full@mid"]
DESIGNS += [pytest.param(each, marks=pytest.mark.slow) for each in ("linear@mid:width4", "dora@mid:r2", "ia3@down")]
SAMPLING = ["--sampling-steps", "2", "--sampler", "ddim"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mustango of two levels with random weights and networks that predict beats and chords."""
    torch.set_num_threads(1)
    return released_mustango.write(tmp_path_factory.mktemp("bases") / "tiny-mustango", predictors=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, make_recordings: Any) -> Path:
    """Four recordings in clips of one second; the first two have beats, one of them chords too."""
    takes = make_recordings(tmp_path_factory.mktemp("timed") / "takes", count=4, seconds=3.0)
    (takes / "take-0.beats").write_text("0.1 1\n0.6\t2\n1.1 3\n1.6 1\n")
    (takes / "take-0.chords").write_text("0.0 1.2 G:min\n1.2 2.0 Eb:maj/3\n")
    (takes / "take-1.beats").write_text("# seconds, position\n0.5 1\n1.5 16\n")
    folder = tmp_path_factory.mktemp("timed") / "corpus"
    prepare(takes, folder, clip_seconds=1.0, sample_rate=16000, held_out_fraction=0.5, seed=1)
    return folder


@pytest.fixture(scope="module")
def recipe(base: Path, corpus: Path) -> Any:
    """Makes a recipe of a second's work."""

    def make(**changes: Any) -> Recipe:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return recipes.load((), {"base": str(base), "corpus": str(corpus), **QUICK, **changed})

    return make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, recipe: Any) -> Run:
    """A trained run (read only by agreement)."""
    return train(recipe(), tmp_path_factory.mktemp("runs") / "run")


class Stop(Progress):
    """Interrupts after the first step."""

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        import os
        import signal

        if title == "training" and done == 1:
            os.kill(os.getpid(), signal.SIGINT)


def call(*words: str) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as ended:
        main([*words])
    return int(ended.value.code or 0)


def test_prepare_cuts_beats_and_chords_with_the_clips(corpus: Path) -> None:
    by_place = {(c.source_file, c.start_seconds): (c.beats, c.chords) for c in Corpus.load(corpus).clips}
    assert by_place["take-0.wav", 0.0] == ("1@0.1 2@0.6", "Gm@0")
    assert by_place["take-0.wav", 1.0] == ("3@0.1 1@0.6", "Gm@0 Eb/3@0.2")
    assert by_place["take-1.wav", 1.0] == ("16@0.5", "")
    assert by_place["take-2.wav", 0.0] == ("", "")


def test_train_on_latents_logs_named_terms_and_caches_latents(run: Run, corpus: Path) -> None:
    rows = read_jsonl(run.log)
    held_out = [row for row in rows if row["split"] == "validation"]
    assert held_out[0]["part_names"] == [f"noise level {level}" for level in (100, 300, 500, 700, 900)]
    assert all(len(row["parts"]) == len(row["part_names"]) for row in rows)
    assert [row["part_names"] for row in rows if row["split"] == "train"] == [["velocity"]] * 2
    assert read_json(run.cost)["loss_unit"] == "squared error"
    assert read_json(run.cost)["flops"] > 0
    kept = [load_file(path) for path in corpus.glob("features/*/*.safetensors")]
    latents = [entry["latents"] for entry in kept if "latents" in entry]
    assert latents
    assert all(one.dtype == torch.float32 and one.shape[::2] == (8, 16) for one in latents)
    assert str(run.folder) not in (run.adapter / "adapter_config.json").read_text()


def test_train_on_latents_interrupted_and_resumed_is_bitwise_identical(tmp_path: Path, recipe: Any, run: Run) -> None:
    with pytest.raises(Interrupted):
        train(recipe(), tmp_path, Stop())
    again = train(recipe(), tmp_path)
    ours, theirs = (load_file(r.adapter / "adapter_model.safetensors") for r in (again, run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    one, other = ([(row["loss"], row["parts"]) for row in read_jsonl(r.log)] for r in (again, run))
    assert one == other


def test_train_on_latents_with_gradient_checkpointing_has_the_same_losses(
    tmp_path: Path, recipe: Any, run: Run
) -> None:
    again = train(recipe(training__gradient_checkpointing=True), tmp_path)
    ours, theirs = ([row["loss"] for row in read_jsonl(r.log)] for r in (again, run))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_evaluate_and_report_on_latents_name_the_loss_unit(run: Run) -> None:
    assert call("evaluate", str(run.folder), "--num-prompts", "1", "--seconds", "1", *SAMPLING) == 0
    scores = read_json(run.scores)
    assert scores["held_out_loss"]["loss_unit"] == "squared error"
    assert len(scores["held_out_loss"]["base_loss"]["per_part"]) == 5
    first = next(row["loss"] for row in read_jsonl(run.log) if row["split"] == "validation")
    assert first > 0
    assert scores["adapter_effect"]["latent_change"] > 0
    tags = audio.read_tags(run.samples / "01-after.flac")
    assert (tags["sampling_steps"], tags["sampler"]) == ("2", "ddim")
    page = write_report(run.folder).read_text(encoding="utf-8")
    assert "squared error" in page
    assert "nats" not in page
    assert "codebook" not in page.lower()
    assert "Noise level 500" in page
    card = (run.adapter / "README.md").read_text(encoding="utf-8")
    assert "latents change by" in card
    assert "nats" not in card
    assert "MusicgenForConditionalGeneration" not in card


def generate_with_music(base: Path, out: Path, *adapter: str) -> audio.Audio:
    """A piece of the command `generate`, with given beats and chords."""
    music = ("--beats", "120 bpm 3/4", "--chords", "Gm@0 Eb/G@0.5")
    words = ("--base", str(base), *adapter, "--prompt", "slow glide", "--seconds", "1", *music, *SAMPLING)
    assert call("generate", *words, "--out", str(out)) == 0
    tags = audio.read_tags(out)
    assert (tags["beats"], tags["chords"]) == ("1@0 2@0.5", "Gm@0 Eb/G@0.5")
    return audio.read(out)


@pytest.fixture(scope="module")
def piece_of_the_base(base: Path, tmp_path_factory: pytest.TempPathFactory) -> audio.Audio:
    """A piece without adapter."""
    return generate_with_music(base, tmp_path_factory.mktemp("pieces") / "without.flac")


@pytest.mark.parametrize("design", DESIGNS)
def test_train_and_generate_commands_work_with_every_kind(
    tmp_path: Path,
    base: Path,
    corpus: Path,
    piece_of_the_base: audio.Audio,
    design: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = [f"--set={key}={value}" for key, value in QUICK.items() if key != "design"]
    where = ("--base", str(base), "--corpus", str(corpus), "--out", str(tmp_path / "run"))
    assert call("train", *where, "--design", design, *settings) == 0
    piece = generate_with_music(base, tmp_path / "with.flac", "--adapter", str(tmp_path / "run" / "adapter"))
    assert piece.samples.shape == piece_of_the_base.samples.shape == (1, 16000)
    assert not np.array_equal(piece.samples, piece_of_the_base.samples)
    assert capsys.readouterr().err.count("Traceback") == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--temperature", "0.9"], "--temperature is no option of .*: MusicGen has it"),
        (["--top-k", "5"], "--top-k is no option of"),
        (["--sampler", "heun"], "one of ddpm, ddim"),
        (["--sampling-steps", "0"], "1 to 1000"),
        (["--beats", "7@0.2"], "takes 1 to 5"),
        (["--beats", "1@0.5 2@0.2"], "in order of time"),
        (["--chords", "Csus4@0"], "'sus4', unknown"),
        (["--chords", "C"], "write chords as"),
        (["--beats", "1@0", "--beats", "1@0", "--beats", "1@0"], "3 times for 1 prompt"),
        (["--beats", "1@0", "--beats", "1@0", "--chords", "C@0", "--chords", "C@0", "--chords", "C@0"], "2 times and"),
        (["--seconds", "61"], "up to 60 s"),
    ],
)
def test_generate_with_options_that_mustango_lacks_is_refused_in_one_line(
    tmp_path: Path, base: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    out = str(tmp_path / "a.flac")
    assert call("generate", "--base", str(base), "--prompt", "x", "--out", out, *words) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert re.search(says, errors[-1])
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sampling-steps", "50"], "--sampling-steps is no option of .*: Mustango has it; MusicGen takes"),
        (["--sampler", "ddim"], "--sampler is no option"),
        (["--beats", "90 bpm"], "takes no beats or chords: Mustango does"),
        (["--predict-beats-chords"], "takes no beats or chords"),
    ],
)
def test_generate_with_options_that_musicgen_lacks_is_refused_in_one_line(
    tmp_path: Path, tiny_base: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    out = str(tmp_path / "a.flac")
    assert call("generate", "--base", str(tiny_base), "--prompt", "x", "--out", out, *words) == 2
    assert re.search(says, capsys.readouterr().err.strip().splitlines()[-1])


def test_generate_with_beats_per_prompt_predicts_the_missing_ones(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--base", str(base), "--prompt", "a long slow glide", "--prompt", "drums", "--seconds", "1"]
    beats = ["--beats", "60 bpm", "--beats", "", "--predict-beats-chords"]
    assert call("generate", *words, *beats, *SAMPLING, "--out", str(tmp_path / "many"), "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["beats"] == "1@0"
    assert second["beats"].startswith("1@0.5")  # what the small network always predicts
    assert audio.read(first["file"]).seconds == pytest.approx(1.0)


def test_train_with_settings_that_the_base_lacks_writes_nothing(tmp_path: Path, tiny_base: Path, corpus: Path) -> None:
    for change, says in (("loss_weighting", "Mustango"), ("predict_beats_chords", "beats")):
        value = "min_snr_eps" if change == "loss_weighting" else True
        asked = {"base": str(tiny_base), "corpus": str(corpus), f"training.{change}": value}
        with pytest.raises(UsageError, match=says):
            train(recipes.load((), asked), tmp_path / change)
        assert not (tmp_path / change / "recipe.yaml").exists()


def test_train_with_another_loss_weighting_changes_training_losses_only(tmp_path: Path, recipe: Any, run: Run) -> None:
    other = train(recipe(training__loss_weighting="none"), tmp_path)
    ours, theirs = ([row["loss"] for row in read_jsonl(r.log)] for r in (other, run))
    assert ours[0] == theirs[0]  # the held-out loss is not weighted
    assert ours[1] > theirs[1]  # the training loss is, with no weight above one


def test_encode_clips_caches_predicted_beats_and_chords(tmp_path: Path, recipe: Any, base: Path, corpus: Path) -> None:
    from talim.backbones.load import load
    from talim.training import batches

    found = Corpus.load(corpus)
    backbone = load(base, precision="fp32", device="cpu")
    plain = batches.encode_clips(found, found.clips, backbone, Progress())
    beats = sum(bool(clip.beats) for clip in found.clips)
    # the last chord of take-0 sounds on in its third clip
    assert batches.beats_chords_summary(plain) == f"beats are known for {beats} of 12 clips, chords for 3"
    predicted = batches.encode_clips(found, found.clips, backbone, Progress(), predict_beats_chords=True)
    assert all(item.beats_chords.beats for item in predicted)
    known = [i for i, clip in enumerate(found.clips) if clip.beats]
    assert [predicted[i].beats_chords.beats for i in known] == [plain[i].beats_chords.beats for i in known]
    backbone.predict_beats_chords = None  # type: ignore[method-assign, assignment]
    assert (
        batches.encode_clips(found, found.clips, backbone, Progress(), predict_beats_chords=True)[0].beats_chords
        == predicted[0].beats_chords
    )
    item = plain[known[0]]
    assert Crop(item, 0, 25).content(25)[2] == item.beats_chords
    assert Crop(item, 5, 10).content(25)[2] == item.beats_chords.cut(0.2, 0.4)


@pytest.mark.slow  # where the processor has no bf16, a step takes seconds
def test_train_and_evaluate_in_bf16_give_finite_losses(tmp_path: Path, recipe: Any) -> None:
    finished = train(recipe(training__precision="bf16"), tmp_path)
    assert all(np.isfinite(row["loss"]) for row in read_jsonl(finished.log))
    options = GenerationOptions(sampling_steps=2)
    scores = evaluate(finished.folder, num_prompts=1, num_continuations=0, seconds=1.0, options=options)
    assert np.isfinite(scores["held_out_loss"]["loss_reduction"]["mean"])
