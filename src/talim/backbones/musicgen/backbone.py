"""MusicGen of transformers as a frozen base model: codec tokens, loss, generation."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talim.audio import Audio, AudioStream
from talim.backbones import fingerprint, generation_options
from talim.backbones.devices import CODEC_ARITHMETIC, full_float32
from talim.backbones.frozen_model import FrozenModel
from talim.backbones.musicgen import codec_blocks, continuation, decoding, delay_pattern, partial_forward, sampling
from talim.backbones.protocol import Batch, CachedBatch, Loss
from talim.backbones.streamed_pieces import StreamedCodes, StreamedPieces
from talim.beats_chords import BeatsAndChords
from talim.design.musicgen_sites import MusicGenShape, Site
from talim.errors import TalimError, UsageError
from talim.progress import log_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from talim.backbones.protocol import Item, Progress

DEFAULT_WINDOW_SECONDS = 30.0  # of the released models
PART_FRAMES = 100  # which are given out at once: 2 s


class MusicGen(FrozenModel):
    """A `MusicgenForConditionalGeneration` as a Backbone; the model is configured in place."""

    family = "musicgen"
    target_kind = "tokens"
    loss_unit = "nats"
    accepts_beats_chords = False

    def __init__(
        self,
        model: Any,  # MusicgenForConditionalGeneration
        tokenizer: Callable[..., Any],
        *,
        name: str,
        licence: str,
        miniature: bool = False,
        precision_reason: str = "fp32",
    ) -> None:
        super().__init__(model, tokenizer, name, licence, miniature, precision_reason)
        self.config = config = model.config  # of the whole model
        self.rate_hz = int(config.audio_encoder.sampling_rate)
        self.frame_rate_hz: float = int(config.audio_encoder.frame_rate)
        self.channels = int(config.decoder.audio_channels)
        self.codebooks = int(config.decoder.num_codebooks)  # per frame, over both channels
        self.codebook_size = int(config.decoder.vocab_size)
        self.validation_terms = tuple(f"codebook {index}" for index in range(self.codebooks))
        # the miniature's codec is not part of transformers
        self.transformers_class = "" if miniature else "MusicgenForConditionalGeneration"
        windows = (getattr(part, "talim_window_seconds", None) for part in (config, config.decoder))
        # the longest context in training; transformers itself does not enforce it
        self.window_seconds = float(next((w for w in windows if w is not None), DEFAULT_WINDOW_SECONDS))
        self.delays = delay_pattern.delays(self.codebooks, self.channels)
        special = config.decoder.pad_token_id  # of the delay pattern: by default the one after the vocabulary
        self.special_token = int(config.decoder.vocab_size if special is None else special)
        _freeze_and_configure(model, self.special_token)
        self.fingerprint = fingerprint.hash_weights(model, _fingerprint_facts(model))
        facts: dict[str, Any] = {"rate_hz": self.rate_hz, "channels": self.channels, "codebooks": self.codebooks}
        facts["arithmetic"] = CODEC_ARITHMETIC
        self.codec_hash = fingerprint.hash_weights(model.audio_encoder, facts, exact=True)
        self.num_parameters = fingerprint.count_values(model.decoder)
        self.int8 = False  # whether decoding quantises the weights
        self._kept_decoder: tuple[Any, decoding.Decoder] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the decoder that was read last, for pickle and copies."""
        return vars(self) | {"_kept_decoder": None}

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the decoder; codec and text encoder are float32."""
        return self.model.decoder.lm_heads[0].weight.dtype

    def encode(self, audio: Audio) -> np.ndarray:
        """Audio of any sample rate and channels -> codec tokens, int16 [K, T]."""
        resampled = audio.resample(self.rate_hz).to_channels(self.channels)
        samples = torch.from_numpy(np.ascontiguousarray(resampled.samples)).to(self.device)
        with torch.no_grad(), sampling.inference_mode(self.model.audio_encoder), full_float32():
            values = samples[:, None, :]  # the mono codec, once per channel
            mask = torch.ones_like(values, dtype=torch.bool)
            codes = self.model.audio_encoder.encode(values, mask).audio_codes[0]  # [C, K / C, T]
        codes = codes[:, : self.codebooks // self.channels]
        # channels alternate: codebook 0 left, codebook 0 right, codebook 1 left ...
        return codes.transpose(0, 1).reshape(self.codebooks, -1).to(torch.int16).cpu().numpy()

    def decode_blocks(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Codec tokens [K, T] -> audio float32 [C, n] block by block; memory does not depend on T."""
        return self.decode_parts([tokens])

    def decode_parts(self, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """As `decode_blocks`, of tokens in parts: a block is decoded as soon as the tokens that it needs are there."""
        codes = StreamedCodes(self._codes_by_channel(part) for part in parts)
        blocks = codec_blocks.decode_blocks(self.model.audio_encoder, codes)
        while True:
            with sampling.inference_mode(self.model.audio_encoder):
                block = next(blocks, None)
            if block is None:
                return
            yield block.float().cpu().numpy()

    def _codes_by_channel(self, tokens: np.ndarray) -> torch.Tensor:  # int64 [C, K / C, T]
        if tokens.ndim != 2 or tokens.shape[0] != self.codebooks:
            raise TalimError(f"tokens {tokens.shape} arrived; {self.name} has [{self.codebooks}, frames]")
        codes = torch.from_numpy(tokens.astype(np.int64)).to(self.device)
        return codes.reshape(-1, self.channels, codes.shape[-1]).transpose(0, 1)

    def encode_text(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Prompts -> text-encoder states, float32 [L, D]; a state of zeros, which is masked, for an empty one."""
        states = super().encode_text(prompts)
        return [row if prompt.strip() else np.zeros_like(row) for prompt, row in zip(prompts, states, strict=True)]

    def collate(self, items: Sequence[Item], drop: Sequence[bool]) -> Batch:
        """Pad clips to one batch; no text and a dropped condition are an attention mask of zeros, as in guidance."""
        frames, length = max(item[0].shape[1] for item in items), max(item[1].shape[0] for item in items)
        targets = torch.zeros(len(items), self.codebooks, frames, dtype=torch.int64)
        target_mask = torch.zeros(len(items), frames, dtype=torch.bool)
        states = torch.zeros(len(items), length, items[0][1].shape[1])
        states_mask = torch.zeros(len(items), length, dtype=torch.bool)
        for row, ((tokens, text, *_), dropped) in enumerate(zip(items, drop, strict=True)):
            targets[row, :, : tokens.shape[1]] = torch.from_numpy(tokens.astype(np.int64))
            target_mask[row, : tokens.shape[1]] = True
            states[row, : text.shape[0]] = torch.from_numpy(np.array(text, dtype=np.float32))
            states_mask[row, : text.shape[0]] = not dropped and bool(text.any())
        return Batch(targets, target_mask, states, states_mask)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits at each step of the delayed sequence, [B, K, T + max delay, V]."""
        steps = self._steps(batch)
        output = self.model(
            encoder_outputs=(batch.states,),
            attention_mask=batch.states_mask.long(),
            decoder_input_ids=steps.reshape(-1, steps.shape[-1]),
            use_cache=False,
        )
        return output.logits.view(*steps.shape, -1)

    def loss(self, batch: Batch) -> Loss:
        """Mean over codebooks of the cross-entropy over valid positions, in nats."""
        logits = self._logits_by_codebook(batch)
        losses = delay_pattern.cross_entropy(logits, batch.targets, batch.target_mask, self.delays)
        return Loss(losses.parts.mean(), losses.parts, self.validation_terms, *losses[1:])

    def _logits_by_codebook(self, batch: Batch) -> torch.Tensor | Iterable[torch.Tensor]:
        if not isinstance(batch, CachedBatch):
            return self.logits(batch)
        hidden = partial_forward.forward_trained(self.model, batch)
        return (head(hidden) for head in self.model.decoder.lm_heads)  # one head at a time, to save memory

    def frozen_activation_shape(self, frames: int, text_tokens: int = 0) -> tuple[int, int]:
        """Steps of the delayed sequence and the decoder's width."""
        return frames + max(self.delays), int(self.config.decoder.hidden_size)

    def frozen_activations(self, batch: Batch, layers: int) -> torch.Tensor:
        """Output of the first `layers` layers, [B, S, D], in the decoder's dtype, before any adapter there."""
        return partial_forward.forward_frozen(self.model, self._steps(batch), batch, layers)

    def _steps(self, batch: Batch) -> torch.Tensor:
        """Decoder input, int64 [B, K, S], without the last step, which predicts a code beyond the clip."""
        steps = delay_pattern.apply_delay_pattern(batch.targets, self.special_token, self.delays, batch.target_mask)
        return steps[..., :-1]

    def generate_each(self, *arguments: Any, **options: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Index and codec tokens int16 [K, T] of a clip per prompt, as soon as each is there: see `generate_parts`."""
        for index, tokens, _ in self.generate_parts(*arguments, part_frames=math.inf, **options):
            yield index, tokens

    def generate_parts(  # noqa: PLR0913
        self,
        prompts: Sequence[str],
        seconds: float | Sequence[float],
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        progress: Progress | None = None,
        beats_chords: Sequence[BeatsAndChords] | None = None,
        start: Sequence[np.ndarray] | np.ndarray | None = None,  # int16 [K, P] for each
        melody: Sequence[np.ndarray | None] | None = None,
        part_frames: float = PART_FRAMES,
        **other_options: Any,
    ) -> Iterator[tuple[int, np.ndarray, bool]]:
        """Codec tokens of a clip per prompt, of any lengths: index, tokens int16 [K, n], whether they are the last.

        They are given out as soon as `part_frames` are there. Beyond the window, each window continues an overlap. A
        clip is determined by its prompt and seed, whatever stands beside it; row i has the seed `seed` + i, or one of
        several. With `start` the tokens go on from these.
        UsageError for beats, chords and options of other families.
        """
        generation_options.resolve_family_options(self.family, self.name, other_options)
        generation_options.check_beats_chords(self.family, self.name, beats_chords)
        generation_options.check_melody(self.melody_rate_hz > 0, self.name, melody)
        if not any(prompt.strip() for prompt in prompts) and all(row is None for row in melody or ()):
            guidance_scale = min(guidance_scale, 1.0)  # nothing to be guided to: the second pass would give the same
        lengths = [seconds] * len(prompts) if isinstance(seconds, int | float) else list(seconds)
        seeds = generation_options.clip_seeds(seed, len(prompts))
        options = sampling.SamplingOptions(max(lengths), min(seeds), guidance_scale, temperature, top_k)
        empty = np.zeros((self.codebooks, 0), np.int16)
        given = [torch.from_numpy(row.astype(np.int64)) for row in ([empty] * len(prompts) if start is None else start)]
        windows = [
            sampling.split_into_windows(length, self.frame_rate_hz, self.window_seconds, row.shape[-1])
            for length, row in zip(lengths, given, strict=True)
        ]
        pieces = list(zip(windows, seeds, given, strict=True))
        left = [sum(window.new_frames for window in own) for own, *_ in pieces]
        try:
            for index, codes in self._decoded(prompts, melody, pieces, options, progress, part_frames):
                left[index] -= codes.shape[1]
                yield index, codes.astype(np.int16), left[index] == 0
        except decoding.UnsupportedError as reason:
            log_once(f"{self.name}: decoded by transformers, one piece after the other, as {reason}")
            for index, codes in self._decoded_by_transformers(prompts, melody, pieces, options, progress):
                yield index, codes, True

    def _decoded(
        self,
        prompts: Sequence[str],
        melody: Sequence[np.ndarray | None] | None,
        pieces: Sequence[tuple[Any, int, torch.Tensor]],
        options: sampling.SamplingOptions,
        progress: Progress | None,
        part_frames: float,
    ) -> Iterator[tuple[int, np.ndarray]]:
        with sampling.inference_mode(self.model):
            decoder = self._decoder()
            kept, self._kept_decoder = self._kept_decoder, None  # between two parts, another call gets its own
            try:
                conditions = self._piece_conditions(prompts, melody, options.guidance_scale > 1)
                every = [
                    decoding.Piece(windows, seed, start, **own)
                    for (windows, seed, start), own in zip(pieces, conditions, strict=True)
                ]
                steps = max(decoding.steps_of(piece, self.delays) for piece in every)
                rows = decoding.rows_that_fit(decoder, steps, len(every), options.guidance_scale > 1)
                fixed = (decoder, every, rows, options, self.delays, self.special_token)
                yield from decoding.decode_pieces(*fixed, report=progress, part_frames=part_frames)
            finally:
                if not self.model.training:  # which needs its memory
                    self._kept_decoder = kept

    def _decoder(self) -> decoding.Decoder:
        """The decoder with the present adapters; read again only where weights, adapters or scales have changed."""
        key = self.int8, decoding.state_of(self.model.decoder)
        if self._kept_decoder is None or self._kept_decoder[0] != key:
            self._kept_decoder = None  # not two at a time
            self._kept_decoder = (key, decoding.Decoder(self.model, int8=self.int8))
        return self._kept_decoder[1]

    def _piece_conditions(
        self, prompts: Sequence[str], melody: Sequence[np.ndarray | None] | None, guided: bool
    ) -> list[dict[str, Any]]:
        """What the decoder hears of each prompt, as `Piece` names it; with guidance beside the null condition."""
        distinct = list(dict.fromkeys(prompts))
        states = {
            prompt: self._text_states(torch.from_numpy(text), bool(prompt.strip()))
            for prompt, text in zip(distinct, self.encode_text(distinct), strict=True)
        }
        longest = max(len(text) for text in states.values())
        conditions = []
        for prompt in prompts:
            text = states[prompt]
            there = (torch.arange(longest, device=text.device) < len(text)) & bool(prompt.strip())
            padded = torch.nn.functional.pad(text, (0, 0, 0, longest - len(text)))
            copies = [padded, torch.zeros_like(padded)][: 1 + guided]
            masks = [there, torch.zeros_like(there)][: 1 + guided]
            conditions.append({"text": torch.stack(copies), "text_mask": torch.stack(masks)})
        return conditions

    def _text_states(self, text: torch.Tensor, has_words: bool) -> torch.Tensor:  # [L, D]
        """What arrives at the decoder's layers of one prompt's text states [L, E], through the model's own calls."""
        caught: list[torch.Tensor] = []

        def catch(module: Any, args: Any, named: Mapping[str, Any]) -> None:
            caught.append(named["encoder_hidden_states"])
            raise _TextArrived

        mask = torch.full((1, len(text)), int(has_words), device=self.device)
        ids = torch.full((self.codebooks, 1), self.special_token, device=self.device)
        handle = self.model.decoder.register_forward_pre_hook(catch, with_kwargs=True)
        try:
            with torch.no_grad():
                states = (text[None].to(self.device),)
                self.model(encoder_outputs=states, attention_mask=mask, decoder_input_ids=ids, use_cache=False)
        except _TextArrived:
            pass
        finally:
            handle.remove()
        return caught[0][0]

    def _decoded_by_transformers(
        self,
        prompts: Sequence[str],
        melody: Sequence[np.ndarray | None] | None,
        pieces: Sequence[tuple[Any, int, torch.Tensor]],
        options: sampling.SamplingOptions,
        progress: Progress | None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """One piece after the other, each alone, so that it does not depend on the others."""
        for index, (prompt, (windows, seed, start)) in enumerate(zip(prompts, pieces, strict=True)):
            own = None if melody is None else [melody[index]]
            codes = sampling.generate_codes(
                self.model,
                self._conditions([prompt], own, options.guidance_scale > 1),
                1,
                windows,
                replace(options, seed=seed),
                self.delays,
                sampling.part_of(progress, index, len(pieces)),
                start[None].to(self.device),
            )
            yield index, codes[0].to(torch.int16).cpu().numpy()

    def _conditions(
        self, prompts: Sequence[str], melody: Sequence[np.ndarray | None] | None, guided: bool
    ) -> Callable[[int], Mapping[str, Any]]:
        """What `generate()` is given for the window that begins at a frame; the text is the same in each."""
        ids, mask = self._tokenize(prompts)
        mask = mask * torch.tensor([[bool(prompt.strip())] for prompt in prompts], device=mask.device)
        return lambda _: {"input_ids": ids, "attention_mask": mask}

    def context_seconds(self, phrase_seconds: float) -> float:
        """The end of a phrase that generation goes on from: whole frames, at most a window."""
        frames = int(phrase_seconds * self.frame_rate_hz + 1e-6)
        return sampling.context_frames(frames, self.frame_rate_hz, self.window_seconds) / self.frame_rate_hz

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
        """`seconds` of music that go on from the end of each phrase; see `Backbone`.

        A phrase is resampled and cross-faded into the decoding of its own last tokens. UsageError for a phrase
        shorter than a frame of the codec, and for a `strength`, which is for diffusion models.
        """
        generation_options.check_strength(self.family, self.name, strength)
        given = {id(phrase): phrase for phrase in phrases}
        ends = {key: self._tokens_of_end(phrase) for key, phrase in given.items()}
        start = [ends[id(phrase)] for phrase in phrases]
        pieces = StreamedPieces(self.generate_parts(prompts, seconds, seed, start=start, **options), len(prompts))
        for row in pieces.each():
            if not under_way:
                pieces.complete(row)
            kept = phrases[row] if keep_phrase else None
            blocks = partial(self._joined, kept, start[row], partial(pieces.parts_of, row), seconds[row])
            yield row, AudioStream(blocks, self.rate_hz, self.channels)

    def _tokens_of_end(self, phrase: Audio) -> np.ndarray:  # int16 [K, P]
        """Tokens of the end of a phrase that its continuation hears."""
        own = phrase.resample(self.rate_hz).to_channels(self.channels)
        per_frame = round(self.rate_hz / self.frame_rate_hz)
        context = round(self.context_seconds(own.frames / self.rate_hz) * self.frame_rate_hz)
        if not context:
            raise UsageError(
                f"the phrase is {phrase.seconds:.3f} s long; {self.name} goes on from "
                f"{per_frame / self.rate_hz:g} s or more"
            )
        # whole frames that end with the phrase: the codec would fill a last, broken frame with silence
        return self.encode(Audio(own.samples[:, -context * per_frame :], self.rate_hz))

    def _joined(
        self, kept: Audio | None, start: np.ndarray, parts: Callable[[], Iterable[np.ndarray]], seconds: float
    ) -> Iterator[np.ndarray]:
        """Blocks of a phrase, if it is kept, and of what goes on from its last tokens `start`.

        The phrase is resampled once more, so that many that wait need no memory for it.
        """
        own = np.zeros((self.channels, 0), np.float32)
        if kept is not None:
            own = kept.resample(self.rate_hz).to_channels(self.channels).samples
        shared = start.shape[1] * round(self.rate_hz / self.frame_rate_hz)
        decoded = self.decode_parts(itertools.chain([start], parts()))
        yield from continuation.join(own, decoded, shared, round(seconds * self.rate_hz), self.rate_hz)

    def sites(self) -> tuple[Site, ...]:
        """The conditioner, every decoder layer in order of depth, and post."""
        return MusicGenShape.of(self.config).sites()

    def predict_beats_chords(
        self, prompts: Sequence[str], given: Sequence[BeatsAndChords] | None = None
    ) -> list[BeatsAndChords]:
        """UsageError: the model is conditioned on text only."""
        raise generation_options.unsupported_conditioning_error(self.name)

    def enable_training(self, gradient_checkpointing: bool = False, loss_weighting: str | None = None) -> None:
        """Training mode with dropout 0 in the frozen layers and no cache; codec and text encoder stay in eval mode."""
        generation_options.loss_weighting(self.family, self.name, loss_weighting)
        self._kept_decoder = None  # training needs its memory
        self.model.train()
        self.model.text_encoder.eval()
        self.model.audio_encoder.eval()
        partial_forward.disable_dropout(self.model.decoder)
        self.config.decoder.use_cache = False
        with warnings.catch_warnings():
            # renamed in transformers 5.23
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
            if gradient_checkpointing:
                self.model.decoder.gradient_checkpointing_enable({"use_reentrant": False})
            else:
                self.model.decoder.gradient_checkpointing_disable()


class _TextArrived(Exception):  # noqa: N818  (no error: it ends a call of the model where the decoder begins)
    """The text states are where the decoder gets them."""


def _freeze_and_configure(model: Any, special: int) -> None:
    """Freeze all weights, and set the special tokens that generate() reads."""
    model.requires_grad_(False)
    model.eval()
    config = model.generation_config
    config.pad_token_id = config.bos_token_id = config.decoder_start_token_id = special
    config.eos_token_id = None
    model.config.decoder.decoder_start_token_id = special
    sampling.match_precision(model)
    model.text_encoder.register_forward_pre_hook(_unmask_empty_rows, with_kwargs=True)


def _unmask_empty_rows(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    """Let the text encoder read rows that are masked throughout, as some attention kernels make NaN of them.

    The decoder, which gets the same mask, does not hear them.
    """
    mask = named.get("attention_mask")
    if mask is not None:
        named = named | {"attention_mask": torch.where(mask.any(dim=-1, keepdim=True), mask, torch.ones_like(mask))}
    return arguments, named


def _fingerprint_facts(model: Any) -> dict[str, Any]:
    """Facts that the weights do not contain; no paths, versions or dtypes."""
    decoder, codec = model.config.decoder, model.config.audio_encoder
    names = ("num_attention_heads", "audio_channels", "activation_function", "scale_embedding", "vocab_size")
    facts = {name: getattr(decoder, name) for name in names}
    melody = ("num_chroma", "chroma_length")
    facts |= {name: getattr(model.config, name) for name in melody if hasattr(model.config, name)}
    facts |= {"codec": codec.model_type, "rate_hz": codec.sampling_rate, "frame_rate_hz": codec.frame_rate}
    return facts
