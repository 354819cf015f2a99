"""Tests of talim.exporting.rights: whose rights stand against publishing, from run.json or the corpus."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from talim.atomic_io import read_json, write_json
from talim.corpus.attribution import attributions
from talim.corpus.manifest import Corpus
from talim.exporting import rights
from talim.exporting.contents import ExportedRun
from talim.run import Run


def changed(finished_run: Run, folder: Path, **facts: object) -> ExportedRun:
    run = Run(shutil.copytree(finished_run.folder, folder / f"run-{len(list(folder.iterdir()))}"))
    write_json(run.facts_file, read_json(run.facts_file) | facts)
    return ExportedRun(run)


def test_training_recordings_are_those_that_run_json_names(finished_run: Run, tmp_path: Path) -> None:
    rows = rights.training_recordings(ExportedRun(finished_run))
    corpus = Corpus.load(finished_run.recipe.corpus)
    assert rows == attributions(corpus.train)
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert rights.training_recordings(changed(finished_run, tmp_path, trained_on={"recordings": []})) == []


def test_objections_name_an_adapter_that_training_began_from(finished_run: Run, tmp_path: Path) -> None:
    assert rights.objections(ExportedRun(finished_run)) == []
    start = {"name": "someone/lora", "licence": "unknown"}
    assert rights.objections(changed(finished_run, tmp_path, init_from=start)) == [
        "the adapter that training began from, someone/lora: its licence is unknown"
    ]


def test_objections_where_nothing_is_known_of_the_recordings(finished_run: Run, tmp_path: Path) -> None:
    bare = changed(finished_run, tmp_path, trained_on=None)
    assert rights.objections(bare) == [
        "the recordings: run.json does not name those that it was trained on, nor their licences"
    ]


@pytest.mark.parametrize(
    ("consent", "refused"),
    [
        *[(text, False) for text in ("given", "unknown", "", "not needed: no person performs", "yes", "notarised")],
        *[(text, True) for text in ("no", "None", "Refused by the family", "withdrawn in May", "not given", "hayır")],
    ],
)
def test_objections_to_a_consent_that_was_refused(
    finished_run: Run, tmp_path: Path, consent: str, refused: bool
) -> None:
    known = read_json(finished_run.facts_file)["trained_on"]
    known["attributions"][0]["consent"] = consent
    assert bool(rights.objections(changed(finished_run, tmp_path, trained_on=known))) is refused
