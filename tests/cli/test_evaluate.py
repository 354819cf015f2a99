"""Tests of `talim evaluate`: what it takes, and what it says to a folder that is no run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from talim import cli


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["evaluate", *map(str, arguments)])
    out, said = capsys.readouterr()
    return int(done.value.code or 0), out, said


def test_folders_json_is_one_document_and_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, make_recordings: Callable[..., Path]
) -> None:
    recordings = make_recordings(tmp_path / "takes", count=3, seconds=3.0)
    out_file = tmp_path / "scores.json"
    status, out, _ = evaluate(
        capsys, "--real", recordings, "--generated", recordings, "--out", out_file, "--json", "--num-workers", 1
    )
    assert status == 0
    assert json.loads(out)["generated"]["files"] == json.loads(out_file.read_text())["generated"]["files"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either a run"),
        (["no-such"], "no-such: no such file or folder"),
        (["."], "no run is here"),
        (["--real", "."], "either a run"),
        (["--real", ".", "--generated", "no-such"], "no-such: no such file or folder"),
        ([".", "--device", "tpu"], "--device is 'tpu'"),
    ],
)
def test_wrong_request_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, said = evaluate(capsys, *arguments)
    assert (status in (1, 2), out, said.count("\n")) == (True, "", 1)
    assert words in said
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_an_adapter_needs_a_corpus_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    for arguments in (["lora"], ["--adapter", "lora"]):
        status, out, said = evaluate(capsys, *arguments)
        assert (status, out, said.count("\n")) == (2, "", 1)
        assert "lora is an adapter, which does not say on which recordings to score it: add --corpus CORPUS" in said
