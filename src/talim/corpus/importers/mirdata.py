"""mirdata: recordings and annotations of its loaders that have audio or can be joined with your files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from talim.corpus.importers import otmm
from talim.corpus.importers.folder import check_folder
from talim.corpus.importers.protocol import ImportRequest
from talim.corpus.recordings import AnnotatedSection, FileAudio, ImportResult, SourceFile, normalize_path
from talim.corpus.split_groups import SPLIT_COLUMN
from talim.corpus.tables import MetadataRow, plain_row
from talim.errors import TalimError, UsageError

# Attributes of a track by the column they fill; the first present one counts.
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
    SPLIT_COLUMN: ("split", "subset"),
}
# Where a track has several sounds, the one of the whole, as one microphone or mix; `audio_path` comes first.
_AUDIO_PATHS = ("audio_path", "audio_mix_path", "audio_mic_path", "audio_path_stereo", "audio_path_mono")


def list_recordings(request: ImportRequest) -> ImportResult:
    """The tracks of the loader named in the detail (mirdata:LOADER), with the source as its data home."""
    name, folder = request.detail, request.path
    if not name:
        raise UsageError("--format mirdata needs a loader's name, for example mirdata:saraga_hindustani")
    check_folder(folder, request.out)
    return dataset_recordings(_dataset(name, folder), name, folder, request.out)


def dataset_recordings(dataset: Any, name: str, folder: Path, out: Path) -> ImportResult:
    """The tracks of a mirdata.core.Dataset."""
    licence = " ".join(str(getattr(dataset, "_license_info", "") or "").split())
    defaults = {
        "source": f"mirdata {name} {getattr(dataset, 'version', '')}".strip(),
        "tradition": _tradition(name),
        "licence": licence,
    }
    defaults = {column: text for column, text in defaults.items() if text}
    files: list[SourceFile] = []
    skipped: list[dict[str, str]] = []
    without_audio: dict[str, MetadataRow] = {}
    notes: list[dict[str, str]] = []
    for key, track in _tracks(dataset, name):
        row, sections = _track_row(key, track, defaults, notes)
        audio_path, others = _audio_path(track)
        if audio_path is None and others:
            skipped.append({"file": key, "reason": f"of its sounds none is that of the whole: {', '.join(others)}"})
            continue
        if audio_path is None:
            without_audio[row.get("mbid", key).lower()] = row
            continue
        path = Path(audio_path)
        file_name = _relative_name(path, folder)
        if path.is_file():
            files.append(SourceFile(path, file_name, FileAudio(path), row, sections))
        else:
            skipped.append({"file": key, "reason": f"its audio file is missing: {file_name}"})
    if not files and without_audio:
        return otmm.join_tables("mirdata", folder, out, without_audio)
    if not files and skipped and all("of its sounds" in each["reason"] for each in skipped):
        raise TalimError(
            f"mirdata {name}: its tracks have several sounds and none of the whole, such as {skipped[0]['file']}: "
            f"{skipped[0]['reason'].rpartition(': ')[2]}; prepare those that you want from the folder that holds them"
        )
    skipped += [{"file": key, "reason": "this loader has no audio for it"} for key in sorted(without_audio)]
    return ImportResult("mirdata", str(folder), tuple(files), tuple(skipped), tuple(notes))


def _dataset(name: str, folder: Path) -> Any:
    try:
        import mirdata  # pyright: ignore[reportMissingImports] (an optional extra)
    except ImportError as error:
        raise TalimError(
            "mirdata is not installed; in the folder of talim's source type: pip install '.[mirdata]'"
        ) from error
    loaders: Any = mirdata
    if name not in loaders.list_datasets():
        raise UsageError(f"mirdata has no loader {name!r}; it has, among others, saraga_hindustani and compmusic_raga")
    return initialize(loaders, name, folder)


def initialize(loaders: Any, name: str, folder: Path, version: str = "default") -> Any:
    """The data set of a loader of mirdata; TalimError if the loader needs packages that are not installed."""
    try:
        return loaders.initialize(name, data_home=str(folder), version=version)
    except ImportError as error:  # some loaders need more than mirdata itself, and say so in their log at most
        missing = f"the package {error.name}" if error.name else "more packages"
        raise TalimError(f"mirdata's loader {name} needs {missing}; type: pip install 'mirdata[{name}]'") from error


def _audio_path(track: Any) -> tuple[str | None, list[str]]:
    """The sound of a whole track, and the attributes that name other sounds of it."""
    chosen = next((str(path) for name in _AUDIO_PATHS if (path := getattr(track, name, None))), None)
    named = getattr(track, "__dict__", {})
    return chosen, [name for name, value in named.items() if value and re.fullmatch(r"audio_\w*paths?", name)]


def _tracks(dataset: Any, name: str) -> Iterator[tuple[str, Any]]:
    try:
        keys = list(dataset.track_ids)
    except FileNotFoundError as error:
        load = f"import mirdata; mirdata.initialize('{name}').download(['index'])"
        raise TalimError(f'mirdata {name}: its index is not downloaded; type: python -c "{load}"') from error
    for key in keys:
        yield str(key), dataset.track(key)


def _track_row(
    key: str, track: Any, defaults: MetadataRow, notes: list[dict[str, str]]
) -> tuple[MetadataRow, tuple[AnnotatedSection, ...]]:
    """The row and the sections of a track; an unreadable attribute is added to `notes` and left empty."""

    def attribute(name: str) -> Any:
        try:
            return getattr(track, name, None)
        except Exception as error:  # annotations of a track may be missing or damaged in any way
            notes.append({"file": key, "note": f"{name} cannot be read: {' '.join(str(error).split())}"})
            return None

    def words(name: str) -> Any:
        """An attribute that is a label; annotations of the same name (beats, probabilities) are none."""
        value = attribute(name)
        parts = value if isinstance(value, list | tuple) else [value]
        if all(part is None or isinstance(part, str | int | float) for part in parts):
            return value
        notes.append({"file": key, "note": f"{name} is no label but a {type(parts[0]).__name__}; it is not used"})
        return None

    row = plain_row(
        {
            column: next((value for name in names if (value := words(name)) not in (None, "")), None)
            for column, names in _ATTRIBUTES.items()
        }
    )
    metadata, tags = attribute("metadata"), attribute("mb_tags")
    if isinstance(metadata, Mapping):
        row = dunya_row(metadata) | row
    if isinstance(tags, Mapping):
        row = otmm.musicbrainz_row(tags) | row
    row = defaults | row | ({"recording": key} if "mbid" not in row else {})
    row["tradition"] = _tradition(row.get("tradition", "")) or row.get("tradition", "")
    return {column: text for column, text in row.items() if text}, _sections(attribute("sections"))


def dunya_row(metadata: Mapping[str, Any]) -> MetadataRow:
    """The row of a recording from its Dunya metadata (Saraga's JSON files)."""
    artists = [entry for entry in metadata.get("artists") or [] if isinstance(entry, dict)]
    leads = [entry for entry in artists if entry.get("lead")]
    others = [entry for entry in artists if entry not in leads]
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
            "artists": [_name(entry.get("artist")) for entry in [*leads, *others]],
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
    """The name of a Dunya entry, in its common spelling if it has one."""
    if not isinstance(entry, dict):
        return str(entry) if entry else None
    return entry.get("common_name") or entry.get("name") or entry.get("title")


def _names(entries: Any) -> list[str]:
    return list(dict.fromkeys(name for name in (_name(entry) for entry in entries or []) if name))


def _sections(data: Any) -> tuple[AnnotatedSection, ...]:
    """Sections from mirdata's SectionData: intervals [n, 2] in seconds and labels, numbered by some loaders."""
    intervals, labels = getattr(data, "intervals", None), getattr(data, "labels", None)
    if intervals is None or labels is None:
        return ()
    return tuple(
        AnnotatedSection(float(start), float(stop) - float(start), re.sub(r"-\d+$", "", str(label)))
        for (start, stop), label in zip(intervals, labels, strict=False)
    )


def _tradition(name: str) -> str:
    return next((word for word in ("makam", "hindustani", "carnatic") if word in name.lower()), "")


def _relative_name(path: Path, folder: Path) -> str:
    root, resolved = folder.resolve(), path.resolve()
    return normalize_path(resolved.relative_to(root)) if resolved.is_relative_to(root) else path.name
