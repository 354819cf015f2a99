"""What a split must respect: recordings that belong together, and the sides that the metadata name.

Recordings belong together by performers, as their names are read, by releases, works and shared audio; `split_leakage`
is how much of that a split has on both sides. The column `split` of metadata names the side of a recording, in the
usual words for it.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from talim.corpus.manifest import UNKNOWN, Clip
from talim.corpus.recordings import SourceFile
from talim.corpus.tables import is_missing
from talim.errors import UsageError
from talim.html.formatting import format_counted
from talim.traditions.name_matching import UNDECOMPOSED

_FIRST_ACCENT = 200  # combining class; below it are marks that belong to a letter, such as the Japanese voicing mark
_CJK = "\u3005-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_BLANK_IN_NAME = re.compile(f"(?<=[{_CJK}]) (?=[{_CJK}])")  # these scripts write a name with or without one
# What stands between the names of several people in one cell, beside | and ;. A Japanese "to" is none within hiragana.
_BETWEEN_NAMES = re.compile(
    r"(?<=\s)w/|[,、/+&]|(?<=[^\Wぁ-ゖ])と(?=\w)|(?<=\w)と(?=[^\Wぁ-ゖ])|(?<=\s)と(?=\s)|(?<=[가-힣])[와과](?=\s)"
    r"|(?<=\s)(?:and|with|featuring|feat|ft|ve|ile|und|mit|et|avec|y|con|e|com|en|met|и|с|और|तथा|و)\b\.?",
    re.IGNORECASE,
)
# As `folded_name` has them: words for nobody in particular, and words for whoever writes the table.
_NOBODY = frozenset({
    "various", "various artists", "various performers", "various musicians", "va", "v a", "anon", "anonymous", "artist",
    "performer", "musician", "unknown artist", "unknown artists", "unknown performer", "unknown musician", "not known",
    "unnamed", "someone", "somebody", "nobody", "traditional", "trad", "tba", "tbd", "others", "other", "friends", "co",
    "et al", "anonim", "cesitli", "cesitli sanatcilar", "bilinmeyen sanatci", "digerleri", "arkadaslari", "匿名",
    "作者不詳", "演奏者不明", "奏者不明", "ほか", "他", "様々", "いろいろ", "オムニバス", "अज्ञात कलाकार", "विविध",
})  # fmt: skip
_OWN_WORDS = frozenset({
    "me", "myself", "i", "self", "us", "we", "ourselves", "kendim", "kendimiz", "私", "自分", "僕", "俺", "本人",
    "わたし", "ich", "moi", "मैं", "खुद", "स्वयं", "我", "我自己",
})  # fmt: skip
OWN_NAME = "me"  # of the performer whom any of these words means
TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held_out"  # the last one is the test side
LEAKAGE_KEYS = ("performer", "release", "work")
DuplicatePairs = Sequence[tuple[str, str]]  # source files with a common stretch of audio
SPLIT_COLUMN = "split"
_SIDE_WORDS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "val", "valid", "dev"),
    HELD_OUT: ("test", "testing", "held-out", "eval", "evaluation"),
}
_SIDE_OF_WORD = {word.replace("-", ""): side for side, words in _SIDE_WORDS.items() for word in words}
_SIDE_NAMES = {side: words[0] for side, words in _SIDE_WORDS.items()}
_MAX_LISTED = 4


@dataclass(frozen=True)
class SplitItem:
    """A clip with what the split needs: performers, release, work, and its position in the source file."""

    id: str
    recording: str
    performer: str  # several are separated by | or ;
    source_file: str
    start_seconds: float
    seconds: float
    release: str = UNKNOWN
    work: str = UNKNOWN
    lead: str = UNKNOWN  # the soloist, where the source distinguishes one from the accompanists
    joint: str = ""  # a cell of several people as it is written, see `with_single_performers`


def listed_names(cell: str) -> dict[str, str]:
    """The names in a cell such as "A | B", by `folded_name`, as they are written; none where unknown."""
    names: dict[str, str] = {}
    for part in re.split("[|;]", cell):
        if not is_missing(text := " ".join(part.split())):
            names.setdefault(folded_name(text) or text, text)
    return names


def performers(cell: str) -> dict[str, str]:
    """As `listed_names`, without words for nobody ("various artists"); "me", "myself" and their like are one name."""
    names = {name: text for name, text in listed_names(cell).items() if name not in _NOBODY}
    return {OWN_NAME if name in _OWN_WORDS else name: text for name, text in names.items()}


def with_single_performers(items: Sequence[SplitItem]) -> list[SplitItem]:
    """The items with each performer and soloist by name, or "unknown".

    A name of several people ("A and B") is taken apart where one of them stands alone in another cell, or in another
    name that is taken apart. "Simon & Garfunkel", of whom neither does, stays one.
    """
    cells = sorted({cell for item in items for cell in (item.performer, item.lead)})
    known = {name: text for cell in cells for name, text in performers(cell).items()}
    several = {name: people for name, text in known.items() if (people := _people(text))}
    apart: dict[str, dict[str, str]] = {}
    while new := {name for name in several.keys() - apart.keys() if known.keys() & several[name].keys()}:
        apart |= {name: several[name] for name in new}
        known |= {person: text for name in new for person, text in several[name].items()}

    def single(cell: str) -> str:
        names = performers(cell)
        if names.keys() == listed_names(cell).keys() and cell not in joint:
            return cell
        texts = (text for name, written in names.items() for text in apart.get(name, {name: written}).values())
        return " | ".join(texts) or UNKNOWN

    joint = {cell for cell in cells if performers(cell).keys() & apart.keys()}
    read = {cell: single(cell) for cell in cells}
    return [
        replace(
            item,
            performer=read[item.performer],
            lead=read[item.lead],
            joint=next((cell for cell in (item.performer, item.lead) if cell in joint), ""),
        )
        for item in items
    ]


def _people(name: str) -> dict[str, str]:
    """The performers of a name such as "A and B" or "A (feat. B)"; none where it is of one."""
    plain = re.sub(r"[()\[\]]", " ", unicodedata.normalize("NFKC", name))
    people = performers(" | ".join(_BETWEEN_NAMES.split(plain)))
    return people if people.keys() != performers(name).keys() else {}


def named_people(cell: str) -> list[tuple[str, str]]:
    """The names of `performers` and how each is written, with a name of several people ("A and B") taken apart."""
    parts = (_people(text) or {name: text} for name, text in performers(cell).items())
    return [pair for names in parts for pair in names.items()]


def own_words(cell: str) -> set[str]:
    """Words of a performer's cell for whoever wrote it, as written: {"me"} of "me" and of "me and Rafiq"."""
    return {text for name, text in named_people(cell) if name == OWN_NAME}


