"""Hypotheses of a claims.yaml, written before the runs: what is compared, by which measure, what counts as support."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from talim.experiments.results import ANY_LEVEL
from talim.strict_yaml import StrictModel, build, read_yaml

FACTORS = ("base", "genre", "texture", "kind", "site", "size_fraction", "width")
Factors = Mapping[str, str | float]


class Contrast(StrictModel):
    """`measure` of the `treatment` trials minus that of the `control` trials, all other factors equal.

    Designs of one width have other shares of the base by kind, so trials that are sized by width take part only where
    the `width` is named; there their `size_fraction` need not be equal.

    `relative_to` is a second measure of the same trial and recording that is subtracted first. `where` restricts both
    groups. `interaction` compares the difference itself: its value in the first group minus that in the second.
    """

    measure: str
    relative_to: str | None = None
    treatment: Factors
    control: Factors
    where: Factors = Field(default_factory=dict)
    interaction: tuple[Factors, Factors] | None = None

    @model_validator(mode="after")
    def _check_factors(self) -> Contrast:
        groups = [self.treatment, self.control, self.where, *(self.interaction or ())]
        unknown = sorted({name for group in groups for name in group} - set(FACTORS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is no factor; the factors are {', '.join(FACTORS)}")
        if not self.treatment or set(self.treatment) != set(self.control):
            raise ValueError("treatment and control must name the same factors, at least one")
        if ANY_LEVEL in {*self.control.values(), *self.where.values()}:
            raise ValueError(f"{ANY_LEVEL!r} (any value) is allowed in treatment only: pairs would not be unique")
        if dict(self.treatment) == dict(self.control):
            raise ValueError("treatment and control are the same")
        return self


class Comparison(Contrast):
    """A contrast with an expectation.

    `hypothesis` "greater": treatment exceeds control by at least `smallest_effect`; "not_greater": it does not;
    "different": it is larger or smaller by at least that.
    """

    hypothesis: Literal["greater", "not_greater", "different"] = "greater"
    smallest_effect: float = Field(gt=0)


class Hypothesis(StrictModel):
    """One row of the verdict table: a statement and the comparisons that decide it."""

    id: str
    statement: str
    comparisons: tuple[Comparison, ...] = Field(min_length=1)


class Hypotheses(StrictModel):
    """All rows; `confidence` is the level of each interval before it is widened for the number of hypotheses.

    `additional_studies` are study folders, relative to the file, used for comparisons for which the reported study has
    no data; `caveats` are sentences printed under the table.
    """

    claims: tuple[Hypothesis, ...] = Field(min_length=1)
    additional_studies: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    confidence: float = Field(default=0.95, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _check_ids(self) -> Hypotheses:
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) < len(ids):
            raise ValueError("two claims have the same id")
        return self


def load(path: Path) -> Hypotheses:
    """Read a claims.yaml; TalimError if it is missing, UsageError that names the wrong key."""
    return build(Hypotheses, read_yaml(path, "give a YAML file of hypotheses"), str(path))
