"""Learning rates of a proof of concept: tried on validation, within the time budget, resumed, and said where not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import CollectedProgress, FakeRuns, by_kind, fake_runs, fake_traces, short_options
from fixtures.japanese_block import foreign_words

from talim.atomic_io import read_json, read_jsonl, write_json
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.design.default_rate import default_learning_rate
from talim.design.expression import Design
from talim.errors import DivergedError, TalimError
from talim.experiments.tuning import TunedFamily
from talim.html.formatting import format_count
from talim.planning.base_facts import base_model_facts
from talim.poc import rate_search
from talim.poc.budget import Division
from talim.poc.demo import DEMO_OPTIONS
from talim.poc.options import PocOptions, build_recipes
from talim.poc.pipeline import poc
from talim.poc.runs import PocContext
from talim.poc.state import StageCache
from talim.recipe import Recipe, Training
from talim.reporting import messages, run_results
from talim.run import Run
from talim.time_log import TimeLog
from talim.training.time_budget import StepTiming

BEST = {"linear": 0.001, "conv": 0.003, "transformer": 0.0003}  # of a kind; a study's grid grows at its edge
STEP_SECONDS = 0.1


def rate_options(**changes: Any) -> PocOptions:
    """Three designs of 400 steps, whose rates are tried."""
    steps = () if "hours" in changes else (("training.steps", 400),)
    return short_options(**{"tune": True, "settings": (*steps, ("training.warmup_steps", 1)), **changes})


def by_rate(recipe: Recipe) -> float:
    """Less of a reduction the farther the rate is from the kind's best one."""
    kind, rate = recipe.design.parts[0].kind, recipe.training.learning_rate
    return by_kind(recipe) - 0.01 * abs(rate - BEST[kind]) / BEST[kind]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    """Trainings as long as they were timed; corpora without a page."""
    fakes = fake_runs(monkeypatch, by_kind)
    monkeypatch.setattr("talim.corpus.report.write", lambda corpus: None)
    fakes.validation_reduction = by_rate

    def train(recipe: Recipe, folder: Path, *rest: Any) -> Run:
        run = fakes.train(recipe, folder, *rest)
        write_json(run.cost, read_json(run.cost) | {"wall_seconds": STEP_SECONDS * recipe.training.steps})
        return run

    monkeypatch.setattr("talim.training.train.train", train)
    return fakes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, short_takes: Path) -> Corpus:
    """The recordings, prepared (read only by agreement)."""
    folder = tmp_path_factory.mktemp("rates") / "corpus"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("talim.corpus.report.write", lambda corpus: None)
        prepare(short_takes, folder, clip_seconds=2.0)
    return Corpus.load(folder)


@pytest.fixture
def begun(tmp_path: Path, corpus: Corpus) -> Path:
    """The folder of a proof of concept whose recordings have been decoded."""
    shutil.copytree(corpus.folder, tmp_path / "out" / "corpus")
    return tmp_path / "out"


def search(out: Path, corpus: Corpus) -> dict[str, TunedFamily]:
    """The search alone, for three designs of 400 steps without a time budget."""
    options = rate_options()
    cache, log = StageCache(out / "stage_cache.json"), TimeLog(out / "time_log.json", "all")
    context = PocContext(out, options, corpus, CollectedProgress(), cache, log)
    designs = {
        design: recipe.model_copy(update={"corpus": str(corpus.folder)})
        for design, recipe in build_recipes(options, out).items()
    }
    designs = rate_search.with_default_rates(designs, corpus)
    return {family.family: family for family in rate_search.try_rates(context, {"short_steps": 100}, designs, 20)}


def rates_of(out: Path) -> dict[str, tuple[float, int]]:
    """The rate and the steps of each design that was compared."""
    trainings = {path: Run(path).recipe.training for path in run_results.find_runs(out)}
    return {path.name.split("-")[0]: (each.learning_rate, each.steps) for path, each in trainings.items()}


