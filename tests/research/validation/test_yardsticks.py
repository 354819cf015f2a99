"""The table of yardsticks: complete, runnable, and loud about what is skipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from research.validation import yardsticks

VALIDATION = yardsticks.ROOT / "research" / "validation"


def test_every_yardstick_is_a_command_that_knows_its_options_and_sources() -> None:
    for yardstick in yardsticks.YARDSTICKS:
        source = (VALIDATION / f"{yardstick.module}.py").read_text(encoding="utf-8")
        assert 'if __name__ == "__main__":' in source
        for option in [word for word in yardstick.arguments if word.startswith("--")]:
            assert f'"{option}"' in source, f"{yardstick.module} has no option {option}"
        assert yardstick.needed()
        assert set(yardstick.needed()) <= set(yardsticks.SOURCES)
    used = {name for yardstick in yardsticks.YARDSTICKS for name in yardstick.needed()}
    assert used == set(yardsticks.SOURCES)


def test_every_command_that_names_a_foreign_repository_is_in_the_table() -> None:
    """A new yardstick that is not in the table would never run."""
    repositories = [source.removeprefix("github: ").partition(",")[0] for source in yardsticks.SOURCES.values()]
    foreign = {
        file.stem
        for file in VALIDATION.glob("*.py")
        if file.stem != "yardsticks"
        and "def main(" in (text := file.read_text(encoding="utf-8"))
        and any(repository in text for repository in repositories if "/" in repository)
    }
    assert foreign <= {yardstick.module for yardstick in yardsticks.YARDSTICKS}


def test_main_runs_what_has_data_and_names_what_is_skipped_with_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SymbTr", "mirdata", "otmm_makam_recognition_dataset"):
        (tmp_path / name).mkdir()
    ran: list[list[str]] = []

    def run(command: list[str]) -> int:
        ran.append(command)
        return int("mirdata" in command[2])

    with pytest.raises(SystemExit) as ended:
        yardsticks.main([str(tmp_path)], run)
    assert ended.value.code == 1
    assert [command[2].rpartition(".")[2] for command in ran] == ["makam_scores", "mirdata_loaders"]
    assert ran[0][-1] == str(tmp_path / "SymbTr" / "txt")
    assert ran[1][-1] == str(tmp_path)
    printed = capsys.readouterr().out
    assert "makam_folds: SKIPPED" in printed
    assert "(github: sertansenturk/makam_recognition_experiments)" in printed
    assert "mirdata_loaders: FAILED" in printed
    assert printed.endswith(f"1 passed, 1 failed, {len(yardsticks.YARDSTICKS) - 2} skipped\n")


@pytest.mark.parametrize("data", ["", "/no/such/folder"])
def test_main_without_a_folder_says_what_to_type(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        yardsticks.main([data])
    assert ended.value.code == 2
    assert "make yardsticks DATA=DIR" in capsys.readouterr().err


def test_main_of_an_empty_folder_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        yardsticks.main([str(tmp_path)])
    assert ended.value.code == 1


def test_every_option_that_a_command_requires_is_given() -> None:
    for yardstick in yardsticks.YARDSTICKS:
        source = (VALIDATION / f"{yardstick.module}.py").read_text(encoding="utf-8")
        required = re.findall(r'add_argument\("(--[\w-]+)"[^\n]*required=True', source)
        named = re.findall(r'parser\.error\("(--[\w-]+) is needed', source)
        assert {*required, *named} <= set(yardstick.arguments), yardstick.module
