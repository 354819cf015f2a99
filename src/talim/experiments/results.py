"""A study's results as they are on disk: which trials are done, which failed, and which may stand in one table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from talim.atomic_io import read_jsonl
from talim.errors import TalimError
from talim.experiments.hypothesis_tests import TrialMeasures

RESULTS = "results.jsonl"
COSTS = ("parameters", "operations", "seconds", "memory", "bytes")  # what a design is priced in


class TrialCost(BaseModel):
    """What one trial took; null where it was not measured."""

    model_config = ConfigDict(frozen=True)
    seconds: float | None = None
    cpu_seconds: float | None = None  # on a CPU: no other program's work makes them more
    peak_memory_bytes: float | None = None
    adapter_bytes: float | None = None
    energy_joules: float | None = None
    steps: int | None = None
    flops: float | None = None  # of training: no hardware and no other program makes them more


class TrialResult(BaseModel):
    """One line of results.jsonl."""

    model_config = ConfigDict(frozen=True)
    id: str
    status: Literal["done", "failed"]
    design: str
    seed: int
    corpus: str
    error: str = ""
    factors: Mapping[str, Any] = Field(default_factory=dict)
    parameters: int | None = None
    percent: float | None = None
    measures: Mapping[str, Mapping[str, float | None]] = Field(default_factory=dict)
    directions: Mapping[str, str] = Field(default_factory=dict)
    cost: TrialCost = TrialCost()
    run: str = ""
    settings_hash: str = ""

    @property
    def base(self) -> str:
        """The base model's name."""
        return str(self.factors.get("base", "unknown"))

    @cached_property
    def trial(self) -> TrialMeasures:
        """What the statistics take: the factors with corpus and settings among them, and measures without holes."""
        measures = {
            name: {
                where: value for where, value in values.items() if value is not None and math.isfinite(value)
            }
            for name, values in self.measures.items()
        }
        measures = {name: values for name, values in measures.items() if values}
        place = {"corpus": self.corpus, "settings": self.settings_hash}
        return TrialMeasures({**self.factors, **place}, self.seed, measures)

    def price(self, of: str) -> float | None:
        """The trial's cost in one of COSTS: trained parameters, operations, seconds, peak memory, bytes on disk."""
        found = {
            "parameters": self.parameters,
            "operations": self.cost.flops,
            "seconds": self.cost.cpu_seconds or self.cost.seconds,
            "memory": self.cost.peak_memory_bytes,
            "bytes": self.cost.adapter_bytes,
        }[of]
        return None if found is None else float(found)


@dataclass(frozen=True)
class BaseModelResults:
    """Trials that may be compared number by number: one base, one corpus, the same settings."""

    base: str
    corpus: str
    settings: str
    rows: Sequence[TrialResult]

    @property
    def name(self) -> str:
        """What it is called where there are several."""
        return f"{self.base}, {self.corpus}"

    @property
    def genre(self) -> str:
        """The corpus's genre, or its name where none is told."""
        return str(self.rows[0].factors.get("genre") or self.corpus)

    def of(self, design: str) -> list[TrialResult]:
        """The trials of one design, by seed."""
        return sorted((row for row in self.rows if row.design == design), key=lambda row: row.seed)

    @property
    def designs(self) -> list[str]:
        """Every design, the smallest first."""
        sizes = {row.design: (row.parameters or 0, row.design) for row in self.rows}
        return sorted(sizes, key=lambda design: sizes[design])


@dataclass(frozen=True)
class StudyResults:
    """Everything that a study's results.jsonl holds; `aside` are trials of other settings than their table's."""

    folder: Path
    tables: Sequence[BaseModelResults] = ()
    failed: Sequence[TrialResult] = ()
    set_aside: Sequence[TrialResult] = field(default_factory=tuple)

    @property
    def rows(self) -> list[TrialResult]:
        """The trials of all tables."""
        return [row for table in self.tables for row in table.rows]

    @property
    def trials(self) -> list[TrialMeasures]:
        """The same, as the statistics take them."""
        return [row.trial for row in self.rows]

    @property
    def bases(self) -> list[str]:
        """Names of the bases, the one with most trials first."""
        counted = Counter(row.base for row in self.rows)
        return sorted(counted, key=lambda base: (-counted[base], base))

    def of_base(self, base: str) -> list[BaseModelResults]:
        """The tables of one base."""
        return [table for table in self.tables if table.base == base]


def is_study(folder: Path) -> bool:
    """Whether `talim study` has written its results here."""
    return (folder / RESULTS).is_file()


def read_study(folder: Path) -> StudyResults:
    """Read DIR/results.jsonl; where an id comes twice the last line counts. TalimError says what line is wrong.

    Trials of one base and corpus whose settings differ share no table: the settings with most trials make it (of
    equals the later ones), the others are set aside.
    """
    found: dict[str, TrialResult] = {}
    for number, line in enumerate(read_jsonl(folder / RESULTS), start=1):
        try:
            row = TrialResult.model_validate(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise TalimError(f"{folder / RESULTS}: trial {number}: {where}: {first['msg']}") from None
        found.pop(row.id, None)  # so that the order is that of the lines that count
        found[row.id] = row
    done = [row for row in found.values() if row.status == "done"]
    places: dict[tuple[str, str], list[TrialResult]] = {}
    for row in done:
        places.setdefault((row.base, row.corpus), []).append(row)
    tables, aside = [], []
    for (base, corpus), rows in sorted(places.items()):
        settings = _main_settings(rows)
        tables.append(
            BaseModelResults(base, corpus, settings, [row for row in rows if row.settings_hash == settings])
        )
        aside += [row for row in rows if row.settings_hash != settings]
    return StudyResults(folder, tables, [row for row in found.values() if row.status == "failed"], aside)


def _main_settings(rows: Sequence[TrialResult]) -> str:
    counts = Counter(row.settings_hash for row in rows)
    latest = {row.settings_hash: place for place, row in enumerate(rows)}
    return max(counts, key=lambda settings: (counts[settings], latest[settings]))
