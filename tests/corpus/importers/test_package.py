"""The contract of all importers, on small sources of our own; a new importer is a row in fixtures/importer_sources.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fixtures.importer_sources import ROWS, Row

from talim.corpus.captions import _ALIASES, _TEXT_COLUMNS
from talim.corpus.importers import registry
from talim.corpus.labels import COLUMNS
from talim.corpus.prepare import prepare_corpus
from talim.corpus.recordings import ImportResult
from talim.errors import TalimError, UsageError
from talim.synthesis.score_playback import ScorePlayer


@pytest.fixture(params=ROWS, ids=lambda row: row.make.__name__)
def row(request: pytest.FixtureRequest) -> Row:
    if request.param.needs:
        pytest.importorskip(request.param.needs)
    return request.param


@pytest.fixture
def source(row: Row, folder: Path) -> Path:
    return row.make(folder)


def found_in(row: Row, source: Path, out: Path) -> ImportResult:
    return registry.list_recordings(str(source), out, None, ScorePlayer())


def test_recordings_names_and_rows(row: Row, source: Path, out: Path) -> None:
    found = found_in(row, source, out)
    assert found.kind == row.kind
    names = [file.name for file in found.files]
    assert len(set(names)) == len(names)
    assert "".join(names).encode("utf-8")
    for file in found.files:
        assert all(column == column.lower() and text for column, text in file.row.items())
        assert all(part.seconds > 0 for part in file.sections)
        assert len(file.sound.hash()) == 64
    assert len({file.sound.hash() for file in found.files}) == len(names)


def test_find_recognises_the_kind(row: Row, source: Path, out: Path) -> None:
    assert registry.list_recordings(str(source), out, None, ScorePlayer()).kind == row.kind


def test_a_corpus_comes_of_it_with_rights_and_labels(row: Row, source: Path, out: Path) -> None:
    found = found_in(row, source, out)
    corpus = prepare_corpus(found, out, rate_hz=8000, clip_seconds=5, split="recording")
    assert corpus.summary["kind"] == row.kind
    assert corpus.summary["recordings"] == 3
    reasons = [skipped["reason"] for skipped in corpus.summary["skipped"]]
    assert len(reasons) == len(row.left_out)
    assert all(any(part in reason for reason in reasons) for part in row.left_out)
    first = next(
        clip
        for clip in corpus.clips
        if set(row.first.items()) <= set(clip.model_dump(exclude={"extra"}).items())
    )
    assert first.seconds > 1
    for clip in corpus.clips:
        rights = (clip.licence, clip.source, clip.performer, clip.release, clip.work, clip.consent)
        assert all(rights)
    again = prepare_corpus(found_in(row, source, out), out, rate_hz=8000, clip_seconds=5, split="recording")
    assert (again.work["decoded"], again.work["reused"], again.hash) == (0, 3, corpus.hash)


def test_nothing_usable_is_one_line(row: Row, source: Path, tmp_path: Path, out: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TalimError) as caught:
        registry.list_recordings(str(empty), out, row.kind, ScorePlayer())
    assert "\n" not in str(caught.value)
    assert str(empty) in str(caught.value) or "talim[" in str(caught.value)


def test_every_importer_is_in_the_contract() -> None:
    elsewhere = {"huggingface", "mirdata"}  # they need libraries: test_hub.py, test_loaders.py
    assert {row.kind for row in ROWS} | elsewhere == {importer.kind for importer in registry.IMPORTERS}


def test_an_unknown_kind_offers_the_nearest(folder: Path, out: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown kind of source 'symbtrr'; did you mean symbtr\?"):
        registry.list_recordings(str(folder), out, "symbtrr", ScorePlayer())
    with pytest.raises(UsageError, match="practice or symbtr:theory"):
        registry.list_recordings(str(folder), out, "symbtr:loud", ScorePlayer())


def test_the_guide_names_every_kind_and_every_column_that_it_promises() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "corpora.md").read_text("utf-8")
    rows = {line.split("`")[1].partition(":")[0] for line in guide.splitlines() if line.startswith("| `")}
    assert rows == {importer.kind for importer in registry.IMPORTERS}
    told = {
        word
        for line in guide.splitlines()
        if line.startswith("| ")
        for word in re.findall(r"`([a-z_]+)`", line)
    }
    understood = {column for columns in (*COLUMNS.values(), *_ALIASES.values()) for column in columns}
    understood |= {
        *_TEXT_COLUMNS,
        "beats",
        "chords",
        "mode_kind",
        "cycle_kind",
        "lead_performer",
        "release_mbid",
        "work_mbid",
    }
    kinds = {importer.kind for importer in registry.IMPORTERS} | {"audio_path"}
    assert told - kinds <= understood