def names_in(text: str, names: Iterable[str]) -> list[str]:
    """Which of the `names`, as `folded_name` has them, are whole words of a text; anywhere in it where they are CJK."""
    words = f" {folded_name(text)} "
    return [name for name in names if (name if re.search(f"[{_CJK}]", name) else f" {name} ") in words]


def folded_name(text: str) -> str:
    """A name without case, accents and punctuation, so that "Zeki Müren" and "zeki muren" are one.

    Chinese, Japanese and Korean names are the same with blanks and without. Letters of other scripts keep all marks
    that make another letter of them.
    """
    plain = unicodedata.normalize("NFKD", text).casefold().translate(UNDECOMPOSED)
    bare = "".join(letter for letter in plain if unicodedata.combining(letter) < _FIRST_ACCENT)
    kept = "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in bare)
    return _BLANK_IN_NAME.sub("", unicodedata.normalize("NFC", " ".join(kept.split())))


GROUPING_FUNCTIONS: dict[str, Callable[[SplitItem], tuple[str, ...]]] = {
    "performer": lambda item: tuple(performers(item.performer)),
    "lead": lambda item: tuple(performers(item.lead)),
    "release": lambda item: tuple(listed_names(item.release)),
    "work": lambda item: tuple(listed_names(item.work)),
}


