"""The notation of notes and strokes in tradition files.

Notes are separated by spaces. A note is a letter that the tradition defines (`S r R g ...`) with a dot before it for
each octave down or a quote after it for each octave up (`.N S'`); or, if the tradition has a unit, a number of units
above the tonic (`22`, `-5`, `6.5`). Strokes are `Syllable:beats`; without a number a token lasts one beat, divided
equally among its capitalised syllables (`DhaGe`); `-` is silence; bars `|` are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from talim.errors import TalimError


@dataclass(frozen=True)
class Notation:
    """A tradition's notation of pitches: `letters` in cents above the tonic, and `unit_cents` (0: no numbers)."""

    letters: Mapping[str, float]
    unit_cents: float = 0.0

    def note(self, token: str) -> float:
        """One note in cents above the tonic; TalimError for an unknown note."""
        octave = re.fullmatch(r"(\.*)([^.']+)('*)", token)
        if octave and octave[2] in self.letters:
            return self.letters[octave[2]] + 1200.0 * (len(octave[3]) - len(octave[1]))
        if self.unit_cents and re.fullmatch(r"-?\d+(\.\d+)?", token):
            return round(float(token) * self.unit_cents, 3)
        valid = " ".join(self.letters) + (" or a number of units" if self.unit_cents else "")
        raise TalimError(f"unknown note {token!r}; notes are written {valid.strip()}")

    def notes(self, line: str) -> tuple[float, ...]:
        return tuple(self.note(token) for token in line.split())

    def spell(self, cents: Sequence[float]) -> str:
        """Pitches in the tradition's notation: the nearest letter, or the nearest whole number of units."""
        return " ".join(self.spell_note(pitch) for pitch in cents)

    def spell_note(self, cents: float) -> str:
        if not self.letters:
            return f"{cents / self.unit_cents:.0f}"
        spellings = [(letter, octave) for letter in self.letters for octave in range(-4, 5)]
        letter, octave = min(spellings, key=lambda pair: abs(self.letters[pair[0]] + 1200.0 * pair[1] - cents))
        return "." * -octave + letter + "'" * octave


def parse_strokes(line: str) -> list[tuple[float, float, str]]:
    """A line of strokes as (onset_beats, beats, syllable) without silences; the last item is (end, 0, "")."""
    onset, strokes = Fraction(0), []
    for token in line.replace("|", " ").split():
        syllables, _, length = token.partition(":")
        parts = [syllables] if length else re.findall(r"-|[^\W\d_a-zçğıöşüâîû][^\W\d_A-ZÇĞİÖŞÜ]*", syllables)
        if "".join(parts) != syllables or (length and not re.fullmatch(r"[1-9]\d*(/[1-9]\d*)?", length)):
            raise TalimError(f"cannot read the stroke {token!r}; write Syllable, SyllableSyllable or Syllable:beats")
        beats = Fraction(length or 1) / len(parts)
        for part in parts:
            if part != "-":
                strokes.append((float(onset), float(beats), part))
            onset += beats
    return [*strokes, (float(onset), 0.0, "")]
