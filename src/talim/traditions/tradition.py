"""A tradition: its modes, cycles and ornaments, read from a folder of JSON files.

The built-in folders lie in `facts/`; a user's own folder of the same format is loaded by its path.
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
from talim.traditions.load import EntryParser, check_keys, finite_number, read_entries, string_list
from talim.traditions.name_matching import normalize_name, slugify, unknown_name_error
from talim.traditions.notation import Notation
from talim.traditions.schema import Cycle, EntryT, Mode, OrnamentDefinition, Stroke
from talim.traditions.usage_statistics import UsageStatistics, read_usage_statistics

__all__ = ["Cycle", "Mode", "OrnamentDefinition", "Stroke", "Tradition", "list_builtin", "load", "tradition_of"]

DATA_FOLDER = Path(__file__).parent / "facts"


@dataclass(frozen=True)
class Tradition:
    """The facts of one tradition.

    `mode_words` and `cycle_words` are its words for a mode and a cycle (raga, raag; tala, taal), the usual one first;
    they may also precede or follow a name. `notation` reads and spells its notes.
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
    low_end_cents: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    usage: Mapping[str, UsageStatistics] = field(default_factory=dict)  # by the mode's slug

    @property
    def mode_word(self) -> str:
        return self.mode_words[0]

    @property
    def cycle_word(self) -> str:
        return self.cycle_words[0]

    def mode(self, name: str) -> Mode:
        """The mode of that name in any common spelling; TalimError offers the nearest names."""
        return find_entry(name, self.mode_keys, self.mode_word, self.mode_words)

    def cycle(self, name: str) -> Cycle:
        """The cycle of that name in any common spelling; TalimError offers the nearest names."""
        return find_entry(name, self.cycle_keys, self.cycle_word, self.cycle_words)

    def ornament(self, name: str) -> OrnamentDefinition:
        """The ornament of that name in any common spelling; TalimError offers the nearest names."""
        return find_entry(name, self.ornament_keys, "ornament", ())

    @cached_property
    def mode_keys(self) -> dict[str, Mode]:
        return {key: mode for mode in self.modes for key in name_keys(mode, self.mode_words)}

    @cached_property
    def cycle_keys(self) -> dict[str, Cycle]:
        return {key: cycle for cycle in self.cycles for key in name_keys(cycle, self.cycle_words)}

    @cached_property
    def ornament_keys(self) -> dict[str, OrnamentDefinition]:
        return {key: ornament for ornament in self.ornaments for key in name_keys(ornament, ())}


def name_keys(entry: EntryT, affixes: tuple[str, ...]) -> dict[str, str]:
    """The matching keys of an entry, each with the spelling that it comes from."""
    return {normalize_name(name, affixes): name for name in (entry.slug, *entry.aliases, entry.name)}


def find_entry(name: str, table: Mapping[str, EntryT], kind: str, affixes: tuple[str, ...]) -> EntryT:
    """The entry of that name; TalimError, with the nearest names, where there is none."""
    entry = table.get(normalize_name(name, affixes))
    if entry is None:
        raise unknown_name_error(kind, name, {key: entry.name for key, entry in table.items()}, affixes)
    return entry


def list_builtin() -> tuple[str, ...]:
    """The slugs of the built-in traditions."""
    return tuple(sorted(path.parent.name for path in DATA_FOLDER.glob("*/tradition.json")))


