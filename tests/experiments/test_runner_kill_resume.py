"""`talim study` with real training, killed ten times: results equal those of an undisturbed run. Slow."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.fake_trials import QUICK, write_study
from fixtures.killed_studies import run_undisturbed_and_killed

from talim.atomic_io import read_jsonl

MEASURED = ("base_loss", "adapted_loss", "loss_reduction")


def measures_of(out: Path) -> dict[str, dict]:
    """Each trial's losses, without its cost."""
    rows = read_jsonl(out / "results.jsonl")
    return {row["id"]: {name: row["measures"][name] for name in MEASURED} for row in rows}


@pytest.mark.slow
def test_study_killed_ten_times_has_the_same_results(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> None:
    overrides = {**QUICK, "training.steps": 40, "training.checkpoint_every": 5, "training.eval_every": 40}
    file = write_study(tmp_path / "s.yaml", corpus_folder, tiny_base, overrides=overrides)
    run_undisturbed_and_killed(file, tmp_path, (0.5, 1.0), 600)
    assert measures_of(tmp_path / "killed") == measures_of(tmp_path / "undisturbed")
    adapters = [
        {path.parts[-3]: path.read_bytes() for path in (tmp_path / out).glob("runs/*/adapter/*.safetensors")}
        for out in ("killed", "undisturbed")
    ]
    assert len(adapters[0]) == 4
    assert adapters[0] == adapters[1]
