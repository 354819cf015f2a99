"""Labels of a recording and of its stretches: tradition, mode, cycle, laya, form, instruments, performers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from talim.corpus.recordings import AnnotatedSection
from talim.traditions.name_matching import normalize_words

# Column names of each label; the first one present counts.
COLUMNS: dict[str, tuple[str, ...]] = {
    "tradition": ("tradition", "genre", "style"),
    "mode": ("mode", "raga", "raag", "raaga", "makam", "maqam", "key", "scale"),
    "cycle": ("cycle", "tala", "taal", "taala", "usul", "metre", "meter", "time_signature"),
    "laya": ("laya", "laaya"),
    "form": ("form", "forms", "genre_form"),
    "instruments": ("instruments", "instrument", "instrumentation"),
    "lead": ("lead", "lead_instrument"),
    "performers": ("performer", "performers", "artist", "artists", "singer", "musician", "musicians"),
    "tempo_bpm": ("tempo_bpm", "bpm"),
    "tempo": ("tempo",),
    "mood": ("mood",),
    "tonic_hz": ("tonic_hz", "tonic", "karar_hz"),
    "title": ("title",),
    "section": ("section", "section_name"),
}
NUMBERS = {  # labels that are numbers: their unit, which may be written too, and their range
    "tempo_bpm": ("bpm", 5.0, 1000.0),
    "tonic_hz": ("hz", 20.0, 5000.0),
}
_TONIC_WORD = re.compile(r"\b(sa|tonic|karar)(\s*[=:]\s*|\s+)", re.IGNORECASE)  # before the tonic: Sa = D4
_NOTE = re.compile(r"([a-g])\s*(?:(♯|#|-?sharp)|(♭|b|-?flat))?\s*(\d)?", re.IGNORECASE)
_SEMITONES = dict(zip("cdefgab", (0, 2, 4, 5, 7, 9, 11), strict=True))
_USUAL_OCTAVE = 3  # of a note without one: that of most singers' tonics; whatever uses a tonic folds octaves
KINDS = {"raag": "raga", "raaga": "raga", "taal": "tala", "taala": "tala", "maqam": "makam", "meter": "metre"}
KINDS |= {"time_signature": "metre", "mode": "", "cycle": "", "scale": ""}
_SECTION_LABELS = ("mode", "cycle", "laya", "form", "tempo_bpm", "tempo")  # labels that may differ by section
# Forms without a cycle. The pulsed jhala is not among them: it belongs to alap and to the end of a gat alike.
_UNMETERED_FORMS = frozenset(
    map(normalize_words, ("alap", "alapana", "aochar", "jod", "jor", "taksim", "gazel", "serbest", "tanam"))
)
LAYAS = ("vilambit", "madhya", "drut")
_MIN_OVERLAP_SECONDS = 0.5  # shorter overlaps of a section with a stretch are ignored


@dataclass(frozen=True)
class Labels:
    """Labels of a recording or of a stretch; empty where unknown or uncertain."""

    tradition: str = ""
    mode: tuple[str, ...] = ()
    mode_kind: str = ""  # what a mode is called: raga, makam, key
    cycle: tuple[str, ...] = ()
    cycle_kind: str = ""  # tala, usul, metre
    laya: tuple[str, ...] = ()
    form: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    performers: tuple[str, ...] = ()
    tempo_bpm: tuple[str, ...] = ()
    tempo: tuple[str, ...] = ()
    mood: tuple[str, ...] = ()
    title: str = ""
    section: str = ""
    tonic_hz: float | None = None
    unmetered: bool = False  # known to have no cycle


def parse_labels(cells: Mapping[str, str]) -> Labels:
    """The labels of a whole recording from its row of metadata; a label may have several values."""
    mode_column, mode = _first(cells, "mode")
    cycle_column, cycle = _first(cells, "cycle")
    mode_kind = cells.get("mode_kind", "").lower() or KINDS.get(mode_column, mode_column)
    cycle_kind = cells.get("cycle_kind", "").lower() or KINDS.get(cycle_column, cycle_column)
    columns = {name: _first(cells, name)[1] for name in COLUMNS}
    tradition = columns["tradition"].lower() or _tradition(mode_column, cycle_column, mode_kind, cycle_kind)
    if not cycle_kind:
        cycle_kind = {"raga": "tala", "makam": "usul"}.get(mode_kind, "cycle") if cycle else ""
    labels = Labels(
        tradition=tradition,
        mode=tuple(_without_kind(name) for name in split_values(mode)),
        mode_kind=mode_kind,
        cycle=tuple(_without_kind(name) for name in split_values(cycle)),
        cycle_kind=cycle_kind,
        laya=split_values(columns["laya"]),
        form=split_values(columns["form"]),
        tempo_bpm=tuple(f"{bpm:g}" for bpm in numbers_in("tempo_bpm", columns["tempo_bpm"])),
        tempo=split_values(columns["tempo"]),
        mood=split_values(columns["mood"]),
        instruments=_lead_first(split_values(columns["instruments"]), split_values(columns["lead"])),
        performers=split_values(columns["performers"], ";|"),
        title=columns["title"],
        section=columns["section"],
        tonic_hz=next(iter(numbers_in("tonic_hz", columns["tonic_hz"])), None),
    )
    return replace(labels, unmetered=is_unmetered(labels.section, *labels.form, *labels.cycle))


def labels_in_range(whole: Labels, sections: Sequence[AnnotatedSection], start: float, stop: float) -> Labels:
    """The labels that hold throughout [start, stop) seconds: at most one mode, cycle, laya and form.

    A stretch over several sections has only the labels that they share. Without sections, a recording that lists
    several talas, or that has an alap in it, has no cycle in any stretch.
    """
    overlapping = [
        section
        for section in sections
        if min(stop, section.start_seconds + section.seconds) - max(start, section.start_seconds) > _MIN_OVERLAP_SECONDS
    ]
    parts = [_section_labels(whole, part) for part in overlapping] or [_labels_outside_sections(whole, bool(sections))]
    shared: dict[str, tuple[str, ...]] = {}
    for name in _SECTION_LABELS:
        equal = len({tuple(sorted(map(normalize_words, getattr(part, name)))) for part in parts}) == 1
        shared[name] = _single_value(getattr(parts[0], name)) if equal else ()
    if any(part.unmetered for part in parts):
        shared |= {"cycle": (), "laya": (), "tempo_bpm": (), "tempo": ()}
    names = {part.section for part in parts}
    return replace(
        whole, **shared, unmetered=all(part.unmetered for part in parts), section=names.pop() if len(names) == 1 else ""
    )


def _labels_outside_sections(whole: Labels, has_sections: bool) -> Labels:
    """The recording's labels for a stretch without a section, less those that may not hold everywhere."""
    partly_unmetered = whole.unmetered or any(is_unmetered(text) for text in (*whole.form, whole.title))
    if has_sections or (partly_unmetered and not _is_entirely_unmetered(whole)):
        return replace(whole, cycle=(), laya=(), tempo_bpm=(), tempo=(), form=(), unmetered=False)
    if len(whole.cycle) > 1:  # a concert of several parts: its single tempo is that of one of them
        return replace(whole, laya=(), tempo_bpm=(), tempo=(), unmetered=False)
    return replace(whole, unmetered=partly_unmetered)


