"""Who hears what: a balanced order of comparisons for each listener, drawn from the protocol's seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from talim.listening.protocol import ANCHOR, Protocol

LOW_QUALITY_ANCHOR = "spoiled"  # the damaged sound of an attention check
TrialKind = Literal["normal", "repeat", "attention"]
_MIN_REPEAT_DISTANCE = 3  # trials between a comparison and its hidden repeat, where there are that many


@dataclass(frozen=True)
class ListeningTrial:
    """One page of the test: an item (the same words), the conditions in the order of their sides or rows.

    `aspect` is the one question of a MUSHRA trial; pairwise trials ask them all.
    """

    kind: TrialKind
    item: str
    order: tuple[str, ...]
    aspect: str | None = None


def trials_for(
    protocol: Protocol, items: Sequence[str], number: int, stream: str = ""
) -> list[ListeningTrial]:
    """The whole test of the `number`-th listener (from 0) of a stream (one site's group).

    After any number of listeners every pair of conditions, and every pair at every item, was given out
    equally often within one of each other; sides are halved within a listener as far as numbers allow.
    """
    rng = np.random.default_rng([protocol.seed, _digits(stream), number])
    count = protocol.trials.per_listener
    cells = [design_cell(protocol, items, number * count + place, stream) for place in range(count)]
    wanted = [ListeningTrial("normal", item, order, aspect) for item, order, aspect in cells]
    wanted = [wanted[place] for place in rng.permutation(count)]
    if protocol.kind == "mushra":
        wanted = [replace(t, order=_shuffled(t.order, rng)) for t in wanted]
    else:
        swap = rng.permutation(np.arange(count) % 2 == 0)
        wanted = [replace(t, order=t.order[::-1]) if s else t for t, s in zip(wanted, swap, strict=True)]
    return _with_checks(protocol, _with_repeats(protocol, wanted, rng), items, rng)


def design_cell(
    protocol: Protocol, items: Sequence[str], index: int, stream: str = ""
) -> tuple[str, tuple[str, ...], str | None]:
    """The index-th (item, conditions, aspect) of the endless balanced sequence that listeners share.

    Pairwise: a round gives every pair once; over as many rounds as there are items, every pair meets every
    item once. MUSHRA: a round gives every item once, its aspect moving on from round to round.
    """
    width = len(protocol.pairs) if protocol.kind == "pairwise" else len(items)
    turn, place = divmod(index, width)
    if protocol.kind == "pairwise":
        cycle, step = divmod(turn, len(items))
        which = int(_order(protocol, stream, 0, turn, width)[place])
        # Within a cycle each pair walks through the items from a start of its own.
        start = int(np.random.default_rng([protocol.seed, _digits(stream), 1, cycle]).integers(len(items)))
        walk = _order(protocol, stream, 2, cycle, len(items))
        return items[int(walk[(start + which + step) % len(items)])], protocol.pairs[which], None
    aspects = [aspect.name for aspect in protocol.aspects]
    which = int(_order(protocol, stream, 0, turn, width)[place])
    order = (*protocol.names, *((ANCHOR,) if protocol.anchor else ()))
    return items[which], order, aspects[(which + turn) % len(aspects)]


def _with_repeats(
    protocol: Protocol, wanted: list[ListeningTrial], rng: np.random.Generator
) -> list[ListeningTrial]:
    """Some of the first trials again in the later part, turned round, at least _APART trials on if it can be."""
    count = protocol.trials.repeats
    if not count:
        return wanted
    latest = max(count, len(wanted) - _MIN_REPEAT_DISTANCE)
    chosen = sorted(int(place) for place in rng.choice(min(latest, len(wanted)), count, replace=False))
    made = list(wanted)
    for place in chosen:
        again = replace(wanted[place], kind="repeat", order=wanted[place].order[::-1])
        earliest = (
            next(i for i, trial in enumerate(made) if trial is wanted[place]) + _MIN_REPEAT_DISTANCE + 1
        )
        at = int(rng.integers(min(earliest, len(made)), len(made) + 1))
        made.insert(at, again)
    return made


def _with_checks(
    protocol: Protocol, wanted: list[ListeningTrial], items: Sequence[str], rng: np.random.Generator
) -> list[ListeningTrial]:
    """Attention checks, spread over the test: a sound against itself, spoiled. In MUSHRA the reference and
    anchor already check, so a check there is a trial with the spoiled reference among the rows."""
    made, count = list(wanted), protocol.trials.attention
    sound = protocol.reference or protocol.names[0]
    for number in range(count):
        order: tuple[str, ...] = (sound, LOW_QUALITY_ANCHOR)
        aspect = None
        if protocol.kind == "mushra":
            aspect = protocol.aspects[0].name
            order = (*protocol.names, LOW_QUALITY_ANCHOR)
        item = items[int(rng.integers(len(items)))]
        low = round(len(made) * number / count)
        high = round(len(made) * (number + 1) / count)
        at = int(rng.integers(max(low, 1), max(high, low, 1) + 1))
        made.insert(at, ListeningTrial("attention", item, _shuffled(order, rng), aspect))
    return made


def _shuffled(order: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(order[int(place)] for place in rng.permutation(len(order)))


def _order(protocol: Protocol, stream: str, purpose: int, turn: int, length: int) -> np.ndarray:
    return np.random.default_rng([protocol.seed, _digits(stream), purpose, turn]).permutation(length)


def _digits(stream: str) -> int:
    """A number that names a stream, so that two groups or two sites do not hear the same order."""
    return int.from_bytes(hashlib.sha256(stream.encode()).digest()[:4])
