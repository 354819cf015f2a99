"""Registry: shapes of released models against models on the meta device, licences, names."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

from talim.backbones import fingerprint, registry
from talim.backbones.musicgen.backbone import MusicGen
from talim.design.musicgen_sites import MusicGenShape

# written out, so that a slip in the formula or in the shapes shows
PARAMETERS = {
    "musicgen-small": 419_584_000,
    "musicgen-stereo-small": 436_365_312,
    "musicgen-medium": 1_837_556_736,
    "musicgen-stereo-medium": 1_862_728_704,
    "musicgen-large": 3_255_382_016,
    "musicgen-stereo-large": 3_288_944_640,
}
RELEASED = [model for model in registry.MODELS.values() if isinstance(model.shape, MusicGenShape)]


def on_meta(shape: MusicGenShape) -> MusicgenForConditionalGeneration:
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
    decoder = MusicgenDecoderConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.feed_forward,
        num_codebooks=shape.codebooks,
        audio_channels=shape.channels,
    )
    with torch.device("meta"):
        return MusicgenForConditionalGeneration(MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder))


@pytest.mark.parametrize("model", RELEASED, ids=lambda model: model.name)
def test_registered_shape_equals_the_model_on_meta(model: registry.ModelEntry) -> None:
    shape = model.shape
    assert isinstance(shape, MusicGenShape)
    built = on_meta(shape)
    assert shape.decoder_parameters == fingerprint.count_values(built.decoder) == PARAMETERS[model.name]
    assert built.enc_to_dec_proj.weight.shape == (shape.hidden, shape.text_width)
    assert len(built.decoder.lm_heads) == shape.codebooks == 4 * shape.channels
    assert built.config.audio_encoder.frame_rate == 50
    assert built.config.audio_encoder.num_quantizers * shape.channels == shape.codebooks
    modules = dict(built.named_modules())
    sites = MusicGen.sites(_Shell(built))  # type: ignore[arg-type]
    layers = [site for site in sites if site.name.startswith("layers[")]
    for site in layers:
        assert modules[site.module].embed_dim == site.width == shape.hidden
        assert modules[site.module].self_attn.head_dim == 64
    assert layers[-1].name == f"layers[{shape.layers - 1}]"
    assert layers[-1].depth == 1.0
    assert (sites[0].name, sites[-1].name) == ("conditioner", "post")


class _Shell:
    """A model with the attributes that `sites` reads."""

    def __init__(self, model: MusicgenForConditionalGeneration) -> None:
        self.config = model.config


def test_registry_released_models_have_a_licence() -> None:
    assert len(RELEASED) == 6
    assert {model.licence for model in RELEASED} == {"CC-BY-NC-4.0"}


def test_find_model_and_closest_names() -> None:
    small = registry.find_model("musicgen-small")
    assert small is not None
    assert small is registry.find_model("facebook/musicgen-small")
    assert registry.find_model("facebook/musicgen-smal") is None
    assert registry.closest_names("facebok/musicgen-smal")[0] == "musicgen-small"
    assert registry.closest_names("zzz") == []
