"""Grids: what they expand to, ids that stay, and answers to whatever is wrong in a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from talim.errors import UsageError
from talim.experiments import study_file
from talim.experiments.study_file import StudyConfig

STUDIES = Path(__file__).parents[2] / "studies"
CORPORA = {"sung": {"perform": {"tradition": "makam", "players": 1}}, "mine": {"folder": "takes"}}
KINDS = st.lists(st.sampled_from(["linear", "conv", "transformer"]), min_size=1, max_size=3, unique=True)
SITES = st.lists(st.sampled_from(["all", "deep", "post", "layers[0-1]"]), min_size=1, max_size=3, unique=True)
SHARES = st.lists(st.sampled_from([0.13, 0.53, 2.7]), min_size=1, max_size=3, unique=True)
SEEDS = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)


def study(**changes: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {"corpora": CORPORA, "grids": {"a": {"designs": ["linear@all:2%"]}}, **changes}
    )


def ids(of: StudyConfig) -> set[str]:
    return {each.id for each in study_file.expand(of)}


@given(KINDS, SITES, SHARES, SEEDS)
def test_a_grid_is_the_product_of_its_axes(kinds: list, sites: list, shares: list, seeds: list) -> None:
    made = study_file.expand(
        study(grids={"a": {"kinds": kinds, "sites": sites, "shares": shares, "seeds": seeds}})
    )
    assert len(made) == len(kinds) * len(sites) * len(shares) * len(seeds) * len(CORPORA)
    assert len({each.id for each in made}) == len(made)
    wanted = {f"{k}@{s}:{h:g}%" for k in kinds for s in sites for h in shares}
    assert {each.design for each in made} == wanted


@given(KINDS, SHARES, SEEDS, st.sampled_from(["conv@post:3%", "full@all", "lora@all:1%"]), st.integers(6, 9))
def test_what_is_added_changes_no_other_id(
    kinds: list, shares: list, seeds: list, design: str, seed: int
) -> None:
    axes = {"kinds": kinds, "sites": ["all"], "shares": shares, "seeds": seeds}
    before = ids(study(grids={"a": axes}))
    wider = {**axes, "designs": [design], "seeds": [*seeds, seed]}
    more = study(
        grids={"new": {"designs": [design]}, "renamed": wider},
        corpora={**CORPORA, "other": {"folder": "elsewhere", "genre": "gamelan"}},
    )
    assert before < ids(more)


def test_an_id_is_what_the_trial_is() -> None:
    one = study()
    assert ids(one) == ids(
        study(grids={"b": {"designs": ["linear @ all : 2.0%"]}})
    )  # the same, spelt otherwise
    changed = [
        study(settings={"training.steps": 51}),
        study(samples={"clips": 1}),
        study(corpora={**CORPORA, "sung": {"perform": {"tradition": "makam", "players": 1, "seed": 1}}}),
        study(grids={"a": {"designs": ["linear@all:2%"], "bases": ["musicgen-small"]}}),
        study(bases={"nano-musicgen": {"training": {"learning_rate": 1e-4}}}),
    ]
    assert all(ids(one) != ids(other) for other in changed)
    relabelled = {name: {**source, "genre": "x", "texture": "y"} for name, source in CORPORA.items()}
    assert ids(one) == ids(study(corpora=relabelled))
    renamed = {f"{name}-again": source for name, source in CORPORA.items()}
    assert ids(one) == ids(study(corpora=renamed))
    assert ids(one) == ids(study(settings={"training.prefix": "off"}))  # how, not what


def test_known_ids() -> None:
    """An id that changes throws away people's results: if this fails on purpose, PROTOCOL goes up."""
    assert sorted(ids(study())) == KNOWN


