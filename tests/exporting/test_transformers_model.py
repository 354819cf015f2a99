"""Tests of talim.exporting.transformers_model: merged models are exact; where nothing can be merged, the lines run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
import yaml
from fixtures import released_musicgen
from transformers import AutoTokenizer, GenerationConfig, MusicgenForConditionalGeneration

import talim
import talim.adapters
from talim.errors import TalimError, UsageError
from talim.exporting import transformers_model
from talim.run import Run
from talim.training.train import train

PROMPT = "slow glide"
ROLES = ("before", "after")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, quick_recipe: Any) -> Callable[[str], Run]:
    """A run of a design, trained for three steps at a high rate, so that it changes what is generated."""
    runs: dict[str, Run] = {}

    def run(design: str) -> Run:
        if design not in runs:
            recipe = quick_recipe(design=design, training__steps=3, training__eval_every=3)
            runs[design] = train(recipe, tmp_path_factory.mktemp("run") / "run")
        return runs[design]

    return run


def greedy(model: Any, folder: Path) -> np.ndarray:
    """Codec tokens that a model of transformers takes as the most likely ones, [K, T]."""
    text = AutoTokenizer.from_pretrained(folder)([PROMPT], return_tensors="pt")
    model.audio_encoder.decode = lambda codes, **_: transformers.utils.ModelOutput(audio_values=codes)
    with torch.no_grad():
        return model.generate(**text, do_sample=False, guidance_scale=1.0, max_new_tokens=16).numpy().reshape(4, -1)


@pytest.mark.parametrize(
    "design",
    [
        "lora@all:r2",
        *(
            pytest.param(design, marks=pytest.mark.slow)
            for design in ("dora@all:r2", "full@post+full@conditioner", "full@shallow", "full@all", "peft:loha@all:r2")
        ),
    ],
)
def test_merged_model_is_exact_in_transformers_alone(
    trained: Callable[[str], Run], tmp_path: Path, tiny_base: Path, design: str
) -> None:
    run, out = trained(design), tmp_path / "model"
    result = talim.export(run, "transformers", out)
    assert (result["merged"], result["largest_difference"] < 1e-4) == (True, True)
    merged = MusicgenForConditionalGeneration.from_pretrained(out, dtype=torch.float32).eval()
    assert type(merged) is MusicgenForConditionalGeneration
    assert merged.config.architectures == ["MusicgenForConditionalGeneration"]
    base = talim.load_base(str(tiny_base), precision="fp32", device="cpu")
    plain = greedy(base.model, tiny_base)
    talim.load_adapter(base, run)
    assert not any(module.training for module in base.model.modules())  # no dropout
    adapted = greedy(base.model, tiny_base)
    tokens = greedy(merged, out)
    assert np.array_equal(tokens, adapted)
    assert not np.array_equal(tokens, plain)
    assert tokens.shape[1] > 8


@pytest.mark.slow
def test_merged_model_is_a_base_of_talim_that_generates_the_same(trained: Callable[[str], Run], tmp_path: Path) -> None:
    run = trained("lora@all:r2")
    talim.export(run, "transformers", tmp_path / "model")
    options = {"seconds": 0.4, "seed": 2, "device": "cpu", "top_k": 1}
    pair = [talim.generate(source, PROMPT, **options)[0] for source in (run, str(tmp_path / "model"))]
    assert np.allclose(pair[0].samples, pair[1].samples, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "melody"), [(2, False), (1, True)])
def test_merged_stereo_and_melody_models_are_exact(
    quick_recipe: Any, tmp_path: Path, channels: int, melody: bool
) -> None:
    base = released_musicgen.write(tmp_path / "base", channels=channels, melody=melody)
    changes = {"training__steps": 2, "training__eval_every": 2, "training__crop_seconds": 0.3}
    run = train(quick_recipe(base=str(base), design="lora@all:r2", **changes), tmp_path / "run")
    result = talim.export(run, "transformers", tmp_path / "model")
    assert result["class"] == f"Musicgen{'Melody' * melody}ForConditionalGeneration"
    assert (result["merged"], result["largest_difference"] < 1e-4) == (True, True)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "model")


def run_script(folder: Path, where: Path) -> np.ndarray:
    """Samples of music.wav that the export's own script writes in a process of its own, [n]."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(folder / "generate.py"), PROMPT]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return soundfile.read(where / "music.wav", dtype="float32")[0]


