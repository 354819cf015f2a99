"""Labels named in a prompt: "slow sitar, raga Yaman, tala Keherwa, 80 bpm" has a mode, a cycle and a tempo."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from talim.traditions.name_matching import normalize_name, slugify
from talim.traditions.schema import EntryT
from talim.traditions.tradition import Tradition, load_all_builtin

MAX_WORDS = 4  # of a name: "Ağır Semâî", "Devr-i Turan"


def mode_in(prompt: str, traditions: Sequence[Tradition] | None = None) -> str | None:
    """ "tradition/mode" of the first mode named next to its tradition's word for one; None where there is none.

    `traditions` are all built-in ones by default. A name alone is not enough: "Rast" and "Des" may be anything.
    """
    return _first_named(prompt, "mode", traditions)


def cycle_in(prompt: str, traditions: Sequence[Tradition] | None = None) -> str | None:
    """ "tradition/cycle" of the first cycle named next to its tradition's word for one; None where there is none."""
    return _first_named(prompt, "cycle", traditions)


def tempo_in(prompt: str) -> float | None:
    """The tempo in beats per minute, if it is written as "80 bpm"."""
    match = re.search(r"(?<![\d.])(\d{2,3}(?:\.\d+)?)\s*bpm\b", prompt, re.IGNORECASE)
    return float(match.group(1)) if match else None


def _first_named(prompt: str, kind: str, traditions: Sequence[Tradition] | None) -> str | None:
    for tradition in load_all_builtin() if traditions is None else traditions:
        words, keys = getattr(tradition, f"{kind}_words"), getattr(tradition, f"{kind}_keys")
        if entry := _named_entry(prompt, words, keys):
            return f"{tradition.slug}/{entry.slug}"
    return None


def _named_entry(prompt: str, kinds: tuple[str, ...], keys: Mapping[str, EntryT]) -> EntryT | None:
    """The first entry named right after one of the words `kinds`, or else right before it; long names first."""
    kind_slugs = {slugify(kind) for kind in kinds}
    for part in re.split(r"[,;:.!?()|/]", prompt):
        words = part.split()
        for index, word in enumerate(words):
            if slugify(word) not in kind_slugs:
                continue
            after = [words[index + 1 : index + 1 + size] for size in range(MAX_WORDS, 0, -1)]
            before = [words[max(0, index - size) : index] for size in range(MAX_WORDS, 0, -1)]
            for name in (*after, *before):
                if name and (entry := keys.get(normalize_name(" ".join(name), kinds))):
                    return entry
    return None