class SplitGroups:
    """Union-find over names; a group is represented by its first name in alphabetical order."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        path = []
        while self._parent.setdefault(name, name) != name:
            path.append(name)
            name = self._parent[name]
        for child in path:
            self._parent[child] = name
        return name

    def union(self, first: str, second: str) -> None:
        root, child = sorted((self.find(first), self.find(second)))
        self._parent[child] = root


def assign_groups(items: Sequence[SplitItem], keys: Iterable[str], duplicates: DuplicatePairs) -> dict[str, str]:
    """Recording -> group: recordings that share any of `keys` or audio, directly or through others, share one."""
    groups = SplitGroups()
    for item in sorted(items, key=lambda item: item.id):
        for key in keys:
            for name in GROUPING_FUNCTIONS[key](item):
                groups.union(f"recording {item.recording}", f"{key} {name}")
    recording_of = {item.source_file: item.recording for item in items}
    for first, second in duplicates:
        if first in recording_of and second in recording_of:
            groups.union(f"recording {recording_of[first]}", f"recording {recording_of[second]}")
    return {item.recording: groups.find(f"recording {item.recording}") for item in items}


def with_sound_groups(clips: Sequence[Clip], duplicates: DuplicatePairs) -> list[Clip]:
    """The clips with `shares_sound_with` set where their recording shares a stretch of audio with another one."""
    recording_of = {clip.source_file: clip.recording for clip in clips}
    groups = SplitGroups()
    for first, second in duplicates:
        groups.union(recording_of[first], recording_of[second])
    connected = {recording_of[name] for pair in duplicates for name in pair}
    return [
        clip.model_copy(update={"shares_sound_with": groups.find(clip.recording)})
        if clip.recording in connected
        else clip
        for clip in clips
    ]


def split_leakage(
    items: Sequence[SplitItem], sides: Mapping[str, str], duplicates: DuplicatePairs = ()
) -> dict[str, float | None]:
    """Fraction of held-out recordings, 0 to 1, with a performer, release, work or audio of training or validation.

    Keys: performer, release, work, duplicate, any (at least one of them). Unknown values count as not shared; where one
    side names none, the fraction is None, and so is an `any` of 0 that leaves such a key out.
    """
    held_out: dict[str, list[SplitItem]] = defaultdict(list)
    for item in items:
        if sides.get(item.id) == HELD_OUT:
            held_out[item.recording].append(item)
    train = [item for item in items if sides.get(item.id) in (TRAIN, VALIDATION)]
    shared: dict[str, set[str]] = {}
    unknown = set()
    for key in LEAKAGE_KEYS:
        names_of = GROUPING_FUNCTIONS[key]
        in_training = {name for item in train for name in names_of(item)}
        if not in_training or not any(names_of(item) for clips in held_out.values() for item in clips):
            unknown.add(key)
        shared[key] = {
            recording for recording, clips in held_out.items() if any(in_training & {*names_of(item)} for item in clips)
        }
    train_files = {item.source_file for item in train}
    exposed = {file for pair in duplicates for file, copy in (pair, pair[::-1]) if copy in train_files}
    shared["duplicate"] = {
        recording for recording, clips in held_out.items() if any(item.source_file in exposed for item in clips)
    }
    shared["any"] = set().union(*shared.values())
    if unknown and not shared["any"]:
        unknown.add("any")
    fractions = {key: round(len(recordings) / max(1, len(held_out)), 4) for key, recordings in shared.items()}
    return {key: None if key in unknown else fraction for key, fraction in fractions.items()}


def side_of(text: str) -> str:
    """The side that a word means, whatever its case, blanks and hyphens; "" where it means none."""
    return _SIDE_OF_WORD.get(re.sub(r"[\s_-]+", "", text.casefold()), "")


def unknown_word(text: str) -> str:
    """A word that means no side, with the one that may be meant: "'tets' (is it test?)"."""
    near = difflib.get_close_matches(text.casefold(), [word for words in _SIDE_WORDS.values() for word in words], 1)
    return f"'{text}'" + (f" (is it {near[0]}?)" if near else "")


def given_sides(
    files: Iterable[SourceFile], edited: Mapping[str, Mapping[str, str]], overridden: bool = False
) -> tuple[dict[str, str], list[str]]:
    """The side of each file that has one in the metadata, and a note on words of a source that mean none.

    `edited` are the rows of the corpus's own metadata.csv by file name, which win. `overridden`: the sides are named
    otherwise, so that only a note is left of these.
    """
    sides, unknown = dict[str, str](), dict[str, int]()
    for file in files:
        word = {**file.row, **edited.get(file.name, {})}.get(SPLIT_COLUMN, "")
        if side := side_of(word):
            sides[file.name] = side
        elif word:
            unknown[word] = unknown.get(word, 0) + 1
    if sides and overridden:
        return {}, ["not used, as --held-out names the test"]
    texts = [f"{unknown_word(word)} of {format_counted(count, 'recording')}" for word, count in unknown.items()]
    shown = ", ".join(texts[:_MAX_LISTED]) + (" and others" if len(texts) > _MAX_LISTED else "")
    return sides, [f"no side, so not used: {shown}"] if texts else []


def sides_of_recordings(
    items: Sequence[SplitItem], sides: Mapping[str, str], same_sound: DuplicatePairs
) -> dict[str, str]:
    """Recording -> side, from the sides of files; files of one recording, or with a common stretch, have one side.

    `same_sound` are pairs of files, also of such that were left out as copies. Raises UsageError with the names of two
    such files that have different sides.
    """
    groups = SplitGroups()
    for item in items:
        groups.union(f"file {item.source_file}", f"recording {item.recording}")
    for first, second in same_sound:
        groups.union(f"file {first}", f"file {second}")
    by_group: dict[str, dict[str, str]] = defaultdict(dict)  # side -> its first file
    for file in sorted(sides):
        by_group[groups.find(f"file {file}")].setdefault(sides[file], file)
    conflicts = [files for files in by_group.values() if len(files) > 1]
    if conflicts:
        texts = [", ".join(f"{file} ({_SIDE_NAMES[side]})" for side, file in files.items()) for files in conflicts]
        more = f"; and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
        raise UsageError(
            f"column {SPLIT_COLUMN}: parts of one recording, or files with the same sound, have different sides: "
            f"{'; '.join(texts[:_MAX_LISTED])}{more}; give them one side, or name the test by --held-out instead"
        )
    found = {item.recording: by_group.get(groups.find(f"recording {item.recording}")) for item in items}
    return {recording: next(iter(files)) for recording, files in found.items() if files}