def load(source: str | Path) -> Tradition:
    """The tradition of a built-in slug or of a folder of the same format.

    TalimError, with the file and the entry, for anything missing, unknown, ambiguous or inconsistent.
    """
    folder = DATA_FOLDER / str(source) if str(source) in list_builtin() else Path(source)
    if not folder.is_dir():
        raise TalimError(f"no tradition {str(source)!r}: name {', '.join(list_builtin())} or a folder of your own")
    head_file = folder / "tradition.json"
    head = check_keys(read_json(head_file), "tradition", head_file, "tradition")
    try:
        parser = EntryParser(head)
        low_end_cents = finite_number(head["low_end_cents"], "low_end_cents") if "low_end_cents" in head else None
        names = {key: string_list(head.get(key, []), key) for key in ("aliases", "mode_words", "cycle_words")}
        slug = head.get("slug", slugify(head["name"]))
    except (TalimError, TypeError, ValueError, AttributeError) as error:
        raise TalimError(f"{head_file}: {error}") from error
    modes = read_entries(folder / "modes.json", "mode", parser.mode)
    tradition = Tradition(
        slug=slug,
        name=head["name"],
        **names,
        modes=modes,
        cycles=read_entries(folder / "cycles.json", "cycle", parser.cycle),
        ornaments=read_entries(folder / "ornaments.json", "ornament", parser.ornament),
        notation=parser.played,
        low_end_cents=low_end_cents,
        facts=head.get("facts", {}),
        usage=read_usage_statistics(folder / "practice.json", parser.played, {mode.slug for mode in modes}),
    )
    check_unique(folder / "modes.json", tradition.modes, tradition.mode_words)
    check_unique(folder / "cycles.json", tradition.cycles, tradition.cycle_words)
    check_unique(folder / "ornaments.json", tradition.ornaments, ())
    return tradition


def check_unique(file: Path, entries: Sequence[EntryT], affixes: tuple[str, ...]) -> None:
    """TalimError where a name belongs to two entries."""
    owners: dict[str, EntryT] = {}
    for entry in entries:
        for key, spelling in name_keys(entry, affixes).items():
            owner = owners.setdefault(key, entry)
            if owner is not entry:
                both = f"{owner.name!r} and {entry.name!r} both have the name {spelling!r}"
                raise TalimError(f"{file}: {both}; rename one")


@cache
def load_all_builtin() -> tuple[Tradition, ...]:
    """Every built-in tradition, loaded once."""
    return tuple(load(slug) for slug in list_builtin())


def tradition_of(cells: Mapping[str, str], traditions: Sequence[Tradition] | None = None) -> Tradition | str:
    """The tradition that metadata cells imply, or the reason (one line) why they imply none.

    A cell `tradition` decides; otherwise cells named by a mode or cycle word (raga, makam, usul ...) whose value is
    known in exactly one of `traditions` (default: the built-in ones). Values are separated by comma, bar or slash.
    """
    traditions = load_all_builtin() if traditions is None else traditions
    labels = {slugify(key): str(value).strip() for key, value in cells.items() if str(value or "").strip()}
    if "tradition" in labels:
        key = normalize_name(labels["tradition"])
        for tradition in traditions:
            if key in map(normalize_name, (tradition.slug, tradition.name, *tradition.aliases)):
                return tradition
        names = ", ".join(tradition.slug for tradition in traditions)
        return f"its tradition {labels['tradition']!r} is none of {names}"
    results = {tradition.slug: recognized_names(tradition, labels) for tradition in traditions}
    matches = [tradition for tradition in traditions if results[tradition.slug][0]]
    if len(matches) == 1:
        return matches[0]
    if matches:
        slugs = " and ".join(tradition.slug for tradition in matches)
        return f"its labels belong to {slugs} at once; set tradition"
    unknown = [message for _, messages in results.values() for message in messages]
    if unknown:
        return f"{unknown[0]}; set tradition"
    words = ", ".join(word for tradition in traditions for word in (tradition.mode_word, tradition.cycle_word))
    return f"none of its labels names a tradition ({words})"


def recognized_names(tradition: Tradition, labels: Mapping[str, str]) -> tuple[int, list[str]]:
    """The number of modes and cycles in `labels` that the tradition has, and an error message for each other one."""
    look_ups = dict.fromkeys(map(slugify, tradition.cycle_words), tradition.cycle)
    look_ups |= dict.fromkeys(map(slugify, tradition.mode_words), tradition.mode)
    count, errors = 0, []
    for key, value in labels.items():
        names = [part.strip() for part in re.split(r"[,|/;]", value)] if key in look_ups else []
        for name in filter(None, names):
            try:
                look_ups[key](name)
                count += 1
            except TalimError as error:
                errors.append(str(error))
    return count, errors
