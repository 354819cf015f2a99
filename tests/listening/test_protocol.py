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


def test_protocol_defaults_have_aspects_groups_and_languages() -> None:
    created = build()
    assert [aspect.name for aspect in created.aspects] == list(p.ASPECTS)
    assert created.groups == ("expert", "musician", "general")
    assert created.languages == ("en", "ja")
    assert created.pairs == [("one", "two")]


@pytest.mark.parametrize(
    ("changes", "sent"),
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
def test_build_invalid_protocol_raises_one_line_usage_error(changes: dict[str, Any], sent: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sent)) as caught:
        build(**changes)
    assert "\n" not in str(caught.value)


def test_build_custom_aspect_with_texts_is_accepted() -> None:
    aspect = {"name": "gamaka", "label": {"en": "Gamaka"}, "question": {"en": "Whose gamakas are truer?"}}
    assert build(aspects=[aspect]).aspects[0].label["en"] == "Gamaka"


def test_load_dumped_protocol_is_equal(tmp_path: Path) -> None:
    created = build(seed=4)
    (tmp_path / "protocol.yaml").write_text(strict_yaml.dump(created), encoding="utf-8")
    assert p.load(tmp_path) == created


def test_load_missing_or_broken_file_raises_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="drafts one"):
        p.load(tmp_path)
    (tmp_path / "protocol.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(UsageError, match="not a YAML file"):
        p.load(tmp_path)
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump([1]), encoding="utf-8")
    with pytest.raises(UsageError, match="found list"):
        p.load(tmp_path)


def test_test_hash_depends_on_content_and_stimuli_not_on_paths() -> None:
    content_hashes = {"item-01/one": "ab", "item-01/two": "cd"}
    moved = build(conditions=[{"name": "one", "source": "elsewhere/a"}, TWO[1]])
    assert p.test_hash(build(), content_hashes) == p.test_hash(moved, content_hashes)
    assert p.test_hash(build(), content_hashes) != p.test_hash(build(seed=1), content_hashes)
    assert p.test_hash(build(), content_hashes) != p.test_hash(build(), content_hashes | {"item-01/two": "ce"})


def test_changed_keys_lists_dotted_keys() -> None:
    assert p.changed_keys(p.hashed_content(build()), p.hashed_content(build(seed=3, trials={"attention": 1}))) == [
        "seed",
        "trials.attention",
    ]
