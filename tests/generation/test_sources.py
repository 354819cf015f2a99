"""Tests of talim.generation.sources: combining options, loading adapters, refusing those that do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.log_lines import Lines

from talim.adapters.injection import MAX_ADAPTER_SCALE
from talim.atomic_io import read_json, write_json
from talim.errors import TalimError, UsageError
from talim.generation import sources
from talim.generation.sources import AdapterChoice, GenerationSource, choose_source, find_run
from talim.run import Run


def test_check_adapter_of_its_own_base_fits(finished_run: Run, tiny_base: Path) -> None:
    assert sources.check_adapter(finished_run.adapter, str(tiny_base))["fits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None, [], False), "--run RUN, --adapter FOLDER or --base NAME"),
        ((Path("r"), "b", [], False), "leave out --base"),
        ((None, "b", [Path("a")], True), "contradict"),
        ((None, "b", [Path("a"), Path("c")], False, [0.5]), "1 time for 2 adapters"),
        ((None, "b", [Path("a")], False, [1.6]), "must be between 0 and 1.5"),
        ((None, "b", [], False, [1.0]), "1 time for 0 adapters"),
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


def test_largest_scale_is_that_of_the_adapters() -> None:
    assert sources.MAX_ADAPTER_SCALE == MAX_ADAPTER_SCALE


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no run is here"),
        ({"adapter_config.json": {}}, r"is an adapter's folder, not a run's; give it as --adapter"),
        ({"runs/a/recipe.yaml": {}, "runs/b/recipe.yaml": {}}, r"is no run, but holds 2; give one of them: .*runs/a, "),
        ({"stages.json": {"chosen": None}}, "has chosen no design yet"),
        (
            {"stages.json": {"chosen": None, "stages": [{"stopped": ""}, {"stopped": "Stopped here: 0 steps fit."}]}},
            r"chosen no design\. Stopped here: 0 steps fit$",
        ),
        ({"stage_cache.json": {}}, "has chosen no design yet; the same talim poc command goes on$"),
        (
            {"stages.json": {}, "a/recipe.yaml": {}, "b/recipe.yaml": {}, "b/cost.json": {}, "b/adapter/x.json": {}},
            r"goes on; or give one of its runs \(\S+b\)$",  # not one whose training is not finished
        ),
        ({"stages.json": {"chosen": {"run": "../elsewhere", "design": "x"}}}, "has chosen no design yet"),
        ({"stages.json": {"chosen": {"run": 3}}}, "has chosen no design yet"),
        ({"stages.json": []}, "has chosen no design yet"),
        ({"stages.json": {"chosen": {"run": "gone", "design": "x"}}}, "has chosen no design yet"),
    ],
)
def test_find_run_of_another_folder_says_what_it_is(tmp_path: Path, files: dict, message: str) -> None:
    for name, content in files.items():
        write_json(tmp_path / name, content)
    with pytest.raises(TalimError, match=message) as caught:
        find_run(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))  # not an option: talim evaluate takes a run without one


def test_find_run_of_a_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no-such: no such folder"):
        find_run(tmp_path / "no-such")
    (tmp_path / "file").touch()
    with pytest.raises(TalimError, match="file: is a file; give the folder of a run"):
        find_run(tmp_path / "file")


def test_choose_source_of_a_missing_adapter_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no adapter folder is here"):
        choose_source(None, None, [tmp_path / "no-such"], False)


def test_load_source_tells_of_an_adapter_that_changes_nothing(
    finished_run: Run, tiny_base: Path, tmp_path: Path
) -> None:
    folder, told = tmp_path / "adapter", Lines()
    shutil.copytree(finished_run.adapter, folder)
    for untrained in (False, True):
        info = read_json(folder / "talim.json") | {"untrained": untrained}
        write_json(folder / "talim.json", info)
        sources.load_source(GenerationSource(str(tiny_base), (AdapterChoice(folder),)), "cpu", told)
        assert any(f"{folder} changes nothing" in line for line in told.lines) == untrained


def test_identity_of_an_adapter_follows_its_weights_and_scale(tmp_path: Path) -> None:
    found = []
    for number, content in enumerate((b"a", b"a", b"b")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(content)
        found.append(AdapterChoice(folder).identity)
    assert found[0] == found[1] != found[2]
    assert AdapterChoice(tmp_path / "0", 0.5).identity != found[0]


@pytest.mark.parametrize(("trained", "asked"), [(True, None), (False, False), (None, False)])
def test_the_base_of_a_run_without_its_adapter_reads_prompts_as_the_run_did(
    tmp_path: Path, finished_run: Run, trained: bool | None, asked: bool | None
) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    info = read_json(run.adapter / "talim.json")
    write_json(run.adapter / "talim.json", {**info, "transliterated": trained})
    bare = choose_source(run.folder, None, [], True)
    assert (bare.adapters, bare.transliterate) == ((), asked)
    assert sources.load_source(bare).transliterate == (trained is True)
    assert choose_source(run.folder, None, [], False).transliterate is None
    (run.adapter / "talim.json").write_text("{")
    assert choose_source(run.folder, None, [], True).transliterate is None


def test_the_base_of_an_unfinished_run_is_used_without_an_adapter(tmp_path: Path, finished_run: Run) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    shutil.rmtree(run.adapter)
    assert choose_source(run.folder, None, [], True).transliterate is None
