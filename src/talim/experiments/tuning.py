"""The record of a study's tuning: for each family of designs the settings tried, their validation loss, the choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from talim.atomic_io import read_json
from talim.errors import TalimError

RECORD = "tuning.json"  # the choices
TUNING_LOG = "tuning.jsonl"  # a line for each tuning trial
RATE = "training.learning_rate"


class TunedCandidate(BaseModel):
    """One combination of settings, by dotted recipe key, and its validation loss; None: not finite in training."""

    model_config = ConfigDict(frozen=True)
    values: Mapping[str, float]
    loss: float | None


class TunedFamily(BaseModel):
    """What the tuning tried and chose for a family of designs in one base, on a corpus or the corpora of a genre.

    `inside`: the choice is neither the least nor the greatest value tried of any setting with several values.
    """

    model_config = ConfigDict(frozen=True)
    base: str
    group: str  # the corpus, or the genre
    family: str  # kind, kind@site or kind@site:size
    corpora: tuple[str, ...]  # whose trials take the choice
    designs: tuple[str, ...]  # that take it
    representative: str  # the design that was trained
    tuned_on: tuple[str, ...]  # corpora whose validation clips decided
    seeds: tuple[int, ...]
    candidates: tuple[TunedCandidate, ...]
    chosen: Mapping[str, float]
    inside: bool
    note: str = ""  # why the choice is not inside

    @property
    def rates(self) -> list[float]:
        """The learning rates tried, ascending."""
        return sorted({each.values[RATE] for each in self.candidates if RATE in each.values})

    @property
    def losses(self) -> list[float | None]:
        """The validation loss of each of `rates`: the least over the other settings; None where none was finite."""
        best: list[float | None] = []
        for rate in self.rates:
            of_rate = [each.loss for each in self.candidates if each.values.get(RATE) == rate]
            best.append(min((loss for loss in of_rate if loss is not None), default=None))
        return best


def read_tuning(folder: Path) -> list[TunedFamily]:
    """The tuned families of a study in the order of its file; empty if it has no `tune:`, or is not tuned yet.

    TalimError for a damaged record.
    """
    file = folder / RECORD
    if not file.is_file():
        return []
    try:
        return [TunedFamily.model_validate(row) for row in read_json(file)["families"]]
    except (ValidationError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TalimError(f"{file}: is damaged ({reason}); delete it and run the study again") from None


def family_of(families: Sequence[TunedFamily], base: str, corpus: str, design: str) -> TunedFamily | None:
    """The tuned family that a trial belongs to; None if its settings were not tuned."""
    fitting = (f for f in families if f.base == base and corpus in f.corpora and design in f.designs)
    return next(fitting, None)


def best_candidate(candidates: Sequence[TunedCandidate]) -> TunedCandidate | None:
    """The candidate with the least validation loss, the first of equals; None if no loss is finite."""
    known = [each for each in candidates if each.loss is not None and math.isfinite(each.loss)]
    return min(known, key=lambda each: each.loss if each.loss is not None else math.inf, default=None)
