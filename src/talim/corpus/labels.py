"""Labels of a recording and of its stretches: tradition, mode, cycle, laya, form, instruments, performers.

First the labels of a row of metadata and of a stretch; then numbers among them; then one spelling of each label in a
corpus: "Bhupali", "Bhoopali" and "भूपाली" are one raga where the traditions' facts know them, other spellings where they
differ in nothing but case, accents, hyphens and blanks (captions keep the words that their source has); last the names
that no list here has. No list is complete, so these are told and used as they are written; of traditions and kinds of
names without a list (a dastgah, a key, a metre) nothing is said.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Literal

from talim.corpus.manifest import UNKNOWN, Clip
from talim.corpus.recordings import AnnotatedSection
from talim.corpus.split_groups import folded_name, listed_names, performers
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.traditions.devanagari import romanize_devanagari
from talim.traditions.instrument_names import list_instruments, near_instruments, resolve_instrument
from talim.traditions.name_matching import normalize_name, normalize_words
from talim.traditions.prompt_labels import mode_in
from talim.traditions.tradition import Tradition, load_all_builtin

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
_LAYA_KEYS = frozenset(map(normalize_words, (*LAYAS, "laya")))
_MIN_OVERLAP_SECONDS = 0.5  # shorter overlaps of a section with a stretch are ignored
NO_CYCLE = "none"
_ENTRY = "/"  # between the slugs of a tradition and of its mode or cycle
_JOINT = " | "  # between the values of one cell
_UNNAMED = (UNKNOWN, NO_CYCLE, "")
UNKNOWN_NAMES = "unknown names"
_CUTOFF, _OFFERS, _MAX_LISTED = 0.75, 3, 20
_Doubt = tuple[str, str, tuple[str, ...]]  # kind of name, the name as written, those that may be meant


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


def note_name(hz: float) -> str:
    """The English name of the tempered note nearest to a frequency above 0, about A4 = 440 Hz, such as G#3."""
    octave, semitone = divmod(round(12 * math.log2(hz / 440.0)) + 57, 12)
    return f"{('C', 'C#', 'D', 'D#', 'E', 'F', 'F#', 'G', 'G#', 'A', 'A#', 'B')[semitone]}{octave}"


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
        "instruments": lambda clip, text: _usual_instrument(text),
    }
    updates: list[dict[str, str]] = [{} for _ in clips]
    for column, meaning in meanings.items():
        found = _Spellings(column)
        values = [_cell_values(getattr(clip, column)) for clip in clips]
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
    notes += _missing_tradition_notes(clips)
    return [clip.model_copy(update=update) for clip, update in zip(clips, updates, strict=True)], notes


def _missing_tradition_notes(clips: Sequence[Clip]) -> list[str]:
    """A line for each tradition that alone has the modes of recordings which name none: what the column would give.

    It is not filled in: other traditions, which have no list here, use some of these names too.
    """
    named: dict[str, dict[str, None]] = {}
    for clip in clips:
        for text in _cell_values(clip.mode) if clip.tradition == UNKNOWN else ():
            slug, found, _ = _entry_meaning("mode", clip, text).partition(_ENTRY)
            if found:
                named.setdefault(slug, {})[text] = None
    return [
        f"no tradition is given with {', '.join([*names][:_MAX_LISTED])}: the mode is not scored, and no caption names "
        f"the tradition; where it is {slug}, write that into the column tradition"
        for slug, names in named.items()
    ]


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


def _cell_values(cell: str) -> list[str]:
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


def _usual_instrument(text: str) -> str:
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
        for text in re.split("[|;]", str(getattr(clip, column))):
            for name, written in (performers if column == "performer" else listed_names)(text).items():
                spellings[name][written] = None
    return [f"{column}: {', '.join(texts)} are one for the split" for texts in spellings.values() if len(texts) > 1]


def unknown_names(recordings: Iterable[tuple[Labels, Sequence[AnnotatedSection]]]) -> list[str]:
    """A line for each spelling that may be another one, with its recordings; and for each kind one for all others.

    Of each recording its labels and its sections are given.
    """
    counts: Counter[_Doubt] = Counter()
    for whole, sections in recordings:
        parts = [whole, *(parse_labels(section.cells) for section in sections)]
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


def other_mode_in_caption(caption: str, labels: Labels, sections: Sequence[AnnotatedSection]) -> str:
    """A note where the words of a caption name another mode than the labels of its recording; else empty."""
    modes = {*labels.mode, *(name for part in sections for name in parse_labels(part.cells).mode)}
    for one in possible_traditions(labels.tradition or UNKNOWN):
        keys = (normalize_name(romanize_devanagari(name), one.mode_words) for name in modes)
        labelled = {entry.slug: entry for key in keys if (entry := one.mode_keys.get(key))}
        named = (mode_in(caption, [one]) or "").rpartition("/")[2]
        text = f" {normalize_words(caption)} "
        spellings = [name for entry in labelled.values() for name in (entry.name, *entry.aliases)]
        if not labelled or not named or named in labelled or any(f" {normalize_words(s)} " in text for s in spellings):
            continue
        column = " and ".join(entry.name for entry in labelled.values())
        return (
            f"its text names {one.mode_word} {one.mode(named).name}, its labels {column}: correct the one that is wrong"
        )
    return ""
