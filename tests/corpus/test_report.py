"""The corpus's page: everything is on it, it points nowhere outside, and it is left alone where nothing changed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fixtures.importer_sources import own_folder, sound, table
from fixtures.prepared_corpus import make

from talim.audio import Audio, write
from talim.corpus.manifest import Corpus
from talim.corpus.report import MAX_AUDIO_PLAYERS, caveats, counted, duration, duration_bars
from talim.corpus.report import write as write_page


@pytest.fixture
def corpus(folder: Path, out: Path) -> Corpus:
    own_folder(folder)
    loud = np.clip(4 * sound(7).samples[0], -1, 1)
    soundfile.write(folder / "clipped.wav", loud, 8000)
    write(folder / "copy.mp3", Audio(0.5 * sound(1).samples, 8000).resample(16000))
    (folder / "<b>odd & name.wav").write_text("no sound")
    return make(folder, out)


def text_of(corpus: Corpus) -> str:
    return write_page(corpus).read_text("utf-8")


def test_everything_is_on_the_page(corpus: Corpus) -> None:
    text = text_of(corpus)
    for part in (
        "Yaman",
        "Tintal",
        "CC0",
        "Asha",
        "broken.wav</b>: not audio",
        "of its samples clipped",
        "copy.mp3 and take-1.wav",
        "Held-out recordings that share something with training",
        "Plain split by recording",
        "LUFS",
        "unknown licence",
        "&lt;b&gt;odd &amp; name.wav",
    ):
        assert part in text, part
    assert text.count("<audio") == min(MAX_AUDIO_PLAYERS, corpus.summary["recordings"])
    assert text.count("<h1") == 1


def test_the_page_holds_all_it_needs_and_is_small(corpus: Corpus) -> None:
    text = text_of(corpus)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "<b>odd" not in text
    assert len(text) < 1_500_000


def test_it_is_left_alone_until_something_changes(corpus: Corpus, folder: Path, out: Path) -> None:
    page = write_page(corpus)
    before = page.stat().st_mtime_ns
    write_page(make(folder, out))
    assert page.stat().st_mtime_ns == before
    table(folder / "metadata.csv", [{"file_name": "take-0.wav", "raga": "Marwa"}])
    text = text_of(make(folder, out))
    assert "Marwa" in text
    assert "Yaman" not in text


def test_a_corpus_without_labels_and_with_a_lost_clip_still_has_a_page(folder: Path, out: Path) -> None:
    for n in range(3):
        write(folder / f"{n}.wav", sound(n))
    corpus = make(folder, out)
    (out / corpus.clips[0].file).unlink()
    for clip in corpus.clips[1:]:
        (out / clip.file).write_bytes(b"torn")
    text = text_of(corpus)
    assert "No labels are known" in text
    assert "cannot be played on the page" in text


def test_twins_are_kept_on_one_side(corpus: Corpus) -> None:
    (pair,) = corpus.summary["near_duplicates"]
    assert {pair["first"], pair["second"]} == {"copy.mp3", "take-1.wav"}
    sides = {clip.source_file: clip.split for clip in corpus.clips}
    assert sides["copy.mp3"] == sides["take-1.wav"]
    assert corpus.summary["split"]["leak"]["twin"] == 0


def test_cautions_name_what_is_wrong(corpus: Corpus) -> None:
    facts = corpus.summary
    levels = facts["recordings_as_found"]
    told = " ".join(caveats(facts, levels))
    for part in (
        "unknown licence",
        "consent",
        "1 recording clipped",
        "same sound",
        "2 files left out",
        "without words",
    ):
        assert part in told
    bought = {"licences": {"CC BY-NC-SA 4.0": 3}, "consent": {}, "sources": {}}
    assert "forbids commercial use" in " ".join(caveats({**facts, "rights": bought}, levels))


def test_words_for_numbers() -> None:
    assert (duration(8), duration(754), duration(15000)) == ("8 s", "12.6 min", "4.2 h")
    assert (counted(1, "file"), counted(2, "file")) == ("1 file", "2 files")
    rows = duration_bars({f"raga {n}": 100.0 - n for n in range(20)} | {"unknown": 30.0})
    assert (rows[0].percent, rows[-1].name, rows[-2].name, len(rows)) == (
        rows[0].percent,
        "unknown",
        "8 others",
        14,
    )
