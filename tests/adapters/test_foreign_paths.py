"""Adapters of a part of the base or of a wrapper around it: they load as on the model that they were trained on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import peft_folders
from peft import PeftModel

from talim.adapters import injection, serialization
from talim.backbones.load import load
from talim.errors import TalimError

FRAMES = 7


def logits(model: Any) -> torch.Tensor:
    model.eval()
    codes = torch.arange(4 * FRAMES).reshape(4, FRAMES) % 60
    with torch.no_grad():
        text = torch.ones(1, 3, dtype=torch.long)
        return model(input_ids=text, decoder_input_ids=codes, use_cache=False).logits


def backbone(folder: Path) -> Any:
    return load(str(folder), precision="fp32", device="cpu")


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("rank pattern", "decoder"),
        *(
            pytest.param(kind, part, marks=pytest.mark.slow)
            for kind in ("lora", "rank pattern", "dora", "ia3", "loha")
            for part in ("decoder", "decoder.model.decoder")
        ),
    ],
)
def test_load_of_a_part_gives_the_logits_of_plain_peft_on_that_part(
    tiny_base: Path, tmp_path: Path, kind: str, part: str
) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, kind, part=part)
    theirs = backbone(tiny_base)
    plain = logits(theirs.model)
    PeftModel.from_pretrained(theirs.model.get_submodule(part), folder)  # in place
    expected = logits(theirs.model)
    assert (expected - plain).abs().max() > 1e-3
    ours = backbone(tiny_base)
    model = serialization.load(ours, folder)
    torch.testing.assert_close(logits(ours.model), expected, atol=1e-6, rtol=0)
    serialization.save(model, tmp_path / "ours", base={"name": ours.name, "fingerprint": ours.fingerprint})
    again = backbone(tiny_base)
    PeftModel.from_pretrained(again.model, tmp_path / "ours")  # what is saved names this base's modules
    torch.testing.assert_close(logits(again.model), expected, atol=1e-6, rtol=0)


WRAPPED: dict[str, Callable[[str], str]] = {
    "DataParallel inside": lambda key: key.replace("base_model.model.", "base_model.model.module."),
    "DataParallel outside": lambda key: f"module.{key}",
    "compiled": lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
    "compiled layers": lambda key: key.replace(".layers.0.", ".layers.0._orig_mod."),
    "a class of one's own": lambda key: key.replace("base_model.model.", "base_model.model.net.musicgen."),
    "as trained": lambda key: key,
}


@pytest.mark.parametrize(
    ("kind", "wrapper"),
    [
        ("lora", "compiled layers"),
        ("heads", "a class of one's own"),
        *(
            pytest.param(kind, wrapper, marks=pytest.mark.slow)
            for kind in ("lora", "rank pattern", "ia3", "heads", "biases")
            for wrapper in WRAPPED
        ),
    ],
)
def test_load_of_a_wrapped_model_gives_the_same_logits(
    tiny_base: Path, tmp_path: Path, kind: str, wrapper: str
) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, kind)
    expected = backbone(tiny_base)
    serialization.load(expected, folder)
    peft_folders.rename_keys(folder, WRAPPED[wrapper])
    ours = backbone(tiny_base)
    serialization.load(ours, folder)
    torch.testing.assert_close(logits(ours.model), logits(expected.model), atol=1e-6, rtol=0)


def test_load_of_a_wrapped_model_finds_modules_trained_whole_by_the_path_that_they_had(
    tiny_base: Path, tmp_path: Path
) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, "heads")
    expected = backbone(tiny_base)
    serialization.load(expected, folder)
    peft_folders.rename_keys(folder, WRAPPED["a class of one's own"])
    peft_folders.change_config(folder, modules_to_save=["net.musicgen.decoder.lm_heads.0"])
    ours = backbone(tiny_base)
    plain = logits(ours.model)
    model = serialization.load(ours, folder)
    torch.testing.assert_close(logits(ours.model), logits(expected.model), atol=1e-6, rtol=0)
    with injection.disabled(model):  # not written over the base's own
        torch.testing.assert_close(logits(ours.model), plain, atol=1e-6, rtol=0)


def test_load_of_a_part_says_where_its_modules_are(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, part="decoder")
    serialization.load(backbone(tiny_base), folder)
    said = capsys.readouterr().err
    first = "model.decoder.layers.0.encoder_attn.q_proj"
    assert f"named as those of another model, such as {first}; here that is decoder.{first}" in said


@pytest.mark.parametrize(
    "renamed",
    [
        lambda key: key.replace("layers.1", "layers.7"),  # one layer too many for this base
        lambda key: key.replace(".layers.0.", ".blocks.0."),
    ],
)
def test_modules_that_this_base_lacks_are_refused(tiny_base: Path, tmp_path: Path, renamed: Any) -> None:
    folder = peft_folders.rename_keys(peft_folders.write(tmp_path / "theirs", tiny_base), renamed)
    with pytest.raises(TalimError, match=r"does not fit this model: .* weights missing"):
        serialization.load(backbone(tiny_base), folder)


@pytest.mark.slow  # the expression is tried for 5 s
def test_an_expression_that_does_not_end_is_refused_in_a_part_too(tiny_base: Path, tmp_path: Path) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, "rank pattern", part="decoder")
    peft_folders.change_config(folder, rank_pattern={"(([a-z_.]*)*)*!": 4})
    with pytest.raises(TalimError, match="takes longer than"):
        serialization.load(backbone(tiny_base), folder)


def test_pickled_weights_load_as_the_same_in_safetensors(tiny_base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = peft_folders.write(tmp_path / "theirs", tiny_base)
    pickled = Path(shutil.copytree(folder, tmp_path / "older"))
    torch.save(load_file(folder / "adapter_model.safetensors"), pickled / "adapter_model.bin")
    (pickled / "adapter_model.safetensors").unlink()
    both = [backbone(tiny_base) for _ in range(2)]
    for each, stored in zip(both, (folder, pickled), strict=True):
        serialization.load(each, stored)
    assert torch.equal(logits(both[0].model), logits(both[1].model))
    assert serialization.read_info(pickled)["parameters"] == serialization.read_info(folder)["parameters"]
    torch.save({"weights": print}, pickled / "adapter_model.bin")
    with pytest.raises(TalimError, match="cannot be read without running code in it"):
        serialization.load(backbone(tiny_base), pickled)
