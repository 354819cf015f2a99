"""Designs side by side: the same prompt in each, what is missing said, and what a search for copies found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fixtures.planted_study import SMALL, lines, write
from fixtures.run_folder import PROMPTS, make_run

from talim.study import study_sounds
from talim.study.trials import Study, read

PLAN = replace(SMALL, designs=("linear@all:2.7%", "conv@all:2.7%", "full@all"), seeds=1)


def with_runs(folder: Path) -> Study:
    found = lines(PLAN)
    for line in found:
        if line["corpus"] == "makam-solo":
            make_run(folder / line["run"], seconds=0.4)
    return read(write(folder, found))


def test_the_same_prompt_in_each(tmp_path: Path) -> None:
    study = with_runs(tmp_path)
    runs = study_sounds.runs_of(study)
    assert len(runs) == 3
    [shown] = study_sounds.side_by_side(study, runs, ["conv@all:2.7%"])
    assert (shown.corpus, shown.prompt) == ("makam-solo", PROMPTS[0])
    titles = [card.title for card in shown.cards]
    assert titles == ["Real", "nano-musicgen alone", "conv@all:2.7%", "linear@all:2.7%", "full@all"]
    assert all(card.player for card in shown.cards)


def test_a_sound_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    study = with_runs(tmp_path)
    row = next(row for row in study.rows if row.corpus == "makam-solo" and row.design == "full@all")
    (tmp_path / row.run / "samples" / "after-0.flac").unlink()
    [shown] = study_sounds.side_by_side(study, study_sounds.runs_of(study), [])
    assert "no such file" in shown.cards[-1].problem


def test_without_runs_there_is_nothing_to_hear(tmp_path: Path) -> None:
    study = read(write(tmp_path, lines(PLAN)))
    assert study_sounds.runs_of(study) == {}
    assert study_sounds.side_by_side(study, {}, []) == []
