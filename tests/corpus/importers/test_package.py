"""The contract of all importers on small generated sources; a new importer is a row in fixtures/importer_sources.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fixtures.importer_sources import ROWS, Row

from talim.corpus.beat_chord_files import COLUMNS as BEAT_CHORD_COLUMNS
from talim.corpus.captions import COLUMN_ALIASES, TEXT_COLUMNS
from talim.corpus.importers import registry
from talim.corpus.labels import COLUMNS
from talim.corpus.prepare import prepare
from talim.corpus.recordings import ImportResult
from talim.corpus.split_groups import SPLIT_COLUMN
from talim.corpus.tables import FILE_COLUMNS
from talim.errors import TalimError


@pytest.fixture(params=ROWS, ids=lambda row: row.make.__name__)
def row(request: pytest.FixtureRequest) -> Row:
    if request.param.needs:
        pytest.importorskip(request.param.needs)
    return request.param


@pytest.fixture
def source(row: Row, folder: Path) -> Path:
    return row.make(folder)


def import_source(source: Path, out: Path) -> ImportResult:
    return registry.list_recordings(str(source), out)


def test_list_recordings_gives_unique_names_and_clean_rows(row: Row, source: Path, out: Path) -> None:
    imported = import_source(source, out)
    assert imported.format == row.format
    names = [file.name for file in imported.files]
    assert len(set(names)) == len(names)
    assert "".join(names).encode("utf-8")
    for file in imported.files:
        assert all(column == column.lower() and text for column, text in file.row.items())
        assert all(part.seconds > 0 for part in file.sections)
        assert len(file.audio.hash()) == 64
    assert len({file.audio.hash() for file in imported.files}) == len(names)


def test_prepare_of_every_format_gives_labels_and_rights(row: Row, source: Path, out: Path) -> None:
    corpus = prepare(source, out, sample_rate=8000, clip_seconds=5, split_by="recording")
    assert corpus.summary["source_format"] == row.format
    assert corpus.summary["recordings"] == 3
    reasons = [skipped["reason"] for skipped in corpus.summary["skipped"]]
    assert len(reasons) == len(row.skip_reasons)
    assert all(any(part in reason for reason in reasons) for part in row.skip_reasons)
    first = next(
        clip for clip in corpus.clips if set(row.first.items()) <= set(clip.model_dump(exclude={"extra"}).items())
    )
    assert first.seconds > 1
    for clip in corpus.clips:
        rights = (clip.licence, clip.source, clip.performer, clip.release, clip.work, clip.consent)
        assert all(rights)
    again = prepare(source, out, sample_rate=8000, clip_seconds=5, split_by="recording")
    assert (again.prepare_stats["decoded"], again.prepare_stats["reused"], again.hash) == (0, 3, corpus.hash)


def test_list_recordings_of_an_empty_folder_raises_one_line(row: Row, source: Path, tmp_path: Path, out: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TalimError) as caught:
        registry.list_recordings(str(empty), out, row.format)
    assert "\n" not in str(caught.value)
    assert str(empty) in str(caught.value) or "pip install '.[" in str(caught.value)


def test_importers_are_all_in_the_contract() -> None:
    elsewhere = {"huggingface", "mirdata"}  # they need libraries: test_huggingface.py, test_mirdata.py
    assert {row.format for row in ROWS} | elsewhere == {importer.format for importer in registry.IMPORTERS}


def test_documentation_names_every_format_and_known_columns() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "corpus-formats.md").read_text("utf-8")
    formats, columns = page.split("## Metadata columns")
    rows = [line for line in formats.splitlines() if line.startswith("| `") and "--format" not in line]
    assert {re.split("[`:]", row)[1] for row in rows} == {importer.format for importer in registry.IMPORTERS}
    table = [line for line in columns.split("\n\n")[1].splitlines() if line.startswith("| ")]
    documented = {word for line in table for word in re.findall(r"`([a-z_]+)`", line)}
    known = {column for columns in (*COLUMNS.values(), *COLUMN_ALIASES.values()) for column in columns}
    known |= {*TEXT_COLUMNS, *BEAT_CHORD_COLUMNS, *FILE_COLUMNS}
    known |= {"mode_kind", "cycle_kind", "lead_performer", "release_mbid", "work_mbid", "ai_generated", SPLIT_COLUMN}
    assert len(documented) > 30
    assert documented <= known
