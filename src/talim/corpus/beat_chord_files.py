"""Beats and chords of a recording: from its row of metadata, else from files beside the sound.

Beside `take.wav`, `take.beats` holds a beat a line, "SECONDS PLACE" (as beat trackers write them: 1 is the downbeat),
and `take.chords` a chord a line, "SECONDS [END] CHORD", the chord as "Gm", "Eb/G", or as chord annotations have it
("G:min", "Eb:maj/3").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from talim.beats_chords import BeatsAndChords
from talim.corpus.recordings import FileAudio, SourceFile
from talim.errors import TalimError

COLUMNS = ("beats", "chords")
# The kinds of the usual chord annotations (Harte et al. 2005), as they are written here.
CHORD_SUFFIXES = {"maj": "", "min": "m", "min7": "m7", "min6": "m6", "maj6": "6", "hdim7": "m7b5"}


@dataclass(frozen=True)
class BeatChordAnnotation:
    """A recording's beats and chords in their written forms; empty where nothing is known."""

    beats: str = ""
    chords: str = ""

    def at(self, start_seconds: float, seconds: float) -> BeatsAndChords:
        """Of a stretch, timed from its beginning."""
        return BeatsAndChords.parse(self.beats, self.chords, start_seconds + seconds).cut(
            start_seconds, seconds
        )


def read_timing(file: SourceFile, cells: Mapping[str, str]) -> BeatChordAnnotation:
    """What the metadata says, else the files beside the sound; TalimError where it cannot be read."""
    beats, chords = (cells.get(column, "") for column in COLUMNS)
    if isinstance(file.sound, FileAudio):
        beats = beats or _beats_beside(file.path.with_suffix(".beats"))
        chords = chords or _chords_beside(file.path.with_suffix(".chords"))
    made = BeatChordAnnotation(beats, chords)
    made.at(0.0, 1.0)  # it is cheaper to be told now
    return made


def _beats_beside(path: Path) -> str:
    rows = _rows(path, "SECONDS PLACE", 2, 2)
    return " ".join(f"{float(place):.0f}@{seconds}" for seconds, place in rows)


def _chords_beside(path: Path) -> str:
    rows = _rows(path, "SECONDS [END] CHORD", 2, 3)
    return " ".join(f"{_plain_chord(row[-1])}@{row[0]}" for row in rows)


def _rows(path: Path, form: str, fewest: int, most: int) -> list[list[str]]:
    """The lines of a file as words, the first a number; comments begin with #. No file has no lines."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TalimError(f"{path.name}: is not readable UTF-8 text; save it again as UTF-8") from error
    found = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        numbers = words if "CHORD" not in form else words[:-1]
        if not fewest <= len(words) <= most or not all(_is_number(word) for word in numbers):
            raise TalimError(f"{path.name}: line {number} is {line.strip()!r}; expected {form}")
        found.append(words)
    return found


def _is_number(word: str) -> bool:
    return re.fullmatch(r"\d+(\.\d*)?|\.\d+", word) is not None


def _plain_chord(name: str) -> str:
    """A chord without the colon of chord annotations: G:min7/b3 is Gm7/b3."""
    chord, slash, bass = name.partition("/")
    root, _, kind = chord.partition(":")
    return root + CHORD_SUFFIXES.get(kind, kind) + slash + bass if ":" in chord else name
