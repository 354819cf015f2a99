"""Simulated studies: results with known effects, drawn by a seed, to validate the statistics of a study.

`python -m research.validation.simulated_studies` measures power and false-positive rate over many such studies; `--out
DIR` writes one study's results.jsonl, to look at its page; `--controls docs/reports/statistics.md` measures what is
answered by studies without any difference, and by such with the smallest one of interest, and writes that section.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from talim.atomic_io import write_jsonl, write_text
from talim.design.expression import Design
from talim.experiments.advice import advise
from talim.experiments.controls import INSERTED, ControlData, comparison_controls, untestable_reason
from talim.experiments.goals import SelectionCriteria
from talim.experiments.hypotheses import Comparison, Hypotheses
from talim.experiments.hypothesis_tests import (
    CONTRADICTED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDECIDED,
    decide_hypotheses,
    verdict_of,
)
from talim.experiments.results import RESULTS, BaseModelResults, TrialResult
from talim.experiments.tuning import RATE as LEARNING_RATE
from talim.experiments.tuning import TunedFamily

BASE_PARAMETERS = 8_560_640
SECONDS = {"linear": 150.0, "conv": 210.0, "transformer": 240.0, "lora": 170.0, "full": 420.0}
GIGABYTES = {"linear": 0.9, "conv": 1.1, "transformer": 1.2, "lora": 1.0, "full": 1.9}
LOSS_MEASURES = (
    "loss_reduction",
    "loss_reduction_ornaments",
    "loss_reduction_plain",
    "loss_reduction_first",
    "loss_reduction_repeat",
)
# what every design learns of ornaments and of returns beyond the rest
LEARNT = {"loss_reduction_ornaments": 0.2, "loss_reduction_repeat": 0.3}


@dataclass(frozen=True)
class SimulatedEffect:
    """An amount added to a measure where the factors match; on `loss_reduction` it is added to all LOSS_MEASURES."""

    measure: str
    where: Mapping[str, Any]
    amount: float


@dataclass(frozen=True)
class SimulatedStudy:
    """The grid, and standard deviations in nats: of a trial (by its seed), a recording, and a cell."""

    designs: Sequence[str]
    bases: Sequence[str] = ("nano-musicgen",)
    corpora: Sequence[tuple[str, str]] = (("hindustani", "solo"), ("makam", "solo"))
    seeds: int = 3
    recordings: int = 8
    seed_sd: float = 0.02
    recording_sd: float = 0.02
    cell_sd: float = 0.03
    level: float = 1.0
    effects: Sequence[SimulatedEffect] = field(default_factory=tuple)
    inserted: float | None = 0.15  # what half of the steps lose, in nats; None: no such trials
    equal_seeds: int = 3  # further seeds, for equal pairs only
    tuned: bool = True


def grid(kinds: Sequence[str], sites: Sequence[str], percents: Sequence[float]) -> list[str]:
    """All designs of these kinds, sites and sizes."""
    return [f"{kind}@{site}:{percent:g}%" for kind in kinds for site in sites for percent in percents]


def rows(plan: SimulatedStudy, seed: int) -> list[dict[str, Any]]:
    """The lines of results.jsonl without those of control grids; the same for the same seed."""
    return _all_rows(replace(plan, inserted=None, equal_seeds=0), seed)[0]


def control_rows(plan: SimulatedStudy, seed: int) -> list[dict[str, Any]]:
    """The lines of control grids: every design on half of the steps, and with further seeds."""
    return _all_rows(plan, seed)[1]


def _all_rows(plan: SimulatedStudy, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rng, control_rng = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    losses = ("loss_reduction", "loss_reduction_ornaments", "loss_reduction_repeat")
    inserted = plan.inserted or 0.0
    lost = [SimulatedEffect(name, {}, -inserted) for name in losses]
    lost.append(SimulatedEffect("score.kernel_distance_timbre", {}, 200 * inserted))
    less = replace(plan, effects=[*plan.effects, *lost])
    lines, controls = [], []
    for base in plan.bases:
        for genre, texture in plan.corpora:
            corpus = f"{genre}-{texture}"
            names = [f"{corpus}-{n:02d}" for n in range(plan.recordings)]
            difficulty = dict(zip(names, 0.2 * rng.normal(size=plan.recordings), strict=True))
            for design in plan.designs:
                factors = _factors(base, genre, texture, design)
                own = dict(zip(names, plan.recording_sd * rng.normal(size=plan.recordings), strict=True))
                cell = (factors, corpus, design)
                lines += [_row(plan, *cell, n, difficulty, own, rng) for n in range(plan.seeds)]
                for n in range(plan.seeds if plan.inserted is not None else 0):
                    row = _row(less, *cell, n, difficulty, own, control_rng)
                    about = {"id": f"{row['id']}-half", "control": "planted", "inserted": "half of the steps"}
                    controls.append(row | about)
                for n in range(plan.seeds, plan.seeds + plan.equal_seeds):
                    controls.append(_row(plan, *cell, n, difficulty, own, control_rng) | {"control": "equal"})
    return lines, controls


def tuning_record(plan: SimulatedStudy) -> dict[str, Any]:
    """The content of tuning.json: every design's learning rate lies inside its grid."""
    corpora = ["-".join(each) for each in plan.corpora]
    candidates = [{"values": {LEARNING_RATE: rate}, "loss": abs(math.log(rate / RATE))} for rate in RATES]
    common = {"group": "all", "corpora": corpora, "tuned_on": corpora, "seeds": [0], "candidates": candidates}
    families = [
        {"base": base, "family": design, "designs": [design], "representative": design, **common}
        | {"chosen": {LEARNING_RATE: RATE}, "inside": True}
        for base in plan.bases
        for design in plan.designs
    ]
    return {"families": families}


