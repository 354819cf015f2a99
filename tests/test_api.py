"""The public Python API: lazy, documented with examples that run, the README's Python lines."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import talim
from talim import api
from talim.errors import UsageError
from talim.generation.sources import AdapterChoice, GenerationSource
from talim.synthesis.performer import perform

README = Path(__file__).parents[1] / "README.md"
STUDY = """
corpora: {own: {corpus: my-corpus}}
overrides: {training.steps: 2, training.warmup_steps: 1, training.crop_seconds: 2}
grids: {kinds: {designs: ["linear@all:2%"]}}
"""


def functions() -> list[str]:
    return [name for name in talim.__all__ if inspect.isfunction(getattr(talim, name))]


def test_import_talim_loads_no_torch_and_lists_the_api() -> None:
    code = (
        "import sys, talim\n"
        "assert set(talim.__all__) <= set(dir(talim))\n"
        "talim.Recipe, talim.Run, talim.Corpus, talim.Audio, talim.train, talim.report, talim.prepare\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_attribute_raises() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        talim.no_such_name  # noqa: B018


def test_help_of_the_package_names_every_function() -> None:
    text = talim.__doc__ or ""
    missing = [name for name in talim.__all__ if not name.startswith("_") and name not in text]
    assert missing == []


def test_every_public_function_is_typed_and_has_an_example() -> None:
    assert {"prepare", "train", "generate", "evaluate", "report", "load_base"} <= {*functions()}
    for name in functions():
        function = getattr(talim, name)
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, name
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values()), name
        assert doctest.DocTestParser().get_examples(function.__doc__ or ""), name


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings and a study file, as the examples name them."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "my-recordings").mkdir()
    for seed in range(6):
        performance = perform(seed, "demo", 10.0)
        soundfile.write(folder / "my-recordings" / f"take-{seed}.wav", performance.samples, performance.rate_hz)
    (folder / "my-study.yaml").write_text(STUDY)
    return folder


def run_examples(name: str, names: dict[str, Any]) -> None:
    for example in doctest.DocTestParser().get_examples(getattr(talim, name).__doc__ or ""):
        try:
            exec(compile(example.source, f"<example of talim.{name}>", "single"), names)
        except Exception as error:
            raise AssertionError(f"talim.{name}: {example.source}{type(error).__name__}: {error}") from error


@pytest.mark.slow
def test_examples_of_the_docstrings_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("TALIM_CACHE", str(workspace / "cache"))
    names: dict[str, Any] = {"talim": talim}
    order = ["prepare", "designs", "plan", "train", "generate", "evaluate", "report", "study"]
    order += ["export", "load_base", "load_adapter"]
    assert {*order} == {*functions()}
    for name in order:
        run_examples(name, names)
    assert soundfile.info(workspace / "alap.flac").duration == pytest.approx(2, abs=0.1)
    assert (workspace / "my-run" / "report" / "index.html").is_file()


def readme_blocks() -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_readme_python_is_valid_and_uses_the_public_api() -> None:
    blocks = readme_blocks()
    assert len(blocks) >= 2
    used = set()
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "talim":
                used.add(node.attr)
    assert used - {"adapters"} <= {*talim.__all__}
    assert {"prepare", "train", "generate", "evaluate", "report"} <= used


@pytest.mark.slow
def test_readme_python_of_the_pipeline_runs(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's lines with fewer steps and shorter pieces, so that they end within a minute."""
    folder = workspace / "readme"
    folder.mkdir()
    (folder / "my-recordings").symlink_to(workspace / "my-recordings")
    monkeypatch.chdir(folder)
    block = next(block for block in readme_blocks() if "talim.prepare" in block)
    shorter = block.replace('design="linear@all:2.5%")', 'design="linear@all:2.5%", training={"steps": 20})')
    assert shorter != block
    shorter = shorter.replace("seconds=20", "seconds=1").replace(
        "talim.evaluate(run)", "talim.evaluate(run, num_prompts=1, seconds=2)"
    )
    exec(compile(shorter, "<README>", "exec"), {})
    assert soundfile.info(folder / "yaman.flac").duration == pytest.approx(1, abs=0.1)
    assert (folder / "run" / "report" / "index.html").is_file()


