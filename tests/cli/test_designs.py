"""Tests of `talim designs`: sizes that no base has are refused in a line."""

from __future__ import annotations

import json

import pytest

from talim.cli import main


@pytest.mark.parametrize("budget", ["9" * 30, "9" * 5000, "9" * 14 + "M", "nan", "inf", "-5M", "width64", "101%"])
def test_designs_refuses_a_budget_that_cannot_be_read(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["designs", "--base", "nano-musicgen", f"--budget={budget}"])
    assert "this is a bug" not in (said := capsys.readouterr().err)
    assert "cannot be read" in said


@pytest.mark.parametrize("design", ["linear@all:width9999999", "lora@all:r" + "9" * 40, "linear@layers[99999999]:2%"])
def test_designs_refuses_designs_with_enormous_numbers(design: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["designs", "--base", "nano-musicgen", "--design", design])
    assert "this is a bug" not in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "1e30"])
def test_designs_refuses_a_crop_that_cannot_be(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["designs", "--base", "nano-musicgen", "--clip-seconds", seconds])
    assert "at most 600 s" in capsys.readouterr().err


def test_designs_of_a_base_with_a_name_of_300_letters_fails_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        main(["designs", "--base", "x" * 300])
    assert "this is a bug" not in capsys.readouterr().err


def test_designs_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["designs", "--base", "nano-musicgen", "--design", "linear@all:2.5%", "--json"])
    (row,) = json.loads(capsys.readouterr().out)["designs"]
    assert (row["design"], row["kind"], row["site"]) == ("linear@all:2.5%", "linear", "all")
