"""Loads base models and checks their files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from talim import progress
from talim.atomic_io import parse_json
from talim.backbones import hub_download, registry, resolve
from talim.backbones.devices import pick_device
from talim.backbones.musicgen.audiocraft_checkpoint import AudiocraftCheckpoint, is_audiocraft
from talim.backbones.precision import INT8, choose_precision
from talim.backbones.readable_text import TextReader
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from talim.backbones.protocol import Backbone
    from talim.backbones.resolve import ModelSource

NANO_CODEC = "talim-nano-codec"
RECOMPUTED_BUFFERS = ("embed_positions.weights",)  # stored in released files, recomputed by transformers
FP32_PARTS = ("audio_encoder", "text_encoder")


def load(name_or_folder: str | Path = registry.NANO, precision: str = "auto", device: str = "auto") -> Backbone:
    """Load a base model by short name, Hub id or local folder; its weights are frozen.

    TalimError if there is no such model, it is not supported, or its files do not fit.
    """
    source = resolve.resolve_source(str(name_or_folder))
    pick_device(device)  # before anything is fetched
    choose_precision(precision, torch.device("cpu"))
    _check_tokenizer_first(source)
    source = resolve.fetched(source)
    backbone = _read(source, precision, device)
    if source.local:  # PEFT stores this name with an adapter; the bare one may be another model's on the Hub
        vars(backbone.model)["name_or_path"] = f"./{source.name}"
    backbone.is_local = source.local and source.entry is None
    backbone.revision = source.commit
    return backbone


def _check_tokenizer_first(source: ModelSource) -> None:
    """Read the tokenizer of a base that is not here yet, so that a fault shows before gigabytes are fetched."""
    if source.is_folder or hub_download.find_cached(source.hub) is not None:
        return
    with resolve.friendly_load_errors(source), silence_transformers():
        folder = hub_download.fetch_description(source.hub)
        described = replace(source, path_or_id=str(folder), commit=folder.name)
        if resolve.source_family(described) == "mustango":
            from talim.backbones.mustango.load import read_text_tokenizer

            read_text_tokenizer(folder)
        elif (folder / "config.json").is_file():  # audiocraft's files name the text encoder
            _read_tokenizer(described, described.path_or_id, read_config(described))


def base_reader(name: str) -> TextReader:
    """What a base can read, from its tokenizer alone; its weights are not read."""
    from talim.backbones.nano.musicgen import ByteTokenizer

    source = resolve.resolve_source(name)
    family = resolve.source_family(source)
    max_tokens = None
    with resolve.friendly_load_errors(source), silence_transformers():
        if not source.is_folder:
            folder = hub_download.find_cached(source.hub) or hub_download.fetch_description(source.hub)
            source = replace(source, path_or_id=str(folder), commit=folder.name)
        if family == "mustango" and not resolve.is_nano_mustango(source):
            from talim.backbones.mustango.backbone import Mustango
            from talim.backbones.mustango.load import read_text_tokenizer

            max_tokens = Mustango.tokenizer_options["max_length"]
            tokenizer = read_text_tokenizer(Path(source.path_or_id))
        elif family == "mustango":
            tokenizer = ByteTokenizer()
        else:
            register_nano(source)
            checkpoint = audiocraft(source)
            tokenizer = _read_tokenizer(
                source, checkpoint.text_encoder if checkpoint else source.path_or_id, read_config(source)
            )
    return TextReader(tokenizer, source.name, max_tokens)


def check_predictors(name: str) -> None:
    """Read the tokenizers with which a Mustango predicts beats and chords, before its weights are fetched.

    TalimError where one is not here and cannot be fetched; it names the repository and where its files may lie.
    """
    source = resolve.resolve_source(name)
    if resolve.source_family(source) != "mustango":
        return
    folder = Path(source.path_or_id) if source.is_folder else hub_download.find_cached(source.hub)
    with resolve.friendly_load_errors(source), silence_transformers():
        folder = folder or hub_download.fetch_description(source.hub)
        if not resolve.is_nano_mustango(source, folder):
            from talim.backbones.mustango.load import read_predictor_tokenizers

            read_predictor_tokenizers(folder)


def _read(source: ModelSource, precision: str, device: str) -> Backbone:
    from talim.backbones.musicgen.backbone import MusicGen

    torch_device = torch.device(pick_device(device))
    dtype, reason = choose_precision(precision, torch_device)
    facts = {"name": source.name, "licence": resolve.source_licence(source), "precision_reason": reason}
    if resolve.source_family(source) == "mustango":
        if precision == INT8:
            raise UsageError(f"precision int8 is for MusicGen, and {source.name!r} is a Mustango; use bf16 or fp32")
        with resolve.friendly_load_errors(source), silence_transformers():
            return _mustango(source, torch_device, dtype, facts)
    with resolve.friendly_load_errors(source), silence_transformers():
        nano = register_nano(source)
        config = read_config(source)
        _check_codec(source, config)
        if checkpoint := audiocraft(source):
            progress.log_once(f"base {source.name!r}: {checkpoint.sources}")
        tokenizer = _read_tokenizer(source, checkpoint.text_encoder if checkpoint else source.path_or_id, config)
        model = _read_weights(source, config, dtype, checkpoint)
    is_miniature = nano or config.audio_encoder.model_type == NANO_CODEC
    if config.model_type == "musicgen_melody":
        from talim.backbones.musicgen.melody import MusicGenMelody

        backbone: MusicGen = MusicGenMelody(
            model.to(torch_device), tokenizer, preprocessor=read_preprocessor(source), miniature=is_miniature, **facts
        )
    else:
        backbone = MusicGen(model.to(torch_device), tokenizer, miniature=is_miniature, **facts)
    backbone.int8 = precision == INT8
    return backbone


def _mustango(source: ModelSource, device: torch.device, dtype: torch.dtype, facts: dict[str, str]) -> Backbone:
    if resolve.is_nano_mustango(source):
        from talim.backbones.nano import mustango

        return mustango.load(Path(source.path_or_id), device, dtype, **facts)
    from talim.backbones.mustango.load import load_mustango

    return load_mustango(Path(source.path_or_id), lambda: resolve.with_predictors(source), device, dtype, **facts)


def audiocraft(source: ModelSource) -> AudiocraftCheckpoint | None:
    """The files of a MusicGen in audiocraft's layout; None for another layout."""
    folder = Path(source.path_or_id)
    return AudiocraftCheckpoint(folder) if source.is_folder and is_audiocraft(folder) else None


