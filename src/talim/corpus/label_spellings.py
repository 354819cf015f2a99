"""One spelling of each label in a corpus: "Bhupali", "Bhoopali" and "भूपाली" are one raga, counted once.

Spellings are one where the traditions' facts know them, and otherwise only where they differ in nothing but case,
accents, hyphens and blanks. Captions keep the words that their source has.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from talim.corpus.manifest import UNKNOWN, Clip
from talim.corpus.split_groups import folded_name, performer_names
from talim.errors import TalimError
from talim.traditions.devanagari import romanize_devanagari
from talim.traditions.instrument_names import resolve_instrument
from talim.traditions.name_matching import normalize_name, normalize_words
from talim.traditions.tradition import Tradition, load_all_builtin

NO_CYCLE = "none"
_ENTRY = "/"  # between the slugs of a tradition and of its mode or cycle
_JOINT = " | "  # between the values of one cell
_UNNAMED = (UNKNOWN, NO_CYCLE, "")


@dataclass
class _Spellings:
    """The spellings of one kind of label by what they mean: seconds of music of each."""

    kind: str
    seconds: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))

    def usual(self, meaning: str) -> str:
        """The spelling of most music, the first of equal ones; of an entry of the facts one that they have."""
        spellings, listed = self.seconds[meaning], _listed_names(self.kind, meaning)
        known = [text for text in spellings if is_listed(romanize_devanagari(text), listed)]
        if listed and not known:
            return listed[0]
        text = max(known or spellings, key=lambda text: spellings[text])
        return romanize_devanagari(text) if listed else text


def unify_labels(clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """The clips with one spelling for each tradition, mode, cycle and instrument; and what was taken for one.

    The note also names spellings that may be one and are kept apart, and performers, releases and works that are one
    for the split.
    """
    clips, notes = _known_traditions(clips)
    meanings: dict[str, Callable[[Clip, str], str]] = {
        "mode": partial(_entry_meaning, "mode"),
        "cycle": partial(_entry_meaning, "cycle"),
        "instruments": lambda clip, text: _instrument(text),
    }
    updates: list[dict[str, str]] = [{} for _ in clips]
    for column, meaning in meanings.items():
        found = _Spellings(column)
        values = [_values(getattr(clip, column)) for clip in clips]
        for clip, texts in zip(clips, values, strict=True):
            for text in texts:
                found.seconds[meaning(clip, text)][text] += clip.seconds
        for clip, texts, update in zip(clips, values, updates, strict=True):
            if texts:
                update[column] = _JOINT.join(dict.fromkeys(found.usual(meaning(clip, text)) for text in texts))
        notes += [_one_note(column.removesuffix("s"), [*spellings], found.usual(key))
                  for key, spellings in found.seconds.items() if [*spellings] != [found.usual(key)]]  # fmt: skip
        if column != "instruments":
            notes += _similar_notes(column, [found.usual(key) for key in found.seconds])
    notes += [note for column in ("performer", "release", "work") for note in _name_notes(clips, column)]
    return [clip.model_copy(update=update) for clip, update in zip(clips, updates, strict=True)], notes


def _known_traditions(clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """The clips with traditions under the names that the facts have: "Hindustani classical" is hindustani."""
    texts = {clip.tradition for clip in clips} - {UNKNOWN}
    renamed = {
        text: tradition.slug for text in texts for tradition in possible_traditions(text) if text != tradition.slug
    }
    notes = [f"tradition {text} is counted as {slug}" for text, slug in sorted(renamed.items())]
    return [clip.model_copy(update={"tradition": renamed.get(clip.tradition, clip.tradition)}) for clip in clips], notes


def possible_traditions(name: str) -> list[Tradition]:
    """The built-in traditions that a tradition by this name may be: all where it is unknown."""
    if name == UNKNOWN:
        return list(load_all_builtin())
    key = normalize_name(name)
    return [
        tradition
        for tradition in load_all_builtin()
        if key in map(normalize_name, (tradition.slug, tradition.name, *tradition.aliases))
    ]


def _values(cell: str) -> list[str]:
    return [text for text in cell.split(_JOINT) if text not in _UNNAMED]


def _entry_meaning(kind: str, clip: Clip, text: str) -> str:
    """What a mode or cycle means: the facts' entry, where exactly one tradition has it; else its plain letters."""
    entries, text = [], romanize_devanagari(text)
    for tradition in possible_traditions(clip.tradition):
        try:
            entry = tradition.mode(text) if kind == "mode" else tradition.cycle(text)
        except TalimError:
            continue
        entries.append(f"{tradition.slug}{_ENTRY}{entry.slug}")
    return entries[0] if len(entries) == 1 else f"named {folded_name(text).replace(' ', '')}"


@cache
def _listed_names(kind: str, meaning: str) -> tuple[str, ...]:
    """The spellings of an entry of the facts, the usual one first; none where the meaning is no entry."""
    for tradition in load_all_builtin():
        for entry in {"mode": tradition.modes, "cycle": tradition.cycles}.get(kind, ()):
            if meaning == f"{tradition.slug}{_ENTRY}{entry.slug}":
                return entry.name, *entry.aliases
    return ()


def is_listed(text: str, names: Iterable[str]) -> bool:
    """Whether a name is one of `names` but for case, accents, hyphens and blanks; one with a question mark is not."""
    joined = folded_name(text).replace(" ", "")
    return not re.search("[?？]", text) and any(joined == folded_name(name).replace(" ", "") for name in names)


def _instrument(text: str) -> str:
    try:
        return resolve_instrument(romanize_devanagari(text).lower())
    except TalimError:  # like a known one, but not it
        return text


def _one_note(kind: str, spellings: Sequence[str], usual: str) -> str:
    verb = "is" if len(spellings) == 1 else "are one,"
    return f"{kind}: {', '.join(spellings)} {verb} counted as {usual}"


def _similar_notes(kind: str, names: Iterable[str]) -> list[str]:
    """Names in Latin letters that sound alike and are not known to be one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if folded_name(name).isascii():  # of other letters the key says nothing
            alike[normalize_words(name).replace(" ", "")].append(name)
    return [
        f"{kind}: {' and '.join(group)} are counted as different ones; write them alike if they are one"
        for group in alike.values()
        if len(group) > 1
    ]


def _name_notes(clips: Sequence[Clip], column: str) -> list[str]:
    """Spellings of performers, releases or works that differ in case and accents only, so that the split joins them."""
    spellings: dict[str, dict[str, None]] = defaultdict(dict)
    for clip in clips:
        cell = str(getattr(clip, column))
        for text in cell.replace(";", "|").split("|") if cell != UNKNOWN else ():
            if name := " ".join(text.split()):
                for key in performer_names(name):
                    spellings[key][name] = None
    return [f"{column}: {', '.join(texts)} are one for the split" for texts in spellings.values() if len(texts) > 1]
