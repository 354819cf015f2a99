"""The protocol of a listening test, a YAML file: conditions, aspects, trials, groups and exclusions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from talim.html.languages import languages, words
from talim.strict_yaml import StrictModel, build, read_yaml

FILE = "protocol.yaml"
ASPECTS = ("overall", "instruments", "melody", "rhythm", "structure", "creativity")
ANCHOR = "anchor"  # the reference, low-passed at 3.5 kHz (ITU-R BS.1534)
SECONDS_PER_ANSWER = 5.0
_NAME = r"^[a-z0-9][a-z0-9_-]{0,39}$"


class Condition(StrictModel):
    """One of the compared systems: a run's adapter, the untrained base, or real music."""

    name: str = Field(pattern=_NAME, description="shown in results, never to listeners")
    source: str = Field(min_length=1, description="a run or a folder of audio files, relative to the protocol's folder")
    take: Literal["adapter", "base", "real", "files"] = Field(
        default="adapter", description="which of a run's samples; files: all audio files of the folder"
    )


class Aspect(StrictModel):
    """One question of a trial. The built-in names have translated texts; other names need label and question."""

    name: str = Field(pattern=_NAME)
    label: dict[str, str] = Field(default_factory=dict, description="by language, such as en: Melody")
    question: dict[str, str] = Field(default_factory=dict, description="one sentence by language")

    @model_validator(mode="after")
    def _require_texts(self) -> Aspect:
        if self.name not in ASPECTS and not (self.label.get("en") and self.question.get("en")):
            raise ValueError(f"{self.name} is not built in ({', '.join(ASPECTS)}): give label.en and question.en")
        return self


class TrialCounts(StrictModel):
    """Number of trials per listener; a draft has as many as there are different comparisons."""

    per_listener: int = Field(default=20, ge=1, le=500, description="rated comparisons")
    repeats: int = Field(default=3, ge=0, le=50, description="of these repeated with sides swapped, unannounced")
    attention: int = Field(default=2, ge=0, le=20, description="attention checks")
    minimum_seconds: float = Field(default=4.0, ge=0, le=60, description="of each stimulus played before an answer")
    show_prompt: bool = Field(default=False, description="whether the prompt is shown")

    @property
    def total(self) -> int:
        """Pages of the test, hidden repeats and attention checks included."""
        return self.per_listener + self.repeats + self.attention


class Exclusions(StrictModel):
    """Exclusion criteria, fixed before the first vote; a listener is excluded with all votes. None disables one."""

    attention_below: float | None = Field(default=0.5, ge=0, le=1, description="fraction of attention checks passed")
    same_answer_above: float | None = Field(default=0.95, gt=0, le=1, description="fraction of the commonest answer")
    one_side_p_below: float | None = Field(
        default=0.01, gt=0, lt=1, description="chance of as many answers for one side; pairwise, first aspect"
    )
    repeats_reversed_above: float | None = Field(
        default=None, ge=0, le=1, description="fraction of hidden repeats with reversed answers"
    )
    reference_below_90_above: float | None = Field(
        default=0.15, ge=0, le=1, description="mushra: fraction of trials with the hidden reference under 90"
    )
    trials_below: int = Field(default=5, ge=0, description="trials answered")


class StoppingRule(StrictModel):
    """When recruitment closes: numbers fixed beforehand, independent of the results."""

    listeners: int | None = Field(default=40, ge=1, le=100_000, description="started, over all groups")
    per_group: dict[str, int] = Field(default_factory=dict, description="started, by group")


