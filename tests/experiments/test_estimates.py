"""What a study will take: its trials as the plan's jobs, and their sum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.fake_trials import write_study

from talim.cli.main import main
from talim.experiments import estimates, study_file
from talim.planning.hardware import gpu_profile
from talim.planning.plan import EnergyPrices, plan_total


def test_a_study_takes_what_its_trials_take(
    tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path / "s.yaml", tmp_path / "no corpus yet", tiny_base)
    asked = ["plan", str(file), "--gpu", "rtx-3060", "--price-per-hour", "0.5", "--json"]
    with pytest.raises(SystemExit):
        main(asked)
    found = json.loads(capsys.readouterr().out)
    planned = study_file.expand(study_file.load(file))
    assert found["runs"] == len(planned) == 4
    assert [job["design"] for job in found["jobs"]] == [each.design for each in planned]
    one = plan_total(
        [estimates.plan_request(planned[0], str(tiny_base))], gpu_profile("rtx-3060"), EnergyPrices(0.5, None)
    )
    assert found["jobs"][0]["hours"] == pytest.approx(one["hours"])
    assert found["hours"] == pytest.approx(sum(job["hours"] for job in found["jobs"]))
    assert found["money"] == pytest.approx(0.5 * found["hours"])
    assert found["memory_bytes"] == max(job["memory_bytes"] for job in found["jobs"])
    said = estimates.total_message(found)
    assert said.startswith("4 trials, one after the other on rtx-3060: ")
    assert "kWh" in said
    assert "in money" in said


def test_clips_are_no_longer_than_the_base_hears(tmp_path: Path, tiny_base: Path) -> None:
    file = write_study(tmp_path / "s.yaml", tmp_path, tiny_base, settings={"training.clip_seconds": 500})
    assert estimates.plan_request(study_file.expand(study_file.load(file))[0], str(tiny_base)).seconds < 500


@pytest.mark.parametrize("said", [[], ["s.yaml", "--base", "nano-musicgen"]])
def test_a_study_or_a_base(said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["plan", *said])
    assert done.value.code == 2
    assert "either a study" in capsys.readouterr().err
