"""Number formatters: notation, rounding, missing values."""

from __future__ import annotations

import ast
import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.html import formatting
from talim.html.languages import duration_in


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.234, 3, "0.234"),
        (-0.5, 2, "−0.50"),
        (10.0, 1, "10"),
        (0.00012, 3, "0.00012"),
        (0, 3, "0.000"),
        (-1e-16, 2, "0.00"),
    ],
)
def test_format_number_has_digits_and_a_minus_sign(value: float, digits: int, expected: str) -> None:
    assert formatting.format_number(value, digits) == expected


@pytest.mark.parametrize(("value", "text"), [(9e-05, "0.00009"), (0.001, "0.001"), (8.0, "8"), (1e6, "1000000")])
def test_format_setting_has_no_exponent(value: float, text: str) -> None:
    assert formatting.format_setting(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "< 0.001"), (4e-9, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"), (0.0496, "0.050"), (1.0, "1.000")],
)
def test_format_p_value_is_never_zero(value: float, text: str) -> None:
    assert formatting.format_p_value(value) == text
    assert formatting.format_p_value(None) == formatting.NOT_KNOWN


@given(st.floats(-1e6, 1e6))
def test_format_number_of_a_nonzero_number_is_not_zero(value: float) -> None:
    if abs(value) > 1e-6:
        assert set(formatting.format_number(value)) - set("−0.\u202f")


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.integers(2, 4))
def test_format_change_adds_up_and_each_number_is_rounded_right(before: float, after: float, digits: int) -> None:
    texts = formatting.format_change(before, after, digits)
    first, last, change = (Decimal(text.replace("−", "-").replace("\u202f", "")) for text in texts)
    assert last - first == change
    places = len(texts[0].partition(".")[2])
    assert digits <= places <= digits + 3
    assert f"{first:.{places}f}" == f"{before:.{places}f}"
    assert f"{last:.{places}f}" == f"{after:.{places}f}"
    assert float(change) == pytest.approx(after - before, abs=1.01 * 10**-places)


def test_format_change_has_more_digits_only_where_they_are_needed() -> None:
    assert formatting.format_change(3.4, 3.2) == ("3.400", "3.200", "−0.200")
    assert formatting.format_change(1.1164, 0.9496) == ("1.1164", "0.9496", "−0.1668")
    assert formatting.format_change(1.1163, 1.1167) == ("1.1163", "1.1167", "0.0004")
    assert formatting.format_change(2.0, 2.0, 2) == ("2.00", "2.00", "0.00")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (48, "48 s"),
        (252, "4 min 12 s"),
        (300, "5 min"),
        (1800, "30 min"),
        (3599, "60 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (300_000, "3 days"),
    ],
)
def test_format_duration_of_seconds_to_days(seconds: float, expected: str) -> None:
    assert formatting.format_duration(seconds) == expected


def test_duration_in_has_the_same_numbers() -> None:
    for seconds, expected in ((48, "48秒"), (252, "4分12秒"), (7500, "2時間5分"), (260_000, "3日")):
        assert duration_in("ja", seconds) == expected


def test_format_bytes_counts_powers() -> None:
    assert formatting.format_bytes(860_000) == "860 kB"
    assert formatting.format_bytes(1_420_000_000) == "1.4 GB"
    assert formatting.format_bytes(12) == "12 bytes"
    assert formatting.format_count(8_560_640) == "8\u202f560\u202f640"
    assert formatting.format_count(419_600_384) == "420 million"
    assert formatting.format_scientific(5.2e13) == "5.2 × 10¹³"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.25, "0.100 to 0.250"),
        (0.1, None, "0.100 or more"),
        (None, None, "not known"),
        (float("-inf"), float("inf"), "not known"),
        (0.0, 13.775, "13.775 or less"),  # where such values end: nothing was measured there
        (-0.1, 0.25, "−0.100 to 0.250"),
        (0.0, 0.0, "0.000 to 0.000"),
    ],
)
def test_format_ci_of_complete_open_and_missing_intervals(low: float | None, high: float | None, expected: str) -> None:
    assert formatting.format_ci(low, high) == expected


