"""Caption, rights and labels of a recording: from its source, from texts beside the audio, from user edits."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from talim.atomic_io import write_text
from talim.corpus.beat_chord_files import COLUMNS as BEAT_CHORD_COLUMNS
from talim.corpus.beat_chord_files import BeatChordAnnotation, read_beats_chords
from talim.corpus.caption_templates import caption_phrase
from talim.corpus.labels import Labels, labels_in_range, parse_labels, without_wrong_numbers
from talim.corpus.manifest import UNKNOWN
from talim.corpus.recordings import AnnotatedSection, FileAudio, SourceFile
from talim.corpus.split_groups import OWN_NAME, SPLIT_COLUMN, named_people, names_in, performers
from talim.corpus.tables import guard_formula
from talim.corpus.text_encoding import decode_text
from talim.errors import TalimError
from talim.html.formatting import format_count, format_counted
from talim.inside_folder import read_inside
from talim.licences import is_own_declaration

LONG_CAPTION = 2000  # characters; the text encoders of the bases read some 250 to 500 words
_SHOWN_FILES = 4
_LEAST_NAME = 4  # letters of a performer's name that is looked for in captions
MAX_TEXT_BYTES = 1_000_000  # of a .txt beside a recording
NO_CAPTION = ""  # trained on with the null condition
PLACEHOLDER = "a recording of music"  # that earlier versions wrote where there was none
BUILT_FROM_LABELS = "built from labels"
OWN_CONSENT = "own performance"  # of recordings by nobody but the one whose own they are declared to be
EDITABLE_COLUMNS = ("file_name", "text", "tradition", "raga", "performer", "recording", "licence", "source", "consent")
TEXT_COLUMNS = ("text", "caption", "description", "prompt")
COLUMN_ALIASES = {
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
    """Metadata of one recording; "unknown" where the source is silent."""

    caption: str  # of the whole recording; `caption_and_labels` gives that of a clip
    origin: str  # where the caption comes from; "none" where there is none
    passed_over: tuple[str, ...] = ()  # origins of other captions that it has, which are not used
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
    notes: tuple[str, ...] = ()  # what to tell the user about them

    def caption_and_labels(self, start_seconds: float, stop_seconds: float, seed: int) -> tuple[str, Labels]:
        """Caption and labels of a stretch; its template is drawn from the seed, the recording and the start."""
        labels = labels_in_range(self.labels, self.sections, start_seconds, stop_seconds)
        if self.origin != BUILT_FROM_LABELS:
            return self.caption, labels
        digest = hashlib.sha256(f"{self.recording} {start_seconds:.3f}".encode()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
        return caption_phrase(labels, rng) or NO_CAPTION, labels


def file_metadata(file: SourceFile, edited: Mapping[str, str], caption: str | None) -> RecordingMetadata:
    """The metadata of one recording; rows of the corpus's own metadata.csv (`edited`) win over the source's.

    The caption is the first of: a text column, a .txt beside the audio, `caption`, a phrase built from the labels,
    none. A .txt that cannot be read is told in `notes`. Raises TalimError for unreadable beats or chords.
    """
    edited = {name: text for name, text in edited.items() if not (name in TEXT_COLUMNS and text == PLACEHOLDER)}
    cells, faults = without_wrong_numbers({**file.row, **edited})  # of tables none is left
    fields = {
        name: next((cells[column] for column in columns if cells.get(column)), UNKNOWN)
        for name, columns in COLUMN_ALIASES.items()
    }
    if fields["recording"] == UNKNOWN:
        # as it will be read from the corpus's own metadata.csv
        fields["recording"] = " ".join((file.name.rpartition(".")[0] or file.name).split()) or file.name
    used = {
        column for name, columns in COLUMN_ALIASES.items() for column in columns if cells.get(column) == fields[name]
    }
    used |= {*TEXT_COLUMNS, *BEAT_CHORD_COLUMNS, SPLIT_COLUMN}
    if fields["consent"] in (UNKNOWN, OWN_CONSENT):  # the latter stays in the corpus's table when a performer is edited
        by_oneself = performers(fields["performer"]).keys() == {OWN_NAME} and is_own_declaration(fields["licence"])
        fields["consent"] = OWN_CONSENT if by_oneself else UNKNOWN
    labels = parse_labels(cells)
    notes = [*faults.values()]
    text, origin, passed_over = _caption(file, edited, labels, caption, notes)
    if len(text) > LONG_CAPTION:
        notes.append(f"its caption has {format_count(len(text))} characters; bases read only its beginning: shorten it")
    return RecordingMetadata(
        text,
        origin,
        passed_over,
        **fields,
        extra={name: cell for name, cell in sorted(cells.items()) if cell and name not in used},
        labels=labels,
        sections=file.sections,
        timing=read_beats_chords(file, cells),
        notes=tuple(notes),
    )


def _caption(
    file: SourceFile, edited: Mapping[str, str], labels: Labels, caption: str | None, notes: list[str]
) -> tuple[str, str, tuple[str, ...]]:
    """The caption, its origin, and the origins of other texts that are not used; what is odd is added to `notes`."""
    tables = [
        (origin, next((cells[column] for column in TEXT_COLUMNS if cells.get(column)), ""))
        for cells, origin in ((edited, "corpus metadata.csv"), (file.row, "metadata"))
    ]
    beside = _text_files(file, notes) if isinstance(file.audio, FileAudio) else []
    given = [*tables, *zip(("text file", "second text file"), beside, strict=False), ("--caption", caption or "")]
    texts = [(origin, text) for origin, text in given if text]
    built = caption_phrase(labels, np.random.default_rng(0))
    if not texts:
        return (built, BUILT_FROM_LABELS, ()) if built else (NO_CAPTION, "none", ())
    origin, used = texts[0]
    others = [other for other, text in texts[1:] if " ".join(text.split()) != " ".join(used.split())]
    if built and origin in ("text file", "--caption"):  # not of the same table, so not written with the labels in mind
        others.append(BUILT_FROM_LABELS)
    return used, origin, tuple(others)


def passed_over_notes(metadata: Mapping[str, RecordingMetadata], out: Path) -> list[str]:
    """Which captions are used and which are not, where recordings have several: a line for each pair of origins."""
    names = {
        "corpus metadata.csv": f"the text in {out.name}/metadata.csv",
        "metadata": "the text in the recordings' own table",
        "text file": "the .txt beside the sound",
        "second text file": "the second .txt beside it",
        "--caption": "that of --caption",
        BUILT_FROM_LABELS: "one made of its labels (raga, tala, instruments ...)",
    }
    pairs: dict[tuple[str, str], list[str]] = {}
    for name, recording in metadata.items():
        for other in recording.passed_over:
            pairs.setdefault((recording.origin, other), []).append(name)
    return [
        f"for {format_counted(len(files), 'recording')} {names[used]} is the caption, {names[other]} is not "
        f"({_shown(files)})"
        for (used, other), files in pairs.items()
    ]


def performer_name_notes(metadata: Mapping[str, RecordingMetadata]) -> list[str]:
    """One note on the recordings whose written caption has the name of a performer of any of them, else none."""
    names = {
        name: text
        for recording in metadata.values()
        for name, text in named_people(recording.performer)
        if len(name.replace(" ", "")) >= _LEAST_NAME
    }
    found = {
        file: names_in(recording.caption, names)
        for file, recording in metadata.items()
        if recording.origin not in (BUILT_FROM_LABELS, "none")
    }
    rows = [f"{file} ({', '.join(names[name] for name in named)})" for file, named in found.items() if named]
    if not rows:
        return []
    have = "caption has" if len(rows) == 1 else "captions have"
    return [
        f"{format_counted(len(rows), 'recording')} whose {have} the name of a performer: {_shown(rows)}. Nothing was "
        "changed or left out. Do not name living artists in captions and prompts: describe the school or the mode "
        "instead"
    ]


def _shown(files: Sequence[str]) -> str:
    """The first of the files, and how many more there are."""
    more = len(files) - _SHOWN_FILES
    return f"{', '.join(files[:_SHOWN_FILES])}{f' and {more} more' * (more > 0)}"


def text_paths(file: SourceFile) -> tuple[Path, Path]:
    """Where a text beside a recording may lie: NAME.txt and NAME.wav.txt beside NAME.wav."""
    return file.path.with_suffix(".txt"), file.path.with_name(f"{file.path.name}.txt")


def _text_files(file: SourceFile, notes: list[str]) -> list[str]:
    """The contents of the texts beside the recording, as far as there are any and they can be read."""
    texts = []
    for path in text_paths(file):
        try:
            if not path.exists():
                continue
            decoded = decode_text(read_inside(file.folder, path, MAX_TEXT_BYTES))
        except (TalimError, OSError, ValueError) as error:
            notes.append(f"{path.name} is not used as its caption: {str(error).removeprefix(f'{path}: ')}")
            continue
        if text := " ".join(decoded.text.split()):
            if decoded.note:
                notes.append(f"{path.name}: {decoded.note}")
            texts.append(text)
        else:
            notes.append(f"{path.name} is empty: no caption comes from it")
    return texts


def write_editable(
    path: Path, metadata: Mapping[str, RecordingMetadata], edited: Mapping[str, Mapping[str, str]]
) -> None:
    """Add a row to metadata.csv for every recording without a caption, its cells left empty; other rows stay.

    What is known is not filled in: these cells win over every other table, also one that somebody writes later. Cells
    that a spreadsheet would run as formulas begin with an apostrophe, which is taken away on reading.
    """
    new = [name for name, recording in metadata.items() if recording.origin == "none" and name not in edited]
    if not new:
        return
    columns = list(EDITABLE_COLUMNS)
    columns += sorted({column for row in edited.values() for column in row} - set(columns))
    buffer = io.StringIO(newline="")
    table = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    table.writeheader()
    rows = [{**row, "file_name": name} for name, row in edited.items()]
    rows += [{"file_name": name} for name in new]
    table.writerows({column: guard_formula(text) for column, text in row.items()} for row in rows)
    mark = "" if buffer.getvalue().isascii() else "\ufeff"  # without it spreadsheets take UTF-8 for a code page
    write_text(path, mark + buffer.getvalue())
