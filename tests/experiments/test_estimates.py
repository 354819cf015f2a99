"""Predicted cost of a study: its trials as requests of the planner, and their sum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.fake_trials import write_study
from fixtures.japanese_block import foreign_words

from talim.cli.main import main
from talim.errors import UsageError
from talim.experiments import estimates, study_file
from talim.experiments.estimates import TrialEstimates
from talim.experiments.trial import TrialJob
from talim.html.languages import words
from talim.planning.hardware import gpu_profile
from talim.planning.plan import EnergyPrices, plan_total


def test_plan_of_a_study_is_the_sum_of_its_trials(
    tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path / "s.yaml", tmp_path / "no corpus yet", tiny_base)
    arguments = ["plan", str(file), "--gpu", "rtx-3060", "--price-per-hour", "0.5", "--json"]
    with pytest.raises(SystemExit):
        main(arguments)
    found = json.loads(capsys.readouterr().out)
    trials = study_file.expand(study_file.load(file))
    assert found["num_runs"] == len(trials) == 4
    assert [row["design"] for row in found["runs"]] == [str(trial.design) for trial in trials]
    job = estimates.job_of(trials[0], str(tiny_base), tmp_path)
    one = plan_total([job], gpu_profile("rtx-3060"), EnergyPrices(0.5, None))
    assert found["runs"][0]["hours"] == pytest.approx(one["hours"])
    assert found["hours"] == pytest.approx(sum(row["hours"] for row in found["runs"]))
    assert found["money"] == pytest.approx(0.5 * found["hours"])
    assert found["memory_bytes"] == max(row["memory_bytes"] for row in found["runs"])
    message = estimates.total_message(found)
    assert message.startswith("4 trials, one after the other on rtx-3060: ")
    assert "kWh" in message
    assert "--watts" not in message
    unknown = estimates.total_message({**found, "energy_joules": None})
    assert unknown.endswith(f"not in the disk space. {words('en')['plan_energy_unknown']}")
    assert "in money" in message
    japanese = estimates.total_message({**found, "energy_joules": None}, "ja")
    assert japanese.startswith("rtx-3060で順に行う4回の学習：学習時間")
    assert foreign_words(japanese, ["rtx-3060", "MB", "kB"]) == []
    sizes = {(row["steps"], row["batch_size"]) for row in found["runs"]}
    assert len(sizes) == 1
    assert " of memory. Each {} steps of {} clips of ".format(*sizes.pop()) in message
    found["runs"][0]["steps"] += 1
    assert "Each" not in estimates.total_message(found)


def test_plan_request_clips_are_no_longer_than_the_context(tmp_path: Path, tiny_base: Path) -> None:
    file = write_study(tmp_path / "s.yaml", tmp_path, tiny_base, overrides={"training.crop_seconds": 500})
    assert estimates.job_of(study_file.expand(study_file.load(file))[0], str(tiny_base), tmp_path).crop_seconds < 500


@pytest.mark.parametrize("arguments", [[], ["s.yaml", "--base", "nano-musicgen"]])
def test_plan_with_neither_or_both_of_study_and_base_raises(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["plan", *arguments])
    assert done.value.code == 2
    assert "either a study" in capsys.readouterr().err


def test_dry_run_counts_preliminary_trials_and_how_much_the_grid_may_grow(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        "tune": {"learning_rate": [0.001, 0.003], "seeds": [7, 8], "max_growth": 2},
        "plateau": {"max_steps": 40},
        "overrides": {"training.batch_size": 2, "training.crop_seconds": 1.0},
    }
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, **changes)
    with pytest.raises(SystemExit):
        main(["study", str(file), "--out", str(tmp_path / "out"), "--dry-run", "--gpu", "rtx-3060"])
    text = capsys.readouterr().out
    assert "first 1 pilot trial and 8 tuning trials: " in text  # 2 kinds x 2 rates x 2 seeds
    assert "by 8 trials more at most" in text  # 2 kinds x 2 more rates x 2 seeds
    assert "4 of 4 trials to run: " in text
    assert "at a first guess" in text
    assert "tuning: conv@post:500 on" in text
    assert "seed 7, learning_rate 0.001, steps 40" in text
    assert not (tmp_path / "out").exists()


def test_an_unknown_gpu_is_an_error_and_not_a_trial_without_a_prediction(jobs: list[TrialJob]) -> None:
    with pytest.raises(UsageError, match="--gpu 'a100' is not in the table: did you mean"):
        TrialEstimates(Path(), "a100").estimate(jobs[0].spec, jobs[0].base)