def _is_entirely_unmetered(whole: Labels) -> bool:
    texts = [text for text in (whole.section, *whole.form) if text] or [whole.title, *whole.cycle]
    return all(is_unmetered(text) for text in texts if text)


def _section_labels(whole: Labels, section: AnnotatedSection) -> Labels:
    """A section's labels: its own cells, then its name, then the recording's where that has one value."""
    cells = parse_labels(section.cells)
    name = normalize_words(section.name)
    named_cycles = tuple(cycle for cycle in whole.cycle if (key := normalize_words(cycle)) and key in name)
    if not named_cycles and (match := re.search(r"\b\w*t[aā]+l\b", section.name, re.IGNORECASE)):
        named_cycles = (match.group(),)
    named_layas = tuple(laya for laya in LAYAS if normalize_words(laya) in name)
    named_form = ("alap",) if "alap" in name else ()
    unmetered = cells.unmetered or is_unmetered(section.name)
    return replace(
        whole,
        mode=cells.mode or whole.mode,
        mode_kind=cells.mode_kind or whole.mode_kind,
        cycle=() if unmetered else cells.cycle or named_cycles[-1:] or whole.cycle,
        cycle_kind=cells.cycle_kind or whole.cycle_kind or ("tala" if named_cycles else ""),
        laya=() if unmetered else cells.laya or named_layas[:1] or _single_value(whole.laya),
        form=cells.form or named_form or _single_value(whole.form),
        tempo_bpm=() if unmetered else cells.tempo_bpm or _single_value(whole.tempo_bpm),
        tempo=() if unmetered else cells.tempo or _single_value(whole.tempo),
        section=section.name,
        unmetered=unmetered,
    )


def split_values(cell: str, separators: str = ";|,") -> tuple[str, ...]:
    """The values of a cell such as "Tabla,Voice" or "A | B"; two spellings of one value count once."""
    parts = [" ".join(part.split()) for part in re.split(f"[{re.escape(separators)}]", cell)]
    return tuple({normalize_words(part): part for part in reversed(parts) if part}.values())[::-1]


