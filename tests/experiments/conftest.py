"""Jobs of a small study, for the tests of trials and of what a process keeps between them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.fake_trials import write_study

from talim.experiments.runner import list_trials
from talim.experiments.trial import TrialJob


@pytest.fixture
def jobs(tmp_path: Path, tiny_base: Path, corpus_folder: Path) -> list[TrialJob]:
    """Two designs on one base, corpus and seed."""
    grids = {"a": {"bases": [str(tiny_base)], "designs": ["linear@post:300", "conv@post:300"]}}
    file = write_study(tmp_path / "study.yaml", corpus_folder, tiny_base, grids=grids)
    return [TrialJob(spec, tmp_path, corpus_folder, base) for spec, _, base in list_trials(file, tmp_path)]
