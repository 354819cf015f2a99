"""What a study finds out before its trials: the steps, by pilot trainings, and settings, by tuning; on validation only.

The lines of finished preliminary trials decide what is run next, so an interrupted search goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from talim.atomic_io import read_json, write_json
from talim.design.expression import Design
from talim.errors import TalimError
from talim.experiments.learning_curves import flat_from
from talim.experiments.preliminary_rules import STEPS
from talim.experiments.results_log import ResultRecord
from talim.experiments.study_file import StudyChoices, StudyConfig, TrialSpec, expand, first_guess, preliminary_trial
from talim.experiments.tuning import RECORD, Point, TunedCandidate, TunedFamily, search_grid
from talim.html.formatting import format_counted
from talim.strict_yaml import describe

PLATEAU_RECORD = "plateau.json"
PILOT_POINTS = 25  # evaluations of a pilot: a step in this grid is chosen
PILOT_CLIPS = 16
RAISED = "every trial, also with a fraction of the steps, trains as long after its warm-up as in it"
DIVERGED = "diverged"  # in the line of a trial whose training made the loss infinite or NaN
Lines = Mapping[str, ResultRecord]  # of preliminary trials, by id


class Pilot(BaseModel):
    """A pilot training: its validation curve, and the first step from which it is flat (None: it never is)."""

    model_config = ConfigDict(frozen=True)
    base: str
    corpus: str
    design: str
    seed: int
    curve: tuple[tuple[int, float], ...]
    flat_from: int | None


class Plateau(BaseModel):
    """DIR/plateau.json: the steps of all trials, `flat` if each pilot is at them.

    `raised_from` are the steps that the pilots alone would give, where these are too few for the warm-up.
    """

    model_config = ConfigDict(frozen=True)
    max_steps: int
    steps: int
    flat: bool
    raised_from: int | None = None
    pilots: tuple[Pilot, ...]


@dataclass(frozen=True)
class Decision:
    """What preliminary trials have decided so far: choices, trials that are still missing, lines of failed ones."""

    choices: StudyChoices
    missing: tuple[TrialSpec, ...] = ()
    failed: tuple[ResultRecord, ...] = ()
    plateau: Plateau | None = None

    @property
    def finished(self) -> bool:
        return not self.missing

    def write(self, folder: Path) -> None:
        """Store it as DIR/plateau.json and DIR/tuning.json."""
        if self.plateau:
            write_json(folder / PLATEAU_RECORD, self.plateau.model_dump(mode="json"))
        if self.choices.families:
            rows = [family.model_dump(mode="json") for family in self.choices.families]
            write_json(folder / RECORD, {"families": rows})


def read_plateau(folder: Path) -> Plateau | None:
    """The record of a study's pilots; None without any. TalimError if it is damaged."""
    file = folder / PLATEAU_RECORD
    try:
        return Plateau.model_validate(read_json(file)) if file.is_file() else None
    except ValidationError as error:
        raise TalimError(
            f"{file}: is damaged ({describe(error, Plateau)}); delete it and run the study again"
        ) from None


def decide(study: StudyConfig, lines: Lines) -> Decision:
    """What the finished preliminary trials say: pilots first, as tuning takes the steps that they choose."""
    pilots = _pilot_trials(study)
    if missing := tuple(spec for spec in pilots if spec.id not in lines):
        return Decision(StudyChoices(), missing)
    failed = [lines[spec.id] for spec in pilots if lines[spec.id]["status"] == "failed"]
    if failed:  # no steps, so no trial can run
        return Decision(StudyChoices(), (), tuple(failed))
    plateau = _plateau(study, pilots, lines)
    steps = plateau.steps if plateau else None
    to_run, families = [], []
    for family in _families(study, steps):
        tuned, more, broken = family.search(lines)
        to_run += more
        failed += broken
        families += [tuned] if tuned else []
    return Decision(StudyChoices(steps, tuple(families)), tuple(to_run), tuple(failed), plateau)


def foreseen(study: StudyConfig, decision: Decision) -> list[TrialSpec]:
    """Preliminary trials that are missing; while pilots are, with the tuning trials as they are at `max_steps`."""
    if study.plateau is None or not any(spec.stage == "pilot" for spec in decision.missing):
        return list(decision.missing)
    families = _families(study, study.plateau.max_steps)
    return [*decision.missing, *(spec for family in families for spec in family.search({}).missing)]


