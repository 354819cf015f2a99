"""The released files' keys and shapes at full size, against modules that take no memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from talim.backbones.mustango import beat_chord_predictors, weight_names
from talim.backbones.mustango.load import build_model, text_config
from talim.backbones.mustango.unet_config import UNetConfig
from talim.backbones.mustango.vae_vocoder import build_vae, build_vocoder
from tests.golden_mustango.cases import Check, Golden, Parts, same

# configs/music_diffusion_model_config.json of the released checkpoint
RELEASED_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2DMusic"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 8,
    "layers_per_block": 2,
    "mid_block_type": "UNetMidBlock2DCrossAttnMusic",
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 8,
    "sample_size": [32, 2],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2DMusic"] * 3,
    "use_linear_projection": True,
    "upcast_attention": True,
}


def shapes(section: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors without memory, under the released names."""
    return {name: torch.empty(shape, device="meta") for name, shape in section["keys"].items()}


def total(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def all_checks(golden: Golden) -> Parts:
    """Whatever the folder has."""
    if golden.has("full_keys.json"):
        yield "full size", full_size(golden)


def full_size(golden: Golden) -> Iterator[Check]:
    """Every file of the released checkpoint loads, key by key, or `keys.check` raises."""
    sections = golden.json("full_keys.json")
    found = {name.split(" ")[0]: value for name, value in sections.items() if isinstance(value, dict)}
    ldm = weight_names.diffusion_weights(shapes(found["ldm"]), "ldm")
    model = build_model(UNetConfig.of(RELEASED_UNET), ldm, "ldm")
    weight_names.check_weights(model, ldm, "ldm")
    yield same("full-size ldm parameters", total(model), found["ldm"]["n_parameters_unique"])
    counted = {name: total(part) for name, part in model.named_children() if total(part)}
    theirs = found["ldm"]["parameters_by_submodule"]
    yield same("full-size U-Net parameters", counted["unet"], theirs["unet"])
    with torch.device("meta"):
        vae, vocoder = build_vae(found["vae"]["vae_config"]), build_vocoder(1024, 64, 16000)
    for_vae, for_vocoder = weight_names.vae_vocoder_weights(shapes(found["vae"]), 3)
    weight_names.check_weights(vae, for_vae, "vae")
    weight_names.check_weights(vocoder, for_vocoder, "vae", given=("mean", "scale"))
    yield same("full-size vae parameters", total(vae) + total(vocoder), found["vae"]["n_parameters_unique"])
    beats = beat_chord_predictors.beat_weights(shapes(found["beats"]))
    with torch.device("meta"):
        net = beat_chord_predictors.BeatNet(beat_chord_predictors.beat_config(beats, "beats"))
    weight_names.check_weights(net, beats, "beats")
    yield same("full-size beats parameters", total(net), found["beats"]["n_parameters_unique"])
    chords = beat_chord_predictors.chord_weights(shapes(found["chords"]))
    with torch.device("meta"):
        from transformers import T5ForConditionalGeneration

        answerer = T5ForConditionalGeneration(text_config(chords, "chords", "", decoder=True))
    weight_names.check_weights(answerer, chords, "chords", given=beat_chord_predictors.TIED_WEIGHT_KEYS)
    yield same(
        "full-size chords parameters", sum(t.numel() for t in chords.values()), found["chords"]["n_parameters_unique"]
    )
