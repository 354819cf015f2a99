"""The PoC pipeline: resumes, skips finished work, stops at unmet gates, reports when nothing improved."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import CollectedProgress, by_kind, fake_runs, fake_traces, short_options
from fixtures.japanese_block import foreign_words

from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.errors import TalimError, UsageError
from talim.html import formatting
from talim.poc import pipeline, rate_search, report_section, state
from talim.poc.options import PocOptions, poc_command
from talim.poc.pipeline import poc
from talim.poc.report_section import write_report
from talim.recipe import Recipe, parse_setting
from talim.reporting import messages, run_results
from talim.run import Run
from talim.training.time_budget import StepTiming


def test_poc_designs_over_the_memory_limit_stop_before_training(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fake_runs(monkeypatch, by_kind)
    fake_traces(monkeypatch, memory_bytes=1e15)
    result = poc(short_takes, tmp_path / "out", short_options())
    assert fakes.trained == []
    assert result["stopped"].startswith("Stopped here because no design fits into")
    assert result["run"] is None
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert "Proof of concept, stopped early" in page
    japanese = result["stages"][0]["stopped_translated"]["ja"]
    assert japanese in page
    assert foreign_words(japanese, ["linear@all:2.7%", "talim plan"]) == []
    assert result["stopped"] in page.replace("&#39;", "'")
    fake_runs(monkeypatch, by_kind)  # a larger machine: the same command continues
    assert poc(short_takes, tmp_path / "out", short_options())["stopped"] == ""


def test_poc_a_fall_that_ends_above_the_best_predictor_is_calibration_and_passes_no_gate(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss falls from 3.0 to 2.5 in every recording; repeating the last token reaches 2.0."""
    fake_runs(monkeypatch, by_kind)
    monkeypatch.setattr("fixtures.fake_pipeline.TRIVIAL_LOSS", 2.0)
    result = poc(short_takes, tmp_path / "out", short_options())
    assert [row["passed"] for row in result["stages"]] == [True, False]
    assert not pipeline.gates_met(result)
    assert result["stopped"].startswith("Stopped here because the loss fell, but it is still 0.500 above")
    assert "the adapter closed 50\u202f% of the gap" in result["stopped"]
    assert "; next: first name 6 or more of the 12 recordings with --held-out, or add " in result["stopped"]
    assert result["stopped"].endswith("; then more steps (--set training.steps=200), as 10 steps show little.")
    told = messages.poc_message(result)
    assert told.lower().count("next: ") == 1  # what to do stands once, beside the reason
    assert "Learning (loss): not met" in told
    assert result["stopped"] in told
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert "not below that of a guess that needs no model (calibration)." in page
    assert f"<pre><code>talim poc {short_takes.resolve()} --out " in page  # of the larger base, as it can be typed
    assert "較正" in page


