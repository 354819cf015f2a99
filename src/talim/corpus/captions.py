"""Words and rights of recordings: what their source says, what was typed since, texts beside the sound."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from talim.atomic_io import write_text
from talim.corpus.beat_chord_files import COLUMNS as TIMING_COLUMNS
from talim.corpus.beat_chord_files import BeatChordAnnotation, read_timing
from talim.corpus.caption_templates import caption_phrase
from talim.corpus.labels import Labels, labels_in_range, parse_labels
from talim.corpus.manifest import UNKNOWN
from talim.corpus.recordings import AnnotatedSection, FileAudio, SourceFile
from talim.errors import TalimError

NEUTRAL_CAPTION = "a recording of music"
BUILT_FROM_LABELS = "built from labels"
EDITABLE_COLUMNS = ("file_name", "text", "performer", "recording", "licence", "source", "consent")
_TEXT_COLUMNS = ("text", "caption", "description", "prompt")
_ALIASES = {
    "performer": ("performer", "performers", "artist", "artists", "singer", "musician", "musicians"),
    "recording": ("recording", "recording_id", "mbid"),
    "licence": ("licence", "license", "rights", "copyright"),
    "source": ("source", "url", "origin", "collection"),
    "consent": ("consent",),
    "release": ("release", "album", "concert"),
    "work": ("work", "composition"),
}


@dataclass(frozen=True)
class RecordingMetadata:
    """What is said about one recording; "unknown" where nothing is."""

    caption: str  # of the whole recording; where it is built from labels, `at` says what holds where
    origin: str  # where the caption comes from
    performer: str = UNKNOWN
    recording: str = ""
    licence: str = UNKNOWN
    source: str = UNKNOWN
    consent: str = UNKNOWN
    release: str = UNKNOWN
    work: str = UNKNOWN
    extra: dict[str, str] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)
    sections: tuple[AnnotatedSection, ...] = ()
    timing: BeatChordAnnotation = field(default_factory=BeatChordAnnotation)

    def at(self, start_seconds: float, stop_seconds: float, seed: int) -> tuple[str, Labels]:
        """Caption and labels of a stretch; the phrasing is drawn from seed, recording and place."""
        labels = labels_in_range(self.labels, self.sections, start_seconds, stop_seconds)
        if self.origin != BUILT_FROM_LABELS:
            return self.caption, labels
        place = hashlib.sha256(f"{self.recording} {start_seconds:.3f}".encode()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(place[:8], "big")])
        return caption_phrase(labels, rng) or NEUTRAL_CAPTION, labels


def file_metadata(file: SourceFile, edited: Mapping[str, str], describe: str | None) -> RecordingMetadata:
    """The words of one recording. Edits in the corpus's own metadata.csv win over the source's row.

    Caption: a text column, else a .txt beside the sound, else --describe, else built from descriptive
    columns, else a neutral one. Raises TalimError where a text, or beats or chords, cannot be read.
    """
    own = {
        name: text for name, text in edited.items() if not (name in _TEXT_COLUMNS and text == NEUTRAL_CAPTION)
    }
    cells = {**file.row, **own}
    said = {
        name: next((cells[column] for column in columns if cells.get(column)), UNKNOWN)
        for name, columns in _ALIASES.items()
    }
    if said["recording"] == UNKNOWN:
        said["recording"] = file.name.rpartition(".")[0] or file.name
    used = {column for columns in _ALIASES.values() for column in columns} | {*_TEXT_COLUMNS, *TIMING_COLUMNS}
    labels = parse_labels(cells)
    caption, origin = _caption(file, own, labels, describe)
    extra = {name: text for name, text in sorted(cells.items()) if name not in used}
    timing = read_timing(file, cells)
    return RecordingMetadata(
        caption, origin, **said, extra=extra, labels=labels, sections=file.sections, timing=timing
    )


def _caption(
    file: SourceFile, edited: Mapping[str, str], labels: Labels, describe: str | None
) -> tuple[str, str]:
    for cells, origin in ((edited, "corpus metadata.csv"), (file.row, "metadata")):
        text = next((cells[column] for column in _TEXT_COLUMNS if cells.get(column)), "")
        if text:
            return text, origin
    beside = _text_beside(file.path) if isinstance(file.sound, FileAudio) else ""
    if beside:
        return beside, "text file"
    if describe:
        return describe, "describe"
    built = caption_phrase(labels, np.random.default_rng(0))
    return (built, BUILT_FROM_LABELS) if built else (NEUTRAL_CAPTION, "none")


def _text_beside(path: Path) -> str:
    for beside in (path.with_suffix(".txt"), path.with_name(f"{path.name}.txt")):
        if beside.is_file():
            try:
                return " ".join(beside.read_bytes().decode("utf-8-sig").split())
            except (OSError, UnicodeDecodeError) as error:
                raise TalimError(f"{beside}: is not readable UTF-8 text; save it again as UTF-8") from error
    return ""


def write_editable(
    path: Path, words: Mapping[str, RecordingMetadata], edited: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Keep a metadata.csv with a row for every recording without words; what was typed into it stays.

    Returns the names of the recordings that still wait for words.
    """
    waiting = [name for name, said in words.items() if said.origin == "none"]
    new = [name for name in waiting if name not in edited]
    if not new:
        return waiting
    columns = list(EDITABLE_COLUMNS)
    columns += sorted({column for row in edited.values() for column in row} - set(columns))
    buffer = io.StringIO(newline="")
    table = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    table.writeheader()
    for name, row in edited.items():
        table.writerow({**row, "file_name": name})
    for name in new:
        said = words[name]
        known = {column: getattr(said, column) for column in EDITABLE_COLUMNS[2:]}
        cells = {column: value for column, value in known.items() if value != UNKNOWN}
        table.writerow({"file_name": name, "text": NEUTRAL_CAPTION, **cells})
    write_text(path, buffer.getvalue())
    return waiting
