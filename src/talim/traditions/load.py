"""Reads and checks the files of a tradition's folder; errors name the file and the entry."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.errors import TalimError
from talim.traditions.name_matching import slugify
from talim.traditions.notation import Notation, parse_strokes
from talim.traditions.schema import Cycle, EntryT, Mode, OrnamentDefinition, Stroke

KEYS = {  # of the entries of each file; the first REQUIRED_KEYS are required
    "tradition": ("name", "mode_words", "cycle_words", "slug", "aliases", "notes", "theory_notes", "unit_cents",
                  "stroke_weights", "first_weight", "clap_weight", "low_end_cents", "facts"),
    "mode": ("name", "degrees", "slug", "aliases", "theory", "touched", "ascent", "descent", "phrases", "strong",
             "final", "contour", "facts"),
    "cycle": ("name", "beats", "slug", "aliases", "sections", "strokes", "claps", "waves", "facts"),
    "ornament": ("name", "shape", "seconds", "extent_cents", "slug", "aliases", "rate_hz", "facts"),
}  # fmt: skip
REQUIRED_KEYS = {"tradition": 3, "mode": 2, "cycle": 2, "ornament": 4}
CONTOURS = ("", "ascending", "descending", "both")
SHAPES = ("glide", "shake", "swing", "touch", "turn")


def check_keys(entry: Any, kind: str, file: Path, name: str) -> dict[str, Any]:
    """`entry` as a dict with all required keys and no unknown ones."""
    required, optional = KEYS[kind][: REQUIRED_KEYS[kind]], KEYS[kind][REQUIRED_KEYS[kind] :]
    if not isinstance(entry, dict):
        raise TalimError(
            f"{file}: {name} is {json.dumps(entry)[:40]}; it must be an object with the keys {', '.join(required)}, "
            f"and may have {', '.join(optional)}"
        )
    for key in required:
        if entry.get(key) in (None, "", []):
            raise TalimError(f"{file}: {name} lacks {key!r}; a {kind} needs {', '.join(required)}")
    for key in entry:
        if key not in KEYS[kind]:
            raise TalimError(f"{file}: {name} has an unknown key {key!r}; a {kind} may have {', '.join(KEYS[kind])}")
    return entry


def read_entries(file: Path, kind: str, parse: Callable[[dict[str, Any]], EntryT]) -> tuple[EntryT, ...]:
    """The parsed entries of a file; TalimError names the file and the invalid entry."""
    content = read_json(file)
    if not isinstance(content, list) or (kind == "mode" and not content):
        raise TalimError(f"{file}: expected a list of {kind}s" + (", at least one" if kind == "mode" else ""))
    entries: list[EntryT] = []
    for number, entry in enumerate(content, 1):
        name = f"{kind} {number}"
        if isinstance(entry, dict) and entry.get("name"):
            name = f"{kind} {entry['name']!r}"
        try:
            if isinstance(entry, dict) and not isinstance(entry.get("name", ""), str):
                raise TalimError(f"name must be a word in quotes, not {entry['name']!r}")
            entries.append(parse(check_keys(entry, kind, file, name)))
        except TalimError as error:
            named = str(error).startswith(str(file))
            raise (error if named else TalimError(f"{file}: {name}: {error}")) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise TalimError(f"{file}: {name} has a value of the wrong kind ({error})") from error
    return tuple(entries)


class EntryParser:
    """Parses the entries of a tradition's files, in its own notation."""

    def __init__(self, head: dict[str, Any]) -> None:
        """`head` is the content of tradition.json, with notation and stroke weights."""
        letters = {str(letter): float(cents) for letter, cents in head.get("notes", {}).items()}
        unit_cents = float(head.get("unit_cents", 0.0))
        if not letters and not unit_cents > 0:
            raise TalimError("give 'notes' (letter: cents), 'unit_cents' (for numbers), or both")
        self.played = Notation(letters, unit_cents)
        self.theory = Notation({**letters, **head.get("theory_notes", {})}, unit_cents)
        self.weights = {str(word): float(weight) for word, weight in head.get("stroke_weights", {}).items()}
        for word, weight in self.weights.items():
            if not 0 <= weight <= 1:
                raise TalimError(f"stroke_weights: {word!r} must weigh 0 to 1, not {weight:g}")
        self.first_weight = float(head.get("first_weight", 0.0))
        self.clap_weight = float(head.get("clap_weight", 0.0))

    def mode(self, entry: dict[str, Any]) -> Mode:
        """A mode; its degrees must ascend within one octave, and its theory must have as many."""
        degrees = ascending(self.played.notes(entry["degrees"]), "degrees")
        theory = ascending(self.theory.notes(entry.get("theory", entry["degrees"])), "theory")
        if len(theory) != len(degrees):
            raise TalimError(f"theory has {len(theory)} notes and degrees {len(degrees)}; write one for each")
        contour = one_of(entry.get("contour", ""), CONTOURS, "contour")
        return Mode(
            **names_and_facts(entry),
            degrees_cents=degrees,
            theory_cents=theory,
            ascent_cents=self.played.notes(entry.get("ascent", "")),
            descent_cents=self.played.notes(entry.get("descent", "")),
            phrases_cents=tuple(map(self.played.notes, string_list(entry.get("phrases", []), "phrases"))),
            strong_cents=self.played.notes(entry.get("strong", "")),
            touched_cents=self.played.notes(entry.get("touched", "")),
            final_cents=self.played.note(entry["final"]) if "final" in entry else degrees[0],
            contour=contour,
        )

    def cycle(self, entry: dict[str, Any]) -> Cycle:
        """A cycle; its sections and its strokes must fill its beats, claps and waves must lie within it."""
        beats = float(entry["beats"])
        sections = tuple(float(length) for length in entry.get("sections", ()))
        claps, waves = tuple(entry.get("claps", ())), tuple(entry.get("waves", ()))
        if not (math.isfinite(beats) and beats > 0):
            raise TalimError(f"beats must be above 0, not {beats:g}")
        if sections and not math.isclose(sum(sections), beats):
            raise TalimError(f"sections add up to {sum(sections):g} beats, not {beats:g}")
        for beat in (*claps, *waves):
            if not 1 <= beat <= beats:
                raise TalimError(f"claps and waves are beats 1 to {beats:g}, not {beat}")
        *parsed, (end, _, _) = parse_strokes(entry.get("strokes", ""))
        if parsed and not math.isclose(end, beats):
            raise TalimError(f"strokes fill {end:g} beats, not {beats:g}")
        return Cycle(
            **names_and_facts(entry),
            beats=beats,
            sections=sections,
            strokes=tuple(Stroke(*stroke, self.weight(stroke[0], stroke[2], claps)) for stroke in parsed),
            claps=claps,
            waves=waves,
        )

    def weight(self, onset_beats: float, syllable: str, claps: Sequence[int]) -> float:
        """The weight of a stroke: that of its syllable, raised on the first beat and on claps."""
        if syllable not in self.weights:
            raise TalimError(f"unknown syllable {syllable!r}; stroke_weights knows {', '.join(self.weights)}")
        on_clap = self.clap_weight if onset_beats + 1 in claps else 0.0
        return max(self.weights[syllable], self.first_weight if onset_beats == 0 else on_clap)

    def ornament(self, entry: dict[str, Any]) -> OrnamentDefinition:
        return OrnamentDefinition(
            **names_and_facts(entry),
            shape=one_of(entry["shape"], SHAPES, "shape"),
            seconds=bounds(entry["seconds"], "seconds"),
            extent_cents=bounds(entry["extent_cents"], "extent_cents"),
            rate_hz=bounds(entry.get("rate_hz", (0, 0)), "rate_hz"),
        )