def _factors(base: str, genre: str, texture: str, design: str) -> dict[str, Any]:
    parts = Design.parse(design).parts
    percent = next((part.size.value for part in parts if part.size), None)
    return {
        "base": base,
        "genre": genre,
        "texture": texture,
        "kind": "+".join(part.kind for part in parts),
        "site": "+".join(part.site for part in parts),
        "size_fraction": percent / 100 if percent else None,
    }


def _row(
    plan: SimulatedStudy,
    factors: dict[str, Any],
    corpus: str,
    design: str,
    seed: int,
    difficulty: Mapping[str, float],
    own: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, Any]:
    fraction = factors["size_fraction"]
    size = min(fraction or 1.0, 0.3)
    grown = 1 - math.exp(-size / 0.012)  # what more parameters are worth
    seed_effect = plan.seed_sd * rng.normal()
    measures: dict[str, dict[str, float]] = {name: {} for name in ("base_loss", "adapted_loss", *LOSS_MEASURES)}
    for name, hardness in difficulty.items():
        cell = (
            plan.level * (0.55 + 0.45 * grown)
            + 0.3 * hardness
            + seed_effect
            + own[name]
            + _added(plan, factors, "loss_reduction")
        )
        for measure in LOSS_MEASURES:
            more = LEARNT.get(measure, 0.0)
            more += 0.0 if measure == "loss_reduction" else _added(plan, factors, measure)
            measures[measure][name] = cell + more + plan.cell_sd * rng.normal()
        measures["base_loss"][name] = 3.4 + hardness
        measures["adapted_loss"][name] = 3.4 + hardness - measures["loss_reduction"][name]
        measures.setdefault("unigram_loss", {})[name] = 3.7 + hardness
        measures.setdefault("last_token_loss", {})[name] = 3.5 + hardness
    ornaments, plain = measures["loss_reduction_ornaments"], measures["loss_reduction_plain"]
    measures["ornament_gain"] = {name: ornaments[name] - plain[name] for name in difficulty}
    repeat, first = measures["loss_reduction_repeat"], measures["loss_reduction_first"]
    measures["repeat_gain"] = {name: repeat[name] - first[name] for name in difficulty}
    distance = 32 - 8 * grown + _added(plan, factors, "score.kernel_distance_timbre") + 1.5 * rng.normal()
    measures["score.kernel_distance_timbre"] = {"run": distance}
    kinds = factors["kind"].split("+")
    seconds = max(SECONDS[kind] for kind in kinds) * (0.8 + 6 * size) * math.exp(0.04 * rng.normal())
    memory = max(GIGABYTES[kind] for kind in kinds) * 1e9 * (0.95 + 2 * size)
    parameters = round((fraction or 0) * BASE_PARAMETERS) + (BASE_PARAMETERS // 6 if "full" in kinds else 0)
    parameters = BASE_PARAMETERS if factors["kind"] == "full" else parameters
    measures |= {"log_seconds": {"run": math.log(seconds)}, "log_memory": {"run": math.log(memory)}}
    gained = float(np.mean(list(measures["loss_reduction"].values())))
    key = "/".join([factors["base"], corpus, design, str(seed)])
    name = hashlib.sha256(key.encode()).hexdigest()[:12]
    return {
        "id": name,
        "status": "done",
        "design": design,
        "seed": seed,
        "corpus": corpus,
        "factors": factors,
        "parameters": parameters,
        "trained_percent": 100 * parameters / BASE_PARAMETERS,
        "measures": measures,
        "directions": dict.fromkeys(LOSS_MEASURES, "higher_is_better")
        | {"score.kernel_distance_timbre": "lower_is_better"},
        "cost": {
            "seconds": seconds,
            "peak_memory_bytes": round(memory),
            "adapter_bytes": 2 * parameters,
            "energy_joules": None,
            "steps": 120,
        },
        "run": f"runs/{name}",
        "settings_hash": f"{corpus}-0",
        "curve": [[step, 3.4 - gained * (1 - math.exp(-step / 8))] for step in range(0, 121, 12)],
        "tuned": {LEARNING_RATE: RATE} if plan.tuned else {},
        "scores": {
            "kernel_distance_timbre": {"reference": 12.0, "baseline": 40.0, "separation_p": 0.001, "floor": 0.0}
        },
    }


def _added(plan: SimulatedStudy, factors: Mapping[str, Any], measure: str) -> float:
    fitting = (e for e in plan.effects if e.measure == measure and all(factors[k] == v for k, v in e.where.items()))
    return sum(effect.amount for effect in fitting)


RATE, RATES = 0.002, (0.0005, 0.001, 0.002, 0.004, 0.008)  # the learning rate chosen and those tried
KINDS, SITES, PERCENTS = ("linear", "conv", "transformer"), ("post", "all"), (0.53, 2.7, 4.7)
EFFECT_SIZE = 0.08  # nats
SIMULATED_EFFECT = SimulatedEffect("loss_reduction", {"kind": "conv"}, EFFECT_SIZE)
SIMULATED_COMPARISON = {
    "measure": "loss_reduction",
    "treatment": {"kind": "conv"},
    "control": {"kind": "transformer"},
    "smallest_effect": EFFECT_SIZE / 4,
}


def _one_of_eight(comparison: Mapping[str, Any]) -> Hypotheses:
    """A hypothesis of one comparison, with seven others that only widen its interval."""
    other = {"measure": "loss_reduction", "treatment": {"kind": "x"}, "control": {"kind": "y"}, "smallest_effect": 1.0}
    claims = [{"id": str(n), "statement": "-", "comparisons": [other if n else comparison]} for n in range(8)]
    return Hypotheses.model_validate({"claims": claims})


def supported_fraction(effects: Sequence[SimulatedEffect], studies: int) -> float:
    """The fraction of studies, one per seed, that support a hypothesis about conv over transformer, one of eight."""
    hypotheses = _one_of_eight(SIMULATED_COMPARISON)
    plan = SimulatedStudy(grid(KINDS, SITES, PERCENTS), effects=effects)
    supported = []
    for seed in range(studies):
        trials = [TrialResult.model_validate(row) for row in rows(plan, seed)]
        supported.append(decide_hypotheses(trials, hypotheses)[0]["verdict"] == SUPPORTED)
    return float(np.mean(supported))


SMALLEST = 0.03  # nats: the smallest difference of interest
PAIR = ("conv@all:2.7%", "transformer@all:2.7%")  # in studies without a difference: one design under two names
CONTROLLED = SimulatedStudy(PAIR, seeds=10, recordings=50, equal_seeds=0)
CONTROLLED_COMPARISON = SIMULATED_COMPARISON | {"smallest_effect": SMALLEST}
CONV_IS_BETTER = (SimulatedEffect("loss_reduction", {"kind": "conv"}, SMALLEST),)
CONTROLLED_STUDIES: dict[str, SimulatedStudy] = {
    "nothing differs: one design under two names, half of the steps teach as much": replace(CONTROLLED, inserted=0.0),
    "one design under two names, half of the steps lose 0.15": CONTROLLED,
    "one design is 0.03 better, half of the steps lose 0.15": replace(CONTROLLED, effects=CONV_IS_BETTER),
    "one design is 0.03 better, half of the steps lose 0.03": replace(
        CONTROLLED, effects=CONV_IS_BETTER, inserted=SMALLEST
    ),
    "one design is 0.03 better, learning rates not tuned": replace(CONTROLLED, effects=CONV_IS_BETTER, tuned=False),
}
OUTCOMES = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTABLE)
CONTROLS_HEADING = "## Controls of studies"


