"""Reads the settings that audiocraft stores with its weights, and says what transformers calls them."""

from __future__ import annotations

import math
import re
from typing import Any

from talim.errors import TalimError
from talim.strict_yaml import YAML_FAULTS, load_yaml, shown_value

REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")  # to another value; functions of OmegaConf are not called
MAX_REFERENCES = 10  # that follow each other
DESCRIPTION = "conditioners.description"
ACTIVATIONS = ("gelu", "relu")
# What transformers' classes always do: path -> (the value that means it, audiocraft's default where none is stored).
LM_ALWAYS: dict[str, tuple[Any, Any]] = {
    "lm_model": ("transformer_lm", "transformer_lm"),
    "transformer_lm.norm_first": (True, False),
    "transformer_lm.causal": (True, False),
    "transformer_lm.norm": ("layer_norm", "layer_norm"),
    "transformer_lm.positional_embedding": ("sin", "sin"),
    "transformer_lm.positional_scale": (1, 1),
    "transformer_lm.max_period": (10_000, 10_000),
    "transformer_lm.past_context": (None, None),
    "codebooks_pattern.delay.flatten_first": (0, 0),
    "codebooks_pattern.delay.empty_initial": (0, 0),
    "interleave_stereo_codebooks.per_timestep": (False, False),
    "fuser.sum": ([], []),
    "fuser.input_interpolate": ([], []),
    "fuser.cross_attention_pos_emb": (False, False),
    f"{DESCRIPTION}.model": ("t5", None),
    f"{DESCRIPTION}.t5.normalize_text": (False, False),
}
TEXT_ONLY: dict[str, tuple[Any, Any]] = {"fuser.prepend": ([], []), "fuser.cross": (["description"], [])}
MELODY = "self_wav"
MELODY_ALWAYS: dict[str, tuple[Any, Any]] = {
    "fuser.cross": ([], []),
    f"conditioners.{MELODY}.model": ("chroma_stem", None),
    f"conditioners.{MELODY}.chroma_stem.argmax": (True, False),
    f"conditioners.{MELODY}.chroma_stem.nfft": (None, None),
    f"conditioners.{MELODY}.chroma_stem.winlen": (None, None),
    f"conditioners.{MELODY}.chroma_stem.winhop": (None, None),
}
CODEC_ALWAYS: dict[str, tuple[Any, Any]] = {
    "compression_model": ("encodec", None),
    "encodec.autoencoder": ("seanet", None),
    "encodec.quantizer": ("rvq", None),
    "encodec.channels": (1, None),
    "encodec.renormalize": (False, False),
    "seanet.activation": ("ELU", "ELU"),
    "seanet.activation_params.alpha": (1, 1),
    "seanet.disable_norm_outer_blocks": (0, 0),
    "seanet.decoder.final_activation": (None, None),
    "seanet.encoder": ({}, {}),
}
CODEC_SIZES = {  # of EncodecConfig: our name -> theirs
    "hidden_size": "seanet.dimension",
    "num_filters": "seanet.n_filters",
    "num_residual_layers": "seanet.n_residual_layers",
    "upsampling_ratios": "seanet.ratios",
    "norm_type": "seanet.norm",
    "kernel_size": "seanet.kernel_size",
    "last_kernel_size": "seanet.last_kernel_size",
    "residual_kernel_size": "seanet.residual_kernel_size",
    "dilation_growth_rate": "seanet.dilation_base",
    "use_causal_conv": "seanet.causal",
    "pad_mode": "seanet.pad_mode",
    "compress": "seanet.compress",
    "num_lstm_layers": "seanet.lstm",
    "trim_right_ratio": "seanet.decoder.trim_right_ratio",
    "sampling_rate": "encodec.sample_rate",
    "codebook_size": "rvq.bins",
}
MISSING = object()


class Settings:
    """The values of an `xp.cfg`: YAML of OmegaConf. References are followed, functions are not called."""

    def __init__(self, text: object, where: str) -> None:
        """TalimError unless `text` is a YAML mapping; `where` is named in errors."""
        self.where = where
        try:
            self.values = load_yaml(text) if isinstance(text, str) else text
        except YAML_FAULTS as error:
            raise TalimError(
                f"{where}: its settings (xp.cfg) are no YAML ({' '.join(str(error).split()):.120})"
            ) from error
        if not isinstance(self.values, dict):
            raise TalimError(f"{where}: its settings (xp.cfg) are {shown_value(text)}; expected the YAML of an export")

    def get(self, path: str, default: Any = MISSING) -> Any:
        """The value at a dotted path, with references followed; TalimError if it is missing and has no default."""
        value = self._find(path)
        for _ in range(MAX_REFERENCES):
            if not isinstance(value, str) or "${" not in value:
                break
            match = REFERENCE.fullmatch(value)
            if match is None:
                raise TalimError(f"{self.where}: {path} is {value[:60]!r}, which talim does not evaluate")
            value = self._find(match[1])
        else:
            raise TalimError(f"{self.where}: {path} is a reference that leads in a circle")
        if value is not MISSING and value != "???":  # OmegaConf's mark of a value that must be given
            return value
        if default is MISSING:
            raise TalimError(f"{self.where}: its settings (xp.cfg) lack {path}; is it an export of audiocraft?")
        return default

    def _find(self, path: str) -> Any:
        value = self.values
        for part in path.split("."):
            if not isinstance(value, dict) or part not in value:
                return MISSING
            value = value[part]
        return value

    def number(self, path: str, kind: type = int) -> Any:
        """A value above 0 as int or float; TalimError for anything else."""
        value = self.get(path)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0 or kind(value) != value:
            raise TalimError(f"{self.where}: {path} is {shown_value(value)}; expected a number above 0")
        return kind(value)

    def check(self, always: dict[str, tuple[Any, Any]]) -> None:
        """TalimError for a setting that transformers' classes cannot have."""
        for path, (needed, default) in always.items():
            if (value := self.get(path, default)) != needed:
                raise TalimError(
                    f"{self.where}: {path} is {shown_value(value)}, and transformers' MusicGen can only do "
                    f"{shown_value(needed)}; talim cannot use this model"
                )


