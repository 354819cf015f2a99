"""Tests of talim.planning.generation_memory: what a base needs, what would fit, and how it is told."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.planning.generation_memory import GB, generation_advice, generation_bytes, memory_explained

# the address space of a process that has loaded the libraries, and some MB more
LIMITED = """
import resource, sys
import talim.generation.generate, talim.backbones.musicgen.backbone, talim.training.train, talim.cli
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv.pop(1)) * 10**6
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
talim.cli.main()
"""


def test_generation_bytes_are_weights_cache_and_libraries() -> None:
    cache = 2 * 2 * 4 * 24 * 1024 * 10 * 50
    assert generation_bytes("musicgen-small", 10.0) == pytest.approx(2.364 * GB + cache + 0.6 * GB)
    # loaded in fp32, though stored in fp16
    assert generation_bytes("musicgen-stereo-small", 10.0) > generation_bytes("musicgen-small", 10.0)
    assert generation_bytes("musicgen-small", 300.0) == generation_bytes("musicgen-small", 30.0)  # its window
    assert generation_bytes("musicgen-small", 10.0, gpu=True) < generation_bytes("musicgen-small", 10.0)
    assert generation_bytes("nano-mustango", 10.0) == pytest.approx(0.6 * GB + 39_495_514, rel=1e-3)


def test_generation_advice_names_the_largest_bases_that_fit() -> None:
    text = generation_advice("musicgen-large", 10.0, 4 * GB)
    assert text.startswith("facebook/musicgen-large needs at least ")
    assert "there are 4.00 GB; bases that would fit: musicgen-s" in text
    assert "medium" not in text
    assert generation_advice("musicgen-large", 10.0, 0.1 * GB).endswith("no base fits: use a larger machine")
    assert "the base fits, but not with the rest" in generation_advice("nano-musicgen", 10.0, 4 * GB)
    assert "ulimit -v" in generation_advice("nano-musicgen", 10.0, 4 * GB, address_space=True)


def test_memory_explained_passes_other_errors_on() -> None:
    with pytest.raises(ValueError, match="x"), memory_explained("generate", lambda: "nano-musicgen", 1.0, "cpu"):
        raise ValueError("x")
    with (
        pytest.raises(TalimError, match=r"too small to evaluate this \(out of memory\): nano-musicgen needs at least"),
        memory_explained("evaluate", lambda: "nano-musicgen", 1.0, "cpu"),
    ):
        raise MemoryError


@pytest.mark.skipif(not Path("/proc/self/statm").exists() or not hasattr(resource, "RLIMIT_AS"), reason="Linux only")
@pytest.mark.parametrize("megabytes", [5, 40])
def test_generate_without_memory_says_what_it_needs(tmp_path: Path, megabytes: int) -> None:
    words = ["generate", "--base", "nano-musicgen", "--prompt", "x", "--out", str(tmp_path / "a.wav")]
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes), *words], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 1
    assert "the memory of this machine is too small to generate this (" in run.stderr
    assert ("needs at least 0.6" in run.stderr) or megabytes == 5  # with less, even the advice finds no memory
    for word in ("cannot be read", "Traceback", "bug in talim"):
        assert word not in run.stderr
