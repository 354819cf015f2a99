"""Study files: expansion of grids, stable ids, and messages for invalid files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from talim.design.expression import Design
from talim.errors import UsageError
from talim.experiments import study_file
from talim.experiments.study_file import StudyConfig

STUDIES = Path(__file__).parents[2] / "studies"
CORPORA = {"sung": {"synthesize": {"tradition": "makam", "ensemble_size": 1}}, "own": {"recordings": "takes"}}
KINDS = st.lists(st.sampled_from(["linear", "conv", "transformer"]), min_size=1, max_size=3, unique=True)
SITES = st.lists(st.sampled_from(["all", "deep", "post", "layers[0-1]"]), min_size=1, max_size=3, unique=True)
PERCENTS = st.lists(st.sampled_from([0.13, 0.53, 2.7]), min_size=1, max_size=3, unique=True)
SEEDS = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)


def study(**changes: Any) -> StudyConfig:
    return StudyConfig.model_validate({"corpora": CORPORA, "grids": {"a": {"designs": ["linear@all:2%"]}}, **changes})


def ids(config: StudyConfig) -> set[str]:
    return {trial.id for trial in study_file.expand(config)}


@given(KINDS, SITES, PERCENTS, SEEDS)
def test_expand_grid_is_the_product_of_its_axes(kinds: list, sites: list, percents: list, seeds: list) -> None:
    trials = study_file.expand(
        study(grids={"a": {"kinds": kinds, "sites": sites, "size_percent": percents, "seeds": seeds}})
    )
    assert len(trials) == len(kinds) * len(sites) * len(percents) * len(seeds) * len(CORPORA)
    assert len({trial.id for trial in trials}) == len(trials)
    expected = {f"{k}@{s}:{h:g}%" for k in kinds for s in sites for h in percents}
    assert {str(trial.design) for trial in trials} == expected


@given(KINDS, PERCENTS, SEEDS, st.sampled_from(["conv@post:3%", "full@all", "lora@all:1%"]), st.integers(6, 9))
def test_expand_added_trials_change_no_other_id(
    kinds: list, percents: list, seeds: list, design: str, seed: int
) -> None:
    axes = {"kinds": kinds, "sites": ["all"], "size_percent": percents, "seeds": seeds}
    before = ids(study(grids={"a": axes}))
    wider = {**axes, "designs": [design], "seeds": [*seeds, seed]}
    more = study(
        grids={"new": {"designs": [design]}, "renamed": wider},
        corpora={**CORPORA, "other": {"recordings": "elsewhere", "genre": "gamelan"}},
    )
    assert before < ids(more)


def test_expand_id_depends_on_content_alone() -> None:
    one = study()
    assert ids(one) == ids(study(grids={"b": {"designs": ["linear @ all : 2.0%"]}}))  # the same, spelt otherwise
    changed = [
        study(overrides={"training.steps": 51}),
        study(generation={"clips": 1}),
        study(corpora={**CORPORA, "sung": {"synthesize": {"tradition": "makam", "ensemble_size": 1, "seed": 1}}}),
        study(grids={"a": {"designs": ["linear@all:2%"], "bases": ["musicgen-small"]}}),
        study(base_overrides={"nano-musicgen": {"training": {"learning_rate": 1e-4}}}),
    ]
    assert all(ids(one) != ids(other) for other in changed)
    relabelled = {name: {**source, "genre": "x", "texture": "y"} for name, source in CORPORA.items()}
    assert ids(one) == ids(study(corpora=relabelled))
    renamed = {f"{name}-again": source for name, source in CORPORA.items()}
    assert ids(one) == ids(study(corpora=renamed))
    assert ids(one) == ids(study(overrides={"training.frozen_cache": "off"}))  # how, not what


def test_expand_ids_are_stable_across_versions() -> None:
    """An id that changes throws away people's results: if this fails on purpose, PROTOCOL goes up."""
    assert sorted(ids(study(overrides={"training.learning_rate": 0.001}))) == KNOWN


