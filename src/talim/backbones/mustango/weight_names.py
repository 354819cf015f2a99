"""Maps the released checkpoint's weight names to those of the diffusers and transformers classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from talim.errors import TalimError

# Alias -> name of the same tensor.
ALIASES = {
    "FME.translation_bias": "chord_embedding_layer.FME.translation_bias",
    "text_encoder.encoder.embed_tokens.weight": "text_encoder.shared.weight",
}
# Sinusoids that the released model stores but never reads.
UNUSED_KEYS = frozenset({"PE.pe", "beat_embedding_layer.PE.pe", "chord_embedding_layer.PE.pe"})

ATTENTION_PARTS = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def diffusion_weights(released: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The diffusion file's weights without aliases; TalimError if aliases differ."""
    weights = {name: tensor for name, tensor in released.items() if name not in UNUSED_KEYS}
    for alias, name in ALIASES.items():
        if alias not in weights:
            continue
        tensor = weights.pop(alias)
        if name in weights and not _equal(weights[name], tensor):
            raise TalimError(f"{where}: {alias} and {name} differ, but they are one weight")
        weights.setdefault(name, tensor)
    return weights


def vae_vocoder_weights(released: Mapping[str, Tensor], levels: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The VAE file's weights for diffusers' AutoencoderKL and for transformers' HiFi-GAN."""
    vae, vocoder = {}, {}
    for name, tensor in released.items():
        if name.startswith("vocoder."):
            vocoder[name.removeprefix("vocoder.").replace("ups.", "upsampler.", 1)] = tensor
        else:
            renamed = _vae_name(name, levels)
            # attention of the mid block: 1x1 convolutions in the file, linear layers in diffusers
            flat = ".mid_block.attentions.0.to_" in renamed and tensor.ndim == 4
            vae[renamed] = tensor[:, :, 0, 0] if flat else tensor
    return vae, vocoder


def _vae_name(name: str, levels: int) -> str:
    name = name.replace(".nin_shortcut.", ".conv_shortcut.").replace(".norm_out.", ".conv_norm_out.")
    name = re.sub(r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
    name = re.sub(
        r"\.mid\.attn_1\.(norm|q|k|v|proj_out)\.", lambda m: f".mid_block.attentions.0.{ATTENTION_PARTS[m[1]]}.", name
    )
    name = re.sub(r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets.", name)
    name = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", name)
    # level 0 is the finest in the released file; diffusers counts from the coarsest
    name = re.sub(r"\.up\.(\d+)\.block\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.resnets.", name)
    return re.sub(r"\.up\.(\d+)\.upsample\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.upsamplers.0.", name)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], where: str, given: Iterable[str] = ()) -> None:
    """Check and assign weights to a module on the meta device; `given` names need no weight."""
    check_weights(module, weights, where, given)
    module.load_state_dict(dict(weights), strict=False, assign=True)


def check_weights(module: nn.Module, weights: Mapping[str, Tensor], where: str, given: Iterable[str] = ()) -> None:
    """TalimError for weights that are missing, unknown, or of another shape than the module's."""
    skipped = {*given, *ALIASES}
    expected = {name: tensor for name, tensor in module.state_dict().items() if name not in skipped}
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected]
    if missing:
        raise TalimError(f"{where} lacks {_listed(missing)}; is the download complete?")
    if extra:
        raise TalimError(f"{where} has {_listed(extra)} that this model does not know; is it Mustango's?")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise TalimError(
                f"{where}: {name} has the shape {list(weights[name].shape)}, expected {list(tensor.shape)}; "
                "the weights do not belong to the configuration beside them"
            )


def _listed(names: list[str]) -> str:
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} weight{'s' * (len(names) > 1)} ({', '.join(names[:3])}{more})"


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return a.is_meta or b.is_meta or a.data_ptr() == b.data_ptr() or bool((a == b).all())
