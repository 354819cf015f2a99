"""`talim study`: a dry run notices what is missing, and numbers of workers are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.cli.main import main
from talim.errors import UsageError
from talim.experiments import runner

STUDY = """
corpora: {{music: {{{source}}}}}
grids: {{all: {{bases: [nano-musicgen], designs: ["{design}"], corpora: [music], seeds: [0]}}}}
"""


def write_study(folder: Path, source: str, design: str = "linear@all:2.7%") -> Path:
    file = folder / "study.yaml"
    file.write_text(STUDY.format(source=source, design=design))
    return file


def test_study_problems_names_missing_corpora_and_impossible_designs(tmp_path: Path, corpus_folder: Path) -> None:
    (missing,) = runner.study_problems(write_study(tmp_path, "corpus: nowhere"))
    assert "corpora.music" in missing
    assert "talim prepare" in missing
    (folder,) = runner.study_problems(write_study(tmp_path, "recordings: nowhere"))
    assert "no such folder of recordings" in folder
    present = f"corpus: {corpus_folder}"
    assert runner.study_problems(write_study(tmp_path, present)) == []
    for design in ("linear@mid:2.7%", "linear@layers[90-91]:2.7%", "conv@all:1"):
        (problem,) = runner.study_problems(write_study(tmp_path, present, design))
        assert problem.startswith(design)


@pytest.mark.parametrize("count", [-1, 2147483648, 10**30])
def test_executor_for_absurd_numbers_of_workers_raises(count: int) -> None:
    from talim.progress import Progress

    with pytest.raises(UsageError, match="--num-workers"):
        runner.executor_for(count, None, "auto", Path(), Progress())


def test_study_with_too_many_workers_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["study", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "o"), "--num-workers", "2147483648"]
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(arguments))
    assert ended.value.code == 2
    assert "--num-workers" in capsys.readouterr().err
