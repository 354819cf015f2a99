"""Tests of talim.evaluation.kept_parts: what an interrupted evaluation has finished is used again, bit for bit."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.forked_process import ForkedProcess
from fixtures.log_lines import Lines

from talim.atomic_io import read_json
from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.evaluation import sample_pairs
from talim.evaluation.evaluate import _through_codec, evaluate
from talim.evaluation.kept_parts import CONTINUES, FOLDER, KeptParts
from talim.generation.generate import GenerationOptions
from talim.progress import Progress
from talim.run import Run


def rows(kept: KeptParts, items: list[str], part: str = "losses", fail_at: int = 99) -> tuple[list[Any], list[int]]:
    """The arrays of the items as `kept` gives them, and which of them were made."""
    made: list[int] = []

    def make(missing: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in missing:
            if number == fail_at:
                raise KeyboardInterrupt
            made.append(number)
            yield number, np.array([number / 3, len(items[number])])

    with contextlib.suppress(KeyboardInterrupt):
        return [row.tolist() for row in kept.arrays(part, items, "clip", make)], made
    return [], made


def test_arrays_after_an_interrupt_are_those_of_one_without_it(tmp_path: Path) -> None:
    items = ["a", "bb", "ccc", "dddd"]
    expected, _ = rows(KeptParts(), items)
    assert rows(KeptParts(tmp_path, seed=0), items, fail_at=2) == ([], [0, 1])
    said = Lines()
    assert rows(KeptParts(tmp_path, said, seed=0), items) == (expected, [2, 3])
    assert said.lines == [CONTINUES, "continues: losses, 2 of 4 clips are there"]
    assert rows(KeptParts(tmp_path, seed=0), items) == (expected, [])
    for other in (KeptParts(tmp_path, seed=1), KeptParts(tmp_path, seed=0, adapter="b")):
        assert rows(other, items)[1] == [0, 1, 2, 3]  # they depend on something else
    assert rows(KeptParts(tmp_path, seed=0), items, "others")[1] == [0, 1, 2, 3]


def test_a_damaged_part_is_made_again_and_remove_leaves_nothing(tmp_path: Path) -> None:
    kept = KeptParts(tmp_path, seed=0)
    expected, _ = rows(kept, ["a", "b"])
    for path in (tmp_path / FOLDER).rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    assert rows(KeptParts(tmp_path, seed=0), ["a", "b"]) == (expected, [0, 1])
    kept.remove()
    KeptParts(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def test_pieces_that_were_generated_before_an_interrupt_are_not_generated_again(
    finished_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[int]] = []

    def generate(captions: list[str], _: float, seeds: list[int], **options: Any) -> Iterator[tuple[int, np.ndarray]]:
        asked.append(seeds)
        for number, seed in enumerate(seeds):
            if len(asked) == 1 and number == 2:
                raise KeyboardInterrupt
            yield number, np.full((4, 10), seed, np.int16)

    backbone: Any = SimpleNamespace(
        options={},
        generate_each=generate,
        decode=lambda row: Audio(np.full((1, 160), row[0, 0] / 9, np.float32), 16000),
    )
    monkeypatch.setattr(sample_pairs.injection, "disabled", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(sample_pairs, "provenance_tags", lambda *_: {})
    run, corpus = Run(tmp_path / "run"), Corpus.load(finished_run.recipe.corpus)
    run.folder.mkdir()
    request: dict[str, Any] = {"num_prompts": 3, "seconds": 1.0, "seed": 4, "options": GenerationOptions()}
    with pytest.raises(KeyboardInterrupt):
        sample_pairs.generate_pairs(run, corpus, backbone, None, Progress(), kept=KeptParts(run.folder), **request)
    pairs = sample_pairs.generate_pairs(run, corpus, backbone, None, Progress(), kept=KeptParts(run.folder), **request)
    assert asked == [[4, 5, 6], [6], [4, 5, 6]]  # the third is without the adapter
    assert [pair.adapted.targets[0, 0] for pair in pairs] == [4, 5, 6]


def test_clips_that_went_through_the_codec_before_an_interrupt_are_the_same_and_not_decoded_again(
    tmp_path: Path,
) -> None:
    decoded: list[int] = []

    def decode(row: np.ndarray) -> Audio:
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(int(row[0, 0]))
        return Audio(np.random.default_rng(row[0, 0]).normal(0, 0.1, (2, 64_000)), 32_000)

    backbone: Any = SimpleNamespace(decode=decode)
    clips: Any = [SimpleNamespace(id=name) for name in "abc"]
    targets = {clip.id: np.full((4, 10), number) for number, clip in enumerate(clips)}
    with pytest.raises(KeyboardInterrupt):
        _through_codec(clips, targets, backbone, 1.0, KeptParts(tmp_path), Progress())
    backbone.decode = lambda row: Audio(np.random.default_rng(row[0, 0]).normal(0, 0.1, (2, 64_000)), 32_000)
    whole = _through_codec(clips, targets, backbone, 1.0, KeptParts(), Progress())
    said = Lines()
    found = _through_codec(clips, targets, backbone, 1.0, KeptParts(tmp_path, said), said)
    assert said.lines == [CONTINUES, "continues: held-out clips through the codec, 2 of 3 clips are there"]
    for one, other in zip(found, whole, strict=True):
        assert (one.rate_hz, one.seconds) == (other.rate_hz, other.seconds) == (16_000, 1.0)
        assert np.array_equal(one.samples, other.samples)
    assert decoded == [0, 1]


DIES = """
import os
from talim.evaluation.evaluate import evaluate
from talim.progress import Progress

class Dies(Progress):
    left = {steps}

    def step(self, title, done, total, facts=""):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), 9)

evaluate({run!r}, Dies(), num_prompts=3, seconds=1.0, device="cpu")
"""


@pytest.mark.slow
def test_evaluation_killed_again_and_again_gives_the_same_numbers(finished_run: Run, tmp_path: Path) -> None:
    runs = [Run(shutil.copytree(finished_run.folder, tmp_path / name / "run")) for name in ("whole", "killed")]
    for run in runs:
        shutil.rmtree(run.metrics_cache)
    whole = evaluate(runs[0].folder, num_prompts=3, seconds=1.0, device="cpu")
    kept = 0
    for number, steps in enumerate((3, 12, 40, 70, 100)):
        code = DIES.format(steps=steps, run=str(runs[1].folder))
        process = ForkedProcess(code, tmp_path / f"out-{number}", {})
        process.communicate(timeout=600)
        assert process.returncode == -9
        kept = max(kept, len(list((runs[1].folder / FOLDER).rglob("*.safetensors"))))
    assert kept > 3
    told = evaluate(runs[1].folder, said := Lines(), num_prompts=3, seconds=1.0, device="cpu")
    assert said.lines.count(CONTINUES) == 1
    assert not (runs[1].folder / FOLDER).exists()
    volatile = ("provenance", "command", "copies")
    assert {k: v for k, v in told.items() if k not in volatile} == {k: v for k, v in whole.items() if k not in volatile}
    for path in runs[0].samples.iterdir():
        assert (runs[1].samples / path.name).read_bytes() == path.read_bytes()
    assert read_json(runs[1].scores)["copies"]["sentence"] == whole["copies"]["sentence"]
