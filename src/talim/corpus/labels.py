"""What can be said of a stretch of a recording: labels that hold there, and none that may not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from talim.corpus.recordings import AnnotatedSection

# Column names in the order of their worth; the paper's own (taal, laya, instrument) are among them.
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
KINDS = {"raag": "raga", "raaga": "raga", "taal": "tala", "taala": "tala", "maqam": "makam", "meter": "metre"}
KINDS |= {"time_signature": "metre", "mode": "", "cycle": "", "scale": ""}
_SECTION_LABELS = ("mode", "cycle", "laya", "form", "tempo_bpm", "tempo")  # what a section may say for itself
# Where no cycle is played. The pulsed jhala is left out: it belongs to alap and to the end of a gat alike.
_UNMETERED_FORMS = frozenset(
    {"alap", "alapana", "aochar", "jod", "jor", "taksim", "taqsim", "gazel", "serbest", "tanam"}
)
_LAYAS = ("vilambit", "madhya", "drut")
_MIN_OVERLAP_SECONDS = 0.5  # a section that reaches less far into a stretch does not count


@dataclass(frozen=True)
class Labels:
    """Labels of a recording or of a stretch; empty where nothing is known or nothing certain holds."""

    tradition: str = ""
    mode: tuple[str, ...] = ()
    mode_kind: str = ""  # what a mode is called there: raga, makam, key
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
    free: bool = False  # it is known that no cycle is played


def parse_labels(cells: Mapping[str, str]) -> Labels:
    """All that a row of metadata says of the whole recording, several values and all."""
    mode_column, mode = _first(cells, "mode")
    cycle_column, cycle = _first(cells, "cycle")
    mode_kind = cells.get("mode_kind", "").lower() or KINDS.get(mode_column, mode_column)
    cycle_kind = cells.get("cycle_kind", "").lower() or KINDS.get(cycle_column, cycle_column)
    columns = {name: _first(cells, name)[1] for name in COLUMNS}
    tradition = columns["tradition"].lower() or _tradition(mode_column, cycle_column, mode_kind, cycle_kind)
    if not cycle_kind:
        cycle_kind = {"raga": "tala", "makam": "usul"}.get(mode_kind, "cycle") if cycle else ""
    made = Labels(
        tradition=tradition,
        mode=tuple(_bare(one) for one in split_values(mode)),
        mode_kind=mode_kind,
        cycle=tuple(_bare(one) for one in split_values(cycle)),
        cycle_kind=cycle_kind,
        laya=split_values(columns["laya"]),
        form=split_values(columns["form"]),
        tempo_bpm=split_values(columns["tempo_bpm"]),
        tempo=split_values(columns["tempo"]),
        mood=split_values(columns["mood"]),
        instruments=_lead_first(split_values(columns["instruments"]), split_values(columns["lead"])),
        performers=split_values(columns["performers"], ";|"),
        title=columns["title"],
        section=columns["section"],
        tonic_hz=_hz(columns["tonic_hz"]),
    )
    return replace(made, free=_is_free(made.section, *made.form, *made.cycle))


def labels_in_range(whole: Labels, sections: Sequence[AnnotatedSection], start: float, stop: float) -> Labels:
    """The labels that hold all through [start, stop) seconds: at most one mode, cycle, laya and form.

    Sections decide where there are any; a stretch over several claims only what they share. Without them
    a recording that lists several talas claims none, and one with an alap in it none either.
    """
    touched = [
        s
        for s in sections
        if min(stop, s.start_seconds + s.seconds) - max(start, s.start_seconds) > _MIN_OVERLAP_SECONDS
    ]
    parts = [_section_labels(whole, section) for section in touched] or [
        _without_sections(whole, bool(sections))
    ]
    names = {part.section for part in parts}
    shared = {
        name: getattr(parts[0], name)
        if len({_normalize_all(getattr(part, name)) for part in parts}) == 1
        else ()
        for name in _SECTION_LABELS
    }
    free = all(part.free for part in parts)
    metred = not any(part.free for part in parts)
    single = {name: found if len(found) == 1 else () for name, found in shared.items()}
    if not metred:
        single |= {"cycle": (), "laya": (), "tempo_bpm": (), "tempo": ()}
    return replace(whole, **single, free=free, section=names.pop() if len(names) == 1 else "")


def _without_sections(whole: Labels, annotated: bool) -> Labels:
    """The recording's labels for a stretch of which no section tells; none that a part of it may break."""
    some_free = whole.free or any(_is_free(text) for text in (*whole.form, whole.title))
    if annotated or (some_free and not _all_free(whole)):
        return replace(whole, cycle=(), laya=(), tempo_bpm=(), tempo=(), form=(), free=False)
    if len(whole.cycle) > 1:  # a concert of several parts: its one tempo is that of one of them
        return replace(whole, laya=(), tempo_bpm=(), tempo=(), free=False)
    return replace(whole, free=some_free)


