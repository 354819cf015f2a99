"""YAML files of users: strict models, nearest names of unknown keys, one-line errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from pydantic import Field, ValidationError, field_validator
from pydantic_core import core_schema

from talim import strict_yaml
from talim.errors import TalimError, UsageError
from talim.strict_yaml import StrictModel, build, dump, load_yaml, read_yaml


class Inner(StrictModel):
    """A nested part."""

    length: float = Field(default=1.0, gt=0)

    @field_validator("length")
    @classmethod
    def _check_length(cls, value: float) -> float:
        if value == 13:
            raise ValueError("13 is not allowed")
        return value


class Outer(StrictModel):
    """A file."""

    name: str
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "nam": 1}, "f.yaml: unknown key nam: did you mean name? Known: name, inner, parts"),
        ({"name": "x", "zzz": 1}, "f.yaml: unknown key zzz: Known: name, inner, parts"),
        ({"name": "x", "inner": {"lenght": 1}}, "unknown key inner.lenght: did you mean length? Known: length"),
        ({"name": "x", "parts": [{"lenght": 1}]}, "unknown key parts.0.lenght: did you mean length?"),
        ({}, "f.yaml: name is missing"),
        ({"name": "x", "inner": {"length": 0}}, "inner.length is 0: "),
        ({"name": "x", "inner": {"length": float("nan")}}, "inner.length is nan"),
        ({"name": "x", "inner": {"length": 13}}, "inner.length is 13: 13 is not allowed"),
        ({"name": "x", "inner": [1]}, "inner is [1]: expected `name: value` lines, not a list or one value"),
        ({"name": "x", "inner": "y"}, "inner is 'y': expected `name: value` lines"),
        ({"name": "x", "parts": "y"}, "parts is 'y': expected a list, such as [one, two]"),
        ({"name": 3}, "name is 3: expected text"),
        ([1], "f.yaml: expected `key: value` lines, found list"),
        (None, "f.yaml: expected `key: value` lines, found nothing"),
    ],
)
def test_build_invalid_values_raise_one_line_usage_error(values: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        build(Outer, values, "f.yaml")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


class EveryKind(StrictModel):
    text: str = Field("aaa", min_length=2, max_length=4, pattern="^a")
    number: float = Field(1.0, gt=0, lt=9)
    count: int = Field(1, ge=1, le=4, multiple_of=1)
    flag: bool = True
    word: Literal["one", "two"] = "one"
    folder: Path = Path("f")
    several: list[int] = Field([1], min_length=1, max_length=2)
    either: int | None = None
    pair: tuple[float, float] = (0, 1)
    table: dict[str, int] = {}  # noqa: RUF012 (a field's default)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("text", "a", "text is 'a': expected at least 2 characters"),
        ("text", "aaaaa", "expected at most 4 characters"),
        ("text", "bb", "expected text like the pattern ^a"),
        ("number", "x", "number is 'x': expected a number"),
        ("number", 0, "expected more than 0"),
        ("number", 9, "expected less than 9"),
        ("number", float("inf"), "expected a finite number"),
        ("count", 0, "count is 0: expected at least 1"),
        ("count", 5, "expected at most 4"),
        ("count", 1.5, "expected a whole number"),
        ("count", "9" * 5000, "expected a whole number"),
        ("flag", "perhaps", "expected true or false"),
        ("word", "three", "word is 'three': expected 'one' or 'two'"),
        ("folder", 3, "expected a path"),
        ("several", [], "several is []: expected at least 1 of them"),
        ("several", [1, 2, 3], "expected at most 2 of them"),
        ("several", ["x"], "several.0 is 'x': expected a whole number"),
        ("either", "x", "either is 'x': expected a whole number"),
        ("pair", 3, "expected a list"),
        ("table", {"a": "b"}, "table.a is 'b': expected a whole number"),
    ],
)
def test_no_word_of_the_validating_library_reaches_the_user(key: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        build(EveryKind, {key: value}, "f.yaml")
    assert message in str(raised.value)
    assert "nput" not in str(raised.value)
    assert "should" not in str(raised.value)


def test_expected_of_any_kind_of_fault_uses_none_of_the_library_s_words() -> None:
    for kind in get_args(core_schema.ErrorType):
        context = dict.fromkeys(re.findall(r"\{(\w+)\}", strict_yaml._EXPECTED.get(kind, "")), 3)
        fault = {"type": kind, "msg": "Input should be something", "ctx": context | {"error": ValueError("own words")}}
        words = strict_yaml.expected(fault)
        assert words
        assert "Input" not in words


def test_messages_of_the_validating_library_are_used_nowhere() -> None:
    source = Path(strict_yaml.__file__).parent
    users = [path.name for path in source.rglob("*.py") if re.search(r"""\[["']msg["']\]""", path.read_text("utf-8"))]
    assert users == ["strict_yaml.py"]


def test_known_keys_are_listed_once() -> None:
    with pytest.raises(UsageError) as raised:
        build(Outer, {"name": "x", "zzz": 1, "part": 2, "inner": {"zzz": 1}}, "f.yaml")
    known = "Known: name, inner, parts"
    assert str(raised.value) == (
        f"f.yaml: unknown key inner.zzz: Known: length; unknown key zzz: {known}; unknown key part: did you mean parts?"
    )


def test_build_several_faults_are_all_named() -> None:
    with pytest.raises(UsageError, match=r"name is missing; unknown key a"):
        build(Outer, {"a": 1}, "f.yaml")


def test_strict_model_is_frozen() -> None:
    model = Outer(name="x")
    with pytest.raises(ValidationError, match="frozen"):
        model.name = "y"  # type: ignore[misc]


def test_dump_read_and_build_give_an_equal_model(tmp_path: Path) -> None:
    model = Outer(name="é", parts=(Inner(length=2),))
    (tmp_path / "f.yaml").write_text(dump(model), encoding="utf-8")
    assert "é" in dump(model)
    assert "inner" in dump(model)
    assert build(Outer, read_yaml(tmp_path / "f.yaml", "none"), "f.yaml") == model


def test_read_yaml_missing_file_raises_error_with_hint(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match=r"no such file; write one"):
        read_yaml(tmp_path / "f.yaml", "write one")


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00"])
def test_read_yaml_broken_file_raises_usage_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.yaml").write_bytes(content)
    with pytest.raises(UsageError, match="not a YAML file") as raised:
        read_yaml(tmp_path / "f.yaml", "none")
    assert "\n" not in str(raised.value)


def test_read_yaml_folder_raises_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a YAML file"):
        read_yaml(tmp_path, "none")


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ALIASES, "aliases unfold to over 100,000 values"),
        ("a: &a {b: *a}", "an alias holds itself"),
        ("a: &a [1, {<<: *a}]", "an alias holds itself"),
        ("[" * 50_000, "nested too deeply"),
        ("a: " + "{b: " * 50_000, "nested too deeply"),
        ("when: 2026-13-45", "month must be in 1..12"),
        ("n: " + "9" * 10_000, "integer string conversion"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_read_yaml_hostile_text_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "f.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words) as raised:
        read_yaml(tmp_path / "f.yaml", "none")
    assert len(str(raised.value)) < 2000
    assert "\n" not in str(raised.value)


def test_load_yaml_aliases_and_merges_of_a_usual_size_are_read() -> None:
    assert load_yaml("a: &a {b: 1, c: [2]}\nd: {<<: *a, b: 3}\ne: *a") == {
        "a": {"b": 1, "c": [2]},
        "d": {"b": 3, "c": [2]},
        "e": {"b": 1, "c": [2]},
    }


def test_read_yaml_of_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with open(tmp_path / "f.yaml", "wb") as file:
        file.truncate(5_000_000_000)
    with pytest.raises(UsageError, match="more than 4 MB"):
        read_yaml(tmp_path / "f.yaml", "none")


def test_build_message_of_long_and_deep_values_is_short() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep, deep]
    for value in (deep, "x" * 10**6, [["y" * 1000] * 1000] * 1000, 10**5000, {"a": deep}):
        with pytest.raises(UsageError) as raised:
            build(Outer, {"name": value if not isinstance(value, str) else [value]}, "f.yaml")
        assert len(str(raised.value)) < 2000


def test_build_of_very_many_faults_tells_the_first() -> None:
    with pytest.raises(UsageError, match="and 92 more"):
        build(Outer, {"name": "x", **{f"k{number}": 1 for number in range(100)}}, "f.yaml")
