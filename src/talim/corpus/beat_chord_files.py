"""Beats and chords of a recording: from its row of metadata, else from files beside the audio.

Beside `take.wav`, `take.beats` holds a beat a line, "SECONDS POSITION" (position in the bar, 1 is the downbeat, as
beat trackers write it), and `take.chords` a chord a line, "SECONDS [END] CHORD", the chord as "Gm", "Eb/G", or in the
syntax of chord annotations ("G:min", "Eb:maj/3").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack, TempoGrid
from talim.corpus.recordings import FileAudio, SourceFile
from talim.corpus.text_encoding import decode_text
from talim.errors import TalimError
from talim.inside_folder import read_inside

COLUMNS = ("beats", "chords")
# Chord qualities of Harte et al. (ISMIR 2005), as talim writes them.
CHORD_SUFFIXES = {"maj": "", "min": "m", "min7": "m7", "min6": "m6", "maj6": "6", "hdim7": "m7b5"}


@dataclass(frozen=True)
class BeatChordAnnotation:
    """Beats and chords of a recording in their text form; "" where unknown."""

    beats: str = ""
    chords: str = ""

    def cut(self, start_seconds: float, seconds: float) -> BeatsAndChords:
        """Beats and chords of a stretch, timed from its start."""
        return BeatsAndChords(self._beats.cut(start_seconds, seconds), self._chords.cut(start_seconds, seconds))

    @cached_property
    def _beats(self) -> BeatGrid | TempoGrid:
        return TempoGrid.parse(self.beats) or BeatGrid.parse(self.beats)

    @cached_property
    def _chords(self) -> ChordTrack:
        return ChordTrack.parse(self.chords)


def read_beats_chords(file: SourceFile, cells: Mapping[str, str]) -> BeatChordAnnotation:
    """The metadata's beats and chords, else those of files beside the audio; TalimError where unreadable."""
    beats, chords = (cells.get(column, "") for column in COLUMNS)
    if isinstance(file.audio, FileAudio):
        beats = beats or _read_beats(file.folder, file.path.with_suffix(".beats"))
        chords = chords or _read_chords(file.folder, file.path.with_suffix(".chords"))
    annotation = BeatChordAnnotation(beats, chords)
    annotation.cut(0.0, 1.0)  # parse it now, so that an error names this recording
    return annotation


def _read_beats(folder: Path, path: Path) -> str:
    rows = _rows(folder, path, "SECONDS POSITION", 2, 2)
    return " ".join(f"{float(position):.0f}@{seconds}" for seconds, position in rows)


def _read_chords(folder: Path, path: Path) -> str:
    rows = _rows(folder, path, "SECONDS [END] CHORD", 2, 3)
    return " ".join(f"{_plain_chord(row[-1])}@{row[0]}" for row in rows)


def _rows(folder: Path, path: Path, syntax: str, min_fields: int, max_fields: int) -> list[list[str]]:
    """The fields of each line, without # comments; no rows where there is no file."""
    if not path.exists():
        return []
    try:
        lines = decode_text(read_inside(folder, path)).text.splitlines()
    except ValueError as error:
        raise TalimError(f"{path.name}: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        numeric = fields[:-1] if "CHORD" in syntax else fields
        if not min_fields <= len(fields) <= max_fields or not all(_is_number(text) for text in numeric):
            raise TalimError(f"{path.name}: line {number} is {line.strip()!r}; expected {syntax}")
        rows.append(fields)
    return rows


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) is not None


def _plain_chord(name: str) -> str:
    """A chord without the colon of chord annotations: G:min7/b3 becomes Gm7/b3."""
    chord, slash, bass = name.partition("/")
    root, _, quality = chord.partition(":")
    return root + CHORD_SUFFIXES.get(quality, quality) + slash + bass if ":" in chord else name