def test_export_of_what_cannot_be_merged_is_the_adapter_with_its_lines(finished_run: Run, tmp_path: Path) -> None:
    out = tmp_path / "model"
    result = talim.export(finished_run, "transformers", out)
    assert (result["merged"], (out / "adapter_model.safetensors").is_file()) == (False, True)
    script, card = ((out / name).read_text(encoding="utf-8") for name in ("generate.py", "README.md"))
    assert len([line for line in script.splitlines() if line.strip()]) <= 20
    compile(script, "generate.py", "exec")
    assert f"```python\n{script}```" in card
    assert "what linear adds depends on the input" in card
    assert "## How to load it" not in card
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"
    assert re.findall(r"\]\((samples/[^)]+)\)", card) == [f"samples/0{n}-{r}.flac" for n in (1, 2) for r in ROLES]
    assert str(finished_run.folder.parent) not in card + script


@pytest.mark.slow
@pytest.mark.parametrize(
    "design", ["linear@all:10%", "lora@all:r2", "conv@all:10%", "transformer@all:10%", "linear@shallow:5%+conv@deep:5%"]
)
def test_script_of_every_kind_gives_what_the_adapter_gives(
    trained: Callable[[str], Run], tmp_path: Path, tiny_base: Path, design: str
) -> None:
    """The script's ten seconds are those of transformers with talim's adapter, and not the base's."""
    run = trained(design)
    talim.export(run, "transformers", tmp_path / "model")
    shutil.copytree(tiny_base, tmp_path / "tiny")
    samples = run_script(tmp_path / "model", tmp_path)
    base = talim.load_base(str(tiny_base), precision="fp32", device="cpu")
    base.model = MusicgenForConditionalGeneration.from_pretrained(tiny_base, dtype=torch.float32)
    if (tmp_path / "model" / "generation_config.json").is_file():  # merged, with talim's special tokens
        base.model.generation_config = GenerationConfig.from_pretrained(tmp_path / "model")
    plain = generate_ten_seconds(base.model, tiny_base)
    adapted = generate_ten_seconds(talim.adapters.load(base, run.adapter).eval(), tiny_base)
    assert len(samples) == len(plain) == len(adapted)
    # a codec with random weights says everything in nearly the same voice
    assert np.abs(samples - adapted).max() < 0.1 * np.abs(samples - plain).max()


def generate_ten_seconds(model: Any, folder: Path) -> np.ndarray:
    torch.manual_seed(0)
    text = AutoTokenizer.from_pretrained(folder)([PROMPT], return_tensors="pt")
    steps = 10 * model.config.audio_encoder.frame_rate
    return model.generate(**text, do_sample=True, guidance_scale=3.0, max_new_tokens=steps)[0, 0].numpy()


def test_script_names_a_base_of_the_hub_with_its_commit_and_the_guide_shows_it() -> None:
    cls, info = "MusicgenForConditionalGeneration", {"base": {"name": "facebook/musicgen-small"}}
    pinned, plain = (
        transformers_model.script_lines(SimpleNamespace(local_base="", run=SimpleNamespace(base=name), info=info), cls)  # type: ignore[arg-type]
        for name in ("musicgen-small@" + "a" * 40, "musicgen-small")
    )
    assert pinned.count(f", revision='{'a' * 40}'") == 2
    wordless = SimpleNamespace(local_base="", run=SimpleNamespace(base="x"), info=info | {"captioned": False})
    for merged in (False, True):  # its null text is attention mask 0
        script = transformers_model.script_lines(wordless, cls, merged)  # type: ignore[arg-type]
        compile(script, "generate.py", "exec")
        assert 'return_tensors="pt")\ntext["attention_mask"] *= 0' in script
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "export.md").read_text(encoding="utf-8")
    assert f"```python\n{plain}```" in guide


def test_inexact_merge_is_refused_and_leaves_nothing(
    trained: Callable[[str], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes without deserving to: a merge that changes some weights by a little."""
    merge = transformers_model.merge

    def spoiled(peft: Any) -> Any:
        plain = merge(peft)
        plain.decoder.lm_heads[0].weight.data *= 1.01
        return plain

    monkeypatch.setattr(transformers_model, "merge", spoiled)
    with pytest.raises(TalimError, match="the merged model is not exact"):
        talim.export(trained("lora@all:r2"), "transformers", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_base_that_transformers_does_not_have_is_refused(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for base, words in (("nano-musicgen", "the codec of tiny is"), ("nano-mustango", "a Mustango is")):
        monkeypatch.setattr(Run, "base", base)
        with pytest.raises(UsageError, match=f"{words} no part of transformers; use --to folder"):
            talim.export(finished_run, "transformers", tmp_path / "model")
