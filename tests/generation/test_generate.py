"""Generation: seeds repeat, files tell what made them, and everything refusable is refused before loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talim import audio
from talim.atomic_io import read_jsonl
from talim.errors import TalimError, UsageError
from talim.generation.generate import GenerationOptions, generate
from talim.generation.sources import GenerationSource, choose_source
from talim.run import Run


def made(out: Path, source: GenerationSource, **changes: Any) -> list[dict[str, Any]]:
    return generate(**{"prompts": ["slow glide"], "out": out, "source": source, "seconds": 1.0, **changes})


def test_the_same_seed_gives_the_same_piece_and_another_one_does_not(tmp_path: Path, tiny_base: Path) -> None:
    source = GenerationSource(str(tiny_base))
    pieces = []
    for number, seed in enumerate((4, 4, 5)):
        made(tmp_path / f"{number}.flac", source, seed=seed)
        pieces.append(audio.read(tmp_path / f"{number}.flac").samples)
    assert np.array_equal(pieces[0], pieces[1])
    assert not np.array_equal(pieces[0], pieces[2])


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_a_file_tells_what_made_it(tmp_path: Path, finished_run: Run, suffix: str) -> None:
    source = choose_source(finished_run.folder, None, [], no_adapter=False)
    rows = made(tmp_path / f"a{suffix}", source, seed=3, sampling=GenerationOptions(2.0, 0.9, 50))
    tags = audio.read_tags(tmp_path / f"a{suffix}")
    assert tags["ai_generated"] == "AI-generated"
    assert (tags["prompt"], tags["seed"], tags["base"]) == ("slow glide", "3", "tiny")
    assert (tags["adapter"], tags["adapter_design"]) == ("run/adapter", "linear@all:10%")
    assert (tags["guidance"], tags["temperature"], tags["top_k"]) == ("2.0", "0.9", "50")
    assert tags["base_licence"] == "cc-by-nc-4.0"
    assert rows[0]["base_fingerprint"] == tags["base_fingerprint"]
    assert audio.read(tmp_path / f"a{suffix}").seconds == pytest.approx(1.0, abs=0.05)


def test_the_adapter_changes_the_piece_and_no_adapter_is_the_base(
    tmp_path: Path, finished_run: Run, tiny_base: Path
) -> None:
    for name, source in {
        "with": choose_source(finished_run.folder, None, [], no_adapter=False),
        "same": choose_source(None, None, [finished_run.adapter], no_adapter=False),
        "without": choose_source(finished_run.folder, None, [], no_adapter=True),
        "base": choose_source(None, str(tiny_base), [], no_adapter=False),
    }.items():
        # an adapter knows its base by name; here that base is a folder
        named = GenerationSource(str(tiny_base), source.adapters)
        made(tmp_path / f"{name}.flac", named, seed=1)
    heard = {n: audio.read(tmp_path / f"{n}.flac").samples for n in ("with", "same", "without", "base")}
    assert np.array_equal(heard["with"], heard["same"])
    assert np.array_equal(heard["without"], heard["base"])
    assert not np.array_equal(heard["with"], heard["without"])


def test_many_pieces_go_to_a_folder_with_a_manifest(tmp_path: Path, tiny_base: Path) -> None:
    rows = made(tmp_path / "many", GenerationSource(str(tiny_base)), prompts=["a", "b"], count=2, seed=7)
    manifest = read_jsonl(tmp_path / "many" / "manifest.jsonl")
    assert [(r["prompt"], r["seed"]) for r in manifest] == [("a", 7), ("a", 8), ("b", 7), ("b", 8)]
    assert all((tmp_path / "many" / r["file"]).is_file() for r in manifest)
    assert [r["file"] for r in rows] == [str(tmp_path / "many" / r["file"]) for r in manifest]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": -3.0}, "--seconds is -3"),
        ({"seconds": 0.0}, "--seconds is 0"),
        ({"seconds": 1e9}, "between 0.1 and 3600"),
        ({"seconds": float("nan")}, "--seconds is nan"),
        ({"prompts": [" "]}, "--prompt is empty"),
        ({"prompts": []}, "--prompt is empty"),
        ({"count": 0}, "--count is 0"),
        ({"count": 2}, "pieces need a folder"),
        ({"seed": -1}, "--seed is -1"),
        ({"out": Path("a.mp3")}, r"\.flac or \.wav"),
        ({"out": Path("a")}, r"\.flac or \.wav"),
    ],
)
def test_nonsense_is_refused_before_any_model_is_loaded(tmp_path: Path, changes: dict, words: str) -> None:
    def never() -> GenerationSource:
        raise AssertionError("went on to the model")

    with pytest.raises(UsageError, match=words):
        made(**{"out": tmp_path / "a.flac", "source": never, **changes})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [({"guidance": 0.5}, "--guidance"), ({"temperature": -1.0}, "--temperature"), ({"top_k": -1}, "--top-k")],
)
def test_sampling_has_bounds(values: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        GenerationOptions(**values)


def test_an_output_that_cannot_be_written_is_refused_before_any_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TalimError, match="cannot be written"):
        made(tmp_path / "file" / "a.flac", GenerationSource("never-looked-at"))
