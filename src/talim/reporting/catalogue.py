"""Sentences of the catalogue words/LANGUAGE/report.json in every language."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from talim.html.formatting import NOT_KNOWN, format_ci, format_number
from talim.html.languages import counted_in, duration_in, languages, words
from talim.html.phrases import translate
from talim.recordings_needed import too_few_for_interval

Texts = dict[str, str]  # by language


def in_languages(key: str, **values: Any) -> Texts:
    """A sentence in every language, by language; each value may be given by language too, at least in English."""
    return {
        language: words(language)[key].format(
            **{
                name: value.get(language, value["en"]) if isinstance(value, dict) else value
                for name, value in values.items()
            }
        )
        for language in languages()
    }


def recognised(text: str, keys: Iterable[str]) -> Texts:
    """An English text that was stored, in every language, by the first of these sentences that it is."""
    keys = [*keys]
    return {
        language: translate(text, {words("en")[key]: words(language)[key] for key in keys}) for language in languages()
    }


def translator(language: str) -> Callable[..., str]:
    """The function of a key and its values that a template calls for a sentence in one language."""
    return lambda key, **values: in_languages(key, **values)[language]


def interval_in_languages(
    low: float | None,
    high: float | None,
    values: Collection[float] = (),
    show: Callable[[float], str] = format_number,
    no_change: float = 0.0,
) -> Texts:
    """The ends of an interval, or that they are not known; of two or three recordings' `values` these.

    Their interval is told beside them only where it leaves `no_change` out: verdicts go by it.
    """
    text = format_ci(low, high, show)
    if text == NOT_KNOWN:
        return in_languages("interval_not_known")
    ends = in_languages("interval", ends=interval_ends(text))
    if not too_few_for_interval(len(values)):
        return ends
    each = interval_ends(format_ci(low, high, show, values=values))
    if shown_ends(low, high, values, no_change) == (None, None):
        return in_languages("interval_too_few", each=each)
    return in_languages("interval_of_few", each=each, interval=ends)


def measure_interval(measure: Mapping[str, Any]) -> Texts:
    """`interval_in_languages` of a measure of scores.json."""
    low, high = measure.get("ci95") or (None, None)
    return interval_in_languages(low, high, recording_values(measure))


def recording_values(measure: Mapping[str, Any]) -> list[float]:
    """The values that a measure of scores.json is the mean of, one for each recording; none in files without them."""
    return list((measure.get("per_recording") or {}).values())


def shown_ends(
    low: float | None, high: float | None, values: Collection[float], no_change: float = 0.0
) -> tuple[float | None, float | None]:
    """The ends of an interval to be drawn: none over two or three recordings, unless it leaves `no_change` out."""
    if low is None or high is None or not too_few_for_interval(len(values)):
        return low, high
    return (None, None) if low <= no_change <= high else (low, high)


def interval_ends(text: str) -> Texts:
    """The ends of an interval, as `format_ci` has them: `0.12 to 0.34` and `0.12〜0.34`."""
    if values := re.fullmatch(r"(\d+) recordings: (.*) and (.*)", text):
        others = listed([dict.fromkeys(languages(), value) for value in values[2].split(", ")])
        recordings = counted(int(values[1]), "recording")
        return in_languages("values_of_few", recordings=recordings, others=others, last=values[3])
    for end in ("or_more", "or_less"):
        if (value := text.removesuffix(words("en")[end].format(end=""))) != text:
            return in_languages(end, end=value)
    low, to, high = text.partition(" to ")
    return in_languages("range", low=low, high=high) if to else dict.fromkeys(languages(), text)


def counted(value: int, noun: str) -> Texts:
    """`3 recordings` and `3本`; KeyError for a noun without a counter."""
    return {language: counted_in(language, value, noun) for language in languages()}


def duration(seconds: float | None) -> Texts:
    """`4 min 12 s` and `4分12秒`."""
    if seconds is None:
        return in_languages("not_known")
    return {language: duration_in(language, seconds) for language in languages()}


def machine_price(seconds: float, price_per_hour: float | None) -> Texts:
    """`, which costs 0.25 at 0.50 per machine hour`, to follow a time; empty without a price."""
    if price_per_hour is None:
        return dict.fromkeys(languages(), "")
    amount, price = (format_number(value, 2) for value in (seconds / 3600 * price_per_hour, price_per_hour))
    return in_languages("machine_price", amount=amount, price=price)


def device_name(device: str) -> Texts:
    """A device as cost.json names it: `CPU, 2 cores` and `CPU、2コア`; a GPU has one name."""
    return recognised(device, ["device_cpu", "device_cpu_one"])


def listed(texts: Sequence[Texts], english: str = ", ") -> Texts:
    """Texts one after the other, with the commas of each language, in English with `english` in between."""
    marks = in_languages("comma") | {"en": english}
    return {language: mark.join(text[language] for text in texts) for language, mark in marks.items()}


def named(names: Iterable[str]) -> Texts:
    """Names one after the other: `a and b`, and `a、b`."""
    names = [*names]
    return {language: mark.join(names) for language, mark in in_languages("and").items()}


def either(texts: Sequence[Texts]) -> Texts:
    """`one, two or three`; a single one as it is."""
    return in_languages("either", others=listed(texts[:-1]), last=texts[-1]) if len(texts) > 1 else texts[0]


def sentences(texts: Iterable[Texts]) -> Texts:
    """Sentences one after the other, in every language."""
    known = list(texts)
    return {language: join([text[language] for text in known], language) for language in languages()}


def join(sentences: Iterable[str], language: str) -> str:
    """Sentences one after the other, as the language writes them; empty ones are left out."""
    return words(language)["join"].join(filter(None, sentences))
