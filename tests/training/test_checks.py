"""Tests of talim.training.checks: what is refused before torch is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from talim.atomic_io import write_text
from talim.errors import TalimError, UsageError
from talim.recipe import Recipe, dump
from talim.run import Run
from talim.training.checks import check_recipe


def test_check_recipe_returns_the_corpus(tmp_path: Path, quick_recipe: Any, corpus_folder: Path) -> None:
    assert check_recipe(Run(tmp_path), quick_recipe()).folder == corpus_folder


def test_check_recipe_without_a_corpus_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="make one with: talim prepare"):
        check_recipe(Run(tmp_path), Recipe(corpus=tmp_path / "none"))


def test_check_recipe_of_another_run_names_the_differences(tmp_path: Path, quick_recipe: Any) -> None:
    write_text(Run(tmp_path).recipe_file, dump(quick_recipe()))
    check_recipe(Run(tmp_path), quick_recipe())
    with pytest.raises(UsageError, match=r"training\.steps \(9 there, 8 now\)"):
        check_recipe(Run(tmp_path), quick_recipe(training__steps=8))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--corpus", "none"], 1, "none: not a corpus"),
        (["--corpus", "{corpus}", "--design", "linear@al:2.5%"], 2, "did you mean 'all'?"),
        (["--corpus", "{corpus}", "--design", "linear@layers[70]:2.5%"], 2, "it has conditioner, post, 6 layers"),
        (["--corpus", "{corpus}", "--base", "nano-musicgn"], 1, "did you mean nano-musicgen"),
        (["--corpus", "{corpus}", "--device", "tpu"], 2, "--device is 'tpu'"),
    ],
)
def test_train_command_tells_mistakes_before_torch_is_loaded(
    tmp_path: Path, corpus_folder: Path, arguments: list[str], status: int, message: str
) -> None:
    typed = [text.format(corpus=corpus_folder) for text in arguments]
    code = (
        "import sys; from talim.cli.exit_status import exit_status; from talim.cli.main import app; "
        f"status = exit_status(lambda: app({['train', '--out', 'run', *typed]!r}, standalone_mode=False)); "
        "print('torch' in sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (status, "False"), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "run").exists()