def test_format_ci_uses_the_given_formatter_and_text_for_missing() -> None:
    assert formatting.format_ci(0.5, 0.75, formatting.format_percent) == "50\u202f% to 75\u202f%"
    assert formatting.format_ci(None, None, missing="") == ""


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "13.775 or less"),
        ((6.2, 6.9), "2 recordings: 6.200 and 6.900"),
        ((6.2, 6.9, 6.5), "3 recordings: 6.200, 6.900 and 6.500"),
        ((6.2, 6.9, 6.5, 6.6), "13.775 or less"),
    ],
)
def test_format_ci_of_two_or_three_recordings_tells_each(values: tuple[float, ...], expected: str) -> None:
    assert formatting.format_ci(0.0, 13.775, values=values) == expected


def test_formatters_of_missing_values_say_not_known() -> None:
    for show in (formatting.format_number, formatting.format_percent, formatting.format_duration):
        assert show(None) == formatting.NOT_KNOWN


@pytest.mark.parametrize(
    ("value", "currency", "expected"),
    [
        (1234.5, "EUR", "1\u202f234.50 EUR"),
        (1234.5, "JPY", "1\u202f234 JPY"),
        (90_000, "jpy", "90\u202f000 jpy"),
        (8.0, "KRW", "8 KRW"),
        (8.0, "USD", "8.00 USD"),
        (None, "JPY", "not known"),
    ],
)
def test_format_money_has_the_decimals_of_its_currency(value: float | None, currency: str, expected: str) -> None:
    assert formatting.format_money(value, currency) == expected
    assert expected.startswith(formatting.format_amount(value, currency))


NOUNS = (  # noqa: SIM905
    "adapter answer beat chord clip comparison condition control core design evaluation file gradient layer listener "
    "pair piece page prompt question rating recording review reviewer run seed site step time trial vote weight"
).split()
AFTER_A_COUNT = re.compile(rf" ((?:[a-z-]+ )?(?:{'|'.join(NOUNS)})s)\b")
NO_COUNT = re.compile(r"\b(of|with|has|holds|no|that|needs?|takes|several|fewer)\b")  # `{name} holds files`
# behind a condition that there are several, or in layers that may not import the formatters
ALLOWED = {
    ("adapters/layer.py", "runs"),  # a verb, as in design/expression.py
    ("audio/decode.py", "pieces"),
    ("backbones/mustango/backbone.py", "prompts"),
    ("backbones/mustango/beat_chord_vocabulary.py", "beats"),
    ("backbones/mustango/beat_chord_vocabulary.py", "chord times"),
    ("backbones/mustango/beat_chord_vocabulary.py", "chords"),
    ("backbones/mustango/diffusion.py", "sampling steps"),
    ("beats_chords.py", "beat times"),
    ("beats_chords.py", "beats"),
    ("beats_chords.py", "chord times"),
    ("beats_chords.py", "chords"),
    ("corpus/caption_templates.py", "beats"),
    ("corpus/importers/folder.py", "files"),
    ("design/expression.py", "runs"),
    ("experiments/controls.py", "designs"),
    ("generation/generate.py", "pieces"),
    ("generation/generate.py", "prompts"),
    ("metrics/distribution_distances.py", "recordings"),
    ("metrics/prompt_adherence.py", "prompts"),
    ("poc/cost_stage.py", "designs"),
    ("recordings_needed.py", "held-out recordings"),
    ("reporting/messages.py", "files"),
    ("reporting/sentences.py", "times"),
}


def test_counted_nouns_of_messages_and_pages_are_made_by_format_counted() -> None:
    source, found = Path(formatting.__file__).parents[1], set()
    for path in source.rglob("*.py"):
        name = path.relative_to(source).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for value, text in pairwise(node.values) if isinstance(node, ast.JoinedStr) else ():
                if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                    noun, shown = AFTER_A_COUNT.match(str(text.value)), ast.unparse(value.value)
                    by_function = re.match(r"(\w+\.)*format_", shown) or re.fullmatch(r"[\w.]*[A-Z]{2,}", shown)
                    if noun and not (by_function or value.format_spec or NO_COUNT.search(noun[1])):
                        found.add((name, noun[1]))
    assert found == ALLOWED
    for path in source.rglob("*.html"):
        nouns = re.findall(rf"\}}\}}{AFTER_A_COUNT.pattern}", path.read_text("utf-8"))
        assert [noun for noun in nouns if not NO_COUNT.search(noun)] == [], path
