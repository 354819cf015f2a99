"""The verdict of a listening test: which conditions can be told apart, in one or a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from talim.html.formatting import format_counted, format_number, format_percent

_COUNTS = ("", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MAX_SENTENCES = 8  # of a verdict; the table of pairs holds the rest
MAX_PAIRS = 6  # that are named as not rated


def verdict_sentences(rating: Mapping[str, Any], shown: Mapping[str, str]) -> list[str]:
    """The sentences of a verdict, the most important one first; `shown` {condition: name for the reader}."""
    said = [*_sentences(rating, shown), *_unrated(rating, shown)]
    return [f"The {text[4:]}" if text.startswith("the ") else text for text in said]  # names of conditions stay as is


def _sentences(rating: Mapping[str, Any], shown: Mapping[str, str]) -> list[str]:
    """What all pairs of conditions say together.

    A pair is told apart if its p-value, adjusted for the number of pairs (Holm), is below 0.05; so in one of twenty
    tests without any difference at most is a difference claimed.
    """
    names = [condition["name"] for condition in rank_conditions(rating)]
    if not names:
        return ["No answer compares any two of the sounds, so there is no ranking."]
    verdicts = {frozenset((pair["first"], pair["second"])): pair["significant"] for pair in rating["pairs"]}
    rated = [frozenset((pair["first"], pair["second"])) for pair in rating["pairs"] if _is_rated(pair)]
    if any(verdicts[pair] is None for pair in rated):
        return [f"{format_counted(rating['listeners'], 'listener')}: too few to tell {_all(names, shown)} apart."]
    beaten = {
        name: [other for other in names[place + 1 :] if verdicts[frozenset((name, other))]]
        for place, name in enumerate(names)
    }
    if not any(beaten.values()):
        return [_no_pair_separated(names, shown)]
    sentences = []
    leaders = [name for name in names if not any(name in others for others in beaten.values())]
    others = names[len(leaders) :]
    if leaders == names[: len(leaders)] and all(beaten[name] == others for name in leaders):
        what = "leads" if len(leaders) == 1 else "lead and cannot be told apart"
        rates = _rates(rating, leaders, others)
        sentences.append(
            f"{_listed([shown[name] for name in leaders])} {what}: preferred to {_all(others, shown, 'other ')}{rates}."
        )
    leading = leaders if sentences else []
    sentences += _preferences([name for name in names if name not in leading], beaten, rating, shown)
    sentences += _unresolved(names, beaten, shown, [tuple(leading)])
    if len(sentences) > MAX_SENTENCES:
        sentences = [*sentences[: MAX_SENTENCES - 1], "The table of pairs holds the rest."]
    return sentences


def rank_conditions(rating: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conditions, best first; those that nobody compared with these are left out."""
    known = [condition for condition in rating["conditions"] if condition["strength"]["value"] is not None]
    return sorted(known, key=lambda condition: -condition["strength"]["value"])


def _is_rated(pair: Mapping[str, Any]) -> bool:
    return (pair.get("preference") or pair.get("difference") or {}).get("value") is not None


def _unrated(rating: Mapping[str, Any], shown: Mapping[str, str]) -> list[str]:
    """The pairs that nobody compared, in a sentence; none where all were, or no pair was."""
    pairs = [f"{shown[p['first']]} with {shown[p['second']]}" for p in rating["pairs"] if not _is_rated(p)]
    if not pairs or len(pairs) == len(rating["pairs"]):
        return []
    more = f" and {len(pairs) - MAX_PAIRS} more" if len(pairs) > MAX_PAIRS else ""
    return [f"Not rated, as no answer compares them: {', '.join(pairs[:MAX_PAIRS])}{more}."]


def _no_pair_separated(names: Sequence[str], shown: Mapping[str, str]) -> str:
    if len(names) == 2:
        return f"{shown[names[0]]} and {shown[names[1]]} cannot be told apart by these votes."
    described = [shown[name] for name in names if shown[name] != name]
    included = f", {_listed(described)} included" if described else ""
    return f"None of the {_count(len(names))} can be told apart by these votes{included}."


def _preferences(
    names: Sequence[str], beaten: Mapping[str, list[str]], rating: Mapping[str, Any], shown: Mapping[str, str]
) -> list[str]:
    """A sentence for each set of conditions that is found worse, with all that are found better than that set."""
    better: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        if beaten[name]:
            better.setdefault(tuple(beaten[name]), []).append(name)
    sentences = []
    for worse, winners in better.items():
        verb = "is" if len(winners) == 1 else "are"
        sentence = f"{_listed([shown[n] for n in winners])} {verb} preferred to {_listed([shown[n] for n in worse])}"
        sentences.append(f"{sentence}{_rates(rating, winners, worse)}.")
    return sentences


def _rates(rating: Mapping[str, Any], winners: Sequence[str], worse: Sequence[str]) -> str:
    """In how many of the comparisons the winners are preferred; empty for ratings of single pieces."""
    rates = []
    for pair in rating["pairs"]:
        value = pair.get("preference", {}).get("value")
        if value is not None and pair["first"] in winners and pair["second"] in worse:
            rates.append(value)
        elif value is not None and pair["second"] in winners and pair["first"] in worse:
            rates.append(1 - value)
    if not rates:
        return ""
    low, high = format_percent(min(rates)), format_percent(max(rates))
    return f" in {low} of comparisons" if low == high else f" in {low} to {high} of comparisons"


def _unresolved(
    names: Sequence[str], beaten: Mapping[str, list[str]], shown: Mapping[str, str], leading: Sequence[tuple[str, ...]]
) -> list[str]:
    """Groups of which no pair can be told apart, as few as hold every such pair."""
    apart = {frozenset((name, other)) for name, others in beaten.items() for other in others}
    left = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if frozenset((a, b)) not in apart]
    groups: list[tuple[str, ...]] = []
    while left:
        group = list(left[0])
        for name in names:
            if name not in group and not any(frozenset((name, member)) in apart for member in group):
                group.append(name)
        left = [pair for pair in left if not set(pair) <= set(group)]
        groups.append(tuple(sorted(group, key=names.index)))
    said = [_listed([shown[name] for name in group]) for group in groups if group not in leading]
    return [f"{group} cannot be told apart." for group in said]


def _all(names: Sequence[str], shown: Mapping[str, str], whose: str = "") -> str:
    return _listed([shown[name] for name in names]) if len(names) < 4 else f"the {whose}{_count(len(names))}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: int) -> str:
    return _COUNTS[number] if number < len(_COUNTS) else format_number(number, digits=0)
