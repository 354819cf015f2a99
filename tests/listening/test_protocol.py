"""The protocol file: what it takes, what it refuses, what enters its hash."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from talim import strict_yaml
from talim.errors import TalimError, UsageError
from talim.listening import protocol as p

TWO = [{"name": "one", "source": "a"}, {"name": "two", "source": "b"}]


def build(**changes: Any) -> p.Protocol:
    return strict_yaml.build(p.Protocol, {"name": "t", "conditions": TWO} | changes, p.FILE)


def test_defaults_name_the_aspects_groups_and_languages() -> None:
    made = build()
    assert [aspect.name for aspect in made.aspects] == list(p.ASPECTS)
    assert made.groups == ("expert", "musician", "general")
    assert made.languages == ("en", "ja")
    assert made.pairs == [("one", "two")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trails": {}}, "unknown key trails: did you mean trials?"),
        ({"trials": {"per_listner": 3}}, "unknown key trials.per_listner: did you mean per_listener?"),
        ({"conditions": TWO[:1]}, "at least 2"),
        ({"conditions": [*TWO, TWO[0]]}, "duplicate names"),
        ({"conditions": [*TWO, {"name": "anchor", "source": "c"}]}, "low-passed"),
        ({"reference": "three"}, "not a condition (one, two)"),
        ({"kind": "mushra"}, "needs a reference"),
        ({"aspects": [{"name": "gamaka"}]}, "give label.en and question.en"),
        ({"trials": {"per_listener": 2, "repeats": 3}}, "larger than"),
        ({"stopping": {"per_group": {"experts": 3}}}, "no group"),
        ({"loudness_lufs": float("nan")}, "loudness_lufs"),
        ({"name": "../up"}, "name"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        build(**changes)
    assert "\n" not in str(caught.value)


def test_an_aspect_of_ones_own_brings_its_words() -> None:
    aspect = {"name": "gamaka", "label": {"en": "Gamaka"}, "question": {"en": "Whose gamakas are truer?"}}
    assert build(aspects=[aspect]).aspects[0].label["en"] == "Gamaka"


def test_a_dumped_protocol_is_the_same_test(tmp_path: Path) -> None:
    made = build(seed=4)
    (tmp_path / "protocol.yaml").write_text(strict_yaml.dump(made), encoding="utf-8")
    assert p.load(tmp_path) == made


def test_a_missing_and_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="drafts one"):
        p.load(tmp_path)
    (tmp_path / "protocol.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UsageError, match="not a YAML file"):
        p.load(tmp_path)
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump([1]), encoding="utf-8")
    with pytest.raises(UsageError, match="found list"):
        p.load(tmp_path)


def test_the_hash_is_of_content_and_sounds_not_of_places() -> None:
    sounds = {"item-01/one": "ab", "item-01/two": "cd"}
    moved = build(conditions=[{"name": "one", "source": "elsewhere/a"}, TWO[1]])
    assert p.test_hash(build(), sounds) == p.test_hash(moved, sounds)
    assert p.test_hash(build(), sounds) != p.test_hash(build(seed=1), sounds)
    assert p.test_hash(build(), sounds) != p.test_hash(build(), sounds | {"item-01/two": "ce"})


def test_changes_are_named() -> None:
    assert p.changed_keys(
        p.hashed_content(build()), p.hashed_content(build(seed=3, trials={"attention": 1}))
    ) == [
        "seed",
        "trials.attention",
    ]