def growth_bound(study: StudyConfig) -> int:
    """The most tuning trials that are added as grids grow."""
    if study.tune is None:
        return 0
    count = 0
    for family in _families(study, None):
        sizes = [len(values) for values in study.tune.grids(family.representative).values()]
        grown = math.prod(size + (study.tune.max_growth if size > 1 else 0) for size in sizes)
        count += (grown - math.prod(sizes)) * len(study.tune.seeds) * len(family.tuned_on)
    return count


def decision_notes(decision: Decision, left_out: int) -> list[str]:
    """What was chosen, in sentences; where a choice is at a bound; and that trials are left out."""
    notes = []
    if plateau := decision.plateau:
        text = f"steps of all trials: {plateau.steps}"
        if plateau.raised_from is not None:
            text += f", not {plateau.raised_from}, from where on the pilots are flat: {RAISED}"
        if not plateau.flat:
            names = ", ".join(f"{p.design} on {p.corpus}" for p in plateau.pilots if p.flat_from is None)
            text += f"; not flat within plateau.max_steps: {names}"
        notes.append(text)
    for family in decision.choices.families:
        chosen = ", ".join(f"{key} {value:g}" for key, value in family.chosen.items())
        text = f"tuned: {family.family} in {family.base} on {family.group}: {chosen}"
        notes.append(text if family.inside else f"{text}; not inside the grid: {family.note}")
    if left_out:
        reason = "the preliminary trials that would choose their settings failed; run them again with --retry-failed"
        notes.append(f"left out: {format_counted(left_out, 'trial')}, as {reason}")
    return notes


def undecided(study: StudyConfig, decision: Decision, trials: Sequence[TrialSpec]) -> list[TrialSpec]:
    """Trials that cannot run, as preliminary trials that would give their settings are missing or have failed."""
    no_steps = study.plateau is not None and decision.choices.steps is None
    return [trial for trial in trials if no_steps or (study.tune is not None and not trial.tuned)]


