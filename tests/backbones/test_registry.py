"""Registry: shapes of released models against models on the meta device, licences, names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyDecoderConfig,
    MusicgenMelodyForConditionalGeneration,
    T5Config,
)

from talim.backbones import fingerprint, registry, resolve
from talim.backbones.musicgen.backbone import MusicGen
from talim.design.musicgen_sites import MusicGenShape
from talim.errors import TalimError

# written out, so that a slip in the formula or in the shapes shows
PARAMETERS = {
    "musicgen-small": 419_584_000,
    "musicgen-stereo-small": 436_365_312,
    "musicgen-medium": 1_837_556_736,
    "musicgen-stereo-medium": 1_862_728_704,
    "musicgen-large": 3_255_382_016,
    "musicgen-stereo-large": 3_288_944_640,
    "musicgen-melody": 1_384_424_448,
    "musicgen-stereo-melody": 1_409_596_416,
    "musicgen-melody-large": 2_449_879_040,
    "musicgen-stereo-melody-large": 2_483_441_664,
}
RELEASED = [model for model in registry.MODELS.values() if isinstance(model.shape, MusicGenShape)]


def on_meta(shape: MusicGenShape) -> Any:
    """A released model on the meta device: decoder, T5-base and the 32 kHz codec."""
    text = T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, vocab_size=32128)
    codec = EncodecConfig(
        target_bandwidths=[2.2],
        sampling_rate=32000,
        num_filters=64,
        upsampling_ratios=[8, 5, 4, 4],
        codebook_size=2048,
        use_causal_conv=False,
        use_conv_shortcut=False,
    )
    melody = shape.melody_frames > 0
    decoder = (MusicgenMelodyDecoderConfig if melody else MusicgenDecoderConfig)(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.feed_forward,
        num_codebooks=shape.codebooks,
        audio_channels=shape.channels,
    )
    parts: Any = {"text_encoder": text, "audio_encoder": codec, "decoder": decoder}
    with torch.device("meta"):
        if melody:  # its length of the melody is transformers' default
            return MusicgenMelodyForConditionalGeneration(MusicgenMelodyConfig(**parts))
        return MusicgenForConditionalGeneration(MusicgenConfig(**parts))


@pytest.mark.parametrize("model", RELEASED, ids=lambda model: model.name)
def test_registered_shape_equals_the_model_on_meta(model: registry.ModelEntry) -> None:
    shape = model.shape
    assert isinstance(shape, MusicGenShape)
    built = on_meta(shape)
    assert shape.decoder_parameters == fingerprint.count_values(built.decoder) == PARAMETERS[model.name]
    assert built.enc_to_dec_proj.weight.shape == (shape.hidden, shape.text_width)
    assert getattr(built.config, "chroma_length", 0) == shape.melody_frames
    assert len(built.decoder.lm_heads) == shape.codebooks == 4 * shape.channels
    assert built.config.audio_encoder.frame_rate == 50
    assert built.config.audio_encoder.num_quantizers * shape.channels == shape.codebooks
    if not model.name.endswith(("melody", "melody-large")):  # whose conversion stores other parts
        assert model.download_gb == pytest.approx(stored_values(built) * model.value_bytes / 1e9, rel=1e-3)
    modules = dict(built.named_modules())
    sites = MusicGen.sites(_Shell(built))  # type: ignore[arg-type]
    layers = [site for site in sites if site.name.startswith("layers[")]
    for site in layers:
        assert modules[site.module].embed_dim == site.width == shape.hidden
        assert modules[site.module].self_attn.head_dim == 64
    assert layers[-1].name == f"layers[{shape.layers - 1}]"
    assert layers[-1].depth == 1.0
    assert (sites[0].name, sites[-1].name) == ("conditioner", "post")


def stored_values(model: MusicgenForConditionalGeneration) -> int:
    """Numbers in a released file: the weights, the codec's codebooks, and the decoder's table of sinusoids."""
    stored = {name: tensor.numel() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    shared = [name for name in stored if name == "text_encoder.encoder.embed_tokens.weight"]  # as text_encoder.shared
    table = 2048 * model.config.decoder.hidden_size
    return sum(stored.values()) - sum(stored[name] for name in shared) + table


# to be within 0.4 % of the files, which are given to two digits
@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        *(("musicgen-small", 2.36), ("musicgen-medium", 8.04), ("musicgen-large", 13.71)),
        *(("musicgen-stereo-small", 1.22), ("musicgen-stereo-medium", 4.07), ("musicgen-stereo-large", 6.92)),
    ],
)
def test_download_gb_is_that_of_the_released_precision(name: str, gigabytes: float) -> None:
    entry = registry.MODELS[name]
    assert entry.download_gb == pytest.approx(gigabytes, rel=4e-3)
    assert entry.value_bytes == (2 if "stereo" in name else 4)
    assert entry.fp32_gb == entry.download_gb * (2 if "stereo" in name else 1)


class _Shell:
    """A model with the attributes that `sites` reads."""

    def __init__(self, model: Any) -> None:
        self.config = model.config


def test_registry_released_models_have_a_licence() -> None:
    assert len(RELEASED) == 10
    assert {model.licence for model in RELEASED} == {"CC-BY-NC-4.0"}


def test_find_model_and_closest_names() -> None:
    small = registry.find_model("musicgen-small")
    assert small is not None
    assert small is registry.find_model("facebook/musicgen-small")
    assert registry.find_model("facebook/musicgen-smal") is None
    assert registry.closest_names("facebok/musicgen-smal")[0] == "musicgen-small"
    assert registry.closest_names("zzz") == []
    assert registry.find_model("musicgen-small@main") is small
    assert registry.closest_names("facebok/musicgen-smal@main")[0] == "musicgen-small"


@pytest.mark.parametrize(
    "name",
    [
        "facebook/musicgen-style",
        "musicgen-style@main",
        "Facebook/MusicGen-Style",
        "facebook/audiogen-medium",
        "facebook/magnet-small-10secs",
        "facebook/jasco-chords-drums-1B",
        "facebook/melodyflow-t24-30secs",
    ],
)
def test_a_known_model_that_is_no_base_is_refused_with_all_that_are(name: str) -> None:
    from talim.planning.base_facts import base_model_facts

    for find in (resolve.resolve_source, resolve.check_base, base_model_facts):
        with pytest.raises(TalimError, match=f"base '{name}' is not supported: ") as error:
            find(name)
        assert all(known in str(error.value) for known in registry.MODELS)


@pytest.mark.parametrize("name", [*registry.MODELS, "somebody/musicgen-style", "facebook/musicgen-styles", "magnetic"])
def test_unsupported_reason_of_all_other_names_is_empty(name: str) -> None:
    assert registry.unsupported_reason(name) == ""
