"""Bad input: one clear line, exit status 1 or 2, and nothing half-written."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from talim import cli
from talim.corpus.manifest import Corpus
from talim.run import Run

RATE_HZ = 16000
SMALL = ["--steps", "2", "--set", "training.batch_size=2", "--design", "linear@all:10%"]
FOLDER_LEFTOVERS = {".lock"}  # an empty file that marks a folder as in use


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command that must fail; return its status and its last line, after checking the form of both."""
    with pytest.raises(SystemExit) as done:
        cli.main([str(a) for a in arguments])
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert output.out == ""
    assert [line for line in lines if line.startswith("talim: ")] == lines[-1:]
    assert "Traceback" not in output.err
    assert "bug in talim" not in output.err
    return int(done.value.code or 0), lines[-1]


def files_in(folder: Path) -> list[str]:
    """Every file below a folder but lock files."""
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name not in FOLDER_LEFTOVERS
    )


def folder_with(folder: Path, write: Callable[[Path], None]) -> Path:
    """A folder of recordings that holds one spoilt file."""
    folder.mkdir()
    write(folder)
    return folder


def text_named_wav(folder: Path) -> None:
    (folder / "song.wav").write_text("la la la\n" * 100)


def empty_wav(folder: Path) -> None:
    soundfile.write(folder / "song.wav", np.zeros(0, dtype=np.float32), RATE_HZ)


def nan_wav(folder: Path) -> None:
    tone = 0.3 * np.sin(np.arange(RATE_HZ * 4) * 0.1).astype(np.float32)
    tone[1000] = np.nan
    soundfile.write(folder / "song.wav", tone, RATE_HZ, subtype="FLOAT")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder: None, "no audio file"),
        (text_named_wav, "song.wav"),
        (empty_wav, "song.wav: empty"),
        (nan_wav, "song.wav: 1 of 64000 samples are not numbers"),
    ],
    ids=["empty folder", "text named wav", "0-second wav", "NaN samples"],
)
def test_prepare_folder_of_one_bad_file_names_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, write: Callable[[Path], None], words: str
) -> None:
    folder = folder_with(tmp_path / "takes", write)
    status, line = refused(capsys, "prepare", folder, "--out", tmp_path / "corpus")
    assert status in (1, 2)
    assert words in line
    assert not (tmp_path / "corpus").exists() or files_in(tmp_path / "corpus") == []


@pytest.mark.parametrize("write", [text_named_wav, empty_wav, nan_wav])
def test_prepare_bad_file_among_good_ones_is_skipped_by_name(
    tmp_path: Path, make_recordings: Callable[..., Path], write: Callable[[Path], None]
) -> None:
    from talim.corpus.prepare import prepare

    folder = make_recordings(tmp_path / "takes", count=3, seconds=4.0)
    write(folder)
    corpus = prepare(folder, tmp_path / "corpus", clip_seconds=2.0, sample_rate=RATE_HZ)
    assert [row["file"].split(".")[0] for row in corpus.summary["skipped"]] == ["song"]
    assert len({clip.recording for clip in corpus.clips}) == 3


@pytest.mark.parametrize("place", ["a file, not a folder/out", "/proc/no-such/out"])
@pytest.mark.parametrize("command", ["prepare", "train", "generate"])
def test_commands_unwritable_output_is_refused(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    recordings: Path,
    corpus_folder: Path,
    tiny_base: Path,
    command: str,
    place: str,
) -> None:
    """Stands in for a read-only disk, which does not stop the administrator: nobody can write here."""
    (tmp_path / "a file, not a folder").write_text("")
    out = tmp_path / place  # an absolute place stays what it is
    arguments = {
        "prepare": ["prepare", recordings, "--out", out],
        "train": ["train", "--base", tiny_base, "--corpus", corpus_folder, "--out", out, *SMALL],
        "generate": ["generate", "--base", "never-looked-at", "--prompt", "a", "--out", out / "a.flac"],
    }
    status, line = refused(capsys, *arguments[command])
    assert status in (1, 2)
    assert str(out) in line
    assert files_in(tmp_path) == ["a file, not a folder"]


def full_disk_arguments(
    command: str, tmp_path: Path, recordings: Path, corpus_folder: Path, tiny_base: Path
) -> list[object]:
    """A command that writes more than a few kilobytes."""
    return {
        "prepare": ["prepare", recordings, "--out", tmp_path / "corpus", "--clip-seconds", "2"],
        "train": ["train", "--base", tiny_base, "--corpus", corpus_folder, "--out", tmp_path / "run", *SMALL],
        "generate": ["generate", "--base", tiny_base, "--prompt", "a", "--out", tmp_path / "a.flac", "--seconds", "3"],
    }[command]


def check_full_disk_is_told_and_leaves_nothing(tmp_path: Path, last: str) -> None:
    assert last.startswith("talim: ")
    assert "File too large" in last
    assert str(tmp_path) in last
    partial = [name for name in files_in(tmp_path) if ".part" in name or ".tmp" in name]
    assert partial == []
    assert not Run(tmp_path / "run").finished
    assert not (tmp_path / "a.flac").exists()
    assert not (tmp_path / "corpus" / "corpus.jsonl").exists()


