"""Candidates: made by a real (tiny) model, kept, gone on with, made anew where the brief changed; to the export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from fixtures.brief_folder import brief_of, decide, write_candidates
from fixtures.japanese_block import foreign_words
from fixtures.run_folder import make_run

from talim import audio
from talim.atomic_io import read_json, read_jsonl, write_json, write_jsonl
from talim.backbones import readable_text
from talim.briefs import acceptance, candidates, report
from talim.briefs import brief as briefs_brief
from talim.briefs.review_session import open_brief
from talim.cli import main
from talim.errors import TalimError, UsageError
from talim.evaluation.copy_scores import READING
from talim.progress import Progress
from talim.run import Run

BRIEF = {
    "name": "jingle",
    "seconds": 1,
    "loop": True,
    "loudness_lufs": -30,
    "prompt": "slow glide",
    "candidates": 2,
    "minimum_seconds": 0,
    "prices": {"machine_hour": 1.5},
    "decision_rule": {"acceptance_at_least": 0.01},
}


def write_brief(folder: Path, **changes: object) -> Path:
    path = folder / "jingle.yaml"
    path.write_text(yaml.safe_dump(BRIEF | changes), encoding="utf-8")
    return path


def talim(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    result = capsys.readouterr()
    return int(done.value.code or 0), result.out or result.err


def test_brief_commands_from_yaml_to_export(tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = write_brief(tmp_path), tmp_path / "jingle"
    asked = ("brief", file, "--out", out)
    status, result = talim(capsys, *asked, "--run", tiny_run, "--no-serve", "--invites", 1, "--json")
    assert status == 0
    assert json.loads(result)["candidates"] == 2
    assert json.loads(result)["links"][0].startswith("http://127.0.0.1:8766/#")
    piece = audio.read(out / "candidates" / "linear-001.flac")
    assert piece.seconds == 1.0
    assert audio.loudness_lufs(piece) == pytest.approx(-30, abs=0.2)
    status, result = talim(capsys, "brief", "report", *asked[1:])
    assert status == 1
    assert result.startswith(f"talim: {out}: no reviews yet. To be reviewed: 2 candidates, ")

    opened = open_brief(out, briefs_brief.load(file))
    decide(opened, {"linear-001": "accept"})
    status, result = talim(capsys, "brief", "report", *asked[1:])
    assert status == 0
    assert "1 of 2 accepted" in result
    assert "EUR" in result
    page = (out / "usefulness" / "index.html").read_text(encoding="utf-8")
    assert "Per accepted minute" in page
    whole = (out / "candidates.jsonl").read_bytes()
    write_brief(tmp_path, prompt="another tune")
    status, result = talim(capsys, *asked, "--run", tiny_run, "--no-serve")
    assert (status, "reviewed and are frozen" in result) == (1, True)
    assert (out / "candidates.jsonl").read_bytes() == whole
    write_brief(tmp_path)
    status, result = talim(capsys, *asked, "--no-serve")  # again, without a run: what is there
    assert (status, f"--out {out} --invites 2 serves the review; links open while it runs" in result) == (0, True)
    status, result = talim(capsys, "brief", "export", *asked[1:], "--to", tmp_path / "sold", "--commercial")
    assert status == 1  # the tiny base says that it is non-commercial
    assert "not cleared, because of base " in result
    status, result = talim(capsys, "brief", "export", *asked[1:], "--to", tmp_path / "given")
    assert status == 0
    tags = audio.read_tags(Path(result.strip()))
    assert tags["candidate"] == "linear-001"
    assert tags["adapter_design"] == "linear@all:10%"


@pytest.mark.slow
def test_brief_export_commercial_of_builtin_base_is_allowed(
    tmp_path: Path, corpus_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The miniature and recordings under CC0: from the YAML to a commercial export, with the cost on the page."""
    from talim import recipe as recipes
    from talim.training.train import train

    values = {"base": "nano-musicgen", "corpus": str(corpus_folder), "design": "linear@all:1%"}
    train(recipes.load((), values | {"training.steps": 2, "training.batch_size": 1}), tmp_path / "run")
    file, out = write_brief(tmp_path, seconds=3, loop=False, prompt="slow flute"), tmp_path / "jingle"
    asked = ("brief", file, "--out", out)
    assert talim(capsys, *asked, "--run", tmp_path / "run", "--no-serve")[0] == 0
    decide(open_brief(out, briefs_brief.load(file)), {"run-001": "accept", "run-002": "accept"})
    assert talim(capsys, "brief", "report", *asked[1:])[0] == 0
    measured = read_json(out / "usefulness.json")["contenders"][0]
    cost = measured["cost_per_accepted_minute"]["value"]
    spent = measured["hours"]["training"] + measured["hours"]["generation"]
    assert cost == pytest.approx(spent * 1.5 / (2 * 3 / 60))  # two pieces of three seconds, 1.5 an hour
    assert f"{cost:,.2f} EUR" in (out / "usefulness" / "index.html").read_text(encoding="utf-8")
    status, result = talim(capsys, "brief", "export", *asked[1:], "--to", tmp_path / "sold", "--commercial")
    assert status == 0
    tags = [audio.read_tags(Path(line)) for line in result.split()]
    assert [tag["use"] for tag in tags] == ["commercial", "commercial"]
    assert {tag["base"] for tag in tags} == {"nano-musicgen"}


