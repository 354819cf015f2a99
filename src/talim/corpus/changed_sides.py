"""Recordings that another preparation of a corpus puts on another side: adapters may have heard what is now tested."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from talim.corpus.manifest import Clip, Corpus
from talim.corpus.split import list_names
from talim.corpus.split_groups import HELD_OUT, TRAIN, VALIDATION
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.progress import Progress
from talim.terminal_text import one_line

_MOVES = (  # from side to side, the gravest first
    (TRAIN, HELD_OUT),
    (VALIDATION, HELD_OUT),
    (HELD_OUT, TRAIN),
    (HELD_OUT, VALIDATION),
    (TRAIN, VALIDATION),
    (VALIDATION, TRAIN),
)
_WORDS = {TRAIN: "training", VALIDATION: "validation", HELD_OUT: "the test"}


def tell_changed_sides(out: Path, clips: Sequence[Clip], progress: Progress) -> None:
    """Say what `clips` put on another side than the corpus that is still in `out`, and what that means."""
    try:
        moved = changed_sides(Corpus.load(out).clips, clips)
    except TalimError:  # there is none, or none that can still be trained or tested on
        return
    if not moved:
        return
    count = sum(map(len, moved.values()))
    which = "; ".join(
        f"from {_WORDS[before]} to {_WORDS[now]}: {list_names(names)}" for (before, now), names in moved.items()
    )
    if any(now == HELD_OUT for _, now in moved):
        means = "adapters trained on this corpus before have heard what is now tested: their scores on it do not hold"
    elif any(before == HELD_OUT for before, _ in moved):
        means = "the test is another one now: scores from before and from now on cannot be compared"
    else:
        means = "validation is another one now: losses on it from before and from now on cannot be compared"
    progress.log(
        one_line(
            f"{format_counted(count, 'recording')} changed sides since this corpus was last prepared, {which}; {means} "
            "(a column split in metadata.csv, or --held-out NAME for the test, keeps recordings where they are)"
        )
    )


def changed_sides(before: Iterable[Clip], now: Iterable[Clip]) -> dict[tuple[str, str], list[str]]:
    """Recordings with music that is on another side now, sorted, by (side before, side now), the gravest first.

    A recording whose parts move differently is listed once. A file is known again by its bytes, else by its name.
    """
    earlier: dict[str, dict[int, str]] = {}  # by file: the side of each second
    for clip in before:
        sides = earlier.setdefault(clip.source_hash, {})
        earlier.setdefault(clip.source_file, sides)
        sides |= dict.fromkeys(_seconds(clip), clip.split)
    moves: defaultdict[str, set[int]] = defaultdict(set)  # by recording
    for clip in now:
        sides = earlier.get(clip.source_hash) or earlier.get(clip.source_file, {})
        there = {sides[second] for second in _seconds(clip) if second in sides}
        moves[clip.recording] |= {_MOVES.index((side, clip.split)) for side in there - {clip.split}}
    gravest = {recording: min(numbers) for recording, numbers in moves.items() if numbers}
    return {
        _MOVES[number]: sorted(name for name, its in gravest.items() if its == number)
        for number in sorted({*gravest.values()})
    }


def _seconds(clip: Clip) -> range:
    """The whole seconds of its file that a clip covers; of clips that follow one another no second is common."""
    start = int(clip.start_seconds)
    return range(start, start + max(1, int(clip.seconds)))
