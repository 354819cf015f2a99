"""Tests of talim.planning.base_facts: sites and families of bases, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from talim.design.expression import Design
from talim.errors import TalimError, UsageError
from talim.planning.base_facts import base_model_facts, check_sites


@pytest.mark.parametrize(("base", "family"), [("nano-musicgen", "musicgen"), ("mustango", "mustango")])
def test_base_model_facts_knows_the_family(base: str, family: str) -> None:
    assert base_model_facts(base).family == family


def test_check_sites_refuses_what_the_base_does_not_have(tiny_base: Path) -> None:
    check_sites(Design.parse("linear@all:2%+conv@layers[0-1]:2%"), str(tiny_base))
    with pytest.raises(UsageError, match=r"on tiny: site layers\[2\] is not in this model"):
        check_sites(Design.parse("linear@all:2%+conv@layers[2]:2%"), str(tiny_base))
    with pytest.raises(UsageError, match="site down"):
        check_sites(Design.parse("conv@down:2%"), "musicgen-small")


def test_check_sites_leaves_a_base_of_the_hub_to_its_loading() -> None:
    check_sites(Design.parse("linear@layers[900]:2%"), "someone/some-model-that-is-not-here")
    with pytest.raises(TalimError, match="did you mean nano-musicgen"):
        check_sites(Design.parse("linear@all:2%"), "nano-musicgn")


def test_base_facts_load_no_torch() -> None:
    code = "import sys; from talim.planning import base_facts; base_facts.base_model_facts('nano-musicgen'); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print('torch' in sys.modules)"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "False", done.stderr
