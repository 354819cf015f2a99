"""Tests of talim.training.train and trainer: resuming, interruption, refusals, what is stored."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fixtures import released_musicgen
from fixtures.forked_process import ForkedProcess
from fixtures.log_lines import Lines
from safetensors.torch import load_file

from talim import audio
from talim import recipe as recipes
from talim.atomic_io import read_json, read_jsonl
from talim.corpus.manifest import Corpus
from talim.errors import TalimError, UsageError
from talim.generation import sources
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.reporting.messages import training_message
from talim.run import Run
from talim.training import trainer
from talim.training.train import train

TIMEOUT_SECONDS = 600  # for a process that hangs


def losses(run: Run) -> list[tuple[int, str, float, tuple[float, ...]]]:
    return [(r["step"], r["split"], r["loss"], tuple(r["parts"])) for r in read_jsonl(run.log)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.adapter / "adapter_model.safetensors")


def same(first: Run, second: Run) -> bool:
    a, b = weights(first), weights(second)
    return losses(first) == losses(second) and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class StopAt(Progress):
    """Sends a signal to its own process when a step is reached, and collects log lines."""

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.at, self.number, self.lines = step, number, []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        if title == "training" and done == self.at:
            os.kill(os.getpid(), self.number)


def test_train_finished_writes_log_cost_and_adapter(finished_run: Run, tiny_base: Path) -> None:
    rows = read_jsonl(finished_run.log)
    assert [r["step"] for r in rows if r["split"] == "train"] == list(range(1, 10))
    assert [r["step"] for r in rows if r["split"] == "validation"] == [0, 3, 6, 9]
    assert all(len(r["parts"]) == 4 and sum(r["parts"]) / 4 == pytest.approx(r["loss"]) for r in rows)
    cost = read_json(finished_run.cost)
    stored = sum(tensor.numel() for tensor in weights(finished_run).values())
    assert cost["trainable_parameters"] == stored
    assert cost["total_parameters"] > stored
    assert cost["flops"] == 9 * (cost["flops"] // 9) > 0
    assert 0 < cost["device_seconds"] <= cost["wall_seconds"]
    assert cost["energy_joules"] is None
    assert not finished_run.checkpoint.exists()
    assert read_json(finished_run.facts_file)["base"]["name"] == tiny_base.name
    assert str(tiny_base) not in (finished_run.adapter / "adapter_config.json").read_text()


def test_train_lowers_the_loss_and_stores_the_best_weights(finished_run: Run) -> None:
    held_out = {r["step"]: r["loss"] for r in read_jsonl(finished_run.log) if r["split"] == "validation"}
    cost = read_json(finished_run.cost)
    assert cost["best_validation_loss"] == min(held_out.values()) < held_out[0]
    assert held_out[cost["best_step"]] == cost["best_validation_loss"]


def test_train_logs_what_needs_no_model_once_on_the_same_validation_clips(finished_run: Run) -> None:
    first, *others = [row for row in read_jsonl(finished_run.log) if row["split"] == "validation"]
    assert [*first["references"]] == ["uniform", "unigram", "last_token"]
    assert first["references"]["uniform"] > first["references"]["unigram"] >= 0
    assert not any("references" in row for row in others)


def copied_corpus(source: Path, target: Path, change: Any) -> Path:
    """A copy of a prepared corpus without its features; `change` edits each row and may write its clip anew."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("features"))
    rows = [json.loads(line) for line in (target / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    text = "".join(json.dumps(change(row), ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    (target / "corpus.jsonl").write_text(text, encoding="utf-8")
    return target


def test_train_never_sees_the_test_side(
    tmp_path: Path, quick_recipe: Any, finished_run: Run, corpus_folder: Path
) -> None:
    """A leak that is planted: with noise and other words in every test clip the run is the same to the last bit."""
    rng, spoiled = np.random.default_rng(0), []

    def spoil(row: dict[str, Any]) -> dict[str, Any]:
        if row["split"] != "held_out":
            return row
        path = tmp_path / "corpus" / row["file"]
        clip = audio.read(path)
        noise = audio.Audio(rng.uniform(-0.5, 0.5, clip.samples.shape).astype(np.float32), clip.rate_hz)
        path.unlink()
        audio.write(path, noise)
        spoiled.append(row["file"])
        return row | {"audio_hash": audio.content_hash(audio.read(path)), "caption": "noise"}

    corpus = copied_corpus(corpus_folder, tmp_path / "corpus", spoil)
    assert spoiled
    run = train(quick_recipe(corpus=str(corpus)), tmp_path / "run")
    assert read_json(run.facts_file)["corpus_hash"] != read_json(finished_run.facts_file)["corpus_hash"]
    assert same(run, finished_run)
    chosen = read_json(run.facts_file)["weights_chosen"]
    assert (chosen["by"], chosen["validation_from"]) == ("validation", "recordings")
    assert chosen["recordings"] == sorted({c.recording for c in Corpus.load(corpus).validation})


def test_train_without_validation_stores_the_last_weights_and_resumes_to_the_same_bits(
    tmp_path: Path, quick_recipe: Any, corpus_folder: Path
) -> None:
    corpus = copied_corpus(
        corpus_folder,
        tmp_path / "corpus",
        lambda row: row | ({"split": "train"} if row["split"] == "validation" else {}),
    )
    summary = read_json(corpus / "summary.json")
    summary["split"] |= {"validation_from": "none", "validation_note": "no validation, as this is a test"}
    (corpus / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    recipe, log = quick_recipe(corpus=str(corpus)), Lines()
    run = train(recipe, tmp_path / "whole", log)
    assert "note: no validation, as this is a test" in log.lines
    assert {row["split"] for row in read_jsonl(run.log)} == {"train"}
    cost = read_json(run.cost)
    assert (cost["best_validation_loss"], cost["best_step"], cost["steps"]) == (None, 9, 9)
    assert read_json(run.facts_file)["weights_chosen"]["by"] == "last step"
    assert "the weights of the last step" in (run.adapter / "README.md").read_text(encoding="utf-8")
    assert "no validation: the weights of the last step are stored" in training_message(run.folder)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "stopped", StopAt(5))
    assert same(train(recipe, tmp_path / "stopped"), run)


@pytest.mark.parametrize("stops", [(1,), (2, 5, 8), (9,)])
def test_train_interrupted_and_resumed_is_bitwise_identical(
    tmp_path: Path, quick_recipe: Any, finished_run: Run, stops: tuple[int, ...]
) -> None:
    for stop in stops:
        with pytest.raises(Interrupted, match=f"stopped after step {stop} of 9"):
            train(quick_recipe(), tmp_path, StopAt(stop))
        assert not Run(tmp_path).finished
    assert same(train(quick_recipe(), tmp_path), finished_run)


def test_train_on_sigterm_writes_a_checkpoint_and_restores_the_handler(tmp_path: Path, quick_recipe: Any) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"To resume: talim train --out"):
        train(quick_recipe(), tmp_path, StopAt(4, signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert Run(tmp_path).checkpoint.is_file()


@pytest.mark.parametrize("last", ["checkpoint.write", "serialization.save"])
def test_train_interrupted_while_the_last_files_are_written_finishes_and_says_so(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    module = getattr(trainer, last.partition(".")[0])
    write, done = getattr(module, last.partition(".")[2]), []

    def interrupted(*arguments: Any, **options: Any) -> None:
        if last == "serialization.save" or arguments[1].step == 9:
            done.append(signal.raise_signal(signal.SIGINT))
        write(*arguments, **options)

    monkeypatch.setattr(module, last.partition(".")[2], interrupted)
    with pytest.raises(Interrupted, match=r"was finished all the same\. To resume: run the same command again"):
        train(quick_recipe(), tmp_path)
    assert done
    assert Run(tmp_path).finished


Process = ForkedProcess | subprocess.Popen[str]


def train_in_process(
    recipe_file: Path, out: Path, pause_seconds: float = 0.0, waits_after: int = 10**9, *, anew: bool = False
) -> Process:
    """A real `talim train` to send signals to: pauses `pause_seconds` before each step, and after step `waits_after`
    waits for a file "go" beside the run. `anew`: in a new interpreter, which loads torch itself."""
    code = (
        "import time; from pathlib import Path\n"
        "from talim.cli import main; from talim.training.trainer import Trainer\n"
        f"step, go = Trainer._take_step, Path({str(out.parent / 'go')!r})\n"
        "def slow_step(self):\n"
        f"    time.sleep({pause_seconds})\n"
        f"    while self.state.step >= {waits_after} and not go.exists():\n"
        "        time.sleep(0.02)\n"
        "    step(self)\n"
        "Trainer._take_step = slow_step\n"
        f"main(['train', '--config', {str(recipe_file)!r}, '--out', {str(out)!r}])\n"
    )
    if not anew:
        return ForkedProcess(code, out.parent / "streams")
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_step(run: Run, step: int, process: Process) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not run.log.is_file() or not any(r["step"] >= step and r["split"] == "train" for r in read_jsonl(run.log)):
        assert time.monotonic() < deadline, f"step {step} was never reached"
        assert process.poll() is None, (
            f"step {step} was never reached: {process.communicate(timeout=TIMEOUT_SECONDS)[1]}"
        )
        time.sleep(0.02)


def test_train_after_sigkill_loses_at_most_one_checkpoint_interval(
    tmp_path: Path, quick_recipe: Any, finished_run: Run
) -> None:
    recipe_file, run = tmp_path / "recipe.yaml", Run(tmp_path / "run")
    recipe_file.write_text(recipes.dump(quick_recipe()))
    process = train_in_process(recipe_file, run.folder, waits_after=5)
    try:
        wait_for_step(run, 5, process)
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)
    logged = max(r["step"] for r in read_jsonl(run.log))
    log = StopAt(-1)
    train(quick_recipe(), run.folder, log)
    resumed = next(int(line.split()[3]) for line in log.lines if line.startswith("resuming from step"))
    assert logged - 2 <= resumed <= logged  # checkpoint_every is 2
    assert same(run, finished_run)


@pytest.mark.parametrize("anew", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_train_command_on_sigint_saves_and_says_how_to_resume(tmp_path: Path, quick_recipe: Any, anew: bool) -> None:
    recipe_file, run = tmp_path / "recipe.yaml", Run(tmp_path / "run")
    recipe_file.write_text(recipes.dump(quick_recipe()))
    process = train_in_process(recipe_file, run.folder, waits_after=3, anew=anew)
    wait_for_step(run, 3, process)
    process.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    last = errors.strip().splitlines()[-1]
    assert process.returncode == 130
    assert last.startswith(("talim: stopped after step 3 of 9", "talim: stopped after step 4 of 9"))
    assert last.endswith(f"talim train --out {run.folder}")


@pytest.mark.slow
def test_train_after_ten_sigkills_is_bitwise_identical(tmp_path: Path, quick_recipe: Any, finished_run: Run) -> None:
    recipe_file, run = tmp_path / "recipe.yaml", Run(tmp_path / "run")
    recipe_file.write_text(recipes.dump(quick_recipe()))
    killed = 0
    for number in range(10):
        process = train_in_process(recipe_file, run.folder, 0.3, anew=True)
        time.sleep(6 + 0.4 * number)  # during loading, encoding, a step or a checkpoint
        killed += process.poll() is None
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert killed >= 1
    train(quick_recipe(), run.folder)
    assert same(run, finished_run)


def test_train_of_finished_run_changes_nothing(
    finished_run: Run, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.Trainer, "fit", lambda self: pytest.fail("trained again"))
    before = {p: p.stat().st_mtime_ns for p in finished_run.folder.rglob("*")}
    log = StopAt(-1)
    train(quick_recipe(), finished_run.folder, log)
    assert "finished; nothing to do" in log.lines[0]
    assert {p: p.stat().st_mtime_ns for p in finished_run.folder.rglob("*")} == before


def test_train_of_another_recipe_in_the_folder_names_the_keys(finished_run: Run, quick_recipe: Any) -> None:
    other = quick_recipe(seed=3, training__steps=12)
    with pytest.raises(UsageError, match=r"seed \(0 there, 3 now\), training\.steps \(9 there, 12 now\)"):
        train(other, finished_run.folder)


def test_train_on_changed_corpus_raises_usage_error(tmp_path: Path, quick_recipe: Any) -> None:
    with pytest.raises(Interrupted):
        train(quick_recipe(), tmp_path, StopAt(1))
    facts = read_json(Run(tmp_path).facts_file)
    Run(tmp_path).facts_file.write_text(json.dumps(facts | {"corpus_hash": "0"}))
    with pytest.raises(UsageError, match="the corpus's content"):
        train(quick_recipe(), tmp_path)


def test_train_with_another_base_fingerprint_raises_talim_error(tmp_path: Path, quick_recipe: Any) -> None:
    with pytest.raises(Interrupted):
        train(quick_recipe(), tmp_path, StopAt(1))
    facts = read_json(Run(tmp_path).facts_file)
    facts["base"]["fingerprint"] = "0"
    Run(tmp_path).facts_file.write_text(json.dumps(facts))
    with pytest.raises(TalimError, match="fingerprint"):
        train(quick_recipe(), tmp_path)


def test_train_logs_the_licence_before_the_first_step(tmp_path: Path, quick_recipe: Any) -> None:
    log = StopAt(1)
    with pytest.raises(Interrupted):
        train(quick_recipe(), tmp_path, log)
    assert any("cc-by-nc-4.0 (non-commercial" in line for line in log.lines)


def test_train_with_wrong_design_is_refused_before_loading(tmp_path: Path, quick_recipe: Any) -> None:
    with pytest.raises(UsageError):
        train(quick_recipe(design="liner@all:2%", base="never-looked-at"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_with_gradient_checkpointing_has_the_same_losses(
    tmp_path: Path, quick_recipe: Any, finished_run: Run
) -> None:
    recipe = quick_recipe(training__gradient_checkpointing=True)
    run = train(recipe, tmp_path)
    ours, theirs = ([row[2] for row in losses(r)] for r in (run, finished_run))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_train_stores_a_hub_model_card(finished_run: Run) -> None:
    text = (finished_run.adapter / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "peft"
    assert header["license"] == "cc-by-nc-4.0"
    assert "base_model" not in header  # a local folder, whose name may be another model's on the Hub
    assert "recordings that it was trained on" in (finished_run.adapter / "LICENSE.md").read_text()


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> Any:
    """Makes a copy of the corpus whose clips have these captions, in turn."""

    def make(name: str, *captions: str) -> Path:
        folder = tmp_path_factory.mktemp("captioned") / name
        shutil.copytree(corpus_folder, folder, ignore=shutil.ignore_patterns("features"))
        rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            row["caption"] = captions[number % len(captions)]
        text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
        (folder / "corpus.jsonl").write_text(text, encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="module")
def t5_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small base with a tokenizer of T5's kind."""
    return released_musicgen.write(tmp_path_factory.mktemp("t5") / "base", layers=1)


def test_captions_are_read_in_letters_that_the_base_knows_and_generation_agrees(
    quick_recipe: Any, captioned: Any, t5_base: Path, tmp_path: Path
) -> None:
    corpora = [captioned("deva", "राग यमन", "Şehnâz 静"), captioned("plain", "raga Yaman", "Sehnâz 静")]
    few = {"base": str(t5_base), "training__steps": 2, "training__crop_seconds": 0.3}
    log = Lines()
    one, two = (train(quick_recipe(corpus=str(c), **few), tmp_path / c.name, log) for c in corpora)
    assert same(one, two)  # the base reads the same
    kept = read_json(one.facts_file)["captions"]
    assert kept["transliterated"] is True
    assert kept["spelled"] == {"राग": "raga", "यमन": "Yaman", "Şehnâz": "Sehnâz"}
    assert kept["unreadable"] == ["静"]
    assert any("राग -> raga, यमन -> Yaman" in line and "transliterate=false" in line for line in log.lines)
    assert any("cannot read 1 word of the captions: 静" in line for line in log.lines)
    as_written = quick_recipe(corpus=str(corpora[0]), training__transliterate=False, **few)
    three = train(as_written, tmp_path / "as-written", log)
    assert not same(one, three)
    for run, transliterated in ((one, True), (three, False)):
        assert read_json(run.adapter / "talim.json")["transliterated"] is transliterated
        backbone = sources.load_source(sources.choose_source(run.folder, None, [], False), "cpu", log)
        assert backbone.transliterate is transliterated
        assert backbone.read_as("राग") == ("raga" if transliterated else "राग")
    asked = replace(sources.choose_source(one.folder, None, [], False), transliterate=False)
    assert sources.load_source(asked, "cpu", log).transliterate is False
    assert any("was trained on captions in letters that the base knows; here prompts" in line for line in log.lines)


def test_a_run_that_was_begun_before_goes_on_as_it_was_begun(
    quick_recipe: Any, captioned: Any, t5_base: Path, tmp_path: Path
) -> None:
    recipe = quick_recipe(
        base=str(t5_base), corpus=str(captioned("old", "राग यमन")), training__steps=2, training__crop_seconds=0.3
    )
    run, log = Run(tmp_path / "run"), Lines()
    with pytest.raises(Interrupted):
        train(recipe, run.folder, StopAt(1))
    facts = read_json(run.facts_file)
    del facts["captions"]
    run.facts_file.write_text(json.dumps(facts), encoding="utf-8")
    train(recipe, run.folder, log)
    assert read_json(run.adapter / "talim.json")["transliterated"] is False
    assert any("was begun with captions as they are written, and goes on so" in line for line in log.lines)


def test_a_corpus_without_captions_is_trained_with_the_null_condition(
    quick_recipe: Any, captioned: Any, tmp_path: Path
) -> None:
    without, with_words = captioned("without", ""), captioned("with", "slow glide")
    few, log = {"training__steps": 3}, Lines()
    made = {rate: quick_recipe(corpus=str(without), training__condition_dropout=rate, **few) for rate in (0.0, 0.9)}
    runs = [train(recipe, tmp_path / f"{rate}", log) for rate, recipe in made.items()]
    assert same(*runs)  # nothing is dropped twice
    dropped = train(quick_recipe(corpus=str(with_words), training__condition_dropout=1.0, **few), tmp_path / "dropped")
    trained = [[row for row in losses(run) if row[1] == "train"] for run in (runs[0], dropped)]
    assert trained[0] == trained[1]
    assert any("no clip has a caption" in line and "--prompt ''" in line for line in log.lines)
    source = sources.choose_source(runs[0].folder, None, [], False)
    for prompts, told in (([""], 0), (["", "flute"], 1), (None, 2)):
        sources.load_source(source, "cpu", log, prompts)
        assert sum("was trained without captions" in line for line in log.lines) == told
    for run, prompt in ((runs[0], "--prompt=''"), (dropped, "--prompt='slow glide'")):
        assert f" {prompt} --out" in (run.adapter / "README.md").read_text(encoding="utf-8")


def test_a_training_that_names_no_rate_gets_the_usual_one_and_keeps_it(
    tmp_path: Path, quick_recipe: Any, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, stop = quick_recipe(training__learning_rate=None), StopAt(4)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", stop, device="cpu")
    run, seconds = Run(tmp_path / "run"), sum(clip.seconds for clip in Corpus.load(corpus_folder).train)
    width = read_json(Path(recipe.base) / "config.json")["decoder"]["hidden_size"]
    usual = run.recipe.training.peak_rate
    assert usual == pytest.approx(
        3e-3 * (256 / width) ** 0.78 * (max(60, seconds) / 2400) ** 0.75, rel=0.05
    )  # two digits
    assert any(line.startswith(f"learning rate {usual:g}, by the design") for line in stop.lines)
    monkeypatch.setattr("talim.training.train.default_learning_rate", lambda *_: 0.5)  # as a later version may have it
    train(recipe, tmp_path / "run", device="cpu")
    assert Run(tmp_path / "run").recipe.training.learning_rate == usual
    assert max(row["learning_rate"] for row in read_jsonl(run.log)) == usual
    train(recipe, tmp_path / "run", device="cpu")  # finished: neither another recipe nor begun anew
    with pytest.raises(UsageError, match=r"training\.learning_rate \(.* there, 0\.05 now\)"):
        train(quick_recipe(), tmp_path / "run", device="cpu")
    part = train(quick_recipe(training__learning_rate=None, training__train_fraction=0.5), tmp_path / "b", device="cpu")
    assert part.recipe.training.learning_rate == 0.5  # anew


@pytest.mark.parametrize(
    ("design", "rate", "noted"),
    [
        ("full@all", 0.0031, True),
        ("full@all", 0.0029, False),
        ("conv@deep:10%+full@post", 0.0031, True),
        ("conv@all:10%", 0.009, False),
    ],
)
def test_a_rate_of_adapters_for_layers_of_the_base_is_noted(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch, design: str, rate: float, noted: bool
) -> None:
    monkeypatch.setattr("talim.training.train.default_learning_rate", lambda *_: 0.001)
    stop = StopAt(1)
    with pytest.raises(Interrupted):
        train(quick_recipe(design=design, training__learning_rate=rate), tmp_path / "run", stop, device="cpu")
    notes = [line for line in stop.lines if line.startswith(f"note: learning rate {rate:g}: layers of the base itself")]
    assert [line.endswith("usual for this design and corpus is 0.001") for line in notes] == [True] * noted
