"""Tests of talim.recipe: merging, validation, ids and serialisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from talim import recipe as recipes
from talim.design.expression import Design
from talim.errors import TalimError, UsageError
from talim.recipe import Recipe, Training


def with_rate(recipe: Recipe) -> Recipe:
    """With the learning rate that was the default of all designs."""
    return recipe.model_copy(update={"training": Training(learning_rate=1e-3)})


def test_recipe_defaults_have_a_known_id() -> None:
    recipe = Recipe(corpus="songs")
    assert (recipe.base, str(recipe.design), recipe.training.steps) == ("nano-musicgen", "linear@all:2.5%", 300)
    assert recipes.run_id(with_rate(recipe), "0" * 64) == "c7b9c58971a3"


def test_a_rate_that_is_left_open_is_no_difference_to_one_that_was_chosen() -> None:
    open_, chosen = Recipe(corpus="songs"), with_rate(Recipe(corpus="songs"))
    assert recipes.recipe_differences(chosen, open_) == {}
    assert recipes.recipe_differences(open_, chosen) == {"training.learning_rate": (None, 1e-3)}
    with pytest.raises(ValueError, match="chosen when training begins"):
        _ = open_.training.peak_rate


def test_recipe_design_text_becomes_a_design() -> None:
    recipe = Recipe(corpus="songs", design=" conv@shallow:8M ")
    assert recipe.design == Design.parse("conv@shallow:8M")
    assert recipe.model_dump()["design"] == "conv@shallow:8M"
    assert Recipe(corpus="songs", design=recipe.design) == recipe
    for wrong in ("conv@nowhere:8M", "", 3, None):
        with pytest.raises(UsageError, match="KIND@SITE:SIZE"):
            recipes.load((), {"corpus": "songs", "design": wrong})


def test_recipe_constructor_with_wrong_values_raises_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown key sed: did you mean seed"):
        Recipe(corpus="songs", sed=1)  # type: ignore[call-arg]
    assert Recipe(corpus=Path("songs")) == Recipe(corpus="songs")


def test_init_from_counts_by_its_content_and_not_at_all_where_there_is_none() -> None:
    anew, begun, moved = Recipe(corpus="songs"), *(Recipe(corpus="songs", init_from=f) for f in ("a/lora", Path("b")))
    assert recipes.run_id(with_rate(anew), "0" * 64) == "c7b9c58971a3"  # as before there was such a key
    assert recipes.run_id(begun, "0" * 64, "f00d") == recipes.run_id(moved, "0" * 64, "f00d")
    assert recipes.run_id(begun, "0" * 64, "f00d") != recipes.run_id(begun, "0" * 64, "beef")
    assert recipes.recipe_differences(begun, moved) == {}
    assert recipes.recipe_differences(anew, begun) == {"init_from": (None, "a/lora")}
    assert recipes.load((), {**begun.model_dump()}) == begun
    with pytest.raises(UsageError, match=r"init_from: a/lora: a study is about designs, .* has its own: talim train"):
        recipes.check_own_design(begun, "a study")


def test_run_id_changes_with_every_setting_that_decides_the_result() -> None:
    trainings = (
        Training(),
        Training(train_fraction=0.5),
        Training(loss_weighting="min_snr_v"),
        Training(loss_weighting="none"),
        Training(predict_beats_chords=True),
        Training(crop="fixed"),
        Training(adapter_compute_dtype="same_as_base"),
    )
    ids = {recipes.run_id(Recipe(corpus="songs", training=training)) for training in trainings}
    assert len(ids) == len(trainings)
    cached = Training(frozen_cache="on", frozen_cache_gb=3.0)
    assert recipes.run_id(Recipe(corpus="songs", training=cached)) in ids
    assert recipes.recipe_differences(Recipe(corpus="songs"), Recipe(corpus="songs", training=cached)) == {}


def test_load_with_files_and_overrides_lets_later_ones_win(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("corpus: one\ntraining: {steps: 10, batch_size: 2, warmup_steps: 1}\n")
    second.write_text("corpus: two\ntraining: {steps: 20}\n")
    recipe = recipes.load([first, second], {"training.batch_size": 3, "seed": 7})
    assert (recipe.corpus, recipe.seed) == ("two", 7)
    assert (recipe.training.steps, recipe.training.batch_size, recipe.training.warmup_steps) == (20, 3, 1)


def test_load_of_every_builtin_overlay_succeeds() -> None:
    assert {"base", "small-gpu", "quick"} <= set(recipes.builtin_overlays())
    for name in recipes.builtin_overlays():
        recipe = recipes.load([name], {"corpus": "songs"})
        assert recipe.training.warmup_steps < recipe.training.steps, name


def test_load_of_base_overlay_equals_the_defaults() -> None:
    assert recipes.load(["base"], {"corpus": "songs"}) == Recipe(corpus="songs")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"corpus": "c", "training.learnig_rate": 0.1},
            ["training.learnig_rate", "did you mean training.learning_rate"],
        ),
        (
            {"corpus": "c", "stepz": 3},
            ["unknown key stepz", "Known: base, corpus, design, init_from, kind_options, seed, training"],
        ),
        ({"corpus": "c", "steps": 3}, ["unknown key steps", "did you mean training.steps"]),
        ({"corpus": "c", "training.steps": "many"}, ["training.steps is 'many'"]),
        ({"corpus": "c", "training.steps": 0}, ["training.steps is 0"]),
        ({"corpus": "c", "training.learning_rate": float("nan")}, ["training.learning_rate"]),
        ({"corpus": "c", "seed": -1}, ["seed is -1"]),
        ({"corpus": "c", "training.warmup_steps": 400}, ["warmup_steps is 400", "300 steps"]),
        ({"corpus": "c", "training.precision": "int8"}, ["training.precision is 'int8'"]),
        ({}, ["corpus is missing; give --corpus"]),
        ({"corpus": "c", "training": 3}, ["training is 3"]),
        ({"corpus": "c", "training.train_fraction": 0}, ["training.train_fraction is 0"]),
        ({"corpus": "c", "training.train_fraction": 1.1}, ["training.train_fraction is 1.1"]),
        ({"corpus": "c", "training.loss_weighting": "snr"}, ["training.loss_weighting", "min_snr_v"]),
    ],
)
def test_load_with_wrong_values_raises_one_line_with_a_hint(values: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        recipes.load((), values)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [("- a\n- b\n", "a list"), ("corpus: [", "not a YAML file"), ("training: {nope: 1}\n", "training.nope")],
)
def test_load_of_wrong_file_raises_usage_error(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=word):
        recipes.load([path], {"corpus": "c"})


def test_load_of_missing_file_lists_the_builtin_overlays() -> None:
    with pytest.raises(TalimError, match="small-gpu"):
        recipes.load(["no-such-recipe"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.steps=5", ("training.steps", 5)),
        ("training.learning_rate=1e-4", ("training.learning_rate", "1e-4")),  # YAML 1.1 says text, pydantic a number
        ("training.crop_seconds=null", ("training.crop_seconds", None)),
        ("base=a=b", ("base", "a=b")),
    ],
)
def test_parse_setting_reads_the_value_as_yaml(text: str, expected: tuple[str, object]) -> None:
    assert recipes.parse_setting(text) == expected
    assert recipes.load((), {"corpus": "c", **dict([expected])}).corpus == "c"


@pytest.mark.parametrize("text", ["steps", "=3", "a=[1"])
def test_parse_setting_of_wrong_text_raises_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        recipes.parse_setting(text)


def test_load_with_null_override_clears_the_field(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("corpus: c\ntraining: {crop_seconds: 5}\n")
    assert recipes.load([tmp_path / "a.yaml"], {"training.crop_seconds": None}).training.crop_seconds is None


def test_load_with_kind_options_accepts_numbers_and_lists_only() -> None:
    recipe = recipes.load(overrides={"corpus": "songs", "kind_options.conv.dilations": [1, 3]})
    assert recipe.kind_options == {"conv": {"dilations": [1, 3]}}
    with pytest.raises(UsageError, match=r"kind_options\.conv\.kernel_size"):
        recipes.load(overrides={"corpus": "songs", "kind_options.conv.kernel_size": "wide"})
    with pytest.raises(UsageError, match=r"kernel_size has to be a whole number, not 7\.5"):
        recipes.load(overrides={"corpus": "songs", "kind_options.conv.kernel_size": 7.5})


def test_load_kind_options_whole_numbers_have_one_id() -> None:
    def run_id(value: float) -> str:
        values = {"corpus": "songs", "design": "lora@all:r2", "kind_options.lora.alpha_per_rank": value}
        return recipes.run_id(recipes.load(overrides=values))

    assert run_id(1) == run_id(1.0) != run_id(0.5)


def test_recipe_differences_name_keys_and_ignore_the_corpus_path() -> None:
    old = Recipe(corpus="here")
    new = Recipe(corpus="there", seed=1, training=Training(steps=400))
    assert recipes.recipe_differences(old, new) == {"seed": (0, 1), "training.steps": (300, 400)}


def test_run_id_with_corpus_hash_ignores_the_corpus_path() -> None:
    here, there = Recipe(corpus="here"), Recipe(corpus="there")
    assert recipes.run_id(here, "abc") == recipes.run_id(there, "abc") != recipes.run_id(here, "abd")


@given(
    seed=st.integers(0, 2**31 - 1),
    steps=st.integers(21, 10**6),
    rate=st.floats(1e-8, 1.0),
    corpus=st.text(min_size=1, max_size=30),
)
def test_dump_then_validate_returns_the_same_recipe(seed: int, steps: int, rate: float, corpus: str) -> None:
    recipe = Recipe(corpus=corpus, seed=seed, training=Training(steps=steps, learning_rate=rate))
    again = Recipe.model_validate(yaml.safe_load(recipes.dump(recipe)))
    assert again == recipe
    assert recipes.run_id(again) == recipes.run_id(recipe)
