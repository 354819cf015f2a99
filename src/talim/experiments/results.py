"""Reads a study's results.jsonl: finished trials in comparable tables, failed ones, and those with other settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from talim.atomic_io import read_jsonl
from talim.errors import TalimError
from talim.evaluation.protocol import require_same_protocol
from talim.strict_yaml import describe

RESULTS = "results.jsonl"
STUDY_COPY = "study.yaml"  # of the study's file, which its first line names: relative paths in it start from there
COPY_OF = "# Copy of "
COST_MEASURES = ("log_seconds", "log_memory")  # measured directly: nothing has to be learnt for them
COSTS = ("parameters", "flops", "seconds", "memory", "bytes")  # what a design can be chosen to save
ANY_LEVEL = "*"  # of a factor: matches every value


class TrialCost(BaseModel):
    """What one trial took; None where it was not measured."""

    model_config = ConfigDict(frozen=True)
    seconds: float | None = None
    cpu_seconds: float | None = None  # on a CPU: unlike wall time not affected by other programs
    peak_memory_bytes: float | None = None
    adapter_bytes: float | None = None
    energy_joules: float | None = None
    steps: int | None = None
    flops: float | None = None  # of training
    device: str = ""
    processor: str = ""  # of a CPU: its name and instruction sets; empty where it is not known

    @property
    def machine(self) -> str:
        """What times and memory depend on: those of several machines are not compared."""
        return f"{self.device}, {self.processor}" if self.processor else self.device


class TrialResult(BaseModel):
    """One line of results.jsonl: a trial's factors, its costs, and each measure by recording (or once, as "run")."""

    model_config = ConfigDict(frozen=True)
    id: str
    status: Literal["done", "failed"]
    design: str
    seed: int
    corpus: str
    error: str = ""
    factors: Mapping[str, Any] = Field(default_factory=dict)
    parameters: int | None = None
    trained_percent: float | None = None
    measures: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    directions: Mapping[str, str] = Field(default_factory=dict)
    cost: TrialCost = TrialCost()
    run: str = ""
    settings_hash: str = ""
    precision: str = ""  # of the base in training, `fp32` or `bf16`; empty where it is not known
    protocol_hash: str = ""  # of the scores of generated audio, if there are any
    curve: tuple[tuple[int, float], ...] = ()  # validation loss by step, from step 0: the untrained adapter
    tuned: Mapping[str, float] = Field(default_factory=dict)  # settings that tuning chose, by dotted recipe key
    control: Literal["", "planted", "equal"] = ""  # of a control grid: it is in no table
    inserted: str = ""  # the difference that was put into a planted trial
    # of each score: its value for real music ("reference") and the base ("baseline"), how well it tells them apart
    # ("separation_p"), "floor" and "ceiling"
    scores: Mapping[str, Mapping[str, float | None]] = Field(default_factory=dict)

    @field_validator("measures", mode="before")
    @classmethod
    def _drop_missing_values(cls, measures: Any) -> Any:
        """Measures without None, NaN and infinite values; a measure without any value is dropped."""
        if not isinstance(measures, Mapping) or not all(isinstance(values, Mapping) for values in measures.values()):
            return measures  # pydantic reports what is wrong
        numbers = {name: {key: v for key, v in values.items() if _is_number(v)} for name, values in measures.items()}
        return {name: values for name, values in numbers.items() if values}

    @property
    def base(self) -> str:
        return str(self.factors.get("base", "unknown"))

    @cached_property
    def all_factors(self) -> dict[str, Any]:
        """The factors with corpus and settings: trials are a pair if all but the compared ones are equal."""
        return {**self.factors, "corpus": self.corpus, "settings": self.settings_hash}

    @property
    def comparable(self) -> tuple[str, str]:
        """Settings and precision: trials of one table are equal in both."""
        return self.settings_hash, self.precision

    def matches(self, levels: Mapping[str, Any]) -> bool:
        """Whether the trial's factors have these levels."""
        return all(_levels_equal(self.all_factors.get(name), level) for name, level in levels.items())

    def values(self, measure: str, relative_to: str | None = None) -> dict[str, float]:
        """A measure by recording, minus that of `relative_to` if given; empty if it is missing."""
        values = dict(self.measures.get(measure, {}))
        if relative_to is None:
            return values
        reference = self.measures.get(relative_to, {})
        return {name: value - reference[name] for name, value in values.items() if name in reference}

    def cost_of(self, cost: str) -> float | None:
        """The trial's cost in one of COSTS: trained parameters, FLOPs, seconds, bytes of peak memory or on disk."""
        value = {
            "parameters": self.parameters,
            "flops": self.cost.flops,
            "seconds": self.cost.cpu_seconds or self.cost.seconds,
            "memory": self.cost.peak_memory_bytes,
            "bytes": self.cost.adapter_bytes,
        }[cost]
        return None if value is None else float(value)


