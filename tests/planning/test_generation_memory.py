"""Tests of talim.planning.generation_memory: what a base needs, what would fit, and how it is told."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.planning.generation_memory import GB, generation_advice, generation_bytes, memory_explained

LIMITS_MB = (5, 40)  # beyond the address space of a process that has loaded the libraries
LIMITED = """
import json, os, resource, sys
import talim.generation.generate, talim.backbones.musicgen.backbone, talim.training.train, talim.cli
limits_mb, sys.argv[:] = json.loads(sys.argv[1]), ["talim", *sys.argv[2:]]
for megabytes in limits_mb:
    child = os.fork()
    if not child:
        os.dup2(os.open(f"{megabytes}.err", os.O_WRONLY | os.O_CREAT), 2)
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + megabytes * 10**6
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        talim.cli.main()
    print(megabytes, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
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
    assert "the base fits, but not with the rest: use a shorter --seconds, close" in generation_advice(
        "nano-musicgen", 10.0, 4 * GB
    )  # no base is smaller
    assert "--seconds or a smaller base, close" in generation_advice("musicgen-small", 10.0, 40 * GB)
    assert "ulimit -v" in generation_advice("nano-musicgen", 10.0, 4 * GB, address_space=True)


def test_memory_explained_passes_other_errors_on() -> None:
    with pytest.raises(ValueError, match="x"), memory_explained("generate", lambda: "nano-musicgen", 1.0, "cpu"):
        raise ValueError("x")
    with (
        pytest.raises(TalimError, match=r"too small to evaluate this \(out of memory\): nano-musicgen needs at least"),
        memory_explained("evaluate", lambda: "nano-musicgen", 1.0, "cpu"),
    ):
        raise MemoryError


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[int, str]]:
    """Exit status and standard error of `talim generate` by the MB that it has left."""
    folder = tmp_path_factory.mktemp("limited")
    words = ["generate", "--base", "nano-musicgen", "--prompt", "x", "--out", str(folder / "a.wav")]
    command = [sys.executable, "-c", LIMITED, json.dumps(LIMITS_MB), *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, cwd=folder)
    ended = [[int(number) for number in line.split()] for line in run.stdout.splitlines()]
    return {megabytes: (status, (folder / f"{megabytes}.err").read_text()) for megabytes, status in ended}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists() or not hasattr(resource, "RLIMIT_AS"), reason="Linux only")
@pytest.mark.parametrize("megabytes", LIMITS_MB)
def test_generate_without_memory_says_what_it_needs(limited: dict[int, tuple[int, str]], megabytes: int) -> None:
    status, said = limited[megabytes]
    assert status == 1
    assert "the memory of this machine is too small to generate this (" in said
    assert ("needs at least 0.6" in said) or megabytes == 5  # with less, even the advice finds no memory
    for word in ("cannot be read", "Traceback", "bug in talim"):
        assert word not in said