@pytest.mark.parametrize("seed", [0, 3])
def test_poc_holds_the_same_recordings_out_as_prepare(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    fake_runs(monkeypatch, by_kind)
    fake_traces(monkeypatch, memory_bytes=1e15)
    options = short_options(seed=seed, clip_seconds=PocOptions().clip_seconds)
    poc(short_takes, tmp_path / "out", options)
    split = Corpus.load(tmp_path / "out" / "corpus").summary["split"]
    assert split == prepare(short_takes, tmp_path / "corpus", seed=seed).summary["split"]


def test_prepare_tells_which_captions_the_own_base_reads_also_after_another_base(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talim.corpus.report.MAX_AUDIO_PLAYERS", 1)
    takes = shutil.copytree(short_takes, tmp_path / "takes", ignore=shutil.ignore_patterns("metadata.csv"))
    for base in ("nano-musicgen", "nano-mustango"):
        options, stages = short_options(base=base, caption="琴、静か"), state.StageCache(tmp_path / state.STAGE_CACHE)
        corpus = pipeline._prepare(takes, tmp_path / "out", options, stages, CollectedProgress())
        notes = [row["note"] for row in corpus.summary["notes"]]
        (told,) = [note for note in notes if "cannot read" in note]
        assert told.startswith("100 % of the tokens of the captions as written are unknown to " + base)
        assert "it reads a spelling that it knows: 琴 -> koto; it cannot read 1 word of the captions: 静か." in told


def test_poc_with_hours_gives_all_designs_equal_steps(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, by_kind)
    timings = {"linear": StepTiming(0.1, 3, 2), "conv": StepTiming(0.2, 3, 2), "transformer": StepTiming(0.4, 3, 2)}
    monkeypatch.setattr(
        "talim.training.time_budget.measure_step_timing", lambda recipe, *_: timings[recipe.design.parts[0].kind]
    )
    out = tmp_path / "out"
    result = poc(short_takes, out, short_options(hours=1))
    steps = {
        name: read_json(out / f"{name}-all-2.7" / "cost.json")["steps"] for name in ("linear", "conv", "transformer")
    }
    assert len(set(steps.values())) == 1
    training = 0.7 * steps["linear"] * 1.02  # seconds, with the evaluations during training
    assert 0.9 * 3600 < training + 3 * 20 + 3 * 1 < 3600  # three evaluations and starts, minus the time of preparing
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: 1 / 0)
    assert poc(short_takes, out, short_options(hours=1))["designs"] == result["designs"]  # the plan is reused
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert f"{formatting.format_count(steps['linear'])} steps for each of the 3 designs within 1 h." in page
    assert " of the time budget of 1 h." in page
    assert "Estimated before training: 3 trainings with evaluation and the page: about " in page
    small = tmp_path / "small"
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: StepTiming(60.0, 3, 2))
    at_a_price = poc(short_takes, small, short_options(hours=1, price_per_hour=2.0))
    stopped = at_a_price["stopped"]
    assert " at 2.00 per machine hour." in at_a_price["time_note"]
    assert " at 2.00 per machine hour)" in stopped
    assert "steps of each design would fit" in stopped
    # 20 steps of a minute and a second of loading for each of three designs, validation between them
    assert re.search(
        r"went into preparing and timing, 20 steps of each take 1 h \d+ min with loading the base", stopped
    )
    changing = "times that change with the machine's other work"
    assert f"and evaluation takes 60 s, of that 36 s generating music, {changing}; give --hours " in stopped
    assert "fewer designs (--design), which shortens training and evaluation alike or smaller training steps" in stopped
    assert "--set training.batch_size=4" in stopped
    japanese = at_a_price["stages"][0]["stopped_translated"]["ja"]
    assert "、この計算機の1時間を2.00として" in japanese
    assert foreign_words(japanese) == []
    monkeypatch.setattr("talim.poc.budget.measure_evaluation", lambda *_: (1300.0, 1200.0))  # longer than the budget
    alone = short_options(hours=0.3, designs=("linear@all:2.7%",))
    without = poc(short_takes, tmp_path / "alone", alone)
    assert "make the work smaller" not in without["stopped"]  # nothing would
    assert re.search(r"にする。$", without["stages"][0]["stopped_translated"]["ja"])
    monkeypatch.setattr("talim.poc.budget.measure_evaluation", lambda *_: (20.0, 12.0))
    needed = float(stopped.partition("give --hours ")[2].split()[0])
    progress = CollectedProgress()
    write_json(small / "time_log.json", {"all something-else": 41.0})
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: StepTiming(70.0, 3, 2))
    enough = poc(short_takes, small, short_options(hours=needed), progress)  # also where it is a little slower by then
    assert enough["stopped"] == ""
    assert any(
        line.startswith("41 s were spent here before") and "do not count" in line in line for line in progress.messages
    )


@pytest.mark.parametrize("hours", [0, -1, float("nan"), 1e9])
def test_poc_options_hours_out_of_range_raise(hours: float) -> None:
    with pytest.raises(UsageError, match="--hours"):
        PocOptions(hours=hours)


SETTINGS = (
    ("training.steps", 4),
    ("training.batch_size", 2),
    ("training.warmup_steps", 1),
    ("training.learning_rate", 0.05),
    ("training.eval_every", 2),
    ("training.eval_clips", 2),
    ("training.checkpoint_every", 1),
    ("training.precision", "fp32"),
)


