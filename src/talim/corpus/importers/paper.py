"""The paper's own tables: title, mbid, raga or makam, taal or usul, laya, instrument, audio_path."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from talim.corpus.importers.contract import Request
from talim.corpus.importers.folder import walk
from talim.corpus.metadata import Row, read_rows
from talim.corpus.recordings import FileSound, Found, SourceFile, plain_name
from talim.errors import UsageError

_LABELS = {"raga": "hindustani", "raag": "hindustani", "makam": "makam"}


def recognises(path: Path) -> bool:
    """Whether it is a CSV file with an audio_path and a raga or makam column."""
    columns = _columns(path) if path.suffix.lower() == ".csv" and path.is_file() else set()
    return "audio_path" in columns and bool(columns & {*_LABELS})


def find(request: Request) -> Found:
    """The recordings that the rows name; rows without a file are left out by name.

    Two rows that claim one file for different recordings are both left out: nobody can say whose labels
    hold. Raises UsageError where the table lacks the columns.
    """
    path = request.path
    if not recognises(path):
        raise UsageError(f"{path}: no table with audio_path and raga or makam; the paper's CSV is expected")
    tradition = next(_LABELS[column] for column in _LABELS if column in _columns(path))
    places: dict[str, Path] | None = None
    left_out: list[dict[str, str]] = []
    claims: dict[Path, list[Row]] = defaultdict(list)
    for line, row in read_rows(path):
        wanted = row.pop("audio_path", "")
        place = _direct(path.parent, wanted)
        if wanted and place is None:
            places = places if places is not None else _by_name(path.parent, request.out)
            place = places.get(Path(wanted.replace("\\", "/")).name)
        if place is None:
            reason = f"its file is not there: {wanted}" if wanted else "its audio_path is empty"
            left_out.append({"file": _shown(row, line), "reason": reason})
        else:
            claims[place].append({"tradition": tradition, **row})
    files = [
        SourceFile(place, _name(path.parent, place), FileSound(place), rows[0])
        for place, rows in claims.items()
        if len({row.get("mbid", row.get("title", "")) for row in rows}) == 1
    ]
    for place, rows in claims.items():
        if place not in {file.path for file in files}:
            what = (
                f"{len(rows)} rows of different recordings name this one file; whose labels hold is unknown"
            )
            left_out += [
                {"file": _shown(row, 0), "reason": f"{_name(path.parent, place)}: {what}"} for row in rows
            ]
    return Found("paper-csv", str(path), tuple(sorted(files, key=lambda file: file.name)), tuple(left_out))


def _columns(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return set()
    return {cell.strip().strip('"').lower() for cell in header.replace(";", ",").split(",")}


def _direct(base: Path, wanted: str) -> Path | None:
    """The file as it is written, or relative to the table."""
    path = base / wanted.replace("\\", "/")
    return path if wanted and path.is_file() else None


def _by_name(base: Path, out: Path) -> dict[str, Path]:
    """Files below the table's folder by their bare name, where it is unique: the paper keeps only that."""
    found: dict[str, list[Path]] = defaultdict(list)
    for place in walk(base, out):
        for path in place.iterdir():
            if path.is_file():
                found[path.name].append(path)
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def _name(base: Path, path: Path) -> str:
    inside = path.resolve().is_relative_to(base.resolve())
    return (
        plain_name(path.resolve().relative_to(base.resolve()))
        if inside
        else plain_name(path).replace("..", "up")
    )


def _shown(row: Row, line: int) -> str:
    named = [text for text in (row.get("title"), row.get("mbid")) if text]
    return f"{named[0]} ({named[1]})" if len(named) == 2 else "".join(named) or f"line {line}"