def register_nano(source: ModelSource) -> bool:
    """Register the nano codec with transformers if the checkpoint uses it; whether it does."""
    if audiocraft(source):
        return False
    text = (Path(source.path_or_id) / "config.json").read_text(encoding="utf-8")
    if parse_json(text).get("audio_encoder", {}).get("model_type") != NANO_CODEC:
        return False
    from talim.backbones.nano import musicgen

    musicgen.register_codec()
    return True


def read_config(source: ModelSource) -> Any:
    """Transformers configuration of a MusicGen; TalimError for another model type."""
    from transformers import AutoConfig, MusicgenConfig, MusicgenMelodyConfig

    if checkpoint := audiocraft(source):
        melody = checkpoint.config["model_type"] == "musicgen_melody"
        return (MusicgenMelodyConfig if melody else MusicgenConfig)(**checkpoint.config)
    config = AutoConfig.from_pretrained(source.path_or_id, trust_remote_code=False)
    if config.model_type not in ("musicgen", "musicgen_melody"):
        raise TalimError(f"base {source.name!r} is a model of the type {config.model_type}; expected MusicGen")
    return config


def _read_weights(
    source: ModelSource, config: Any, dtype: torch.dtype, checkpoint: AudiocraftCheckpoint | None = None
) -> Any:
    import transformers

    melody = config.model_type == "musicgen_melody"
    name = "MusicgenMelodyForConditionalGeneration" if melody else "MusicgenForConditionalGeneration"
    model_class: Any = getattr(transformers, name)

    class Mixed(model_class):
        # a bf16 codec is audibly worse, and text states must not depend on the decoder's dtype
        _keep_in_fp32_modules_strict = list(FP32_PARTS)  # noqa: RUF012  (as transformers declares it)

        def post_init(self) -> None:
            super().post_init()
            # T5 ignores unexpected keys that contain "decoder", which here is most of the model
            self._keys_to_ignore_on_load_unexpected = set()

    name, weights = (None, checkpoint.weights()) if checkpoint else (source.path_or_id, None)
    loaded: Any = Mixed.from_pretrained(name, config=config, dtype=dtype, state_dict=weights, output_loading_info=True)
    model, report = loaded
    unexpected = [key for key in report["unexpected_keys"] if not key.endswith(RECOMPUTED_BUFFERS)]
    for problem, keys in (("lacks", report["missing_keys"]), ("has unknown", unexpected)):
        if keys:
            examples, weights = ", ".join(sorted(keys)[:3]), format_counted(len(keys), "weight")
            raise TalimError(f"base {source.name!r} {problem} {weights} ({examples} ...); is the download complete?")
    for part in FP32_PARTS:
        getattr(model, part).float()  # buffers too
    return model


def _read_tokenizer(source: ModelSource, path_or_id: str, config: Any) -> Any:
    if config.audio_encoder.model_type == NANO_CODEC:
        from talim.backbones.nano.musicgen import ByteTokenizer

        return ByteTokenizer()
    from talim.backbones import tokenizer_files

    advice = tokenizer_files.folder_advice(path_or_id) if source.local else tokenizer_files.hub_advice(source.name)
    tokenizer = tokenizer_files.read_tokenizer(path_or_id, advice)
    tokenizer_files.check_fit(tokenizer, config.text_encoder, advice)
    return tokenizer


def read_preprocessor(source: ModelSource) -> dict[str, Any]:
    """The settings of a melody's chromagram; empty, which means the released ones, where no file has them."""
    from transformers.utils.hub import cached_file

    if checkpoint := audiocraft(source):
        return checkpoint.preprocessor
    missing_is_none = {"_raise_exceptions_for_missing_entries": False}
    file = cached_file(source.path_or_id, "preprocessor_config.json", **missing_is_none)
    values = parse_json(Path(file).read_text(encoding="utf-8")) if file else {}
    return values if isinstance(values, dict) else {}


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
