"""MusicGen-melody of transformers as a frozen base model: it hears a melody besides the text.

The melody is one pitch class per frame of a chromagram (`chroma`); with the text it precedes the music in the decoder,
which has no cross-attention. Without a melody it is the first class throughout, which is what silence gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talim.backbones.musicgen import chroma, prepended_conditions
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.chroma import ChromaSettings
from talim.backbones.protocol import Batch, CachedBatch

if TYPE_CHECKING:
    from talim.audio import Audio, AudioStream
    from talim.backbones.protocol import Item

NO_MELODY = np.zeros(1, np.int8)


class MusicGenMelody(MusicGen):
    """A `MusicgenMelodyForConditionalGeneration` as a Backbone; the model is configured in place."""

    def __init__(
        self, model: Any, tokenizer: Callable[..., Any], *, preprocessor: Mapping[str, Any], **facts: Any
    ) -> None:
        super().__init__(model, tokenizer, **facts)
        self.transformers_class = "MusicgenMelodyForConditionalGeneration"
        self.chroma = ChromaSettings.of(dict(preprocessor), self.rate_hz, int(self.config.num_chroma))
        self.melody_rate_hz = self.chroma.frame_rate_hz
        self.melody_settings: Mapping[str, Any] = self.chroma.to_json()
        self.melody_frames = int(self.config.chroma_length)  # that the decoder is always given

    def encode_melody(self, audio: Audio) -> np.ndarray:
        """Audio of any sample rate and channels -> the loudest pitch class over time, int8 [M]."""
        mono = audio.mono().resample(self.chroma.rate_hz)
        return chroma.pitch_classes(mono.samples[0], self.chroma)

    def collate(self, items: Sequence[Item], drop: Sequence[bool]) -> Batch:
        """Pad clips to one batch; a clip without melody, or with dropped conditions, has the null melody.

        A melody shorter than the decoder's number of frames is repeated, as in the original.
        """
        melodies = [
            NO_MELODY if dropped or len(item) < 3 or not isinstance(item[2], np.ndarray) else item[2]
            for item, dropped in zip(items, drop, strict=True)
        ]
        classes = np.stack([_excerpt(melody, 0, self.melody_frames) for melody in melodies])
        lengths = tuple(len(item[1]) for item in items)
        return replace(super().collate(items, drop), melody=torch.from_numpy(classes), text_lengths=lengths)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits at each step of the delayed sequence, [B, K, T + max delay, V]."""
        hidden = prepended_conditions.forward_all(self.model, self._steps(batch), batch)
        return torch.stack([head(hidden) for head in self.model.decoder.lm_heads], dim=1)

    def _logits_by_codebook(self, batch: Batch) -> Iterable[torch.Tensor]:
        steps = self._steps(batch)
        if isinstance(batch, CachedBatch):
            hidden = prepended_conditions.forward_trained(self.model, batch, steps.shape[-1])
        else:
            hidden = prepended_conditions.forward_all(self.model, steps, batch)
        return (head(hidden) for head in self.model.decoder.lm_heads)

    def frozen_activation_shape(self, frames: int, text_tokens: int = 0) -> tuple[int, int]:
        """Melody, text and steps of the delayed sequence, and the decoder's width."""
        steps, width = super().frozen_activation_shape(frames)
        return self.melody_frames + text_tokens + steps, width

    def frozen_activations(self, batch: Batch, layers: int) -> torch.Tensor:
        """Output of the first `layers` layers for conditions and music, [B, T, D], before any adapter there."""
        return prepended_conditions.forward_frozen(self.model, self._steps(batch), batch, layers)

    def generate_from_each(  # pyright: ignore[reportIncompatibleMethodOverride]  (the options are passed on)
        self,
        phrases: Sequence[Audio],
        prompts: Sequence[str],
        seconds: Sequence[float],
        seed: int | Sequence[int],
        *,
        melody: Sequence[np.ndarray | None] | None = None,
        melody_of_phrase: Callable[[Audio], np.ndarray] | None = None,
        **options: Any,
    ) -> Iterator[tuple[int, AudioStream]]:
        """As for MusicGen; a `melody` for the new music follows the phrase's own, which the model is also given.

        `melody_of_phrase` reads the phrase's own where the melody was not read by chroma, as by `encode_melody`.
        """
        if melody is not None:
            read = melody_of_phrase or self.encode_melody
            followed = {id(phrase): phrase for phrase, row in zip(phrases, melody, strict=True) if row is not None}
            own = {key: self._melody_of_end(phrase, read) for key, phrase in followed.items()}
            needed = [math.ceil(length * self.melody_rate_hz) + self.melody_frames for length in seconds]
            melody = [
                None if row is None else np.concatenate([own[id(phrase)], np.resize(row, frames)])
                for phrase, row, frames in zip(phrases, melody, needed, strict=True)
            ]
        return super().generate_from_each(phrases, prompts, seconds, seed, melody=melody, **options)

    def _melody_of_end(self, phrase: Audio, read: Callable[[Audio], np.ndarray]) -> np.ndarray:  # int8 [M]
        """The melody of the end of a phrase that its continuation hears."""
        context = self.context_seconds(phrase.seconds)
        own = read(phrase.cut(phrase.seconds - context, phrase.seconds)) if context else NO_MELODY[:0]
        return own[: round(context * self.melody_rate_hz)]

    def _piece_conditions(
        self, prompts: Sequence[str], melody: Sequence[np.ndarray | None] | None, guided: bool
    ) -> list[dict[str, Any]]:
        """What precedes the music in each window: melody and text, with guidance beside the null ones."""
        states = dict(zip(prompts, self.encode_text(prompts), strict=True))
        melodies = [NO_MELODY if row is None else row for row in melody or [None] * len(prompts)]

        def before(prompt: str, row: np.ndarray) -> Callable[[int], torch.Tensor]:
            return lambda first_frame: torch.stack(self._condition_rows([(states[prompt], row)], first_frame, guided))

        return [
            {"num_conditions": self.melody_frames + len(states[prompt]), "conditions": before(prompt, row)}
            for prompt, row in zip(prompts, melodies, strict=True)
        ]

    def _condition_rows(
        self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], first_frame: int, guided: bool
    ) -> list[torch.Tensor]:
        """Text states and melodies as states [P, D] from a frame of the music on; then the null ones of guidance."""
        first = round(first_frame / self.frame_rate_hz * self.melody_rate_hz)
        tokens = np.zeros((self.codebooks, 1), np.int16)
        items: Any = [(tokens, text, _excerpt(row, first, self.melody_frames)) for text, row in pairs]
        rows = [*items, *items] if guided else items
        batch = self.collate(rows, [row >= len(items) for row in range(len(rows))]).to(self.device)
        with torch.no_grad():
            return prepended_conditions.condition_rows(self.model, batch)

    def _conditions(
        self, prompts: Sequence[str], melody: Sequence[np.ndarray | None] | None, guided: bool
    ) -> Callable[[int], Mapping[str, Any]]:
        """The decoder's conditions in each window; `generate()` is given them whole, with the null ones of guidance."""
        ids, mask = self._tokenize(prompts)
        states = self.encode_text(prompts)
        melodies = [NO_MELODY if row is None else row for row in melody or [None] * len(prompts)]

        def of_window(first_frame: int) -> Mapping[str, Any]:
            rows = self._condition_rows(list(zip(states, melodies, strict=True)), first_frame, guided)
            return {"input_ids": ids, "attention_mask": mask, "encoder_hidden_states": torch.stack(rows)}

        return of_window


def _excerpt(melody: np.ndarray, first: int, frames: int) -> np.ndarray:
    """`frames` pitch classes from the frame `first` on, int64; the melody begins anew where it ends."""
    return melody[np.arange(first, first + frames) % len(melody)].astype(np.int64)
