"""What a sentence names: "slow sitar, raga Yaman, tala Keherwa, 80 bpm" speaks of a mode, a cycle and a tempo."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from talim.traditions.name_matching import normalize_name, slugify
from talim.traditions.schema import EntryT
from talim.traditions.tradition import Tradition, load_all_builtin

MAX_WORDS = 4  # of a name: "Ağır Semâî", "Devr-i Turan"


def mode_in(sentence: str, known: Sequence[Tradition] | None = None) -> str | None:
    """ "tradition/mode" of the first mode that stands beside its tradition's word for one; None where none does.

    `known` are the traditions to ask, all shipped ones if they are not given. A name alone is not enough: "Rast" and
    "Des" may be anything.
    """
    return _first(sentence, known, lambda one: (one.mode_words, one.mode_keys))


def cycle_in(sentence: str, known: Sequence[Tradition] | None = None) -> str | None:
    """ "tradition/cycle" of the first cycle that stands beside its tradition's word for one; None where none does."""
    return _first(sentence, known, lambda one: (one.cycle_words, one.cycle_keys))


def tempo_in(sentence: str) -> float | None:
    """Beats a minute, where they are said as such: "80 bpm"."""
    said = re.search(r"(?<![\d.])(\d{2,3}(?:\.\d+)?)\s*bpm\b", sentence, re.IGNORECASE)
    return float(said.group(1)) if said else None


def _first(
    sentence: str,
    known: Sequence[Tradition] | None,
    names: Callable[[Tradition], tuple[tuple[str, ...], Mapping[str, EntryT]]],
) -> str | None:
    for one in load_all_builtin() if known is None else known:
        if entry := _beside(sentence, *names(one)):
            return f"{one.slug}/{entry.slug}"
    return None


def _beside(sentence: str, kinds: tuple[str, ...], keys: Mapping[str, EntryT]) -> EntryT | None:
    """The first entry named right after one of the words, or else right before it; long names before short ones."""
    called = {slugify(kind) for kind in kinds}
    for part in re.split(r"[,;:.!?()|/]", sentence):
        words = part.split()
        for place, word in enumerate(words):
            if slugify(word) not in called:
                continue
            after = [words[place + 1 : place + 1 + n] for n in range(MAX_WORDS, 0, -1)]
            before = [words[max(0, place - n) : place] for n in range(MAX_WORDS, 0, -1)]
            for name in (*after, *before):
                if name and (entry := keys.get(normalize_name(" ".join(name), kinds))):
                    return entry
    return None
