"""The brief, a YAML file: required music, prices, reviewing and the decision rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from talim.corpus.caption_templates import caption_phrase
from talim.corpus.labels import Labels
from talim.errors import TalimError, UsageError
from talim.html.languages import languages
from talim.listening.protocol import short_hash
from talim.strict_yaml import StrictModel, build, read_yaml
from talim.traditions import tradition as traditions
from talim.traditions.instrument_names import resolve_instrument
from talim.traditions.tradition import Tradition

REASONS = ("off_brief", "sound", "melody", "rhythm", "mood", "ending", "seam", "too_familiar", "other")
_NAME = r"^[a-z0-9][a-z0-9_-]{0,39}$"


class SamplingSpec(StrictModel):
    """How candidates are drawn from a model, as the options of talim generate; what is not said is as usual."""

    guidance_scale: float = Field(default=3.0, ge=1, le=50)
    temperature: float | None = Field(default=None, ge=0, le=10)
    top_k: int | None = Field(default=None, ge=0)
    sampling_steps: int | None = Field(default=None, ge=1)
    sampler: str | None = None


class PhraseSpec(StrictModel):
    """A recording of the user's own that all candidates go on from, as the options of talim generate use it."""

    file: str = Field(min_length=1, max_length=500, description="relative to the brief's file")
    rights: str = Field(
        min_length=1, max_length=300, description='a licence such as "CC BY 4.0", or "my own recording"'
    )
    seconds: float | None = Field(default=None, ge=0.01, le=3600, description="only the last seconds of the recording")
    keep: bool = Field(default=True, description="whether a piece begins with the phrase (MusicGen)")
    strength: float | None = Field(default=None, ge=0, le=1, description="how far it is varied (Mustango)")

    @field_validator("file", "rights")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("it is blank")
        return text.strip()


class CostRates(StrictModel):
    """Hourly prices; hours without a price are not counted, and the report says so."""

    currency: str = Field(default="EUR", min_length=1, max_length=8)
    machine_hour: float | None = Field(default=None, ge=0, description="of the machine that trains and generates")
    person_hour: float | None = Field(default=None, ge=0, description="of a reviewer")


class StatusQuo(StrictModel):
    """Present cost of a piece, in the currency of the prices."""

    cost_per_piece: float = Field(ge=0)
    note: str = Field(default="", max_length=300, description="source of the figure")


class Indicator(StrictModel):
    """A measure of the user's own, whose values are entered in indicators.csv."""

    name: str = Field(pattern=_NAME)
    unit: str = Field(default="", max_length=40)
    better: Literal["higher", "lower"]


class DecisionRule(StrictModel):
    """Conditions for a go, frozen by the first review; None leaves a condition out."""

    acceptance_at_least: float | None = Field(default=None, gt=0, le=1, description="fraction of candidates")
    cost_per_minute_at_most: float | None = Field(default=None, gt=0, description="training included")
    cheaper_than_status_quo: bool = Field(
        default=False, description="cost per accepted piece below status_quo.cost_per_piece"
    )
    indicators_better: tuple[str, ...] = Field(default=(), description="names of indicators")
    judged_on: Literal["interval", "value"] = Field(
        default="interval", description="whether the whole 95 % interval or the value alone must meet a condition"
    )


