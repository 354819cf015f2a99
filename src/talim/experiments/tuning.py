"""Tuning of a family of designs: the search in a growing grid, and its record in DIR/tuning.json."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from talim.atomic_io import read_json
from talim.errors import TalimError
from talim.experiments.preliminary_rules import MAX_RATE, RATE
from talim.html.formatting import format_counted
from talim.strict_yaml import describe

RECORD = "tuning.json"  # the choices
TUNING_LOG = "tuning.jsonl"  # a line for each tuning trial

Point = tuple[float, ...]  # a value of each setting


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
        reason = describe(error, TunedFamily) if isinstance(error, ValidationError) else repr(error)[:200]
        raise TalimError(f"{file}: is damaged ({reason}); delete it and run the study again") from None


def family_of(families: Sequence[TunedFamily], base: str, corpus: str, design: str) -> TunedFamily | None:
    """The tuned family that a trial belongs to; None if its settings were not tuned."""
    fitting = (f for f in families if f.base == base and corpus in f.corpora and design in f.designs)
    return next(fitting, None)


@dataclass(frozen=True)
class GridSearch:
    """What a search has found: points still to be tried, or the best one and whether it lies inside the grid."""

    missing: tuple[Point, ...] = ()
    points: tuple[Point, ...] = ()
    best: Point | None = None
    inside: bool = False
    note: str = ""


def search_grid(
    grids: Mapping[str, Sequence[float]], losses: Mapping[Point, float | None], max_growth: int
) -> GridSearch:
    """Search the product of `grids` (settings with ascending values) for the least loss, as far as `losses` tells.

    Where the best value of a setting with several values is its least or its greatest, the grid grows there by the
    ratio of its two last values, up to `max_growth` times for each setting. A loss of None (training was not finite)
    counts as infinite; without any finite one the learning rates grow downwards.
    """
    axes = {name: list(values) for name, values in grids.items()}
    while True:
        points = tuple(itertools.product(*axes.values()))
        if missing := tuple(point for point in points if point not in losses):
            return GridSearch(missing, points)
        best = min(points, key=lambda point: _finite(losses[point]))
        known = math.isfinite(_finite(losses[best]))
        notes, grown = [], False
        for (name, values), value in zip(axes.items(), best, strict=True):
            if not known and name != RATE:
                continue
            if len(grids[name]) == 1 or (known and value not in (values[0], values[-1])):
                continue
            end = -1 if known and value == values[-1] else 0
            new = _next_value(name, values, end)
            if len(values) - len(grids[name]) < max_growth and new is not None:
                values.insert(len(values) if end else 0, new)
                grown = True
            else:
                added = format_counted(max_growth, "added value")
                bound = added if new is not None else f"{MAX_RATE:g}, the largest rate"
                notes.append(f"{name}: {value:g} is the {'greatest' if end else 'least'} tried; bound: {bound}")
        if not grown:
            note = "; ".join(notes) if known else "training was not finite with any of the values"
            return GridSearch((), points, best if known else None, known and not notes, note)


def _finite(loss: float | None) -> float:
    return loss if loss is not None and math.isfinite(loss) else math.inf


def _next_value(name: str, values: Sequence[float], end: int) -> float | None:
    """The value beyond an end of a grid, to three digits; None for a rate beyond the largest."""
    last, inner = (values[-1], values[-2]) if end else (values[0], values[1])
    value = float(f"{last * last / inner:.3g}")
    return None if name == RATE and value > MAX_RATE else value
