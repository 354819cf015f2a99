"""Claims to be tested, as they are written down before the runs: what is compared, by which measure, and what counts.

A claim is a list of comparisons, and holds if every one of them does. Each names a measure, two groups of trials that
differ in the named factors alone, what is expected, and the smallest difference that anybody need care about.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from talim.errors import TalimError

FACTORS = ("base", "genre", "texture", "kind", "site", "share")
ANY_LEVEL = "*"  # of a factor of `this`: whatever it is there, and it need not be alike in `that`
Factors = Mapping[str, str | float]


class StrictHypothesisModel(BaseModel):
    """No unknown keys, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Contrast(StrictHypothesisModel):
    """`measure` of the trials `this` minus that of the trials `that`, all other factors alike.

    With `minus` the measure is taken relative to another one of the same trial and recording. With `between` the
    difference itself is compared: in the first group minus in the second. `within` narrows both sides.
    """

    measure: str
    minus: str | None = None
    this: Factors
    that: Factors
    within: Factors = Field(default_factory=dict)
    between: tuple[Factors, Factors] | None = None

    @model_validator(mode="after")
    def _speaks_of_factors(self) -> Contrast:
        groups = [self.this, self.that, self.within, *(self.between or ())]
        unknown = sorted({name for group in groups for name in group} - set(FACTORS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is no factor; there are {', '.join(FACTORS)}")
        if not self.this or set(self.this) != set(self.that):
            raise ValueError("this and that must name the same factors, at least one")
        if ANY_LEVEL in {*self.that.values(), *self.within.values()}:
            raise ValueError(
                f"{ANY_LEVEL!r} stands for any value in this alone, or trials had several partners"
            )
        if dict(self.this) == dict(self.that):
            raise ValueError("this and that are the same")
        return self


class Comparison(Contrast):
    """A contrast of which something is expected.

    `expect` "more": `this` is larger by at least `interest`; "no more": it is not; "differ": it is larger or smaller by
    at least that.
    """

    expect: Literal["more", "no more", "differ"] = "more"
    interest: float = Field(gt=0)


class Hypothesis(StrictHypothesisModel):
    """One row of the verdict table: who says what, and the comparisons that decide it."""

    id: str
    says: str
    comparisons: tuple[Comparison, ...] = Field(min_length=1)


class Hypotheses(StrictHypothesisModel):
    """All rows; `level` is that of each interval before it is widened for their number.

    `also` names folders, seen from the file, of further studies, asked where the one that is judged has nothing to
    compare; `limits` are sentences that stand under the table: what the trials cannot show.
    """

    claims: tuple[Hypothesis, ...] = Field(min_length=1)
    also: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    level: float = Field(default=0.95, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _no_id_twice(self) -> Hypotheses:
        names = [claim.id for claim in self.claims]
        if len(set(names)) < len(names):
            raise ValueError("two claims have one id")
        return self


def load(path: Path) -> Hypotheses:
    """Read a file of claims; TalimError saying what is wrong, and where."""
    try:
        return Hypotheses.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TalimError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise TalimError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TalimError(f"{path}: {where or 'the file'}: {first['msg']}") from None