def names_and_facts(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields that every kind of entry has."""
    aliases = string_list(entry.get("aliases", []), "aliases")
    slug, name = entry.get("slug", slugify(entry["name"])), entry["name"]
    return {"slug": slug, "name": name, "aliases": aliases, "facts": entry.get("facts", {})}


def string_list(value: Any, key: str) -> tuple[str, ...]:
    """`value` as a tuple, if it is a list of non-empty strings."""
    if not isinstance(value, list) or not all(isinstance(word, str) and word.strip() for word in value):
        raise TalimError(f"{key} must be a list of words in quotes, not {value!r}")
    return tuple(value)


def finite_number(value: Any, key: str) -> float:
    """`value`, if it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TalimError(f"{key} must be a number, not {value!r}")
    return float(value)


def one_of(value: str, allowed: Sequence[str], key: str) -> str:
    """`value`, if it is allowed."""
    if value not in allowed:
        raise TalimError(f"{key} {value!r} is none of {', '.join(word for word in allowed if word)}")
    return value


def ascending(cents: tuple[float, ...], key: str) -> tuple[float, ...]:
    """`cents`, if they are two or more ascending notes of one octave."""
    pairs = itertools.pairwise(cents)
    if len(cents) < 2 or any(high <= low for low, high in pairs) or not 0 <= cents[0] <= cents[-1] < 1200:
        raise TalimError(f"{key} must be two or more notes ascending within one octave from the tonic")
    return cents


def bounds(pair: Sequence[float], key: str) -> tuple[float, float]:
    """A pair (minimum, maximum) of numbers, neither below 0."""
    if len(pair) != 2 or not 0 <= float(pair[0]) <= float(pair[1]):
        raise TalimError(f"{key} must be a pair (minimum, maximum), neither below 0, not {list(pair)}")
    return float(pair[0]), float(pair[1])
