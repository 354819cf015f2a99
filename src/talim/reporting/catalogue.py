"""Sentences of the catalogue words/LANGUAGE/report.json in every language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from talim.html.formatting import NOT_KNOWN, format_ci, format_count, format_counted, format_number
from talim.html.languages import duration_in, languages, words
from talim.html.phrases import translate

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


def interval_in_languages(low: float | None, high: float | None) -> Texts:
    """The ends of an interval, or that they are not known."""
    text = format_ci(low, high)
    if text == NOT_KNOWN:
        return in_languages("interval_not_known")
    return in_languages("interval", ends=interval_ends(text))


def interval_ends(text: str) -> Texts:
    """The ends of an interval, as `format_ci` has them: `0.12 to 0.34` and `0.12〜0.34`."""
    if text.endswith(" or more"):
        return in_languages("or_more", low=text.removesuffix(" or more"))
    low, to, high = text.partition(" to ")
    return in_languages("range", low=low, high=high) if to else dict.fromkeys(languages(), text)


def counted(value: int, noun: str) -> Texts:
    """`3 recordings` and `3本`; KeyError for a noun without a counter."""
    return in_languages(f"counter_{noun}", count=format_count(value)) | {"en": format_counted(value, noun)}


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


def join(sentences: Iterable[str], language: str) -> str:
    """Sentences one after the other, as the language writes them; empty ones are left out."""
    return words(language)["join"].join(filter(None, sentences))
