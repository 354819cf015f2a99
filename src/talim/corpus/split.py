"""Splits clips into training, validation and held-out (test): no group on two sides, else blocks 30 s apart.

The test first, by the strictest feasible grouping; then validation, out of what is left for training: on it weights and
designs are chosen, scores never see it.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from talim.corpus.manifest import UNKNOWN
from talim.corpus.split_groups import (
    GROUPING_FUNCTIONS,
    HELD_OUT,
    OWN_NAME,
    TRAIN,
    VALIDATION,
    DuplicatePairs,
    SplitGroups,
    SplitItem,
    assign_groups,
    performers,
    split_leakage,
)
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted

SPLIT_STRATEGIES = ("performer", "lead", "release", "recording", "blocks")  # from strict to relaxed
GIVEN = "metadata"  # the strategy where the metadata name sides
GROUPING_KEYS = {
    "performer": ("performer", "release", "work"),
    "lead": ("lead", "release", "work"),
    "release": ("release", "work"),
    "recording": (),
}
GAP_SECONDS = 30.0  # left out between training and held-out blocks of one recording
FEW_RECORDINGS, FEW_FRACTION, USUAL_FRACTION = 20, 0.3, 0.2  # see `default_fraction`
_NUM_RANDOM_SPLITS = 20
PERFORMER_COLUMN = ", in the column performer of metadata.csv"
HELD_OUT_WORDS = "Kept for the test, never trained on"
_GUARANTEES = {
    "performer": "No performer, release or work that the metadata name for them is in training.",
    "lead": "Their soloists, releases and works are not in training; accompanists may be.",
    "release": "Their releases and works are not in training; performers may be.",
    "recording": "The same performers may be in training too.",
}
RECORDINGS, PARTS, NO_VALIDATION = "recordings", "parts", "none"  # what validation clips are of
VALIDATION_FRACTION = 0.15  # of what is not held out: after a test of 0.2, training keeps 0.68 of the music
MOST_VALIDATION = 0.34  # likewise; training keeps two thirds
MIN_VALIDATION_GROUPS = 4  # with fewer, a whole recording would be a third of training or more
ENOUGH_FOR_TWO = 8  # one recording alone may be an odd one: from here on two are taken
_VALIDATION_STREAM = 1  # of random numbers, beside the one that drew the test side
_VALIDATION_WORDS = "Validation, where weights and designs are chosen"


@dataclass(frozen=True)
class Split:
    """The side of each clip ("train", "validation" or "held_out"; clips of a gap have none), and the reasons."""

    strategy: str
    sides: dict[str, str]  # by clip id
    explanation: str
    relaxed: tuple[str, ...] = ()  # why stricter strategies were not feasible
    validation_from: str = ""  # see `add_validation`
    validation_note: str = ""  # said beside scores where validation is not by whole recordings
    given: frozenset[str] = frozenset()  # recordings whose side the metadata name


class _InfeasibleSplit(Exception):  # noqa: N818 - an answer, not an error
    """A strategy cannot give two usable sides; the message says why."""


def default_fraction(items: Sequence[SplitItem]) -> float:
    """What is held out where nobody says: 0.2, of fewer than 20 recordings 0.3.

    A fifth of few recordings is often one, and one gives no interval.
    """
    return FEW_FRACTION if len({item.recording for item in items}) < FEW_RECORDINGS else USUAL_FRACTION


def make_split(
    items: Sequence[SplitItem],
    *,
    held_out_fraction: float = USUAL_FRACTION,
    seed: int = 0,
    split_by: str = "auto",
    held_out: Collection[str] = (),
    given: Mapping[str, str] | None = None,
    duplicates: DuplicatePairs = (),
) -> Split:
    """Split clips so that no group is on both sides; files with common audio (`duplicates`) stay together.

    "auto" takes the strictest feasible strategy; `held_out` names exactly the recordings to hold out. `given` has the
    sides of recordings that the metadata name (see `split_groups.sides_of_recordings`): they are kept as they are, and
    the test is drawn from the others where no recording has that side. Raises UsageError for an unknown name or an
    infeasible strategy, and for given sides that leave no test or training; TalimError where nothing can be held out.
    """
    split = _make_split(items, held_out_fraction, seed, split_by, held_out, given or {}, duplicates)
    joint = sorted({item.joint for item in items if item.joint})
    note = f" Read as several performers, as one of them is also named alone: {list_names(joint)}." if joint else ""
    return replace(split, explanation=split.explanation + note)


def _make_split(
    items: Sequence[SplitItem],
    held_out_fraction: float,
    seed: int,
    split_by: str,
    held_out: Collection[str],
    given: Mapping[str, str],
    duplicates: DuplicatePairs,
) -> Split:
    if held_out:
        return _split_by_name(items, held_out, duplicates)
    if split_by not in ("auto", *SPLIT_STRATEGIES):
        raise UsageError(f"unknown split {split_by!r}; choose one of: auto, {', '.join(SPLIT_STRATEGIES)}")
    if given:
        return _split_as_given(items, given, held_out_fraction, seed, split_by, duplicates)
    reasons: list[str] = []
    for strategy in applicable_strategies(items) if split_by == "auto" else (split_by,):
        try:
            if strategy == "blocks":
                split = _split_by_blocks(items, held_out_fraction, seed, duplicates)
            else:
                split = _split_by_groups(strategy, items, held_out_fraction, seed, duplicates)
        except _InfeasibleSplit as reason:
            reasons.append(f"not by {strategy}: {reason}")
            continue
        note = f" (N{'; '.join(reasons)[1:]}.)" if reasons else ""  # each begins with "not by"
        return Split(strategy, split.sides, split.explanation + note, tuple(reasons))
    if split_by != "auto":
        raise UsageError(f"this split is impossible: {reasons[0]}; let talim choose with --split-by auto")
    raise TalimError(f"nothing can be held out to test with: {'; '.join(reasons)}; add a recording")


def random_split_leakage(
    items: Sequence[SplitItem], held_out_fraction: float, seed: int, duplicates: DuplicatePairs
) -> dict[str, float | None] | None:
    """Leakage of a random split by recording, mean over 20 seeds (see `split_leakage`); None where infeasible.

    The mean is over the draws in which the fraction is known.
    """
    alone = {item.recording: item.recording for item in items}
    draws: list[dict[str, float | None]] = []
    for number in range(_NUM_RANDOM_SPLITS):
        try:
            drawn = _draw_held_out_groups(alone, items, held_out_fraction, seed + number, "recording")
        except _InfeasibleSplit:
            return None
        sides = _sides(items, lambda item, drawn=drawn: item.recording in drawn)
        draws.append(split_leakage(items, sides, duplicates))
    known = {key: [value for draw in draws if (value := draw[key]) is not None] for key in draws[0]}
    return {key: round(sum(values) / len(values), 4) if values else None for key, values in known.items()}


def applicable_strategies(items: Sequence[SplitItem]) -> list[str]:
    """The strategies worth trying: one whose keys are all unknown equals the next."""
    known = {key for key, names_of in GROUPING_FUNCTIONS.items() if any(names_of(item) for item in items)}
    needed = {"lead": {"lead"}, "release": {"release", "work"}}
    return [strategy for strategy in SPLIT_STRATEGIES if strategy not in needed or known & needed[strategy]]


def _split_by_groups(
    strategy: str, items: Sequence[SplitItem], held_out_fraction: float, seed: int, duplicates: DuplicatePairs
) -> Split:
    drawn = _draw_recordings(strategy, items, held_out_fraction, seed, duplicates, {})
    sides = _sides(items, lambda item: item.recording in drawn)
    names = sorted(drawn)
    named, note = "", _unheard_performers_note(items, sides)
    if strategy == "performer":
        known = _named(item for item in items if item.recording in names)
        named = f" ({list_names(sorted(known.values()))})" if known else ""
        note = _unknown_performers_note(items) + note
    return Split(strategy, sides, f"{HELD_OUT_WORDS}: {list_names(names)}{named}. {_GUARANTEES[strategy]}{note}")


def _draw_recordings(
    strategy: str,
    items: Sequence[SplitItem],
    held_out_fraction: float,
    seed: int,
    duplicates: DuplicatePairs,
    given: Mapping[str, str],
) -> set[str]:
    """Recordings for the test by a grouping; none of a group in which the metadata name another side for one."""
    keys = GROUPING_KEYS[strategy]
    required = keys if strategy == "release" else keys[:1]
    if required and not any(GROUPING_FUNCTIONS[key](item) for key in required for item in items):
        what = "soloist" if strategy == "lead" else strategy
        raise _InfeasibleSplit(f"no recording names its {what}{PERFORMER_COLUMN * (strategy == 'performer')}")
    groups = assign_groups(items, keys, duplicates)
    kept = {groups[recording] for recording in given}
    for_training = [item for item in items if given.get(item.recording) != VALIDATION]
    drawn = _draw_held_out_groups(groups, for_training, held_out_fraction, seed, strategy, kept)
    return {item.recording for item in items if groups[item.recording] in drawn}


def _split_as_given(
    items: Sequence[SplitItem],
    given: Mapping[str, str],
    held_out_fraction: float,
    seed: int,
    split_by: str,
    duplicates: DuplicatePairs,
) -> Split:
    """The sides that the metadata name; without a named test it is drawn from the recordings that have no side."""
    recordings = {item.recording for item in items}
    test = {recording for recording, side in given.items() if side == HELD_OUT}
    if test:
        text = f"{HELD_OUT_WORDS}, as the metadata say: {list_names(sorted(test))}"
    else:
        test, text = _draw_beside_given(items, given, held_out_fraction, seed, split_by, duplicates)
    sides = {item.id: HELD_OUT if item.recording in test else given.get(item.recording, TRAIN) for item in items}
    if TRAIN not in sides.values():
        raise UsageError(
            "the metadata leave no recording to train on: every one is named for validation or the test in the column "
            "split; name one for training, or leave its cell empty"
        )
    _, text = _with_performers(text, items, sides)
    if rest := recordings - {*given} - test:
        use = "trained on" if VALIDATION in given.values() else "for training, of which validation takes a part"
        text += f" Without a side there, and {use}: {list_names(sorted(rest))}."
    return Split(GIVEN, sides, text, given=frozenset(given))


def _draw_beside_given(
    items: Sequence[SplitItem],
    given: Mapping[str, str],
    held_out_fraction: float,
    seed: int,
    split_by: str,
    duplicates: DuplicatePairs,
) -> tuple[set[str], str]:
    """Recordings for the test out of those without a side, and the beginning of the explanation."""
    none = "the metadata name sides of the split, but none is the test"
    do = "name it in the column split, or by --held-out NAME"
    if {item.recording for item in items} <= {*given}:
        raise UsageError(f"{none}, and every recording has another side; {do}")
    strategies = applicable_strategies(items) if split_by == "auto" else [split_by]
    reasons = []
    for strategy in strategies:
        if strategy not in GROUPING_KEYS:
            reasons.append(f"not by {strategy}: sides in metadata are of whole recordings")
            continue
        try:
            drawn = _draw_recordings(strategy, items, held_out_fraction, seed, duplicates, given)
        except _InfeasibleSplit as reason:
            reasons.append(f"not by {strategy}: {reason}")
            continue
        text = f"The metadata name sides, but not the test: it is drawn, by {strategy}, from those without a side"
        return drawn, f"{text}. {HELD_OUT_WORDS}: {list_names(sorted(drawn))}"
    raise UsageError(f"{none}, and it cannot be drawn from the recordings without a side: {'; '.join(reasons)}; {do}")


def _split_by_name(items: Sequence[SplitItem], held_out: Collection[str], duplicates: DuplicatePairs) -> Split:
    named = find_recordings(held_out, {item.source_file: item.recording for item in items})
    groups = assign_groups(items, (), duplicates)
    named_groups = {groups[name] for name in named}
    recordings = {item.recording for item in items if groups[item.recording] in named_groups}
    sides = _sides(items, lambda item: item.recording in recordings)
    if TRAIN not in sides.values():
        raise UsageError("every recording is named as held out; leave at least one to train on")
    text = f"{HELD_OUT_WORDS}, as asked for: {list_names(sorted(named))}"
    if recordings - named:
        text += f", and what holds the same sound: {list_names(sorted(recordings - named))}"
    strategy, text = _with_performers(text, items, sides)
    return Split(strategy, sides, text)


def _with_performers(text: str, items: Sequence[SplitItem], sides: Mapping[str, str]) -> tuple[str, str]:
    """What the sides turn out to keep apart, performer or recording, and the text with a sentence on it."""
    elsewhere = _named(item for item in items if sides[item.id] != HELD_OUT)
    held_out = _named(item for item in items if sides[item.id] == HELD_OUT)
    if shared := sorted(text for name, text in held_out.items() if name in elsewhere):
        return "recording", f"{text}. Heard in training too: {list_names(shared)}."
    if all(item.performer == UNKNOWN for item in items):
        return "recording", f"{text}. {_GUARANTEES['recording']} (No recording names its performer.)"
    text += ". No performer that the metadata name for them is in training."
    return "performer", text + _unknown_performers_note(items)


def find_recordings(names: Iterable[str], recording_of: Mapping[str, str]) -> set[str]:
    """The recordings that are meant, of those of files (`recording_of`); UsageError for a name of none or several."""
    return {_find_recording(name, recording_of) for name in names}


def _find_recording(name: str, recording_of: Mapping[str, str]) -> str:
    """The recording of that name, or of a file of that name with or without folder and suffix."""
    wanted = unicodedata.normalize("NFC", name).casefold()
    recordings = sorted({*recording_of.values()})
    for recording in recordings:
        if recording.casefold() == wanted:
            return recording
    by_file_name: dict[str, set[str]] = defaultdict(set)
    for file, recording in recording_of.items():
        path = file.casefold()
        base = path.rpartition("/")[2]
        for spelling in (path, path.rpartition(".")[0], base, base.rpartition(".")[0]):
            by_file_name[spelling].add(recording)
    matches = by_file_name[wanted]
    if len(matches) == 1:
        return matches.pop()
    near = difflib.get_close_matches(name, recordings, 3, 0.3) or recordings[:5]
    problem = "names several recordings" if matches else "is no usable recording here"
    raise UsageError(f"held-out {name!r} {problem}; did you mean: {', '.join(near)}?")


def _draw_held_out_groups(
    groups: Mapping[str, str],
    items: Sequence[SplitItem],
    held_out_fraction: float,
    seed: int,
    strategy: str,
    kept: AbstractSet[str] = frozenset(),
) -> set[str]:
    """A seeded draw of groups that together hold about `held_out_fraction` of the music, at most half of it.

    Groups in `kept` are not drawn.
    """
    seconds: dict[str, float] = defaultdict(float)
    for item in items:
        seconds[groups[item.recording]] += item.seconds
    total = sum(seconds.values())
    if kept and (len(seconds) < 2 or kept >= {*seconds}):
        raise _InfeasibleSplit("no recording without a side is independent of the others")
    if len(seconds) < 2:
        if len({item.recording for item in items}) == 1:
            raise _InfeasibleSplit("there is only one recording")
        raise _InfeasibleSplit(f"all recordings are connected by {_describe_grouping(strategy)}")
    names = sorted({*seconds} - {*kept})
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    drawn, drawn_seconds = set[str](), 0.0
    for name in order:
        if drawn_seconds + seconds[name] <= min(1.25 * held_out_fraction, 0.5) * total:
            drawn.add(name)
            drawn_seconds += seconds[name]
    if not drawn:
        smallest = min(order, key=lambda name: seconds[name])
        drawn, drawn_seconds = {smallest}, seconds[smallest]
    if drawn_seconds < 0.25 * held_out_fraction * total:
        percent = f"{drawn_seconds / total:.1%}"
        raise _InfeasibleSplit(f"all but one {strategy} group together hold only {percent} of the music")
    return drawn


def _describe_grouping(strategy: str) -> str:
    keys = GROUPING_KEYS[strategy]
    return " or ".join([", ".join(keys[:-1]), keys[-1]]) if keys else "common audio"


def _split_by_blocks(
    items: Sequence[SplitItem], held_out_fraction: float, seed: int, duplicates: DuplicatePairs
) -> Split:
    unique = drop_duplicates(items, duplicates)
    sides, divided, longest_seconds = contiguous_blocks(unique, held_out_fraction, seed)
    if not divided:
        raise _InfeasibleSplit(
            f"the longest recording has {longest_seconds:.0f} s, too little for a part to train on, one to test with, "
            f"and the {GAP_SECONDS:.0f} s between them that are left out"
        )
    text = (
        f"{HELD_OUT_WORDS}: the first or last part of {list_names(divided)}; the {GAP_SECONDS:.0f} s beside it are "
        "left out. The rest of the same music is in training, so the test says nothing about other recordings."
    )
    if copies := len({item.source_file for item in items} - {item.source_file for item in unique}):
        text += f" Left out, as they hold the same audio as another: {format_counted(copies, 'file')}."
    return Split("blocks", sides, text)


def drop_duplicates(items: Sequence[SplitItem], duplicates: DuplicatePairs) -> list[SplitItem]:
    """The clips without those of duplicate files: of each set of files with common audio the longest is kept."""
    groups, seconds = SplitGroups(), defaultdict[str, float](float)
    for first, second in duplicates:
        groups.union(first, second)
    for item in items:
        seconds[item.source_file] += item.seconds
    longest: dict[str, str] = {}
    for file in sorted(seconds, key=lambda file: (-seconds[file], file)):
        longest.setdefault(groups.find(file), file)
    return [item for item in items if longest[groups.find(item.source_file)] == item.source_file]


def contiguous_blocks(
    items: Sequence[SplitItem], held_out_fraction: float, seed: int
) -> tuple[dict[str, str], list[str], float]:
    """A block at one end of each recording held out: (sides by clip, divided recordings, longest one in seconds).

    Clips in the gap of 30 s have no side. Recordings that are too short are training only.
    """
    rng = np.random.default_rng(seed)
    sides: dict[str, str] = {}
    divided, longest_seconds = [], 0.0
    for recording in sorted({item.recording for item in items}):
        spans = _timeline([item for item in items if item.recording == recording])
        longest_seconds = max(longest_seconds, max(stop for _, stop, _ in spans))
        ends = ("end", "start") if rng.integers(2) else ("start", "end")
        block = next(filter(None, (_held_out_block(spans, held_out_fraction, end) for end in ends)), None)
        if block:
            divided.append(recording)
        sides |= block or {item.id: TRAIN for _, _, item in spans}
    return sides, divided, longest_seconds


def _timeline(items: Iterable[SplitItem]) -> list[tuple[float, float, SplitItem]]:
    """(start, stop, clip) in seconds of one recording; its files follow one another without a pause."""
    spans: list[tuple[float, float, SplitItem]] = []
    offset, file = 0.0, ""
    for item in sorted(items, key=lambda item: (item.source_file, item.start_seconds)):
        if item.source_file != file:
            offset, file = (spans[-1][1] - item.start_seconds if spans else 0.0), item.source_file
        start = offset + item.start_seconds
        spans.append((start, start + item.seconds, item))
    return spans


def _held_out_block(
    spans: list[tuple[float, float, SplitItem]], held_out_fraction: float, end: str
) -> dict[str, str] | None:
    """Sides of one recording's clips with a block at its start or end held out; None where it is too short."""
    ordered = spans if end == "start" else spans[::-1]
    total = sum(item.seconds for _, _, item in spans)
    count, block_seconds = 0, 0.0
    while count < len(ordered) and block_seconds < held_out_fraction * total:
        block_seconds += ordered[count][2].seconds
        count += 1
    for size in range(count, 0, -1):
        block, rest = ordered[:size], ordered[size:]
        low, high = min(start for start, _, _ in block), max(stop for _, stop, _ in block)
        train = [item for start, stop, item in rest if start >= high + GAP_SECONDS or stop <= low - GAP_SECONDS]
        if sum(item.seconds for item in train) >= sum(item.seconds for _, _, item in block):
            return {item.id: HELD_OUT for _, _, item in block} | {item.id: TRAIN for item in train}
    return None