def decoder_settings(settings: Settings, text_width: int) -> dict[str, Any]:
    """Values of transformers' MusicgenDecoderConfig, with the window in seconds; TalimError where it cannot do it.

    `text_width` is the number of channels of the text encoder.
    """
    settings.check(LM_ALWAYS)
    if melody_settings(settings) is None:
        settings.check(TEXT_ONLY)
    stereo = bool(settings.get("interleave_stereo_codebooks.use", False))
    hidden, codebooks = settings.number("transformer_lm.dim"), settings.number("transformer_lm.n_q")
    pattern = settings.get("codebooks_pattern.modeling", None) or settings.get("transformer_lm.q_modeling", None)
    delays = settings.get("codebooks_pattern.delay.delays", None) or list(range(codebooks))
    needed = [index // (2 if stereo else 1) for index in range(codebooks)]
    if pattern != "delay" or delays != needed:
        raise TalimError(
            f"{settings.where}: its codebooks follow the pattern {pattern} {delays}; talim has delay {needed} only"
        )
    if text_width == hidden:
        raise TalimError(
            f"{settings.where}: text states and decoder both have {hidden} channels; transformers' MusicGen has no "
            "projection between them then, and this model has one"
        )
    activation = settings.get("transformer_lm.activation", "relu")
    if activation not in ACTIVATIONS:
        raise TalimError(f"{settings.where}: activation {shown_value(activation)}; expected {' or '.join(ACTIVATIONS)}")
    card = settings.number("transformer_lm.card")
    scale = float(settings.get("transformer_lm.hidden_scale", 4))
    return {
        "model_type": "musicgen_decoder",
        "vocab_size": card,
        "pad_token_id": card,
        "bos_token_id": card,
        "hidden_size": hidden,
        "num_hidden_layers": settings.number("transformer_lm.num_layers"),
        "num_attention_heads": settings.number("transformer_lm.num_heads"),
        "ffn_dim": int(scale * hidden),
        "activation_function": activation,
        "num_codebooks": codebooks,
        "audio_channels": 2 if stereo else 1,
        "talim_window_seconds": settings.number("dataset.segment_duration", float),
    }


def melody_settings(settings: Settings) -> dict[str, int] | None:
    """Settings of the chromagram that the decoder hears before the music, in samples; None for a text-only model.

    TalimError for one that transformers cannot compute.
    """
    prepended = settings.get("fuser.prepend", [])
    if not isinstance(prepended, list) or sorted(map(str, prepended)) != ["description", MELODY]:
        return None
    settings.check(MELODY_ALWAYS)
    chroma = f"conditioners.{MELODY}.chroma_stem"
    frame = 2 ** settings.number(f"{chroma}.radix2_exp")
    return {
        "sampling_rate": settings.number(f"{chroma}.sample_rate"),
        "n_fft": frame,
        "hop_length": frame // 4,
        "num_chroma": settings.number(f"{chroma}.n_chroma"),
    }


def codec_settings(settings: Settings) -> dict[str, Any]:
    """Values of transformers' EncodecConfig; TalimError where it cannot do what the settings ask for."""
    settings.check(CODEC_ALWAYS)
    values = {name: settings.get(path) for name, path in CODEC_SIZES.items()}
    values |= {"model_type": "encodec", "audio_channels": 1, "codebook_dim": values["hidden_size"]}
    values["use_conv_shortcut"] = not settings.get("seanet.true_skip")
    rate_hz, hop = settings.number("encodec.sample_rate"), math.prod(values["upsampling_ratios"])
    if rate_hz % hop:
        raise TalimError(f"{settings.where}: {rate_hz} Hz are no whole number of frames of {hop} samples")
    # transformers knows the number of codebooks by the bandwidth in kbit/s
    bits_per_second = settings.number("rvq.n_q") * math.ceil(math.log2(values["codebook_size"])) * (rate_hz // hop)
    bandwidth = bits_per_second / 1000
    exact = bandwidth if 1000 * bandwidth >= bits_per_second else math.nextafter(bandwidth, math.inf)
    return values | {"target_bandwidths": [exact]}


def text_encoder_name(settings: Settings) -> str:
    """The repository of the T5 that the model was trained with, such as "t5-base"."""
    name = settings.get(f"{DESCRIPTION}.t5.name")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII) or ".." in name:
        raise TalimError(
            f"{settings.where}: {DESCRIPTION}.t5.name is {shown_value(name)}; expected a name such as t5-base"
        )
    return name
