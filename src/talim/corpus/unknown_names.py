"""Names of modes, cycles and instruments that no list here has, with the known ones that may be meant.

No list is complete, so they are told and used as they are written. Of traditions and kinds of names without a list (a
dastgah, a key, a metre) nothing is said.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from talim.corpus.label_spellings import is_listed, possible_traditions
from talim.corpus.labels import LAYAS, Labels, is_unmetered, parse_labels
from talim.corpus.manifest import UNKNOWN
from talim.html.formatting import format_counted
from talim.traditions.devanagari import romanize_devanagari
from talim.traditions.instrument_names import list_instruments, near_instruments, resolve_instrument
from talim.traditions.name_matching import normalize_name, normalize_words
from talim.traditions.prompt_labels import mode_in
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
    instruments = [name for usual, others in list_instruments() for name in (usual, *others)]
    for text in labels.mode:
        yield from _entry_doubt("mode", labels.mode_kind or "mode", text, tradition)
    for text in labels.cycle:
        if not is_unmetered(text):
            yield from _entry_doubt("cycle", labels.cycle_kind or "cycle", text, tradition)
    for text in labels.instruments:
        near = near_instruments(romanize_devanagari(text))
        if _is_slip(text, instruments):
            yield "instrument", text, (resolve_instrument(_without_slip(text)),)
        elif near is not None and near_instruments(text) is not None:
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
        forms = (text, bare, _without_slip(bare))
        whole, key, mended = (normalize_name(romanize_devanagari(each), words[one.slug]) for each in forms)
        entry = entries.get(whole) or entries.get(key)
        meant = entry or entries.get(mended)
        names = (meant.name, *meant.aliases) if meant else ()
        if entry and not _is_slip(bare, names):
            return
        if meant:
            near |= {meant.name: None}
            continue
        near |= dict.fromkeys(entries[each].name for each in difflib.get_close_matches(key, entries, _OFFERS, _CUTOFF))
    if near or (lists and (of_kind or tradition)):  # a mode of no tradition may be of any
        yield kind, text, tuple(near)[:_OFFERS]


def _without_slip(text: str) -> str:
    """The name without a question mark, and with one letter for a consonant or a last a that is written twice."""
    text = text.replace("?", "").replace("？", "").strip()
    return re.sub(r"([b-df-hj-np-tv-z])\1+|(a)a+(?!\w)", r"\1\2", text, flags=re.IGNORECASE)


def _is_slip(text: str, names: Collection[str]) -> bool:
    """Whether a text is none of `names`, but is one without its doubled letters or question mark."""
    return not is_listed(text, names) and is_listed(_without_slip(text), names)


def other_mode_in_caption(recording: RecordingMetadata) -> str:
    """A note where the words of a caption name another mode than the labels of its recording; else empty."""
    labels = recording.labels
    modes = {*labels.mode, *(name for part in recording.sections for name in parse_labels(part.cells).mode)}
    for one in possible_traditions(labels.tradition or UNKNOWN):
        keys = (normalize_name(romanize_devanagari(name), one.mode_words) for name in modes)
        labelled = {entry.slug: entry for key in keys if (entry := one.mode_keys.get(key))}
        named = (mode_in(recording.caption, [one]) or "").rpartition("/")[2]
        text = f" {normalize_words(recording.caption)} "
        spellings = [name for entry in labelled.values() for name in (entry.name, *entry.aliases)]
        if not labelled or not named or named in labelled or any(f" {normalize_words(s)} " in text for s in spellings):
            continue
        column = " and ".join(entry.name for entry in labelled.values())
        return (
            f"its text names {one.mode_word} {one.mode(named).name}, its labels {column}: correct the one that is wrong"
        )
    return ""


_LAYA_KEYS = frozenset(map(normalize_words, (*LAYAS, "laya")))
