"""The files of a corpus folder: interrupted writing, and files of the user.

The facts of summary.json.

changed_sides: which recordings another preparation of a corpus moves, and what is said of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fixtures.prepared_corpus import make

from talim.atomic_io import write_text
from talim.corpus import corpus_folder
from talim.corpus.corpus_folder import changed_sides, split_items, tell_changed_sides
from talim.corpus.manifest import Clip, Corpus
from talim.errors import TalimError
from talim.progress import Progress


@pytest.mark.parametrize("call", [1, 2])
def test_write_corpus_interrupted_leaves_no_corpus_that_loads(
    three: Path, out: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    make(three, out)
    count = []

    def dying(path: Path, text: str) -> None:
        count.append(path)
        if len(count) == call:
            raise KeyboardInterrupt
        write_text(path, text)

    monkeypatch.setattr(corpus_folder, "write_text", dying)
    with pytest.raises(KeyboardInterrupt):
        make(three, out, caption="other")
    monkeypatch.undo()
    with pytest.raises(TalimError, match="talim prepare"):
        Corpus.load(out)
    assert {clip.caption for clip in make(three, out, caption="other").clips} == {"other"}
    assert Corpus.load(out).summary["captions"] == {"--caption": 3}


def test_remove_stale_keeps_foreign_files(three: Path, out: Path) -> None:
    make(three, out)
    for name in ("clips/foreign/take.flac", "sources/notes.json", "features/x.bin"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("foreign")
    make(three, out, clip_seconds=5)
    assert (out / "clips/foreign/take.flac").exists()
    assert (out / "sources/notes.json").exists()
    assert (out / "features/x.bin").exists()


def test_previous_summary_of_an_incomplete_corpus_is_none(three: Path, out: Path) -> None:
    corpus = make(three, out)
    assert corpus_folder.previous_summary(out) == corpus.summary
    (out / "corpus.jsonl").unlink()
    assert corpus_folder.previous_summary(out) is None


def test_summarize_counts_beats_and_chords_only_where_there_are_any(three: Path, out: Path) -> None:
    assert "clips_with_beats_or_chords" not in make(three, out).summary
    (three / "a.beats").write_text("0.5 1\n12.5 2\n")
    assert make(three, out).summary["clips_with_beats_or_chords"] == {"beats": 2, "chords": 0}


def test_summarize_names_the_scale_of_every_fraction(three: Path, out: Path) -> None:
    (three / "copy.wav").write_bytes((three / "a.wav").read_bytes()[:200_000])
    text = json.dumps(make(three, out).summary)
    assert not re.findall(r'"\w*share\w*"', text.replace('"shared_fraction"', ""))
    assert '"clipped_fraction"' in text


def test_split_items_prefer_musicbrainz_ids_to_titles(three: Path, out: Path) -> None:
    clip = make(three, out).clips[0]
    assert split_items([clip])[0].release == clip.release == "unknown"
    with_ids = clip.model_copy(update={"release": "Album", "extra": {"release_mbid": "r1", "lead_performer": "A"}})
    (item,) = split_items([with_ids])
    assert (item.release, item.work, item.lead) == ("r1", "unknown", "A")


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
