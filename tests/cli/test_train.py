"""Tests of `talim train`: few open files, and memory that runs out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from talim import api, cli
from talim.errors import TalimError
from talim.planning.sample_training import make_corpus
from talim.progress import Progress

SIXTY_FOUR_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("device", "error", "limit"),
    [
        ("gpu", RuntimeError("MPS backend out of memory (MPS allocated: 9 GB). Tried to allocate 1.00 GB"), "11.00 GB"),
        ("mps", RuntimeError("Invalid buffer size: 24.00 GiB"), "11.00 GB"),
        ("cuda", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "6.00 GB"),
    ],
)
def test_train_without_enough_memory_of_a_gpu_says_what_it_needs_and_what_would_fit(
    tmp_path: Path,
    traces: Path,
    quick_recipe: Any,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    error: Exception,
    limit: str,
) -> None:
    """Neither GPU is here: what torch says of them is a stand-in."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    is_cuda = device == "cuda"
    monkeypatch.setenv("TALIM_CACHE", str(traces))
    monkeypatch.setattr("talim.training.train.train", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(is_cuda))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=6_000_000_000))
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda _: None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: not is_cuda)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 11_000_000_000)
    with pytest.raises(TalimError, match="the memory of the GPU is too small for this training") as caught:
        api.train(quick_recipe(), tmp_path / "run", device=device, progress=Progress())
    said = str(caught.value)
    assert str(error).partition(". ")[0].rstrip(".") in said
    assert f"this training needs 0.8 GB, and there are {limit}" in re.sub(r"0\.8\d GB", "0.8 GB", said)
    assert "with --set training.gradient_checkpointing=true it needs 0.8" in said


def test_train_with_another_error_lets_it_through(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talim.training.train.train", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        api.train(quick_recipe(), tmp_path / "run", device="cpu", progress=Progress())


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--init-from", "lor"], 1, "--init-from lor: no adapter folder is here; did you mean lora?"),
        (["--init-from", "corpus"], 1, "--init-from corpus: holds no adapter (adapter_config.json is missing)"),
        (["--init-from", "lora", "--design", "conv@all:2%"], 2, "whose design is ia3@adapter"),
        (["--init-from", "lora"], 2, "lora does not say what it was trained on; add --base NAME"),
        (["--design", "lora@adapter"], 2, "is that of a stored adapter; give it, too: init_from: ADAPTER"),
    ],
)
def test_train_from_an_adapter_that_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "lora").mkdir()
    config = {"peft_type": "IA3", "target_modules": ["fc1"], "feedforward_modules": ["fc1"]}
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"base_model.model.fc1.ia3_l": torch.ones(1, 4)}, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(SystemExit) as done:
        cli.main(["train", "--corpus", "corpus", "--out", "run", *arguments])
    out, said = capsys.readouterr()
    assert (done.value.code, out, said.count("\n")) == (status, "", 1)
    assert words in said
    assert not (tmp_path / "run").exists()
