"""Takes the validation side from the training recordings: on it weights and designs are chosen, scores never see it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from talim.corpus.split import GIVEN, GROUPING_KEYS, Split, applicable_strategies, list_names
from talim.corpus.split_groups import TRAIN, VALIDATION, DuplicatePairs, SplitItem, assign_groups

RECORDINGS, PARTS, NONE = "recordings", "parts", "none"  # what validation clips are of
FRACTION = 0.15  # of what is not held out: after a test of 0.2, training keeps 0.68 of the music
MOST = 0.34  # likewise; training keeps two thirds
MIN_GROUPS = 4  # with fewer, a whole recording would be a third of training or more
ENOUGH_FOR_TWO = 8  # one recording alone may be an odd one: from here on two are taken
_STREAM = 1  # of random numbers, beside the one that drew the test side
_WHAT_FOR = "Validation, where weights and designs are chosen"


def add_validation(split: Split, items: Sequence[SplitItem], seed: int, duplicates: DuplicatePairs = ()) -> Split:
    """The split with a part of its training clips as validation; its test side stays as it is.

    Whole groups, as the split has them, that hold about 15 % of what is not held out, at most 34 %. Fewer than four
    groups: by a less strict grouping; fewer than four recordings: last clips of recordings that are trained on
    otherwise; else none. Where the metadata name validation, it is that; where they name other sides, it is taken from
    recordings without one, and only where these do not do from those that they name for training.
    """
    if named := sorted({item.recording for item in items if split.sides.get(item.id) == VALIDATION}):
        text = f"{split.explanation} {_WHAT_FOR}, never trained on, as the metadata say: {list_names(named)}."
        return replace(split, explanation=text, validation_from=RECORDINGS)
    training = [item for item in items if split.sides.get(item.id) == TRAIN]
    rng = np.random.default_rng([seed, _STREAM])
    strategies = [each for each in applicable_strategies(items) if each in GROUPING_KEYS]
    first = strategies[0] if split.strategy == GIVEN else split.strategy
    strategies = strategies[strategies.index(first) :] if first in strategies else []
    for named_for_training in dict.fromkeys((split.given, frozenset[str]())):
        for strategy in strategies:
            groups = assign_groups(training, GROUPING_KEYS[strategy], duplicates)
            kept = {groups[item.recording] for item in training if item.recording in named_for_training}
            if drawn := _draw_groups(groups, training, rng, kept):
                chosen = {item.id for item in training if groups[item.recording] in drawn}
                names = sorted({item.recording for item in training if item.id in chosen})
                text = f"{_WHAT_FOR}, never trained on: {list_names(names)}."
                if strategy != first:
                    text += f" (By {strategy}, as too few are left to keep validation apart by {first}.)"
                if split.given.intersection(names):
                    text += " (The metadata name no validation, so it is taken from what they name for training.)"
                return _with_sides(split, chosen, RECORDINGS, text, "")
    why = f"too few independent recordings remain beside the test ({MIN_GROUPS} are needed)"
    if split.strategy == "blocks":
        why = "training and test are parts of the same recordings"
    chosen = _last_clips(training, rng)
    if not chosen:
        note = f"no validation, as {why}: nothing was chosen, the weights are those of the last step"
        text = f"No validation, as {why} and training needs all clips: the weights of the last step are kept."
        return _with_sides(split, chosen, NONE, text, note)
    names = sorted({item.recording for item in training if item.id in chosen})
    note = f"weights were chosen on clips of recordings that were also trained on ({list_names(names)}), as {why}"
    rest = "the rest of which is" if len(names) == 1 else "the rest of each of which is"
    text = f"{_WHAT_FOR}: the last part of {list_names(names)}, {rest} trained on, as {why}."
    return _with_sides(split, chosen, PARTS, text, note)


def _with_sides(split: Split, chosen: set[str], kind: str, text: str, note: str) -> Split:
    sides = {name: VALIDATION if name in chosen else side for name, side in split.sides.items()}
    explanation = f"{split.explanation} {text}"
    return replace(split, sides=sides, explanation=explanation, validation_from=kind, validation_note=note)


def _draw_groups(
    groups: Mapping[str, str], training: Sequence[SplitItem], rng: np.random.Generator, kept: AbstractSet[str]
) -> set[str]:
    """Groups, but those in `kept`, in a random order until they hold enough; none where there are too few groups."""
    seconds: dict[str, float] = defaultdict(float)
    for item in training:
        seconds[groups[item.recording]] += item.seconds
    names = sorted({*seconds} - kept)
    if len(seconds) < MIN_GROUPS:
        return set()
    total, least = sum(seconds.values()), 2 if len(seconds) >= ENOUGH_FOR_TWO else 1
    drawn, drawn_seconds = set[str](), 0.0
    for index in rng.permutation(len(names)):
        name = names[index]
        if drawn_seconds + seconds[name] <= MOST * total:
            drawn.add(name)
            drawn_seconds += seconds[name]
        if len(drawn) >= least and drawn_seconds >= FRACTION * total:
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
            if taken >= FRACTION * own or taken + item.seconds > MOST * own or chosen_seconds >= FRACTION * total:
                break
            chosen.add(item.id)
            taken += item.seconds
            chosen_seconds += item.seconds
    return chosen
