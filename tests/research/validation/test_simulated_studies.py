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
from talim.experiments.hypothesis_tests import CONTRADICTED, NOT_TESTABLE, SUPPORTED, UNDECIDED, decide_hypotheses
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
    corpora=tuple((genre, texture) for genre in ("hindustani", "makam") for texture in ("solo", "ensemble")),
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


def answers(name: str, studies: int) -> list[tuple[str, bool, bool]]:
    (plan,) = (plan for title, plan in simulated_studies.CONTROLLED_STUDIES.items() if title.startswith(name))
    return [simulated_studies.controlled_outcome(plan, seed) for seed in range(studies)]


def test_controlled_outcome_of_a_null_study_is_no_verdict_and_of_a_difference_one() -> None:
    assert answers("nothing differs", 2) == [(NOT_TESTABLE, False, False)] * 2
    assert answers("one design is 0.03 better, learning rates", 1) == [(NOT_TESTABLE, True, False)]
    assert SUPPORTED in {
        verdict for verdict, _, _ in answers("one design is 0.03 better, half of the steps lose 0.03", 2)
    }


@pytest.mark.slow
def test_null_studies_give_no_verdict_and_the_smallest_difference_is_found() -> None:
    """19 of 20 studies without a difference say nothing; 8 of 10 find the smallest one of interest."""
    silent = [verdict in (NOT_TESTABLE, UNDECIDED) for verdict, _, _ in answers("nothing differs", 20)]
    assert sum(silent) >= 19
    verdicts = [verdict for verdict, _, _ in answers("one design under two names", 20)]
    assert verdicts.count(SUPPORTED) <= 1  # equal designs, while half of the steps is seen
    found = answers("one design is 0.03 better, half of the steps lose 0.03", 20)
    assert sum(verdict == SUPPORTED for verdict, _, _ in found) >= 16
    assert sum(planted for _, planted, _ in found) >= 16


def test_write_controls_section_replaces_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_studies, "controlled_outcome", lambda plan, seed: (SUPPORTED, True, seed == 0))
    page = tmp_path / "statistics.md"
    page.write_text("# Statistics\n\nBefore.\n\n## Controls of studies\n\nold\n\n## After\n\nkept\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["simulated_studies", "--controls", str(page), "--studies", "2"])
    main()
    text = page.read_text(encoding="utf-8")
    assert text.count("## Controls of studies") == 1
    assert "old" not in text
    assert text.startswith("# Statistics\n\nBefore.\n\n## Controls")
    assert text.endswith("\n\n## After\n\nkept\n")
    assert "| 2 | 0 | 0 | 0 | 2 | 1 |" in text
    main()
    assert page.read_text(encoding="utf-8") == text
