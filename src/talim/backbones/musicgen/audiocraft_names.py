"""Maps the weight names of audiocraft's MusicGen and EnCodec to those of the transformers classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from talim.errors import TalimError

if TYPE_CHECKING:
    from torch import Tensor

LAYER, AUDIOCRAFT_LAYER = r"decoder.model.decoder.layers.\1", r"transformer\.layers\.(\d+)"
ATTENTIONS = {"self_attn": "self_attn", "cross_attention": "encoder_attn"}
LAYER_MODULES = {
    r"self_attn\.(?:mha\.)?out_proj": "self_attn.out_proj",
    r"cross_attention\.(?:mha\.)?out_proj": "encoder_attn.out_proj",
    "linear1": "fc1",
    "linear2": "fc2",
    "norm1": "self_attn_layer_norm",
    "norm_cross": "encoder_attn_layer_norm",
    "norm2": "final_layer_norm",
}
LM_NAMES = {
    r"emb\.(\d+)\.weight": r"decoder.model.decoder.embed_tokens.\1.weight",
    r"out_norm\.(weight|bias)": r"decoder.model.decoder.layer_norm.\1",
    r"linears\.(\d+)\.weight": r"decoder.lm_heads.\1.weight",
    r"condition_provider\.conditioners\.description\.output_proj\.(weight|bias)": r"enc_to_dec_proj.\1",
    r"condition_provider\.conditioners\.self_wav\.output_proj\.(weight|bias)": r"audio_enc_to_dec_proj.\1",
    r"condition_provider\.conditioners\.description\.t5\.(.+)": r"text_encoder.\1",  # where it was trained, too
    **{rf"{AUDIOCRAFT_LAYER}\.{name}\.(weight|bias)": rf"{LAYER}.{new}.\2" for name, new in LAYER_MODULES.items()},
}
# the three projections of an attention are rows of one matrix, as in torch.nn.MultiheadAttention
FUSED = re.compile(rf"{AUDIOCRAFT_LAYER}\.(self_attn|cross_attention)\.(?:mha\.)?in_proj_weight")
FUSED_ORDER = ("q_proj", "k_proj", "v_proj")
# of the chromagram, which is computed from its settings
COMPUTED = re.compile(r"condition_provider\.conditioners\.self_wav\.chroma\.(spec\.window|fbanks)")
CODEC_NAMES = {
    r"(encoder|decoder)\.model\.(\d+)\.(?:conv\.conv|convtr\.convtr)\.(\w+)": r"\1.layers.\2.conv.\3",
    r"(encoder|decoder)\.model\.(\d+)\.(?:conv|convtr)\.norm\.(\w+)": r"\1.layers.\2.norm.\3",
    r"(encoder|decoder)\.model\.(\d+)\.(block\.\d+|shortcut)\.conv\.conv\.(\w+)": r"\1.layers.\2.\3.conv.\4",
    r"(encoder|decoder)\.model\.(\d+)\.(block\.\d+|shortcut)\.conv\.norm\.(\w+)": r"\1.layers.\2.\3.norm.\4",
    r"(encoder|decoder)\.model\.(\d+)\.lstm\.(\w+)": r"\1.layers.\2.lstm.\3",
    r"quantizer\.vq\.layers\.(\d+)\._codebook\.(\w+)": r"quantizer.layers.\1.codebook.\2",
}


def language_model_weights(weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Weights of audiocraft's language model under the names of transformers' MusicGen.

    TalimError for a weight that has no place there, such as a bias of an attention.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if COMPUTED.fullmatch(name):
            continue
        if match := FUSED.fullmatch(name):
            path = f"{match.expand(LAYER)}.{ATTENTIONS[match[2]]}"
            parts = tensor.chunk(len(FUSED_ORDER))
            renamed |= {f"{path}.{part}.weight": rows for part, rows in zip(FUSED_ORDER, parts, strict=True)}
        else:
            renamed[_renamed(name, LM_NAMES, where)] = tensor
    return renamed


def codec_weights(weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Weights of audiocraft's EnCodec under the names that transformers' EncodecModel had when it was released."""
    return {f"audio_encoder.{_renamed(name, CODEC_NAMES, where)}": tensor for name, tensor in weights.items()}


def _renamed(name: str, names: Mapping[str, str], where: str) -> str:
    for pattern, replacement in names.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise TalimError(
        f"{where} has the weight {name}, for which transformers' MusicGen has no place; it was trained with a part "
        "that only audiocraft has, and talim cannot use it"
    )
