"""AdapterConfig: block rows, regular expressions of module paths, options."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from fixtures import non_music_models
from peft import get_peft_model

import talim.adapters as adapters
from talim.adapters.config import AdapterConfig, exact_path_regex
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
