"""Simulated studies: power, false-positive rate, and the paper's hypotheses on simulated effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.simulated_study import study

from research.validation import simulated_studies
from research.validation.simulated_studies import SimulatedEffect, SimulatedStudy, grid, main, supported_fraction
from talim.experiments.hypotheses import load
from talim.experiments.hypothesis_tests import CONTRADICTED, SUPPORTED, UNDECIDED, decide_hypotheses
from talim.experiments.results import read_study

PAPER = Path(__file__).parents[3] / "studies" / "paper" / "claims.yaml"
KINDS = ("linear", "conv", "transformer")
DESIGNS = (
    *grid(KINDS, ("shallow", "deep", "all"), (0.53, 2.7, 4.7)),
    "full@all",
    *(f"{kind}@all:2.7%+full@layers[5]" for kind in KINDS),
)
PLAN = SimulatedStudy(
    DESIGNS,
    corpora=(("hindustani", "ensemble"), ("makam", "ensemble")),
    seed_sd=0.005,  # three seeds of one design against another leave few degrees of freedom
    recording_sd=0.01,
    cell_sd=0.02,
)
AS_CLAIMED = (
    SimulatedEffect("loss_reduction_ornaments", {"kind": "conv"}, 0.3),
    SimulatedEffect("loss_reduction_repeat", {"kind": "transformer"}, 0.3),
    SimulatedEffect("loss_reduction", {"size_fraction": 0.047}, -0.2),
    SimulatedEffect("loss_reduction", {"kind": "conv", "genre": "hindustani"}, 0.3),
    SimulatedEffect("loss_reduction", {"kind": "full"}, 0.3),
    *(SimulatedEffect("loss_reduction", {"kind": f"{kind}+full"}, 0.5) for kind in KINDS),
    SimulatedEffect("loss_reduction_repeat", {"site": "deep"}, 0.3),
    SimulatedEffect("score.kernel_distance_timbre", {"site": "deep"}, 20.0),
)


def verdicts(folder: Path, effects: Sequence[SimulatedEffect]) -> dict[str, str]:
    found = study(folder, replace(PLAN, effects=effects))
    return {row["id"]: row["verdict"] for row in decide_hypotheses(found.trials, load(PAPER))}


def test_paper_hypotheses_with_simulated_effects_are_supported(tmp_path: Path) -> None:
    found = verdicts(tmp_path, AS_CLAIMED)
    assert [found[n] for n in "123478"] == [SUPPORTED] * 6
    assert [found[n] for n in "56"] == [UNDECIDED] * 2  # nothing of the other base


def test_paper_hypotheses_without_effects_are_not_supported(tmp_path: Path) -> None:
    found = verdicts(tmp_path, [SimulatedEffect("loss_reduction", {"kind": "full"}, -0.2)])
    assert SUPPORTED not in {found[n] for n in "124578"}
    assert found["7"] == CONTRADICTED


def test_paper_hypotheses_about_bases_need_both_bases(tmp_path: Path) -> None:
    plan = replace(PLAN, designs=grid(KINDS, ("all",), (2.7,)), bases=("nano-musicgen", "nano-mustango"))
    costlier = [SimulatedEffect("score.kernel_distance_timbre", {"base": "nano-mustango"}, 20.0)]
    claims = load(PAPER)
    rows = {
        row["id"]: row for row in decide_hypotheses(study(tmp_path, replace(plan, effects=costlier)).trials, claims)
    }
    six = {result["measure"]: result["verdict"] for result in rows["6"]["results"]}
    assert six["score.kernel_distance_timbre"] == SUPPORTED
    assert six["log_seconds"] == CONTRADICTED  # both bases cost the same here
    assert six["score.ngram_repetition"] == UNDECIDED  # not measured


@pytest.mark.slow
def test_supported_fraction_has_power_and_rare_false_positives() -> None:
    assert supported_fraction([simulated_studies.SIMULATED_EFFECT], 100) > 0.8
    assert supported_fraction([], 200) <= 0.05


def test_main_writes_a_study_or_prints_power(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["simulated_studies", "--out", str(tmp_path), "--seed", "4"])
    main()
    assert read_study(tmp_path).folder == tmp_path
    monkeypatch.setattr("sys.argv", ["simulated_studies", "--studies", "2"])
    main()
    assert "power for an effect of 0.08 nats: 100.0 %" in capsys.readouterr().out