def underscores_to_spaces(text: str) -> str:
    """The text with a single space for every run of underscores and spaces, none around it."""
    return " ".join(text.replace("_", " ").split())


def _single_value(values: tuple[str, ...]) -> tuple[str, ...]:
    return values if len(values) == 1 else ()


def is_unmetered(*texts: str) -> bool:
    """Whether any of the texts names a part without a cycle."""
    names = [normalize_words(text) for text in texts]
    words = {word for name in names for word in name.split()}
    return bool(words & _UNMETERED_FORMS) or any(normalize_words("uzun hava") in name for name in names)


def _first(cells: Mapping[str, str], name: str) -> tuple[str, str]:
    """The first non-empty column of a label, and its text; two empty texts where there is none."""
    return next(((column, cells[column]) for column in COLUMNS[name] if cells.get(column)), ("", ""))


def _tradition(*kinds: str) -> str:
    """The tradition that a column's name implies; "raga" and "tala" alone may be Carnatic too."""
    if {"makam", "usul"} & {*kinds}:
        return "makam"
    return "hindustani" if {"raag", "taal"} & {*kinds} else ""


def _without_kind(name: str) -> str:
    """The name of a mode or cycle without the word for what it is: Raag Yaman becomes Yaman."""
    bare = re.sub(r"^(raga|raag|raaga|makam|tala|taal|usul)\s+", "", name, flags=re.IGNORECASE)
    return re.sub(r"\s+(makam[ıi]|usul[üu])$", "", bare, flags=re.IGNORECASE)


def _lead_first(instruments: tuple[str, ...], lead: tuple[str, ...]) -> tuple[str, ...]:
    """Instruments in lower case, the lead instruments (or else the voice) first."""
    names = [name for name in (underscores_to_spaces(text).lower() for text in instruments) if name]
    first = {underscores_to_spaces(text).lower() for text in lead} - {""} or {"voice", "vocal", "vocals"}
    return tuple(sorted(names, key=lambda name: name not in first))


def _number_in(name: str, text: str) -> float | None:
    """The number of a label of `NUMBERS` in a cell or a part of it, such as "92" or "146.8 Hz"; None for all else.

    That of a tonic may be a note too, see `note_hz`.
    """
    unit, low, high = NUMBERS[name]
    try:
        value = (note_hz(text) if name == "tonic_hz" else None) or float(text.lower().removesuffix(unit).strip())
    except ValueError:
        return None
    return value if low <= value <= high else None


def note_hz(text: str) -> float | None:
    """The frequency of a note by its English name (C#, D♭, "E flat", D4), tempered about A4 = 440 Hz; else None."""
    if not (match := _NOTE.fullmatch(text.strip())):
        return None
    letter, sharp, flat, octave = match.groups()
    semitone = _SEMITONES[letter.lower()] + bool(sharp) - bool(flat) + 12 * int(octave or _USUAL_OCTAVE)
    return 440.0 * 2 ** ((semitone - 57) / 12)  # A4 is 57 semitones above C0


def names_tonic_by_note(cells: Mapping[str, str]) -> bool:
    """Whether a row of metadata has a note where a tonic in Hz is expected."""
    return any(map(note_hz, _number_parts("tonic_hz", _first(cells, "tonic_hz")[1])))


def numbers_in(name: str, cell: str) -> list[float]:
    """The numbers of a label of `NUMBERS` in a cell, without what is none."""
    values = (_number_in(name, part) for part in _number_parts(name, cell))
    return [value for value in values if value is not None]


def _number_parts(name: str, cell: str) -> tuple[str, ...]:
    """The values of a cell of numbers; a comma between digits is that of a decimal, but for tempi like 60,120."""
    if name == "tonic_hz":
        return split_values(re.sub(r"(?<=\d),(?=\d)", ".", _TONIC_WORD.sub("", cell)))
    return split_values(re.sub(r"(?<=\d),(?=\d(?!\d))", ".", cell))


def without_wrong_numbers(cells: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """A row of metadata without what stands in the columns of numbers and is none, and why, by column."""
    kept, faults = dict(cells), {}
    for name, (unit, low, high) in NUMBERS.items():
        for column in (column for column in COLUMNS[name] if column in cells):
            parts = _number_parts(name, cells[column])
            right = [part for part in parts if _number_in(name, part) is not None]
            if len(right) == len(parts):
                continue
            kept[column] = " | ".join(right)
            wrong = ", ".join(repr(part) for part in parts if part not in right)
            faults[column] = f"{wrong} in {column} is not used, being no number from {low:g} to {high:g} ({unit})"
            if name == "tempo_bpm":
                faults[column] += "; words for a tempo have a column of their own, tempo"
            else:
                faults[column] += " and no note such as C#, Db or D4"
    return {column: text for column, text in kept.items() if text}, faults
