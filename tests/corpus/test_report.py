"""The corpus page: complete, self-contained, and rewritten only where something changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures.importer_sources import own_folder, sound, table
from fixtures.prepared_corpus import make

from talim.audio import Audio, write
from talim.corpus import report
from talim.corpus.manifest import Corpus
from talim.corpus.report import MAX_AUDIO_PLAYERS, caveats, duration_bars, problem_counts
from talim.html.formatting import format_counted
from talim.html.render import render


@pytest.fixture
def corpus(folder: Path, out: Path) -> Corpus:
    own_folder(folder)
    loud = np.clip(4 * sound(7).samples[0], -1, 1)
    soundfile.write(folder / "clipped.wav", loud, 8000)
    write(folder / "copy.mp3", Audio(0.5 * sound(1).samples, 8000).resample(16000))
    (folder / "<b>odd & name.wav").write_text("no sound")
    return make(folder, out)


def text_of(corpus: Corpus) -> str:
    return report.write(corpus).read_text("utf-8")


def test_write_puts_all_facts_on_the_page(corpus: Corpus) -> None:
    text = text_of(corpus)
    for part in (
        "Yaman",
        "Tintal",
        "CC0",
        "Asha",
        "broken.wav</b>: not audio",
        "of its samples clipped",
        "copy.mp3</b>: the same sound as take-1.wav",
        "Held-out recordings that share something with training",
        "Random split by recording",
        "LUFS",
        "unknown licence",
        "&lt;b&gt;odd &amp; name.wav",
    ):
        assert part in text, part
    assert text.count("<audio") == min(MAX_AUDIO_PLAYERS, corpus.summary["recordings"])
    assert text.count("<h1") == 1
    recordings = corpus.summary["recordings"]
    assert f">{format_counted(recordings, 'recording')} are played here, up to 12 s of each.<" in text


def test_write_says_what_limits_leave_out(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = len({clip.caption for clip in corpus.clips if clip.caption})
    for limit, value in (("MAX_AUDIO_PLAYERS", 2), ("MAX_PLAYER_SECONDS", 1.0), ("MAX_CAPTIONS", captions - 1)):
        monkeypatch.setattr(report, limit, value)
    text = render("corpus.html", stamp="", **report.template_values(corpus))
    recordings = format_counted(corpus.summary["recordings"], "recording")
    assert text.count("<audio") == 2
    assert f">2 of {recordings} are played here, up to 1 s of each.<" in text
    assert f"Examples, {captions - 1} of {captions}:" in text


def test_write_gives_a_small_self_contained_page(corpus: Corpus) -> None:
    text = text_of(corpus)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "<b>odd" not in text
    assert len(text) < 1_500_000


def test_write_of_an_unchanged_corpus_keeps_the_page(corpus: Corpus, folder: Path, out: Path) -> None:
    page = report.write(corpus)
    before = page.stat().st_mtime_ns
    report.write(make(folder, out))
    assert page.stat().st_mtime_ns == before
    table(folder / "metadata.csv", [{"file_name": "take-0.wav", "raga": "Marwa"}])
    text = text_of(make(folder, out))
    assert "Marwa" in text
    assert "Yaman" not in text


def test_write_without_labels_and_with_missing_clips_gives_a_page(folder: Path, out: Path) -> None:
    for n in range(3):
        write(folder / f"{n}.wav", sound(n))
    corpus = make(folder, out)
    (out / corpus.clips[0].file).unlink()
    for clip in corpus.clips[1:]:
        (out / clip.file).write_bytes(b"torn")
    (out / "report" / "index.html").unlink()
    text = text_of(corpus)
    assert "No labels are known" in text
    assert "<audio" not in text
    assert text.count("cannot be played on the page") == 3


def test_write_of_a_corpus_without_captions_says_what_they_would_add(folder: Path, out: Path) -> None:
    for number in range(2):
        write(folder / f"{number}.wav", sound(number))
    text = text_of(make(folder, out))
    assert "2 recordings: no caption yet" in text
    assert "Only one held-out recording: an interval by recording needs two or more. A comparison decides from" in text
    assert "No caption. Training." in text
    assert "Captions would let a prompt choose within the music" in text
    assert "Examples:" not in text


def test_prepare_with_a_copy_leaves_it_out(corpus: Corpus) -> None:
    row = {"file": "copy.mp3", "reason": "the same sound as take-1.wav", "copy_of": "take-1.wav"}
    assert row in corpus.summary["skipped"]
    assert "No two files hold the same audio." not in text_of(corpus)
    assert corpus.summary["near_duplicates"] == []
    assert corpus.summary["recordings"] == 4


def test_caveats_name_every_problem(corpus: Corpus) -> None:
    facts = corpus.summary
    levels = facts["source_levels"]

    def told(**changes: Any) -> list[str]:
        changed = {**facts, **changes}
        return caveats(changed, problem_counts(changed, levels))

    text = " ".join(told())
    for part in (
        "unknown licence",
        "4 recordings without a consent",
        "1 recording clipped",
        "3 files skipped",
        "without a caption",
    ):
        assert part in text
    notes = [
        {"file": "metadata.csv", "note": "line 3 matches no recording here and is not used: 'x.wav'"},
        {"file": "unknown names", "note": "raga 'Yamna' (1 recording): did you mean Yaman?"},
    ]
    lines = told(notes=[{"file": "a.wav", "note": "ends early"}, *notes])
    assert lines[:2] == [
        "metadata.csv: line 3 matches no recording here and is not used: 'x.wav'.",
        "Unknown name: raga 'Yamna' (1 recording): did you mean Yaman?",
    ]
    rights = {"licences": {"we paid for it": 2, "unknown": 1, "mine": 1}, "consent": {}, "sources": {}}
    assert any(line.startswith("3 recordings with an unknown licence") for line in told(rights=rights))
    rights = {"licences": {"CC BY-NC-SA 4.0": 3}, "consent": {}, "sources": {}}
    assert "forbids commercial use" in " ".join(told(rights=rights))
    rights["consent"] = {"signed form": 1, "unknown": 2, "refused": 1}  # some have one: the others are counted
    lines = told(rights=rights)
    assert "1 recording whose performers refused consent: take them out." in lines
    assert any(line.startswith("2 recordings without a consent of the performers on record") for line in lines)


def test_duration_bars_groups_the_rest_and_puts_unknown_last() -> None:
    rows = duration_bars({f"raga {n}": 100.0 - n for n in range(20)} | {"unknown": 30.0})
    assert (len(rows), rows[-2].name, rows[-1].name) == (14, "8 others", "unknown")
    others = sum(100.0 - n for n in range(12, 20))
    assert rows[-2].percent == 100.0
    assert rows[0].percent == round(100 * 100 / others, 1)


def test_title_of_a_folder_called_corpus_names_the_folder_of_the_recordings(tmp_path: Path) -> None:
    assert report.title_of(tmp_path / "manager" / "corpus", "sitar") == "Corpus of sitar"
    assert report.title_of(tmp_path / "manager" / "corpus") == "corpus"
    assert report.title_of(tmp_path / "sitar-takes") == "sitar-takes"