def real_options(base: Path, **changes: Any) -> PocOptions:
    """One design, in four steps of a real model."""
    defaults = {"designs": ("linear@all:10%",), "clip_seconds": 2.0, "sample_seconds": 1.0, "settings": SETTINGS}
    return PocOptions(**{"base": str(base), **defaults, "learning_curve": False, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, short_takes: Path, tiny_base: Path) -> Path:
    """A finished pipeline with a real model (tests that change it copy it)."""
    out = tmp_path_factory.mktemp("poc") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        fake_traces(monkeypatch)
        poc(short_takes, out, real_options(tiny_base))
    return out


def modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_poc_again_writes_nothing_and_returns_page_and_sentences(
    finished: Path, short_takes: Path, tiny_base: Path
) -> None:
    before = modification_times(finished)
    progress = CollectedProgress()
    result = poc(short_takes, finished, real_options(tiny_base), progress)
    assert Path(result["page"]) == finished / "report" / "index.html"
    assert len(result["sentences"]) == 3
    assert [line.split(":")[0] for line in result["sentences"]] == ["Cost", "Quality", "Use"]
    assert bool(result["next_step"]) != bool(result["stopped"])  # what to do is said once
    assert result["make_music"][0].startswith("talim generate --run ")
    assert modification_times(finished) == before  # nothing was written again
    assert any("nothing to prepare" in line for line in progress.messages)
    assert any("already trained" in line for line in progress.messages)


@pytest.mark.parametrize(
    "lost", ["report/index.html", "linear-all-10/scores.json", "corpus/summary.json", "stages.json"]
)
def test_poc_missing_file_is_written_again_without_training(
    tmp_path: Path, finished: Path, short_takes: Path, tiny_base: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    run = out / "linear-all-10"
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace(str(finished), str(out)))
    (out / lost).unlink()
    weights = run / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    poc(short_takes, out, real_options(tiny_base))
    assert (out / lost).is_file()
    assert weights.stat().st_mtime_ns == before


def test_poc_three_designs_selects_the_cheapest_noninferior_one(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fake_runs(monkeypatch, by_kind)
    result = poc(short_takes, tmp_path / "out", short_options())
    assert fakes.trained == ["linear-all-2.7", "conv-all-2.7", "transformer-all-2.7"] == fakes.evaluated
    assert list(result["designs"]) == ["linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%"]
    assert result["run"].endswith("linear-all-2.7")  # conv is better, but linear is within the margin
    assert [(row["name"], row["passed"]) for row in result["stages"]] == [
        ("cost", True),
        ("quality", True),
        ("task", None),
    ]
    assert result["stopped"] == ""
    lines = messages.poc_message(result).splitlines()
    assert lines[-3] == (
        "Thresholds that were set before each stage (gates): Feasibility (memory and time): met, Learning (loss): "
        "met, Contribution to the task: not decided."
    )
    assert lines[-1] == f"Page: {result['page']}"
    decided = read_json(tmp_path / "out" / "stages.json")
    assert "one seed" in decided["limitations"]
    assert decided["tuning"]["note"] == result["tuning"]["note"]
    assert "All trainings had the learning rate 0.001. No other rate was tried: talim poc tries" in "\n".join(lines)
    assert decided["price_per_hour"] is None
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert decided["tuning"]["note"] in page
    assert "Learning (loss): met" in page
    assert "Contribution to the task: not decided" in page
    assert "<strong>linear@all:2.7%</strong>, selected" in page
    assert "<td>transformer@all:2.7%</td>" in page


def test_poc_writes_gates_before_training(tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = fake_runs(monkeypatch, by_kind)

    def train(*_: Any) -> Run:
        assert (tmp_path / "out" / "gates.json").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr("talim.training.train.train", train)
    with pytest.raises(KeyboardInterrupt):
        poc(short_takes, tmp_path / "out", short_options())
    assert fakes.trained == []


def test_poc_unmet_quality_gate_stops_with_a_reason(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda recipe: 0.0)
    result = poc(short_takes, tmp_path / "out", short_options(learning_curve=True, price_per_hour=36.0))
    assert [row["name"] for row in result["stages"]] == ["cost", "quality"]
    priced = r"which costs \d\.\d+ at 36\.00 per machine hour\."
    curve = f"The learning curve, which was left out, would take \\d+ s, {priced}"
    assert re.fullmatch(f"This took \\d+ s, {priced} {curve}", result["time_note"])
    assert result["stages"][-1]["passed"] is False
    assert result["stopped"].startswith("Stopped here because the interval of the loss reduction, ")
    assert result["learning_curve"] is None
    assert result["stopped"] in Path(result["page"]).read_text(encoding="utf-8")
    assert result["stopped"] in messages.poc_message(result).splitlines()
    japanese = messages.poc_message(result, "ja")
    assert f"\n{result['stopped_translated']['ja']}\nこれまでの全体の時間：" in japanese
    assert "省いた学習曲線を測定する場合の時間：" in japanese
    shown = re.sub(r"talim \w+( [\x20-\x7e]+)?", "", japanese.replace(result["page"], ""))
    assert foreign_words(shown, [*result["designs"], "nano-musicgen", "Apache-2.0", "none"]) == []  # of no device
    assert "これまでの全体の時間：" in Path(result["page"]).read_text(encoding="utf-8")


def test_poc_with_one_held_out_recording_decides_nothing(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, by_kind)
    result = poc(short_takes, tmp_path / "out", short_options(held_out=("take-4",)))
    assert set(result["scores"]["held_out_loss"]["loss_reduction"]["per_recording"]) == {"take-4"}
    assert result["stages"][-1]["passed"] is None
    assert "gives no interval" in result["stopped"]


def test_poc_other_options_move_earlier_runs_and_restore_them(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes, out, progress = fake_runs(monkeypatch, by_kind), tmp_path / "out", CollectedProgress()
    one = ("linear@all:2.7%",)
    poc(short_takes, out, short_options(designs=one))
    earlier = read_json(out / "plan.json")["key"]
    poc(short_takes, out, short_options(designs=one, seed=1), progress)
    assert Run(out / "earlier" / earlier / "linear-all-2.7").finished
    assert any("the earlier results are in" in line for line in progress.messages)
    assert write_report(out / "earlier" / earlier).read_text(encoding="utf-8").count("linear@all:2.7%")
    assert run_results.find_runs(out) == [out / "linear-all-2.7"]  # the page is about the new one only
    poc(short_takes, out, short_options(designs=one))  # the first options again: its run is restored
    assert read_json(out / "plan.json")["key"] == earlier
    assert fakes.trained == ["linear-all-2.7"] * 2


def test_poc_failed_design_is_left_out_unless_all_fail(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fake_runs(monkeypatch, by_kind)

    def train(recipe: Recipe, folder: Path, *rest: Any) -> Run:
        if recipe.design.parts[0].kind == "linear":
            raise TalimError("the loss is no longer a number")
        return fakes.train(recipe, folder, *rest)

    monkeypatch.setattr("talim.training.train.train", train)
    result = poc(short_takes, tmp_path / "out", short_options())
    assert list(result["designs"]) == ["conv@all:2.7%", "transformer@all:2.7%"]
    assert any("linear@all:2.7% failed" in line for line in result["stages"][1]["sentences"])
    with pytest.raises(TalimError, match="no longer a number"):
        poc(short_takes, tmp_path / "other", short_options(designs=("linear@all:2.7%",)))


def test_poc_with_a_time_budget_ends_a_training_whose_time_is_over_and_says_so(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fake_runs(monkeypatch, by_kind)

    def train(recipe: Recipe, folder: Path, *rest: Any) -> Run:
        run = fakes.train(recipe, folder, *rest)
        if folder.name.startswith("conv"):
            write_json(run.cost, read_json(run.cost) | {"steps": 7, "stopped_for_time": True, "stopped_early": True})
        return run

    monkeypatch.setattr("talim.training.train.train", train)
    result = poc(short_takes, tmp_path / "out", short_options(hours=0.1))
    shares = [seconds or 0.0 for seconds in fakes.seconds.values()]  # nothing takes any time here
    assert shares == sorted(shares)
    assert 0 < shares[0] < 360 / 3 < 1.05 * 360 >= shares[-1]
    sentences = " ".join(result["stages"][1]["sentences"])
    assert "conv@all:2.7% was stopped after 7 of" in sentences
    assert "transformer@all:2.7% was trained in 7 of" in sentences  # no more than the one whose time was over
    assert "linear@all:2.7% was" not in sentences.replace("linear@all:2.7% was the", "")


def test_poc_without_a_time_budget_lets_every_training_end(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fake_runs(monkeypatch, by_kind)
    poc(short_takes, tmp_path / "out", short_options())
    assert set(fakes.seconds.values()) == {None}


def killed_after(function: Any, calls_before: int) -> Any:
    """The function, which is interrupted at a later call."""
    calls: list[int] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > calls_before:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    return call


TRAIN, EVALUATE, VALIDATION_LOSS = (
    "talim.training.train.train",
    "talim.evaluation.evaluate.evaluate",
    "talim.evaluation.held_out_loss.validation_loss",
)
ONCE_EACH = {TRAIN: [3], EVALUATE: [1], VALIDATION_LOSS: [1]}

ANYWHERE = {TRAIN: range(5), EVALUATE: range(3), VALIDATION_LOSS: range(2)}


@pytest.mark.parametrize("kills", [ONCE_EACH, pytest.param(ANYWHERE, marks=pytest.mark.slow)])
def test_poc_killed_anywhere_resumes_to_the_same_result(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch, kills: dict[str, Iterable[int]]
) -> None:
    fakes = fake_runs(monkeypatch, by_kind)
    expected = poc(short_takes, tmp_path / "expected", short_options(learning_curve=True))
    for target, numbers in kills.items():
        name = target.rpartition(".")[2]
        for number in numbers:
            out = tmp_path / f"{name}-{number}"
            monkeypatch.setattr(target, killed_after(getattr(fakes, name), number))
            with pytest.raises(KeyboardInterrupt):
                poc(short_takes, out, short_options(learning_curve=True))
            monkeypatch.setattr(target, getattr(fakes, name))
            resumed = poc(short_takes, out, short_options(learning_curve=True))
            assert resumed["designs"] == expected["designs"]
            assert resumed["learning_curve"] == expected["learning_curve"]


def test_poc_commercial_use_excludes_recordings_and_lists_them(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, by_kind)
    takes = tmp_path / "takes"
    shutil.copytree(short_takes, takes)
    table = (takes / "metadata.csv").read_text().splitlines()
    table[1] = table[1].replace("CC0-1.0", "CC BY-NC 4.0")
    table[2] = table[2].replace("CC0-1.0", "")
    (takes / "metadata.csv").write_text("\n".join(table) + "\n")
    progress = CollectedProgress()
    result = poc(takes, tmp_path / "out", short_options(license_use="commercial"), progress)
    assert set(result["scores"]["corpus"]["rights"]["licences"]) == {"CC0-1.0"}
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert "2 recordings excluded, whose licence forbids it or is unknown: take-0.wav, take-1.wav" in page
    assert any(line.startswith("skipped take-0.wav: its licence (CC BY-NC 4.0) forbids") for line in progress.messages)
    free = poc(short_takes, tmp_path / "free", short_options(license_use="commercial"))
    assert "no recording was excluded, all being under " in Path(free["page"]).read_text(encoding="utf-8")


def test_poc_invalid_options_raise_before_a_folder_is_made(tmp_path: Path, short_takes: Path) -> None:
    for options, continuation, message in (
        (short_options(), "everything", "--continue 'everything'"),
        (short_options(designs=("linear@all",)), None, "linear needs a size, such as linear@all:2.5%"),
        (short_options(base="musicgen-small", license_use="commercial"), None, "usable are nano-musicgen"),
    ):
        with pytest.raises(UsageError, match=message):
            poc(short_takes, tmp_path / "out", options, continuation=continuation)
    with pytest.raises(UsageError, match="lies within the recordings"):
        poc(short_takes, short_takes / "out", short_options())
    assert not (tmp_path / "out").exists()


def test_suggested_next_steps_is_nothing_that_was_done(tmp_path: Path) -> None:
    options = PocOptions(caption="sitar's alap")

    def suggested(base: str, *continued: str) -> str:
        result = run_results.RunResults(Path("run"), recipe={"base": base})
        steps = pipeline.suggested_next_steps(result, Path("my takes"), tmp_path, options, continued)
        return pipeline.in_lines(report_section.open_steps(tmp_path, {"next_steps": steps}))

    assert "--base facebook/musicgen-small" in suggested("nano-musicgen")
    listen, extend = suggested("facebook/musicgen-small").splitlines()
    assert listen.startswith("Next: let people who know the tradition listen: talim listen ")
    words = shlex.split(extend.removeprefix("Next: train other seeds too: "))  # can be typed as it stands
    assert words[2:4] == [str(Path("my takes").resolve()), "--out"]
    assert words[words.index("--caption") + 1] == "sitar's alap"
    assert suggested("facebook/musicgen-small", "extend", "hybrid") == listen
    write_json(tmp_path / "listening" / "ratings.json", {})
    assert suggested("facebook/musicgen-small") == extend
    assert suggested("facebook/musicgen-small", "extend") == ""


def test_suggested_next_steps_after_a_training_that_shows_little_is_a_longer_one() -> None:
    def suggested(steps: int, hours: float | None = None, **cost: Any) -> str:
        recipe = {"base": "facebook/musicgen-small", "training": {"steps": steps}}
        result = run_results.RunResults(Path("run"), recipe=recipe, cost=cost)
        takes, out = Path("takes"), Path("out")
        return pipeline.in_lines(pipeline.suggested_next_steps(result, takes, out, PocOptions(hours=hours)))

    (longer,) = suggested(4).splitlines()
    assert longer.startswith("Next: train longer, as 4 training steps show little: talim poc ")
    assert "--set training.steps=200" in longer
    assert "--hours 3" in suggested(4, 1.5)
    assert "train longer" not in suggested(200) + suggested(100, stopped_early=True)


@pytest.mark.parametrize(("held_out", "told"), [(2, True), (6, False)])
def test_suggested_next_steps_after_a_short_training_with_few_held_out_recordings_names_recordings_first(
    held_out: int, told: bool
) -> None:
    reduction = {"mean": 0.2, "ci95": [0.1, 0.3], "per_recording": dict.fromkeys("abcdef"[:held_out], 0.2)}
    scores = {"held_out_loss": {"loss_reduction": reduction}, "corpus": {"recordings": 9}}
    recipe = {"base": "facebook/musicgen-small", "training": {"steps": 4}}
    result = run_results.RunResults(Path("run"), recipe=recipe, scores=scores)
    steps = pipeline.suggested_next_steps(result, Path("takes"), Path("out"), PocOptions())
    assert [foreign_words(step["ja"]) for step in steps] == [[]] * len(steps)
    lines = pipeline.in_lines(steps).splitlines()
    more = "Next, before longer training: add recordings, so that 6 or more can be held out, as a result on 2 "
    assert lines[0].startswith(more) is told
    assert lines[-1].startswith("Next: train longer, as 4 training steps show little: ")


def test_suggested_next_steps_of_a_short_proof_with_a_miniature_says_what_it_does_not_say() -> None:
    recipe = {"base": "nano-musicgen", "design": "conv@all:2.7%", "training": {"steps": 20, "batch_size": 8}}
    music = {"clip_seconds": 10.0, "split": {"train": {"seconds": 5400.0, "clips": 540}}}
    result = run_results.RunResults(Path("run"), recipe=recipe, cost={"steps": 20}, corpus=music)
    options = PocOptions(hours=3.0)
    steps = pipeline.suggested_next_steps(result, Path("t"), Path("o"), options, (), {"hours": 40.2})
    names = ["facebook/musicgen-small", "conv@all:2.7%", "arXiv"]
    assert [foreign_words(step["ja"], names) for step in steps] == [[], []]
    assert "30回通して" in steps[1]["ja"]
    longer, larger = pipeline.in_lines(steps).splitlines()
    assert "as 20 training steps show little" in longer
    assert larger.startswith("The 20 training steps of this miniature say nothing on quality")
    full = "30 passes, as the paper trained (arXiv 2506.21298), are 2\u202f025 steps of one design, conv@all:2.7%"
    assert f"{full}: 40 h 12 min of training steps on this machine. Trying learning rates first" in larger
    assert "--design conv@all:2.7% --set training.steps=2025 --no-learning-curve --no-tune" in larger
    assert "usable" not in larger
    assert "--hours" not in larger
    options = replace(options, held_out=("a b",), seed=3)
    (command,) = (step["command"] for step in pipeline.suggested_next_steps(result, Path("t"), Path("o"), options)[1:])
    assert {"--held-out", "a b", "--seed", "3"} <= {*shlex.split(command)}  # the same split


def test_trying_rates_takes_as_long_as_the_design_as_the_page_says() -> None:
    assert rate_search.RESERVED * rate_search.STEPS_FRACTION == 1.0


def test_suggested_larger_base_is_one_that_the_use_allows() -> None:
    reduction = {"mean": 0.2, "ci95": [0.1, 0.3]}
    scores = {"held_out_loss": {"loss_reduction": reduction}}
    result = run_results.RunResults(Path("run"), recipe={"base": "nano-musicgen"}, scores=scores)
    options = PocOptions(
        license_use="commercial", hours=0.5, settings=(("training.batch_size", 2),), gates=Path("g.yaml")
    )
    text = pipeline.in_lines(pipeline.suggested_next_steps(result, Path("takes"), Path("out"), options))
    assert "--base declare-lab/mustango" in text
    assert "--use commercial" in text
    assert f"--gates {Path('g.yaml').resolve()}" in text
    assert "--hours" not in text  # a budget for a miniature
    assert "batch_size" not in text


def test_poc_command_has_every_option_that_differs(tmp_path: Path) -> None:
    given = PocOptions(
        base="musicgen-small",
        designs=("conv@all:8M", "linear@all:8M"),
        seed=3,
        hours=1.5,
        held_out=("a b", "c"),
        settings=(("training.batch_size", 2), ("training.precision", "fp32")),
        learning_curve=False,
        tune=False,
    )
    words = shlex.split(poc_command(tmp_path, tmp_path / "out", given, "--continue", "extend"))
    assert words == [
        "talim", "poc", str(tmp_path), "--out", str(tmp_path / "out"), "--base", "musicgen-small", "--hours", "1.5",
        "--seed", "3", "--design", "conv@all:8M", "--design", "linear@all:8M", "--held-out", "a b", "--held-out", "c",
        "--set", "training.batch_size=2", "--set", 'training.precision="fp32"', "--no-learning-curve",
        "--no-tune", "--continue", "extend",
    ]  # fmt: skip
    assert parse_setting(words[-5]) == ("training.precision", "fp32")


def test_poc_command_works_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: Path
) -> None:
    here = tmp_path / "my studio"
    (here / "models").mkdir(parents=True)
    shutil.copytree(tiny_base, here / "models" / "tiny")
    monkeypatch.chdir(here)
    given = PocOptions(base="models/tiny", gates=Path("rules/gates.yaml"))
    command = poc_command(Path("takes"), Path("../out"), given)
    words = dict(itertools.pairwise(shlex.split(command)))
    assert words["poc"] == str(here / "takes")
    assert words["--out"] == str(tmp_path / "out")
    assert words["--base"] == str(here / "models" / "tiny")
    assert words["--gates"] == str(here / "rules" / "gates.yaml")
    assert "--base" not in poc_command(Path("takes"), Path("out"), PocOptions(base="nano-musicgen"))
