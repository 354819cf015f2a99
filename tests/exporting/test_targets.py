"""Tests of talim.exporting.targets: what is said before a run is exported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fixtures.log_lines import Lines

from talim.adapters import serialization
from talim.atomic_io import read_json, write_json
from talim.errors import TalimError
from talim.evaluation.evaluate import evaluate
from talim.exporting.options import ExportOptions
from talim.exporting.targets import export_run
from talim.progress import Progress
from talim.run import Run


def test_export_of_an_adapter_that_changes_nothing_says_so(tmp_path: Path, finished_run: Run) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    info = run.adapter / serialization.INFO_FILE
    write_json(info, read_json(info) | {serialization.UNTRAINED: True})
    for folder, told in ((run.folder, True), (finished_run.folder, False)):
        lines = Lines()
        export_run(folder, "folder", ExportOptions(out=tmp_path / f"out-{told}"), lines)
        assert any("changes nothing: it is as it was before training" in line for line in lines.lines) == told


def test_export_while_another_process_works_in_the_run_is_refused(tmp_path: Path, finished_run: Run) -> None:
    run, out = Run(shutil.copytree(finished_run.folder, tmp_path / "run")), tmp_path / "out"
    options = ExportOptions(out=out)
    with run.lock():
        with pytest.raises(TalimError, match="working in this folder; its files are not complete: wait until"):
            export_run(run.folder, "folder", options, Progress())
        with pytest.raises(TalimError, match="another talim process is working in this folder"):
            evaluate(run.folder)  # which holds the same lock
    assert not out.exists()
    with run.lock(to_read=True):  # so may others
        export_run(run.folder, "folder", options, Progress())
        with pytest.raises(TalimError, match="another talim process"), run.lock():
            pass
