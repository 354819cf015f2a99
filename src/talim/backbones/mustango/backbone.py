"""Mustango as a frozen base model: latents, loss, generation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from talim.audio import Audio, AudioStream
from talim.backbones import fingerprint, generation_options
from talim.backbones.devices import CODEC_ARITHMETIC, full_float32
from talim.backbones.frozen_model import FrozenModel
from talim.backbones.musicgen import sampling
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.batch import EncodedExample, LatentBatch, beat_chord_tokens, collate, pad_states
from talim.backbones.mustango.beat_chord_vocabulary import check_vocabulary
from talim.backbones.mustango.diffusion import VALIDATION_TIMESTEPS
from talim.backbones.mustango.unet import SamplingMemory
from talim.backbones.protocol import Batch, Loss
from talim.beats_chords import BeatsAndChords
from talim.errors import TalimError, UsageError

if TYPE_CHECKING:
    from talim.backbones.mustango.beat_chord_predictors import BeatChordPredictors
    from talim.backbones.mustango.model import MustangoModel
    from talim.backbones.mustango.vae_vocoder import MelVAE
    from talim.backbones.protocol import Progress
    from talim.design.musicgen_sites import Site


WINDOW_SECONDS = 10.24  # of the released model
MAX_SECONDS = generation_options.MAX_VARIATION_SECONDS
BATCH_POSITIONS = 2**16  # of latents that the U-Net has at once: eight pieces of ten seconds of the released model


class Mustango(FrozenModel):
    """A `MustangoModel` with its VAE and vocoder as a Backbone; the model is configured in place."""

    family = "mustango"
    channels = 1
    codebooks = codebook_size = 0  # targets are latents
    target_kind = "latents"
    loss_unit = "squared error"
    accepts_beats_chords = True
    transformers_class = ""
    tokenizer_options: ClassVar = {"max_length": 512, "truncation": True}
    validation_terms = tuple(f"noise level {level}" for level in VALIDATION_TIMESTEPS)

    def __init__(  # noqa: PLR0913
        self,
        model: MustangoModel,
        mel_vae: MelVAE,
        tokenizer: Callable[..., Any],
        *,
        name: str,
        licence: str,
        predictors: Callable[[], BeatChordPredictors] | None = None,
        miniature: bool = False,
        precision_reason: str = "fp32",
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        super().__init__(model, tokenizer, name, licence, miniature, precision_reason)
        self.mel_vae, self.window_seconds, self.loss_weighting = mel_vae, window_seconds, "min_snr_v"
        self.rate_hz = mel_vae.rate_hz
        self.frame_rate_hz = self.rate_hz / mel_vae.samples_per_frame  # 25 in the released model, may be fractional
        self._load_predictors, self._predictors = predictors, None
        self.schedule = diffusion.make_scheduler("ddpm")
        for part in (model, mel_vae):
            part.requires_grad_(False).eval()
        facts = {"unet": asdict(model.unet.config), "rate_hz": self.rate_hz, "mel": asdict(mel_vae.mel.config)}
        self.fingerprint = fingerprint.hash_weights(nn.ModuleList([model, mel_vae]), facts)
        sound = {"mel": facts["mel"], "arithmetic": CODEC_ARITHMETIC}
        self.codec_hash = fingerprint.hash_weights(mel_vae, sound, exact=True)
        self.num_parameters = model.own_parameters

    @cached_property
    def null_states(self) -> np.ndarray:
        """Text-encoder states of the empty prompt, the unconditional input of guidance, float32 [L, D]."""
        return self.encode_text([""])[0]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the U-Net; everything else is float32."""
        return self.model.unet.conv_in.weight.dtype

    @torch.no_grad()
    def encode(self, audio: Audio) -> np.ndarray:
        """Audio of any sample rate and channels -> scaled latents, float32 [C, T, F]: the posterior's mean.

        The DC offset is removed, the peak is set to 0.5, and silence pads the last frame.
        """
        samples = audio.resample(self.rate_hz).to_channels(1).samples[0]
        frames = max(1, math.ceil(samples.size / self.mel_vae.samples_per_frame))
        with full_float32():
            mel = self.mel_vae.spectrogram(samples, frames * self.mel_vae.downsampling_factor)
            latents = self.mel_vae.scale_latents(self.mel_vae.posterior(mel[:, None]).mean)
        return latents[0].float().cpu().numpy()

    @torch.no_grad()
    def decode_blocks(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Scaled latents [C, T, F] -> blocks of audio [1, samples], `rate_hz / frame_rate_hz` samples per frame.

        The VAE, whose norms and attention go over the whole clip, has all of it at once, the vocoder one block.
        """
        expected = (self.mel_vae.channels, self.mel_vae.bands)
        if tokens.ndim != 3 or (tokens.shape[0], tokens.shape[2]) != expected:
            raise TalimError(f"latents {tokens.shape} arrived; {self.name} has [{expected[0]}, frames, {expected[1]}]")
        latents = torch.from_numpy(np.array(tokens, dtype=np.float32)).to(self.device)
        left = tokens.shape[1] * self.mel_vae.samples_per_frame  # the vocoder may add some
        for block in self.mel_vae.vocode_blocks(self.mel_vae.decode_mel(latents[None])):
            wave = block[:, :left].cpu().numpy()
            left -= wave.shape[1]
            yield wave

    def collate(self, items: Sequence[EncodedExample], drop: Sequence[bool]) -> LatentBatch:
        """Pad clips to one batch; a dropped condition is the empty prompt without beats and chords."""
        return collate(items, drop, self.null_states)

    def loss(self, batch: Batch) -> Loss:
        """Squared error of the velocity, float32.

        In training one random noise level per clip, with loss weighting; in evaluation all VALIDATION_TIMESTEPS, one
        part each, unweighted and with noise that depends only on the clip, so that runs can be compared.
        """
        assert isinstance(batch, LatentBatch)
        if self.model.training:
            names: tuple[str, ...] = ("velocity",)
            terms = [self._weighted_errors(batch, *diffusion.sample_noise_levels(batch))]
        else:
            names = self.validation_terms
            terms = diffusion.validation_errors(self.model, self.schedule, batch)
        per_item = torch.stack([errors for errors, _ in terms], dim=1)  # [B, K]
        per_frame = torch.stack([frames for _, frames in terms], dim=1)
        parts = per_item.mean(dim=0)
        count = torch.tensor(len(per_item), device=per_item.device)
        return Loss(parts.mean(), parts, names, per_item.detach(), per_frame, count)

    def _weighted_errors(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        errors, per_frame = diffusion.velocity_errors(self.model, self.schedule, batch, levels, noise)
        weights = diffusion.min_snr_weights(self.schedule.alphas_cumprod, levels, self.loss_weighting)
        return errors * weights, per_frame * weights[:, None]

    @torch.no_grad()
    def generate_each(  # noqa: PLR0913
        self,
        prompts: Sequence[str],
        seconds: float | Sequence[float],
        seed: int | Sequence[int],
        guidance_scale: float = 3.0,
        *,
        progress: Progress | None = None,
        beats_chords: Sequence[BeatsAndChords] | None = None,
        predict: bool = False,
        start: Sequence[np.ndarray] | np.ndarray | None = None,  # float32 [C, T, F] for each
        strength: float | None = None,
        **options: Any,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Index and latents float32 [C, T, F] of a clip per prompt, which is the same alone and beside others.

        Each has its own seed: `seed` and its index, or one of several. Clips of equal length are made together.
        `beats_chords` has one entry per prompt; `predict` fills missing beats and chords by the checkpoint's networks.
        With `start`, of the clip's length, variations of it: see `diffusion.denoise`.
        `options`: `sampling_steps`, `sampler`; `progress` counts sampling steps.
        """
        generation_options.check_melody(False, self.name, options.pop("melody", None))
        options = generation_options.resolve_family_options(
            self.family, self.name, {"guidance_scale": guidance_scale, **options}
        )
        lengths = [seconds] * len(prompts) if isinstance(seconds, int | float) else list(seconds)
        for length in lengths:
            _check_options(length, guidance_scale)
        generation_options.check_strength(self.family, self.name, strength)
        beats_chords = self._conditions(prompts, beats_chords, predict)
        if not any(prompt.strip() for prompt in prompts) and not any(beats_chords):
            options["guidance_scale"] = 1.0  # nothing to be guided to: the second pass would give the same
        generators = diffusion.make_generators(seed, len(prompts))
        batches = self._batches([self._frames(length) for length in lengths], options["guidance_scale"] > 1)
        for number, (frames, rows) in enumerate(batches):
            varied = None
            if start is not None:
                level = generation_options.DEFAULT_STRENGTH if strength is None else strength
                varied = diffusion.Start(
                    torch.from_numpy(np.stack([start[row] for row in rows])).to(self.device), level
                )
            own = [generators[row] for row in rows]
            velocity = self._velocity(
                [prompts[row] for row in rows], [beats_chords[row] for row in rows], options["guidance_scale"]
            )
            report = sampling.part_of(progress, number, len(batches))
            yield from zip(rows, self._sample(velocity, frames, own, options, varied, report), strict=True)

    def _batches(self, frames: Sequence[int], guided: bool) -> list[tuple[int, list[int]]]:
        """Frames and clips of every batch: clips of equal length, as many as BATCH_POSITIONS holds."""
        batches: list[tuple[int, list[int]]] = []
        for count in dict.fromkeys(frames):
            rows = [row for row, own in enumerate(frames) if own == count]
            size = max(1, BATCH_POSITIONS // (count * self.mel_vae.bands * (1 + guided)))
            batches += [(count, rows[first : first + size]) for first in range(0, len(rows), size)]
        return batches

    def _sample(
        self,
        velocity: diffusion.VelocityPredictor,
        frames: int,
        generators: Sequence[torch.Generator],
        options: Mapping[str, Any],
        varied: diffusion.Start | None,
        progress: Progress | None,
    ) -> np.ndarray:  # float32 [B, C, T, F]
        """One batch."""
        shape = (self.mel_vae.channels, frames, self.mel_vae.bands)
        with sampling.inference_mode(self.model):
            latents = diffusion.denoise(
                diffusion.with_guidance(velocity, options["guidance_scale"]),
                diffusion.initial_noise(shape, generators, self.device),
                options["sampling_steps"],
                diffusion.make_scheduler(options["sampler"]),
                generators,
                progress,
                varied,
            )
        return latents.cpu().numpy()

    def context_seconds(self, phrase_seconds: float) -> float:
        """All of a phrase: a variation is as long as the phrase."""
        return phrase_seconds

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
        """A variation of the first `seconds` of each phrase, which is not kept: see `diffusion.denoise`.

        The codec hears the phrase at a peak of 0.5; shorter ones are followed by silence.
        """
        pairs = [(id(phrase), length) for phrase, length in zip(phrases, seconds, strict=True)]
        given = dict(zip(pairs, phrases, strict=True))
        latents = {pair: self._latents_of_beginning(phrase, pair[1]) for pair, phrase in given.items()}
        start = [latents[pair] for pair in pairs]
        for row, varied in self.generate_each(prompts, seconds, seed, start=start, strength=strength, **options):
            yield row, self.stream(varied, seconds[row])

    def _latents_of_beginning(self, phrase: Audio, seconds: float) -> np.ndarray:  # float32 [C, T, F]
        """Latents of a phrase's first `seconds`, for a variation of that length."""
        samples = self._frames(seconds) * self.mel_vae.samples_per_frame
        own = phrase.resample(self.rate_hz).to_channels(1).cut(0, seconds).samples
        filled = np.pad(own[:, :samples], ((0, 0), (0, max(0, samples - own.shape[1]))))
        return self.encode(Audio(filled, self.rate_hz))

    def _conditions(
        self, prompts: Sequence[str], beats_chords: Sequence[BeatsAndChords] | None, predict: bool
    ) -> Sequence[BeatsAndChords]:
        """Checked beats and chords of every prompt."""
        beats_chords = [BeatsAndChords()] * len(prompts) if beats_chords is None else beats_chords
        if len(beats_chords) != len(prompts):
            raise UsageError(f"{len(prompts)} prompts with {len(beats_chords)} sets of beats and chords")
        if predict:
            beats_chords = self.predict_beats_chords(prompts, beats_chords)
        return [check_vocabulary(condition) for condition in beats_chords]

    def _frames(self, seconds: float) -> int:
        """Latent frames for a length, rounded up to a multiple of the U-Net's downsampling factor."""
        coarsest = 2 ** (self.model.unet.config.levels - 1)
        return math.ceil(seconds * self.rate_hz / self.mel_vae.samples_per_frame / coarsest - 1e-9) * coarsest

    def _velocity(
        self, prompts: Sequence[str], beats_chords: Sequence[BeatsAndChords], guidance_scale: float
    ) -> diffusion.VelocityPredictor:
        """The model as a function of latents and levels; with guidance, the unconditional rows come first."""
        unconditional = 0 if guidance_scale == 1 else len(prompts)
        states, mask = pad_states([self.null_states] * unconditional + self.encode_text(prompts))
        beats, chords = beat_chord_tokens([BeatsAndChords()] * unconditional + list(beats_chords))
        conditions = [part.to(self.device) for part in (states, mask, beats, chords)]
        memory = SamplingMemory()
        return lambda latents, levels: self.model(latents, levels, *conditions, memory)

    def frozen_activation_shape(self, frames: int, text_tokens: int = 0) -> tuple[int, int]:
        """(0, 0): the input noise differs in every step, so no activations are constant."""
        return 0, 0

    def frozen_activations(self, batch: Batch, layers: int) -> torch.Tensor:
        """TalimError: there is none."""
        raise TalimError(f"{self.name}: a U-Net has no constant activations, as its input noise differs in every step")

    def predict_beats_chords(
        self, prompts: Sequence[str], given: Sequence[BeatsAndChords] | None = None
    ) -> list[BeatsAndChords]:
        """Beats and chords predicted by the checkpoint's networks; `given` ones are kept."""
        if self._predictors is None:
            if self._load_predictors is None:
                raise TalimError(f"{self.name} has no networks that predict beats and chords; give beats and chords")
            self._predictors = self._load_predictors()
        predicted = []
        texts = [self.read_as(prompt) for prompt in prompts]
        for prompt, condition in zip(texts, given or [BeatsAndChords()] * len(prompts), strict=True):
            beats = condition.beats or self._predictors.beats(prompt)
            chords = condition.chords or self._predictors.chords(prompt, beats)
            predicted.append(BeatsAndChords(beats, chords))
        return predicted

    def sites(self) -> tuple[Site, ...]:
        """The conditioner, and the output of the three attentions of every site, in signal order."""
        return self.model.sites()

    def enable_training(self, gradient_checkpointing: bool = False, loss_weighting: str | None = None) -> None:
        """Training mode for adapters; the text encoder stays in eval mode. None keeps the loss weighting."""
        if weighting := loss_weighting and generation_options.loss_weighting(self.family, self.name, loss_weighting):
            self.loss_weighting = weighting
        self.model.train()
        self.model.text_encoder.eval()
        self.model.unet.set_checkpointing(gradient_checkpointing)


def _check_options(seconds: float, guidance_scale: float) -> None:
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise UsageError(
            f"length {seconds} s is out of range; Mustango generates up to {MAX_SECONDS:g} s at once and was trained "
            f"on clips of {WINDOW_SECONDS:g} s"
        )
    if not (math.isfinite(guidance_scale) and guidance_scale >= 1):
        raise UsageError(f"guidance_scale {guidance_scale} is out of range; 1 is off, 3 is the default")
