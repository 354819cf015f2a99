"""Tests of talim.run: the stored recipe, the lock, completion and provenance."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import shlex
from pathlib import Path

import pytest

from talim import atomic_io, run
from talim.errors import TalimError, UsageError
from talim.recipe import Recipe, dump
from talim.run import Run, resolve_recipe, version_changes


@pytest.mark.parametrize(("number", "refused"), [(errno.ENOLCK, False), (errno.ENOTSUP, False), (errno.EACCES, True)])
def test_lock_on_a_file_system_without_locks_is_said_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, refused: bool
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    if refused:
        with pytest.raises(TalimError, match="another talim process"), Run(tmp_path).lock():
            pass
        return
    with Run(tmp_path).lock():
        pass
    said = capsys.readouterr().err
    assert "cannot be locked here" in said
    assert os.strerror(number) in said
    assert "another talim process" not in said


def test_version_changes_names_what_differs() -> None:
    before = {"talim": "1", "python": "3.11.1", "libraries": {"torch": "2.1", "peft": "0.1"}, "time": "then"}
    now = {"talim": "1", "python": "3.11.1", "libraries": {"torch": "2.2", "peft": "0.1"}, "time": "now"}
    assert version_changes(before, now) == {"torch": ("2.1", "2.2")}
    assert version_changes(before, before) == {}


def test_resolve_recipe_prefers_set_over_options_over_files(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("corpus: from-file\nseed: 1\ntraining: {steps: 30}\n")
    options = {"corpus": None, "base": None, "training.steps": 40, "seed": 2}
    recipe = resolve_recipe(tmp_path, [tmp_path / "r.yaml"], options, ["seed=3"])
    assert (recipe.corpus, recipe.training.steps, recipe.seed) == ("from-file", 40, 3)


def test_resolve_recipe_without_options_returns_the_stored_recipe(tmp_path: Path) -> None:
    stored = Recipe(corpus="c", seed=9)
    (tmp_path / "recipe.yaml").write_text(dump(stored))
    assert resolve_recipe(tmp_path, [], {"corpus": None, "seed": None}, []) == stored
    assert Run(tmp_path).recipe == stored


def test_run_recipe_in_empty_folder_raises_talim_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no run is here"):
        _ = Run(tmp_path).recipe


def test_resolve_recipe_in_empty_folder_asks_for_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --corpus"):
        resolve_recipe(tmp_path, [], {"corpus": None}, [])


def hold_lock(folder: str, held: object, release: object) -> None:
    with Run(folder).lock():
        held.set()  # type: ignore[attr-defined]
        release.wait(20)  # type: ignore[attr-defined]


def test_lock_refuses_a_second_process_until_the_first_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold_lock, args=(str(tmp_path), held, release))
    other.start()
    try:
        assert held.wait(20)
        with pytest.raises(TalimError, match="another talim process"), Run(tmp_path).lock():
            pass
    finally:
        other.kill()
        other.join()
    with Run(tmp_path).lock():
        pass


def test_base_of_an_exported_run_lies_in_its_folder_unless_one_of_that_path_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.recipe_file.write_text("corpus: c\nbase: ./base/tiny\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run.base == str(run.folder / "base" / "tiny")
    (tmp_path / "base" / "tiny").mkdir(parents=True)
    assert run.base == "./base/tiny"


def test_run_shows_its_folder() -> None:
    assert repr(Run("my-run")) == "Run('my-run')"


def test_finished_requires_both_cost_and_adapter(tmp_path: Path) -> None:
    folder = Run(tmp_path)
    atomic_io.write_json(folder.cost, {})
    assert not folder.finished
    folder.adapter.mkdir()
    assert folder.finished


def test_provenance_is_plain_json_with_versions() -> None:
    values = json.loads(json.dumps(run.provenance()))
    assert values["talim"]
    assert values["libraries"]["numpy"]
    assert values["time"].endswith("+00:00")


def test_provenance_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["talim", "generate", "--prompt", "raga Yaman, slow", "--out", "my music/a.flac"]
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/talim", *words[1:]])
    assert shlex.split(run.provenance()["command"]) == words


@pytest.mark.parametrize("file", ["", run.POC_DECISIONS, run.POC_STAGE_CACHE])
def test_resume_command_of_a_run_in_a_proof_of_concept_is_that_of_the_whole(tmp_path: Path, file: str) -> None:
    if file:
        atomic_io.write_json(tmp_path / file, {})
    expected = (
        f"the same talim poc command as before, with --out {tmp_path}"
        if file
        else f"talim train --out {tmp_path / 'r'}"
    )
    assert Run(tmp_path / "r").resume_command == expected


def test_gentler_command_is_the_recipe_at_a_third_of_the_rate_in_a_folder_that_is_free(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    atomic_io.write_text(folder / "recipe.yaml", dump(Recipe(corpus="c", seed=9, training={"learning_rate": 0.001})))
    (tmp_path / "my run-2").mkdir()
    words = shlex.split(Run(folder).gentler_command)
    assert words[:2] == ["talim", "train"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given["--out"] == str(tmp_path / "my run-3")
    recipe = resolve_recipe(Path(given["--out"]), [Path(given["--config"])], {}, [given["--set"]])
    assert (recipe.seed, recipe.corpus, recipe.training.learning_rate) == (9, "c", 0.00033)
