"""What a listening test is: a YAML file that says what is compared, how, by whom, and which votes count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from talim import strict_yaml
from talim.strict_yaml import StrictModel, dump

__all__ = ["Condition", "Protocol", "build", "changed_keys", "dump", "hashed_content", "load", "test_hash"]

FILE = "protocol.yaml"
PREFERENCE_LEVELS = (2, 1, 0, -1, -2)  # "A much better" to "B much better"
CANNOT_SAY = "cannot_say"
ASPECTS = ("overall", "instruments", "melody", "rhythm", "structure", "creativity")
ANCHOR = "anchor"  # the reference through a 3.5 kHz low-pass, after ITU-R BS.1534
_NAME = r"^[a-z0-9][a-z0-9_-]{0,39}$"
_LOCAL_PATH_KEYS = ("source",)  # where a condition lies on this machine; its content enters the hash as sound


class Condition(StrictModel):
    """One thing that is compared: the sounds of one design, of the untrained base, or real music."""

    name: str = Field(pattern=_NAME, description="how results call it; listeners never see it")
    source: str = Field(
        min_length=1, description="a run, or a folder of sounds; relative to the protocol's folder"
    )
    take: Literal["adapter", "base", "real", "files"] = Field(
        default="adapter", description="which of a run's samples; files: everything in a folder of sounds"
    )


class Aspect(StrictModel):
    """One question of a trial. Words for the shipped names come with the translations; others bring theirs."""

    name: str = Field(pattern=_NAME)
    label: dict[str, str] = Field(default_factory=dict, description="by language, such as en: Melody")
    question: dict[str, str] = Field(default_factory=dict, description="one sentence by language")

    @model_validator(mode="after")
    def _unknown_names_need_words(self) -> Aspect:
        if self.name not in ASPECTS and not (self.label.get("en") and self.question.get("en")):
            raise ValueError(f"{self.name} is none of {', '.join(ASPECTS)}: give label.en and question.en")
        return self


class TrialCounts(StrictModel):
    """How much one listener hears."""

    per_listener: int = Field(default=20, ge=1, le=500, description="comparisons that count")
    repeats: int = Field(default=3, ge=0, le=50, description="of these heard again, sides swapped, unsaid")
    attention: int = Field(default=2, ge=0, le=20, description="checks that whoever listens passes")
    minimum_seconds: float = Field(default=4.0, ge=0, le=60, description="of each sound before an answer")
    show_prompt: bool = Field(default=False, description="whether the words of the music are shown")


class Exclusions(StrictModel):
    """Whose votes do not count, written down before the first one. A listener is left out whole."""

    attention_below: float | None = Field(default=0.5, ge=0, le=1, description="share of checks passed")
    same_answer_above: float | None = Field(default=0.95, gt=0, le=1, description="share of one answer")
    repeats_reversed_above: float | None = Field(
        default=None, ge=0, le=1, description="share of hidden repeats answered the other way round"
    )
    reference_below_90_above: float | None = Field(
        default=0.15, ge=0, le=1, description="mushra: share of trials with the hidden reference under 90"
    )
    trials_below: int = Field(default=5, ge=0, description="trials answered")


class StoppingRule(StrictModel):
    """When no new listener is let in. A number fixed beforehand: looking at results may not decide."""

    listeners: int | None = Field(default=40, ge=1, le=100_000, description="who began, in all groups")
    per_group: dict[str, int] = Field(default_factory=dict, description="who began, in this group")


class Protocol(StrictModel):
    """A listening test. The same file at several sites is the same test, and its results merge."""

    name: str = Field(pattern=_NAME)
    title: dict[str, str] = Field(default_factory=lambda: {"en": "A listening test", "ja": "聴取テスト"})
    contact: str = Field(default="", max_length=200, description="whom a listener can ask")
    kind: Literal["pairwise", "mushra"] = "pairwise"
    conditions: tuple[Condition, ...] = Field(min_length=2, max_length=24)
    reference: str | None = Field(default=None, description="a condition: strengths are also told against it")
    anchor: bool = Field(default=True, description="mushra: a low-passed reference among the sounds")
    aspects: tuple[Aspect, ...] = Field(
        default_factory=lambda: tuple(Aspect(name=name) for name in ASPECTS), min_length=1, max_length=12
    )
    trials: TrialCounts = Field(default_factory=TrialCounts)
    groups: tuple[str, ...] = Field(default=("expert", "musician", "general"), min_length=1)
    languages: tuple[str, ...] = Field(default=("en", "ja"), min_length=1)
    loudness_lufs: float = Field(default=-23.0, ge=-40, le=-10, description="of every sound, BS.1770")
    seconds: float = Field(default=15.0, gt=0.5, le=120, description="at most this much of each sound")
    seed: int = Field(default=0, ge=0, lt=2**31, description="orders and sides follow from it")
    exclusions: Exclusions = Field(default_factory=Exclusions)
    stopping: StoppingRule = Field(default_factory=StoppingRule)

    @model_validator(mode="after")
    def _parts_fit(self) -> Protocol:
        names = [condition.name for condition in self.conditions]
        for what, listed in (("conditions", names), ("aspects", [a.name for a in self.aspects])):
            if len(set(listed)) != len(listed):
                raise ValueError(f"{what} have names twice: {', '.join(listed)}")
        if ANCHOR in names:
            raise ValueError("anchor is the name of the low-passed reference; call the condition otherwise")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference is {self.reference}, which is none of {', '.join(names)}")
        if self.kind == "mushra" and self.reference is None:
            raise ValueError("mushra needs a reference: the name of the condition that holds the real music")
        if self.trials.repeats > self.trials.per_listener:
            raise ValueError("trials.repeats is larger than trials.per_listener")
        if unknown := set(self.stopping.per_group) - set(self.groups):
            raise ValueError(f"stopping.per_group names {', '.join(sorted(unknown))}, which is no group")
        return self

    @property
    def names(self) -> list[str]:
        """Names of the conditions, in the file's order."""
        return [condition.name for condition in self.conditions]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every two conditions, the earlier one first."""
        return [(a, b) for i, a in enumerate(self.names) for b in self.names[i + 1 :]]


def load(folder: Path) -> Protocol:
    """The protocol in FOLDER/protocol.yaml; UsageError in one line for an unknown key or a wrong value."""
    path = folder / FILE
    return build(strict_yaml.read_yaml(path, "talim listen FOLDER-OF-RUNS drafts one"), str(path))


def build(values: Any, where: str = FILE) -> Protocol:
    """A Protocol from a nested mapping; UsageError says which key is wrong, and what is known."""
    return strict_yaml.build(Protocol, values, where)


def hashed_content(protocol: Protocol) -> dict[str, Any]:
    """What the hash is made of: everything but where the sounds lie on one machine."""
    values = protocol.model_dump(mode="json")
    for condition in values["conditions"]:
        for key in _LOCAL_PATH_KEYS:
            condition.pop(key)
    return values


def test_hash(protocol: Protocol, sounds: Mapping[str, str]) -> str:
    """Sixteen hex digits of protocol and sounds (name to content hash): equal at every site of one test."""
    whole = {"protocol": hashed_content(protocol), "sounds": dict(sounds)}
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys in which two contents differ."""
    found = []
    for key in sorted({*old, *new}):
        one, other = old.get(key), new.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += changed_keys(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append(prefix + key)
    return found