def test_expand_kind_options_apply_to_their_kinds_only() -> None:
    trials = study_file.expand(
        study(
            overrides={"kind_options.conv.kernel_size": 7}, grids={"a": {"designs": ["conv@all:2%", "linear@all:2%"]}}
        )
    )
    assert {str(trial.design): trial.recipe.kind_options for trial in trials} == {
        "conv@all:2%": {"conv": {"kernel_size": 7}},
        "linear@all:2%": {},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gird": {}}, "unknown key gird: did you mean grids?"),
        ({"grids": {"a": {"design": ["x"]}}}, "unknown key grids.a.design: did you mean designs?"),
        ({"grids": {"a": {"kinds": ["conv"]}}}, "make designs together"),
        ({"grids": {"a": {"seeds": [1]}}}, "no designs"),
        ({"grids": {"a": {"designs": ["convv@all:2%"]}}}, "did you mean 'conv'"),
        ({"grids": {"a": {"designs": ["conv@all:2%"], "corpora": ["his"]}}}, "there are own, sung"),
        ({"corpora": {"x": {"recordings": "a", "corpus": "b"}}}, "recordings and corpus"),
        ({"corpora": {"../x": {"recordings": "a"}}}, "cannot be the name of a folder"),
        ({"corpora": {"x": {"synthesize": {"tradition": "makam", "ensemble_size": 4}}}}, "ensemble_size"),
        ({"overrides": {"training.stepz": 3}}, "did you mean training.steps"),
        ({"overrides": {"design": "conv@all:2%"}}, "belongs into a grid"),
        ({"base_overrides": {"musicgen-smal": {}}}, "no grid has this base"),
        ({"generation": {"clips": 0}}, "at least 1"),
        ({"retain": "nothing"}, "'adapters' or 'results'"),
    ],
)  # fmt: skip
def test_load_invalid_file_raises_one_line_with_a_hint(changes: dict, message: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    plain = {"corpora": CORPORA, "grids": {"a": {"designs": ["linear@all:2%"]}}}
    file.write_text(yaml.safe_dump({**plain, **changes}), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        study_file.load(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "every", "clips"),
    [
        ({}, 5, 5),  # 50 steps of 4 clips: 11 evaluations of 5 clips, a third of a step's cost each, are 9 %
        ({"training": {"steps": 300}}, 30, 32),
        ({"training.steps": 300, "training.crop_seconds": 2.5}, 30, 8),  # an evaluation reads whole clips
        ({"training.steps": 7, "training.batch_size": 2, "training.warmup_steps": 1}, 1, 1),
        ({"training.steps": 300, "training.eval_every": 300}, 300, 32),
        ({"training.eval_clips": 2}, 5, 2),
    ],
)
def test_expand_curves_have_about_ten_points_for_a_tenth_of_the_training(
    overrides: dict, every: int, clips: int
) -> None:
    trials = study_file.expand(study(overrides=overrides))
    training = trials[0].recipe.training
    assert (training.eval_every, training.eval_clips) == (every, clips)
    assert training.early_stopping_patience > training.steps  # all trials take the same steps


def test_trial_factors_of_sized_unsized_and_mixed_designs() -> None:
    def of(design: str) -> dict[str, Any]:
        trials = study_file.expand(study(grids={"a": {"designs": [design], "corpora": ["sung"]}}))
        return study_file.trial_factors(trials[0], 1000, 40)

    assert of("conv@deep:2.7%") == {
        "base": "nano-musicgen",
        "genre": "makam",
        "texture": "solo",
        "kind": "conv",
        "site": "deep",
        "size_fraction": 0.027,
        "width": None,
    }
    assert of("full@all")["size_fraction"] is None
    assert of("conv@all:width4")["width"] == of("conv@deep:width4+full@post")["width"] == 4
    assert of("conv@deep:width4+linear@shallow:width8")["width"] is None
    assert of("lora@all:r4")["width"] is None
    assert of("conv@all:30")["size_fraction"] == 0.03
    assert of("conv@all:width4")["size_fraction"] == 0.04
    assert {k: of("conv@deep:2%+full@post")[k] for k in ("kind", "site", "size_fraction")} == {
        "kind": "conv+full", "site": "deep+post", "size_fraction": 0.02,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["demo.yaml", "paper/nano.yaml", "paper/played.yaml", "paper/full.yaml"])
def test_load_shipped_studies_succeeds(name: str) -> None:
    assert study_file.expand(study_file.load(STUDIES / name))


def test_expand_nano_study_runs_the_kinds_first_and_the_controls_last() -> None:
    trials = study_file.expand(study_file.load(STUDIES / "paper/nano.yaml"))
    first = trials[: 4 * 2 * 4]
    assert {trial.grid for trial in first} == {"kinds"}
    assert {str(trial.design) for trial in first} == {
        f"{k}@all:2.7%" for k in ("linear", "conv", "transformer", "lora")
    }
    assert {trial.seed for trial in first} == set(range(4))
    assert {trial.corpus for trial in first} == {"hindustani-solo", "makam-solo"}
    controls = [trial for trial in trials if trial.control]
    assert controls == trials[-len(controls) :]
    planted = {trial.inserted for trial in controls if trial.control == "planted"}
    assert planted == {"50 % of the steps", "trained without ornaments", "trained without returns"}


def test_expand_paper_study_has_the_settings_of_the_paper() -> None:
    study = study_file.load(STUDIES / "paper/full.yaml")
    trials = study_file.expand(study)
    assert {trial.base for trial in trials} == {"facebook/musicgen-medium", "declare-lab/mustango"}
    adapters = {str(trial.design) for trial in trials if "full" not in str(trial.design)}
    assert {design.rpartition(":")[2] for design in adapters} == {"2M", "40M", "70M"}
    kinds = {part.kind for trial in trials for part in trial.design.parts}
    assert kinds == {"linear", "conv", "transformer", "lora", "full"}
    hybrid = Design.parse("conv@deep:27.4M+full@post")
    assert {Design.parse("full@post"), hybrid} <= {trial.design for trial in trials}
    training = trials[0].recipe.training
    assert (training.learning_rate, training.weight_decay, training.batch_size) == (5e-5, 0.05, 4)
    assert study.tune is not None
    assert study.tune.learning_rate[0] < 5e-5 < study.tune.learning_rate[-1]
    linear = {trial.base for trial in trials if str(trial.design).startswith("linear")}
    assert linear == {"facebook/musicgen-medium"}


KNOWN = ["a4fcd2a7cf3f", "b43e23ae096e"]


# Control grids

PLAIN = {"synthesize": {"tradition": "makam", "ensemble_size": 1, "ornaments": False}}
MAIN = {"designs": ["linear@all:2%", "conv@all:2%"], "corpora": ["sung"], "seeds": [0, 1]}


def with_controls(**grids: Any) -> StudyConfig:
    return study(corpora={**CORPORA, "plain": PLAIN}, grids={"main": MAIN, **grids})


def controls_of(config: StudyConfig) -> list[study_file.TrialSpec]:
    return [trial for trial in study_file.expand(config) if trial.control]


def test_a_planted_grid_trains_its_designs_on_a_fraction_of_the_steps_of_their_likes() -> None:
    config = with_controls(half={**MAIN, "control": "planted", "steps_fraction": 0.5})
    assert ids(config) > ids(with_controls())
    found, others = controls_of(config), {trial.id: trial for trial in study_file.expand(with_controls())}
    assert len(found) == 4
    for trial in found:
        assert trial.compared is not None
        like = others[trial.compared.id]
        assert (trial.design, trial.seed, trial.corpus) == (like.design, like.seed, like.corpus)
        assert trial.recipe.training.steps * 2 == like.recipe.training.steps
        assert trial.inserted == "50 % of the steps"
        assert study_file.settings_hash(trial, "c") == study_file.settings_hash(like, "c")
        assert trial.name.endswith("(planted: 50 % of the steps)")
    assert study_file.expand(config)[-1].control == "planted"  # after all others, wherever the grid stands


def test_a_planted_corpus_is_trained_on_and_its_like_measured() -> None:
    config = with_controls(plain={"designs": ["linear@all:2%"], "seeds": [0], "control": "planted"})
    (trial,) = controls_of(config)
    assert (trial.corpus, trial.trained_on, trial.inserted) == ("sung", "plain", "trained without ornaments")
    assert trial.corpus_spec == config.corpora["sung"]
    assert trial.generation is None
    assert trial.compared is not None
    assert trial.recipe.training == trial.compared.recipe.training


def test_corpora_that_leave_something_out_are_in_no_grid_by_default() -> None:
    config = study(corpora={**CORPORA, "plain": PLAIN})
    assert {trial.corpus for trial in study_file.expand(config)} == {"sung", "own"}
    assert ids(config) == ids(study())
    assert "ornaments" not in config.corpora["sung"].identity()["synthesize"]
    assert config.corpora["plain"].identity()["synthesize"]["ornaments"] is False


def test_an_equal_grid_adds_seeds_that_are_in_no_table() -> None:
    config = with_controls(more={**MAIN, "seeds": [2, 3], "control": "equal"})
    found = controls_of(config)
    assert {(str(trial.design), trial.seed) for trial in found} == {
        (f"{kind}@all:2%", seed) for kind in ("linear", "conv") for seed in (2, 3)
    }
    assert not {trial.id for trial in found} & ids(with_controls(main={**MAIN, "seeds": [0, 1, 2, 3]}))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"control": "planted", "corpora": ["sung"]}, "nothing is planted; give steps_fraction"),
        ({"control": "planted", "steps_fraction": 0.5, "seeds": [5]}, "needs its like in another grid"),
        ({"control": "planted", "steps_fraction": 0.5, "designs": ["full@all"]}, "needs its like in another grid"),
        ({"control": "equal"}, "with other seeds"),
        ({"control": "equal", "designs": ["full@all"], "seeds": [7]}, "with other seeds"),
        ({"control": "planted", "steps_fraction": 1.0}, "less than 1"),
        ({"steps_fraction": 0.5}, "belongs to a grid with control: planted"),
        ({"control": "none"}, "planted"),
    ],
)
def test_control_grids_without_something_to_control_raise(grid: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"corpora": CORPORA, "grids": {"main": MAIN, "more": MAIN | grid}}), "utf-8")
    with pytest.raises(UsageError, match=message):
        study_file.load(file)


def test_a_planted_corpus_without_its_like_raises() -> None:
    alone = {**PLAIN, "clip_seconds": 5}
    config = study(
        corpora={**CORPORA, "plain": alone},
        grids={"main": MAIN, "plain": {**MAIN, "corpora": ["plain"], "control": "planted"}},
    )
    with pytest.raises(UsageError, match=r"corpora\.plain is planted, and no corpus is the same with ornaments"):
        study_file.expand(config)


def test_the_guides_example_of_control_grids_is_a_study() -> None:
    text = (STUDIES.parent / "docs" / "guides" / "study.md").read_text(encoding="utf-8").split("## Controls")[1]
    config = StudyConfig.model_validate(yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]))
    found = {(trial.control, trial.inserted) for trial in controls_of(config)}
    assert found == {
        ("planted", "50 % of the steps"),
        ("planted", "trained without ornaments"),
        ("planted", "trained without returns"),
        ("equal", ""),
    }
