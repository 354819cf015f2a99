"""Tests of talim.exporting.folder: it works without corpus and base folder of this machine, and holds no recording."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import talim
from talim.adapters import serialization
from talim.atomic_io import FileTakenError, read_json, write_json
from talim.errors import TalimError, UsageError
from talim.exporting import contents
from talim.exporting.folder import run_files
from talim.progress import Progress
from talim.run import Run


class Lines(Progress):
    """What was reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, finished_run: Run) -> Path:
    """An export with its base, moved away from where it was made (read only by agreement)."""
    folder = tmp_path_factory.mktemp("exports")
    talim.export(finished_run, "folder", folder / "out", with_base=True)
    return Path(shutil.move(folder / "out", tmp_path_factory.mktemp("elsewhere") / "colleague"))


def hashes_of_recordings(*folders: Path) -> set[str]:
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".wav", ".flac")]
    assert found
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_export_folder_generates_the_same_without_corpus_and_base(exported: Path, finished_run: Run) -> None:
    options = {"seconds": 0.4, "seed": 3, "device": "cpu"}
    assert Run(exported).base == str(exported / "base" / Path(finished_run.recipe.base).name)
    first, again = (talim.generate(folder, "slow glide", **options)[0] for folder in (finished_run.folder, exported))
    assert np.array_equal(first.samples, again.samples)
    plain = talim.generate(finished_run.recipe.base, "slow glide", **options)[0]
    assert not np.array_equal(first.samples, plain.samples)
    base = talim.load_base(Run(exported).base, precision="fp32", device="cpu")
    assert talim.load_adapter(base, exported).active_adapters


def test_export_folder_holds_no_recording_and_no_path_of_this_machine(
    exported: Path, finished_run: Run, corpus_folder: Path, recordings: Path
) -> None:
    kept = {hashlib.sha256(path.read_bytes()).hexdigest() for path in exported.rglob("*") if path.is_file()}
    real = list(finished_run.samples.glob("*-real.flac"))
    assert real
    taken = hashes_of_recordings(corpus_folder, recordings, finished_run.continuations)
    assert kept & (taken | {hashlib.sha256(path.read_bytes()).hexdigest() for path in real}) == set()
    assert {path.name for path in (exported / "samples").iterdir()} == {
        *(f"0{number}-{role}.flac" for number in (1, 2) for role in ("before", "after")),
        "manifest.jsonl",
    }
    texts = [path for path in exported.rglob("*") if path.suffix in (".json", ".yaml", ".md", ".jsonl")]
    here = [str(finished_run.folder.parent), str(corpus_folder.parent), finished_run.recipe.base]
    assert [path for path in texts if any(name in path.read_text(encoding="utf-8") for name in here)] == []


