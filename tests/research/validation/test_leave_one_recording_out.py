"""Leave-one-recording-out: every fold holds out another recording, and a rerun trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.two_step_training import QUICK
from scipy import stats

from research.validation import leave_one_recording_out
from talim.atomic_io import read_json
from talim.errors import TalimError
from talim.training import train as training


def test_leave_one_out_all_recordings_are_held_out_once_and_a_rerun_trains_nothing(
    tmp_path: Path, recordings: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> dict:
        return leave_one_recording_out.leave_one_out(
            recordings, recordings, tmp_path, base=str(tiny_base), seeds=(0,), clip_seconds=2.0, overrides=QUICK
        )

    found = run()
    names = set(found["own"]["per_recording"])
    assert len(names) > 1
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {f"{n}-0" for n in names} | {"control-0"}
    assert set(found["control"]["per_recording"]) == names
    assert found["own"]["ci95"][0] <= found["own"]["mean"] <= found["own"]["ci95"][1]
    difference = found["own"]["mean"] - found["control"]["mean"]
    assert found["own_minus_control"]["mean"] == pytest.approx(difference)
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("a finished fold was trained again"))
    assert run() == found == read_json(tmp_path / "leave-one-out.json")


def test_summary_several_seeds_are_averaged_before_recordings() -> None:
    own = {"a": {"0": 1.0, "1": 3.0}, "b": {"0": 0.0, "1": 0.0}}
    found = leave_one_recording_out.summary(own, {"a": {"0": 0.5}, "b": {"0": 0.5}})
    assert found["own"]["per_recording"] == {"a": 2.0, "b": 0.0}
    assert found["own"]["mean"] == 1.0
    assert found["own_minus_control"]["per_recording"] == {"a": 1.5, "b": -0.5}
    half = stats.t.ppf(1 - 0.025 / 2, df=1)  # two recordings: talim.evaluation.intervals asks for half of the error
    assert found["own_minus_control"]["ci95"] == pytest.approx([0.5 - half, 0.5 + half])


def test_leave_one_out_with_one_recording_raises(
    tmp_path: Path, make_recordings: Callable[..., Path], tiny_base: Path
) -> None:
    one = make_recordings(tmp_path / "one", count=1, seconds=80.0)
    with pytest.raises(TalimError, match="at least two"):
        leave_one_recording_out.leave_one_out(one, None, tmp_path / "out", base=str(tiny_base), clip_seconds=2.0)