def _sides(items: Sequence[SplitItem], is_held_out: Callable[[SplitItem], bool]) -> dict[str, str]:
    return {item.id: HELD_OUT if is_held_out(item) else TRAIN for item in items}


def list_names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _unheard_performers_note(items: Sequence[SplitItem], sides: Mapping[str, str]) -> str:
    """A sentence where the test may have nothing of those who are trained on: it names none, or training one only."""
    held_out = [performers(item.performer).keys() for item in items if sides[item.id] == HELD_OUT]
    training = [item for item in items if sides[item.id] != HELD_OUT]
    seconds: dict[str, float] = defaultdict(float)
    for item in training:
        for name in performers(item.performer):
            seconds[name] += item.seconds
    if not seconds or any(names & seconds.keys() for names in held_out) or (all(held_out) and len(seconds) > 1):
        return ""
    written = _named(training)
    names = [written[name] for name in sorted(seconds, key=lambda name: (-seconds[name], name))]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f" Nothing of the test is known to be by {', '.join(names[:3])}{more}: to test on that music too, write train, "
        "validation or test for recordings into the column split, or leave performer empty."
    )


def _named(items: Iterable[SplitItem]) -> dict[str, str]:
    """The performers of clips as they are written, by name; whoever wrote "me" is told that it is them."""
    found: dict[str, str] = {}
    for item in sorted(items, key=lambda item: item.id):
        for name, text in performers(item.performer).items():
            found.setdefault(name, f'you ("{text}")' if name == OWN_NAME else text)
    return found