def _pilot_trials(study: StudyConfig) -> list[TrialSpec]:
    rule = study.plateau
    if rule is None:
        return []
    every = -(-rule.max_steps // PILOT_POINTS)
    settings = first_guess(study) | {"training.eval_every": every, "training.eval_clips": PILOT_CLIPS}
    trials = expand(study)
    pilots: dict[str, TrialSpec] = {}
    for base in dict.fromkeys(trial.base for trial in trials):
        of_base = [trial for trial in trials if trial.base == base]
        designs = [Design.parse(text) for text in rule.designs] or [_representative(of_base)]
        for corpus in rule.corpora or dict.fromkeys(trial.corpus for trial in of_base):
            for design in designs:
                spec = preliminary_trial(study, "pilot", base, rule.seed, corpus, design, settings)
                pilots.setdefault(spec.id, spec)
    return list(pilots.values())


def _plateau(study: StudyConfig, pilots: Sequence[TrialSpec], lines: Lines) -> Plateau | None:
    """The largest of the pilots' steps; where it is within `least_steps`, the first evaluated step that is not."""
    if study.plateau is None:
        return None
    rows = []
    for spec in pilots:
        curve = tuple((int(step), float(loss)) for step, loss in lines[spec.id].get("curve", ()))
        row = {"base": spec.base, "corpus": spec.corpus, "design": str(spec.design), "seed": spec.seed}
        rows.append(Pilot(**row, curve=curve, flat_from=flat_from(curve)))
    longest = study.plateau.max_steps
    flat = all(row.flat_from is not None for row in rows)
    found = max(longest if row.flat_from is None else row.flat_from for row in rows)
    raised = found < study.least_steps
    evaluated = [step for row in rows for step, _ in row.curve if step >= max(found, study.least_steps)]
    return Plateau(
        max_steps=longest,
        steps=min(evaluated, default=longest),  # a flat curve is flat there too, and the page can show it
        flat=flat,
        raised_from=found if raised else None,
        pilots=tuple(rows),
    )


class _Searched(NamedTuple):
    """A family's choice if it has one, the trials that are to run next, and lines of those that failed."""

    family: TunedFamily | None
    missing: list[TrialSpec]
    failed: list[ResultRecord]


@dataclass(frozen=True)
class _FamilyTuning:
    """A family of designs in a base, on the corpora of a group, with the design that is trained for it."""

    study: StudyConfig
    steps: int | None
    base: str
    group: str
    family: str
    corpora: tuple[str, ...]
    designs: tuple[str, ...]
    representative: Design
    tuned_on: tuple[str, ...]

    def search(self, lines: Lines) -> _Searched:
        """Go on from the lines of finished trials: a failed one, unless its loss was not finite, ends the search."""
        rule = self.study.tune
        assert rule is not None
        grids = rule.grids(self.representative)
        losses: dict[Point, float | None] = {}
        specs: dict[Point, list[TrialSpec]] = {}
        while True:
            found = search_grid(grids, losses, rule.max_growth)
            specs |= {point: self._trials(dict(zip(grids, point, strict=True))) for point in found.missing}
            new = [spec for point in found.missing for spec in specs[point]]
            missing = [spec for spec in new if spec.id not in lines]
            failed = [line for spec in new if (line := lines.get(spec.id)) and not is_outcome(line)]
            if missing or failed:
                return _Searched(None, missing, failed)
            if not found.missing:
                break
            losses |= {point: _mean_loss([lines[spec.id] for spec in specs[point]]) for point in found.missing}
        candidates = [
            TunedCandidate(values=dict(zip(grids, point, strict=True)), loss=losses[point]) for point in found.points
        ]
        if found.best is None:
            trials = [spec for point in found.points for spec in specs[point]]
            return _Searched(None, [], [{**lines[trials[-1].id], "error": f"{self.family}: {found.note}"}])
        names = ("base", "group", "family", "corpora", "designs", "tuned_on")
        family = TunedFamily(
            **{name: getattr(self, name) for name in names},
            representative=str(self.representative),
            seeds=rule.seeds,
            candidates=tuple(candidates),
            chosen=dict(zip(grids, found.best, strict=True)),
            inside=found.inside,
            note=found.note,
        )
        return _Searched(family, [], [])

    def _trials(self, values: Mapping[str, float]) -> list[TrialSpec]:
        rule = self.study.tune
        settings: dict[str, Any] = {**values} | ({STEPS: self.steps} if self.steps else {})
        return [
            preliminary_trial(self.study, "tuning", self.base, seed, corpus, self.representative, settings)
            for corpus in self.tuned_on
            for seed in (rule.seeds if rule else ())
        ]


def _families(study: StudyConfig, steps: int | None) -> list[_FamilyTuning]:
    """Every family in every base and group, in the order of the study's trials."""
    rule = study.tune
    if rule is None:
        return []
    by_key: dict[tuple[str, str, str], list[TrialSpec]] = {}
    trials = expand(study)
    for trial in trials:
        key = trial.base, study.tuning_group(trial.corpus), rule.family_of(trial.design)
        by_key.setdefault(key, []).append(trial)
    families = []
    for (base, group, family), own in by_key.items():
        corpora = tuple(dict.fromkeys(trial.corpus for trial in own))
        tuned_on = tuple(name for name in rule.corpora if study.tuning_group(name) == group) or corpora
        # of all corpora, so that every group trains the same design
        alike = [trial for trial in trials if trial.base == base and rule.family_of(trial.design) == family]
        designs = tuple(dict.fromkeys(str(trial.design) for trial in own))
        members = (corpora, designs, _representative(alike), tuned_on)
        families.append(_FamilyTuning(study, steps, base, group, family, *members))
    return families


def _representative(trials: Sequence[TrialSpec]) -> Design:
    """The middle one of the designs of the first grid: a grid that is added to a study does not change it."""
    designs = list(dict.fromkeys(trial.design for trial in trials if trial.grid == trials[0].grid))
    return designs[len(designs) // 2]


def is_outcome(line: ResultRecord) -> bool:
    """Whether running the trial again would give the same: it is done, or its training diverged."""
    return line["status"] == "done" or bool(line.get(DIVERGED))


def _mean_loss(lines: Sequence[ResultRecord]) -> float | None:
    """The mean over trials of the validation loss, itself a mean over recordings; None if one was not finite."""
    if any(line["status"] == "failed" for line in lines):
        return None
    return float(np.mean([np.mean(list(line["measures"]["adapted_loss"].values())) for line in lines]))
