"""Builds the modules of a checkpoint in the released layout and loads their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from talim.backbones import tokenizer_files
from talim.backbones.mustango import beat_chord_predictors, weight_names
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.beat_chord_predictors import BeatChordPredictors
from talim.backbones.mustango.checkpoint_files import (
    BEATS,
    CHORDS,
    LDM,
    STFT,
    STFT_CONFIG,
    VAE,
    VAE_CONFIG,
    CheckpointFiles,
)
from talim.backbones.mustango.conditioning import BEAT_CLASSES, CHORD_KINDS, INVERSIONS
from talim.backbones.mustango.model import ModelDims, MustangoModel
from talim.backbones.mustango.unet_config import UNetConfig
from talim.backbones.mustango.vae_vocoder import MelConfig, MelVAE, build_vae, build_vocoder
from talim.errors import TalimError

MEL_TOLERANCE = 1e-5
TEXT_TOKENIZER = "tokenizer"  # folder in a checkpoint; the released one has none, and its configuration names another
PREDICTOR_TOKENIZERS = {"beats-tokenizer": "microsoft/deberta-v3-large", "chords-tokenizer": "google/flan-t5-large"}


def load_mustango(
    folder: Path, complete: Callable[[], Path], device: torch.device, dtype: torch.dtype, **facts: Any
) -> Mustango:
    """The model of a folder; the U-Net in `dtype`, everything else in float32.

    `complete` gives the folder with the networks for beats and chords, and is called once they are needed. `facts` are
    Mustango's keywords `name`, `licence` and `precision_reason`.
    """
    files = CheckpointFiles(folder)
    tokenizer = read_text_tokenizer(folder)
    model, mel_vae = read_model(files), read_mel_vae(files)
    advice = tokenizer_files.hub_advice(text_encoder_name(files), folder / TEXT_TOKENIZER)
    tokenizer_files.check_fit(tokenizer, model.text_encoder.config, advice)
    model.unet.to(dtype)

    def predictors() -> BeatChordPredictors:
        return read_predictors(folder, complete, device)

    return Mustango(model.to(device), mel_vae.to(device), tokenizer, predictors=predictors, **facts)


def read_model(checkpoint: CheckpointFiles) -> MustangoModel:
    """The diffusion model in float32; TalimError for weights that are missing, unknown or of another shape."""
    weights = weight_names.diffusion_weights(checkpoint.weights(LDM), LDM)
    model = build_model(UNetConfig.of(checkpoint.unet_config()), weights, LDM)
    weight_names.load_weights(model, weights, LDM)
    encoder = model.text_encoder
    encoder.encoder.embed_tokens.weight = encoder.shared.weight
    return model.float().eval()


def build_model(unet: UNetConfig, weights: Mapping[str, Tensor], where: str) -> MustangoModel:
    """The model for weights of these shapes, on the meta device."""
    text = text_config(weights, where, "text_encoder.")
    dims = infer_dims(weights, where)
    if not {dims.beat, dims.chord, text.d_model} == set(unet.context_width):
        raise TalimError(
            f"{where}: text, beats and chords are {text.d_model}, {dims.beat} and {dims.chord} wide, but "
            f"the U-Net attends to a width of {', '.join(map(str, sorted(set(unet.context_width))))}"
        )
    with torch.device("meta"):
        return MustangoModel(unet, text, dims)


def infer_dims(weights: Mapping[str, Tensor], where: str) -> ModelDims:
    """Widths of the embeddings, from the shapes of their weights."""
    beat, beat_in = _shape(weights, "beat_embedding_layer.beat_ffn.weight", 2, where)
    chord, chord_in = _shape(weights, "chord_embedding_layer.chord_ffn.weight", 2, where)
    _, root = _shape(weights, "chord_embedding_layer.FME.translation_bias", 2, where)
    return ModelDims(beat, beat_in - BEAT_CLASSES, chord, root, chord_in - CHORD_KINDS - INVERSIONS - root)


def text_config(weights: Mapping[str, Tensor], where: str, prefix: str, decoder: bool = False) -> Any:
    """A T5 configuration from the shapes of the weights."""
    from transformers import T5Config

    t5: Any = T5Config  # accepts more than its signature
    first = f"{prefix}encoder.block.0.layer."
    vocabulary, width = _shape(weights, f"{prefix}shared.weight", 2, where)
    buckets, heads = _shape(weights, f"{first}0.SelfAttention.relative_attention_bias.weight", 2, where)
    inner, _ = _shape(weights, f"{first}0.SelfAttention.q.weight", 2, where)
    gated = f"{first}1.DenseReluDense.wi_0.weight" in weights
    feed, _ = _shape(weights, f"{first}1.DenseReluDense.{'wi_0' if gated else 'wi'}.weight", 2, where)
    return t5(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=inner // heads,
        d_ff=feed,
        num_layers=_count_layers(weights, f"{prefix}encoder.block."),
        num_decoder_layers=_count_layers(weights, f"{prefix}decoder.block.") if decoder else None,
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu" if gated else "relu",
        is_encoder_decoder=decoder,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )


def read_text_tokenizer(folder: Path) -> Any:
    """The text encoder's tokenizer, in a checkpoint's folder or of the repository that its configuration names."""
    return _read_tokenizer(folder, TEXT_TOKENIZER, text_encoder_name(CheckpointFiles(folder)))


def text_encoder_name(checkpoint: CheckpointFiles) -> str:
    """The repository of the text encoder that the main configuration names."""
    name = checkpoint.main.get("text_encoder_name")
    if not isinstance(name, str) or not name:
        raise TalimError(f"{checkpoint.folder}: its configuration names no text encoder (text_encoder_name)")
    return name


def read_predictor_tokenizers(folder: Path) -> tuple[Any, Any]:
    """The tokenizers of the networks for beats and for chords, which need no weights to be read."""
    beats, chords = (_read_tokenizer(folder, name, hub_id) for name, hub_id in PREDICTOR_TOKENIZERS.items())
    return beats, chords


def _read_tokenizer(folder: Path, part: str, hub_id: str) -> Any:
    """A tokenizer from a part of a checkpoint's folder if that is there, else from its repository on the Hub."""
    here = folder / part
    kind = "deberta-v2" if "deberta" in hub_id else "t5"
    in_cache = folder.parent.name == "snapshots"  # of a base on the Hub, where nothing is put by hand
    advice = tokenizer_files.hub_advice(hub_id, None if in_cache else here)
    return tokenizer_files.read_tokenizer(here if here.is_dir() else hub_id, advice, kind)


