"""Tests of `talim generate`: files are kept, folders numbered on, runs found, words that cannot be read told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talim import audio, cli
from talim.atomic_io import read_jsonl, write_json
from talim.run import Run


@pytest.fixture
def generate(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; returns its status, its rows and what it said."""

    def command(*arguments: object) -> tuple[int, Any, str]:
        with pytest.raises(SystemExit) as done:
            cli.main(["generate", *map(str, arguments), "--seconds", "0.5", "--device", "cpu", "--json"])
        out, said = capsys.readouterr()
        return int(done.value.code or 0), json.loads(out) if out else None, said

    return command


def test_second_run_with_another_prompt_is_refused_by_name(generate: Any, tmp_path: Path, tiny_base: Path) -> None:
    out = tmp_path / "one.flac"
    status, rows, _ = generate("--base", tiny_base, "--prompt", "a", "--out", out)
    assert (status, rows[0]["file"]) == (0, str(out))
    before = out.read_bytes()
    status, rows, said = generate("--base", tiny_base, "--prompt", "b", "--out", out)
    assert (status, rows) == (2, None)
    assert str(out) in said
    assert "not overwritten" in said
    assert out.read_bytes() == before
    status, rows, said = generate("--base", tiny_base, "--prompt", "a", "--out", out)
    assert (status, rows[0]["file"]) == (0, str(out))
    assert "none is made twice" in said


def test_folder_is_numbered_on(generate: Any, tmp_path: Path, tiny_base: Path) -> None:
    out = tmp_path / "many"
    for prompts, count in ((["a", "b"], 2), (["c", "d"], 4), (["a", "b"], 4), (["e"], 5)):
        arguments = [word for prompt in prompts for word in ("--prompt", prompt)]
        status, rows, _ = generate("--base", tiny_base, *arguments, "--out", out)
        assert (status, len(rows)) == (0, len(prompts))
        assert len(read_jsonl(out / "manifest.jsonl")) == count
    assert [row["prompt"] for row in read_jsonl(out / "manifest.jsonl")] == list("abcde")
    assert sorted(path.name for path in out.glob("*.flac")) == [f"000{number}.flac" for number in range(1, 6)]


def test_run_of_a_proof_of_concept_is_that_of_its_chosen_design(
    generate: Any, tmp_path: Path, finished_run: Run, tiny_base: Path
) -> None:
    poc = tmp_path / "my-poc"
    poc.mkdir()
    (poc / "linear-all-10").symlink_to(finished_run.folder)
    write_json(poc / "stages.json", {"chosen": {"design": "linear@all:10%", "run": "linear-all-10"}})
    status, rows, said = generate("--run", poc, "--prompt", "a", "--out", tmp_path / "a.flac")
    assert status == 0, said
    assert rows[0]["adapter_design"] == "linear@all:10%"
    assert "my-poc is a proof of concept: its chosen design is used, linear@all:10% in" in said


@pytest.mark.parametrize("option", ["beats", "chords"])
def test_lengths_are_checked_before_beats_and_chords_are_made(generate: Any, tmp_path: Path, option: str) -> None:
    given = {"beats": "400 bpm", "chords": "C@0"}[option]
    for seconds in ("1e7", "nan", "inf", "-1", "1e308"):
        command = ["generate", "--base", "nano-mustango", "--prompt", "a", "--out", str(tmp_path / "a.flac")]
        with pytest.raises(SystemExit) as done:
            cli.main([*command, "--seconds", seconds, f"--{option}", given])
        assert done.value.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("beats", ["1e9 bpm", "nan bpm", "inf bpm", "0 bpm", "-5 bpm", "90 bpm 0/4", "90 bpm from nan"])
def test_hostile_beats_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, beats: str) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(
            [
                "generate",
                "--base",
                "nano-mustango",
                "--prompt",
                "a",
                "--out",
                str(tmp_path / "a.flac"),
                "--beats",
                beats,
            ]
        )
    assert done.value.code in (1, 2)
    assert "bug in talim" not in capsys.readouterr().err


