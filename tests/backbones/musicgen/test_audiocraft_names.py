"""Names of audiocraft's weights: the fused projections in torch's order, nothing renamed by guess."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from talim.backbones.musicgen.audiocraft_names import codec_weights, language_model_weights
from talim.errors import TalimError

LAYER = "decoder.model.decoder.layers.7"


@pytest.mark.parametrize("prefix", ["", "mha."], ids=["custom", "torch"])
@pytest.mark.parametrize(("theirs", "ours"), [("self_attn", "self_attn"), ("cross_attention", "encoder_attn")])
def test_fused_projections_are_split_as_torch_reads_them(prefix: str, theirs: str, ours: str) -> None:
    attention = nn.MultiheadAttention(4, 1, bias=False, batch_first=True)
    weight, out = attention.in_proj_weight.detach(), attention.out_proj.weight.detach()
    path = f"transformer.layers.7.{theirs}.{prefix}"
    found = language_model_weights({f"{path}in_proj_weight": weight, f"{path}out_proj.weight": out}, "file")
    assert set(found) == {f"{LAYER}.{ours}.{name}_proj.weight" for name in ("q", "k", "v", "out")}
    query, key, value = torch.randn(1, 3, 4), torch.randn(1, 5, 4), torch.randn(1, 5, 4)
    q, k, v = (
        states @ found[f"{LAYER}.{ours}.{name}_proj.weight"].T
        for name, states in {"q": query, "k": key, "v": value}.items()
    )
    expected = attention(query, key, value, need_weights=False)[0]
    actual = torch.softmax(q @ k.mT / 2, dim=-1) @ v @ found[f"{LAYER}.{ours}.out_proj.weight"].T
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("transformer.layers.7.norm1.bias", f"{LAYER}.self_attn_layer_norm.bias"),
        ("transformer.layers.7.norm2.weight", f"{LAYER}.final_layer_norm.weight"),
        ("transformer.layers.7.norm_cross.weight", f"{LAYER}.encoder_attn_layer_norm.weight"),
        ("transformer.layers.7.linear1.weight", f"{LAYER}.fc1.weight"),
        ("transformer.layers.7.linear2.weight", f"{LAYER}.fc2.weight"),
        ("out_norm.bias", "decoder.model.decoder.layer_norm.bias"),
        ("emb.3.weight", "decoder.model.decoder.embed_tokens.3.weight"),
        ("linears.3.weight", "decoder.lm_heads.3.weight"),
        ("condition_provider.conditioners.description.output_proj.bias", "enc_to_dec_proj.bias"),
    ],
)
def test_names_of_the_language_model(theirs: str, ours: str) -> None:
    assert list(language_model_weights({theirs: torch.ones(1)}, "file")) == [ours]


@pytest.mark.parametrize(
    "name",
    [
        "transformer.layers.0.layer_scale_1.scale",
        "transformer.layers.0.self_attn.q_layer_norm.weight",
        "condition_provider.conditioners.genre.embed.weight",
        "linears.0.bias",
        "xemb.0.weight",
    ],
)
def test_a_weight_without_a_place_is_named(name: str) -> None:
    with pytest.raises(TalimError, match=f"file has the weight {name}"):
        language_model_weights({name: torch.ones(1)}, "file")


def test_codec_weights_of_group_norms_and_shortcuts() -> None:
    names = {
        "encoder.model.0.conv.norm.weight": "encoder.layers.0.norm.weight",
        "decoder.model.3.convtr.norm.bias": "decoder.layers.3.norm.bias",
        "decoder.model.3.convtr.convtr.weight_v": "decoder.layers.3.conv.weight_v",
        "encoder.model.1.shortcut.conv.conv.bias": "encoder.layers.1.shortcut.conv.bias",
        "encoder.model.1.block.3.conv.norm.bias": "encoder.layers.1.block.3.norm.bias",
        "quantizer.vq.layers.2._codebook.embed": "quantizer.layers.2.codebook.embed",
    }
    found = codec_weights(dict.fromkeys(names, torch.ones(1)), "file")
    assert list(found) == [f"audio_encoder.{name}" for name in names.values()]
    with pytest.raises(TalimError, match=r"quantizer\.vq\.layers\.0\.project_in"):
        codec_weights({"quantizer.vq.layers.0.project_in.weight": torch.ones(1)}, "file")
