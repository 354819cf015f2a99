"""A study that never ran: results with known effects, drawn by a seed, to see what the comparisons find.

`python -m research.validation.simulated_studies` counts, over many such studies, how often an effect that is there is found and how often
one is found where there is none; `--out DIR` writes one study's results.jsonl, to look at its page.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from talim.atomic_io import write_jsonl
from talim.designs.expression import parse
from talim.experiments.hypotheses import Hypotheses
from talim.experiments.hypothesis_tests import SUPPORTED, test_hypotheses
from talim.experiments.results import RESULTS, TrialResult

BASE_PARAMETERS = 8_560_640
SECONDS = {"linear": 150.0, "conv": 210.0, "transformer": 240.0, "lora": 170.0, "full": 420.0}
GIGABYTES = {"linear": 0.9, "conv": 1.1, "transformer": 1.2, "lora": 1.0, "full": 1.9}
LOSS_MEASURES = ("fall", "ornament_fall", "plain_fall", "first_fall", "again_fall")


@dataclass(frozen=True)
class SimulatedEffect:
    """What is added to a measure where the factors are so; of `fall` it is added to all five falls."""

    measure: str
    where: Mapping[str, Any]
    amount: float


@dataclass(frozen=True)
class SimulatedStudy:
    """The grid and the luck: spreads of a trial (by its seed), a recording, a cell, in nats."""

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


def grid(kinds: Sequence[str], sites: Sequence[str], percents: Sequence[float]) -> list[str]:
    """All designs of these kinds, sites and sizes."""
    return [f"{kind}@{site}:{percent:g}%" for kind in kinds for site in sites for percent in percents]


def rows(plan: SimulatedStudy, seed: int) -> list[dict[str, Any]]:
    """The lines of results.jsonl; the same for the same seed."""
    rng = np.random.default_rng(seed)
    found = []
    for base in plan.bases:
        for genre, texture in plan.corpora:
            corpus = f"{genre}-{texture}"
            names = [f"{corpus}-{n:02d}" for n in range(plan.recordings)]
            hard = dict(zip(names, 0.2 * rng.normal(size=plan.recordings), strict=True))
            for design in plan.designs:
                factors = _factors(base, genre, texture, design)
                own = dict(zip(names, plan.recording_sd * rng.normal(size=plan.recordings), strict=True))
                found += [_row(plan, factors, corpus, design, n, hard, own, rng) for n in range(plan.seeds)]
    return found


def _factors(base: str, genre: str, texture: str, design: str) -> dict[str, Any]:
    parts = parse(design).parts
    percent = next((part.size.value for part in parts if part.size), None)
    return {
        "base": base,
        "genre": genre,
        "texture": texture,
        "kind": "+".join(part.kind for part in parts),
        "site": "+".join(part.site for part in parts),
        "share": percent / 100 if percent else None,
    }


def _row(
    plan: SimulatedStudy,
    factors: dict[str, Any],
    corpus: str,
    design: str,
    seed: int,
    hard: Mapping[str, float],
    own: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, Any]:
    share = factors["share"]
    size = min(share or 1.0, 0.3)
    grown = 1 - math.exp(-size / 0.012)  # what more parameters are worth
    luck = plan.seed_sd * rng.normal()
    measures: dict[str, dict[str, float]] = {name: {} for name in ("before", "after", *LOSS_MEASURES)}
    for name, hardness in hard.items():
        cell = (
            plan.level * (0.55 + 0.45 * grown)
            + 0.3 * hardness
            + luck
            + own[name]
            + _added(plan, factors, "fall")
        )
        for measure in LOSS_MEASURES:
            more = 0.0 if measure == "fall" else _added(plan, factors, measure)
            measures[measure][name] = cell + more + plan.cell_sd * rng.normal()
        measures["before"][name] = 3.4 + hardness
        measures["after"][name] = 3.4 + hardness - measures["fall"][name]
    falls = measures["again_fall"], measures["first_fall"]
    measures["return_gain"] = {name: falls[0][name] - falls[1][name] for name in hard}
    distance = 32 - 8 * grown + _added(plan, factors, "score.kernel_distance_timbre") + 1.5 * rng.normal()
    measures["score.kernel_distance_timbre"] = {"run": distance}
    kinds = factors["kind"].split("+")
    seconds = max(SECONDS[kind] for kind in kinds) * (0.8 + 6 * size) * math.exp(0.04 * rng.normal())
    memory = max(GIGABYTES[kind] for kind in kinds) * 1e9 * (0.95 + 2 * size)
    parameters = round((share or 0) * BASE_PARAMETERS) + (BASE_PARAMETERS // 6 if "full" in kinds else 0)
    parameters = BASE_PARAMETERS if factors["kind"] == "full" else parameters
    measures |= {"log_seconds": {"run": math.log(seconds)}, "log_memory": {"run": math.log(memory)}}
    told = "/".join([factors["base"], corpus, design, str(seed)])
    name = hashlib.sha256(told.encode()).hexdigest()[:12]
    return {
        "id": name,
        "status": "done",
        "design": design,
        "seed": seed,
        "corpus": corpus,
        "factors": factors,
        "parameters": parameters,
        "percent": 100 * parameters / BASE_PARAMETERS,
        "measures": measures,
        "directions": dict.fromkeys(LOSS_MEASURES, "higher") | {"score.kernel_distance_timbre": "lower"},
        "cost": {
            "seconds": seconds,
            "peak_memory_bytes": round(memory),
            "adapter_bytes": 2 * parameters,
            "energy_joules": None,
            "steps": 120,
        },
        "run": f"runs/{name}",
        "settings_hash": f"{corpus}-0",
    }


def _added(plan: SimulatedStudy, factors: Mapping[str, Any], measure: str) -> float:
    fitting = (
        e for e in plan.effects if e.measure == measure and all(factors[k] == v for k, v in e.where.items())
    )
    return sum(effect.amount for effect in fitting)


KINDS, SITES, PERCENTS = ("linear", "conv", "transformer"), ("post", "all"), (0.53, 2.7, 4.7)
EFFECT_SIZE = 0.08  # nats
SIMULATED_EFFECT = SimulatedEffect("fall", {"kind": "conv"}, EFFECT_SIZE)
SIMULATED_COMPARISON = {
    "measure": "fall",
    "this": {"kind": "conv"},
    "that": {"kind": "transformer"},
    "interest": EFFECT_SIZE / 4,
}


def found_share(effects: Sequence[SimulatedEffect], studies: int) -> float:
    """In what share of studies, one a seed, a claim about conv over transformer is supported, one of eight claims."""
    other = {"measure": "fall", "this": {"kind": "x"}, "that": {"kind": "y"}, "interest": 1.0}
    asked = [
        {"id": str(n), "says": "-", "comparisons": [other if n else SIMULATED_COMPARISON]} for n in range(8)
    ]
    claims = Hypotheses.model_validate({"claims": asked})
    plan = SimulatedStudy(grid(KINDS, SITES, PERCENTS), effects=effects)
    verdicts = [
        test_hypotheses([TrialResult.model_validate(row).trial for row in rows(plan, seed)], claims)[0][
            "verdict"
        ]
        for seed in range(studies)
    ]
    return float(np.mean([verdict == SUPPORTED for verdict in verdicts]))


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.out:
        designs = [*grid(KINDS, ("post", "shallow", "deep", "all"), (0.13, 0.53, 1.3, 2.7, 4.7)), "full@all"]
        designs += ["lora@all:2.7%", *(f"{kind}@all:2.7%+full@layers[5]" for kind in KINDS)]
        corpora = [(genre, texture) for genre in ("hindustani", "makam") for texture in ("solo", "ensemble")]
        effects = [
            SIMULATED_EFFECT,
            SimulatedEffect("ornament_fall", {"kind": "conv"}, EFFECT_SIZE),
            SimulatedEffect("again_fall", {"kind": "transformer"}, EFFECT_SIZE),
            SimulatedEffect("fall", {"kind": "transformer", "genre": "makam"}, 2 * EFFECT_SIZE),
            SimulatedEffect("fall", {"site": "post"}, -3 * EFFECT_SIZE),
            SimulatedEffect("fall", {"kind": "full"}, EFFECT_SIZE),
        ]
        write_jsonl(
            options.out / RESULTS,
            rows(SimulatedStudy(designs, corpora=corpora, effects=effects), options.seed),
        )
        print(options.out / RESULTS)
        return
    print(f"{options.studies} studies of three kinds, two sites, three sizes, two genres, three seeds:")
    print(
        f"an effect of {EFFECT_SIZE} nats is found in {100 * found_share([SIMULATED_EFFECT], options.studies):.1f} %"
    )
    print(f"where there is none one is found in {100 * found_share([], options.studies):.1f} %")


if __name__ == "__main__":
    main()
