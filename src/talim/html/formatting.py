"""Numbers as text for pages and terminals: one notation for all reports.

Thousands are separated by a narrow no-break space (U+202F) and negative numbers carry a minus sign (U+2212). A value
that may be missing (None) becomes `NOT_KNOWN`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from decimal import Decimal

from talim.recordings_needed import too_few_for_interval

NOT_KNOWN = "not known"
GB = 1e9  # bytes, everywhere that memory and files are told or asked for
WHOLE_CURRENCIES = {"CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF", "YEN", "¥", "円", "₩"}


def format_number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` decimals; values too small for these keep two significant digits, down to a millionth."""
    if value is None:
        return NOT_KNOWN
    value = 0.0 if abs(value) < 0.5e-6 else value  # what is left of sums that come to nothing
    if value and abs(value) < 0.5 * 10**-digits:
        digits = min(6, math.ceil(-math.log10(abs(value))) + 1)
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if digits <= 1 and "." in text else text
    return text.replace("-", "−").replace(",", "\u202f")


def format_p_value(value: float | None) -> str:
    """A p value with three decimals; of one that is smaller than these show, only that it is."""
    return NOT_KNOWN if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def format_setting(value: float) -> str:
    """A setting as a person would type it, exactly and never with an exponent, whose hyphen would break: `0.00009`."""
    return f"{Decimal(repr(float(value))).normalize():f}"


def format_change(before: float, after: float, digits: int = 3) -> tuple[str, str, str]:
    """`before`, `after` and `after - before` as text that adds up: each rounded alone, 1.1164 - 0.9496 would be 0.167
    beside 1.116 and 0.950. They get as many decimals from `digits` on as that takes and the difference needs.
    """
    exact, places = after - before, digits
    while True:
        first, last = (Decimal(f"{value:.{places}f}") for value in (before, after))
        if places == digits + 3 or (last - first == Decimal(f"{exact:.{places}f}") and (last != first or not exact)):
            break
        places += 1
    first_text, last_text, change = (
        f"{value:,f}".replace("-", "−").replace(",", "\u202f") for value in (first, last, last - first)
    )
    return first_text, last_text, change


def format_money(value: float | None, currency: str) -> str:
    """An amount as it is written in its currency: two decimals and the code, none where there are no smaller coins."""
    return NOT_KNOWN if value is None else f"{format_amount(value, currency)} {currency}"


def format_amount(value: float | None, currency: str) -> str:
    """`format_money` without the currency."""
    return format_number(value, 0 if currency.strip().upper() in WHOLE_CURRENCIES else 2)


def format_count(value: float) -> str:
    """A whole number with separated thousands; from ten million on it is rounded to millions."""
    if value >= 10_000_000:
        return f"{value / 1e6:,.0f} million".replace(",", "\u202f")
    return f"{value:,.0f}".replace(",", "\u202f")


def format_counted(value: int, noun: str) -> str:
    """`1 recording`, `3 recordings`."""
    return f"{format_count(value)} {noun}{'' if value == 1 else 's'}"


def format_percent(fraction: float | None) -> str:
    """A fraction (0..1) in per cent; one decimal below 10 %."""
    if fraction is None:
        return NOT_KNOWN
    return f"{100 * fraction:.{0 if fraction >= 0.1 else 1}f}\u202f%"


def format_ci(
    low: float | None,
    high: float | None,
    show: Callable[[float], str] = format_number,
    missing: str = NOT_KNOWN,
    values: Collection[float] = (),
) -> str:
    """The ends of an interval: `0.12 to 0.34`, `0.12 or more` without an upper end, `missing` without any.

    `show` formats one end, such as `format_percent`. Infinite ends count as missing. A lower end of 0 is where such
    values end, and no measurement: `0.34 or less`. Of two or three recordings, whose `values` are given, these are told
    instead: `2 recordings: 0.12 and 0.34`.
    """
    if too_few_for_interval(len(values)):
        *others, last = map(show, values)
        return f"{format_counted(len(values), 'recording')}: {', '.join(others)} and {last}"
    if low is None or not math.isfinite(low):
        return missing
    if high is None or not math.isfinite(high):
        return f"{show(low)} or more"
    if low == 0 < high:
        return f"{show(high)} or less"
    return f"{show(low)} to {show(high)}"


def format_duration(seconds: float | None) -> str:
    """`48 s`, `4 min 12 s`, `2 h 5 min`, `3 days`."""
    if seconds is None:
        return NOT_KNOWN
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{round(seconds / 60)} min"
    hours, rest = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"{hours / 24:.0f} days"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def format_bytes(value: float) -> str:
    """Bytes in kB, MB or GB."""
    for unit, factor in (("GB", GB), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.{1 if value < 100 * factor else 0}f} {unit}"
    return f"{value:.0f} bytes"


def format_memory(value: float) -> str:
    """Memory that a training or generation takes, in GB: `0.65 GB`; the same wherever it is told."""
    return f"{value / GB:.2f} GB"


def format_scientific(value: float) -> str:
    """`1.2 × 10¹⁴`."""
    exponent = math.floor(math.log10(value)) if value > 0 else 0
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.1f} × 10{superscript}"