def test_words_that_the_base_cannot_read_are_told(
    generate: Any, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "talim.generation.generate.reading_notes", lambda base, texts, what, off: [f"{what}: {texts[0]}"]
    )
    status, _, said = generate("--base", tiny_base, "--prompt", "静かな朝", "--out", tmp_path / "a.flac")
    assert status == 0
    assert "the prompt: 静かな朝" in said


def test_nano_reads_letters_that_it_knows_or_what_is_typed_and_says_what_it_cannot_read(
    generate: Any, tmp_path: Path
) -> None:
    prompt = ("--base", "nano-musicgen", "--prompt", "rāga 静かな朝の音楽")
    status, rows, said = generate(*prompt, "--out", tmp_path / "a.flac")
    assert status == 0
    assert "nano-musicgen; it reads a spelling that it knows: rāga -> raga (as typed: --no-transliterate); it " in said
    assert "cannot read 1 word of the prompt: 静かな朝の音楽." in said
    assert (rows[0]["prompt"], rows[0]["prompt_as_read"]) == ("rāga 静かな朝の音楽", "raga 静かな朝の音楽")
    status, typed, said = generate(*prompt, "--no-transliterate", "--out", tmp_path / "b.flac")
    assert status == 0
    assert "cannot read 2 words of the prompt: rāga, 静かな朝の音楽." in said
    assert "prompt_as_read" not in typed[0]


@pytest.fixture
def phrase(tmp_path: Path) -> Path:
    samples = np.random.default_rng(0).normal(0, 0.1, (2, 22_050)).astype(np.float32)
    return audio.Audio(samples, 22_050).save(tmp_path / "my phrase.mp3")


def test_continue_goes_on_from_a_recording_with_and_without_words(
    generate: Any, tmp_path: Path, tiny_base: Path, phrase: Path
) -> None:
    out, common = tmp_path / "out", ("--base", tiny_base, "--continue", phrase, "--continue-seconds", "0.6")
    status, rows, said = generate(*common, "--prompt", "sitar", "--out", tmp_path / "a.flac")
    assert status == 0, said
    assert rows[0]["seconds"] == pytest.approx(1.1, abs=0.01)
    assert "phrase my phrase.mp3: the last 0.60 s of its" in said
    assert rows[0]["phrase_use"] == "continued"
    status, rows, said = generate(*common, "--leave-out-phrase", "--num-samples", "2", "--out", out)
    assert status == 0, said
    assert [(row["prompt"], row["seconds"], row["phrase_kept"]) for row in rows] == [("", 0.5, "no")] * 2
    assert len(read_jsonl(out / "manifest.jsonl")) == 2
    again, same, said = generate(*common, "--leave-out-phrase", "--num-samples", "2", "--out", out)
    assert (again, [row["file"] for row in same]) == (0, [row["file"] for row in rows])
    assert "none is made twice" in said


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--continue", "missing.wav", "--prompt", "a"), 1, "missing.wav: cannot be read"),
        ((), 2, "--prompt is missing"),
        (("--prompt", "a", "--continue-seconds", "3"), 2, "add --continue"),
        (("--continue", "my phrase.mp3", "--strength", "0.3"), 2, "goes on from the end of a phrase"),
        (("--continue", "my phrase.mp3", "--continue-seconds", "-1"), 2, "--continue-seconds is -1"),
    ],
)
def test_continue_with_wrong_options_is_refused_in_a_line(
    generate: Any,
    tmp_path: Path,
    tiny_base: Path,
    phrase: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(phrase.parent)
    found, rows, said = generate("--base", tiny_base, *arguments, "--out", tmp_path / "a.flac")
    assert (found, rows) == (status, None)
    assert message in said
    assert not (tmp_path / "a.flac").exists()
