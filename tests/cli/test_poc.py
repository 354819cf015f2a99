"""Tests of `talim poc`: options reach the pipeline, and mistakes are told before it starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from talim import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return int(done.value.code or 0), out, err


def stage(name: str, passed: bool | None, runs: list[str] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "title": name,
        "passed": passed,
        "sentences": [],
        "stopped": "",
        "runs": ["x"] if runs is None else runs,
    }


RESULT = {"sentences": ["Cost: little."], "page": "p/report/index.html", "stages": [], "make_music": ["talim generate"]}
RESULT |= {"continuations": [stage("extend", True)]}


def test_options_reach_the_pipeline(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, recordings: Path, tmp_path: Path
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("talim.poc.pipeline.poc", lambda *arguments: calls.append(arguments) or RESULT)
    options = ["--hours", "1.5", "--design", "conv@post:500", "--set", "training.batch_size=2", "--use", "commercial"]
    options += ["--held-out", "take-1", "--price-per-hour", "0.5", "--no-learning-curve", "--no-tune"]
    options += ["--continue", "extend"]
    status, out, _ = run(capsys, "poc", recordings, "--out", tmp_path / "out", *options)
    assert status == 0
    assert "Make music now: talim generate" in out
    ((folder, target, given, _, continuation),) = calls
    assert (folder, target, continuation) == (recordings, tmp_path / "out", "extend")
    assert (given.hours, given.designs, given.license_use) == (1.5, ("conv@post:500",), "commercial")
    assert (given.settings, given.held_out) == ((("training.batch_size", 2),), ("take-1",))
    assert (given.price_per_hour, given.learning_curve, given.tune) == (0.5, False, False)
    status, out, _ = run(capsys, "poc", recordings, "--out", tmp_path / "out", "--json")
    assert json.loads(out) == RESULT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--base", "nano-musicgan"], "nano-musicgen"),
        (["--device", "tpu"], "--device is 'tpu'"),
        (["--gates", "no-such.yaml"], "no-such.yaml"),
        (["--design", "conf@post:500"], "conf"),
    ],
)
def test_mistakes_are_told_before_the_pipeline_starts(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recordings: Path,
    tmp_path: Path,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.setattr("talim.poc.pipeline.poc", lambda *_: pytest.fail("the pipeline started"))
    status, _, err = run(capsys, "poc", recordings, "--out", tmp_path / "out", *options)
    assert status in (1, 2)
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_base_that_the_use_forbids_is_refused_before_it_is_fetched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, recordings: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("talim.backbones.hub_download.check", lambda _: pytest.fail("the base was looked for"))
    options = ["--use", "commercial", "--base", "musicgen-small"]
    status, _, err = run(capsys, "poc", recordings, "--out", tmp_path / "out", *options)
    assert status == 2
    assert "usable are" in err
    assert "mustango" in err


@pytest.mark.parametrize(
    ("options", "locale", "words"),
    [
        (["--language", "ja"], "C", "音楽を作るコマンド：talim generate"),
        ([], "ja_JP.UTF-8", "音楽を作るコマンド：talim generate"),
        (["--language", "en"], "ja_JP.UTF-8", "Make music now: talim generate"),
        ([], "fr_FR.UTF-8", "Make music now: talim generate"),
    ],
)
def test_result_is_told_in_the_language_asked_for_or_of_the_locale(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recordings: Path,
    tmp_path: Path,
    options: list[str],
    locale: str,
    words: str,
) -> None:
    monkeypatch.setattr("talim.poc.pipeline.poc", lambda *_: RESULT)
    monkeypatch.setenv("LC_ALL", locale)
    _, out, _ = run(capsys, "poc", recordings, "--out", tmp_path / "out", *options)
    assert words in out.splitlines()


def test_japanese_locale_on_a_terminal_without_its_letters_is_told_in_english(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, recordings: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("talim.poc.pipeline.poc", lambda *_: RESULT)
    monkeypatch.setattr("talim.cli.language.is_plain", str.isascii)
    monkeypatch.setenv("LC_ALL", "ja_JP.SJIS")
    assert "Make music now: talim generate" in run(capsys, "poc", recordings, "--out", tmp_path / "out")[1]


def test_unknown_language_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], recordings: Path, tmp_path: Path
) -> None:
    status, _, err = run(capsys, "poc", recordings, "--out", tmp_path / "out", "--language", "de")
    assert status == 2
    assert "choose one of en, ja" in err


def test_missing_folder_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(capsys, "poc", tmp_path / "takes", "--out", tmp_path / "out")
    assert status == 1
    assert "takes" in err


def test_a_budget_that_is_too_small_is_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    code = (
        "import sys; from talim.cli import main\n"
        f"try: main(['poc', {str(tmp_path / 'takes')!r}, '--out', {str(tmp_path / 'out')!r}, '--hours', '0.01'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert "--hours 0.01 is 36 s" in done.stderr
    assert not (tmp_path / "out").exists()


PASSED = [stage("cost", True), stage("quality", True)]


@pytest.mark.parametrize(
    ("option", "stages", "continuations", "status"),
    [
        (None, [*PASSED, stage("task", None)], [], 0),  # nobody has judged yet
        (None, [*PASSED, stage("task", True)], [stage("hybrid", False)], 0),  # an earlier continuation
        (None, [*PASSED, stage("task", False)], [], 1),
        (None, [stage("cost", True), stage("quality", False)], [], 1),
        (None, [stage("cost", False)], [], 1),
        (None, [stage("cost", True), stage("quality", None) | {"stopped": "Stopped here because of one."}], [], 1),
        ("extend", [*PASSED, stage("task", False)], [stage("hybrid", False), stage("extend", True)], 0),
        ("extend", PASSED, [stage("extend", None)], 0),  # open
        ("extend", PASSED, [stage("extend", False)], 1),
        ("hybrid", PASSED, [stage("hybrid", None, runs=[])], 1),  # there was no time for it
        ("hybrid", PASSED, [stage("extend", True)], 1),
    ],
)
def test_a_gate_that_is_not_met_ends_with_status_1_and_the_whole_result(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recordings: Path,
    tmp_path: Path,
    option: str | None,
    stages: list[dict[str, Any]],
    continuations: list[dict[str, Any]],
    status: int,
) -> None:
    result = RESULT | {"stages": stages, "continuations": continuations}
    monkeypatch.setattr("talim.poc.pipeline.poc", lambda *_: result)
    arguments = ["poc", recordings, "--out", tmp_path / "out", "--json"]
    ended, out, _ = run(capsys, *arguments, *(["--continue", option] if option else []))
    assert (ended, json.loads(out)) == (status, result)