@pytest.mark.parametrize("spent", [None, {"seconds": 1000.0}])
def test_cost_of_a_run_counts_its_evaluation_and_the_rest_of_its_proof_of_concept(
    tmp_path: Path, spent: dict[str, float] | None
) -> None:
    run = Run(make_run(tmp_path / "poc" / "linear", seconds=0))
    write_json(tmp_path / "poc" / "stages.json", {"spent": spent})
    assert candidates._run_facts(run, None)["cost"]["evaluation_seconds"] is None
    write_json(run.evaluation_time, {"seconds": 76.0})
    cost = candidates._run_facts(run, None)["cost"]
    assert (cost["wall_seconds"], cost["evaluation_seconds"]) == (224.0, 76.0)
    assert cost["rest_seconds"] == (spent and 700.0)
    brief = briefs_brief.load(write_brief(tmp_path))
    row = {"id": "a-1", "contender": "a", "number": 1, "generation_seconds": 1.0, "checks": []}
    measured = acceptance.measure_contender([row], [], {"cost": cost}, brief)
    told = report._hours(measured, "en")
    rest = ", the rest of its proof of concept 12 min" if spent else ""
    assert told == f"a: training 3 min 44 s, evaluation 76 s{rest}, generation 0 s, review 0 s."
    assert foreign_words(report._hours(measured, "ja"), ["a："]) == []


def test_generate_candidates_keeps_existing_and_regenerates_after_change(tmp_path: Path, tiny_run: Path) -> None:
    brief = briefs_brief.load(write_brief(tmp_path, loop=False))
    first = candidates.generate_candidates(brief, [tiny_run], tmp_path / "out")
    table = tmp_path / "out" / "candidates.jsonl"
    whole = table.read_bytes()
    assert candidates.generate_candidates(brief, [tiny_run], tmp_path / "out") == first
    assert table.read_bytes() == whole
    (tmp_path / "out" / first[0]["file"]).write_bytes(b"torn")  # as after a crash, or a hand that slipped
    table.write_bytes(whole + b'{"id": "linear-0')
    again = candidates.generate_candidates(brief, [tiny_run], tmp_path / "out")
    assert [row["sha256"] for row in again] == [row["sha256"] for row in first]
    assert again[1]["generation_seconds"] == first[1]["generation_seconds"]
    assert len(read_jsonl(table)) == 2
    quieter = briefs_brief.load(write_brief(tmp_path, loop=False, loudness_lufs=-33))
    changed = candidates.generate_candidates(quieter, [tiny_run], tmp_path / "out")
    assert {row["sha256"] for row in changed}.isdisjoint(row["sha256"] for row in first)


