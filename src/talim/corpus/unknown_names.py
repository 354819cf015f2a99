"""Names of modes, cycles and instruments that no list here has, with the known ones that may be meant.

No list is complete, so they are told and used as they are written. Of traditions and kinds of names without a list (a
dastgah, a key, a metre) nothing is said.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from talim.corpus.label_spellings import possible_traditions
from talim.corpus.labels import LAYAS, Labels, is_unmetered, parse_labels
from talim.corpus.manifest import UNKNOWN
from talim.html.formatting import format_counted
from talim.traditions.devanagari import romanize_devanagari
from talim.traditions.instrument_names import near_instruments
from talim.traditions.name_matching import normalize_name, normalize_words
from talim.traditions.tradition import load_all_builtin

if TYPE_CHECKING:
    from talim.corpus.captions import RecordingMetadata

TITLE = "unknown names"
_CUTOFF, _OFFERS, _MAX_LISTED = 0.75, 3, 20

_Doubt = tuple[str, str, tuple[str, ...]]  # kind of name, the name as written, those that may be meant


def unknown_names(recordings: Iterable[RecordingMetadata]) -> list[str]:
    """A line for each spelling that may be another one, with its recordings; and for each kind one for all others."""
    counts: Counter[_Doubt] = Counter()
    for recording in recordings:
        whole = recording.labels
        parts = [whole, *(parse_labels(section.cells) for section in recording.sections)]
        found = (doubt for part in parts for doubt in _doubts(part, part.tradition or whole.tradition))
        counts.update(dict.fromkeys(found, 1))
    texts = {doubt: f"{doubt[1]!r} ({format_counted(count, 'recording')})" for doubt, count in counts.items()}
    near = [f"{doubt[0]} {text}: did you mean {' or '.join(doubt[2])}?" for doubt, text in texts.items() if doubt[2]]
    more = [f"and {len(near) - _MAX_LISTED} more like these"] if len(near) > _MAX_LISTED else []
    lines = near[:_MAX_LISTED] + more
    for kind in dict.fromkeys(kind for kind, _, offers in texts if not offers):
        others = [text for doubt, text in texts.items() if doubt[0] == kind and not doubt[2]]
        rest = f" and {len(others) - _MAX_LISTED} more" if len(others) > _MAX_LISTED else ""
        lines.append(f"{kind} in no list here: {', '.join(others[:_MAX_LISTED])}{rest}")
    return lines


def _doubts(labels: Labels, tradition: str) -> Iterator[_Doubt]:
    for text in labels.mode:
        yield from _entry_doubt("mode", labels.mode_kind or "mode", text, tradition)
    for text in labels.cycle:
        if not is_unmetered(text):
            yield from _entry_doubt("cycle", labels.cycle_kind or "cycle", text, tradition)
    for text in labels.instruments:
        near = near_instruments(romanize_devanagari(text))
        if near is not None and near_instruments(text) is not None:
            yield "instrument", text, tuple(near[:_OFFERS])


def _entry_doubt(what: Literal["mode", "cycle"], kind: str, text: str, tradition: str) -> Iterator[_Doubt]:
    """The name, if the tradition has a list of this kind and none of its entries is called so."""
    bare = " ".join(word for word in re.sub(r"\([^)]*\)", " ", text).split() if normalize_words(word) not in _LAYA_KEYS)
    if not re.search(r"[^\W\d_]", bare):
        return
    words = {one.slug: one.mode_words if what == "mode" else one.cycle_words for one in load_all_builtin()}
    of_kind = [slug for slug, names in words.items() if kind in names]
    if not of_kind and kind != what:
        return
    possible = possible_traditions(tradition or UNKNOWN)
    lists = [one for one in possible if one.slug in of_kind] or possible
    near: dict[str, None] = {}
    for one in lists:
        entries = one.mode_keys if what == "mode" else one.cycle_keys
        whole, key = (normalize_name(romanize_devanagari(each), words[one.slug]) for each in (text, bare))
        if whole in entries or key in entries:
            return
        near |= dict.fromkeys(entries[each].name for each in difflib.get_close_matches(key, entries, _OFFERS, _CUTOFF))
    if near or (lists and (of_kind or tradition)):  # a mode of no tradition may be of any
        yield kind, text, tuple(near)[:_OFFERS]


_LAYA_KEYS = frozenset(map(normalize_words, (*LAYAS, "laya")))
