"""Recipes: overlays merge in order, unknown keys are refused with a near name, ids follow the content."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from talim import recipe as recipes
from talim.errors import UsageError
from talim.recipe import Recipe, Training


def test_defaults_and_golden_id() -> None:
    recipe = Recipe(corpus="songs")
    assert (recipe.base, recipe.design, recipe.training.steps) == ("nano-musicgen", "linear@all:2.5%", 300)
    assert recipes.run_id(recipe, "0" * 64) == "929c08d209b4"


def test_settings_that_came_later_change_a_runs_name_only_where_they_are_set() -> None:
    plain = Recipe(corpus="songs")
    names = {recipes.run_id(plain)}
    share = Training(recordings_share=0.5)
    for training in (
        share,
        Training(weighting="v"),
        Training(weighting="none"),
        Training(predict_music=True),
    ):
        names.add(recipes.run_id(Recipe(corpus="songs", training=training)))
    assert len(names) == 5
    assert recipes.run_id(Recipe(corpus="songs", training=Training(recordings_share=1.0))) in names
    for wrong in (0, 1.1, -0.5):
        with pytest.raises(UsageError, match=r"training\.recordings_share"):
            recipes.load((), {"corpus": "songs", "training.recordings_share": wrong})
    with pytest.raises(UsageError, match=r"training\.weighting"):
        recipes.load((), {"corpus": "songs", "training.weighting": "snr"})


def test_later_files_win_and_overrides_win_over_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("corpus: one\ntraining: {steps: 10, batch_size: 2, warmup_steps: 1}\n")
    second.write_text("corpus: two\ntraining: {steps: 20}\n")
    recipe = recipes.load([first, second], {"training.batch_size": 3, "seed": 7})
    assert (recipe.corpus, recipe.seed) == ("two", 7)
    assert (recipe.training.steps, recipe.training.batch_size, recipe.training.warmup_steps) == (20, 3, 1)


def test_every_shipped_recipe_loads() -> None:
    assert {"base", "small-gpu", "quick"} <= set(recipes.builtin_overlays())
    for name in recipes.builtin_overlays():
        recipe = recipes.load([name], {"corpus": "songs"})
        assert recipe.training.warmup_steps < recipe.training.steps, name


def test_the_base_recipe_is_the_defaults() -> None:
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
            ["unknown key stepz", "Known: base, corpus, design, settings, seed, training"],
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
    ],
)
def test_a_wrong_recipe_teaches_in_one_line(values: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        recipes.load((), values)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [("- a\n- b\n", "a list"), ("corpus: [", "not a YAML file"), ("training: {nope: 1}\n", "training.nope")],
)
def test_a_wrong_file_teaches(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=word):
        recipes.load([path], {"corpus": "c"})


def test_a_missing_file_names_the_shipped_ones() -> None:
    with pytest.raises(UsageError, match="small-gpu"):
        recipes.load(["no-such-recipe"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.steps=5", ("training.steps", 5)),
        (
            "training.learning_rate=1e-4",
            ("training.learning_rate", "1e-4"),
        ),  # YAML 1.1 says text, pydantic a number
        ("training.clip_seconds=null", ("training.clip_seconds", None)),
        ("base=a=b", ("base", "a=b")),
    ],
)
def test_settings_are_read_as_yaml(text: str, expected: tuple[str, object]) -> None:
    assert recipes.parse_setting(text) == expected
    assert recipes.load((), {"corpus": "c", **dict([expected])}).corpus == "c"


@pytest.mark.parametrize("text", ["steps", "=3", "a=[1"])
def test_a_wrong_setting_teaches(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        recipes.parse_setting(text)


def test_null_in_an_overlay_empties_a_field(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("corpus: c\ntraining: {clip_seconds: 5}\n")
    assert recipes.load([tmp_path / "a.yaml"], {"training.clip_seconds": None}).training.clip_seconds is None


def test_settings_of_a_kind_are_numbers_or_lists_of_them() -> None:
    recipe = recipes.load(overrides={"corpus": "songs", "settings.conv.dilations": [1, 3]})
    assert recipe.settings == {"conv": {"dilations": [1, 3]}}
    with pytest.raises(UsageError, match=r"settings\.conv\.kernel"):
        recipes.load(overrides={"corpus": "songs", "settings.conv.kernel": "wide"})


def test_differences_name_keys_and_leave_out_where_the_corpus_lies() -> None:
    old = Recipe(corpus="here")
    new = Recipe(corpus="there", seed=1, training=Training(steps=400))
    assert recipes.recipe_differences(old, new) == {"seed": (0, 1), "training.steps": (300, 400)}


def test_the_id_follows_the_corpus_by_content_only() -> None:
    here, there = Recipe(corpus="here"), Recipe(corpus="there")
    assert recipes.run_id(here, "abc") == recipes.run_id(there, "abc") != recipes.run_id(here, "abd")


@given(
    seed=st.integers(0, 2**31 - 1),
    steps=st.integers(21, 10**6),
    rate=st.floats(1e-8, 1.0),
    words=st.text(min_size=1, max_size=30),
)
def test_dump_and_load_are_inverse(seed: int, steps: int, rate: float, words: str) -> None:
    recipe = Recipe(corpus=words, seed=seed, training=Training(steps=steps, learning_rate=rate))
    again = recipes.build(yaml.safe_load(recipes.dump(recipe)))
    assert again == recipe
    assert recipes.run_id(again) == recipes.run_id(recipe)
