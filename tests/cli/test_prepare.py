"""Tests of `talim prepare`: a corpus with a summary, and sources that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(done.value.code or 0), out, err


def test_prepare_writes_a_corpus_and_its_summary(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recordings: Path
) -> None:
    options = ["--out", tmp_path / "corpus", "--clip-seconds", "2", "--sample-rate", "16000"]
    status, out, _ = run(capsys, "prepare", recordings, *options, "--json")
    assert status == 0
    summary = json.loads(out)
    assert summary["clip_seconds"] == 2
    assert summary == json.loads((tmp_path / "corpus" / "summary.json").read_text(encoding="utf-8"))
    status, out, _ = run(capsys, "prepare", recordings, *options)
    assert status == 0
    assert f"next: talim train --corpus {tmp_path / 'corpus'} --out {tmp_path / 'corpus-run'}" in out


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("no-such-folder", [], "no-such-folder"),
        (".", [], "no audio file in it or below it"),
        (".", ["--format", "floder"], "folder"),
    ],
)
def test_sources_and_options_that_cannot_be_used_are_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
    options: list[str],
    words: str,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    status, _, err = run(capsys, "prepare", source, "--out", tmp_path / "corpus", *options)
    assert status in (1, 2)
    assert words in err
    assert not (tmp_path / "corpus").exists()
