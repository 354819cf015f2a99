"""Tests of `talim export`: what it prints, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim import cli
from talim.run import Run


def export(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["export", *map(str, arguments)])
    out, said = capsys.readouterr()
    return int(done.value.code or 0), out, said


def test_export_prints_the_folder_and_what_it_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished_run: Run
) -> None:
    out = tmp_path / "out"
    status, printed, said = export(capsys, finished_run.folder, "--to", "folder", "--out", out)
    assert (status, printed.endswith(f"how to use it is in {out}/README.md\n")) == (0, True)
    assert said.startswith(f"exporting {finished_run.folder}\n")
    assert "left out: samples: 2 excerpts of held-out recordings" in said
    assert f"{len([path for path in out.rglob('*') if path.is_file()])} files" in printed
    status, printed, said = export(capsys, finished_run.folder, "--to", "folder", "--out", out)
    assert (status, printed) == (1, "")
    assert f"{out}: is there already, and is not overwritten" in said


def test_export_to_the_hub_shows_what_would_be_sent(capsys: pytest.CaptureFixture[str], finished_run: Run) -> None:
    status, printed, said = export(
        capsys, finished_run.folder, "--to", "hub", "--repo", "me/glide", "--dry-run", "--json"
    )
    result = json.loads(printed)
    assert (status, result["commit"], result["public"]) == (0, None, False)
    assert all(f"  {name} " in said for name in result["files"])


def test_export_of_wrong_usage_is_one_line(
    capsys: pytest.CaptureFixture[str], finished_run: Run, tmp_path: Path
) -> None:
    for arguments, words in (
        ((finished_run.folder, "--to", "folder"), "--out FOLDER"),
        ((finished_run.folder, "--to", "hub"), "--repo OWNER/NAME"),
        ((finished_run.folder, "--to", "hub", "--repo", "glide"), "expected OWNER/NAME"),
        ((finished_run.folder, "--to", "folder", "--out", tmp_path / ("x" * 300)), "give a shorter one"),
    ):
        status, printed, said = export(capsys, *arguments)
        assert (status, printed, said.count("\n")) == (2, "", 1), said
        assert words in said
    status, _, said = export(capsys, tmp_path / "no-such", "--to", "folder", "--out", tmp_path / "x")
    assert (status, "no such file or folder" in said) == (1, True)
