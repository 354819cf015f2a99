"""Trial assignment: a balanced, seeded sequence of comparisons for each listener."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from talim.listening.protocol import ANCHOR, Protocol

LOW_QUALITY_ANCHOR = "degraded"  # the degraded stimulus of an attention check
TrialKind = Literal["normal", "repeat", "attention"]
_MIN_REPEAT_DISTANCE = 3  # trials between a comparison and its hidden repeat, if the test is long enough


@dataclass(frozen=True)
class ListeningTrial:
    """One page of the test: an item (one prompt) and the conditions in the order of their sides or rows.

    `aspect` is the question of a MUSHRA trial; a pairwise trial asks all aspects.
    """

    kind: TrialKind
    item: str
    order: tuple[str, ...]
    aspect: str | None = None


def trials_for(protocol: Protocol, items: Sequence[str], number: int, stream: str = "") -> list[ListeningTrial]:
    """All trials of listener `number` (from 0) of a stream (one group at one site).

    After any number of listeners the counts of pairs, and of pairs per item, differ by at most one. Each condition of
    a pair is on the left in half of a listener's trials, as far as the number of trials allows.
    """
    rng = np.random.default_rng([protocol.seed, _stream_seed(stream), number])
    count = protocol.trials.per_listener
    cells = [design_cell(protocol, items, number * count + index, stream) for index in range(count)]
    trials = [ListeningTrial("normal", item, order, aspect) for item, order, aspect in cells]
    trials = [trials[index] for index in rng.permutation(count)]
    if protocol.kind == "mushra":
        trials = [replace(t, order=_shuffled(t.order, rng)) for t in trials]
    else:
        swap = rng.permutation(np.arange(count) % 2 == 0)
        trials = [replace(t, order=t.order[::-1]) if s else t for t, s in zip(trials, swap, strict=True)]
    return _with_checks(protocol, _with_repeats(protocol, trials, rng), items, rng)


def design_cell(
    protocol: Protocol, items: Sequence[str], index: int, stream: str = ""
) -> tuple[str, tuple[str, ...], str | None]:
    """Element `index` (item, conditions, aspect) of the infinite balanced sequence of a stream.

    Pairwise: each round contains every pair once, and as many rounds as there are items contain every pair with every
    item once. MUSHRA: each round contains every item once, and the aspect of an item changes from round to round.
    """
    width = len(protocol.pairs) if protocol.kind == "pairwise" else len(items)
    turn, position = divmod(index, width)
    which = int(_order(protocol, stream, 0, turn, width)[position])
    if protocol.kind == "pairwise":
        cycle, step = divmod(turn, len(items))
        # Within a cycle each pair visits the items from its own start.
        start = int(np.random.default_rng([protocol.seed, _stream_seed(stream), 1, cycle]).integers(len(items)))
        visits = _order(protocol, stream, 2, cycle, len(items))
        return items[int(visits[(start + which + step) % len(items)])], protocol.pairs[which], None
    aspect = protocol.aspects[(which + turn) % len(protocol.aspects)].name
    return items[which], (*protocol.names, *((ANCHOR,) if protocol.anchor else ())), aspect


def _with_repeats(protocol: Protocol, trials: list[ListeningTrial], rng: np.random.Generator) -> list[ListeningTrial]:
    """Insert hidden repeats with swapped sides, `_MIN_REPEAT_DISTANCE` trials after the original if possible."""
    count = protocol.trials.repeats
    if not count:
        return trials
    latest = max(count, len(trials) - _MIN_REPEAT_DISTANCE)
    result = list(trials)
    for index in sorted(rng.choice(min(latest, len(trials)), count, replace=False).tolist()):
        original = trials[index]
        position = next(i for i, trial in enumerate(result) if trial is original)
        earliest = min(position + _MIN_REPEAT_DISTANCE + 1, len(result))
        repeat = replace(original, kind="repeat", order=original.order[::-1])
        result.insert(int(rng.integers(earliest, len(result) + 1)), repeat)
    return result


def _with_checks(
    protocol: Protocol, trials: list[ListeningTrial], items: Sequence[str], rng: np.random.Generator
) -> list[ListeningTrial]:
    """Insert attention checks, spread over the test: a stimulus against its degraded copy.

    In MUSHRA a check is a trial with the degraded reference among the rows.
    """
    result, count = list(trials), protocol.trials.attention
    order, aspect = (protocol.reference or protocol.names[0], LOW_QUALITY_ANCHOR), None
    if protocol.kind == "mushra":
        order, aspect = (*protocol.names, LOW_QUALITY_ANCHOR), protocol.aspects[0].name
    for number in range(count):
        item = items[int(rng.integers(len(items)))]
        low, high = (round(len(result) * n / count) for n in (number, number + 1))
        position = int(rng.integers(max(low, 1), max(high, low, 1) + 1))
        result.insert(position, ListeningTrial("attention", item, _shuffled(order, rng), aspect))
    return result


def _shuffled(order: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(order[int(index)] for index in rng.permutation(len(order)))


def _order(protocol: Protocol, stream: str, purpose: int, turn: int, length: int) -> np.ndarray:
    return np.random.default_rng([protocol.seed, _stream_seed(stream), purpose, turn]).permutation(length)


def _stream_seed(stream: str) -> int:
    """A seed derived from the stream's name, so that groups and sites get different orders."""
    return int.from_bytes(hashlib.sha256(stream.encode()).digest()[:4])
