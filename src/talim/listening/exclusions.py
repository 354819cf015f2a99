"""Whose answers count: the exclusions of the protocol, applied to votes and counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.protocol import Protocol

VoteRow = dict[str, Any]
ListenerKey = tuple[str, str]  # site, listener
_MIN_ANSWERS = 8  # fewer alike are no sign of carelessness


@dataclass(frozen=True)
class ExclusionResult:
    """Rows of the comparisons that count, pairs of (first, second) answers to hidden repeats, and what was left out."""

    rows: list[VoteRow]
    repeats: list[tuple[VoteRow, VoteRow]]
    listeners: int
    excluded: dict[str, int]


def exclude_listeners(rows: Sequence[VoteRow], protocol: Protocol) -> ExclusionResult:
    """Leave out listeners by the protocol's rules; each is counted under the first rule that applies."""
    by_person: dict[ListenerKey, list[VoteRow]] = defaultdict(list)
    for row in rows:
        by_person[row["site"], row["listener"]].append(row)
    excluded: Counter[str] = Counter()
    kept: list[VoteRow] = []
    repeats: list[tuple[VoteRow, VoteRow]] = []
    for mine in by_person.values():
        reason = exclusion_reason(mine, protocol)
        if reason:
            excluded[reason] += 1
            continue
        kept += [row for row in mine if row["kind"] == "normal"]
        repeats += repeat_consistency(mine)
    return ExclusionResult(kept, repeats, len(by_person), dict(excluded))


def exclusion_reason(mine: Sequence[VoteRow], protocol: Protocol) -> str | None:
    """The rule that leaves a listener out, or None."""
    rules = protocol.exclusions
    if len({row["position"] for row in mine}) < rules.trials_below:
        return "too_few_trials"
    checks = attention_checks(mine, protocol)
    if rules.attention_below is not None and checks and np.mean(checks) < rules.attention_below:
        return "attention"
    given = [
        row["answer" if protocol.kind == "pairwise" else "score"] for row in mine if row["kind"] == "normal"
    ]
    most = max(Counter(given).values(), default=0)
    if (
        rules.same_answer_above is not None
        and len(given) >= _MIN_ANSWERS
        and most / len(given) > rules.same_answer_above
    ):
        return "same_answer"
    again = [
        (a["answer"], b["answer"])
        for a, b in repeat_consistency(mine)
        if None not in (a["answer"], b["answer"])
    ]
    turned = float(np.mean([a * b < 0 for a, b in again])) if again else 0.0
    if rules.repeats_reversed_above is not None and turned > rules.repeats_reversed_above:
        return "repeats_reversed"
    if rules.reference_below_90_above is not None and protocol.kind == "mushra":
        hidden = [
            r["score"] < 90 for r in mine if r["kind"] == "normal" and r["condition"] == protocol.reference
        ]
        if hidden and np.mean(hidden) > rules.reference_below_90_above:
            return "reference"
    return None


def attention_checks(mine: Sequence[VoteRow], protocol: Protocol) -> list[bool]:
    """Whether each attention check was passed: the sound beat its spoiled self, on the first aspect."""
    checks = [row for row in mine if row["kind"] == "attention" and row["aspect"] == protocol.aspects[0].name]
    if protocol.kind == "pairwise":
        return [(r["answer"] or 0) * (1 if r["second"] == LOW_QUALITY_ANCHOR else -1) > 0 for r in checks]
    scores: dict[int, dict[str, int]] = defaultdict(dict)
    for row in checks:
        scores[row["position"]][row["condition"]] = row["score"]
    return [trial[LOW_QUALITY_ANCHOR] < trial[str(protocol.reference)] for trial in scores.values()]


def repeat_consistency(mine: Sequence[VoteRow]) -> list[tuple[VoteRow, VoteRow]]:
    """Hidden repeats of one listener as (the first answer, the second as if sides had stayed); pairwise only."""
    normal = {
        (r["item"], r["aspect"], r["first"], r["second"]): r
        for r in mine
        if r["kind"] == "normal" and "first" in r
    }
    found = []
    for row in mine:
        if row["kind"] == "repeat" and "first" in row:
            once = normal.get((row["item"], row["aspect"], row["second"], row["first"]))
            if once is not None:
                turned = None if row["answer"] is None else -row["answer"]
                found.append((once, row | {"answer": turned}))
    return found
