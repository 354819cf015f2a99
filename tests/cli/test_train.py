"""Tests of `talim train`: few open files, and memory that runs out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from talim import api
from talim.errors import TalimError
from talim.planning.sample_training import make_corpus
from talim.progress import Progress

SIXTY_FOUR_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are those of POSIX")
def test_train_on_100_clips_with_64_open_files(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talim.planning.sample_training.CLIPS", 100)
    make_corpus(tmp_path / "corpus", 1.0)
    options = ["--base", str(tiny_base), "--corpus", "corpus", "--design", "linear@all:10%", "--steps", "2"]
    options += ["--set", "training.batch_size=4", "--set", "training.precision=fp32", "--out", "run"]
    code = f"{SIXTY_FOUR_FILES}from talim.cli import main; main({['train', *options]!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/adapter/adapter_model.safetensors").is_file()


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests of this module share: what one has traced, the next need not."""
    return tmp_path_factory.mktemp("traces")


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (MemoryError("Unable to allocate 9 GiB"), "the memory of this machine"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "the memory of the GPU"),
    ],
)
def test_train_without_enough_memory_says_what_would_fit(
    tmp_path: Path, traces: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setenv("TALIM_CACHE", str(traces))
    monkeypatch.setattr("talim.training.train.train", fail)
    monkeypatch.setattr("talim.training.resource_usage.memory_limit_bytes", lambda _: 1e12)
    with pytest.raises(TalimError, match=f"{place} is too small") as caught:
        api.train(quick_recipe(), tmp_path / "run", device="cpu", progress=Progress())
    assert "this training needs" in str(caught.value)
    assert "--set training.gradient_checkpointing=true" in str(caught.value)


def test_train_with_another_error_lets_it_through(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talim.training.train.train", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        api.train(quick_recipe(), tmp_path / "run", device="cpu", progress=Progress())