def test_export_folder_checksums_are_those_of_sha256sum(exported: Path) -> None:
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    named = {line.split("  ", 1)[1] for line in (exported / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert named == there - {"SHA256SUMS"}


def test_export_folder_is_exported_again_and_reported(exported: Path, tmp_path: Path) -> None:
    talim.export(exported, "folder", tmp_path / "again", with_base=True)
    own = {"README.md", "SHA256SUMS"}  # the first says more that was left out
    files = {path.relative_to(exported) for path in exported.rglob("*") if path.is_file() and path.name not in own}
    files |= {Path("adapter") / "README.md", Path("base") / "tiny" / "README.md"}
    assert [f for f in sorted(files) if (tmp_path / "again" / f).read_bytes() != (exported / f).read_bytes()] == []
    assert "Content-Security-Policy" in talim.report(tmp_path / "again").read_text(encoding="utf-8")


def test_export_folder_says_what_it_leaves_out(finished_run: Run, tmp_path: Path) -> None:
    said = Lines()
    result = talim.export(finished_run, "folder", tmp_path / "out", progress=said)
    text = "\n".join(said.lines)
    for words in ("the base tiny: it is a folder of this machine", "2 excerpts of held-out recordings"):
        assert f"left out: {words}" in text or words in text
    for name in ("continuations", "metrics_cache", "scores.html"):
        assert f"left out: {name}: " in text
    assert [f"exporting {finished_run.folder}", *(f"left out: {line}" for line in result["left_out"])] == said.lines
    assert "--with-base" in text
    everything = {path.name for path in finished_run.folder.iterdir() if not path.name.startswith(".")}
    taken = {name.split("/")[0] for name in result["files"]}
    assert [name for name in everything - taken if f"left out: {name}:" not in text] == []
    with pytest.raises(TalimError, match=r"out/base/tiny"):
        talim.generate(tmp_path / "out", "a", seconds=0.2)
    shutil.copytree(finished_run.recipe.base, tmp_path / "out" / "base" / "tiny")
    assert talim.generate(tmp_path / "out", "a", seconds=0.2, device="cpu")


def test_export_folder_does_not_overwrite(finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    talim.export(finished_run, "folder", tmp_path / "empty")
    before = (tmp_path / "empty" / "run.json").read_bytes()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "file", "link"):
        with pytest.raises(FileTakenError, match="is not overwritten"):
            talim.export(finished_run, "folder", tmp_path / name)
    assert (tmp_path / "empty" / "run.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "link"]


def test_export_folder_interrupted_leaves_nothing(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("talim.exporting.contents.shutil.copyfile", stop)
    with pytest.raises(KeyboardInterrupt):
        talim.export(finished_run, "folder", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_export_of_what_is_no_finished_run_is_refused(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"talim export takes a run: give its run, .*run"):
        talim.export(finished_run.adapter, "folder", tmp_path / "out")
    alone = shutil.copytree(finished_run.adapter, tmp_path / "alone")
    with pytest.raises(UsageError, match="copy that folder as it is"):
        talim.export(alone, "folder", tmp_path / "out")
    copy = Path(shutil.copytree(finished_run.folder, tmp_path / "copy"))
    weights = copy / "adapter" / serialization.WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(TalimError, match="was changed after it was written"):
        talim.export(copy, "folder", tmp_path / "out")
    (copy / "cost.json").unlink()
    with pytest.raises(TalimError, match=r"not finished; continue with: talim train --out"):
        talim.export(copy, "folder", tmp_path / "out")
    with pytest.raises(TalimError, match="no such folder"):
        talim.export(tmp_path / "nowhere", "folder", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_folder_leaves_out_what_lies_beside_the_adapter(finished_run: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished_run.folder, tmp_path / "run"))
    (copy / "adapter" / "take-1.wav").write_bytes(b"RIFF")
    secret = tmp_path / "secret.flac"
    secret.write_bytes(b"fLaC")
    row = {"file": "../../secret.flac", "role": "after", "prompt": "", "seed": 0}
    with open(copy / "samples" / "manifest.jsonl", "a", encoding="utf-8") as manifest:
        manifest.write(json.dumps(row | {"file": "99-after.flac"}) + "\n")
    files, left_out = run_files(contents.finished_run(copy))
    assert "adapter/take-1.wav: no file of talim's" in left_out
    assert "samples/99-after.flac: this file of its manifest is missing" in left_out
    assert "adapter/take-1.wav" not in files
    (copy / "samples" / "manifest.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(TalimError, match="secret"):
        run_files(contents.finished_run(copy))


@pytest.mark.parametrize(("captioned", "prompt"), [(None, "--prompt='it'\"'\"'s slow'"), (False, "--prompt=''")])
def test_export_folder_tells_the_prompt_that_fits_the_training(
    finished_run: Run, tmp_path: Path, captioned: bool | None, prompt: str
) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    info = read_json(run.adapter / "talim.json")
    write_json(run.adapter / "talim.json", info | {"captioned": captioned})
    facts = read_json(run.facts_file)
    write_json(run.facts_file, facts | {"trained_on": facts["trained_on"] | {"captions": ["it's slow", "low"]}})
    talim.export(run, "folder", tmp_path / "out")
    assert f"--run THIS_FOLDER {prompt} --out" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_export_folder_readme_is_enough_for_whoever_has_it_alone(finished_run: Run, tmp_path: Path) -> None:
    run, row = Run(shutil.copytree(finished_run.folder, tmp_path / "run")), {"role": "after", "seed": 1}
    facts = read_json(run.facts_file)
    row_of_me = {"performer": "me and Rafiq", "licence": "my own recording", "recording": "a", "file": "a.wav"}
    trained_on = facts["trained_on"] | {"attributions": [row_of_me], "captions": ["slow glide"]}
    write_json(run.facts_file, facts | {"trained_on": trained_on})
    prompts = ({"prompt": "slow glide", "caption_in_training": True}, {"prompt": "a secret raga"})
    names = ("01-after.flac", "02-after.flac")
    rows = [json.dumps(row | told | {"file": name}) for name, told in zip(names, prompts, strict=True)]
    (run.samples / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    said = Lines()
    talim.export(run, "folder", tmp_path / "out", progress=said)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for words in (
        f"version {talim.__version__} wrote this. In a clone of talim: `make setup`",
        "The base `tiny` is a folder of whoever trained the adapter",
        "--prompt='slow glide' --out",
        "Captions that it was trained on, to use in prompts:\n\n- slow glide\n",
        "(samples/01-after.flac), seed 1: slow glide\n",
        "(samples/02-after.flac), seed 1: a caption of a recording that was kept out\n",
        "describe a recording that was not used to train the adapter",
        'The performer "me" is whoever trained and exported this adapter.',
        '"my own recording" is what whoever holds the rights wrote, not a licence',
    ):
        assert words in text
    assert "secret" not in text
    notes = [line for line in said.lines if line.startswith("note: ")]
    assert [("column performer" in note, "column licence" in note) for note in notes] == [(True, False), (False, True)]
