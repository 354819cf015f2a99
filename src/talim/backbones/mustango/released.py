"""The released Mustango in numbers: what its files are made of, so that it can be built without them.

U-Net and VAE: the checkpoint's configs/music_diffusion_model_config.json and configs/vae_config.json. Text: the
encoder of google/flan-t5-large. Widths and the vocoder's channels: the shapes of its weights.
"""

from __future__ import annotations

from typing import Any

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
WIDTH = 1024  # of beats, chords and their times
VOCODER_CHANNELS = 1024
