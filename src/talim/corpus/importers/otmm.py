"""OTMM, the Turkish makam recordings of the DLfM 2016 data set: metadata without audio, joined with your files.

Two layouts: a table like recordings_1000.csv, or the original annotations.json with data/<Makam>/<mbid>.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from talim.corpus.importers.folder import check_folder
from talim.corpus.importers.protocol import MBID, ImportRequest, audio_by_mbid
from talim.corpus.metadata import MetadataRow, plain_row, read_rows
from talim.corpus.recordings import FileAudio, ImportResult, SourceFile, normalize_path
from talim.errors import TalimError, UsageError

LICENCE = "metadata CC BY-NC-SA 4.0 (OTMM); the recording's own rights: unknown"
SOURCE = "OTMM makam recognition data set (DLfM 2016), joined with own files"
_REQUIRED_FIELDS = {"mbid", "makam_annotated", "tonic_hz"}


def matches(path: Path) -> bool:
    """Whether a folder holds the annotations in one of the two layouts."""
    return path.is_dir() and (_annotations(path) is not None or _table(path) is not None)


def list_recordings(request: ImportRequest) -> ImportResult:
    """Your sound files, named by MusicBrainz id, with the makam, usul and tonic that the data set knows.

    Raises TalimError where there is no such file: the data set itself holds no audio.
    """
    folder = request.path
    check_folder(folder, request.out)
    annotations, table = _annotations(folder), _table(folder)
    if table:
        rows = {row["mbid"].lower(): row for _, row in read_rows(table) if "mbid" in row}
        known = {mbid: _table_row(row) for mbid, row in rows.items()}
    elif annotations:
        known = dict(_json_rows(annotations))
    else:
        raise UsageError(f"{folder}: no OTMM metadata; recordings_1000.csv or annotations.json is expected")
    return join_tables("otmm", folder, request.out, known)


def join_tables(kind: str, folder: Path, out: Path, known: Mapping[str, MetadataRow]) -> ImportResult:
    """Rows by MusicBrainz id, joined with the sound files below a folder that carry such an id."""
    sounds = audio_by_mbid(folder, out)
    files, left_out = [], []
    for mbid, paths in sorted(sounds.items()):
        for number, path in enumerate(paths):
            name = normalize_path(path.relative_to(folder))
            if mbid not in known:
                left_out.append({"file": name, "reason": "its MusicBrainz id is none of this data set's"})
            elif number:
                left_out.append(
                    {"file": name, "reason": f"a second file for {mbid}; {paths[0].name} is used"}
                )
            else:
                files.append(SourceFile(path, name, FileAudio(path), known[mbid]))
    if not files:
        raise TalimError(
            f"{folder}: {len(known)} recordings are described and none of them is here: this data set has no audio; "
            f"put your own files below this folder, named by MusicBrainz id, such as {min(known, default='ID')}.mp3"
        )
    missing = len(known) - len(files)
    text = f"{missing} of the {len(known)} recordings of this data set have no sound file here"
    notes = ({"file": folder.name, "note": text},) if missing else ()
    return ImportResult(kind, str(folder), tuple(files), tuple(left_out), notes)


def musicbrainz_row(tags: Mapping[str, Any]) -> MetadataRow:
    """The row of a recording from its MusicBrainz tags, the file data/<Makam>/<mbid>.json."""
    artists = [artist for artist in tags.get("artists") or [] if isinstance(artist, dict)]
    instruments = [
        attribute
        for artist in artists
        for attribute in (
            [*(artist.get("attribute-list") or [])] or ["voice" if artist.get("type") == "vocal" else None]
        )
    ]
    releases, works = _named(tags.get("releases")), _named(tags.get("works"))
    return plain_row(
        {
            "title": tags.get("title"),
            "usul": _attributes(tags.get("usul")),
            "form": _attributes(tags.get("form")),
            "artists": [artist.get("name") for artist in artists],
            "instruments": list(dict.fromkeys(instruments)),
            "release": [name for name, _ in releases[:1]],
            "release_mbid": [mbid for _, mbid in releases[:1]],
            "work": [name for name, _ in works[:1]],
            "work_mbid": [mbid for _, mbid in works[:1]],
        }
    )


def fill_missing(row: MetadataRow, mbid: str, makam: str, tonic_hz: object) -> MetadataRow:
    """A row with what OTMM's annotation says itself: makam and tonic."""
    told = plain_row({"makam": makam, "tonic_hz": tonic_hz})
    return row | told | {"mbid": mbid, "tradition": "makam", "licence": LICENCE, "source": SOURCE}


def _table_row(row: MetadataRow) -> MetadataRow:
    """A row of recordings_1000.csv: the annotated makam counts, commas divide several values."""
    tonic = row.get("tonic_hz") or row.get("tonic_hz_recognition", "")
    cells = {name: text for name, text in row.items() if name not in ("makam", "tonic_hz_recognition")}
    made = fill_missing(cells, row["mbid"], row.get("makam_annotated", row.get("makam", "")), tonic)
    return made | ({"artists": row["artists"].replace(",", " | ")} if "artists" in row else {})


def _json_rows(path: Path) -> Iterable[tuple[str, MetadataRow]]:
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TalimError(f"{path}: cannot be read as JSON: {error}") from error
    tags = {file.stem.lower(): file for file in (path.parent / "data").glob("*/*.json")}
    for entry in entries:
        found = MBID.search(str(entry.get("mbid", "")))
        if not found:
            continue
        mbid = found.group().lower()
        try:
            told = musicbrainz_row(json.loads(tags[mbid].read_text("utf-8"))) if mbid in tags else {}
        except (OSError, ValueError) as error:
            raise TalimError(f"{tags[mbid]}: cannot be read as JSON: {error}") from error
        yield mbid, fill_missing(told, mbid, str(entry.get("makam") or ""), entry.get("tonic"))


def _attributes(value: Any) -> list[str]:
    """The names of usuls or forms, which MusicBrainz tags spell as attributes or as tags."""
    entries = [entry for entry in value or [] if isinstance(entry, dict)]
    names = [
        entry.get("mb_attribute") or entry.get("mb_tag") or entry.get("attribute_key") for entry in entries
    ]
    return [str(name) for name in names if name]


def _named(value: Any) -> list[tuple[str | None, str | None]]:
    entries = [entry for entry in value or [] if isinstance(entry, dict)]
    return [
        (entry.get("title") or entry.get("name"), entry.get("mbid") or entry.get("id")) for entry in entries
    ]


def _annotations(folder: Path) -> Path | None:
    """The original layout, here or in the folder that its archive unpacks to."""
    places = [folder, *sorted(folder.glob("*otmm_makam_recognition_dataset*"))]
    return next(
        (
            p / "annotations.json"
            for p in places
            if (p / "annotations.json").is_file() and (p / "data").is_dir()
        ),
        None,
    )


def _table(folder: Path) -> Path | None:
    """A table in the layout of recordings_1000.csv."""
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", errors="replace") as file:
            if {*file.readline(4096).strip().split(",")} >= _REQUIRED_FIELDS:
                return path
    return None
