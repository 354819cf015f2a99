"""mirdata: recordings and annotations of any of its loaders that have audio, or are joined with your files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from talim.corpus.importers import otmm
from talim.corpus.importers.folder import check_folder
from talim.corpus.importers.protocol import ImportRequest
from talim.corpus.metadata import MetadataRow, plain_row
from talim.corpus.recordings import AnnotatedSection, FileAudio, ImportResult, SourceFile, normalize_path
from talim.errors import TalimError, UsageError

# Attributes of a track, by the column they fill; the first that is there counts.
_ATTRIBUTES = {
    "mbid": ("mbid",),
    "title": ("title", "name", "recording"),
    "raga": ("raga", "raaga"),
    "makam": ("makam",),
    "tala": ("taala", "tala"),
    "usul": ("usul",),
    "laya": ("laya",),
    "form": ("form",),
    "artist": ("artist", "artists", "singer", "performer"),
    "instruments": ("instruments", "instrument"),
    "release": ("release", "concert", "album"),
    "work": ("work", "composition"),
    "tonic_hz": ("tonic_fine_tuned", "tonic"),
    "tradition": ("tradition",),
}


def list_recordings(request: ImportRequest) -> ImportResult:
    """The tracks of the loader that the detail names, its data home being the source."""
    name, folder = request.detail, request.path
    if not name:
        raise UsageError("--from mirdata needs a loader's name, such as mirdata:saraga_hindustani")
    check_folder(folder, request.out)
    return dataset_recordings(_dataset(name, folder), name, folder, request.out)


def dataset_recordings(dataset: Any, name: str, folder: Path, out: Path) -> ImportResult:
    """The same for a mirdata.core.Dataset that is open already."""
    licence = " ".join(str(getattr(dataset, "_license_info", "") or "").split())
    fixed = {
        "source": f"mirdata {name} {getattr(dataset, 'version', '')}".strip(),
        "tradition": _tradition(name),
    }
    fixed = {column: text for column, text in (fixed | {"licence": licence}).items() if text}
    files: list[SourceFile] = []
    left_out: list[dict[str, str]] = []
    silent: dict[str, MetadataRow] = {}
    notes: list[dict[str, str]] = []
    for key, track in _tracks(dataset, name):
        row, sections = _track_row(key, track, fixed, notes)
        audio = getattr(track, "audio_path", None)
        if audio is None:
            silent[row.get("mbid", key).lower()] = row
        elif not Path(audio).is_file():
            left_out.append(
                {"file": key, "reason": f"its sound is not there: {_relative_name(Path(audio), folder)}"}
            )
        else:
            path = Path(audio)
            files.append(SourceFile(path, _relative_name(path, folder), FileAudio(path), row, sections))
    if not files and silent:
        return otmm.join_tables("mirdata", folder, out, silent)
    left_out += [{"file": key, "reason": "this loader gives it no sound"} for key in sorted(silent)]
    return ImportResult("mirdata", str(folder), tuple(files), tuple(left_out), tuple(notes))


def _dataset(name: str, folder: Path) -> Any:
    try:
        import mirdata  # pyright: ignore[reportMissingImports] (an optional extra)
    except ImportError as error:
        raise TalimError("mirdata is not installed; type: pip install 'talim[mirdata]'") from error
    if name not in mirdata.list_datasets():
        raise UsageError(
            f"mirdata has no loader {name!r}; it has, among others, saraga_hindustani and compmusic_raga"
        )
    return mirdata.initialize(name, data_home=str(folder))


def _tracks(dataset: Any, name: str) -> Iterator[tuple[str, Any]]:
    try:
        keys = list(dataset.track_ids)
    except FileNotFoundError as error:
        load = f"import mirdata; mirdata.initialize('{name}').download(['index'])"
        raise TalimError(f'mirdata {name}: its index is not here yet; type: python -c "{load}"') from error
    for key in keys:
        yield str(key), dataset.track(key)


def _track_row(
    key: str, track: Any, fixed: MetadataRow, notes: list[dict[str, str]]
) -> tuple[MetadataRow, tuple[AnnotatedSection, ...]]:
    """The row and the sections of a track; what cannot be read of it is noted and left empty."""

    def asked(name: str) -> Any:
        try:
            return getattr(track, name, None)
        except Exception as error:  # annotations of one track may be missing or damaged in any way
            notes.append({"file": key, "note": f"{name} cannot be read: {' '.join(str(error).split())}"})
            return None

    told: dict[str, object] = {}
    for column, names in _ATTRIBUTES.items():
        told[column] = next(
            (found for found in (asked(name) for name in names) if found not in (None, "")), None
        )
    row = plain_row(told)
    metadata, tags = asked("metadata"), asked("mb_tags")
    if isinstance(metadata, Mapping):
        row = dunya_row(metadata) | row
    if isinstance(tags, Mapping):
        row = otmm.musicbrainz_row(tags) | row
    row = fixed | row | ({"recording": key} if "mbid" not in row else {})
    row["tradition"] = _tradition(row.get("tradition", "")) or row.get("tradition", "")
    return {column: text for column, text in row.items() if text}, _sections(asked("sections"))


def dunya_row(metadata: Mapping[str, Any]) -> MetadataRow:
    """The row of a recording from its Dunya metadata, as Saraga's json files hold it."""
    artists = [entry for entry in metadata.get("artists") or [] if isinstance(entry, dict)]
    leads = [entry for entry in artists if entry.get("lead")]
    releases = metadata.get("release") or []
    works = metadata.get("works") or []
    return plain_row(
        {
            "mbid": metadata.get("mbid"),
            "title": metadata.get("title"),
            "raga": _names(metadata.get("raags") or metadata.get("raaga")),
            "tala": _names(metadata.get("taals") or metadata.get("taala")),
            "laya": _names(metadata.get("layas")),
            "form": _names(metadata.get("forms") or metadata.get("form")),
            "artists": [
                _name(entry.get("artist")) for entry in [*leads, *(a for a in artists if a not in leads)]
            ],
            "lead_performer": [_name(entry.get("artist")) for entry in leads],
            "instruments": list(dict.fromkeys(_name(entry.get("instrument")) for entry in artists)),
            "lead_instrument": list(dict.fromkeys(_name(entry.get("instrument")) for entry in leads)),
            "release": _names(releases[:1]),
            "release_mbid": [entry.get("mbid") for entry in releases[:1]],
            "work": _names(works[:1]),
            "work_mbid": [entry.get("mbid") for entry in works[:1]],
        }
    )


def _name(entry: Any) -> str | None:
    """The name of a Dunya entry: the common spelling where there is one."""
    if not isinstance(entry, dict):
        return str(entry) if entry else None
    return entry.get("common_name") or entry.get("name") or entry.get("title")


def _names(entries: Any) -> list[str]:
    return [name for name in (_name(entry) for entry in entries or []) if name]


def _sections(data: Any) -> tuple[AnnotatedSection, ...]:
    """mirdata's SectionData: intervals [n, 2] in seconds and labels, to which some loaders add a number."""
    intervals, labels = getattr(data, "intervals", None), getattr(data, "labels", None)
    if intervals is None or labels is None:
        return ()
    return tuple(
        AnnotatedSection(float(start), float(stop) - float(start), re.sub(r"-\d+$", "", str(label)))
        for (start, stop), label in zip(intervals, labels, strict=False)
    )


def _tradition(name: str) -> str:
    folded = name.lower()
    if "makam" in folded:
        return "makam"
    return next((word for word in ("hindustani", "carnatic") if word in folded), "")


def _relative_name(path: Path, folder: Path) -> str:
    here = folder.resolve()
    return (
        normalize_path(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else path.name
    )