def _unknown_performers_note(items: Sequence[SplitItem]) -> str:
    count = len({item.recording for item in items if item.performer == UNKNOWN})
    if not count:
        return ""
    verb = "names" if count == 1 else "name"
    return (
        f" {format_counted(count, 'recording')} {verb} no performer, so the same musician may be on both sides: the "
        "column performer of metadata.csv tells them apart."
    )


def add_validation(split: Split, items: Sequence[SplitItem], seed: int, duplicates: DuplicatePairs = ()) -> Split:
    """The split with a part of its training clips as validation; its test side stays as it is.

    Whole groups, as the split has them, that hold about 15 % of what is not held out, at most 34 %. Fewer than four
    groups: by a less strict grouping; fewer than four recordings: last clips of recordings that are trained on
    otherwise; else none. Where the metadata name validation, it is that; where they name other sides, it is taken from
    recordings without one, and only where these do not do from those that they name for training.
    """
    if named := sorted({item.recording for item in items if split.sides.get(item.id) == VALIDATION}):
        text = f"{split.explanation} {_VALIDATION_WORDS}, never trained on, as the metadata say: {list_names(named)}."
        return replace(split, explanation=text, validation_from=RECORDINGS)
    training = [item for item in items if split.sides.get(item.id) == TRAIN]
    rng = np.random.default_rng([seed, _VALIDATION_STREAM])
    strategies = [each for each in applicable_strategies(items) if each in GROUPING_KEYS]
    first = strategies[0] if split.strategy == GIVEN else split.strategy
    strategies = strategies[strategies.index(first) :] if first in strategies else []
    for named_for_training in dict.fromkeys((split.given, frozenset[str]())):
        for strategy in strategies:
            groups = assign_groups(training, GROUPING_KEYS[strategy], duplicates)
            kept = {groups[item.recording] for item in training if item.recording in named_for_training}
            if drawn := _draw_validation_groups(groups, training, rng, kept):
                chosen = {item.id for item in training if groups[item.recording] in drawn}
                names = sorted({item.recording for item in training if item.id in chosen})
                text = f"{_VALIDATION_WORDS}, never trained on: {list_names(names)}."
                if strategy != first:
                    text += f" (By {strategy}, as too few are left to keep validation apart by {first}.)"
                if split.given.intersection(names):
                    text += " (The metadata name no validation, so it is taken from what they name for training.)"
                return _with_validation(split, chosen, RECORDINGS, text, "")
    why = f"too few independent recordings remain beside the test ({MIN_VALIDATION_GROUPS} are needed)"
    if split.strategy == "blocks":
        why = "training and test are parts of the same recordings"
    chosen = _last_clips(training, rng)
    if not chosen:
        note = f"no validation, as {why}: nothing was chosen, the weights are those of the last step"
        text = f"No validation, as {why} and training needs all clips: the weights of the last step are kept."
        return _with_validation(split, chosen, NO_VALIDATION, text, note)
    names = sorted({item.recording for item in training if item.id in chosen})
    note = f"weights were chosen on clips of recordings that were also trained on ({list_names(names)}), as {why}"
    rest = "the rest of which is" if len(names) == 1 else "the rest of each of which is"
    text = f"{_VALIDATION_WORDS}: the last part of {list_names(names)}, {rest} trained on, as {why}."
    return _with_validation(split, chosen, PARTS, text, note)


