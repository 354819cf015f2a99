"""The column `split` of metadata: the side of the split that a recording has there, in the usual words for it."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from talim.corpus.recordings import SourceFile
from talim.corpus.split_groups import HELD_OUT, TRAIN, VALIDATION, DuplicatePairs, SplitGroups, SplitItem
from talim.errors import UsageError
from talim.html.formatting import format_counted

COLUMN = "split"
_WORDS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "val", "valid", "dev"),
    HELD_OUT: ("test", "testing", "held-out", "eval", "evaluation"),
}
_SIDES = {word.replace("-", ""): side for side, words in _WORDS.items() for word in words}
_NAMES = {side: words[0] for side, words in _WORDS.items()}
_MAX_LISTED = 4


def side_of(text: str) -> str:
    """The side that a word means, whatever its case, blanks and hyphens; "" where it means none."""
    return _SIDES.get(re.sub(r"[\s_-]+", "", text.casefold()), "")


def unknown_word(text: str) -> str:
    """A word that means no side, with the one that may be meant: "'tets' (is it test?)"."""
    near = difflib.get_close_matches(text.casefold(), [word for words in _WORDS.values() for word in words], 1)
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
        word = {**file.row, **edited.get(file.name, {})}.get(COLUMN, "")
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
        texts = [", ".join(f"{file} ({_NAMES[side]})" for side, file in files.items()) for files in conflicts]
        more = f"; and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
        raise UsageError(
            f"column {COLUMN}: parts of one recording, or files with the same sound, have different sides: "
            f"{'; '.join(texts[:_MAX_LISTED])}{more}; give them one side, or name the test by --held-out instead"
        )
    found = {item.recording: by_group.get(groups.find(f"recording {item.recording}")) for item in items}
    return {recording: next(iter(files)) for recording, files in found.items() if files}
