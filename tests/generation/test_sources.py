"""Tests of talim.generation.sources: combining options, loading adapters, refusing those that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from talim.errors import TalimError, UsageError
from talim.generation import sources
from talim.generation.sources import AdapterChoice, GenerationSource, choose_source
from talim.run import Run


def test_check_adapter_of_its_own_base_fits(finished_run: Run, tiny_base: Path) -> None:
    assert sources.check_adapter(finished_run.adapter, str(tiny_base))["fits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None, [], False), "--run RUN, --adapter FOLDER or --base NAME"),
        ((Path("r"), "b", [], False), "leave out --base"),
        ((None, "b", [Path("a")], True), "contradict"),
        ((None, "b", [Path("a"), Path("c")], False, [0.5]), "1 times for 2 adapters"),
        ((None, "b", [Path("a")], False, [1.6]), "must be between 0 and 1.5"),
        ((None, "b", [], False, [1.0]), "1 times for 0 adapters"),
    ],
)
def test_choose_source_with_contradicting_options_raises_usage_error(arguments: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_source(*arguments)


def test_load_source_with_adapter_of_another_base_raises_talim_error(
    tmp_path: Path, finished_run: Run, make_base: Callable[..., Path]
) -> None:
    other = make_base(tmp_path / "other", seed=5)
    with pytest.raises(TalimError, match="was trained on base tiny"):
        sources.load_source(GenerationSource(str(other), (AdapterChoice(finished_run.adapter),)))


def test_load_source_with_a_folder_without_adapter_is_refused_before_loading(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no adapter folder"):
        sources.load_source(GenerationSource("never-looked-at", (AdapterChoice(tmp_path),)))
