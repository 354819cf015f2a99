"""changed_sides: which recordings another preparation of a corpus moves, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.prepared_corpus import make

from talim.corpus.changed_sides import changed_sides, tell_changed_sides
from talim.corpus.manifest import Clip, Corpus
from talim.progress import Progress


class Lines(Progress):
    """Keeps what is said of changed sides."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def log(self, text: str) -> None:
        if "changed sides" in text:
            self.told.append(text)


def clip(name: str, split: str, start: float = 0.0, source_hash: str = "", seconds: float = 10.0) -> Clip:
    return Clip.model_validate(
        {
            "id": f"{name}-{start}",
            "file": "clips/x.flac",
            "recording": name,
            "performer": "unknown",
            "start_seconds": start,
            "seconds": seconds,
            "caption": "",
            "split": split,
            "audio_hash": "",
            "source_file": f"{name}.wav",
            "source_hash": source_hash or name,
        }
    )


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ([clip("a", "train"), clip("b", "held_out"), clip("new", "held_out")], {}),
        ([clip("a", "held_out")], {("train", "held_out"): ["a"]}),
        ([clip("a", "held_out", source_hash="other tags")], {("train", "held_out"): ["a"]}),
        ([clip("renamed", "held_out", source_hash="a")], {("train", "held_out"): ["renamed"]}),
        ([clip("a", "train", seconds=5.0), clip("a", "train", 5.0, seconds=5.0)], {}),
        (
            [clip("a", "validation"), clip("b", "train"), clip("c", "train"), clip("c", "held_out", 10.0)],
            {("validation", "held_out"): ["c"], ("held_out", "train"): ["b"], ("train", "validation"): ["a"]},
        ),
        (
            [clip("c", "held_out"), clip("c", "held_out", 10.0), clip("b", "validation")],
            {("train", "held_out"): ["c"], ("held_out", "validation"): ["b"]},
        ),
        ([clip("c", "train", 0.5, seconds=9.0), clip("c", "validation", 9.5)], {}),
    ],
)
def test_changed_sides_knows_files_by_bytes_or_name_and_music_by_its_place(
    now: list[Clip], expected: dict[tuple[str, str], list[str]]
) -> None:
    before = [clip("a", "train"), clip("b", "held_out"), clip("c", "train"), clip("c", "validation", 10.0)]
    if now[0].start_seconds:  # clips that begin between whole seconds
        before[2:] = [clip("c", "train", 0.5, seconds=9.0), clip("c", "validation", 9.5)]
    assert changed_sides(before, now) == expected
    assert [*changed_sides(before, now)] == [*expected]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (
            "held_out",
            "1 recording changed sides since this corpus was last prepared, from training to the test: a; adapters",
        ),
        ("validation", "from training to validation: a; validation is another one now"),
        ("train", ""),
    ],
)
def test_tell_changed_sides_says_what_it_means(
    now: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Corpus, "load", lambda folder: Corpus(folder, (clip("a", "train"),), {}))
    tell_changed_sides(tmp_path, [clip("a", now)], lines := Lines())
    assert [said in line for line in lines.told] == [True] * bool(said)


def test_prepare_again_tells_recordings_that_changed_sides(folder: Path, out: Path, record) -> None:
    for name in ("a.wav", "b.wav"):
        record(name, 12)
    make(folder, out, held_out=["a"], progress=(lines := Lines()))
    make(folder, out, held_out=["a"], progress=lines)
    assert not lines.told
    record("new.wav", 12, seed=40)
    make(folder, out, held_out=["b", "new"], progress=lines)
    (line,) = lines.told
    assert "2 recordings changed sides" in line
    assert "from training to the test: b; from the test to training: a; adapters trained on this corpus before" in line