@pytest.mark.parametrize(
    "command", ["prepare", *(pytest.param(name, marks=pytest.mark.slow) for name in ("train", "generate"))]
)
def test_commands_full_disk_leaves_no_partial_file(
    tmp_path: Path, recordings: Path, corpus_folder: Path, tiny_base: Path, command: str
) -> None:
    """Stands in for a full disk: the system lets no file of the process grow beyond a few kilobytes."""
    arguments = full_disk_arguments(command, tmp_path, recordings, corpus_folder, tiny_base)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    done = subprocess.run(
        [sys.executable, "-m", "talim", *(str(a) for a in arguments)],
        preexec_fn=little_room,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    check_full_disk_is_told_and_leaves_nothing(tmp_path, done.stderr.splitlines()[-1])


@pytest.mark.parametrize("command", ["train", "generate"])
def test_commands_full_disk_within_this_process_leaves_no_partial_file(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    recordings: Path,
    corpus_folder: Path,
    tiny_base: Path,
    command: str,
) -> None:
    """As above, without seconds of loading torch: the limit is this process's own for a moment."""
    arguments = full_disk_arguments(command, tmp_path, recordings, corpus_folder, tiny_base)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        status, last = refused(capsys, *arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1
    check_full_disk_is_told_and_leaves_nothing(tmp_path, last)


@pytest.mark.parametrize("base", ["no-such-base", "nano-musicgn", "./no/such/folder"])
def test_train_unknown_base_is_refused_with_known_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, corpus_folder: Path, base: str
) -> None:
    status, line = refused(
        capsys, "train", "--base", base, "--corpus", corpus_folder, "--out", tmp_path / "run", *SMALL
    )
    assert status in (1, 2)
    assert base in line
    assert "nano-musicgen" in line
    assert files_in(tmp_path) == []


def test_train_misspelt_recipe_key_suggests_the_nearest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, corpus_folder: Path
) -> None:
    (tmp_path / "my.yaml").write_text("training:\n  learnig_rate: 0.1\n")
    out = tmp_path / "run"
    status, line = refused(capsys, "train", "--config", tmp_path / "my.yaml", "--corpus", corpus_folder, "--out", out)
    assert status == 2
    assert "did you mean training.learning_rate?" in line
    assert files_in(tmp_path) == ["my.yaml"]


def test_generate_and_check_adapter_of_another_base_are_refused(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    corpus_folder: Path,
    tiny_base: Path,
    make_base: Callable[..., Path],
) -> None:
    run, piece = tmp_path / "run", tmp_path / "a.flac"
    with pytest.raises(SystemExit) as done:
        cli.main(["train", "--base", str(tiny_base), "--corpus", str(corpus_folder), "--out", str(run), *SMALL])
    assert done.value.code == 0
    capsys.readouterr()
    other = make_base(tmp_path / "other", layers=1, seed=3)
    capsys.readouterr()
    for command in (
        ("generate", "--base", other, "--adapter", run / "adapter", "--prompt", "a", "--out", piece),
        ("adapters", "check", run / "adapter", "--base", other),
    ):
        status, line = refused(capsys, *command)
        assert status == 1
        assert "was trained on base tiny" in line
    assert not piece.exists()


@pytest.mark.parametrize("seconds", ["-3", "0", "nan", "1e9"])
def test_generate_invalid_length_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, seconds: str) -> None:
    out = tmp_path / "a.flac"
    status, line = refused(
        capsys, "generate", "--base", "never-looked-at", "--prompt", "a", "--seconds", seconds, "--out", out
    )
    assert status == 2
    assert "--seconds is" in line
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("spoil", [lambda d: d[: len(d) // 2], lambda d: d[:-3] + b"abc", lambda d: b""])
def test_train_corrupt_cache_entry_is_named(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    corpus_folder: Path,
    tiny_base: Path,
    spoil: Callable[[bytes], bytes],
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(corpus_folder, corpus)
    command = ["train", "--base", tiny_base, "--corpus", corpus, "--out", tmp_path / "run", *SMALL]
    fill_cache(Corpus.load(corpus), tiny_base)
    entry = sorted(Corpus.load(corpus).features.rglob("*.safetensors"))[0]
    entry.write_bytes(spoil(entry.read_bytes()))
    status, line = refused(capsys, *command)
    assert status == 1
    assert str(entry) in line
    assert "delete this file" in line
    assert not Run(tmp_path / "run").finished
    entry.unlink()
    with pytest.raises(SystemExit) as done:
        cli.main([str(a) for a in command])
    assert done.value.code == 0


def fill_cache(corpus: Corpus, base: Path) -> None:
    from talim.backbones.load import load
    from talim.progress import Progress
    from talim.training.batches import encode_clips

    backbone: Any = load(str(base))
    encode_clips(corpus, corpus.clips, backbone, Progress())
