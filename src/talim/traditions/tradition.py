"""A tradition as data: its modes, cycles and ornaments, read from a folder of JSON files.

The shipped folders lie in `facts/`; a user's own folder of the same form is passed by its path, and needs no code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.errors import TalimError
from talim.traditions.load import EntryParser, check_keys, listed, read_entries
from talim.traditions.name_matching import normalize_name, slugify, unknown_name_error
from talim.traditions.notation import Notation
from talim.traditions.schema import Cycle, EntryT, Mode, OrnamentDefinition, Stroke
from talim.traditions.usage_statistics import UsageStatistics
from talim.traditions.usage_statistics import read_usage_statistics as read_practice

__all__ = [
    "Cycle",
    "Mode",
    "OrnamentDefinition",
    "Stroke",
    "Tradition",
    "list_builtin",
    "load",
    "tradition_of",
]

DATA_FOLDER = Path(__file__).parent / "facts"


@dataclass(frozen=True)
class Tradition:
    """Everything that is known of one tradition.

    `mode_words` and `cycle_words` are what a mode and a cycle are called here (raga, raag; tala, taal), the usual
    word first; they are also the words that may stand before or after a name. `notation` reads and spells its notes.
    """

    slug: str
    name: str
    aliases: tuple[str, ...]
    mode_words: tuple[str, ...]
    cycle_words: tuple[str, ...]
    modes: tuple[Mode, ...]
    cycles: tuple[Cycle, ...]
    ornaments: tuple[OrnamentDefinition, ...]
    notation: Notation
    facts: dict[str, Any] = field(default_factory=dict)
    practice: Mapping[str, UsageStatistics] = field(
        default_factory=dict
    )  # by a mode's slug, where it was counted

    @property
    def mode_word(self) -> str:
        return self.mode_words[0]

    @property
    def cycle_word(self) -> str:
        return self.cycle_words[0]

    def mode(self, name: str) -> Mode:
        """The mode called `name` under any common spelling; TalimError offers the nearest ones."""
        return find_entry(name, self.mode_keys, self.mode_word, self.mode_words)

    def cycle(self, name: str) -> Cycle:
        """The cycle called `name` under any common spelling; TalimError offers the nearest ones."""
        return find_entry(name, self.cycle_keys, self.cycle_word, self.cycle_words)

    def ornament(self, name: str) -> OrnamentDefinition:
        """The ornament called `name` under any common spelling; TalimError offers the nearest ones."""
        return find_entry(name, self.ornament_keys, "ornament", ())

    @cached_property
    def mode_keys(self) -> dict[str, Mode]:
        """Every folded name of a mode."""
        return {key: mode for mode in self.modes for key in name_keys(mode, self.mode_words)}

    @cached_property
    def cycle_keys(self) -> dict[str, Cycle]:
        """Every folded name of a cycle."""
        return {key: cycle for cycle in self.cycles for key in name_keys(cycle, self.cycle_words)}

    @cached_property
    def ornament_keys(self) -> dict[str, OrnamentDefinition]:
        """Every folded name of an ornament."""
        return {key: ornament for ornament in self.ornaments for key in name_keys(ornament, ())}


def name_keys(entry: EntryT, affixes: tuple[str, ...]) -> dict[str, str]:
    """Every folded key of an entry, each with the spelling it came from."""
    return {normalize_name(word, affixes): word for word in (entry.slug, *entry.aliases, entry.name)}


def find_entry(name: str, table: Mapping[str, EntryT], kind: str, affixes: tuple[str, ...]) -> EntryT:
    """The entry that answers to `name`; TalimError, with the nearest names, where none does."""
    entry = table.get(normalize_name(name, affixes))
    if entry is None:
        raise unknown_name_error(kind, name, {key: entry.name for key, entry in table.items()}, affixes)
    return entry


def list_builtin() -> tuple[str, ...]:
    """The slugs of the traditions that come with talim."""
    return tuple(sorted(path.parent.name for path in DATA_FOLDER.glob("*/tradition.json")))


def load(source: str | Path) -> Tradition:
    """The tradition of a shipped slug or of a folder of the same form.

    TalimError, with the file and the entry, for whatever is missing, unknown, doubled or does not add up.
    """
    folder = DATA_FOLDER / str(source) if str(source) in list_builtin() else Path(source)
    if not folder.is_dir():
        raise TalimError(
            f"no tradition {str(source)!r}: name {', '.join(list_builtin())} or a folder of your own"
        )
    head_file = folder / "tradition.json"
    head = check_keys(read_json(head_file), "tradition", head_file, "tradition")
    try:
        reader = EntryParser(head)
        names = {key: listed(head.get(key, []), key) for key in ("aliases", "mode_words", "cycle_words")}
        slug = head.get("slug", slugify(head["name"]))
    except (TalimError, TypeError, ValueError, AttributeError) as error:
        raise TalimError(f"{head_file}: {error}") from error
    modes = read_entries(folder / "modes.json", "mode", reader.mode)
    tradition = Tradition(
        slug=slug,
        name=head["name"],
        aliases=names["aliases"],
        mode_words=names["mode_words"],
        cycle_words=names["cycle_words"],
        modes=modes,
        cycles=read_entries(folder / "cycles.json", "cycle", reader.cycle),
        ornaments=read_entries(folder / "ornaments.json", "ornament", reader.ornament),
        notation=reader.played,
        facts=head.get("facts", {}),
        practice=read_practice(folder / "practice.json", reader.played, {mode.slug for mode in modes}),
    )
    check_unique(folder / "modes.json", tradition.modes, tradition.mode_words)
    check_unique(folder / "cycles.json", tradition.cycles, tradition.cycle_words)
    check_unique(folder / "ornaments.json", tradition.ornaments, ())
    return tradition


def check_unique(file: Path, found: Sequence[EntryT], affixes: tuple[str, ...]) -> None:
    """TalimError where two entries answer to one name: it would be a guess which is meant."""
    owner: dict[str, EntryT] = {}
    for entry in found:
        for key, spelling in name_keys(entry, affixes).items():
            other = owner.setdefault(key, entry)
            if other is not entry:
                raise TalimError(
                    f"{file}: {other.name!r} and {entry.name!r} both answer to {spelling!r}; rename one"
                )


@cache
def load_all_builtin() -> tuple[Tradition, ...]:
    """Every shipped tradition, read once."""
    return tuple(load(slug) for slug in list_builtin())


def tradition_of(words: Mapping[str, str], known: Sequence[Tradition] | None = None) -> Tradition | str:
    """The tradition that metadata words speak of, or the reason (one line) why it cannot be told.

    `tradition` decides where it is given; else a mode or cycle word (raga, makam, usul ...) whose value is known in
    just one of `known` (default: the shipped ones). Several values in one word are parted by comma, bar or slash.
    """
    known = load_all_builtin() if known is None else known
    given = {slugify(key): str(value).strip() for key, value in words.items() if str(value or "").strip()}
    if "tradition" in given:
        for tradition in known:
            if normalize_name(given["tradition"]) in {
                normalize_name(w) for w in (tradition.slug, tradition.name, *tradition.aliases)
            }:
                return tradition
        names = ", ".join(tradition.slug for tradition in known)
        return f"its tradition {given['tradition']!r} is none of {names}"
    claims = {tradition.slug: recognized_names(tradition, given) for tradition in known}
    sure = [tradition for tradition in known if claims[tradition.slug][0]]
    if len(sure) == 1:
        return sure[0]
    if sure:
        return (
            f"its words speak of {' and '.join(tradition.slug for tradition in sure)} at once; set tradition"
        )
    doubts = [doubt for _, unknowns in claims.values() for doubt in unknowns]
    wanted = ", ".join(word for tradition in known for word in (tradition.mode_word, tradition.cycle_word))
    return f"{doubts[0]}; set tradition" if doubts else f"none of its words names a tradition ({wanted})"


def recognized_names(tradition: Tradition, given: Mapping[str, str]) -> tuple[int, list[str]]:
    """How many of the `given` modes and cycles the tradition knows, and what it says of those it does not."""
    hits, doubts = 0, []
    for key, value in given.items():
        if key not in {slugify(word) for word in (*tradition.mode_words, *tradition.cycle_words)}:
            continue
        look_up = tradition.mode if key in map(slugify, tradition.mode_words) else tradition.cycle
        for name in filter(None, (part.strip() for part in re.split(r"[,|/;]", value))):
            try:
                look_up(name)
                hits += 1
            except TalimError as error:
                doubts.append(str(error))
    return hits, doubts