def _is_number(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _levels_equal(own: Any, level: Any) -> bool:
    """Equal; a size fraction is a percentage divided by 100, so it may differ in the last digit."""
    if own == level or level == ANY_LEVEL:
        return True
    return isinstance(own, float) and isinstance(level, float) and math.isclose(own, level, rel_tol=1e-6)


@dataclass(frozen=True)
class BaseModelResults:
    """Trials whose numbers may be compared: one base in one precision, one corpus, the same settings."""

    base: str
    corpus: str
    settings: str
    trials: Sequence[TrialResult]

    @property
    def name(self) -> str:
        """`BASE, CORPUS`."""
        return f"{self.base}, {self.corpus}"

    @property
    def genre(self) -> str:
        """The corpus's genre, or its name if it has none."""
        return str(self.trials[0].factors.get("genre") or self.corpus)

    def of_design(self, design: str) -> list[TrialResult]:
        """The trials of one design, by seed."""
        return sorted((trial for trial in self.trials if trial.design == design), key=lambda trial: trial.seed)

    @property
    def designs(self) -> list[str]:
        """Every design, the smallest first."""
        sizes = {trial.design: (trial.parameters or 0, trial.design) for trial in self.trials}
        return sorted(sizes, key=lambda design: sizes[design])


@dataclass(frozen=True)
class StudyResults:
    """Everything in a study's results.jsonl; `excluded` are trials with other settings or precision than their table's.

    `controls` are finished trials of control grids; they are in no table.
    """

    folder: Path
    tables: Sequence[BaseModelResults] = ()
    failed: Sequence[TrialResult] = ()
    excluded: Sequence[TrialResult] = field(default_factory=tuple)
    controls: Sequence[TrialResult] = ()

    @property
    def trials(self) -> list[TrialResult]:
        return [trial for table in self.tables for trial in table.trials]

    @property
    def bases(self) -> list[str]:
        """Names of the bases, the one with most trials first."""
        counts = Counter(trial.base for trial in self.trials)
        return sorted(counts, key=lambda base: (-counts[base], base))

    def of_base(self, base: str) -> list[BaseModelResults]:
        return [table for table in self.tables if table.base == base]


def is_study(folder: Path) -> bool:
    """Whether `talim study` has written its results here."""
    return (folder / RESULTS).is_file()


def read_study(folder: Path) -> StudyResults:
    """Read DIR/results.jsonl; if an id occurs twice the last line counts. TalimError names a damaged line.

    Trials of one base and corpus whose settings or precision differ are not put in one table: those with most trials
    (of equals the later ones) form the table, the other trials are excluded; so is a trial that was run again as its
    design was tuned anew. TalimError if the scores of generated audio of two trials on one corpus follow different
    protocols.
    """
    by_id: dict[str, TrialResult] = {}
    for number, line in enumerate(read_jsonl(folder / RESULTS), start=1):
        try:
            trial = TrialResult.model_validate(line)
        except ValidationError as error:
            raise TalimError(f"{folder / RESULTS}: trial {number}: {describe(error, TrialResult)}") from None
        by_id.pop(trial.id, None)  # so that the order is that of the lines that count
        by_id[trial.id] = trial
    done = {_place(trial): trial for trial in by_id.values() if trial.status == "done"}
    excluded = [trial for trial in by_id.values() if trial.status == "done" and done[_place(trial)] is not trial]
    groups: dict[tuple[str, str], list[TrialResult]] = {}
    for trial in done.values():
        if not trial.control:
            groups.setdefault((trial.base, trial.corpus), []).append(trial)
    tables = []
    for (base, corpus), trials in sorted(groups.items()):
        main = _most_common(trials)
        same = [trial for trial in trials if trial.comparable == main]
        tables.append(BaseModelResults(base, corpus, main[0], same))
        excluded += [trial for trial in trials if trial.comparable != main]
    known = {(trial.base, trial.corpus, *trial.comparable) for table in tables for trial in table.trials}
    controls = [trial for trial in done.values() if trial.control]
    excluded += [t for t in controls if (t.base, t.corpus, *t.comparable) not in known]
    controls = [t for t in controls if (t.base, t.corpus, *t.comparable) in known]
    for corpus in {table.corpus for table in tables}:
        protocols = {
            f"trial {trial.id} ({trial.design} in {trial.base} on {corpus})": {"hash": trial.protocol_hash}
            for table in tables
            for trial in table.trials
            if table.corpus == corpus and any(name.startswith("score.") for name in trial.measures)
        }
        require_same_protocol(protocols, "run the study with one version of talim into another folder")
    failed = [trial for trial in by_id.values() if trial.status == "failed"]
    return StudyResults(folder, tables, failed, excluded, controls)


def _place(trial: TrialResult) -> tuple[object, ...]:
    """What a study has one trial of, whatever its tuned settings."""
    what = trial.design, trial.seed, trial.control, trial.inserted
    return trial.base, trial.corpus, trial.settings_hash, *what


def _most_common(trials: Sequence[TrialResult]) -> tuple[str, str]:
    counts = Counter(trial.comparable for trial in trials)
    latest = {trial.comparable: index for index, trial in enumerate(trials)}
    return max(counts, key=lambda each: (counts[each], latest[each]))
