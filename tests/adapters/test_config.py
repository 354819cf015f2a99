"""AdapterConfig: block rows, regular expressions of module paths, options."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from fixtures import non_music_models
from peft import PeftType, get_peft_model
from transformers.pytorch_utils import Conv1D

import talim.adapters as adapters
from talim.adapters.config import AdapterConfig, exact_path_regex, module_features, stored_base_name
from talim.design.adapter_kinds import KINDS
from talim.errors import UsageError

WIDTH = 6


def conv_config(**changes: Any) -> adapters.AdapterConfig:
    target = {"kind": "conv", "width": WIDTH, "target_modules": non_music_models.BLOCKS}
    return adapters.AdapterConfig(**target | changes)


@pytest.mark.parametrize("count", [1, 3, 48])
def test_exact_path_regex_matches_exactly_its_paths(count: int) -> None:
    paths = [f"decoder.model.decoder.layers.{i}" for i in range(count)]
    pattern = exact_path_regex(paths)
    assert all(re.fullmatch(pattern, path) for path in paths)
    other_paths = ["audio_encoder.decoder.layers.0", "decoder.model.decoder.layers.0.fc1", f"{paths[0]}9{count}"]
    assert not any(re.fullmatch(pattern, path) for path in [*other_paths, f"x.{paths[0]}", "decoderxmodel"])


def test_dropout_is_random_in_training_only() -> None:
    block = AdapterConfig(blocks=[{"module": "x", "kind": "linear", "features": 8, "width": 4}], dropout=0.5)
    kind = block.build(block.blocks[0], torch.nn.Identity())
    hidden = torch.ones(1, 3, 8)
    torch.manual_seed(0)
    kind.train()
    assert not torch.equal(kind(hidden), kind(hidden))
    kind.eval()
    assert torch.equal(kind(hidden), kind(hidden))


@pytest.mark.parametrize("missing", ["kind", "width", "target_modules"])
def test_adapter_config_incomplete_raises_usage_error(missing: str) -> None:
    with pytest.raises(UsageError, match="kind .* is unknown" if missing == "kind" else "needs kind, width"):
        adapters.AdapterConfig(**{"kind": "conv", "width": 6, "target_modules": "a", missing: None})
    with pytest.raises(UsageError, match="has no option depth"):
        get_peft_model(non_music_models.llama(), conv_config(kind_options={"depth": 2}))


def test_adapter_config_kind_options_reach_the_kind() -> None:
    model = get_peft_model(non_music_models.llama(), conv_config(kind_options={"kernel_size": 2, "dilations": [1]}))
    count = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert count == 2 * KINDS["conv"].parameters_of(16, WIDTH, kernel_size=2, dilations=(1,))


def test_peft_type_behaves_like_a_member_of_pefts_enum() -> None:
    peft_type: Any = conv_config().peft_type
    assert peft_type.value == peft_type.name == "TALIM"
    assert peft_type == "TALIM"
    assert hash(peft_type) == hash("TALIM")
    assert {peft_type: 1}["TALIM"] == 1
    assert str(peft_type).partition(".")[-1] == str(PeftType.LORA).partition(".")[-1].replace("LORA", "TALIM")
    assert json.loads(json.dumps({"t": peft_type})) == {"t": "TALIM"}
    assert yaml.safe_load(yaml.safe_dump({"t": peft_type})) == {"t": "TALIM"}
    assert pickle.loads(pickle.dumps(peft_type)) is peft_type
    assert copy.deepcopy(peft_type) is peft_type
    assert peft_type != PeftType.LORA


def test_to_dict_is_plain_and_complete() -> None:
    config = conv_config(target_modules={"b", "a"})
    values = yaml.safe_load(yaml.safe_dump(config.to_dict()))
    assert values["target_modules"] == ["a", "b"]
    assert values["kind_options"] == {"kernel_size": 5, "dilations": [1, 4], "se_channels": 4, "se_update_every": 8}
    again = adapters.AdapterConfig(**{key: value for key, value in values.items() if key != "peft_type"})
    assert again.to_dict() == config.to_dict()


def test_defaults_of_a_kind_that_change_later_leave_a_stored_adapter_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"module": "x", "kind": "conv", "features": 8, "width": 4}
    stored = AdapterConfig(blocks=[row]).to_dict()
    assert stored["blocks"][0]["kind_options"]["kernel_size"] == 5
    assert (stored["blocks"][0]["causal"], stored["blocks"][0]["layout"]) == (True, "frames")
    shapes = AdapterConfig(**stored).shapes(stored["blocks"][0], torch.nn.Identity())

    def other(cls: Any, width: int, **given: Any) -> dict[str, Any]:
        return {"kernel_size": 9, "dilations": (1,), "se_channels": 7, "se_update_every": 1} | given

    monkeypatch.setattr(KINDS["conv"], "default_options", classmethod(other))
    assert AdapterConfig(**stored).shapes(stored["blocks"][0], torch.nn.Identity()) == shapes


@pytest.mark.parametrize(
    ("base", "stored"),
    [
        ("facebook/musicgen-small", "facebook/musicgen-small"),
        ("gpt2", "gpt2"),
        ("/srv/models/gpt2", "./gpt2"),
        ("./facebook/musicgen-small", "./musicgen-small"),
        ("models/facebook/musicgen-small/", "./musicgen-small"),
        ("C:\\models\\gpt2", "./gpt2"),
        ("~/gpt2", "./gpt2"),
        (None, None),
        ("", ""),
    ],
)
def test_stored_base_name_is_never_that_of_another_model(base: str | None, stored: str | None) -> None:
    assert stored_base_name(base) == stored


@pytest.mark.parametrize("name", ["gpt2", "facebook/musicgen-small"])
def test_stored_base_name_of_a_relative_folder_is_no_hub_id(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert stored_base_name(name) == "./" + name.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("target", "count"), [(["q_proj", "v_proj"], 4), ("all-linear", 14), ({"mlp"}, 2), (r".*\.mlp", 2), ("lm_head", 1)]
)
def test_target_modules_are_matched_as_peft_does(target: Any, count: int) -> None:
    model = get_peft_model(non_music_models.llama(), conv_config(kind="linear", target_modules=target))
    assert len(cast(list[str], model.base_model.targeted_module_names)) == count


def test_init_weights_false_changes_the_output() -> None:
    ids = torch.tensor([[5, 6, 7]])
    plain = non_music_models.llama()(ids).logits
    torch.testing.assert_close(get_peft_model(non_music_models.llama(), conv_config())(ids).logits, plain)
    drawn = get_peft_model(non_music_models.llama(), conv_config(init_weights=False))(ids).logits
    assert (drawn - plain).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("layer", "features"),
    [
        (torch.nn.Linear(3, 5), 5),
        (torch.nn.Embedding(9, 7), 7),
        (Conv1D(6, 4), 6),
        (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4), torch.nn.RMSNorm(4)), 4),
        (torch.nn.Sequential(torch.nn.Sequential(torch.nn.LayerNorm(9)), torch.nn.LayerNorm(4)), 4),
    ],
)
def test_module_features_reads_the_width_of_the_output(layer: torch.nn.Module, features: int) -> None:
    assert module_features(layer, "x") == features


def test_module_features_unknown_raises_usage_error() -> None:
    for layer in (torch.nn.Tanh(), torch.nn.Sequential(torch.nn.LayerNorm(3), torch.nn.LayerNorm(4))):
        with pytest.raises(UsageError, match=r"x: the output width of a \w+ is unknown; give blocks with features"):
            module_features(layer, "x")
