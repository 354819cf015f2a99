"""The verdict of a listening test: which conditions can be told apart, in one or a few sentences of a language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from talim.html.formatting import format_number, format_percent
from talim.html.languages import words
from talim.reporting.catalogue import counted, translator

_COUNTS = ("", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MAX_SENTENCES = 8  # of a verdict; the table of pairs holds the rest
MAX_PAIRS = 6  # that are named as not rated


def verdict_sentences(rating: Mapping[str, Any], shown: Mapping[str, str], language: str = "en") -> list[str]:
    """The sentences of a verdict, the most important one first; `shown` {condition: name for the reader}."""
    said = _Verdict(rating, shown, language).sentences()
    return [f"The {text[4:]}" if text.startswith("the ") else text for text in said]  # names of conditions stay as is


def rank_conditions(rating: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conditions, best first; those that nobody compared with these are left out."""
    known = [condition for condition in rating["conditions"] if condition["strength"]["value"] is not None]
    return sorted(known, key=lambda condition: -condition["strength"]["value"])


class _Verdict:
    """What all pairs of conditions of a rating say together, in one language.

    A pair is told apart if its p-value, adjusted for the number of pairs (Holm), is below 0.05; so in one of twenty
    tests without any difference at most is a difference claimed.
    """

    def __init__(self, rating: Mapping[str, Any], shown: Mapping[str, str], language: str) -> None:
        self.rating, self.shown, self.language = rating, shown, language
        self.t: Callable[..., str] = translator(language)
        self.names = [condition["name"] for condition in rank_conditions(rating)]

    def sentences(self) -> list[str]:
        return [*self._compared(), *self._unrated()]

    def _compared(self) -> list[str]:
        rating, names, t = self.rating, self.names, self.t
        if not names:
            return [t("listening_no_ranking")]
        verdicts = {frozenset((pair["first"], pair["second"])): pair["significant"] for pair in rating["pairs"]}
        rated = [frozenset((pair["first"], pair["second"])) for pair in rating["pairs"] if _is_rated(pair)]
        if any(verdicts[pair] is None for pair in rated):
            listeners = counted(rating["listeners"], "listener")[self.language]
            return [t("listening_too_few", listeners=listeners, names=self._all(names))]
        beaten = {
            name: [other for other in names[place + 1 :] if verdicts[frozenset((name, other))]]
            for place, name in enumerate(names)
        }
        if not any(beaten.values()):
            return [self._no_pair_separated()]
        sentences = []
        leaders = [name for name in names if not any(name in others for others in beaten.values())]
        others = names[len(leaders) :]
        if leaders == names[: len(leaders)] and all(beaten[name] == others for name in leaders):
            key = "listening_leads" if len(leaders) == 1 else "listening_lead"
            worse, rates = self._all(others, "listening_the_others"), self._rates(leaders, others)
            sentences.append(t(key, names=self._listed(leaders), others=worse, rates=rates))
        leading = leaders if sentences else []
        sentences += self._preferences([name for name in names if name not in leading], beaten)
        sentences += self._unresolved(beaten, [tuple(leading)])
        if len(sentences) > MAX_SENTENCES:
            sentences = [*sentences[: MAX_SENTENCES - 1], t("listening_rest")]
        return sentences

    def _unrated(self) -> list[str]:
        """The pairs that nobody compared, in a sentence; none where all were, or no pair was."""
        shown, t = self.shown, self.t
        pairs = [
            t("listening_pair", first=shown[p["first"]], second=shown[p["second"]])
            for p in self.rating["pairs"]
            if not _is_rated(p)
        ]
        if not pairs or len(pairs) == len(self.rating["pairs"]):
            return []
        more = t("listening_more", count=len(pairs) - MAX_PAIRS) if len(pairs) > MAX_PAIRS else ""
        return [t("listening_unrated", pairs=words(self.language)["comma"].join(pairs[:MAX_PAIRS]), more=more)]

    def _no_pair_separated(self) -> str:
        if len(self.names) == 2:
            return self.t("listening_two_alike", names=self._listed(self.names))
        described = [name for name in self.names if self.shown[name] != name]
        included = self.t("listening_included", names=self._listed(described)) if described else ""
        return self.t("listening_none", count=self._count(len(self.names)), included=included)

    def _preferences(self, names: Sequence[str], beaten: Mapping[str, list[str]]) -> list[str]:
        """A sentence for each set of conditions that is found worse, with all that are found better than that set."""
        better: dict[tuple[str, ...], list[str]] = {}
        for name in names:
            if beaten[name]:
                better.setdefault(tuple(beaten[name]), []).append(name)
        return [
            self.t(
                "listening_is_preferred" if len(winners) == 1 else "listening_are_preferred",
                names=self._listed(winners),
                others=self._listed(worse),
                rates=self._rates(winners, worse),
            )
            for worse, winners in better.items()
        ]

    def _rates(self, winners: Sequence[str], worse: Sequence[str]) -> str:
        """In how many of the comparisons the winners are preferred; empty for ratings of single pieces."""
        rates = []
        for pair in self.rating["pairs"]:
            value = pair.get("preference", {}).get("value")
            if value is not None and pair["first"] in winners and pair["second"] in worse:
                rates.append(value)
            elif value is not None and pair["second"] in winners and pair["first"] in worse:
                rates.append(1 - value)
        if not rates:
            return ""
        low, high = format_percent(min(rates)), format_percent(max(rates))
        return self.t("listening_rate" if low == high else "listening_rates", low=low, high=high)

    def _unresolved(self, beaten: Mapping[str, list[str]], leading: Sequence[tuple[str, ...]]) -> list[str]:
        """Groups of which no pair can be told apart, as few as hold every such pair."""
        names = self.names
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
        return [self.t("listening_alike", names=self._listed(group)) for group in groups if group not in leading]

    def _all(self, names: Sequence[str], many: str = "listening_the") -> str:
        return self._listed(names) if len(names) < 4 else self.t(many, count=self._count(len(names)))

    def _listed(self, names: Sequence[str]) -> str:
        shown = [self.shown[name] for name in names]
        if len(shown) == 1:
            return shown[0]
        return self.t("listening_and", names=words(self.language)["comma"].join(shown[:-1]), last=shown[-1])

    def _count(self, number: int) -> str:
        if self.language == "en" and number < len(_COUNTS):
            return _COUNTS[number]
        return format_number(number, digits=0)


def _is_rated(pair: Mapping[str, Any]) -> bool:
    return (pair.get("preference") or pair.get("difference") or {}).get("value") is not None
