"""OTMM, the Turkish makam recordings of the DLfM 2016 data set: metadata without audio, joined with your files.

Two layouts: a table like recordings_1000.csv, or the original annotations.json with data/<Makam>/<mbid>.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from talim.atomic_io import parse_json
from talim.corpus.importers.folder import check_folder
from talim.corpus.importers.protocol import MBID, ImportRequest, audio_by_mbid
from talim.corpus.recordings import FileAudio, ImportResult, SourceFile, normalize_path
from talim.corpus.tables import MetadataRow, plain_row, read_rows
from talim.errors import TalimError
from talim.html.formatting import format_counted

LICENCE = "metadata CC BY-NC-SA 4.0 (OTMM); the recording's own rights: unknown"
SOURCE = "OTMM makam recognition data set (DLfM 2016), joined with own files"
_REQUIRED_FIELDS = {"mbid", "makam_annotated", "tonic_hz"}


def matches(path: Path) -> bool:
    """Whether a folder has the annotations in one of the two layouts."""
    return path.is_dir() and (_annotations(path) is not None or _table(path) is not None)


def list_recordings(request: ImportRequest) -> ImportResult:
    """Your audio files, named by MusicBrainz id, with makam, usul and tonic from the data set.

    Raises TalimError where there is no such file: the data set itself has no audio.
    """
    folder = request.path
    check_folder(folder, request.out)
    annotations, table = _annotations(folder), _table(folder)
    if table:
        rows = {row["mbid"].lower(): row for _, row in read_rows(table).rows if "mbid" in row}
        described = {mbid: _table_row(row) for mbid, row in rows.items()}
    elif annotations:
        described = dict(_json_rows(annotations))
    else:
        raise TalimError(f"{folder}: no OTMM metadata; recordings_1000.csv or annotations.json is expected")
    return join_tables("otmm", folder, request.out, described)


def join_tables(format: str, folder: Path, out: Path, described: Mapping[str, MetadataRow]) -> ImportResult:
    """Rows by MusicBrainz id, joined with the audio files below a folder that carry such an id."""
    files, skipped = list[SourceFile](), list[dict[str, str]]()
    for mbid, paths in sorted(audio_by_mbid(folder, out, skipped).items()):
        for number, path in enumerate(paths):
            name = normalize_path(path.relative_to(folder))
            if mbid not in described:
                skipped.append({"file": name, "reason": "its MusicBrainz id is not in this data set"})
            elif number:
                skipped.append({"file": name, "reason": f"a second file for {mbid}; {paths[0].name} is used"})
            else:
                files.append(SourceFile(path, name, FileAudio(path), described[mbid]))
    if not files:
        raise TalimError(
            f"{folder}: {format_counted(len(described), 'recording')} described, and no sound of any is here: this "
            "data set has no audio; put your own files below this folder, named by MusicBrainz id, such as "
            f"{min(described, default='ID')}.mp3"
        )
    missing = len(described) - len(files)
    text = f"{missing} of {format_counted(len(described), 'recording')} of this data set without an audio file here"
    notes = ({"file": folder.name, "note": text},) if missing else ()
    return ImportResult(format, str(folder), tuple(files), tuple(skipped), notes)


def musicbrainz_row(tags: Mapping[str, Any]) -> MetadataRow:
    """The row of a recording from its MusicBrainz tags (data/<Makam>/<mbid>.json)."""
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
    """A row with makam and tonic of OTMM's annotation, licence and source."""
    annotated = plain_row({"makam": makam, "tonic_hz": tonic_hz})
    return row | annotated | {"mbid": mbid, "tradition": "makam", "licence": LICENCE, "source": SOURCE}


def _table_row(row: MetadataRow) -> MetadataRow:
    """A row of recordings_1000.csv: the annotated makam wins; artists are separated by commas."""
    tonic = row.get("tonic_hz") or row.get("tonic_hz_recognition", "")
    cells = {name: text for name, text in row.items() if name not in ("makam", "tonic_hz_recognition")}
    filled = fill_missing(cells, row["mbid"], row.get("makam_annotated", row.get("makam", "")), tonic)
    return filled | ({"artists": row["artists"].replace(",", " | ")} if "artists" in row else {})


def _json_rows(path: Path) -> Iterable[tuple[str, MetadataRow]]:
    try:
        entries = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TalimError(f"{path}: cannot be read as JSON: {error}") from error
    tags = {file.stem.lower(): file for file in (path.parent / "data").glob("*/*.json")}
    for entry in entries:
        match = MBID.search(str(entry.get("mbid", "")))
        if not match:
            continue
        mbid = match.group().lower()
        try:
            row = musicbrainz_row(parse_json(tags[mbid].read_text("utf-8"))) if mbid in tags else {}
        except (OSError, ValueError) as error:
            raise TalimError(f"{tags[mbid]}: cannot be read as JSON: {error}") from error
        yield mbid, fill_missing(row, mbid, str(entry.get("makam") or ""), entry.get("tonic"))


def _attributes(value: Any) -> list[str]:
    """The names of usuls or forms, which MusicBrainz has as attributes or as tags."""
    entries = [entry for entry in value or [] if isinstance(entry, dict)]
    names = [entry.get("mb_attribute") or entry.get("mb_tag") or entry.get("attribute_key") for entry in entries]
    return [str(name) for name in names if name]


def _named(value: Any) -> list[tuple[str | None, str | None]]:
    entries = [entry for entry in value or [] if isinstance(entry, dict)]
    return [(entry.get("title") or entry.get("name"), entry.get("mbid") or entry.get("id")) for entry in entries]


def _annotations(folder: Path) -> Path | None:
    """annotations.json of the original layout, in the folder or in the one that its archive unpacks to."""
    for root in (folder, *sorted(folder.glob("*otmm_makam_recognition_dataset*"))):
        if (root / "annotations.json").is_file() and (root / "data").is_dir():
            return root / "annotations.json"
    return None


def _table(folder: Path) -> Path | None:
    """A table in the layout of recordings_1000.csv."""
    for path in sorted(folder.glob("*.csv")):
        if not path.is_file():  # opening a pipe may never return
            continue
        try:
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                head = file.readline(4096)
        except OSError:
            continue
        if {*head.strip().split(",")} >= _REQUIRED_FIELDS:
            return path
    return None
