"""Interface of base models: the Backbone protocol, and the values passed through it."""

# pyright: reportReturnType=false
# (the methods of a protocol have no bodies)

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from talim.audio import Audio, AudioStream
    from talim.backbones.readable_text import TextReader
    from talim.beats_chords import BeatsAndChords
    from talim.design.musicgen_sites import Site

    # targets int16 [K, T] (codec tokens) or float32 [C, T, F] (latents), text states float32 [L, D], and optionally
    # beats and chords or a melody's pitch classes int8 [M], which a text-only base ignores
    Item = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, Any]
    Progress = Callable[[int, int], None]  # (frames or steps done, total)


@dataclass
class Loss:
    """A training loss in float32: its mean, and its parts (codebooks or noise levels)."""

    mean: Tensor  # []
    parts: Tensor  # [K], with mean `mean`
    part_names: tuple[str, ...]
    per_item: Tensor  # [B, K], mean of each clip, without gradient
    per_frame: Tensor  # [B, K, T], 0 beyond a clip's end, without gradient
    count: Tensor  # [], number of valid frames, or clips, that `mean` averages


@dataclass
class Batch:
    """Clips padded to equal length: targets, text-encoder states of the captions, melodies where a base has them."""

    targets: Tensor  # int64 [B, K, T], or float32 [B, C, T, F] for latents
    target_mask: Tensor  # bool [B, T], False beyond a clip's end
    states: Tensor  # float32 [B, L, D]
    states_mask: Tensor  # bool [B, L], False for padding and for a dropped condition
    melody: Tensor | None = field(default=None, kw_only=True)  # int64 [B, M], pitch classes
    text_lengths: tuple[int, ...] | None = field(default=None, kw_only=True)  # of each clip, dropped or not

    def to(self, device: torch.device | str) -> Self:
        moved = {name: value.to(device) if hasattr(value, "to") else value for name, value in vars(self).items()}
        return type(self)(**moved)


@dataclass
class CachedBatch(Batch):
    """A batch with the stored output of a decoder's first layers, which need not run again."""

    hidden: Tensor  # [B, S, D], from `Backbone.frozen_activations`
    layers: int  # number of these layers


