"""Facts of a base model that need no weights and no torch: dimensions, frame rate, longest context, adapter sites."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.atomic_io import parse_json
from talim.backbones import registry
from talim.backbones.musicgen.audiocraft_checkpoint import LM_FILE, AudiocraftCheckpoint, is_audiocraft
from talim.backbones.resolve import ModelSource, cached_file, friendly_load_errors, resolve_source
from talim.design.expression import Design
from talim.design.musicgen_sites import MusicGenShape
from talim.design.site_selection import select_sites
from talim.design.unet_sites import UNetShape
from talim.errors import TalimError, UsageError

if TYPE_CHECKING:
    from talim.design import costs


@dataclass(frozen=True)
class BaseModelFacts:
    """A base's name, dimensions, frame rate and longest context."""

    name: str
    shape: costs.BackboneShape
    frame_rate_hz: float = 50
    window_seconds: float = 30.0

    @property
    def family(self) -> str:
        """ "musicgen" or "mustango"."""
        return "mustango" if isinstance(self.shape, UNetShape) else "musicgen"


def check_sites(design: Design, base: str) -> None:
    """UsageError for a site that the base does not have; nothing for a base that is not on this machine.

    TalimError for a name that no base has.
    """
    source = resolve_source(base)
    if (
        (source.entry is None or source.entry.shape is None)
        and not source.local
        and not any(cached_file(source.name, name, source.revision) for name in ("config.json", LM_FILE))
    ):
        return
    facts = base_model_facts(base)
    sites = facts.shape.sites()
    for part in design.parts:
        try:
            select_sites(part.site, sites)
        except UsageError as error:
            raise UsageError(f"{design} on {facts.name}: {error}") from None


def base_model_facts(base: str) -> BaseModelFacts:
    """Facts of a known name or Hub id, or from a local folder's config.json; TalimError where there are none."""
    source = resolve_source(base)
    if source.entry is not None and source.entry.shape is not None:
        rate_and_window = registry.FRAME_RATE_AND_WINDOW[source.entry.family]
        return BaseModelFacts(source.entry.name, source.entry.shape, *rate_and_window)
    if source.local:
        unet_config = Path(source.path_or_id) / registry.UNET_CONFIG
        if unet_config.is_file():
            return _read_unet_config(source, unet_config)
        folder = Path(source.path_or_id)
        return _audiocraft_facts(source, folder) or _read_config(source, folder / "config.json")
    file = cached_file(source.name, LM_FILE, source.revision)
    if file and (facts := _audiocraft_facts(source, file.parent)):
        return facts
    if file := cached_file(source.name, "config.json", source.revision):
        return _read_config(source, file)
    revision = f" --revision {source.revision}" if source.revision else ""
    raise TalimError(
        f"the dimensions of base {base!r} are not known; fetch its config.json and give the folder: hf download "
        f"{source.name} config.json{revision} --local-dir {source.name.rsplit('/', 1)[-1]}"
    )


def _read_unet_config(source: ModelSource, file: Path) -> BaseModelFacts:
    """Mustango's released layout has a file for the U-Net alone."""
    from talim.backbones.mustango.unet_config import UNetConfig

    try:
        shape = UNetShape.of(UNetConfig.of(parse_json(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        raise TalimError(f"{file} is no configuration of a U-Net ({error!r})") from error
    return BaseModelFacts(source.name, shape, *registry.FRAME_RATE_AND_WINDOW["mustango"])


def _nano_unet(source: ModelSource, values: dict[str, Any]) -> BaseModelFacts:
    """nano-mustango has U-Net and VAE in one file; each downsampling of the VAE halves bands and frame rate."""
    from talim.backbones.mustango.unet_config import UNetConfig
    from talim.backbones.mustango.vae_vocoder import MelConfig
    from talim.backbones.nano.sinusoidal_model import HOP, RATE_HZ

    downsampling = 2 ** (len(values["vae"]["block_out_channels"]) - 1)
    shape = UNetShape.of(UNetConfig.of(values["unet"]))
    shape = replace(shape, bands=MelConfig().n_mel_channels // downsampling)
    return BaseModelFacts(source.name, shape, RATE_HZ / HOP / downsampling, values["window_seconds"])


def _read_config(source: ModelSource, file: Path) -> BaseModelFacts:
    try:
        values = parse_json(file.read_text(encoding="utf-8"))
        if "unet" in values:
            return _nano_unet(source, values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TalimError(f"{file} is no MusicGen configuration ({error!r})") from error
    return _musicgen_facts(source, values, file)


def _audiocraft_facts(source: ModelSource, folder: Path) -> BaseModelFacts | None:
    """Facts from the settings beside the weights; None for another layout."""
    if not is_audiocraft(folder):
        return None
    with friendly_load_errors(source):
        return _musicgen_facts(source, AudiocraftCheckpoint(folder).config, folder / LM_FILE)


def _musicgen_facts(source: ModelSource, values: dict[str, Any], file: Path) -> BaseModelFacts:
    """Facts from the values of a config.json, which `file` holds."""
    try:
        family = values.get("model_type", "musicgen")
        if family not in ("musicgen", "musicgen_melody"):
            raise TalimError(f"base {source.name!r} is not supported: a {family} model; expected MusicGen")
        decoder, text, codec = values["decoder"], values["text_encoder"], values.get("audio_encoder", {})
        shape = MusicGenShape(
            hidden=decoder["hidden_size"],
            layers=decoder["num_hidden_layers"],
            heads=decoder["num_attention_heads"],
            codebooks=decoder["num_codebooks"],
            channels=decoder.get("audio_channels", 1),
            vocabulary=decoder["vocab_size"],
            text_width=text.get("d_model") or text["hidden_size"],
            ffn=decoder["ffn_dim"],
            melody_frames=values.get("chroma_length", registry.MELODY_FRAMES) if family == "musicgen_melody" else 0,
            chroma=values.get("num_chroma", MusicGenShape.chroma),
        )
        hop = math.prod(codec.get("upsampling_ratios") or [0])  # absent in the miniature's codec
        rate_hz = math.ceil(codec["sampling_rate"] / hop) if hop else BaseModelFacts.frame_rate_hz
        window = decoder.get("talim_window_seconds", BaseModelFacts.window_seconds)
        return BaseModelFacts(source.name, shape, rate_hz, values.get("talim_window_seconds", window))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TalimError(f"{file} is no MusicGen configuration ({error!r})") from error
