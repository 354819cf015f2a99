"""Tests of talim.exporting.public_facts: no export names a recording that was kept out of training."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import talim
from talim import audio, recipe
from talim.corpus.manifest import Corpus
from talim.evaluation.evaluate import evaluate
from talim.exporting import contents, hub
from talim.exporting.folder import run_files
from talim.exporting.onnx_model import PROBE
from talim.exporting.public_facts import PROMPT, PublicFacts
from talim.exporting.space import _first_prompt
from talim.run import Run
from talim.training.train import train

PLANTED = "zqx"  # begins each value that only recordings have that were kept out
FIELDS = ("text", "performer", "title", "licence", "source", "consent", "album", "work", "tradition", "raga", "tala")
FIELDS += ("instruments", "section", "notes", "composer", "lead_performer", "url")


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, make_recordings: Callable[..., Path]) -> Run:
    """An evaluated run; all that is known of its test and validation recordings is in words of their own."""
    folder = tmp_path_factory.mktemp("planted")
    takes = make_recordings(folder / "takes", 6, 4.2)
    rows = [{"file_name": f"take-{n}.wav", "split": "train", "text": "slow glide", "performer": "Meera",
             "licence": "CC0-1.0", "title": "Dawn"} for n in range(3)]  # fmt: skip
    for number, side in enumerate(("test", "test", "validation"), start=3):
        (takes / f"{PLANTED}dir{number}").mkdir()
        name = f"{PLANTED}dir{number}/{PLANTED}file{number}.wav"
        (takes / f"take-{number}.wav").rename(takes / name)
        rows.append({"file_name": name, "split": side} | {key: f"{PLANTED}{key}{number}" for key in FIELDS})
    rows[3]["text"] = rows[0]["text"]  # asked for in words of the training
    with open(takes / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "split", *FIELDS])
        writer.writeheader()
        writer.writerows(rows)
    talim.prepare(takes, folder / "corpus", clip_seconds=2.0, sample_rate=16000)
    settings = {"training.steps": 1, "training.precision": "fp32", "training.crop_seconds": 1.5}
    settings |= {"training.batch_size": 2, "training.eval_every": 1, "design": "linear@all:10%"}
    made = recipe.load((), {"base": str(tiny_base), "corpus": str(folder / "corpus"), **settings})
    run = train(made, folder / "run")
    evaluate(run.folder, num_prompts=3, seconds=0.6, num_continuations=2)
    return run


def check(files: contents.Files, *words: str) -> None:
    """No file has one of the words in its name or its bytes."""
    assert files
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        for word in words:
            at = data.lower().find(word.encode())
            assert at < 0, (name, data[max(0, at - 200) : at + 100])
            assert word not in name


def test_exports_name_no_recording_that_was_kept_out(finished_run: Run, corpus_folder: Path) -> None:
    corpus = Corpus.load(corpus_folder)
    names = {name for clip in (*corpus.held_out, *corpus.validation) for name in (clip.recording, clip.performer)}
    exported = contents.finished_run(finished_run.folder)
    assert any(name in finished_run.facts_file.read_text(encoding="utf-8") for name in names)
    check(run_files(exported)[0], *names)
    check(hub.repository_files(exported, "me/glide", None)[0], *names)


@pytest.mark.slow
def test_folder_and_repository_name_no_recording_that_was_kept_out(planted_run: Run, tmp_path: Path) -> None:
    for file in (planted_run.facts_file, planted_run.scores, planted_run.samples / "manifest.jsonl"):
        assert PLANTED in file.read_text(encoding="utf-8").lower()  # there is something to leave out
    exported = contents.finished_run(planted_run.folder)
    check(run_files(exported)[0], PLANTED)
    check(hub.repository_files(exported, "me/glide", None)[0], PLANTED)
    talim.export(planted_run, "folder", tmp_path / "out")
    check({path.name: path for path in (tmp_path / "out").rglob("*") if path.is_file()}, PLANTED)
    facts = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert facts["trained_on"] == exported.facts["trained_on"]  # whose recordings bind it
    assert facts["kept_out"] == {"recordings": 3}
    for name in ("README.md", "adapter/README.md"):
        said = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "counted" in said
        assert "named" in said or "names" in said
    talim.report(tmp_path / "out")


@pytest.mark.slow
def test_prompts_of_the_training_stay_and_samples_keep_their_sound(planted_run: Run, tmp_path: Path) -> None:
    talim.export(planted_run, "folder", tmp_path / "out")
    samples = tmp_path / "out" / "samples"
    rows = [json.loads(line) for line in (samples / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["prompt"] for row in rows} == {"slow glide", PROMPT}
    for row in rows:
        tags = audio.read_tags(samples / row["file"])
        assert (tags["prompt"], tags["ai_generated"]) == (row["prompt"], "AI-generated")
        before, after = (audio.read(folder / row["file"]) for folder in (planted_run.samples, samples))
        assert np.array_equal(before.samples, after.samples)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["transformers", "onnx", "space"])
def test_other_targets_name_no_recording_that_was_kept_out(planted_run: Run, tmp_path: Path, to: str) -> None:
    talim.export(planted_run, to, tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    here = (str(planted_run.folder.parent), str(Path(talim.__file__).parents[2]))  # no path of this machine either
    check({path.relative_to(tmp_path).as_posix(): path for path in files}, PLANTED, *map(str.lower, here))


def test_a_space_begins_with_a_prompt_that_is_told() -> None:
    assert _first_prompt([{"prompt": PROMPT}, {"prompt": ""}, {"prompt": "slow glide"}]) == "slow glide"
    assert _first_prompt([{"prompt": PROMPT}]) == PROBE


TEXT = st.text("abc", min_size=1).map(lambda text: PLANTED + text)
JSON = st.recursive(
    st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["note", "warnings", "x", "recording"]), inner),
)


@given(JSON, st.dictionaries(TEXT, st.floats(0, 1), min_size=1))
def test_texts_of_keys_that_are_not_known_are_taken_out(value: Any, by_recording: dict[str, float]) -> None:
    told = PublicFacts().of({"new": value, "loss": {"per_recording": by_recording}, "prompt": PLANTED})
    assert PLANTED not in json.dumps(told)
    assert [*told["loss"]["per_recording"].values()] == [*by_recording.values()]


def test_one_recording_has_one_number_and_facts_are_the_same_again() -> None:
    public = PublicFacts(["slow"])
    scores = {"a": {"per_recording": {"x": 1.0, "y": 2.0}}, "b": {"per_recording": {"y": 3.0}}}
    scores |= {"prompts": [{"prompt": "slow", "recording": "y"}, {"prompt": "by y", "recording": "x"}]}
    told = public.of(scores | {"ci_note": "y", "base": "tiny"})
    assert told["b"]["per_recording"] == {"recording 2": 3.0}
    rows = [{"prompt": "slow", "recording": "recording 2"}, {"prompt": PROMPT, "recording": "recording 1"}]
    assert (told["prompts"], told["base"], told["ci_note"]) == (rows, "tiny", "")
    assert PublicFacts(["slow"]).of(told) == told
