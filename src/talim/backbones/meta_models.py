"""Base models on the meta device: all modules and settings of the real model, without weights.

Planning runs the same code on them as training. For models with a registered shape nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from talim.backbones import load, resolve
from talim.backbones.nano.musicgen import ByteTokenizer
from talim.backbones.registry import released_configs
from talim.design.musicgen_sites import MusicGenShape

if TYPE_CHECKING:
    from talim.backbones.mustango.model import MustangoModel
    from talim.backbones.mustango.vae_vocoder import MelVAE
    from talim.backbones.protocol import Backbone
    from talim.backbones.resolve import ModelSource

MUSTANGO_WIDTH = 1024  # of beat and chord tokens, their time embeddings, and the vocoder's first layer


def load_on_meta(name_or_folder: str | Path, dtype: torch.dtype) -> Backbone:
    """A base by short name, Hub id or folder on the meta device, its decoder or U-Net in `dtype`.

    TalimError if there is no such base, or if it is neither registered nor available.
    """
    source = resolve.resolve_source(str(name_or_folder))
    if source.entry is None or source.entry.shape is None:
        source = resolve.described(source)
    with resolve.friendly_load_errors(source), load.silence_transformers():
        family = resolve.source_family(source)
        return _mustango(source, dtype) if family == "mustango" else _musicgen(source, dtype)


def materialize(model: nn.Module, make: Callable[[Tensor], Tensor]) -> None:
    """Replace every tensor of a model by `make(tensor)`; shared tensors stay shared."""
    replaced: dict[int, Tensor] = {}
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                if id(weight) not in replaced:
                    replaced[id(weight)] = nn.Parameter(make(weight), weight.requires_grad)
                module._parameters[name] = replaced[id(weight)]  # type: ignore[assignment]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = replaced.setdefault(id(buffer), make(buffer))


def _musicgen(source: ModelSource, dtype: torch.dtype) -> Backbone:
    import transformers

    from talim.backbones.musicgen.backbone import MusicGen
    from talim.backbones.musicgen.melody import MusicGenMelody

    shape = source.entry.shape if source.entry is not None else None
    if isinstance(shape, MusicGenShape):
        is_nano, config = False, _released_config(shape)
    else:
        is_nano = load.register_nano(source)
        config = load.read_config(source)
    melody = config.model_type == "musicgen_melody"
    model_class: Any = transformers.MusicgenForConditionalGeneration
    if melody:
        model_class = transformers.MusicgenMelodyForConditionalGeneration
    with torch.device("meta"):
        model: Any = model_class(config)
        model.to(dtype)
        for part in load.FP32_PARTS:
            getattr(model, part).float()
    facts = {"name": source.name, "licence": resolve.source_licence(source), "precision_reason": str(dtype)}
    if melody:
        preprocessor = {} if isinstance(shape, MusicGenShape) else load.read_preprocessor(source)
        return MusicGenMelody(model, ByteTokenizer(), preprocessor=preprocessor, **facts)
    return MusicGen(model, ByteTokenizer(), miniature=is_nano, **facts)


def _released_config(shape: MusicGenShape) -> Any:
    """The configuration of a released MusicGen of this shape."""
    from transformers import (
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenMelodyConfig,
        MusicgenMelodyDecoderConfig,
        T5Config,
    )

    t5: Any = T5Config  # accepts more than its signature
    melody: dict[str, Any] = {}
    if shape.melody_frames:
        melody = {"num_chroma": shape.chroma, "chroma_length": shape.melody_frames}
    decoder_class, config_class = MusicgenDecoderConfig, MusicgenConfig
    if melody:
        decoder_class, config_class = MusicgenMelodyDecoderConfig, MusicgenMelodyConfig
    decoder = decoder_class(
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
    return config_class(
        text_encoder=t5(**released_configs()["t5_base"]).to_dict(),
        audio_encoder=EncodecConfig(**released_configs()["encodec_32khz"]).to_dict(),
        decoder=decoder.to_dict(),
        **melody,
    )


def _mustango(source: ModelSource, dtype: torch.dtype) -> Backbone:
    from talim.backbones.mustango.backbone import WINDOW_SECONDS, Mustango

    window_seconds, is_nano = WINDOW_SECONDS, False
    if source.entry is not None and source.entry.shape is not None:
        model, mel_vae = _released_mustango()
    elif resolve.is_nano_mustango(source):
        from talim.backbones.nano.mustango import NanoMustangoConfig

        shape = NanoMustangoConfig.read(Path(source.path_or_id))
        window_seconds, is_nano = shape.window_seconds, True
        with torch.device("meta"):
            model = shape.model()
        mel_vae = shape.mel_vae().to("meta")
    else:
        from talim.backbones.mustango import checkpoint_files
        from talim.backbones.mustango import load as mustango_load

        files = checkpoint_files.CheckpointFiles(Path(source.path_or_id))
        # the widths of an unregistered checkpoint are only known from its weights
        model, mel_vae = mustango_load.read_model(files), mustango_load.read_mel_vae(files)
        for part in (model, mel_vae):
            materialize(part, lambda weight: weight.to("meta"))
    model.unet.to(dtype)
    facts: dict[str, Any] = {"name": source.name, "licence": resolve.source_licence(source)}
    facts |= {"precision_reason": str(dtype), "miniature": is_nano, "window_seconds": window_seconds}
    backbone = Mustango(model, mel_vae, ByteTokenizer(), **facts)
    width = model.unet.config.context_width[0]
    vars(backbone)["null_states"] = np.zeros((1, width), np.float32)  # T5 encodes the empty prompt as one token
    return backbone


def _released_mustango() -> tuple[MustangoModel, MelVAE]:
    from transformers import T5Config

    from talim.backbones.mustango.model import ModelDims, MustangoModel
    from talim.backbones.mustango.unet_config import UNetConfig
    from talim.backbones.mustango.vae_vocoder import MelConfig, MelVAE, build_vae, build_vocoder

    t5, mel = T5Config, MelConfig()
    unet, text = UNetConfig.of(released_configs()["mustango_unet"]), t5(**released_configs()["mustango_text"])
    with torch.device("meta"):
        model = MustangoModel(unet, text, ModelDims(*[MUSTANGO_WIDTH] * 5))
        vocoder = build_vocoder(MUSTANGO_WIDTH, mel.n_mel_channels, mel.sampling_rate)
        vae = build_vae(released_configs()["mustango_vae"])
    return model, MelVAE(vae, vocoder, mel).to("meta")
