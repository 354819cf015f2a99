"""Loads base models and checks their files."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from talim.atomic_io import parse_json
from talim.backbones import registry, resolve
from talim.backbones.devices import pick_device
from talim.backbones.precision import choose_precision
from talim.errors import TalimError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from talim.backbones.protocol import Backbone
    from talim.backbones.resolve import ModelSource

NANO_CODEC = "talim-nano-codec"
RECOMPUTED_BUFFERS = ("embed_positions.weights",)  # stored in released files, recomputed by transformers
FP32_PARTS = ("audio_encoder", "text_encoder")


def load(name_or_folder: str | Path = registry.NANO, precision: str = "auto", device: str = "auto") -> Backbone:
    """Load a base model by short name, Hub id or local folder; its weights are frozen.

    TalimError if there is no such model, it is not supported (melody), or its files do not fit.
    """
    source = resolve.resolve_source(str(name_or_folder))
    backbone = _read(source, precision, device)
    if source.local:  # PEFT stores this name with an adapter; the bare one may be another model's on the Hub
        vars(backbone.model)["name_or_path"] = f"./{source.name}"
    backbone.is_local = source.local and source.entry is None
    return backbone


def _read(source: ModelSource, precision: str, device: str) -> Backbone:
    from talim.backbones.musicgen.backbone import MusicGen

    torch_device = torch.device(pick_device(device))
    dtype, reason = choose_precision(precision, torch_device)
    resolve.check_reachable(source)
    facts = {"name": source.name, "licence": resolve.source_licence(source), "precision_reason": reason}
    if resolve.source_family(source) == "mustango":
        with resolve.friendly_load_errors(source), silence_transformers():
            return _mustango(source, torch_device, dtype, facts)
    with resolve.friendly_load_errors(source), silence_transformers():
        nano = register_nano(source)
        config = read_config(source)
        _check_codec(source, config)
        model = _read_weights(source, config, dtype)
        tokenizer = _read_tokenizer(source, config)
    is_miniature = nano or config.audio_encoder.model_type == NANO_CODEC
    return MusicGen(model.to(torch_device), tokenizer, miniature=is_miniature, **facts)


def _mustango(source: ModelSource, device: torch.device, dtype: torch.dtype, facts: dict[str, str]) -> Backbone:
    if source.local and resolve.is_nano_mustango(source):
        from talim.backbones.nano import mustango

        return mustango.load(Path(source.path_or_id), device, dtype, **facts)
    from talim.backbones.mustango.load import load_mustango

    return load_mustango(source.path_or_id, source.local, device, dtype, **facts)


def register_nano(source: ModelSource) -> bool:
    """Register the nano codec with transformers if the checkpoint uses it; whether it does."""
    if not source.local:
        return False
    text = (Path(source.path_or_id) / "config.json").read_text(encoding="utf-8")
    if parse_json(text).get("audio_encoder", {}).get("model_type") != NANO_CODEC:
        return False
    from talim.backbones.nano import musicgen

    musicgen.register_codec()
    return True


def read_config(source: ModelSource) -> Any:
    """Transformers configuration of a MusicGen; TalimError for another model type."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.path_or_id, trust_remote_code=False)
    if config.model_type == "musicgen_melody":
        raise TalimError(f"base {source.name!r} is not supported: {registry.MELODY_UNSUPPORTED}")
    if config.model_type != "musicgen":
        raise TalimError(f"base {source.name!r} is a {config.model_type} model; expected MusicGen")
    return config


def _read_weights(source: ModelSource, config: Any, dtype: torch.dtype) -> Any:
    from transformers import MusicgenForConditionalGeneration

    class Mixed(MusicgenForConditionalGeneration):
        # a bf16 codec is audibly worse, and text states must not depend on the decoder's dtype
        _keep_in_fp32_modules_strict = list(FP32_PARTS)  # noqa: RUF012  (as transformers declares it)

        def post_init(self) -> None:
            super().post_init()
            # T5 ignores unexpected keys that contain "decoder", which here is most of the model
            self._keys_to_ignore_on_load_unexpected = set()

    loaded: Any = Mixed.from_pretrained(source.path_or_id, config=config, dtype=dtype, output_loading_info=True)
    model, report = loaded
    unexpected = [key for key in report["unexpected_keys"] if not key.endswith(RECOMPUTED_BUFFERS)]
    for problem, keys in (("lacks", report["missing_keys"]), ("has unknown", unexpected)):
        if keys:
            examples = ", ".join(sorted(keys)[:3])
            raise TalimError(
                f"base {source.name!r} {problem} {len(keys)} weights ({examples} ...); is the download complete?"
            )
    for part in FP32_PARTS:
        getattr(model, part).float()  # buffers too
    return model


def _read_tokenizer(source: ModelSource, config: Any) -> Any:
    if config.audio_encoder.model_type == NANO_CODEC:
        from talim.backbones.nano.musicgen import ByteTokenizer

        return ByteTokenizer()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source.path_or_id, trust_remote_code=False)


def _check_codec(source: ModelSource, config: Any) -> None:
    """TalimError if the codec has fewer codebooks than the decoder expects per channel."""
    per_channel, codec = config.decoder.num_codebooks // config.decoder.audio_channels, config.audio_encoder
    available = getattr(codec, "num_quantizers", per_channel)
    if available < per_channel:
        raise TalimError(
            f"base {source.name!r} expects {per_channel} codebooks per channel, but its codec has {available}"
        )


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Silence transformers' warnings and progress bars while loading; talim checks the files itself."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
