"""Tests of `talim report`: the page's path, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from talim import cli
from talim.run import Run


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["report", *map(str, arguments)])
    out, said = capsys.readouterr()
    return int(done.value.code or 0), out, said


def test_report_prints_the_page_that_it_wrote(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished_run: Run
) -> None:
    shutil.copytree(finished_run.folder, tmp_path / "run")
    status, out, _ = report(capsys, tmp_path / "run", "--json")
    page = Path(json.loads(out)["page"])
    assert (status, page.parent.parent) == (0, tmp_path / "run")
    assert "Content-Security-Policy" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("make", ["", "a: [", "[" * 30_000, "a: &a [*a]"])
def test_report_with_hypotheses_that_are_none_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, make: str
) -> None:
    (tmp_path / "claims.yaml").write_text(make)
    status, out, said = report(capsys, tmp_path, "--claims", tmp_path / "claims.yaml")
    *begun, error = said.splitlines()
    assert (status in (1, 2), out, error.startswith("talim: ")) == (True, "", True)
    assert begun in ([], [f"{tmp_path}: writing its page"])
    assert "bug in talim" not in said


def test_report_of_a_file_or_nothing_names_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, words in (("file", "is a file; expected a folder"), ("no-such", "no such file or folder")):
        status, _, said = report(capsys, tmp_path / name)
        assert status == 1
        assert f"{tmp_path / name}: {words}" in said
