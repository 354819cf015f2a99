"""The road: resumable, skipping what is done, stopped at its gates, honest when nothing improved."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import Heard, by_kind, pretend, short, untraced

from talim.atomic_io import read_json
from talim.errors import TalimError, UsageError
from talim.html import formatting
from talim.poc import pipeline
from talim.poc.options import PocOptions
from talim.poc.pipeline import poc
from talim.recipe import Recipe
from talim.reporting import messages, run_results
from talim.run import Run
from talim.training.time_budget import StepTiming


def test_what_does_not_fit_the_memory_stops_the_road_before_training(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, by_kind)
    untraced(monkeypatch, memory_bytes=1e15)
    told = poc(recordings, tmp_path / "out", short())
    assert made.trained == []
    assert told["stopped"].startswith("Stopped here because no design fits into")
    assert told["run"] is None
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "A proof of concept that ended early" in page
    assert told["stopped"] in page.replace("&#39;", "'")
    pretend(monkeypatch, by_kind)  # a larger machine: the same command goes on
    assert poc(recordings, tmp_path / "out", short())["stopped"] == ""


def test_hours_are_shared_out_so_that_all_designs_get_equal_steps(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, by_kind)
    paces = {
        "linear": StepTiming(0.1, 3, 2),
        "conv": StepTiming(0.2, 3, 2),
        "transformer": StepTiming(0.4, 3, 2),
    }
    monkeypatch.setattr(
        "talim.training.time_budget.measure_step_timing",
        lambda recipe, *_: paces[recipe.design.partition("@")[0]],
    )
    out = tmp_path / "out"
    told = poc(recordings, out, short(hours=1))
    steps = {
        name: read_json(out / f"{name}-all-2.7" / "cost.json")["steps"]
        for name in ("linear", "conv", "transformer")
    }
    assert len(set(steps.values())) == 1
    assert 0.6 * 3600 < 0.7 * steps["linear"] < 0.85 * 3600  # less what preparing took
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: 1 / 0)
    assert poc(recordings, out, short(hours=1))["designs"] == told["designs"]  # the plan is kept
    pages = Path(told["page"]).read_text(encoding="utf-8")
    assert f"{formatting.format_count(steps['linear'])} steps for each of the 3 designs within 1 h." in pages
    assert " of the 1 h that were given." in pages
    little = tmp_path / "little"
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: StepTiming(60.0, 3, 2))
    stopped = poc(recordings, little, short(hours=1))["stopped"]
    assert "steps of each design would fit" in stopped
    assert "give --hours" in stopped


@pytest.mark.parametrize("hours", [0, -1, float("nan"), 1e9])
def test_hours_must_be_hours(hours: float) -> None:
    with pytest.raises(UsageError, match="--hours"):
        PocOptions(hours=hours)


SETTINGS = (
    ("training.steps", 4),
    ("training.batch_size", 2),
    ("training.warmup_steps", 1),
    ("training.learning_rate", 0.05),
    ("training.evaluate_every", 2),
    ("training.evaluate_clips", 2),
    ("training.checkpoint_every", 1),
    ("training.precision", "fp32"),
)


def real(base: Path, **changes: Any) -> PocOptions:
    """One design, in four steps of a real model."""
    plain = {"designs": ("linear@all:10%",), "clip_seconds": 2.0, "sample_seconds": 1.0, "settings": SETTINGS}
    return PocOptions(**{"base": str(base), **plain, "curve": False, **changes})


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, recordings: Path, tiny_base: Path) -> Path:
    """A road that was walked once with a real model (copied before it is changed)."""
    out = tmp_path_factory.mktemp("poc") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        untraced(monkeypatch)
        poc(recordings, out, real(tiny_base))
    return out


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_it_ends_with_a_page_and_three_sentences(walked: Path, recordings: Path, tiny_base: Path) -> None:
    before = times(walked)
    heard = Heard()
    result = poc(recordings, walked, real(tiny_base), heard)
    assert Path(result["page"]) == walked / "report" / "index.html"
    assert len(result["sentences"]) == 3
    assert result["sentences"][0].startswith("On 2 recordings kept out of training the loss")
    assert "switching the adapter on changes" in result["sentences"][1]
    assert "ext: " in result["sentences"][2]
    assert times(walked) == before  # nothing was done twice
    assert any("nothing to prepare" in line for line in heard.said)
    assert any("finished" in line for line in heard.said)


@pytest.mark.parametrize(
    "lost", ["report/index.html", "linear-all-10/scores.json", "corpus/summary.json", "stages.json"]
)
def test_a_lost_file_is_made_again_from_what_is_there(
    tmp_path: Path,
    walked: Path,
    recordings: Path,
    tiny_base: Path,
    lost: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(walked, out)
    run = out / "linear-all-10"
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace(str(walked), str(out)))
    (out / lost).unlink()
    weights = run / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    poc(recordings, out, real(tiny_base))
    assert (out / lost).is_file()
    assert weights.stat().st_mtime_ns == before


def test_three_designs_stand_beside_each_other_and_the_cheapest_good_one_is_chosen(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, by_kind)
    told = poc(recordings, tmp_path / "out", short())
    assert made.trained == ["linear-all-2.7", "conv-all-2.7", "transformer-all-2.7"] == made.judged
    assert list(told["designs"]) == ["linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%"]
    assert told["run"].endswith("linear-all-2.7")  # conv fell by more, but within the margin
    assert [(row["name"], row["passed"]) for row in told["stages"]] == [
        ("cost", True),
        ("quality", True),
        ("task", None),
    ]
    assert told["stopped"] == ""
    spoken = messages.poc_message(told).splitlines()
    assert spoken[-2] == "Gates: Cost: met, Musical quality: met, Contribution to the task: not decided."
    assert spoken[-1] == f"Page: {told['page']}"
    decided = read_json(tmp_path / "out" / "stages.json")
    assert "one seed" in decided["limits"]
    assert decided["commands"][0].startswith("talim listen ")
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "Musical quality: met" in page
    assert "Contribution to the task: not decided" in page
    assert "<strong>linear@all:2.7%</strong>, chosen" in page
    assert "<td>transformer@all:2.7%</td>" in page


def test_the_gates_are_there_before_anything_is_trained(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, by_kind)

    def train(recipe: Recipe, folder: Path, *_: Any) -> Run:
        assert (tmp_path / "out" / "gates.json").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr("talim.training.train.train", train)
    with pytest.raises(KeyboardInterrupt):
        poc(recordings, tmp_path / "out", short())
    assert made.trained == []


def test_a_fall_that_may_be_chance_stops_the_road_and_says_why(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, lambda recipe: 0.0)
    told = poc(recordings, tmp_path / "out", short(curve=True))
    assert [row["name"] for row in told["stages"]] == ["cost", "quality"]
    assert told["stages"][-1]["passed"] is False
    assert told["stopped"].startswith("Stopped here because the interval of the fall begins at")
    assert told["curve"] is None
    assert told["stopped"] in Path(told["page"]).read_text(encoding="utf-8")
    assert messages.poc_message(told).splitlines()[-2] == told["stopped"]


def test_one_held_out_recording_can_tell_nothing_from_chance(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, by_kind)
    told = poc(recordings, tmp_path / "out", short(held_out=("take-4",)))
    assert set(told["scores"]["held_out_loss"]["fall"]["per_recording"]) == {"take-4"}
    assert told["stages"][-1]["passed"] is None
    assert "gives no interval" in told["stopped"]


def test_another_wish_keeps_the_earlier_runs_and_makes_new_ones(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out, heard = pretend(monkeypatch, by_kind), tmp_path / "out", Heard()
    one = ("linear@all:2.7%",)
    poc(recordings, out, short(designs=one))
    earlier = read_json(out / "plan.json")["key"]
    poc(recordings, out, short(designs=one, seed=1), heard)
    assert Run(out / "earlier" / earlier / "linear-all-2.7").finished
    assert any("is kept in" in line for line in heard.said)
    assert run_results.find_runs(out) == [out / "linear-all-2.7"]  # the page is about the new one alone
    poc(recordings, out, short(designs=one))  # the first wish again: its run comes back, nothing is trained
    assert read_json(out / "plan.json")["key"] == earlier
    assert made.trained == ["linear-all-2.7"] * 2


def test_a_design_that_breaks_does_not_stop_the_rest(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pretend(monkeypatch, by_kind)

    def train(recipe: Recipe, folder: Path, *rest: Any) -> Run:
        if recipe.design.startswith("linear"):
            raise TalimError("the loss is no longer a number")
        return made.train(recipe, folder, *rest)

    monkeypatch.setattr("talim.training.train.train", train)
    told = poc(recordings, tmp_path / "out", short())
    assert list(told["designs"]) == ["conv@all:2.7%", "transformer@all:2.7%"]
    assert any("linear@all:2.7% broke" in line for line in told["stages"][1]["sentences"])
    with pytest.raises(TalimError, match="no longer a number"):
        poc(recordings, tmp_path / "other", short(designs=("linear@all:2.7%",)))


def dying(work: Any, after: int) -> Any:
    """Does its work so many times, and is killed then."""
    calls: list[int] = []

    def once(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return work(*given, **named)

    return once


ONCE_EACH = {"train.train": [3], "evaluate.evaluate": [1], "held_out.held_out_loss": [1]}

ANYWHERE = {"train.train": range(5), "evaluate.evaluate": range(3), "held_out.held_out_loss": range(2)}


@pytest.mark.parametrize("kills", [ONCE_EACH, pytest.param(ANYWHERE, marks=pytest.mark.slow)])
def test_killed_anywhere_the_same_command_goes_on(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch, kills: dict[str, Iterable[int]]
) -> None:
    made = pretend(monkeypatch, by_kind)
    whole = poc(recordings, tmp_path / "whole", short(curve=True))
    for stage, numbers in kills.items():
        name = stage.partition(".")[2]
        for number in numbers:
            out = tmp_path / f"{name}-{number}"
            monkeypatch.setattr(f"talim.stages.{stage}", dying(getattr(made, name), number))
            with pytest.raises(KeyboardInterrupt):
                poc(recordings, out, short(curve=True))
            monkeypatch.setattr(f"talim.stages.{stage}", getattr(made, name))
            again = poc(recordings, out, short(curve=True))
            assert again["designs"] == whole["designs"]
            assert again["curve"] == whole["curve"]


def test_commercial_use_leaves_recordings_out_and_the_page_says_which(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, by_kind)
    takes = tmp_path / "takes"
    shutil.copytree(recordings, takes)
    table = (takes / "metadata.csv").read_text().splitlines()
    table[1] = table[1].replace("CC0-1.0", "CC BY-NC 4.0")
    table[2] = table[2].replace("CC0-1.0", "")
    (takes / "metadata.csv").write_text("\n".join(table) + "\n")
    heard = Heard()
    told = poc(takes, tmp_path / "out", short(use="commercial"), heard)
    assert set(told["scores"]["corpus"]["rights"]["licences"]) == {"CC0-1.0"}
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "2 recordings left out, whose licence forbids that or is unknown: take-0.wav, take-1.wav" in page
    assert any(
        line.startswith("left out take-0.wav: its licence (CC BY-NC 4.0) forbids") for line in heard.said
    )
    free = poc(recordings, tmp_path / "free", short(use="commercial"))
    assert "no recording had to be left out" in Path(free["page"]).read_text(encoding="utf-8")


def test_what_is_asked_wrongly_is_said_before_a_folder_is_made(tmp_path: Path, recordings: Path) -> None:
    for wishes, stage, words in (
        (short(), "everything", "--stage 'everything'"),
        (short(designs=("linear@all",)), "all", "is not KIND@SITE:SIZE"),
        (short(base="musicgen-small", use="commercial"), "all", "usable are nano-musicgen"),
    ):
        with pytest.raises(UsageError, match=words):
            poc(recordings, tmp_path / "out", wishes, stage=stage)
    with pytest.raises(UsageError, match="lies within the recordings"):
        poc(recordings, recordings / "out", short())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fall", "base", "words"),
    [
        ({"mean": 0.2, "interval": [0.1, 0.3]}, "nano-musicgen", "--base facebook/musicgen-small"),
        (
            {"mean": 0.2, "interval": [0.1, 0.3]},
            "facebook/musicgen-small",
            "let people who know the tradition",
        ),
        ({"mean": 0.2, "interval": [-0.1, 0.3]}, "nano-musicgen", "tell this from chance"),
        ({"mean": 0.2, "interval": None}, "nano-musicgen", "tell this from chance"),
        ({"mean": -0.1, "interval": [-0.2, 0.1]}, "nano-musicgen", "No improvement"),
        ({"mean": 0.0, "interval": [0.0, 0.0]}, "nano-musicgen", "No improvement"),
    ],
)
def test_the_next_step_is_honest(fall: dict[str, Any], base: str, words: str) -> None:
    result = run_results.RunResults(
        Path("run"), recipe={"base": base}, scores={"held_out_loss": {"fall": fall}}
    )
    assert words in pipeline.suggested_command(result)
