"""Post-screening: applies the exclusion rules of the protocol to listeners and counts the excluded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.protocol import Protocol
from talim.reporting.catalogue import Texts, counted, in_languages

VoteRow = dict[str, Any]
ListenerKey = tuple[str, str]  # site, listener
_MIN_ANSWERS = 8  # with fewer, equal answers are no evidence of carelessness


@dataclass(frozen=True)
class ExclusionResult:
    """Rows of included listeners, their (original, repeat) rows, the number of listeners, and exclusions by reason."""

    rows: list[VoteRow]
    repeats: list[tuple[VoteRow, VoteRow]]
    listeners: int
    excluded: dict[str, int]


def exclude_listeners(rows: Sequence[VoteRow], protocol: Protocol) -> ExclusionResult:
    """Exclude listeners by the protocol's rules; each is counted under the first rule that applies."""
    by_listener: dict[ListenerKey, list[VoteRow]] = defaultdict(list)
    for row in rows:
        by_listener[row["site"], row["listener"]].append(row)
    excluded: Counter[str] = Counter()
    included: list[VoteRow] = []
    repeats: list[tuple[VoteRow, VoteRow]] = []
    for answers in by_listener.values():
        if reason := exclusion_reason(answers, protocol):
            excluded[reason] += 1
            continue
        included += [row for row in answers if row["kind"] == "normal"]
        repeats += repeat_pairs(answers)
    return ExclusionResult(included, repeats, len(by_listener), dict(excluded))


def exclusion_reason(rows: Sequence[VoteRow], protocol: Protocol) -> str | None:
    """The first rule that excludes a listener with these rows, or None."""
    rules = protocol.exclusions
    if len({row["position"] for row in rows}) < rules.trials_below:
        return "too_few_trials"
    checks = attention_checks(rows, protocol)
    if rules.attention_below is not None and checks and np.mean(checks) < rules.attention_below:
        return "attention"
    normal = [row for row in rows if row["kind"] == "normal"]
    answers = [row["answer" if protocol.kind == "pairwise" else "score"] for row in normal]
    if rules.same_answer_above is not None and len(answers) >= _MIN_ANSWERS:
        most = max(Counter(answers).values())
        if most / len(answers) > rules.same_answer_above:
            return "same_answer"
    if rules.one_side_p_below is not None and one_side_p_value(rows, protocol) < rules.one_side_p_below:
        return "one_side"
    pairs = [(a["answer"], b["answer"]) for a, b in repeat_pairs(rows)]
    reversals = [a * b < 0 for a, b in pairs if a is not None and b is not None]
    if rules.repeats_reversed_above is not None and reversals and np.mean(reversals) > rules.repeats_reversed_above:
        return "repeats_reversed"
    if rules.reference_below_90_above is not None and protocol.kind == "mushra":
        hidden = [row["score"] < 90 for row in normal if row["condition"] == protocol.reference]
        if hidden and np.mean(hidden) > rules.reference_below_90_above:
            return "reference"
    return None


def exclusion_words(reason: str, protocol: Protocol) -> Texts:
    """What listeners did who are excluded for this reason, such as "answered fewer than 5 pages", by language."""
    rules = protocol.exclusions
    pages = counted(rules.trials_below, "page")
    return in_languages(f"listening_excluded_{reason}", pages=pages, p=f"{rules.one_side_p_below or 0:g}")


def one_side_p_value(rows: Sequence[VoteRow], protocol: Protocol) -> float:
    """The two-sided probability (binomial) that chance puts as many answers on one side, A or B; 1 for MUSHRA.

    Of the first aspect on all pages: sides are drawn at random, so whoever listens has no reason to choose one.
    Ties and "cannot say" choose none. All of eight answers on one side have 0.008.
    """
    if protocol.kind != "pairwise":
        return 1.0
    decided = [row["answer"] for row in rows if row["aspect"] == protocol.aspects[0].name and row["answer"]]
    return float(stats.binomtest(sum(answer > 0 for answer in decided), len(decided)).pvalue) if decided else 1.0


def left_out_sentences(excluded: Mapping[str, int], protocol: Protocol) -> list[Texts]:
    """A sentence by language for each rule that excluded somebody, for whoever reads the ratings."""
    return [
        in_languages("listening_left_out", listeners=counted(count, "listener"), what=exclusion_words(reason, protocol))
        for reason, count in excluded.items()
    ]


def attention_checks(rows: Sequence[VoteRow], protocol: Protocol) -> list[bool]:
    """Whether each attention check was passed: the stimulus beat its degraded copy on the first aspect."""
    checks = [row for row in rows if row["kind"] == "attention" and row["aspect"] == protocol.aspects[0].name]
    if protocol.kind == "pairwise":
        return [(r["answer"] or 0) * (1 if r["second"] == LOW_QUALITY_ANCHOR else -1) > 0 for r in checks]
    scores: dict[int, dict[str, int]] = defaultdict(dict)
    for row in checks:
        scores[row["position"]][row["condition"]] = row["score"]
    return [trial[LOW_QUALITY_ANCHOR] < trial[str(protocol.reference)] for trial in scores.values()]


def repeat_pairs(rows: Sequence[VoteRow]) -> list[tuple[VoteRow, VoteRow]]:
    """(original, repeat) rows of one listener, the repeat's answer with the sides swapped back; pairwise only."""
    paired = [row for row in rows if "first" in row]
    originals = {(r["item"], r["aspect"], r["first"], r["second"]): r for r in paired if r["kind"] == "normal"}
    pairs = []
    for row in paired:
        original = originals.get((row["item"], row["aspect"], row["second"], row["first"]))
        if row["kind"] == "repeat" and original is not None:
            pairs.append((original, row | {"answer": None if row["answer"] is None else -row["answer"]}))
    return pairs
