"""The files of a corpus folder: interrupted writing, and files of the user."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.prepared_corpus import make

from talim.atomic_io import write_text
from talim.corpus import corpus_folder
from talim.corpus.manifest import Corpus
from talim.errors import TalimError


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