def _with_validation(split: Split, chosen: set[str], kind: str, text: str, note: str) -> Split:
    sides = {name: VALIDATION if name in chosen else side for name, side in split.sides.items()}
    explanation = f"{split.explanation} {text}"
    return replace(split, sides=sides, explanation=explanation, validation_from=kind, validation_note=note)


def _draw_validation_groups(
    groups: Mapping[str, str], training: Sequence[SplitItem], rng: np.random.Generator, kept: AbstractSet[str]
) -> set[str]:
    """Groups, but those in `kept`, in a random order until they hold enough; none where there are too few groups."""
    seconds: dict[str, float] = defaultdict(float)
    for item in training:
        seconds[groups[item.recording]] += item.seconds
    names = sorted({*seconds} - kept)
    if len(seconds) < MIN_VALIDATION_GROUPS:
        return set()
    total, least = sum(seconds.values()), 2 if len(seconds) >= ENOUGH_FOR_TWO else 1
    drawn, drawn_seconds = set[str](), 0.0
    for index in rng.permutation(len(names)):
        name = names[index]
        if drawn_seconds + seconds[name] <= MOST_VALIDATION * total:
            drawn.add(name)
            drawn_seconds += seconds[name]
        if len(drawn) >= least and drawn_seconds >= VALIDATION_FRACTION * total:
            break
    return drawn


def _last_clips(training: Sequence[SplitItem], rng: np.random.Generator) -> set[str]:
    """Clips at the ends of recordings, in a random order, until they are enough; each recording keeps two thirds."""
    by_recording: dict[str, list[SplitItem]] = defaultdict(list)
    for item in sorted(training, key=lambda item: (item.recording, item.source_file, item.start_seconds)):
        by_recording[item.recording].append(item)
    total, chosen, chosen_seconds = sum(item.seconds for item in training), set[str](), 0.0
    names = sorted(by_recording)
    for index in rng.permutation(len(names)):
        clips = by_recording[names[index]]
        own, taken = sum(item.seconds for item in clips), 0.0
        for item in reversed(clips):
            if (
                taken >= VALIDATION_FRACTION * own
                or taken + item.seconds > MOST_VALIDATION * own
                or chosen_seconds >= VALIDATION_FRACTION * total
            ):
                break
            chosen.add(item.id)
            taken += item.seconds
            chosen_seconds += item.seconds
    return chosen