def read_predictors(folder: Path, complete: Callable[[], Path], device: torch.device) -> BeatChordPredictors:
    """The networks that predict beats and chords from a prompt, with their tokenizers, which are read first.

    `complete` gives the folder with the networks' weights.
    """
    from transformers import T5ForConditionalGeneration

    beat_tokenizer, chord_tokenizer = read_predictor_tokenizers(folder)
    checkpoint = CheckpointFiles(complete())
    beats = beat_chord_predictors.beat_weights(checkpoint.weights(BEATS))
    with torch.device("meta"):
        beat_net = beat_chord_predictors.BeatNet(beat_chord_predictors.beat_config(beats, BEATS))
    weight_names.load_weights(beat_net, beats, BEATS)
    positions = torch.arange(beat_chord_predictors.MAX_PROMPT_TOKENS)[None]  # not stored
    beat_net.deberta.embeddings.position_ids = nn.Buffer(positions, persistent=False)
    chords = beat_chord_predictors.chord_weights(checkpoint.weights(CHORDS))
    with torch.device("meta"):
        chord_net = T5ForConditionalGeneration(text_config(chords, CHORDS, "", decoder=True))
    weight_names.load_weights(chord_net, chords, CHORDS, given=beat_chord_predictors.TIED_WEIGHT_KEYS)
    for stack in (chord_net.encoder, chord_net.decoder):
        stack.embed_tokens.weight = chord_net.shared.weight
    pairs = zip(
        PREDICTOR_TOKENIZERS.items(), ((beat_tokenizer, beat_net.deberta), (chord_tokenizer, chord_net)), strict=True
    )
    for (part, hub_id), (tokenizer, network) in pairs:
        tokenizer_files.check_fit(tokenizer, network.config, tokenizer_files.hub_advice(hub_id, folder / part))
    return BeatChordPredictors(
        beat_net.to(device),
        beat_tokenizer,
        chord_net.to(device),  # pyright: ignore[reportArgumentType]
        chord_tokenizer,
    )


def read_mel_vae(checkpoint: CheckpointFiles) -> MelVAE:
    """VAE, vocoder and spectrogram in float32."""
    config, mel = checkpoint.config(VAE_CONFIG), MelConfig.of(checkpoint.config(STFT_CONFIG))
    mel_vae = build_mel_vae(config, checkpoint.weights(VAE), mel, VAE)
    if (checkpoint.folder / STFT).is_file():
        _check_mel(mel_vae, checkpoint.weights(STFT))
    return mel_vae.float().eval()


def build_mel_vae(config: Mapping[str, Any], weights: Mapping[str, Tensor], mel: MelConfig, where: str) -> MelVAE:
    """VAE and vocoder with these weights, given under the released names."""
    channels = _shape(weights, "vocoder.conv_pre.weight", 3, where)[0]
    with torch.device("meta"):
        vae, vocoder = build_vae(config), build_vocoder(channels, mel.n_mel_channels, mel.sampling_rate)
    for_vae, for_vocoder = weight_names.vae_vocoder_weights(weights, len(config["ddconfig"]["ch_mult"]))
    weight_names.load_weights(vae, for_vae, where)
    weight_names.load_weights(vocoder, for_vocoder, where, given=("mean", "scale"))
    vocoder.mean, vocoder.scale = torch.zeros(mel.n_mel_channels), torch.ones(mel.n_mel_channels)
    return MelVAE(vae, vocoder, mel)


def _check_mel(mel_vae: MelVAE, stored: Mapping[str, Tensor]) -> None:
    """TalimError if the stored mel basis (nothing learned) differs from the one computed here."""
    expected = {"mel_basis", "stft_fn.forward_basis", "stft_fn.inverse_basis"}
    if unknown := sorted(set(stored) - expected):
        raise TalimError(f"{STFT} has weights that this model does not know: {', '.join(unknown[:3])}")
    basis, computed = stored.get("mel_basis"), mel_vae.mel.basis
    if basis is None or basis.shape != computed.shape or (basis.float() - computed).abs().max() > MEL_TOLERANCE:
        raise TalimError(f"{STFT}: its mel basis is not the one that {STFT_CONFIG} describes")


def _shape(weights: Mapping[str, Tensor], name: str, dimensions: int, where: str) -> tuple[int, ...]:
    if name not in weights:
        raise TalimError(f"{where} lacks 1 weight ({name}); is the download complete?")
    if weights[name].ndim != dimensions:
        raise TalimError(f"{where}: {name} has the shape {list(weights[name].shape)}, expected {dimensions} axes")
    return tuple(weights[name].shape)


def _count_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})