def test_the_best_rate_of_each_kind_on_validation_is_used_and_told(
    begun: Path, short_takes: Path, fakes: FakeRuns
) -> None:
    fakes.loss_reduction = lambda recipe: (
        by_kind(recipe) + recipe.training.learning_rate
    )  # the test side says otherwise
    result = poc(short_takes, begun, rate_options())
    assert rates_of(begun) == {kind: (rate, 400) for kind, rate in BEST.items()}
    rows = {row["family"]: row for row in result["tuning"]["families"]}
    tried = {
        kind: [each["values"]["training.learning_rate"] for each in row["candidates"]] for kind, row in rows.items()
    }
    assert tried == {
        "linear": [0.0003, 0.001, 0.003],
        "conv": [0.0003, 0.001, 0.003, 0.009],  # the greatest of three was best
        "transformer": [9e-05, 0.0003, 0.001, 0.003],
    }
    assert all(row["inside"] for row in rows.values())
    lines = read_jsonl(begun / "tuning" / "trials.jsonl")
    assert len(lines) == 3 + 4 + 4
    assert not any((begun / "tuning" / "runs" / line["id"] / "adapter").exists() for line in lines)
    recipe = Run(begun / "tuning" / "runs" / lines[0]["id"]).recipe
    assert (recipe.training.steps, recipe.seed) == (100, 100)  # neither the steps nor the seed of the comparison
    assert fakes.evaluated == ["linear-all-2.7", "conv-all-2.7", "transformer-all-2.7"]  # the test side: these alone
    note = result["tuning"]["note"]
    assert "in short trainings of 100 steps and one seed" in note
    assert "conv 0.003; transformer 0.0003." in note  # the rates that were tried are in the table
    assert note in messages.poc_message(result)
    assert "conv 0.003、transformer 0.0003。" in messages.poc_message(result, "ja")
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert note in page
    assert "<strong>0.003: " in page
    assert "0.00009: " in page  # with an exponent it would break at the hyphen
    assert "No other rate was tried" not in page
    assert note == read_json(begun / "stages.json")["tuning"]["note"]


