"""Configurations of the released model, and the U-Net configuration read from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talim.errors import TalimError

UNET: dict[str, Any] = {
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2DMusic"] * 3 + ["DownBlock2D"],
    "freq_shift": 0,
    "in_channels": 8,
    "layers_per_block": 2,
    "mid_block_type": "UNetMidBlock2DCrossAttnMusic",
    "out_channels": 8,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2DMusic"] * 3,
    "use_linear_projection": True,
    "upcast_attention": True,
}

VAE: dict[str, Any] = {
    "embed_dim": 8,
    "ddconfig": {
        "z_channels": 8,
        "in_channels": 1,
        "out_ch": 1,
        "ch": 128,
        "ch_mult": [1, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
    },
    "scale_factor": 0.9227914214134216,
}

TEXT: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 1024,
    "d_kv": 64,
    "d_ff": 2816,
    "num_layers": 24,
    "num_heads": 16,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": False,
}

WIDTH = 1024  # of beat and chord tokens and their time embeddings

VOCODER_CHANNELS = 1024


MUSIC_DOWN, PLAIN_DOWN = "CrossAttnDownBlock2DMusic", "DownBlock2D"

MUSIC_UP, PLAIN_UP = "CrossAttnUpBlock2DMusic", "UpBlock2D"

MUSIC_MID = "UNetMidBlock2DCrossAttnMusic"


# Settings with one supported value, that of the released model.
REQUIRED_SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "mid_block_type": (MUSIC_MID,),
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
    mid_scale: float = 1.0
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0
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
            norm_groups=config.get("norm_num_groups", 32),
            norm_eps=config.get("norm_eps", 1e-5),
            activation=config.get("act_fn", "silu"),
            downsample_padding=config.get("downsample_padding", 1),
            mid_scale=config.get("mid_block_scale_factor", 1),
            flip_sin_to_cos=config.get("flip_sin_to_cos", True),
            freq_shift=config.get("freq_shift", 0),
            center_input=config.get("center_input_sample", False),
            linear_projection=config.get("use_linear_projection", False),
            upcast_attention=config.get("upcast_attention", False),
        )

    @property
    def levels(self) -> int:
        return len(self.channels)
