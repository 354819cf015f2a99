"""The report of a proof of concept: gates, current answers of people, escaped text."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import fake_runs, short_options

from talim.atomic_io import read_json, write_json
from talim.errors import TalimError
from talim.poc import report_section
from talim.poc.pipeline import poc


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, short_takes: Path) -> Path:
    """A finished pipeline (read only by agreement)."""
    out = tmp_path_factory.mktemp("poc") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake_runs(monkeypatch, lambda recipe: 0.3)
        poc(short_takes, out, short_options())
    return out


@pytest.fixture
def finished(tmp_path: Path, pipeline: Path) -> Path:
    return shutil.copytree(pipeline, tmp_path / "out")


def test_report_section_without_stages_is_none(tmp_path: Path) -> None:
    assert report_section.report_section(tmp_path) is None


def test_write_report_uses_reviews_made_after_the_pipeline(finished: Path) -> None:
    text = report_section.write_report(finished).read_text(encoding="utf-8")
    assert "Contribution to the task: not decided" in text
    write_json(finished / "brief" / "usefulness.json", {"answer": "go", "sentences": ["3 of 4 accepted"]})
    text = report_section.write_report(finished).read_text(encoding="utf-8")
    assert "Contribution to the task: met" in text
    assert "3 of 4 accepted" in text


def test_report_section_has_gates_and_ratios(finished: Path) -> None:
    found: Any = report_section.report_section(finished)
    titles = ["Feasibility (memory and time)", "Learning (loss)", "Contribution to the task"]
    assert [stage["title"] for stage in found["stages"]] == titles
    assert all(stage["gate"]["reason"] for stage in found["stages"])
    assert found["designs"][0]["ratios"] == {"memory": "50\u202f%", "flops": "70\u202f%", "disk": "1.0\u202f%"}
    assert set(found["reduction_plots"]) == {"broad", "narrow"}
    assert found["curve_plots"] == {}


def test_write_report_of_a_stopped_one_says_once_how_to_hold_out_more(finished: Path) -> None:
    advice, decided = "6 or more can be held out", read_json(finished / "stages.json")
    scores = finished / decided["chosen"]["run"] / "scores.json"
    row = {"name": "pitched_fraction", "direction": "match_reference", "value": 0.2, "baseline": 0.9, "reference": 0.95}
    split = {"held_out": {"recordings": 2}}
    write_json(scores, read_json(scores) | {"scores": [row], "split": split, "corpus": {"recordings": 9}})
    page = report_section.write_report(finished).read_text(encoding="utf-8")
    assert page.count(advice) == 1
    stopped = f"Stopped here because of one; next: add recordings, so that {advice}."
    decided["stages"][1] |= {"stopped": stopped, "stopped_translated": {"ja": "ここで止まりました。"}}
    write_json(finished / "stages.json", decided)
    page = report_section.write_report(finished).read_text(encoding="utf-8")
    assert page.count(advice) == 1
    assert "6 held-out recordings or more are needed, and the corpus has 2." in page


def test_report_section_commands_run_from_where_the_folder_is_now(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = finished.rename(tmp_path / "my moved poc")
    monkeypatch.chdir(tmp_path)
    found: Any = report_section.report_section(Path("my moved poc"))
    assert found["commands"][0] == f"talim listen '{moved}' --invites 12"
    run = Path(shlex.split(found["commands"][2])[4])
    assert run.is_dir()


def test_write_report_tells_the_price_and_how_to_make_music(finished: Path) -> None:
    decided = read_json(finished / "stages.json")
    spent = decided["spent"]
    assert spent["seconds"] >= spent["training"] == 10.0 * spent["designs"]
    told = decided | {"price_per_hour": 36.0, "spent": spent | {"seconds": 40.0}}
    write_json(finished / "stages.json", told)
    text = report_section.write_report(finished).read_text(encoding="utf-8")
    money = "Money: 0.40 at 36.00 per hour of this machine."
    assert f"{money} Training the selected design took 10 s of that (0.10)" in text
    assert "talim generate --run " in text


def test_write_report_of_an_unfinished_pipeline_says_so(finished: Path) -> None:
    assert report_section.UNFINISHED not in report_section.write_report(finished).read_text(encoding="utf-8")
    decided = read_json(finished / "stages.json")
    begun = decided | {"stages": decided["stages"][:1], "designs": [], "chosen": None}
    write_json(finished / "stages.json", begun)
    page = report_section.write_report(finished).read_text(encoding="utf-8")
    assert report_section.UNFINISHED in page
    headings = re.findall(r"<h[23][^>]*>([^<]*)</h", page)
    assert not [heading for heading in headings if heading.startswith("Cost")]  # a sentence of the result is called so
    assert {"Feasibility (memory and time): met", "Resource usage"} <= {*headings}
    for run in [path for path in finished.iterdir() if (path / "recipe.yaml").is_file()]:
        shutil.rmtree(run)
    page = report_section.write_report(finished).read_text(encoding="utf-8")
    assert "Proof of concept, not finished" in page
    assert "Nothing was trained yet." in page
    assert "gate was not met" not in page


LONGER = "That is longer than was estimated for the whole, so how long the rest takes is not known."
OVER = "1 h 32 min of the time budget of 1 h, 53\u202f% more than given"


@pytest.mark.parametrize(
    ("seconds", "time", "money", "rest"),
    [
        (900.0, "17 min", "10.00", "The rest was estimated at 30 min, which costs 18.00 at 36.00 per machine hour."),
        (5400.0, OVER, "55.00", LONGER),
    ],
)
def test_write_report_of_an_unfinished_pipeline_tells_what_it_cost_and_will_cost(
    finished: Path, seconds: float, time: str, money: str, rest: str
) -> None:
    decided, plan = read_json(finished / "stages.json"), read_json(finished / "plan.json")
    begun = decided | {"stages": decided["stages"][:1], "designs": [], "chosen": None, "time_note": ""}
    write_json(finished / "stages.json", begun | {"price_per_hour": 36.0, "prepare_seconds": 100.0})
    write_json(finished / "plan.json", plan | {"used_seconds": 400.0, "estimated_seconds": 2400.0, "hours": 1.0})
    write_json(finished / "time_log.json", {f"all {decided['plan']}": seconds, "all other": 7.0})
    page = report_section.write_report(finished).read_text(encoding="utf-8")
    assert f"So far this took {time}" in page
    assert f", which costs {money} at 36.00 per machine hour. {rest}" in page


def test_write_report_of_an_unfinished_pipeline_without_an_estimate_tells_its_time(finished: Path) -> None:
    decided, plan = read_json(finished / "stages.json"), read_json(finished / "plan.json")
    write_json(finished / "stages.json", decided | {"stages": decided["stages"][:1], "prepare_seconds": 70.0})
    write_json(finished / "plan.json", {key: value for key, value in plan.items() if key != "estimated_seconds"})
    write_json(finished / "time_log.json", {})
    page = report_section.write_report(finished).read_text(encoding="utf-8")
    assert "So far this took 70 s. How long the rest takes was not estimated." in page
    assert "途中までの時間：70秒。残りにかかる時間は見積もっていません。" in page


def test_write_report_of_a_run_outside_the_folder_raises(finished: Path) -> None:
    decided = read_json(finished / "stages.json")
    write_json(finished / "stages.json", decided | {"chosen": {"design": "x", "run": "../elsewhere"}})
    with pytest.raises(TalimError, match="leads out of"):
        report_section.write_report(finished)


def test_write_report_escapes_text(finished: Path) -> None:
    decided = read_json(finished / "stages.json")
    decided["licence_use_note"] = "<script>alert(1)</script>"
    write_json(finished / "stages.json", decided)
    text = report_section.write_report(finished).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "which kind is best cannot be concluded" in text
