"""Base models without their weights: every module and setting of the real one, on the meta device.

What is planned on them is done by the same code as training; they only cannot answer with numbers. Nothing is
downloaded for a base that the catalogue knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from talim.backbones import load, resolve
from talim.backbones.nano.musicgen import ByteTokenizer
from talim.designs.musicgen_sites import MusicGenShape

if TYPE_CHECKING:
    from talim.backbones.mustango.model import MustangoModel
    from talim.backbones.mustango.vae_vocoder import MelVAE
    from talim.backbones.protocol import Backbone
    from talim.backbones.resolve import ModelSource

# The parts that all released MusicGens share: google-t5/t5-base and facebook/encodec_32khz.
T5_BASE = {"vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
ENCODEC_32KHZ: dict[str, Any] = {
    "target_bandwidths": [2.2],
    "sampling_rate": 32000,
    "num_filters": 64,
    "upsampling_ratios": [8, 5, 4, 4],
    "codebook_size": 2048,
    "codebook_dim": 128,
    "num_residual_layers": 1,
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}


def load_on_meta(name_or_folder: str | Path, dtype: torch.dtype) -> Backbone:
    """A base by short name, Hub id or folder, frozen, its decoder or U-Net in `dtype`, all on the meta device.

    TalimError where there is no such base, or where it is neither known nor here.
    """
    source = resolve.resolve_source(str(name_or_folder))
    with resolve.friendly_load_errors(source), load.silence_transformers():
        if source.entry is not None and source.entry.shape is not None:
            family = source.entry.family
        else:
            resolve.check_reachable(source)
            family = resolve.source_family(source)
        return _mustango(source, dtype) if family == "mustango" else _musicgen(source, dtype)


def materialize(model: nn.Module, make: Callable[[Tensor], Tensor]) -> None:
    """Put what `make` answers in the place of every tensor of a model; a tensor in several places stays one."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                if id(weight) not in made:
                    made[id(weight)] = nn.Parameter(make(weight), weight.requires_grad)
                module._parameters[name] = made[id(weight)]  # type: ignore[assignment]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = made.setdefault(id(buffer), make(buffer))


def _musicgen(source: ModelSource, dtype: torch.dtype) -> Backbone:
    from transformers import MusicgenForConditionalGeneration

    from talim.backbones.musicgen.backbone import MusicGen

    shape = source.entry.shape if source.entry is not None else None
    if isinstance(shape, MusicGenShape):
        nano, config = False, _released_config(shape)
    else:
        nano = load.register_nano(source)
        config = load.read_config(source)
    with torch.device("meta"):
        model: Any = MusicgenForConditionalGeneration(config)
        model.to(dtype)
        for part in load.FP32_PARTS:
            getattr(model, part).float()
    said = {"name": source.name, "licence": resolve.source_licence(source), "precision_reason": str(dtype)}
    return MusicGen(model, ByteTokenizer(), miniature=nano, **said)


def _released_config(shape: MusicGenShape) -> Any:
    """The configuration of a released MusicGen of this shape."""
    from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config

    t5: Any = T5Config  # takes more than its signature says
    decoder = MusicgenDecoderConfig(
        vocab_size=shape.vocabulary,
        pad_token_id=shape.vocabulary,
        bos_token_id=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.feed_forward,
        num_codebooks=shape.codebooks,
        audio_channels=shape.channels,
    )
    return MusicgenConfig(
        text_encoder=t5(**T5_BASE, is_encoder_decoder=False).to_dict(),
        audio_encoder=EncodecConfig(**ENCODEC_32KHZ).to_dict(),
        decoder=decoder.to_dict(),
    )


def _mustango(source: ModelSource, dtype: torch.dtype) -> Backbone:
    from talim.backbones.mustango.backbone import WINDOW_SECONDS, Mustango

    window_seconds, nano = WINDOW_SECONDS, False
    if source.entry is not None and source.entry.shape is not None:
        model, sound = _released_mustango()
    elif resolve.is_nano_mustango(source):
        from talim.backbones.nano.mustango import NanoMustangoConfig

        config = json.loads((Path(source.path_or_id) / "config.json").read_text(encoding="utf-8"))
        shape = NanoMustangoConfig(**{name: value for name, value in config.items() if name != "model_type"})
        window_seconds, nano = shape.window_seconds, True
        with torch.device("meta"):
            model = shape.model()
        sound = shape.sound().to("meta")
    else:
        from talim.backbones.mustango import checkpoint_files
        from talim.backbones.mustango import load as mustango_load

        stored = checkpoint_files.CheckpointFiles(
            checkpoint_files.fetch_checkpoint(source.path_or_id, source.local)
        )
        # this reads what is here: of a checkpoint of one's own only the weights tell all widths
        model, sound = mustango_load.read_model(stored), mustango_load.read_mel_vae(stored)
        for part in (model, sound):
            materialize(part, lambda weight: weight.to("meta"))
    model.unet.to(dtype)
    said: dict[str, Any] = {"name": source.name, "licence": resolve.source_licence(source)}
    said["precision_reason"] = str(dtype)
    made = Mustango(model, sound, ByteTokenizer(), miniature=nano, window_seconds=window_seconds, **said)
    width = model.unet.config.context_width[0]
    vars(made)["null_states"] = np.zeros((1, width), np.float32)  # one position of no words, as T5 answers
    return made


def _released_mustango() -> tuple[MustangoModel, MelVAE]:
    from transformers import T5Config

    from talim.backbones.mustango import unet_config
    from talim.backbones.mustango.model import ModelDims, MustangoModel
    from talim.backbones.mustango.unet_config import UNetConfig
    from talim.backbones.mustango.vae_vocoder import MelConfig, MelVAE, build_vae, build_vocoder

    t5, mel = T5Config, MelConfig()
    with torch.device("meta"):
        model = MustangoModel(
            UNetConfig.of(unet_config.UNET), t5(**unet_config.TEXT), ModelDims(*[unet_config.WIDTH] * 5)
        )
        vocoder = build_vocoder(unet_config.VOCODER_CHANNELS, mel.n_mel_channels, mel.sampling_rate)
        sounding = build_vae(unet_config.VAE)
    return model, MelVAE(sounding, vocoder, mel).to("meta")
