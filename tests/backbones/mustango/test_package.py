"""Golden values of the reference implementation; all of them and all known mistakes if the files are available."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
from golden_mustango import unets
from golden_mustango.__main__ import run
from golden_mustango.cases import Check, Golden
from golden_mustango.mutations import MUTATIONS

HERE = Path(__file__).parents[2] / "golden" / "mustango"
SHARED = Path(os.environ.get("TALIM_SHARED", Path(__file__).parents[4] / "shared"))
FULL = SHARED / "data" / "mustango_golden"
# detectable in the first level with the one included case
SEEN_IN_FIRST_LEVEL = (
    "chord before beat",
    "attentions2/3 weights swapped",
    "ignore beat mask",
    "ignore chord mask",
    "invert beat mask",
    "tanh gelu",
    "attention_head_dim read as head dim",
)


@pytest.fixture(scope="module")
def full() -> Golden:
    if not FULL.is_dir():
        pytest.skip(f"no golden data at {FULL}; say where with TALIM_SHARED")
    return Golden(FULL)


def failures(checks: list[Check]) -> list[Check]:
    return [check for check in checks if not check.passed]


def test_included_golden_values_match() -> None:
    checks = run(HERE)
    assert len(checks) > 100
    assert failures(checks) == []


@pytest.mark.parametrize("name", SEEN_IN_FIRST_LEVEL)
def test_known_mistakes_fail_in_the_first_level(name: str) -> None:
    block, tensors = unets.first_level(Golden(HERE), "unet")
    with MUTATIONS[name](block):
        assert failures(list(unets.level_checks(block, tensors, "unet")))
    assert not failures(list(unets.level_checks(block, tensors, "unet"))), "the mistake was not undone"


@pytest.mark.parametrize("change", [{"flip_sin_to_cos": False}, {"freq_shift": 1}])
def test_known_mistakes_fail_in_the_noise_level(change: dict[str, object]) -> None:
    assert not unets.sinusoids(Golden(HERE), "unet", **change).passed


def test_a_failing_case_does_not_hide_the_others(tmp_path: Path) -> None:
    for path in HERE.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "text_encoder.safetensors").write_bytes(b"torn")
    checks = run(tmp_path)
    broken = failures(checks)
    assert len(broken) == 1
    assert "text broke off" in broken[0].name
    assert len(checks) > 100


@pytest.mark.real
def test_every_golden_case_matches(full: Golden) -> None:
    checks = run(full.folder)
    assert len(checks) > 300
    assert failures(checks) == []


@pytest.mark.real
def test_every_listed_mistake_is_implemented(full: Golden) -> None:
    listed = full.json("manifest.json")["unet_mutation_sensitivity_max_abs_change"]
    assert {name.split("|")[0] for name in listed} == set(MUTATIONS)


@pytest.fixture(scope="module")
def full_unet(full: Golden) -> Any:
    """The U-Net of the golden cases (to be copied, not changed)."""
    return unets.load(full, "unet")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_listed_mistake_is_detected(full: Golden, full_unet: Any, name: str) -> None:
    unet = copy.deepcopy(full_unet)
    with MUTATIONS[name](unet):
        assert failures(list(unets.cases(full, "unet", unet)))
