"""What every base model offers to the rest of talim: the Protocol, and the values that cross its border."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from talim.audio import Audio
    from talim.beats_chords import BeatsAndChords
    from talim.designs.musicgen_sites import Site

    # targets int16 [K, T] (codec tokens) or float32 [C, T, F] (latents), text states float32 [L, D], and where they
    # are known beats and chords; a base that hears none passes over them
    Item = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, BeatsAndChords]
    Progress = Callable[[int, int], None]  # (frames or steps made so far, how many there will be)


@dataclass
class Loss:
    """A training loss in float32: its mean, and what each part (codebook, noise level) adds to it."""

    mean: Tensor  # []
    parts: Tensor  # [K], their mean is `mean`
    part_names: tuple[str, ...]
    per_item: Tensor  # [B, K], every clip's own mean, without gradient
    per_frame: Tensor  # [B, T], mean over the parts at each frame, 0 beyond a clip's end, without gradient
    count: Tensor  # [], how many valid frames, or clips, `mean` is a mean over


@dataclass
class Batch:
    """Clips of unequal length padded to one: targets and what the text encoder said of the captions."""

    targets: Tensor  # int64 [B, K, T], or float32 [B, C, T, F] for latents
    target_mask: Tensor  # bool [B, T], False beyond a clip's end
    states: Tensor  # float32 [B, L, D]
    states_mask: Tensor  # bool [B, L], False for padding and for a dropped condition

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = (self.targets, self.target_mask, self.states, self.states_mask)
        return Batch(*(tensor.to(device) for tensor in moved))


@dataclass
class CachedBatch(Batch):
    """A batch of which the outcome of a decoder's first layers is known, so that they need not run."""

    hidden: Tensor  # [B, S, D], as `Backbone.frozen_activations` gives it
    layers: int  # how many layers that was

    def to(self, device: torch.device | str) -> CachedBatch:
        """The same batch on another device."""
        plain = Batch(self.targets, self.target_mask, self.states, self.states_mask).to(device)
        return CachedBatch(**vars(plain), hidden=self.hidden.to(device), layers=self.layers)


class Backbone(Protocol):
    """A frozen base model: what it is, how audio and words enter it, its loss, and what it generates."""

    @property
    def name(self) -> str: ...  # public name, never a path: "facebook/musicgen-small"
    @property
    def family(self) -> str: ...  # "musicgen", "mustango"
    @property
    def licence(self) -> str: ...  # of the weights, "CC-BY-NC-4.0", or "unknown"
    @property
    def rate_hz(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def frame_rate_hz(self) -> float: ...  # of targets; not always a whole number
    @property
    def target_kind(
        self,
    ) -> str: ...  # "tokens", int16 [K, T], or "latents", float32 [C, T, F]: time is axis 1 in both
    @property
    def codebooks(self) -> int: ...  # 0 where targets are latents
    @property
    def loss_unit(self) -> str: ...  # "nats", "squared error"
    @property
    def validation_terms(
        self,
    ) -> tuple[str, ...]: ...  # of the loss in evaluation: "codebook 0", "noise level 500"
    @property
    def accepts_beats_chords(self) -> bool: ...  # beats and chords, besides words
    @property
    def options(self) -> Mapping[str, Any]: ...  # what `generate` can be asked by name, with the usual values
    @property
    def window_seconds(self) -> float: ...  # what the model saw at once in its training
    @property
    def miniature(self) -> bool: ...  # a toy whose sound is not the point
    @property
    def transformers_class(self) -> str: ...  # that loads the weights without talim; empty where none does
    @property
    def fingerprint(self) -> str: ...  # changes with the weights, not with the precision they are loaded in
    @property
    def codec_hash(self) -> str: ...  # changes when encode() would answer otherwise
    @property
    def text_encoder_hash(self) -> str: ...  # changes when encode_text() would answer otherwise
    @property
    def num_parameters(self) -> int: ...  # of the part that is adapted, so that an adapter's share has a meaning
    @property
    def model(self) -> nn.Module: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def precision_reason(self) -> str: ...

    def encode(self, audio: Audio) -> np.ndarray:
        """Audio of any rate and channels -> targets."""
        ...

    def decode(self, tokens: np.ndarray) -> Audio:
        """Targets -> audio; scaled down only if it would clip."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Prompts -> what the text encoder says of each, float32 [L, D]."""
        ...

    def collate(self, items: Sequence[Item], drop: Sequence[bool]) -> Batch:
        """Pad clips to one batch; where `drop` is true all conditions together are the model's own null."""
        ...

    def loss(self, batch: Batch) -> Loss:
        """The training loss of the model's makers, in float32; of a CachedBatch by the layers that are left."""
        ...

    def frozen_activation_shape(self, frames: int) -> tuple[int, int]:
        """[S, D] of the hidden states of a clip of so many frames; (0, 0) where none stay the same."""
        ...

    def frozen_activations(self, batch: Batch, layers: int) -> Tensor:
        """What leaves the first `layers` layers, [B, S, D], before any adapter acts on it; without gradient.

        TalimError where a model has none, or where dropout in its frozen part would make it another each time.
        """
        ...

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int,
        guidance: float = 3.0,
        *,
        progress: Progress | None = None,
        music: Sequence[BeatsAndChords] | None = None,
        **asked: Any,
    ) -> list[Audio]:
        """One piece of `seconds` per prompt; the same arguments give the same pieces.

        `asked` may hold what `options` names; `music` gives each prompt its beats and chords. UsageError for what the
        model cannot hear or be asked.
        """
        ...

    def generate_tokens(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int,
        guidance: float = 3.0,
        *,
        progress: Progress | None = None,
        music: Sequence[BeatsAndChords] | None = None,
        **asked: Any,
    ) -> np.ndarray:
        """As `generate`, before decoding: targets, [B, K, T] or [B, C, T, F]."""
        ...

    def predict_beats_chords(
        self, prompts: Sequence[str], given: Sequence[BeatsAndChords] | None = None
    ) -> list[BeatsAndChords]:
        """Beats and chords that fit the prompts, what is given kept; UsageError or TalimError if it cannot."""
        ...

    def snap_beats_chords(self, music: Sequence[BeatsAndChords]) -> list[BeatsAndChords]:
        """What the model can hear of recordings' beats and chords; empty where it hears none."""
        ...

    def sites(self) -> tuple[Site, ...]:
        """Where adapters may sit, in order of depth."""
        ...

    def enable_training(self, gradient_checkpointing: bool = False, weighting: str | None = None) -> None:
        """Training mode for what is trained on top, with the frozen part free of dropout and of caches.

        `weighting` names how the loss weighs noise levels, where there are any; UsageError where it cannot.
        """
        ...
