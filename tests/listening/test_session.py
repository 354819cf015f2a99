"""Opening a test: its words in every language, its keys, the names under which sounds go out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.listening_test_folder import protocol_of

from talim.atomic_io import read_json
from talim.errors import TalimError, UsageError
from talim.html.languages import FOLDER
from talim.listening.session import WORDS, consent_text, missing_keys, open_test, read_translations

Make = Callable[..., Path]
SHIPPED = sorted(FOLDER.glob("*/listen.json"))


def leaves(value: object, index: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in leaves(inner, f"{index}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, inner in enumerate(value) for k, v in leaves(inner, f"{index}.{i}").items()}
    return {index: str(value)}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_builtin_translation_has_all_keys_and_placeholders(path: Path) -> None:
    english, message = leaves(read_json(FOLDER / "en" / "listen.json")), leaves(read_json(path))
    message = {index: text for index, text in message.items() if not index.startswith(".organiser.notes.")}
    assert english.keys() == message.keys()
    for index, text in english.items():
        assert message[index].strip()
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", message[index])), index


def test_builtin_translations_are_english_and_japanese() -> None:
    assert {path.parent.name for path in SHIPPED} >= {"en", "ja"}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_consent_says_who_keeps_the_answers_and_whether_they_are_published(language: str) -> None:
    texts = read_json(FOLDER / language / "listen.json")
    for publish, key in ((False, "consent_unpublished"), (True, "consent_published")):
        paragraphs = consent_text(texts, protocol_of(contact="Anna, a@b.example", publish=publish))
        assert paragraphs[1].endswith(texts[key])
        assert texts["consent_contact"].format(contact="Anna, a@b.example") in paragraphs[1]
        assert "{" not in "".join([*paragraphs, *consent_text(texts, protocol_of(publish=publish))])
    assert consent_text(texts, protocol_of())[1].endswith(texts["consent_unpublished"])


def test_consent_hash_is_that_of_the_text_as_it_was_read(make_test: Make) -> None:
    test = open_test(make_test(publish=True))
    published = read_json(FOLDER / "en" / "listen.json")["consent_published"]
    assert published in test.translations["en"]["consent_text"][1]
    assert test.consent_hash("en") != test.consent_hash("ja")


def test_read_translations_additional_language_from_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"translate .*en/listen\.json"):
        read_translations(tmp_path, ("en", "tr"))
    message = read_json(FOLDER / "en" / "listen.json") | {"language": "Türkçe"}
    (tmp_path / WORDS).mkdir()
    (tmp_path / WORDS / "tr.json").write_text(json.dumps(message), encoding="utf-8")
    assert read_translations(tmp_path, ("en", "tr"))["tr"]["language"] == "Türkçe"
    del message["aspects"]["melody"]["label"]
    (tmp_path / WORDS / "tr.json").write_text(json.dumps(message), encoding="utf-8")
    with pytest.raises(TalimError, match=r"aspects\.melody\.label"):
        read_translations(tmp_path, ("tr",))


def test_missing_keys_reports_other_types() -> None:
    assert missing_keys({"a": {"b": "x"}, "c": []}, {"a": "x", "c": "y"}) == ["a.b", "c"]


def test_read_secrets_are_stable_and_private(make_test: Make) -> None:
    folder = make_test()
    first, again = open_test(folder), open_test(folder)
    assert first.organiser_token == again.organiser_token
    assert (folder / "keys.json").stat().st_mode & 0o077 == 0
    trial = {"position": 0, "order": ["linear", "conv"], "item": "item-01"}
    assert first.names("x", trial) == again.names("x", trial)
    (folder / "keys.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TalimError, match="not a key file"):
        open_test(folder)


def test_min_listening_seconds_is_limited_by_stimulus_length(make_test: Make) -> None:
    opened = open_test(make_test(trials={"per_listener": 6, "minimum_seconds": 30}))
    trial = {"position": 0, "order": ["linear", "conv"], "item": "item-01"}
    assert 0.9 < opened.min_listening_seconds(trial) < 1.2