class Brief(StrictModel):
    """One musical task; all contenders get the same brief."""

    name: str = Field(pattern=_NAME)
    title: dict[str, str] = Field(default_factory=dict, description="one text, or a text for each language")
    seconds: float = Field(ge=1, le=600, description="of the piece; with a phrase, of the new music")
    length_tolerance_seconds: float = Field(default=0.1, ge=0, le=60)
    loop: bool = Field(default=False, description="whether the end must connect to the beginning")
    loudness_lufs: float = Field(default=-16.0, ge=-40, le=-8)
    prompt: str | None = Field(
        default=None, max_length=500, description="'' for no words; built from the labels below if not given"
    )
    tradition: str | None = Field(default=None, description="a built-in tradition or a tradition's folder")
    mode: str | None = None
    cycle: str | None = None
    tempo_bpm: float | None = Field(default=None, ge=20, le=400)
    instruments: tuple[str, ...] = ()
    mood: str | None = Field(default=None, max_length=80)
    phrase: PhraseSpec | None = None
    candidates: int = Field(default=12, ge=1, le=500, description="per contender; fixed beforehand")
    seed: int = Field(default=0, ge=0, lt=2**30)
    sampling: SamplingSpec = Field(default_factory=SamplingSpec)
    reasons: tuple[str, ...] = Field(default=REASONS, min_length=1, max_length=20)
    reason_words: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="texts by reason and language, for additional reasons"
    )
    minimum_seconds: float = Field(default=5.0, ge=0, le=60, description="played before a review")
    accepted_by: Literal["majority", "all", "any"] = "majority"
    languages: tuple[str, ...] = Field(default_factory=lambda: languages("review"), min_length=1)
    prices: CostRates = Field(default_factory=CostRates)
    status_quo: StatusQuo | None = None
    indicators: tuple[Indicator, ...] = ()
    decision_rule: DecisionRule = Field(default_factory=DecisionRule)
    _folder: Path = PrivateAttr(default=Path())  # of the brief's file

    @field_validator("title", mode="before")
    @classmethod
    def _one_title_for_all_languages(cls, value: Any) -> Any:
        return dict.fromkeys(languages("review"), value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_consistency(self) -> Brief:
        if self.prompt is None and not any((self.mode, self.instruments, self.mood, self.tradition, self.phrase)):
            raise ValueError("the music is not described: give prompt, or tradition, mode, instruments, mood or phrase")
        if self.tradition is None and (self.mode or self.cycle):
            raise ValueError("mode and cycle need a tradition, such as tradition: hindustani")
        names = [indicator.name for indicator in self.indicators]
        if len(set(names)) != len(names):
            raise ValueError(f"indicators have duplicate names: {', '.join(names)}")
        if unknown := sorted(set(self.decision_rule.indicators_better) - set(names)):
            raise ValueError(f"decision_rule.indicators_better names {', '.join(unknown)}, which is not an indicator")
        rule = self.decision_rule
        if rule.cheaper_than_status_quo and self.status_quo is None:
            raise ValueError("decision_rule.cheaper_than_status_quo needs status_quo.cost_per_piece")
        needs_cost = rule.cheaper_than_status_quo or rule.cost_per_minute_at_most is not None
        if needs_cost and self.prices.machine_hour is None:
            raise ValueError("a decision rule on cost needs prices.machine_hour")
        additional = [reason for reason in self.reasons if reason not in REASONS]
        if missing := [r for r in additional if not self.reason_words.get(r, {}).get("en")]:
            raise ValueError(f"additional reasons need a text: give reason_words.{missing[0]}.en")
        return self

    @model_serializer(mode="wrap")
    def _without_no_phrase(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the key where there is no phrase: briefs that were reviewed before there were phrases stay equal."""
        return {key: value for key, value in serialize(self).items() if key != "phrase" or value is not None}

    @property
    def phrase_path(self) -> Path | None:
        """The file of the phrase, seen from the brief's own folder; None without a phrase."""
        return self._folder / Path(self.phrase.file).expanduser() if self.phrase else None

    @property
    def prompt_text(self) -> str:
        """The prompt for the model: `prompt`, which may be empty, or a caption built from the labels."""
        if self.prompt is not None:
            return self.prompt.strip()
        tradition = self.load_tradition()
        labels = Labels(
            tradition=tradition.slug if tradition else "",
            mode=(tradition.mode(self.mode).name,) if tradition and self.mode else (),
            cycle=(tradition.cycle(self.cycle).name,) if tradition and self.cycle else (),
            instruments=tuple(map(resolve_instrument, self.instruments)),
            tempo_bpm=(f"{self.tempo_bpm:g}",) if self.tempo_bpm else (),
        )
        text = caption_phrase(labels, np.random.default_rng(0))
        return ", ".join(part for part in (text, self.mood) if part)

    def load_tradition(self) -> Tradition | None:
        """The brief's tradition or None; TalimError for an unknown one."""
        return traditions.load(self.tradition) if self.tradition else None


def load(path: Path) -> Brief:
    """Read a brief; UsageError for an unknown key, a wrong value or an unknown name, TalimError if it is missing."""
    values = read_yaml(path, "docs/guides/briefs.md has an example")
    _check_words(values, path)
    brief = build(Brief, values, str(path))
    brief._folder = path.parent
    try:
        tradition = brief.load_tradition()
        if tradition and brief.mode:
            tradition.mode(brief.mode)
        if tradition and brief.cycle:
            tradition.cycle(brief.cycle)
        for name in brief.instruments:
            resolve_instrument(name)
    except TalimError as error:
        raise UsageError(f"{path}: {error}") from None
    return brief


def _check_words(values: Any, path: Path) -> None:
    """UsageError for a key that is a tradition's own word, such as raga or usul, with the key that is meant."""
    for key in values if isinstance(values, dict) else ():
        for tradition in traditions.load_all_builtin() if key not in Brief.model_fields else ():
            for meant, words in (("mode", tradition.mode_words), ("cycle", tradition.cycle_words)):
                if str(key).casefold() in words:
                    raise UsageError(f"{path}: unknown key {key}: did you mean {meant}?")


def brief_hash(brief: Brief, content_hashes: Mapping[str, str]) -> str:
    """Sixteen hex digits of the brief and its candidates {id: content hash}."""
    return short_hash({"brief": brief.model_dump(mode="json"), "candidates": dict(content_hashes)})
