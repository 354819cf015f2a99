"""The modules that a checkpoint in the released layout belongs to, with its weights in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from talim.backbones.mustango import beat_chord_predictors, checkpoint_files, weight_names
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
from talim.backbones.resolve import offline_error
from talim.errors import TalimError


def load_mustango(
    place: str, local: bool, device: torch.device, dtype: torch.dtype, *, name: str, licence: str, reason: str
) -> Mustango:
    """The model at `place`; the U-Net is held in `dtype`, everything else is small or precise: float32."""
    stored = checkpoint_files.CheckpointFiles(checkpoint_files.fetch_checkpoint(place, local))
    tokenizer = read_tokenizer(stored)
    model, sound = read_model(stored), read_mel_vae(stored)
    model.unet.to(dtype)

    def predictors() -> BeatChordPredictors:
        return read_predictors(
            checkpoint_files.CheckpointFiles(
                checkpoint_files.fetch_checkpoint(place, local, predictors=True)
            ),
            device,
        )

    return Mustango(
        model.to(device),
        sound.to(device),
        tokenizer,
        name=name,
        licence=licence,
        predictors=predictors,
        precision_reason=reason,
    )


MEL_TOLERANCE = 1e-5


def read_model(checkpoint: CheckpointFiles) -> MustangoModel:
    """The diffusion side in float32; TalimError for any weight that is missing, unknown or misshapen."""
    weights = weight_names.diffusion_weights(checkpoint.weights(LDM), LDM)
    model = build_model(UNetConfig.of(checkpoint.unet_config()), weights, LDM)
    weight_names.load_weights(model, weights, LDM)
    encoder = model.text_encoder
    encoder.encoder.embed_tokens.weight = encoder.shared.weight
    return model.float().eval()


def build_model(unet: UNetConfig, weights: Mapping[str, Tensor], where: str) -> MustangoModel:
    """The model that such weights belong to, on the meta device; nothing but their shapes is looked at."""
    text = text_config(weights, where, "text_encoder.")
    widths = infer_dims(weights, where)
    if not {widths.beat, widths.chord, text.d_model} == set(unet.context_width):
        raise TalimError(
            f"{where}: text, beats and chords are {text.d_model}, {widths.beat} and {widths.chord} wide, but "
            f"the U-Net attends to a width of {', '.join(map(str, sorted(set(unet.context_width))))}"
        )
    with torch.device("meta"):
        return MustangoModel(unet, text, widths)


def infer_dims(weights: Mapping[str, Tensor], where: str) -> ModelDims:
    """The embeddings' widths from their weights' shapes."""
    beat, beat_in = _shape(weights, "beat_embedding_layer.beat_ffn.weight", 2, where)
    chord, chord_in = _shape(weights, "chord_embedding_layer.chord_ffn.weight", 2, where)
    _, root = _shape(weights, "chord_embedding_layer.FME.translation_bias", 2, where)
    return ModelDims(beat, beat_in - BEAT_CLASSES, chord, root, chord_in - CHORD_KINDS - INVERSIONS - root)


def text_config(weights: Mapping[str, Tensor], where: str, prefix: str, decoder: bool = False) -> Any:
    """A T5 configuration from the weights' shapes; epsilon and bucket range are the same in every T5."""
    from transformers import T5Config

    t5: Any = T5Config  # takes more than its signature says
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


def read_tokenizer(checkpoint: CheckpointFiles, folder: str = "tokenizer", name: str = "") -> Any:
    """From the checkpoint's own folder where there is one, else the one that the text encoder is named after."""
    from transformers import AutoTokenizer

    own, name = checkpoint.folder / folder, name or str(checkpoint.main.get("text_encoder_name", ""))
    try:
        if not own.is_dir() and (host := offline_error(name)):
            raise ConnectionError(f"{host} cannot be reached")  # at once, not after a minute of retries
        return AutoTokenizer.from_pretrained(str(own) if own.is_dir() else name)
    except Exception as error:
        raise TalimError(
            f"the tokenizer {name!r} cannot be had ({' '.join(str(error).split())[:80]}); fetch it once with: "
            f"hf download {name} --include 'token*' '*.json' '*.model' --local-dir {own}"
        ) from error


def read_predictors(checkpoint: CheckpointFiles, device: torch.device) -> BeatChordPredictors:
    """The networks that guess beats and chords from a text, with their tokenizers."""
    from transformers import T5ForConditionalGeneration

    beats = beat_chord_predictors.beat_weights(checkpoint.weights(BEATS))
    with torch.device("meta"):
        beat_net = beat_chord_predictors.BeatNet(beat_chord_predictors.beat_config(beats, BEATS))
    weight_names.load_weights(beat_net, beats, BEATS)
    positions = torch.arange(beat_chord_predictors.MAX_PROMPT_TOKENS)[
        None
    ]  # this table is counted, not stored
    beat_net.deberta.embeddings.position_ids = nn.Buffer(positions, persistent=False)
    chords = beat_chord_predictors.chord_weights(checkpoint.weights(CHORDS))
    with torch.device("meta"):
        chord_net = T5ForConditionalGeneration(text_config(chords, CHORDS, "", decoder=True))
    weight_names.load_weights(chord_net, chords, CHORDS, given=beat_chord_predictors.TIED_WEIGHT_KEYS)
    for stack in (chord_net.encoder, chord_net.decoder):
        stack.embed_tokens.weight = chord_net.shared.weight
    return BeatChordPredictors(
        beat_net.to(device),
        read_tokenizer(checkpoint, "beats-tokenizer", "microsoft/deberta-v3-large"),
        chord_net.to(device),  # pyright: ignore[reportArgumentType]
        read_tokenizer(checkpoint, "chords-tokenizer", "google/flan-t5-large"),
    )


def read_mel_vae(checkpoint: CheckpointFiles) -> MelVAE:
    """VAE, vocoder and spectrogram in float32."""
    config, mel = checkpoint.config(VAE_CONFIG), MelConfig.of(checkpoint.config(STFT_CONFIG))
    sound = build_mel_vae(config, checkpoint.weights(VAE), mel, VAE)
    if (checkpoint.folder / STFT).is_file():
        _check_mel(sound, checkpoint.weights(STFT))
    return sound.float().eval()


def build_mel_vae(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], mel: MelConfig, where: str
) -> MelVAE:
    """VAE and vocoder with these weights, under the released names."""
    channels = _shape(weights, "vocoder.conv_pre.weight", 3, where)[0]
    with torch.device("meta"):
        vae, vocoder = build_vae(config), build_vocoder(channels, mel.n_mel_channels, mel.sampling_rate)
    for_vae, for_vocoder = weight_names.vae_vocoder_weights(weights, len(config["ddconfig"]["ch_mult"]))
    weight_names.load_weights(vae, for_vae, where)
    weight_names.load_weights(vocoder, for_vocoder, where, given=("mean", "scale"))
    vocoder.mean, vocoder.scale = torch.zeros(mel.n_mel_channels), torch.ones(mel.n_mel_channels)
    return MelVAE(vae, vocoder, mel)


def _check_mel(sound: MelVAE, stored: Mapping[str, Tensor]) -> None:
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
        raise TalimError(
            f"{where}: {name} has the shape {list(weights[name].shape)}, expected {dimensions} axes"
        )
    return tuple(weights[name].shape)


def _count_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    numbers = {name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)}
    return len(numbers)