class Backbone(Protocol):
    """A frozen base model: facts about it, encoding of audio and text, loss, generation, adapter sites."""

    name: str  # public name, never a path: "facebook/musicgen-small"
    is_local: bool  # a folder of the user's, whose name may also be another model's on the Hub
    revision: str  # the commit on the Hub that the files are of; empty for a folder of the user's or the package's
    family: str  # "musicgen", "mustango"
    licence: str  # of the weights, "CC-BY-NC-4.0", or "unknown"
    rate_hz: int
    channels: int
    frame_rate_hz: float  # of targets; may be fractional
    target_kind: str  # "tokens", int16 [K, T], or "latents", float32 [C, T, F]: axis 1 is time
    codebooks: int  # 0 for latents
    codebook_size: int  # number of different tokens of each; 0 for latents
    loss_unit: str  # "nats", "squared error"
    validation_terms: tuple[str, ...]  # parts of the evaluation loss: "codebook 0", "noise level 500"
    accepts_beats_chords: bool  # conditioning besides text
    melody_rate_hz: float  # of a melody's pitch classes; 0 for a base that takes no melody
    melody_settings: Mapping[str, Any]  # that decide the result of encode_melody(), as plain values
    options: Mapping[str, Any]  # keywords of `generate` with defaults
    window_seconds: float  # the longest context in its training
    miniature: bool  # ships with talim for testing; poor audio quality
    transformers_class: str  # that loads the weights without talim; empty if none does
    fingerprint: str  # changes with the weights, not with the dtype they are loaded in
    codec_hash: str  # changes when the result of encode() would change
    text_encoder_hash: str  # changes when the result of encode_text() would change
    reader: TextReader  # what the text encoder's tokenizer knows
    transliterate: bool  # whether words that the tokenizer does not know are read in letters that it knows
    num_parameters: int  # of the adapted part, to which percentages refer
    precision_reason: str
    model: nn.Module

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def encode(self, audio: Audio) -> np.ndarray:
        """Audio of any sample rate and channels -> targets."""

    def decode(self, tokens: np.ndarray) -> Audio:
        """Targets -> audio; scaled down only if it would clip."""

    def decode_blocks(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Targets -> the blocks float32 [C, n] of `decode`, not scaled; memory does not depend on the length."""

    def decode_parts(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """As `decode_blocks`, of targets in parts along the axis of time, which may still be coming."""

    def stream(self, tokens: np.ndarray, seconds: float = math.inf) -> AudioStream:
        """The first `seconds` of `decode`, decoded when they are saved or read."""

    def stream_parts(self, parts: Callable[[], Iterable[np.ndarray]], seconds: float = math.inf) -> AudioStream:
        """As `stream`, of targets in parts, which each call of `parts` gives from the first one on."""

    def encode_melody(self, audio: Audio) -> np.ndarray:
        """Audio of any sample rate and channels -> its pitch class over time, int8 [M]; UsageError without melodies."""

    def read_as(self, prompt: str) -> str:
        """What the text encoder reads for a prompt: unknown words in plain letters where `transliterate` is on."""

    def encode_text(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Prompts -> text-encoder states of each, float32 [L, D]."""

    def collate(self, items: Sequence[Item], drop: Sequence[bool]) -> Batch:
        """Pad clips to one batch; where `drop` is true, all conditions are the unconditional ones of guidance."""

    def loss(self, batch: Batch) -> Loss:
        """The model's own training loss in float32; for a CachedBatch only the remaining layers run."""

    def frozen_activation_shape(self, frames: int, text_tokens: int = 0) -> tuple[int, int]:
        """Shape [S, D] of `frozen_activations` for one clip; (0, 0) if the model has none.

        The text counts only where it precedes the music in the decoder.
        """

    def frozen_activations(self, batch: Batch, layers: int) -> Tensor:
        """Output of the first `layers` layers, [B, S, D], before any adapter; without gradient.

        TalimError if the model has none, or if dropout in its frozen part is on.
        """

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> list[Audio]:
        """One clip of `seconds` per prompt, determined by the prompt, the options and its seed: `seed` + its index.

        `options` are keywords named by the attribute `options`; `progress`, a Progress; and `beats_chords`, a
        BeatsAndChords per prompt. UsageError for options or conditions that the model does not support.
        """

    def generate_streams(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> list[AudioStream]:
        """As `generate`, but the clips are decoded when they are saved or read."""

    def generate_tokens(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> np.ndarray:
        """As `generate`, but returns targets [B, K, T] or [B, C, T, F].

        `start` are targets to begin from: tokens [B, K, P] are gone on from and are not part of the result, latents
        [B, C, T, F] are varied, as far as `strength` says (0 to 1).
        """

    def generate_each(
        self,
        prompts: Sequence[str],
        seconds: float | Sequence[float],
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """As `generate_tokens`, for clips of any lengths: index and targets of each as soon as they are there."""

    def generate_parts(
        self,
        prompts: Sequence[str],
        seconds: float | Sequence[float],
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> Iterator[tuple[int, np.ndarray, bool]]:
        """As `generate_each`, each clip in parts along the axis of time: index, targets, whether they are the last."""

    def generate_from_each(
        self,
        phrases: Sequence[Audio],
        prompts: Sequence[str],
        seconds: Sequence[float],
        seed: int | Sequence[int],
        *,
        keep_phrase: bool = True,
        strength: float | None = None,
        under_way: bool = False,
        **options: Any,
    ) -> Iterator[tuple[int, AudioStream]]:
        """What goes on from each phrase (of any rate and channels) for `seconds`, or for latents a variation of it.

        A clip is the same alone and beside others, and comes with its index as soon as its targets are there; with
        `under_way` before, so that what reads it waits for them. With `keep_phrase` a continuation comes after the
        phrase's own sound; a variation holds nothing of it. Options as in `generate`.
        """

    def generate_from(self, phrase: Audio, prompt: str, seconds: float, seed: int, **options: Any) -> AudioStream:
        """One clip of `generate_from_each`, under way."""

    def context_seconds(self, phrase_seconds: float) -> float:
        """How much of the end of a phrase `generate_from_each` uses."""

    def predict_beats_chords(
        self, prompts: Sequence[str], given: Sequence[BeatsAndChords] | None = None
    ) -> list[BeatsAndChords]:
        """Predicted beats and chords for prompts, `given` ones kept; UsageError or TalimError if it cannot."""

    def sites(self) -> tuple[Site, ...]:
        """Sites for adapters, in order of depth."""

    def enable_training(self, gradient_checkpointing: bool = False, loss_weighting: str | None = None) -> None:
        """Training mode for adapters; the frozen part stays without dropout and caches.

        `loss_weighting` of noise levels, for diffusion models; UsageError if the model does not support it.
        """
