"""The released checkpoint: a folder of configurations and weight files, read without unpickling anything.

    config.json or configs/main_config.json      configs/music_diffusion_model_config.json
    configs/vae_config.json                      configs/stft_config.json
    ldm/pytorch_model_ldm.bin                    vae/pytorch_model_vae.bin
    beats/microsoft-deberta-v3-large.pt          chords/flan-t5-large.bin   (only where music is predicted)
    tokenizer/                                   (optional; otherwise found by the text encoder's name)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from talim.backbones.mustango import keys
from talim.backbones.mustango.audio import MelConfig, Sound, vae_of, vocoder_of
from talim.backbones.mustango.conditioning import BEAT_CLASSES, CHORD_KINDS, INVERSIONS
from talim.backbones.mustango.model import MustangoModel, Widths
from talim.backbones.mustango.unet_config import UNetConfig
from talim.errors import TalimError
from talim.run import read_json

LDM, VAE, STFT = "ldm/pytorch_model_ldm.bin", "vae/pytorch_model_vae.bin", "stft/pytorch_model_stft.bin"
UNET_CONFIG = "configs/music_diffusion_model_config.json"
VAE_CONFIG, STFT_CONFIG = "configs/vae_config.json", "configs/stft_config.json"
MAIN_CONFIGS = ("configs/main_config.json", "config.json")
MEL_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Checkpoint:
    """A folder in the released layout."""

    folder: Path

    @property
    def main(self) -> dict[str, Any]:
        """Names the text encoder, among things that nobody reads."""
        for name in MAIN_CONFIGS:
            if (self.folder / name).is_file():
                return read_json(self.folder / name)
        raise TalimError(f"{self.folder}: neither {' nor '.join(MAIN_CONFIGS)}; expected a Mustango checkpoint")

    def config(self, name: str) -> dict[str, Any]:
        """One of the other configurations."""
        return read_json(self.folder / name)

    def unet_config(self) -> UNetConfig:
        """The U-Net's numbers."""
        return UNetConfig.of(self.config(self.main.get("unet_model_config_path") or UNET_CONFIG))

    def weights(self, name: str) -> dict[str, Tensor]:
        """A weight file's tensors; converted to safetensors the first time, and read from there afterwards."""
        source = self.folder / name
        converted = source.with_suffix(".safetensors")
        if not source.is_file() and not converted.is_file():
            raise TalimError(f"{self.folder} lacks {name}; is the download complete?")
        if converted.is_file() and (not source.is_file() or _stamp(source) == _stored_stamp(converted)):
            return _read_safetensors(converted)
        tensors = _read_pickled(source)
        if name in (LDM, VAE):
            _convert(tensors, converted, _stamp(source))
        return tensors


def is_mustango(folder: Path) -> bool:
    """Whether a folder looks like the released layout, whole or not."""
    return (folder / UNET_CONFIG).is_file() or (folder / "ldm").is_dir()


def read_model(checkpoint: Checkpoint) -> MustangoModel:
    """The diffusion side in float32; TalimError for any weight that is missing, unknown or misshapen."""
    weights = keys.diffusion_weights(checkpoint.weights(LDM), LDM)
    model = model_for(checkpoint.unet_config(), weights, LDM)
    keys.load(model, weights, LDM)
    encoder = model.text_encoder
    encoder.encoder.embed_tokens.weight = encoder.shared.weight
    return model.eval()


def model_for(unet: UNetConfig, weights: Mapping[str, Tensor], where: str) -> MustangoModel:
    """The model that such weights belong to, on the meta device; nothing but their shapes is looked at."""
    text = text_config(weights, where, "text_encoder.")
    widths = widths_of(weights, where)
    if not {widths.beat, widths.chord, text.d_model} == set(unet.context_width):
        raise TalimError(
            f"{where}: text, beats and chords are {text.d_model}, {widths.beat} and {widths.chord} wide, but "
            f"the U-Net attends to a width of {', '.join(map(str, sorted(set(unet.context_width))))}"
        )
    with torch.device("meta"):
        return MustangoModel(unet, text, widths)


def widths_of(weights: Mapping[str, Tensor], where: str) -> Widths:
    """The embeddings' widths from their weights' shapes."""
    beat, beat_in = _shape(weights, "beat_embedding_layer.beat_ffn.weight", 2, where)
    chord, chord_in = _shape(weights, "chord_embedding_layer.chord_ffn.weight", 2, where)
    _, root = _shape(weights, "chord_embedding_layer.FME.translation_bias", 2, where)
    return Widths(beat, beat_in - BEAT_CLASSES, chord, root, chord_in - CHORD_KINDS - INVERSIONS - root)


