"""What a brief is: a YAML file that says which music is wanted, what it may cost, and when it is worth going on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from talim import strict_yaml
from talim.corpus.caption_templates import caption_phrase
from talim.corpus.labels import Labels
from talim.errors import TalimError, UsageError
from talim.strict_yaml import StrictModel
from talim.traditions import tradition as traditions
from talim.traditions.tradition import Tradition

REASONS = ("off_brief", "sound", "melody", "rhythm", "mood", "ending", "seam", "too_familiar", "other")
_NAME = r"^[a-z0-9][a-z0-9_-]{0,39}$"


class SamplingSpec(StrictModel):
    """How candidates are drawn from a model, as the options of talim generate; what is not said is as usual."""

    guidance: float = Field(default=3.0, ge=1, le=50)
    temperature: float | None = Field(default=None, ge=0, le=10)
    top_k: int | None = Field(default=None, ge=0)
    steps: int | None = Field(default=None, ge=1)
    sampler: str | None = None


class CostRates(StrictModel):
    """What an hour costs. What has no price is not counted, and the result says so."""

    currency: str = Field(default="EUR", min_length=1, max_length=8)
    machine_hour: float | None = Field(default=None, ge=0, description="of the machine that trains and makes")
    person_hour: float | None = Field(default=None, ge=0, description="of whoever reviews")


class StatusQuo(StrictModel):
    """What a piece costs as it is done now, in the currency of the prices."""

    cost_per_piece: float = Field(ge=0)
    note: str = Field(default="", max_length=300, description="where the figure comes from")


class Indicator(StrictModel):
    """A business's own measure, filled in by its own people as a CSV."""

    name: str = Field(pattern=_NAME)
    unit: str = Field(default="", max_length=40)
    better: Literal["higher", "lower"]


class DecisionRule(StrictModel):
    """When to go on, written before the first review. A condition that is not set does not count."""

    acceptance_at_least: float | None = Field(default=None, gt=0, le=1, description="share of candidates")
    cost_per_minute_at_most: float | None = Field(default=None, gt=0, description="training included")
    cheaper_than_today: bool = Field(default=False, description="cost per accepted piece against today's")
    indicators_better: tuple[str, ...] = Field(default=(), description="names of indicators")
    judged_on: Literal["interval", "value"] = Field(
        default="interval", description="whether the whole 95 % interval must agree, or the value alone"
    )


class Brief(StrictModel):
    """One task. The same brief for every design, so that they can be compared."""

    name: str = Field(pattern=_NAME)
    title: dict[str, str] = Field(default_factory=dict, description="what it is for, by language")
    seconds: float = Field(ge=1, le=600)
    length_tolerance_seconds: float = Field(default=0.1, ge=0, le=60)
    loop: bool = Field(default=False, description="whether the end must lead back into the beginning")
    loudness_lufs: float = Field(default=-16.0, ge=-40, le=-8)
    prompt: str | None = Field(
        default=None, min_length=1, max_length=500, description="else from the words below"
    )
    tradition: str | None = Field(default=None, description="a shipped tradition, or the folder of one")
    mode: str | None = None
    cycle: str | None = None
    tempo_bpm: float | None = Field(default=None, ge=20, le=400)
    instruments: tuple[str, ...] = ()
    mood: str | None = Field(default=None, max_length=80)
    candidates: int = Field(default=12, ge=1, le=500, description="of each design; fixed beforehand")
    seed: int = Field(default=0, ge=0, lt=2**30)
    drawing: SamplingSpec = Field(default_factory=SamplingSpec)
    reasons: tuple[str, ...] = Field(default=REASONS, min_length=1, max_length=20)
    reason_words: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="words by reason and language, for reasons of your own"
    )
    minimum_seconds: float = Field(default=5.0, ge=0, le=60, description="heard before a review")
    accepted_by: Literal["majority", "all", "any"] = "majority"
    languages: tuple[str, ...] = Field(default=("en", "ja"), min_length=1)
    prices: CostRates = Field(default_factory=CostRates)
    today: StatusQuo | None = None
    indicators: tuple[Indicator, ...] = ()
    rule: DecisionRule = Field(default_factory=DecisionRule)

    @model_validator(mode="after")
    def _parts_fit(self) -> Brief:
        if not any((self.prompt, self.mode, self.instruments, self.mood, self.tradition)):
            raise ValueError(
                "nothing says what music is wanted: give prompt, or tradition, mode, instruments, mood"
            )
        if self.tradition is None and (self.mode or self.cycle):
            raise ValueError("mode and cycle need a tradition, such as tradition: hindustani")
        names = [indicator.name for indicator in self.indicators]
        if len(set(names)) != len(names):
            raise ValueError(f"indicators have names twice: {', '.join(names)}")
        if unknown := sorted(set(self.rule.indicators_better) - set(names)):
            raise ValueError(f"rule.indicators_better names {', '.join(unknown)}, which is no indicator")
        if self.rule.cheaper_than_today and self.today is None:
            raise ValueError("rule.cheaper_than_today needs today.cost_per_piece")
        wants_cost = self.rule.cheaper_than_today or self.rule.cost_per_minute_at_most is not None
        if wants_cost and self.prices.machine_hour is None:
            raise ValueError("a rule on cost needs prices.machine_hour")
        foreign = [reason for reason in self.reasons if reason not in REASONS]
        if missing := [r for r in foreign if not self.reason_words.get(r, {}).get("en")]:
            raise ValueError(f"reasons of your own need words: give reason_words.{missing[0]}.en")
        return self

    @property
    def words(self) -> str:
        """What the model is asked for: the prompt, or a phrasing of the labels as the captions have them."""
        if self.prompt:
            return self.prompt
        known = self.load_tradition()
        labels = Labels(
            tradition=known.slug if known else "",
            mode=(self.mode,) if self.mode else (),
            cycle=(self.cycle,) if self.cycle else (),
            instruments=self.instruments,
            tempo_bpm=(f"{self.tempo_bpm:g}",) if self.tempo_bpm else (),
        )
        text = caption_phrase(labels, np.random.default_rng(0))
        return ", ".join(part for part in (text, self.mood) if part)

    def load_tradition(self) -> Tradition | None:
        """The tradition that is named; TalimError where it is none."""
        return traditions.load(self.tradition) if self.tradition else None


def load(path: Path) -> Brief:
    """The brief in a YAML file; UsageError in one line for an unknown key, a wrong value, an unknown mode."""
    hint = "see docs/usefulness.md for one to begin with"
    brief = strict_yaml.build(Brief, strict_yaml.read_yaml(path, hint), str(path))
    try:
        known = brief.load_tradition()
        if known and brief.mode:
            known.mode(brief.mode)
        if known and brief.cycle:
            known.cycle(brief.cycle)
    except TalimError as error:
        raise UsageError(f"{path}: {error}") from None
    return brief


def brief_hash(brief: Brief, sounds: Mapping[str, str]) -> str:
    """Sixteen hex digits of brief and candidates (id to content hash)."""
    whole = {"brief": brief.model_dump(mode="json"), "sounds": dict(sounds)}
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