def _all_free(whole: Labels) -> bool:
    """Whether everything that is said of the form names an unmetred one."""
    told = [text for text in (whole.section, *whole.form) if text] or [whole.title, *whole.cycle]
    return all(_is_free(text) for text in told if text)


def _section_labels(whole: Labels, section: AnnotatedSection) -> Labels:
    """The labels of one section: its own, what its name says, else the recording's where it has one only."""
    own = parse_labels(section.cells)
    name = normalize_name(section.name)
    spoken = tuple(cycle for cycle in whole.cycle if normalize_name(cycle) and normalize_name(cycle) in name)
    if not spoken and (found := re.search(r"\b\w*t[aā]+l\b", section.name, re.IGNORECASE)):
        spoken = (found.group(),)
    layas = tuple(laya for laya in _LAYAS if laya in name)
    free = own.free or _is_free(section.name)
    return replace(
        whole,
        mode=own.mode or whole.mode,
        mode_kind=own.mode_kind or whole.mode_kind,
        cycle=() if free else own.cycle or spoken[-1:] or whole.cycle,
        cycle_kind=own.cycle_kind or whole.cycle_kind or ("tala" if spoken else ""),
        laya=() if free else own.laya or layas[:1] or _single_value(whole.laya),
        form=own.form or (("alap",) if "alap" in name else ()) or _single_value(whole.form),
        tempo_bpm=() if free else own.tempo_bpm or _single_value(whole.tempo_bpm),
        tempo=() if free else own.tempo or _single_value(whole.tempo),
        section=section.name,
        free=free,
    )


def split_values(cell: str, separators: str = ";|,") -> tuple[str, ...]:
    """The single values of a cell such as "Tabla,Voice" or "A | B"; the same one twice counts once."""
    parts = [" ".join(part.split()) for part in re.split(f"[{re.escape(separators)}]", cell)]
    return tuple({normalize_name(part): part for part in reversed(parts) if part}.values())[::-1]


def in_words(text: str) -> str:
    """The text with blanks for underscores, single ones between its words and none around them."""
    return " ".join(text.replace("_", " ").split())


def normalize_name(text: str) -> str:
    """Lower case without diacritics, doubled vowels and punctuation, so that spellings can be compared."""
    plain = unicodedata.normalize("NFD", text.casefold().replace("ı", "i"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    for double, single in (("aa", "a"), ("ee", "i"), ("oo", "u"), ("_", " "), ("-", " ")):
        plain = plain.replace(double, single)
    return " ".join(re.sub(r"[^\w ]", " ", plain).split())


def _normalize_all(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(normalize_name(one) for one in found))


def _single_value(found: tuple[str, ...]) -> tuple[str, ...]:
    return found if len(found) == 1 else ()


def _is_free(*texts: str) -> bool:
    """Whether any of the texts names an unmetred part."""
    words = {word for text in texts for word in normalize_name(text).split()}
    return bool(words & _UNMETERED_FORMS) or any("uzun hava" in normalize_name(text) for text in texts)


def _first(cells: Mapping[str, str], name: str) -> tuple[str, str]:
    """The column that answers for a label, and what it says; two empty texts where none does."""
    return next(((column, cells[column]) for column in COLUMNS[name] if cells.get(column)), ("", ""))


def _tradition(*words: str) -> str:
    """The tradition that a column's name gives away; "raga" and "tala" alone may be Carnatic too."""
    if {"makam", "usul"} & {*words}:
        return "makam"
    return "hindustani" if {"raag", "taal"} & {*words} else ""


def _bare(name: str) -> str:
    """A mode's or cycle's name without the word that says what it is: Raag Yaman is Yaman."""
    bare = re.sub(r"^(raga|raag|raaga|makam|tala|taal|usul)\s+", "", name, flags=re.IGNORECASE)
    return re.sub(r"\s+(makam[ıi]|usul[üu])$", "", bare, flags=re.IGNORECASE)


def _lead_first(instruments: tuple[str, ...], lead: tuple[str, ...]) -> tuple[str, ...]:
    """Instruments as one reads them: the lead or the voice first, plain words in lower case."""
    shown = [name for name in (in_words(one).lower() for one in instruments) if name]
    first = {in_words(one).lower() for one in lead} - {""} or {"voice", "vocal", "vocals"}
    return tuple(sorted(shown, key=lambda name: name not in first))


def _hz(text: str) -> float | None:
    try:
        found = float(text.lower().removesuffix("hz").strip())
    except ValueError:
        return None
    return found if 20 <= found <= 5000 else None
