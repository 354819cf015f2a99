"""What pages say: suggestions with their probability, a corpus, a plan, a training that goes on."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from fixtures.app_command import running_command
from fixtures.run_folder import SUMMARY, log_rows, make_run

from talim.app.jobs import JobRunner
from talim.app.pages import MAX_POINTS, PageReader
from talim.app.workspace import Workspace
from talim.generation.generate import in_seconds
from talim.progress import PlainProgress

PLANNED: dict[str, Any] = {
    "base": "nano-musicgen", "hardware": "this CPU", "hardware_note": "timed", "memory_limit_bytes": 8e9, "steps": 120,
    "designs": [
        {"design": "full@all", "parameters": 7_800_000, "parameter_fraction": 1.0, "memory_bytes": 9e9, "hours": 2.0,
         "energy_joules": None, "money": None, "fits": False},
        {"design": "linear@all:2.7%", "parameters": 210_000, "parameter_fraction": 0.027, "memory_bytes": 1e9,
         "hours": 0.05, "energy_joules": 36_000.0, "money": 0.5, "fits": True},
    ],
}  # fmt: skip


@pytest.fixture
def reader(work: Workspace) -> PageReader:
    return PageReader(work, JobRunner(work.folder, work.own), "ja")


def test_recordings_have_suggestions_with_their_probability(reader: PageReader, work: Workspace) -> None:
    for name in ("a.wav", "b.wav"):
        (work.recordings / name).touch()
    columns = ("tradition", "raga", "mode_probability", "other_modes", "tempo_bpm")
    header = ",".join(["file_name", *(f"suggested_{column}" for column in columns)])
    rows = "a.wav,hindustani,Yaman,0.74,Megh 7%,92\nb.wav,,Bhoopali or Deshkar,0.61,Megh 7%,\n"
    (work.folder / "suggested-1.csv").write_text(f"{header}\n{rows}")
    page = reader.read("recordings")
    assert page["columns"] == ["text", "instruments", "performer", "licence", "tradition", "raga", "tempo_bpm"]
    row = page["rows"][0]
    assert row["cells"] == {}  # nothing is used before it is taken
    assert row["suggested"] == {
        "tradition": {"values": ["hindustani"], "percent": None},
        "raga": {"values": ["Yaman"], "percent": 74},
        "tempo_bpm": {"values": ["92"], "percent": None},
    }
    assert page["rows"][1]["suggested"] == {"raga": {"values": ["Bhoopali", "Deshkar"], "percent": 61}}


def test_recordings_say_what_was_read_left_out_and_leaks(reader: PageReader, work: Workspace) -> None:
    work.corpus.mkdir()
    sides = {side: {"clips": 3, "seconds": 30.0} for side in ("train", "validation", "held_out")}
    split = {**sides, "explanation": "By recording.", "leakage": {"performer": 0.25, "work": 0.0}}
    summary = {
        **SUMMARY,
        "split": split,
        "notes": [{"file": "a.wav", "note": "odd"}],
        "missing_captions": {"recordings": 2},
        "skipped": [*SUMMARY["skipped"], {"file": "b.wav", "reason": "the same sound as a.wav"}],
    }
    (work.corpus / "summary.json").write_text(json.dumps(summary))
    corpus = reader.read("recordings")["corpus"]
    assert corpus["split"][0] == {"side": "train", "clips": 3, "length": "30秒"}
    assert corpus["leaks"] == {"performer": "25\u202f%"}
    assert corpus["skipped"] == [
        {"file": "notes.wav", "reason": "not audio: it begins with text", "lang": "en"},
        {"file": "b.wav", "reason": "a.wav と同じ音", "lang": "ja"},
    ]
    assert corpus["without_caption"] == 2
    assert not corpus["changed"]


def test_plan_shows_what_fits(reader: PageReader, work: Workspace) -> None:
    (work.own / "plan.out").write_text(json.dumps(PLANNED))
    full, linear = reader.read("plan")["plan"]["rows"]
    assert (full["asked"], full["fits"], full["time"], full["energy"]) == (False, False, "2時間", "")
    assert (linear["asked"], linear["fits"], linear["energy"], linear["money"]) == (True, True, "10 Wh", "0.50")
    planned = reader.read("plan")["plan"]
    assert planned["hardware"] == ""  # this computer, by the name that the page has for it
    assert planned["rates"] == {"matrix": "50\u202f%", "memory": "70\u202f%"}
    assert planned["energy_known"]
    rows = [row | {"energy_joules": None} for row in PLANNED["designs"]]
    (work.own / "plan.out").write_text(json.dumps(PLANNED | {"hardware": "rtx-3060", "designs": rows}))
    planned = reader.read("plan")["plan"]
    assert (planned["hardware"], planned["energy_known"]) == ("rtx-3060", False)
    (work.own / "plan.out").write_text("talim: it failed")
    assert reader.read("plan")["plan"] is None


def test_decide_has_the_result_of_a_brief_in_japanese_where_it_is_there(reader: PageReader, work: Workspace) -> None:
    for number, japanese in ((1, {"sentences_translated": {"ja": ["4件中3件"]}}), (2, {})):  # of an earlier version
        (work.folder / f"brief-{number}").mkdir()
        useful = {"sentences": ["3 of 4 accepted"], **japanese}
        (work.folder / f"brief-{number}" / "usefulness.json").write_text(json.dumps(useful))
        found = reader._brief()
        assert found
        assert found["sentences"] == [
            {"text": "4件中3件", "lang": "ja"} if japanese else {"text": "3 of 4 accepted", "lang": "en"}
        ]


def test_listen_has_the_open_pages_of_listeners_and_what_they_said(reader: PageReader, work: Workspace) -> None:
    run = make_run(work.folder / "run-1", seconds=0.5)
    assert reader.read("listen")["test"] == {"links": [], "sentences": [], "page": ""}
    serving = ["listen", "serve", "run-1", "--invites", "2", "--port", "0"]
    with running_command(work, "listening-test", serving):
        printed = "Organiser: http://a/organiser#x\nListener: http://a/#one\nListener: http://a/#two\n"
        (work.own / "listening-test.out").write_text(printed)
        assert reader.read("listen")["test"]["links"] == ["http://a/#one", "http://a/#two"]
    assert reader.read("listen")["test"]["links"] == []  # they are closed
    (run / "listening" / "ratings").mkdir(parents=True)
    (run / "listening" / "ratings" / "index.html").touch()
    said = {"verdict": "a leads.", "sentences_translated": {"ja": ["aが最も好まれました。"]}}
    (run / "listening" / "ratings.json").write_text(json.dumps(said))
    test = reader.read("listen")["test"]
    assert test["sentences"] == [{"text": "aが最も好まれました。", "lang": "ja"}]
    assert test["page"].endswith("/run-1/listening/ratings/index.html")


def test_train_of_a_run_that_goes_on_has_curve_references_and_time_left(reader: PageReader, work: Workspace) -> None:
    rows = [{**row, "seconds": row["step"] / 2} for row in log_rows() if row["step"] <= 240]
    rows[0]["references"] = {"uniform": 6.9, "unigram": 3.5}
    make_run(work.folder / "run-1", seconds=0, cost=None, scores=None, log={"rows": rows})
    run = reader.read("train")["run"]
    assert (run["finished"], run["done"], run["asked"]) == (False, 240, 300)
    assert (run["taken"], run["left"]) == ("2分", "30秒")
    assert run["references"] == [
        {"name": "一様な推測", "loss": 6.9},
        {"name": "それぞれの音の出現頻度による予測", "loss": 3.5},
    ]
    assert run["validation"][0][0] == 0
    assert len(run["train"]) <= 2 * MAX_POINTS
    assert reader.read("listen")["run"] is None
    assert reader.read("make")["run"] is None


# Make


def under_way(reader: PageReader) -> Any:
    return reader.read("make")["under_way"]


def test_make_shows_the_piece_that_is_written_with_its_progress(reader: PageReader, work: Workspace) -> None:
    (old := work.folder / ".music-1.flac.00000000.part").write_bytes(b"left by a kill")
    os.utime(old, (1e9, 1e9))
    with running_command(work, "make", ["generate", "--out", "music-1.flac"]):
        assert under_way(reader) == {"running": True, "name": "", "audio": "", "progress": None}
        (part := work.folder / ".music-1.flac.0123abcd.part").touch()
        assert under_way(reader)["name"] == ""  # nothing of it is there
        part.write_bytes(b"sound")
        with (work.own / "make.log").open("w") as log:  # in the words of `talim generate`
            in_seconds(PlainProgress(log, every_seconds=0.0), "generating audio, seconds", 60.0)(1, 2)
        found = under_way(reader)
        assert (found["running"], found["name"]) == (True, "music-1.flac")
        assert found["audio"].endswith("/music-1.flac?begun=0123abcd")
        assert found["progress"] == {"done": "30", "asked": "60", "speed": found["progress"]["speed"]}
        assert float(found["progress"]["speed"]) > 0
    part.unlink()  # it was stopped
    assert under_way(reader)["name"] == "music-1.flac"  # what the other command left
    old.rename(work.folder / "music-1.flac")
    assert under_way(reader) is None
    assert [piece["name"] for piece in reader.read("make")["pieces"]] == ["music-1.flac"]


def test_make_of_several_pieces_shows_those_that_are_there_and_the_next(reader: PageReader, work: Workspace) -> None:
    (folder := work.folder / "music-1").mkdir()
    with running_command(work, "make", ["generate", "--num-samples", "3", "--out", "music-1"]):
        for name in ("0001.flac", ".0002.flac.0123abcd.part", ".manifest.jsonl.0123abcd.part"):
            (folder / name).write_bytes(b"sound")
        page = reader.read("make")
    assert [piece["name"] for piece in page["pieces"]] == ["music-1/0001.flac"]
    assert page["under_way"]["name"] == "music-1/0002.flac"
