"""Opening a test: its words in every language, its keys, the names under which sounds go out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from talim.atomic_io import read_json
from talim.errors import TalimError, UsageError
from talim.listening.session import STATIC, WORDS, missing_keys, open_test, read_translations

Make = Callable[..., Path]
SHIPPED = sorted((STATIC / WORDS).glob("*.json"))


def leaves(value: object, place: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in leaves(inner, f"{place}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in leaves(inner, f"{place}.{i}").items()}
    return {place: str(value)}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_translation_is_whole_and_fills_the_same_holes(path: Path) -> None:
    english, words = leaves(read_json(STATIC / WORDS / "en.json")), leaves(read_json(path))
    assert english.keys() == words.keys()
    for place, text in english.items():
        assert words[place].strip()
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", words[place])), place


def test_english_and_japanese_ship() -> None:
    assert {path.stem for path in SHIPPED} >= {"en", "ja"}


def test_another_language_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"translate en\.json"):
        read_translations(tmp_path, ("en", "tr"))
    words = read_json(STATIC / WORDS / "en.json") | {"language": "Türkçe"}
    (tmp_path / WORDS).mkdir()
    (tmp_path / WORDS / "tr.json").write_text(json.dumps(words), encoding="utf-8")
    assert read_translations(tmp_path, ("en", "tr"))["tr"]["language"] == "Türkçe"
    del words["aspects"]["melody"]["label"]
    (tmp_path / WORDS / "tr.json").write_text(json.dumps(words), encoding="utf-8")
    with pytest.raises(TalimError, match=r"aspects\.melody\.label"):
        read_translations(tmp_path, ("tr",))


def test_missing_keys_sees_another_kind() -> None:
    assert missing_keys({"a": {"b": "x"}, "c": []}, {"a": "x", "c": "y"}) == ["a.b", "c"]


def test_keys_stay_and_are_the_owners(make_test: Make) -> None:
    folder = make_test()
    first, again = open_test(folder), open_test(folder)
    assert first.organiser_token == again.organiser_token
    assert (folder / "keys.json").stat().st_mode & 0o077 == 0
    trial = {"position": 0, "order": ["linear", "conv"], "item": "item-01"}
    assert first.names("x", trial) == again.names("x", trial)
    (folder / "keys.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TalimError, match="not a key file"):
        open_test(folder)


def test_a_short_sound_need_not_be_heard_longer_than_it_is(make_test: Make) -> None:
    opened = open_test(make_test(trials={"per_listener": 6, "minimum_seconds": 30}))
    trial = {"position": 0, "order": ["linear", "conv"], "item": "item-01"}
    assert 0.9 < opened.min_listening_seconds(trial) < 1.2
