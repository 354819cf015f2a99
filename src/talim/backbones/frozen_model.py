"""What both model families share: facts of a base, text states, clips from generated targets."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from talim.audio import Audio, AudioStream
from talim.backbones import fingerprint, generation_options
from talim.backbones.musicgen.sampling import inference_mode
from talim.backbones.readable_text import TextReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


class FrozenModel:
    """A base model with frozen weights, whose text encoder is the transformers model `model.text_encoder`."""

    family: str
    frame_rate_hz: float
    is_local = False  # see `Backbone`
    revision = ""
    melody_rate_hz = 0.0
    melody_settings: Mapping[str, Any] = MappingProxyType({})
    tokenizer_options: ClassVar[Mapping[str, Any]] = {"padding": True}
    rate_hz: int
    channels: int
    decode_blocks: Callable[[np.ndarray], Iterator[np.ndarray]]
    generate_each: Callable[..., Iterator[tuple[int, np.ndarray]]]
    generate_from_each: Callable[..., Iterator[tuple[int, AudioStream]]]

    def __init__(
        self, model: Any, tokenizer: Callable[..., Any], name: str, licence: str, miniature: bool, precision_reason: str
    ) -> None:
        self.model, self.tokenizer, self.name, self.licence = model, tokenizer, name, licence
        self.reader = TextReader(tokenizer, max_tokens=self.tokenizer_options.get("max_length"))
        self.transliterate = True
        self.miniature, self.precision_reason = miniature, precision_reason
        vars(model)["name_or_path"] = name  # PEFT stores it with an adapter: no local path
        self.options = generation_options.DEFAULT_OPTIONS[self.family]
        # text states depend on the tokenizer, too
        probe = {"probe": fingerprint.probe_tokens(tokenizer)}
        self.text_encoder_hash = fingerprint.hash_weights(model.text_encoder, probe, exact=True)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def read_as(self, prompt: str) -> str:
        """What the tokenizer gets for a prompt: words that it does not know in plain letters, or the prompt itself."""
        return self.reader.spell(prompt) if self.transliterate else prompt

    def encode_text(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Prompts -> text-encoder states, float32 [L, D]; encoded one by one, independent of the batch."""
        by_prompt: dict[str, np.ndarray] = {}
        for prompt in dict.fromkeys(prompts):
            ids, mask = self._tokenize([prompt])
            with torch.no_grad(), inference_mode(self.model.text_encoder):
                states = self.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            by_prompt[prompt] = states[0, mask[0].bool()].float().cpu().numpy()
        return [by_prompt[prompt] for prompt in prompts]

    def encode_melody(self, audio: Audio) -> np.ndarray:
        """UsageError: the model takes no melody."""
        raise generation_options.unsupported_melody_error(self.name)

    def _tokenize(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, int64 [B, L]."""
        texts = [self.read_as(prompt) for prompt in prompts]
        tokens = self.tokenizer(texts, return_tensors="pt", **self.tokenizer_options)
        return tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)

    def decode(self, tokens: np.ndarray) -> Audio:
        """Targets -> audio [C, samples]; scaled down only if it would clip."""
        return self.stream(tokens).read()

    def decode_parts(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """As `decode_blocks`, of targets in parts along the axis of time, which may still be coming."""
        return self.decode_blocks(np.concatenate([*parts], axis=1))

    def stream(self, tokens: np.ndarray, seconds: float = math.inf) -> AudioStream:
        """The first `seconds` of `decode(tokens)`, decoded when they are saved or read."""
        return self.stream_parts(lambda: [tokens], seconds)

    def stream_parts(self, parts: Callable[[], Iterable[np.ndarray]], seconds: float = math.inf) -> AudioStream:
        """As `stream`, of targets in parts, which each call of `parts` gives from the first one on."""

        def blocks() -> Iterator[np.ndarray]:
            left = seconds * self.rate_hz
            for block in self.decode_parts(parts()):
                yield block[:, : round(min(left, block.shape[1]))]
                left -= block.shape[1]
                if left <= 0:
                    return

        return AudioStream(blocks, self.rate_hz, self.channels)

    def generate_parts(self, *arguments: Any, **options: Any) -> Iterator[tuple[int, np.ndarray, bool]]:
        """As `generate_each`, in parts where the model has them: the third value is true for a clip's last part."""
        yield from ((index, targets, True) for index, targets in self.generate_each(*arguments, **options))

    def generate_from(self, phrase: Audio, prompt: str, seconds: float, seed: int, **options: Any) -> AudioStream:
        """One clip of `generate_from_each`, under way."""
        _, clip = next(self.generate_from_each([phrase], [prompt], [seconds], [seed], under_way=True, **options))
        return clip

    def generate_tokens(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> np.ndarray:  # int16 [B, K, T] or float32 [B, C, T, F]
        """What `generate_each` gives, as one array in the order of the prompts: clips of one length."""
        rows = self.generate_each(prompts, seconds, seed, guidance_scale, **options)
        return np.stack([targets for _, targets in sorted(rows, key=lambda row: row[0])])

    def generate_streams(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> list[AudioStream]:
        """One clip of `seconds` per prompt; arguments as in `generate_tokens`."""
        targets = self.generate_tokens(prompts, seconds, seed, guidance_scale, **options)
        return [self.stream(row, seconds) for row in targets]

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        **options: Any,
    ) -> list[Audio]:
        """`generate_streams`, decoded."""
        return [clip.read() for clip in self.generate_streams(prompts, seconds, seed, guidance_scale, **options)]