class Protocol(StrictModel):
    """A listening test. The same file at several sites is the same test, and votes can be merged."""

    name: str = Field(pattern=_NAME)
    title: dict[str, str] = Field(
        default_factory=lambda: {code: words(code, "listen")["test"] for code in languages("listen")}
    )
    contact: str = Field(default="", max_length=200, description="contact shown to listeners")
    publish: bool = Field(default=False, description="whether the answers may be published; listeners are told which")
    kind: Literal["pairwise", "mushra"] = "pairwise"
    conditions: tuple[Condition, ...] = Field(min_length=2, max_length=24)
    reference: str | None = Field(default=None, description="a condition: results are also given relative to it")
    anchor: bool = Field(default=True, description="mushra: a low-passed reference among the rows")
    aspects: tuple[Aspect, ...] = Field(
        default_factory=lambda: tuple(Aspect(name=name) for name in ASPECTS), min_length=1, max_length=12
    )
    trials: TrialCounts = Field(default_factory=TrialCounts)
    groups: tuple[str, ...] = Field(default=("expert", "musician", "general"), min_length=1)
    languages: tuple[str, ...] = Field(default_factory=lambda: languages("listen"), min_length=1)
    loudness_lufs: float = Field(default=-23.0, ge=-40, le=-10, description="of every stimulus, BS.1770")
    seconds: float = Field(default=15.0, gt=0.5, le=120, description="maximum length of each stimulus")
    seed: int = Field(default=0, ge=0, lt=2**31, description="determines orders and sides")
    exclusions: Exclusions = Field(default_factory=Exclusions)
    stopping: StoppingRule = Field(default_factory=StoppingRule)

    @model_validator(mode="after")
    def _check_consistency(self) -> Protocol:
        names = [condition.name for condition in self.conditions]
        for what, listed in (("conditions", names), ("aspects", [a.name for a in self.aspects])):
            if len(set(listed)) != len(listed):
                raise ValueError(f"{what} have duplicate names: {', '.join(listed)}")
        if ANCHOR in names:
            raise ValueError("anchor is the name of the low-passed reference; rename the condition")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference is {self.reference}, which is not a condition ({', '.join(names)})")
        if self.kind == "mushra" and self.reference is None:
            raise ValueError("mushra needs a reference: the name of the condition with the real music")
        if self.trials.repeats > self.trials.per_listener:
            raise ValueError("trials.repeats is larger than trials.per_listener")
        if unknown := set(self.stopping.per_group) - set(self.groups):
            raise ValueError(f"stopping.per_group names {', '.join(sorted(unknown))}, which is no group")
        return self

    @property
    def names(self) -> list[str]:
        return [condition.name for condition in self.conditions]

    @property
    def questions(self) -> int:
        """Answers on a page: aspects, or in MUSHRA the rated rows."""
        return len(self.aspects) if self.kind == "pairwise" else len(self.conditions) + self.anchor

    @property
    def minutes(self) -> int:
        """About how long a listener takes: every stimulus heard once, and `SECONDS_PER_ANSWER` for each answer."""
        presentations = 2 if self.kind == "pairwise" else self.questions + 1
        return max(
            1, math.ceil(self.trials.total * (presentations * self.seconds + self.questions * SECONDS_PER_ANSWER) / 60)
        )

    def comparisons(self, items: int) -> int:
        """How many different trials there are of so many items."""
        return items * (len(self.pairs) if self.kind == "pairwise" else len(self.aspects))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs of conditions, the earlier one first."""
        return [(a, b) for i, a in enumerate(self.names) for b in self.names[i + 1 :]]


def load(folder: Path) -> Protocol:
    """The protocol in FOLDER/protocol.yaml; UsageError for an unknown key or a wrong value, TalimError if missing."""
    path = folder / FILE
    return build(Protocol, read_yaml(path, "talim listen FOLDER-OF-RUNS drafts one"), str(path))


def hashed_content(protocol: Protocol) -> dict[str, Any]:
    """The part of the protocol that enters the hash: everything except the paths, which differ between sites."""
    return protocol.model_dump(mode="json", exclude={"conditions": {"__all__": {"source"}}})


def test_hash(protocol: Protocol, content_hashes: Mapping[str, str]) -> str:
    """Sixteen hex digits of protocol and stimuli {name: content hash}: equal at every site of a test."""
    return short_hash({"protocol": hashed_content(protocol), "stimuli": dict(content_hashes)})


def short_hash(content: Mapping[str, Any]) -> str:
    """Sixteen hex digits of the SHA-256 of `content` as canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    changed = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += changed_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            changed.append(prefix + key)
    return changed