def test_settings_of_kinds_reach_only_their_kinds() -> None:
    made = study_file.expand(
        study(
            settings={"settings.conv.kernel": 7}, grids={"a": {"designs": ["conv@all:2%", "linear@all:2%"]}}
        )
    )
    assert {each.design: each.recipe.settings for each in made} == {
        "conv@all:2%": {"conv": {"kernel": 7}},
        "linear@all:2%": {},
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gird": {}}, "unknown key gird, did you mean grids?"),
        ({"grids": {"a": {"design": ["x"]}}}, "unknown key design, did you mean designs?"),
        ({"grids": {"a": {"kinds": ["conv"]}}}, "make designs together"),
        ({"grids": {"a": {"seeds": [1]}}}, "no designs"),
        ({"grids": {"a": {"designs": ["convv@all:2%"]}}}, "did you mean 'conv'"),
        ({"grids": {"a": {"designs": ["conv@all:2%"], "corpora": ["his"]}}}, "there are mine, sung"),
        ({"corpora": {"x": {"folder": "a", "prepared": "b"}}}, "folder and prepared"),
        ({"corpora": {"../x": {"folder": "a"}}}, "cannot be the name of a folder"),
        ({"corpora": {"x": {"perform": {"tradition": "makam", "players": 4}}}}, "players"),
        ({"settings": {"training.stepz": 3}}, "did you mean training.steps"),
        ({"settings": {"design": "conv@all:2%"}}, "belongs into a grid"),
        ({"bases": {"musicgen-smal": {}}}, "no grid has this base"),
        ({"samples": {"clips": 0}}, "greater than or equal to 1"),
        ({"keep": "nothing"}, "'adapters' or 'results'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(wrong: dict, said: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    plain = {"corpora": CORPORA, "grids": {"a": {"designs": ["linear@all:2%"]}}}
    file.write_text(yaml.safe_dump({**plain, **wrong}), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        study_file.load(file)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_factors() -> None:
    def of(design: str) -> dict[str, Any]:
        made = study_file.expand(study(grids={"a": {"designs": [design], "corpora": ["sung"]}}))
        return study_file.trial_factors(made[0], 1000, 40)

    assert of("conv@deep:2.7%") == {
        "base": "nano-musicgen", "genre": "makam", "texture": "solo", "kind": "conv", "site": "deep", "share": 0.027,
    }  # fmt: skip
    assert of("full@all")["share"] is None
    assert of("conv@all:30")["share"] == 0.03
    assert of("conv@all:width4")["share"] == 0.04
    assert {k: of("conv@deep:2%+full@post")[k] for k in ("kind", "site", "share")} == {
        "kind": "conv+full", "site": "deep+post", "share": 0.02,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["demo.yaml", "paper/nano.yaml", "paper/played.yaml", "paper/long.yaml", "paper/full.yaml"]
)
def test_shipped_studies_can_be_read(name: str) -> None:
    assert study_file.expand(study_file.load(STUDIES / name))


def test_the_paper_on_the_miniature_has_what_is_asked_for_first() -> None:
    made = study_file.expand(study_file.load(STUDIES / "paper/nano.yaml"))
    first = made[: 3 * 2 * 3 * 2 * 3]
    assert {each.grid for each in first} == {"essential"}
    assert len({each.design for each in first}) == 3 * 2 * 3
    assert {each.seed for each in first} == {0, 1, 2}
    assert {each.corpus for each in first} == {"hindustani-solo", "makam-solo"}


def test_the_papers_own_settings() -> None:
    made = study_file.expand(study_file.load(STUDIES / "paper/full.yaml"))
    assert {each.base for each in made} == {"facebook/musicgen-medium", "declare-lab/mustango"}
    sizes = {each.design.rpartition(":")[2] for each in made if "full" not in each.design}
    assert sizes == {"2M", "8M", "20M", "40M", "70M"}
    training = made[0].recipe.training
    assert (training.learning_rate, training.weight_decay, training.batch_size) == (5e-5, 0.05, 4)
    assert training.keep == "best"
    linear = {each.base for each in made if each.design.startswith("linear")}
    assert linear == {"facebook/musicgen-medium"}


KNOWN = ["51ea8a2c8ae4", "e6d2aaa2cd01"]