def controlled_outcome(plan: SimulatedStudy, seed: int) -> tuple[str, bool, bool]:
    """A study's verdict on conv over transformer (one of eight hypotheses), if it finds what was put in, if it advises.

    The first counts at the level of the hypothesis, the second at 95 %.
    """
    lines, controls = _all_rows(plan, seed)
    trials, more = ([TrialResult.model_validate(row) for row in each] for each in (lines, controls))
    families = tuning_record(plan)["families"] if plan.tuned else []
    data = ControlData(more, [TunedFamily.model_validate(family) for family in families])
    found: list[bool] = []

    def obstacle(some: Sequence[TrialResult], comparison: Comparison, confidence: float, comparisons: int) -> str:
        answer = partial(verdict_of, comparison=comparison, confidence=confidence, comparisons=comparisons)
        checked = comparison_controls(some, comparison, data, confidence, answer)
        found.extend(bool(each.passed) for each in checked if each.name == INSERTED)
        return untestable_reason(checked)

    verdict = decide_hypotheses(trials, _one_of_eight(CONTROLLED_COMPARISON), (), obstacle)[0]["verdict"]
    names = dict.fromkeys(trial.corpus for trial in trials)
    tables = [BaseModelResults(plan.bases[0], n, f"{n}-0", [t for t in trials if t.corpus == n]) for n in names]
    advice = advise(tables, SelectionCriteria(), np.random.default_rng(seed), data)
    return verdict, all(found), bool(advice.recommendation.design)