@pytest.mark.parametrize("slowness", [2.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_rates_are_tried_within_the_time_budget_and_all_designs_get_what_is_left(
    begun: Path, short_takes: Path, fakes: FakeRuns, monkeypatch: pytest.MonkeyPatch, slowness: float
) -> None:
    """Where training takes twice as long as it was timed all designs get fewer steps, and equally many."""
    spent: list[float] = []
    monkeypatch.setattr("talim.time_log.TimeLog.seconds", property(lambda self: sum(spent)))

    def train(recipe: Recipe, folder: Path, *rest: Any) -> Run:
        run = fakes.train(recipe, folder, *rest)
        seconds = STEP_SECONDS * slowness * recipe.training.steps
        write_json(run.cost, read_json(run.cost) | {"wall_seconds": seconds})
        spent.append(seconds + (2 if "tuning" in folder.parts else 1 + 20))  # with starts and evaluations, as timed
        return run

    monkeypatch.setattr("talim.training.train.train", train)
    monkeypatch.setattr("talim.poc.report_section.write_report", lambda out: out)
    result = poc(short_takes, begun, rate_options(hours=1.0))
    assert {kind: rate for kind, (rate, _) in rates_of(begun).items()} == BEST
    (steps,) = {steps for _, steps in rates_of(begun).values()}
    assert 0.9 * 3600 < sum(spent) < 3600
    told = f"{format_count(steps)} steps for each of the 3 designs within 1 h."
    assert told in result["stages"][0]["sentences"][-1]
    plan = read_json(begun / "plan.json")
    assert plan["short_steps"] >= rate_search.MIN_STEPS // 4
    assert plan["estimate"].startswith(
        "3 trainings, 9 to 15 short ones that try learning rates with evaluation and the page: about"
    )
    assert plan["estimated_seconds"] == pytest.approx(3600, rel=0.1)
    assert all(each["step_seconds"] == pytest.approx(0.1 * slowness, rel=0.05) for each in plan["timings"].values())


@pytest.mark.slow
def test_too_little_time_is_said_with_hours_that_do(tmp_path: Path, short_takes: Path, fakes: FakeRuns) -> None:
    progress = CollectedProgress()
    result = poc(short_takes, tmp_path / "out", rate_options(hours=0.05), progress)
    assert result["tuning"]["families"] == []
    note = result["tuning"]["note"]
    assert "All trainings had the learning rate 0.001. No other rate was tried: in this time" in note
    assert note in messages.poc_message(result)
    assert note in Path(result["page"]).read_text(encoding="utf-8")
    assert any(line.startswith("no other learning rates are tried: in this time") for line in progress.messages)


def test_the_hours_that_are_named_leave_enough_steps() -> None:
    timing = StepTiming(0.5, 4.0)
    division = Division(Training(), [timing] * 3, 30.0, [StepTiming(0.125, 8.0)] * 12, 2.0)
    text = rate_search.too_little_time(division, 20, 500.0, 600.0)
    seconds = float(text.partition("--hours ")[2].split()[0]) * 3600
    assert division.steps(500.0, short=True) < 200 <= division.steps(seconds - 100.0, short=True)
    assert seconds < 2 * 3 * (200 * 0.5 + 34) + 12 * (50 * 0.5 + 10) + 100
    assert "and 200 are needed" in text
    assert foreign_words(messages.stored_sentences(text, "ja")) == []
    assert "and 500 are needed" in rate_search.too_little_time(division, 500, 500.0, 600.0)  # as the gate requires


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"hours": 0.1, "settings": ()}, ""),  # its steps are not known yet
        ({"tune": False}, "tries others first unless it gets --no-tune"),
        ({"settings": (("training.learning_rate", 0.002),)}, "it was given with --set training.learning_rate"),
        (
            {"settings": (("training.steps", 199),)},
            "a quarter of 199 steps shows little; with --set training.steps=200",
        ),
    ],
)
def test_why_no_rates_are_tried(tmp_path: Path, corpus: Corpus, changes: dict[str, Any], reason: str) -> None:
    options = rate_options(**changes)
    training = next(iter(build_recipes(options, tmp_path).values())).training
    found = rate_search.objection(options, corpus, training)
    assert bool(found) == bool(reason)
    assert foreign_words(messages.stored_sentences(found, "ja"), ["training.learning_rate", "training.steps"]) == []
    assert reason in found
    unsplit = replace(corpus, clips=tuple(clip for clip in corpus.clips if clip.split != "validation"))
    assert (
        foreign_words(
            messages.stored_sentences(rate_search.objection(options, unsplit, training), "ja"),
            ["training.learning_rate"],
        )
        == []
    )


def test_a_search_that_is_killed_goes_on_with_what_is_missing(
    tmp_path: Path, corpus: Corpus, fakes: FakeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = search(tmp_path / "expected", corpus)
    needed = len(fakes.trained)
    fakes.trained.clear()
    for killed_at in (2, 9):

        def killed(folder: Path, *rest: Any, killed_at: int = killed_at) -> Any:
            if len(fakes.trained) >= killed_at:
                raise KeyboardInterrupt
            return fakes.validation_loss(folder, *rest)

        monkeypatch.setattr("talim.evaluation.held_out_loss.validation_loss", killed)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "out", corpus)
    monkeypatch.setattr("talim.evaluation.held_out_loss.validation_loss", fakes.validation_loss)
    assert search(tmp_path / "out", corpus) == expected
    assert len(fakes.trained) == needed == 3 + 4 + 4  # nothing twice