def test_generate_candidates_tells_once_which_words_the_base_cannot_read(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    steps: list[str] = []
    monkeypatch.setattr(readable_text, "reading_notes", lambda base, texts, what: [f"unknown of {what}: {texts[0]}"])

    class Lines(Progress):
        def log(self, text: str) -> None:
            said.append(text)

        def step(self, title: str, done: int, total: int, facts: str = "") -> None:
            steps.append(f"{title} {done}/{total}")

    other = tmp_path / "other"
    shutil.copytree(tiny_run, other)
    brief = briefs_brief.load(write_brief(tmp_path, prompt="静かな朝 flute", candidates=1))
    candidates.generate_candidates(brief, [tiny_run, other], tmp_path / "out", Lines())
    assert len([line for line in said if " of the prompt: 静かな朝" in line]) == 1, said
    for name in ("linear", "other"):  # and what it is busy with, from the beginning
        assert any(line.startswith(f"{name}: reads its training clips, generates 1 candidate") for line in said), said
        assert steps.count(f"checking candidates of {name} 1/1") == 1, steps
    assert steps[0].startswith(READING)


def test_candidate_key_ignores_rule_and_title(tmp_path: Path, tiny_run: Path) -> None:
    design = candidates.list_contenders([tiny_run])[0]
    a_value, second = (
        briefs_brief.load(write_brief(tmp_path, **changes))
        for changes in ({}, {"decision_rule": {}, "title": {"en": "x"}})
    )
    assert candidates.candidate_key(a_value, design, 0) == candidates.candidate_key(second, design, 0)
    assert candidates.candidate_key(a_value, design, 0) != candidates.candidate_key(a_value, design, 1)


def test_generate_candidates_invalid_runs_raise_before_writing(tmp_path: Path, tiny_run: Path) -> None:
    brief = briefs_brief.load(write_brief(tmp_path))
    with pytest.raises(UsageError, match="--run RUN"):
        candidates.generate_candidates(brief, [], tmp_path / "out")
    with pytest.raises(UsageError, match="twice"):
        candidates.generate_candidates(brief, [tiny_run, tiny_run], tmp_path / "out")
    with pytest.raises(TalimError, match="no such folder"):
        candidates.generate_candidates(brief, [tmp_path / "nothing"], tmp_path / "out")
    unfinished = shutil.copytree(tiny_run, tmp_path / "unfinished")
    (unfinished / "cost.json").unlink()
    with pytest.raises(TalimError, match="no finished run"):
        candidates.generate_candidates(brief, [unfinished], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_proof_of_concept_contends_with_its_chosen_design(tmp_path: Path, tiny_run: Path) -> None:
    poc = tmp_path / "my-poc"
    shutil.copytree(tiny_run, poc / "linear-all")
    (poc / "stages.json").write_text('{"chosen": {"run": "linear-all", "design": "linear@all:2.5%"}}')
    (found,) = candidates.list_contenders([poc])
    assert (found.name, found.run.folder) == ("linear-all", poc / "linear-all")
    with pytest.raises(UsageError, match="twice"):
        candidates.list_contenders([poc, poc / "linear-all"])


def test_brief_without_runs_and_candidates_exits_2_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = talim(capsys, "brief", write_brief(tmp_path), "--out", tmp_path / "out")
    assert status == 2
    assert "--run RUN" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "changes", [{"id": 3}, {"contender": None}, {"number": "1"}, {"tags": []}, {"checks": "x"}, {"file": {}}]
)
def test_read_candidates_of_a_changed_row_names_key_and_row(tmp_path: Path, changes: dict[str, object]) -> None:
    write_candidates(tmp_path, brief_of())
    rows = candidates.read_candidates(tmp_path)
    write_jsonl(tmp_path / "candidates.jsonl", [*rows[:2], rows[2] | changes])
    (key,) = changes
    with pytest.raises(TalimError, match=rf"candidates\.jsonl: row 3: {key} is missing or not as talim wrote it; copy"):
        candidates.read_candidates(tmp_path)
