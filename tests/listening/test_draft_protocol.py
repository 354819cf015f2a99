"""Drafted protocols."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from talim.atomic_io import read_jsonl, write_jsonl
from talim.errors import TalimError
from talim.listening import protocol as p
from talim.listening.draft_protocol import protocol_folder, write_draft
from talim.listening.stimuli import prepare

Make = Callable[..., Path]


def test_write_draft_over_runs_is_a_valid_protocol(make_test: Make) -> None:
    folder = make_test() / "runs"
    assert write_draft(folder) == folder / "listening" == protocol_folder(folder)
    protocol = p.load(folder / "listening")
    assert protocol.names == ["conv", "linear", "untrained", "real"]
    assert protocol.reference == "untrained"
    assert len(prepare(folder / "listening", protocol).items) == 4
    assert (protocol.trials.per_listener, protocol.trials.repeats) == (20, 3)  # of 24 different comparisons


def test_write_draft_of_few_comparisons_asks_for_each_once(make_test: Make) -> None:
    folder = make_test() / "runs"
    shutil.rmtree(folder / "conv")
    for size, (pages, least) in {2: (6 + 1 + 2, 5), 1: (3 + 0 + 2, 5)}.items():  # three pairs of conditions
        manifest = folder / "linear" / "samples" / "manifest.jsonl"
        prompts = list(dict.fromkeys(row["prompt"] for row in read_jsonl(manifest)))[:size]
        write_jsonl(manifest, [row for row in read_jsonl(manifest) if row["prompt"] in prompts])
        protocol = p.load(write_draft(folder))
        assert protocol.comparisons(size) == protocol.trials.per_listener == 3 * size
        assert (protocol.trials.total, protocol.exclusions.trials_below) == (pages, least)


def test_write_draft_says_how_continued_phrases_are_compared_and_that_works(make_test: Make) -> None:
    folder = make_test() / "runs"
    sentence = "write /continuations after every source"
    assert sentence not in (write_draft(folder) / "protocol.yaml").read_text(encoding="utf-8")
    for run in (folder / "conv", folder / "linear"):
        shutil.copytree(run / "samples", run / "continuations")
        rows = read_jsonl(run / "continuations" / "manifest.jsonl")
        nameless = [row | {"prompt": "", "recording": f"recording {row['prompt']}"} for row in rows]
        write_jsonl(run / "continuations" / "manifest.jsonl", nameless)
    path = write_draft(folder) / "protocol.yaml"
    text = path.read_text(encoding="utf-8")
    assert sentence in text
    path.write_text(re.sub(r"(source: \S+)", r"\1/continuations", text), encoding="utf-8")
    material = prepare(path.parent, p.load(path.parent))
    assert len(material.items) == 4
    assert all(prompt.startswith("recording ") for prompt in material.prompts.values())


def test_write_draft_without_runs_raises_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="talim evaluate"):
        write_draft(tmp_path)


@pytest.mark.parametrize("text", ["", "{}\n", "torn"])
def test_write_draft_of_a_run_whose_manifest_names_nothing_says_so(make_test: Make, text: str) -> None:
    folder = make_test() / "runs" / "conv"
    (folder / "samples" / "manifest.jsonl").write_text(text)
    with pytest.raises(
        TalimError, match=r"conv: its samples/manifest.jsonl names no audio to compare; run talim evalu"
    ):
        write_draft(folder)
