"""`tune` and `plateau` of a study file: families, grids, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from talim.design.expression import Design
from talim.errors import UsageError
from talim.experiments import study_file
from talim.experiments.preliminary_rules import RATE, TuningRule, least_steps

CORPORA = {
    "solo": {"synthesize": {"tradition": "makam", "ensemble_size": 1}},
    "trio": {"synthesize": {"tradition": "makam", "ensemble_size": 3}},
    "own": {"recordings": "takes"},
}
GRIDS = {"a": {"designs": ["conv@all:2%", "lora@all:2%"], "corpora": ["solo", "trio"], "seeds": [0, 1]}}
RATES = [0.0003, 0.001, 0.003]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        (["kind"], ["conv+full@post", "lora"]),
        (["site", "kind"], ["conv@deep+full@post", "lora@all"]),
        (["kind", "site", "size"], ["conv@deep:2%+full@post", "lora@all:r8"]),
    ],
)
def test_family_of_a_design_is_by_kind_site_and_size(family: list, names: list) -> None:
    rule = TuningRule.model_validate({"learning_rate": RATES, "family": family})
    designs = [Design.parse("conv@deep:2%+full@post"), Design.parse("lora@all:r8")]
    assert [rule.family_of(design) for design in designs] == names


def test_all_of_the_base_is_not_tuned_by_what_suits_its_last_layer() -> None:
    rule = TuningRule.model_validate({"learning_rate": RATES})
    whole, last = (rule.family_of(Design.parse(text)) for text in ("full@all", "full@post"))
    assert whole != last
    assert rule.family_of(Design.parse("conv@all:2%")) == rule.family_of(Design.parse("conv@deep:4%"))


def test_grids_have_the_alpha_ratio_for_lora_like_kinds_only() -> None:
    rule = TuningRule.model_validate({"learning_rate": [0.003, 0.001], "lora_alpha_ratio": [1, 2]})
    rates = {RATE: (0.001, 0.003)}
    assert rule.grids(Design.parse("conv@all:2%")) == rates
    assert rule.grids(Design.parse("ia3@all")) == rates
    assert rule.grids(Design.parse("dora@all:r2")) == rates | {"kind_options.dora.alpha_per_rank": (1, 2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune": {"learning_rate": [0.001]}}, "at least 2"),
        ({"tune": {"learning_rate": [0.001, 0.001]}}, "different values above 0"),
        ({"tune": {"learning_rate": [0.001, -1]}}, "different values above 0"),
        ({"tune": {"learning_rate": [0.001, 3]}}, "3 is above 1, the largest learning rate"),
        ({"tune": {"learning_rate": RATES, "seeds": [7, 1]}}, "tune.seeds: 1 is a seed of trials"),
        ({"tune": {"learning_rate": RATES, "seeds": [7, 8, 9]}}, "at most 2"),
        ({"tune": {"learning_rate": RATES, "family": ["site"]}}, "[kind], [kind, site] or [kind, site, size]"),
        ({"tune": {"learning_rate": RATES, "family": ["kind", "size"]}}, "[kind], [kind, site] or"),
        (
            {"tune": {"learning_rate": RATES, "corpora": ["solos"]}},
            "tune.corpora: no corpus solos; there are own, solo, trio",
        ),
        ({"tune": {"learning_rate": RATES, "corpora": ["solo"]}}, "nothing tunes the trials on trio"),
        ({"tune": {"learning_rate": RATES, "corpora": ["own"], "per": "genre"}}, "nothing tunes the trials on solo"),
        ({"tune": {"learning_rates": RATES}}, "unknown key tune.learning_rates: did you mean learning_rate?"),
        (
            {"tune": {"learning_rate": RATES}, "overrides": {"training": {"learning_rate": 0.1}}},
            "training.learning_rate is what tune decides",
        ),
        ({"plateau": {"max_steps": 400}, "overrides": {"training.steps": 9}}, "training.steps is what plateau decides"),
        (
            {"plateau": {"max_steps": 400}, "base_overrides": {"nano-musicgen": {"training.steps": 9}}},
            "training.steps is what plateau decides",
        ),
        ({"plateau": {"max_steps": 400, "seed": 0}}, "plateau.seed: 0 is a seed of trials"),
        ({"plateau": {"max_steps": 3}}, "at least 20"),
        (
            {"plateau": {"max_steps": 90}, "base_overrides": {"nano-musicgen": {"training.warmup_steps": 50}}},
            "plateau.max_steps: 90 steps: too few for the warm-up",
        ),
        ({"plateau": {"max_steps": 400, "corpora": ["solos"]}}, "plateau.corpora: no corpus solos"),
        ({"plateau": {"max_steps": 400, "designs": ["convv@all:2%"]}}, "did you mean 'conv'"),
    ],
)
def test_load_invalid_rules_raise_one_line_with_a_hint(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"corpora": CORPORA, "grids": GRIDS, **changes}), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        study_file.load(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_load_one_corpus_tunes_for_its_genre(tmp_path: Path) -> None:
    tune = {"learning_rate": RATES, "corpora": ["solo"], "per": "genre"}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"corpora": CORPORA, "grids": GRIDS, "tune": tune}), encoding="utf-8")
    assert study_file.load(file).tune == TuningRule.model_validate(tune)


@pytest.mark.parametrize(
    ("warmup", "fractions", "least"), [(10, (), 20), (100, (0.5,), 400), (10, (0.3, 0.9), 67), (0, (0.1,), 0)]
)
def test_least_steps_leaves_the_least_fraction_as_many_after_the_warm_up(
    warmup: int, fractions: tuple[float, ...], least: int
) -> None:
    assert least_steps(warmup, fractions) == least
