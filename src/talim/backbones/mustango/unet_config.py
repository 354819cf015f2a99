"""The U-Net configuration, read from a checkpoint's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talim.errors import TalimError

MUSIC_DOWN, PLAIN_DOWN = "CrossAttnDownBlock2DMusic", "DownBlock2D"
MUSIC_UP, PLAIN_UP = "CrossAttnUpBlock2DMusic", "UpBlock2D"

# Settings with one supported value, that of the released model.
REQUIRED_SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "mid_block_type": ("UNetMidBlock2DCrossAttnMusic",),
    "dual_cross_attention": (False, None),
    "only_cross_attention": (False, None),
    "num_class_embeds": (None,),
    "class_embed_type": (None,),
    "time_embedding_type": ("positional", None),
    "resnet_time_scale_shift": ("default", None),
    "conv_in_kernel": (3, None),
    "conv_out_kernel": (3, None),
    "time_cond_proj_dim": (None,),
    "timestep_post_act": (None,),
    "projection_class_embeddings_input_dim": (None,),
}
# Field of UNetConfig -> diffusers' name.
OPTIONAL_SETTINGS = {
    **{"norm_groups": "norm_num_groups", "norm_eps": "norm_eps", "activation": "act_fn", "freq_shift": "freq_shift"},
    **{"downsample_padding": "downsample_padding", "mid_scale": "mid_block_scale_factor"},
    **{"flip_sin_to_cos": "flip_sin_to_cos", "center_input": "center_input_sample"},
    **{"linear_projection": "use_linear_projection", "upcast_attention": "upcast_attention"},
}


@dataclass(frozen=True)
class UNetConfig:
    """U-Net configuration; tuples have one entry per level, from fine to coarse."""

    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    heads: tuple[int, ...]  # the number of heads, called attention_head_dim in the file
    layers: tuple[int, ...]  # ResNets in the down path; the up path has one more
    context_width: tuple[int, ...]  # width of text, beat and chord tokens
    music_down: tuple[bool, ...]  # whether a level of the down path has attention
    music_up: tuple[bool, ...]  # the same for the up path, from coarse to fine
    norm_groups: int = 32
    norm_eps: float = 1e-5
    activation: str = "silu"
    downsample_padding: int = 1
    mid_scale: float = 1
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    center_input: bool = False
    linear_projection: bool = False
    upcast_attention: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> UNetConfig:
        """From a configuration with diffusers' names; TalimError for an unsupported setting."""
        for name, allowed in REQUIRED_SETTINGS.items():
            if name in config and config[name] not in allowed:
                raise TalimError(f"U-Net setting {name}={config[name]!r} is not Mustango's; expected {allowed[0]!r}")
        try:
            return cls._read(config)
        except KeyError as missing:
            raise TalimError(f"the U-Net's configuration lacks {missing}; is it Mustango's?") from None

    @classmethod
    def _read(cls, config: Mapping[str, Any]) -> UNetConfig:
        channels = tuple(config["block_out_channels"])

        def per_level(name: str, default: Any) -> tuple[Any, ...]:
            value = config.get(name, default)
            values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * len(channels)
            if len(values) != len(channels):
                raise TalimError(f"U-Net setting {name} has {len(values)} values for {len(channels)} levels")
            return values

        down = per_level("down_block_types", None)
        up = per_level("up_block_types", None)
        for kind, valid in [*((k, (MUSIC_DOWN, PLAIN_DOWN)) for k in down), *((k, (MUSIC_UP, PLAIN_UP)) for k in up)]:
            if kind not in valid:
                raise TalimError(f"U-Net block {kind!r} is not Mustango's; expected {' or '.join(valid)}")
        return cls(
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            channels=channels,
            heads=per_level("attention_head_dim", 8),
            layers=per_level("layers_per_block", 2),
            context_width=per_level("cross_attention_dim", 1280),
            music_down=tuple(kind == MUSIC_DOWN for kind in down),
            music_up=tuple(kind == MUSIC_UP for kind in up),
            **{field: config[name] for field, name in OPTIONAL_SETTINGS.items() if name in config},
        )

    @property
    def levels(self) -> int:
        return len(self.channels)
