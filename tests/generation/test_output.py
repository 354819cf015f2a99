"""Tests of talim.generation.output: nothing is overwritten, the manifest tells all, an interrupted call goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim import audio
from talim.atomic_io import read_jsonl, write_jsonl
from talim.audio import Audio
from talim.errors import TalimError, UsageError
from talim.generation import generate
from talim.generation.generate import generate_files
from talim.generation.output import PieceFolder, choose_output, piece_row
from talim.generation.sources import GenerationSource
from talim.interrupts import Interrupted


@pytest.fixture
def make(tiny_base: Path) -> Any:
    """Writes pieces of half a second; returns the rows and what was said."""

    def write(out: Path, *prompts: str, **changes: Any) -> tuple[list[dict[str, Any]], str]:
        said = Lines()
        request = {"prompts": prompts, "source": GenerationSource(str(tiny_base)), "seconds": 0.5, "progress": said}
        return generate_files(out, **{**request, **changes}), "\n".join(said.lines)

    return write


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".flac", ".wav")}


def manifest(folder: Path) -> list[tuple[str, str, int]]:
    return [(row["file"], row["prompt"], row["seed"]) for row in read_jsonl(folder / "manifest.jsonl")]


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".mp3"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"seconds": 0.6}, {"prompts": ["other"]}])
def test_file_of_another_request_is_refused_and_kept(tmp_path: Path, make: Any, change: dict, suffix: str) -> None:
    out = tmp_path / f"one{suffix}"
    make(out, "slow glide")
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"is there already.*prompt 'slow glide'.*not overwritten"):
        make(out, "slow glide", **change)
    assert out.read_bytes() == before


def test_file_of_the_same_request_is_used_again(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = make(tmp_path / "one.flac", "slow glide")
    before = (tmp_path / "one.flac").stat().st_mtime_ns
    monkeypatch.setattr(generate, "generate_clips", None)
    again, said = make(tmp_path / "one.flac", "slow glide")
    assert again == rows
    assert "there already, from an equal request: 1 of 1 piece;" in said
    assert (tmp_path / "one.flac").stat().st_mtime_ns == before


def test_file_that_talim_did_not_make_is_refused_and_kept(tmp_path: Path, make: Any) -> None:
    Audio(np.zeros(8000, np.float32), 16000).save(tmp_path / "mine.flac")
    (tmp_path / "text.wav").write_text("words")
    for name in ("mine.flac", "text.wav"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UsageError, match="was not made by talim"):
            make(tmp_path / name, "slow glide")
        assert (tmp_path / name).read_bytes() == before


def test_file_made_by_other_weights_of_the_same_name_is_refused(tmp_path: Path, make: Any, make_base: Any) -> None:
    bases = [make_base(tmp_path / str(seed) / "same-name", seed=seed) for seed in (0, 1)]
    make(tmp_path / "one.flac", "slow glide", source=GenerationSource(str(bases[0])))
    with pytest.raises(UsageError, match="is there already"):
        make(tmp_path / "one.flac", "slow glide", source=GenerationSource(str(bases[1])))


def test_folder_numbers_on_and_its_manifest_tells_all(tmp_path: Path, make: Any) -> None:
    out = tmp_path / "many"
    make(out, "a", "b", num_samples=2)
    first = contents(out)
    rows, _ = make(out, "c", num_samples=2)
    assert [Path(row["file"]).name for row in rows] == ["0005.flac", "0006.flac"]
    assert {name: data for name, data in contents(out).items() if name in first} == first
    assert manifest(out) == [
        *(("0001.flac", "a", 0), ("0002.flac", "a", 1), ("0003.flac", "b", 0), ("0004.flac", "b", 1)),
        *(("0005.flac", "c", 0), ("0006.flac", "c", 1)),
    ]


def test_folder_takes_a_single_piece_and_more_of_the_same_request(tmp_path: Path, make: Any) -> None:
    out = tmp_path / "many"
    make(out, "a", num_samples=2)
    make(out, "b")
    rows, said = make(out, "a", num_samples=3)
    assert [Path(row["file"]).name for row in rows] == ["0001.flac", "0002.flac", "0004.flac"]
    assert "there already, from an equal request: 2 of 3 pieces;" in said


def test_folder_equal_prompts_of_one_call_are_a_piece_each(tmp_path: Path, make: Any) -> None:
    for _ in range(2):
        rows, _ = make(tmp_path / "many", "a", "a")
        assert [Path(row["file"]).name for row in rows] == ["0001.flac", "0002.flac"]


def test_folder_keeps_files_of_others(tmp_path: Path, make: Any) -> None:
    out = tmp_path / "many"
    Audio(np.zeros(8000, np.float32), 16000).save(out / "0007.flac")
    (out / "0009.wav").write_text("words")
    before = contents(out)
    make(out, "a", "b")
    assert contents(out).items() >= before.items()
    assert [name for name, *_ in manifest(out)] == ["0010.flac", "0011.flac"]


def test_folder_interrupted_goes_on_without_making_pieces_again(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "many", generate.generate_clips
    calls: list[list[str]] = []

    def clips(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments[1])
        for number, clip in enumerate(real(*arguments, **named)):
            if len(calls) == 1 and number == 2:
                raise KeyboardInterrupt
            yield clip

    monkeypatch.setattr(generate, "generate_clips", clips)
    with pytest.raises(Interrupted, match=r"finished and in .*: 2 of 4 pieces.*run the same command again"):
        make(out, "a", "b", num_samples=2)
    assert [name for name, *_ in manifest(out)] == ["0001.flac", "0002.flac"]
    finished = contents(out)
    rows, said = make(out, "a", "b", num_samples=2)
    assert calls == [["a", "a", "b", "b"], ["b", "b"]]
    assert [Path(row["file"]).name for row in rows] == [f"000{number}.flac" for number in (1, 2, 3, 4)]
    assert "there already, from an equal request: 2 of 4 pieces;" in said
    assert contents(out).items() >= finished.items()
    monkeypatch.undo()
    make(tmp_path / "undisturbed", "a", "b", num_samples=2)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_file_interrupted_says_that_nothing_is_kept(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def clips(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "generate_clips", clips)
    with pytest.raises(Interrupted, match="no piece was finished; the same command begins again"):
        make(tmp_path / "one.flac", "a")
    assert list(tmp_path.iterdir()) == []


def test_folder_loses_what_a_kill_left_of_a_piece_and_nothing_else(tmp_path: Path, make: Any) -> None:
    out = tmp_path / "many"
    make(out, "a", "b")
    left = [".0003.flac.0a1b2c3d.part", ".manifest.jsonl.00000000.part"]
    kept = [".0003.flac.part", ".mine.flac.0a1b2c3d.part", ".0003.flac.0a1b2c3d.part.txt"]
    for name in (*left, *kept):
        (out / name).write_bytes(b"fLaC")
    _, said = make(out, "a", "b", "c")
    assert all(f"{name}: removed" in said for name in left)
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} - {".lock"} == {*kept}


def test_file_whose_writing_was_killed_is_told_and_left(tmp_path: Path, make: Any) -> None:
    left, other = tmp_path / ".one.flac.0a1b2c3d.part", tmp_path / ".one.flac.part"
    for path in (left, other):
        path.write_bytes(b"fLaC")
    _, said = make(tmp_path / "one.flac", "a")
    assert f"note: {left} is the beginning of this file" in said
    assert str(other) not in said
    assert (tmp_path / "one.flac").is_file()
    assert left.read_bytes() == b"fLaC"  # another process may still be writing it


@pytest.mark.parametrize("torn", ["", '{"file": "0002.fl'])
def test_folder_piece_without_its_line_is_added_to_the_manifest(tmp_path: Path, make: Any, torn: str) -> None:
    """As `kill -9` leaves it between the file and its line, or within the line."""
    out = tmp_path / "many"
    make(out, "a", "b")
    lines = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "manifest.jsonl").write_text(lines[0] + torn)
    rows, said = make(out, "a", "b", "c")
    assert [Path(row["file"]).name for row in rows] == ["0001.flac", "0002.flac", "0003.flac"]
    assert "0002.flac: added to" in said
    assert [prompt for _, prompt, _ in manifest(out)] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["../one.flac", "/etc/passwd", "a/b.flac", "..\\x.flac", "", 3, None])
def test_folder_manifest_that_leads_elsewhere_is_refused(tmp_path: Path, make: Any, name: Any) -> None:
    out = tmp_path / "many"
    out.mkdir()
    write_jsonl(out / "manifest.jsonl", [{"file": name, "request": "0" * 16}])
    with pytest.raises(TalimError, match="line 1 names no file of this folder"):
        make(out, "a", "b")


def test_folder_symlink_to_a_sound_elsewhere_is_no_piece(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "one.flac", "a")
    out = tmp_path / "many"
    out.mkdir()
    (out / "0001.flac").symlink_to(tmp_path / "one.flac")
    make(out, "a", "b")
    assert [name for name, *_ in manifest(out)] == ["0002.flac", "0003.flac"]


def test_choose_output_refuses_names_that_do_not_fit(tmp_path: Path) -> None:
    for out, count in ((tmp_path / "a.flac", 2), (tmp_path / "a.ogg", 1), (tmp_path / "new", 1)):
        with pytest.raises(UsageError):
            choose_output(out, count)
    assert isinstance(choose_output(tmp_path, 1), PieceFolder)


def test_piece_row_of_other_files_is_none(tmp_path: Path) -> None:
    (tmp_path / "deep.flac").write_bytes(b"fLaC" + b"[" * 100_000)
    audio.write(tmp_path / "tags.flac", Audio(np.zeros(800, np.float32), 8000), {"software": "talim", "seed": "x"})
    for name in ("deep.flac", "tags.flac", "no-such.flac", "."):
        assert piece_row(tmp_path / name) is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_generate_command_ended_by_a_signal_goes_on(tmp_path: Path, tiny_base: Path, number: int) -> None:
    out = tmp_path / "many"
    command = [sys.executable, "-m", "talim", "generate", "--base", str(tiny_base), "--out", str(out), "--seconds", "4"]
    command += ["--prompt", "a", "--num-samples", "6"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    while not (out / "0002.flac").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate()
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "run the same command again" in said
    finished = contents(out)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert [Path(row["file"]).name for row in json.loads(done.stdout)] == [f"000{n}.flac" for n in range(1, 7)]
    assert contents(out).items() >= finished.items()
    assert [seed for *_, seed in manifest(out)] == [0, 1, 2, 3, 4, 5]
    assert not [path.name for path in out.iterdir() if path.name.startswith(".") and path.name != ".lock"]