def controls_section(studies: int) -> str:
    """The section of docs/reports/statistics.md about what studies with known differences answer."""
    rows = []
    for name, plan in CONTROLLED_STUDIES.items():
        found = [controlled_outcome(plan, seed) for seed in range(studies)]
        counts = [sum(verdict == outcome for verdict, _, _ in found) for outcome in OUTCOMES]
        numbers = [*counts, sum(each[1] for each in found), sum(each[2] for each in found)]
        rows.append(f"| {name} | {' | '.join(map(str, numbers))} |")
    header = f"| study | {' | '.join(OUTCOMES)} | planted found | advice |"
    return "\n".join([CONTROLS_HEADING, "", CONTROLS_TEXT.format(studies=studies), "", header,
                      f"|---|{'---|' * 6}", *rows, ""])  # fmt: skip


CONTROLS_TEXT = """\
What {studies} simulated studies a row answer, measured by
`python -m research.validation.simulated_studies --controls docs/reports/statistics.md --studies {studies}`. Two
designs, two corpora, ten seeds, 50 test recordings; standard deviations of 0.02 nats by seed, 0.02 by recording and
0.03 by cell. The hypothesis, one of eight (99.4 %): conv learns more than transformer, by 0.03 nats or more. The
planted difference is that to trials on half of the steps, found at the same level. Where nothing differs, not even
after half of the steps, a study says nothing, unless a planted difference is found by chance. Where it is rightly found
and the designs are equal, "contradicted" is the right answer: there is no difference of 0.03 nats, and the study would
have seen one. Advice rests on 95 %; it is withheld where designs and corpora seem to interact, by chance in 5 %."""


def write_controls_section(page: Path, studies: int) -> None:
    """Put the section into the page, in the place of an earlier one."""
    text = page.read_text(encoding="utf-8") if page.is_file() else "# Statistics\n"
    before, _, after = text.partition(CONTROLS_HEADING)
    rest = after[after.index("\n## ") + 1 :] if "\n## " in after else ""
    write_text(page, before.rstrip() + "\n\n" + controls_section(studies) + ("\n" + rest if rest else ""))


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--controls", type=Path, help="page whose section on controls is measured and written")
    options = parser.parse_args()
    if options.controls:
        write_controls_section(options.controls, options.studies)
        print(options.controls)
        return
    if options.out:
        designs = [*grid(KINDS, ("post", "shallow", "deep", "all"), (0.13, 0.53, 1.3, 2.7, 4.7)), "full@all"]
        designs += ["lora@all:2.7%", *(f"{kind}@all:2.7%+full@layers[5]" for kind in KINDS)]
        corpora = [(genre, texture) for genre in ("hindustani", "makam") for texture in ("solo", "ensemble")]
        effects = [
            SIMULATED_EFFECT,
            SimulatedEffect("loss_reduction_ornaments", {"kind": "conv"}, EFFECT_SIZE),
            SimulatedEffect("loss_reduction_repeat", {"kind": "transformer"}, EFFECT_SIZE),
            SimulatedEffect("loss_reduction", {"kind": "transformer", "genre": "makam"}, 2 * EFFECT_SIZE),
            SimulatedEffect("loss_reduction", {"site": "post"}, -3 * EFFECT_SIZE),
            SimulatedEffect("loss_reduction", {"kind": "full"}, EFFECT_SIZE),
        ]
        write_jsonl(
            options.out / RESULTS, rows(SimulatedStudy(designs, corpora=corpora, effects=effects), options.seed)
        )
        print(options.out / RESULTS)
        return
    print(f"{options.studies} studies of three kinds, two sites, three sizes, two genres, three seeds:")
    power, false_positives = (supported_fraction(effects, options.studies) for effects in ([SIMULATED_EFFECT], []))
    print(f"power for an effect of {EFFECT_SIZE} nats: {100 * power:.1f} %")
    print(f"false-positive rate without an effect: {100 * false_positives:.1f} %")


if __name__ == "__main__":
    main()
