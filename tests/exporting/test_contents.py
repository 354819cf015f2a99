"""Tests of talim.exporting.contents: names instead of paths, checksums, what is taken of a card."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from talim.atomic_io import FileTakenError, read_json, write_json
from talim.errors import TalimError
from talim.exporting import contents
from talim.run import Run


def test_provenance_holds_recipe_and_training_without_paths_and_commands(
    finished_run: Run, corpus_folder: Path
) -> None:
    exported = contents.finished_run(finished_run.folder)
    text = exported.provenance().decode()
    facts = json.loads(text)
    assert (facts["recipe"]["corpus"], facts["recipe"]["base"]) == (corpus_folder.name, "./base/tiny")
    assert facts["adapter"]["sha256"] == exported.info["sha256"]
    assert len(facts["run"]["trained_on"]["attributions"]) == len(facts["run"]["trained_on"]["recordings"])
    assert facts["run"]["kept_out"] == {"recordings": 3}
    assert "corpus" not in facts["run"]  # it names recordings that were kept out
    assert "command" not in facts["run"]["provenance"]
    assert str(corpus_folder) not in text
    assert exported.provenance() == contents.finished_run(finished_run.folder).provenance()


def test_paths_of_a_run_become_names_wherever_they_stand(finished_run: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "my run"))
    where = str(run.folder.resolve())
    write_json(run.scores, {"a": [{"clip": f"{where}/samples/01-after.flac", "command": where}], "n": 1.5, "t": True})
    assert json.loads(contents.finished_run(run.folder).json_file(run.scores)) == {
        "a": [{"clip": "my run/samples/01-after.flac"}],
        "n": 1.5,
        "t": True,
    }


def test_code_of_a_kind_of_ones_own_is_told(finished_run: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    config = read_json(run.adapter / "adapter_config.json")
    config["blocks"][0]["kind"] = "gamelan"
    write_json(run.adapter / "adapter_config.json", config)
    exported = contents.ExportedRun(run)
    assert contents.adapter_files(exported)[1] == [
        "the code of the kind gamelan: whoever loads the adapter has to register it first"
    ]
    assert contents.adapter_files(contents.ExportedRun(finished_run))[1] == []


def test_write_folder_is_whole_with_checksums_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(b"two")
    contents.write_folder(tmp_path / "out", {"a.txt": b"one", "in/b.bin": tmp_path / "b.bin"})
    lines = (tmp_path / "out" / contents.CHECKSUMS).read_text().splitlines()
    digests = [hashlib.sha256(data).hexdigest() for data in (b"one", b"two")]
    assert lines == [f"{digests[0]}  a.txt", f"{digests[1]}  in/b.bin"]

    def taken_meanwhile(_: Path) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "file").write_text("of somebody else")

    with pytest.raises(FileTakenError, match="is not overwritten"):
        contents.write_folder(tmp_path / "new", {"a.txt": b"one"}, taken_meanwhile)
    assert (tmp_path / "new" / "file").read_text() == "of somebody else"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.bin", "new", "out"]


def test_listing_has_a_line_per_file_and_the_sum() -> None:
    assert contents.listing({"b": b"x" * 1500, "a.txt": b"xx"}) == [
        "  a.txt  2 bytes",
        "  b      1.5 kB",
        "  2 files, 1.5 kB",
    ]


@pytest.mark.parametrize(
    ("card", "header", "body"),
    [
        ("---\nlicense: mit\n---\n# A\n---\nb\n", {"license": "mit"}, "# A\n---\nb\n"),
        ("# A\n", {}, "# A\n"),
        ("---\na: [\n---\nb\n", {}, "b\n"),
        ("---\n- a\n---\nb\n", {}, "b\n"),
        ("", {}, ""),
    ],
)
def test_split_card_takes_the_header_off(card: str, header: dict[str, str], body: str) -> None:
    assert contents.split_card(card) == (header, body)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused_by_the_name_of_its_file(
    finished_run: Run, tmp_path: Path, number: str
) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    run.cost.write_text(run.cost.read_text("utf-8").replace('"steps": 9', f'"steps": {number}'), encoding="utf-8")
    exported = contents.finished_run(run.folder)
    with pytest.raises(TalimError, match=r"cost\.json: holds NaN or an infinite number"):
        exported.json_file(run.cost)
    with pytest.raises(TalimError, match="run: holds NaN or an infinite number"):
        exported.provenance()


@pytest.mark.parametrize("base", ["x", None, [], 3])
def test_base_licence_of_a_damaged_record_is_unknown(finished_run: Run, tmp_path: Path, base: object) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    write_json(run.facts_file, read_json(run.facts_file) | {"base": base})
    assert contents.ExportedRun(run).base_licence == "unknown"