def test_rates_at_which_training_diverges_are_not_chosen(
    tmp_path: Path, corpus: Corpus, fakes: FakeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(recipe: Recipe, folder: Path, *rest: Any) -> Run:
        kind = recipe.design.parts[0].kind
        if kind == "conv" and recipe.training.learning_rate > 5e-4:
            raise DivergedError("the loss is not finite")
        if kind == "transformer":
            raise TalimError("no memory")
        return fakes.train(recipe, folder, *rest)

    monkeypatch.setattr("talim.training.train.train", train)
    found = search(tmp_path, corpus)
    assert {kind: family.chosen["training.learning_rate"] for kind, family in found.items()} == {
        "linear": 0.001,
        "conv": 0.0003,
    }
    tried = dict(zip(found["conv"].rates, found["conv"].losses, strict=True))
    assert list(tried) == [9e-05, 0.0003, 0.001, 0.003]  # the least of the finite ones was best, so the grid grew
    assert [rate for rate, loss in tried.items() if loss is None] == [0.001, 0.003]
    plan = {"short_steps": 100, "recipes": {"linear@all:2.7%": {"training": {"learning_rate": 0.001}}}}
    note = rate_search.summary(plan, tmp_path)["note"]
    assert "0.001" not in note.split("conv")[1]
    assert "Of transformer no other rate was chosen: a short training failed (no memory)." in note
    assert foreign_words(messages.stored_sentences(note, "ja"), ["no memory", "linear", "conv", "transformer"]) == []


def test_a_short_training_whose_time_is_over_chooses_nothing(
    tmp_path: Path, corpus: Corpus, fakes: FakeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(recipe: Recipe, folder: Path, *rest: Any) -> Run:
        run = fakes.train(recipe, folder, *rest)
        late = recipe.training.learning_rate in (0.009, 0.0003) and recipe.design.parts[0].kind != "transformer"
        write_json(run.cost, read_json(run.cost) | {"steps": 7, "stopped_for_time": late})
        return run

    monkeypatch.setattr("talim.training.train.train", train)
    assert set(search(tmp_path, corpus)) == {"transformer"}
    plan = {"short_steps": 100, "recipes": {}}
    for _ in range(2):  # as told again after a restart
        note = rate_search.summary(plan, tmp_path)["note"]
        assert "Of linear no other rate was chosen: its time was over within 100 steps." in note
        assert foreign_words(messages.stored_sentences(note, "ja"), ["linear", "conv", "transformer"]) == []
        search(tmp_path, corpus)


@pytest.mark.slow
def test_short_trainings_move_away_with_the_plan_that_chose_by_them(
    tmp_path: Path, short_takes: Path, fakes: FakeRuns
) -> None:
    out = tmp_path / "out"
    first = poc(short_takes, out, rate_options())
    count = len(fakes.trained)
    without = poc(short_takes, out, rate_options(tune=False))  # not the tuned runs under another name
    assert without["tuning"]["families"] == []
    assert {rate for rate, _ in rates_of(out).values()} == {0.001}
    assert poc(short_takes, out, rate_options())["tuning"] == first["tuning"]
    assert len(fakes.trained) == count + 3
    shutil.rmtree(out / "tuning")  # what was chosen stays
    assert poc(short_takes, out, rate_options())["tuning"] == first["tuning"]
    assert len(fakes.trained) == count + 3


@pytest.mark.slow
def test_rates_are_tried_with_a_real_model(
    tmp_path: Path, short_takes: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_traces(monkeypatch)
    monkeypatch.setattr(rate_search, "MIN_STEPS", 8)
    training = {"steps": 8, "batch_size": 2, "warmup_steps": 1, "eval_every": 2, "eval_clips": 2, "precision": "fp32"}
    settings = tuple((f"training.{name}", value) for name, value in training.items())
    options = rate_options(base=str(tiny_base), designs=("linear@all:10%",), settings=settings)
    result = poc(short_takes, tmp_path / "out", options)
    (family,) = result["tuning"]["families"]
    losses = {each["values"]["training.learning_rate"]: each["loss"] for each in family["candidates"]}
    sites = base_model_facts(str(tiny_base)).shape.sites()
    usual = default_learning_rate(Design.parse("linear@all:10%"), sites, 0.0)  # there is less than a minute of music
    assert set(losses) >= {float(f"{usual * factor:.3g}") for factor in (0.3, 1, 3)}
    assert len({*losses.values()}) == len(losses)  # each was trained
    assert family["chosen"]["training.learning_rate"] == min(losses, key=lambda rate: losses[rate])
    assert Run(Path(result["run"])).recipe.training.learning_rate == family["chosen"]["training.learning_rate"]


def test_the_demonstration_tries_none() -> None:
    assert not DEMO_OPTIONS.tune