def text_config(weights: Mapping[str, Tensor], where: str, prefix: str, decoder: bool = False) -> Any:
    """A T5 configuration from the weights' shapes; epsilon and bucket range are the same in every T5."""
    from transformers import T5Config

    first = f"{prefix}encoder.block.0.layer."
    vocabulary, width = _shape(weights, f"{prefix}shared.weight", 2, where)
    buckets, heads = _shape(weights, f"{first}0.SelfAttention.relative_attention_bias.weight", 2, where)
    inner, _ = _shape(weights, f"{first}0.SelfAttention.q.weight", 2, where)
    gated = f"{first}1.DenseReluDense.wi_0.weight" in weights
    feed, _ = _shape(weights, f"{first}1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight", 2, where)
    return T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=feed,
        num_layers=_layers(weights, f"{prefix}encoder.block."),
        num_decoder_layers=_layers(weights, f"{prefix}decoder.block.") if decoder else None,
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu" if gated else "relu",
        is_encoder_decoder=decoder,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )


def read_sound(checkpoint: Checkpoint) -> Sound:
    """VAE, vocoder and spectrogram in float32."""
    config, mel = checkpoint.config(VAE_CONFIG), MelConfig.of(checkpoint.config(STFT_CONFIG))
    sound = sound_for(config, checkpoint.weights(VAE), mel, VAE)
    if (checkpoint.folder / STFT).is_file():
        _check_mel(sound, checkpoint.weights(STFT))
    return sound.eval()


def sound_for(config: Mapping[str, Any], weights: Mapping[str, Tensor], mel: MelConfig, where: str) -> Sound:
    """VAE and vocoder with these weights, under the released names."""
    channels = _shape(weights, "vocoder.conv_pre.weight", 3, where)[0]
    with torch.device("meta"):
        vae, vocoder = vae_of(config), vocoder_of(channels, mel.n_mel_channels, mel.sampling_rate)
    for_vae, for_vocoder = keys.sound_weights(weights, len(config["ddconfig"]["ch_mult"]))
    keys.load(vae, for_vae, where)
    keys.load(vocoder, for_vocoder, where, given=("mean", "scale"))
    vocoder.mean, vocoder.scale = torch.zeros(mel.n_mel_channels), torch.ones(mel.n_mel_channels)
    return Sound(vae, vocoder, mel)


def _check_mel(sound: Sound, stored: Mapping[str, Tensor]) -> None:
    """The file of the spectrogram holds nothing learned; its mel basis must be the one computed here."""
    known = {"mel_basis", "stft_fn.forward_basis", "stft_fn.inverse_basis"}
    if unknown := sorted(set(stored) - known):
        raise TalimError(f"{STFT} has weights that this model does not know: {', '.join(unknown[:3])}")
    basis = stored.get("mel_basis")
    ours = sound.mel.basis
    if basis is None or basis.shape != ours.shape or (basis.float() - ours).abs().max() > MEL_TOLERANCE:
        raise TalimError(f"{STFT}: its mel basis is not the one that {STFT_CONFIG} describes")


def _shape(weights: Mapping[str, Tensor], name: str, dimensions: int, where: str) -> tuple[int, ...]:
    if name not in weights:
        raise TalimError(f"{where} lacks 1 weight ({name}); is the download complete?")
    if weights[name].ndim != dimensions:
        raise TalimError(f"{where}: {name} has the shape {list(weights[name].shape)}, expected {dimensions} axes")
    return tuple(weights[name].shape)


def _layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    numbers = {name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)}
    return len(numbers)


def _read_pickled(path: Path) -> dict[str, Tensor]:
    """A state dict; anything in the file but tensors is refused, unread."""
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = " ".join(str(error).split())[:120]
        raise TalimError(
            f"{path} cannot be read as plain weights ({cause}); a file with code in it is refused, a broken "
            "one needs another download"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise TalimError(f"{path} holds no plain weights; expected tensors by name")
    return dict(found)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:
        raise TalimError(f"{path} cannot be read ({error}); delete it, it is then made again") from error


def _stamp(source: Path) -> str:
    status = source.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _stored_stamp(converted: Path) -> str:
    from safetensors import safe_open

    try:
        with safe_open(converted, "pt") as file:
            return (file.metadata() or {}).get("converted_from", "")
    except Exception:  # torn or of another format: converted again
        return ""


def _convert(tensors: Mapping[str, Tensor], path: Path, stamp: str) -> None:
    """Write what is read once more, without the tables that nobody reads; a folder we may not write stays."""
    from safetensors.torch import save_file

    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name not in keys.NEVER_READ:
            # aliases share memory, which safetensors refuses; they are dropped, as they are on reading
            alias = name in keys.ALIASES and keys.ALIASES[name] in tensors
            if not alias:
                kept[name] = tensor.contiguous()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(kept, partial, metadata={"converted_from": stamp})
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
