"""Tests of talim.backbones.mustango.unet_config: what is read, filled per level, refused."""

from __future__ import annotations

from typing import Any

import pytest

from talim.backbones.mustango.unet_config import MUSIC_DOWN, MUSIC_UP, PLAIN_DOWN, PLAIN_UP, UNetConfig
from talim.backbones.registry import released_configs
from talim.errors import TalimError

SMALL: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": [32, 64],
    "attention_head_dim": [2, 4],
    "layers_per_block": 1,
    "cross_attention_dim": 16,
    "down_block_types": [MUSIC_DOWN, PLAIN_DOWN],
    "up_block_types": [PLAIN_UP, MUSIC_UP],
}


def test_of_repeats_single_values_for_each_level() -> None:
    config = UNetConfig.of(SMALL)
    assert (config.levels, config.channels, config.heads) == (2, (32, 64), (2, 4))
    assert (config.layers, config.context_width) == ((1, 1), (16, 16))
    assert (config.music_down, config.music_up) == ((True, False), (False, True))
    assert (config.norm_groups, config.activation) == (32, "silu")


def test_of_the_released_model() -> None:
    config = UNetConfig.of(released_configs()["mustango_unet"])
    assert config.channels == (320, 640, 1280, 1280)
    assert sum(config.music_down) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_embed_type": "timestep"}, "class_embed_type='timestep' is not Mustango's; expected None"),
        ({"attention_head_dim": [2]}, "attention_head_dim has 1 values for 2 levels"),
        ({"down_block_types": [MUSIC_DOWN, "DownEncoderBlock2D"]}, "'DownEncoderBlock2D' is not Mustango's"),
        ({"up_block_types": [MUSIC_DOWN, MUSIC_UP]}, f"expected {MUSIC_UP} or {PLAIN_UP}"),
    ],
)
def test_of_another_architecture_raises_talim_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TalimError, match=message):
        UNetConfig.of(SMALL | change)


@pytest.mark.parametrize("key", ["in_channels", "block_out_channels"])
def test_of_a_configuration_without_a_key_names_it(key: str) -> None:
    with pytest.raises(TalimError, match=f"lacks '{key}'"):
        UNetConfig.of({name: value for name, value in SMALL.items() if name != key})