def test_evaluate_without_run_or_folders_raises() -> None:
    with pytest.raises(UsageError, match="either a run"):
        talim.evaluate()
    with pytest.raises(UsageError, match="either a run"):
        talim.evaluate("run", real="a", generated="b")
    with pytest.raises(UsageError, match="either a run"):
        talim.evaluate(real="a")


def test_generate_from_base_returns_audio_with_the_seed_deciding(tiny_base: Path) -> None:
    first = talim.generate(str(tiny_base), "a", seconds=1, num_samples=2, seed=3)
    second = talim.generate(str(tiny_base), "a", seconds=1, seed=4)
    assert [clip.seconds for clip in first] == pytest.approx([1.0, 1.0], abs=0.1)
    assert np.array_equal(first[1].samples, second[0].samples)
    assert not np.array_equal(first[0].samples, first[1].samples)


def test_generate_continue_from_takes_sounds_and_files_one_or_several(tiny_base: Path, tmp_path: Path) -> None:
    first = talim.generate(str(tiny_base), "a", seconds=0.4)[0]
    options = {"seconds": 0.4, "seed": 1, "device": "cpu"}
    file = first.save(tmp_path / "first.flac")
    longer = talim.generate(str(tiny_base), "a", continue_from=file, **options)[0]
    assert longer.seconds == pytest.approx(0.8)
    pair = talim.generate(str(tiny_base), "", continue_from=[first, str(file)], keep_phrase=False, **options)
    assert [clip.seconds for clip in pair] == pytest.approx([0.4, 0.4])
    assert [clip.tags["phrase"] for clip in pair] == ["a sound in memory", "first.flac"]
    last = talim.generate(str(tiny_base), "a", continue_from=first, continue_seconds=0.2, **options)[0]
    assert last.tags["phrase_seconds"] == "0.200"
    with pytest.raises(UsageError, match="add --continue"):
        talim.generate(str(tiny_base), "a", continue_seconds=1, **options)


def test_generate_of_a_variation_takes_strength_and_transliterate() -> None:
    phrase = talim.Audio(np.random.default_rng(0).normal(0, 0.1, (1, 4800)).astype(np.float32), 16_000)
    options = {"continue_from": phrase, "strength": 0.25, "sampling_steps": 4, "device": "cpu"}
    read, typed = (talim.generate("nano-mustango", "rāga", transliterate=t, **options)[0] for t in (None, False))
    assert (read.tags["strength"], read.tags["phrase_use"], read.tags["prompt_as_read"]) == ("0.25", "varied", "raga")
    assert "prompt_as_read" not in typed.tags
    assert not np.array_equal(read.samples, typed.samples)


def test_generate_from_run_scales_the_adapter(finished_run: talim.Run) -> None:
    without = talim.generate(finished_run, "a", seconds=1, adapter_scale=0.0)[0]
    base = talim.generate(finished_run.recipe.base, "a", seconds=1)[0]
    full = talim.generate(finished_run.folder, "a", seconds=1)[0]
    source = GenerationSource(finished_run.recipe.base, (AdapterChoice(finished_run.adapter),))
    adapter = talim.generate(source, "a", seconds=1)[0]
    assert np.array_equal(without.samples, base.samples)
    assert np.array_equal(full.samples, adapter.samples)
    assert not np.array_equal(full.samples, base.samples)


def test_load_adapter_into_a_loaded_base(finished_run: talim.Run) -> None:
    base = talim.load_base(finished_run.recipe.base, precision="fp32")
    model = talim.load_adapter(base, finished_run, scale=0.5)
    assert model.active_adapters


def test_report_of_a_run_returns_its_page(finished_run: talim.Run, tmp_path: Path) -> None:
    assert api.report(finished_run).name == "index.html"


@pytest.mark.parametrize(("asked", "used"), [("auto", "int8"), ("fp32", "fp32")])
def test_generate_keeps_the_precision_of_a_source_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, used: str
) -> None:
    told: list[str] = []

    def generate_audio(*, source: GenerationSource, **_: Any) -> list[Any]:
        told.append(source.precision)
        return []

    monkeypatch.setattr("talim.generation.generate.generate_audio", generate_audio)
    assert talim.generate(GenerationSource("nano-musicgen", precision="int8"), "flute", precision=asked) == []
    assert told == [used]
