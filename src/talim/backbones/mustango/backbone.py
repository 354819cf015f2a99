"""Mustango as a frozen base model: latents in, loss and music out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from talim.audio import Audio
from talim.backbones import fingerprint, generation_options
from talim.backbones.musicgen import sampling
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.batch import EncodedExample, LatentBatch, beat_chord_tokens, collate, pad_states
from talim.backbones.mustango.beat_chord_vocabulary import check_vocabulary, snap_to_vocabulary
from talim.backbones.mustango.diffusion import VALIDATION_TIMESTEPS
from talim.backbones.protocol import Batch, Loss
from talim.beats_chords import BeatsAndChords
from talim.errors import TalimError, UsageError

if TYPE_CHECKING:
    from talim.backbones.mustango.beat_chord_predictors import BeatChordPredictors
    from talim.backbones.mustango.model import MustangoModel
    from talim.backbones.mustango.vae_vocoder import MelVAE
    from talim.backbones.protocol import Progress
    from talim.designs.musicgen_sites import Site


WINDOW_SECONDS = 10.24  # what the released model was trained on
MAX_SECONDS = 60.0  # attention grows with the square of the length
MAX_TEXT_TOKENS = 512


class Mustango:
    """A `MustangoModel` with its sound behind the Backbone Protocol; the model is changed in place."""

    family = "mustango"
    channels = 1
    codebooks = 0  # its targets are latents, not tokens
    target_kind = "latents"
    loss_unit = "squared error"
    accepts_beats_chords = True
    transformers_class = ""
    validation_terms = tuple(f"noise level {level}" for level in VALIDATION_TIMESTEPS)

    def __init__(
        self,
        model: MustangoModel,
        sound: MelVAE,
        tokenizer: Callable[..., Any],
        *,
        name: str,
        licence: str,
        predictors: Callable[[], BeatChordPredictors] | None = None,
        miniature: bool = False,
        precision_reason: str = "fp32",
        loss_weighting: str = "min_snr_v",
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self.model, self.sound, self.tokenizer = model, sound, tokenizer
        vars(model)["name_or_path"] = name  # what PEFT stores with an adapter: a folder's path helps no one
        self.name, self.licence, self.miniature = name, licence, miniature
        self.precision_reason, self.window_seconds = precision_reason, window_seconds
        self.loss_weighting = loss_weighting
        self._find_predictors, self._predictors = predictors, None
        self.schedule = diffusion.make_scheduler("ddpm")
        for part in (model, sound):
            part.requires_grad_(False).eval()
        facts = {"unet": asdict(model.unet.config), "rate_hz": self.rate_hz, "mel": asdict(sound.mel.config)}
        self.fingerprint = fingerprint.hash_weights(nn.ModuleList([model, sound]), facts)
        self.codec_hash = fingerprint.hash_weights(sound, {"mel": facts["mel"]}, exact=True)
        # the same words must become the same numbers, so a tokenizer's answer is part of the name
        probe = {"probe": fingerprint.probe_tokens(tokenizer)}
        self.text_encoder_hash = fingerprint.hash_weights(model.text_encoder, probe, exact=True)
        self.num_parameters = model.own_parameters

    @cached_property
    def null_states(self) -> np.ndarray:
        """What the text encoder says of no words: the null of guidance, float32 [L, D]."""
        return self.encode_text([""])[0]

    @property
    def rate_hz(self) -> int:
        """Sample rate of the vocoder."""
        return self.sound.rate_hz

    @property
    def frame_rate_hz(self) -> float:
        """Latent frames per second: 25 in the released model, and no whole number in every miniature."""
        return self.rate_hz / self.sound.samples_per_frame

    @property
    def device(self) -> torch.device:
        """Where the U-Net is."""
        return self.model.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the U-Net computes in; everything else stays in float32."""
        return self.model.unet.conv_in.weight.dtype

    @torch.no_grad()
    def encode(self, audio: Audio) -> np.ndarray:
        """Audio of any rate and channels -> scaled latents, float32 [C, T, F]: the posterior's mean.

        The recording is centred and brought to a peak of 0.5, and silence is added up to a whole frame.
        """
        samples = audio.resample(self.rate_hz).to_channels(1).samples[0]
        frames = max(1, math.ceil(samples.size / self.sound.samples_per_frame))
        mel = self.sound.spectrogram(samples, frames * self.sound.downsampling_factor)
        latents = self.sound.scale_latents(self.sound.posterior(mel[:, None]).mean)
        return latents[0].float().cpu().numpy()

    @torch.no_grad()
    def decode(self, tokens: np.ndarray) -> Audio:
        """Scaled latents [C, T, F] -> audio [1, samples], `rate_hz / frame_rate_hz` samples a frame."""
        expected = (self.sound.channels, self.sound.bands)
        if tokens.ndim != 3 or (tokens.shape[0], tokens.shape[2]) != expected:
            raise TalimError(
                f"latents {tokens.shape} arrived; {self.name} has [{expected[0]}, frames, {expected[1]}]"
            )
        latents = torch.from_numpy(np.array(tokens, dtype=np.float32)).to(self.device)
        wave = self.sound.vocode(self.sound.decode_mel(latents[None]))[0].cpu().numpy()
        return Audio(wave[: tokens.shape[1] * self.sound.samples_per_frame][None], self.rate_hz)

    def encode_text(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Prompts -> text-encoder states, float32 [L, D]; each alone, so that none depends on its batch."""
        made: dict[str, np.ndarray] = {}
        for prompt in dict.fromkeys(prompts):
            ids, mask = self._tokenize(prompt)
            with torch.no_grad(), sampling.inference_mode(self.model.text_encoder):
                made[prompt] = self.model.words(ids, mask)[0].float().cpu().numpy()
        return [made[prompt] for prompt in prompts]

    def collate(self, items: Sequence[EncodedExample], drop: Sequence[bool]) -> LatentBatch:
        """Pad clips to one batch; a dropped condition is guidance's own null: no words, beats or chords."""
        return collate(items, drop, self.null_states)

    def loss(self, batch: Batch) -> Loss:
        """The squared error of the velocity, float32.

        In training each clip meets one noise level and noise from torch's generator, and levels are weighted; in
        evaluation every clip meets HELD_OUT_LEVELS, one part each, with noise that depends on nothing but the clip,
        unweighted, so that runs can be compared whatever they were trained with.
        """
        assert isinstance(batch, LatentBatch)
        if self.model.training:
            names, looks = (
                ("velocity",),
                [self._weighted_errors(batch, *diffusion.sample_noise_levels(batch))],
            )
        else:
            names = self.validation_terms
            looks = [
                self._errors(batch, *diffusion.fixed_noise_level(batch, level))
                for level in VALIDATION_TIMESTEPS
            ]
        per_item = torch.stack([errors for errors, _ in looks], dim=1)  # [B, K]
        per_frame = torch.stack([frames for _, frames in looks]).mean(dim=0)
        parts = per_item.mean(dim=0)
        count = torch.tensor(len(per_item), device=per_item.device)
        return Loss(parts.mean(), parts, names, per_item.detach(), per_frame, count)

    def velocity_loss(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> Tensor:
        """Weighted loss of each clip, float32 [B], at its level int64 [B] with this noise [B, C, T, F]."""
        return self._weighted_errors(batch, levels, noise)[0]

    def _weighted_errors(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        errors, per_frame = self._errors(batch, levels, noise)
        weights = diffusion.min_snr_weights(self.schedule.alphas_cumprod, levels, self.loss_weighting)
        return errors * weights, per_frame * weights[:, None]

    def _errors(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return diffusion.velocity_errors(self.model, self.schedule, batch, levels, noise)

    def generate(
        self, prompts: Sequence[str], seconds: float, seed: int, guidance_scale: float = 3.0, **asked: Any
    ) -> list[Audio]:
        """One piece of `seconds` per prompt; all arguments as in `generate_tokens`."""
        latents = self.generate_tokens(prompts, seconds, seed, guidance_scale, **asked)
        return [self.decode(row).cut(0, seconds) for row in latents]

    @torch.no_grad()
    def generate_tokens(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int,
        guidance_scale: float = 3.0,
        *,
        progress: Progress | None = None,
        beats_chords: Sequence[BeatsAndChords] | None = None,
        predict: bool = False,
        **asked: Any,
    ) -> np.ndarray:  # float32 [B, C, T, F]
        """As `generate`, before the VAE: latents of at least `seconds`, each piece with a seed of its own.

        `beats_chords` gives every prompt its beats and chords, `predict` lets the checkpoint's networks guess what is not
        given; without either they are empty. `asked` may have `sampling_steps` and `sampler`; `progress` counts steps.
        """
        wanted = generation_options.resolve_family_options(
            self.family, self.name, {"guidance_scale": guidance_scale, **asked}
        )
        _check_options(seconds, guidance_scale)
        beats_chords = self._conditions(prompts, beats_chords, predict)
        shape = (self.sound.channels, self._frames(seconds), self.sound.bands)
        sources = diffusion.make_generators(seed, len(prompts))
        noise = diffusion.initial_noise(shape, sources, self.device)
        with sampling.inference_mode(self.model):
            latents = diffusion.denoise(
                diffusion.with_guidance(self._velocity(prompts, beats_chords, guidance_scale), guidance_scale),
                noise,
                wanted["sampling_steps"],
                diffusion.make_scheduler(wanted["sampler"]),
                sources,
                progress,
            )
        return latents.cpu().numpy()

    def _conditions(
        self, prompts: Sequence[str], beats_chords: Sequence[BeatsAndChords] | None, predict: bool
    ) -> Sequence[BeatsAndChords]:
        """Beats and chords of every prompt, checked."""
        beats_chords = [BeatsAndChords()] * len(prompts) if beats_chords is None else beats_chords
        if len(beats_chords) != len(prompts):
            raise UsageError(f"{len(prompts)} prompts with the beats and chords of {len(beats_chords)} pieces")
        return [check_vocabulary(one) for one in (self.predict_beats_chords(prompts, beats_chords) if predict else beats_chords)]

    def _frames(self, seconds: float) -> int:
        """Latent frames that hold a length and can be halved down to the coarsest level."""
        coarsest = 2 ** (self.model.unet.config.levels - 1)
        return math.ceil(seconds * self.rate_hz / self.sound.samples_per_frame / coarsest - 1e-9) * coarsest

    def _velocity(
        self, prompts: Sequence[str], beats_chords: Sequence[BeatsAndChords], guidance_scale: float
    ) -> diffusion.VelocityPredictor:
        """The model with its conditions filled in; with guidance, rows without any condition come first."""
        free = 0 if guidance_scale == 1 else len(prompts)
        states, mask = pad_states([self.null_states] * free + self.encode_text(prompts))
        beats, chords = beat_chord_tokens([BeatsAndChords()] * free + list(beats_chords))
        held = [part.to(self.device) for part in (states, mask, beats, chords)]
        return lambda latents, levels: self.model(latents, levels, *held)

    def frozen_activation_shape(self, frames: int) -> tuple[int, int]:
        """(0, 0): noise is drawn anew at each step, so nothing in the U-Net is the same twice."""
        return 0, 0

    def frozen_activations(self, batch: Batch, layers: int) -> torch.Tensor:
        """TalimError: there is none."""
        raise TalimError(
            f"{self.name}: a U-Net has no prefix to keep, as its input is noise drawn at each step"
        )

    def snap_beats_chords(self, beats_chords: Sequence[BeatsAndChords]) -> list[BeatsAndChords]:
        """What it can hear of recordings' beats and chords."""
        return [snap_to_vocabulary(one) for one in beats_chords]

    def predict_beats_chords(
        self, prompts: Sequence[str], given: Sequence[BeatsAndChords] | None = None
    ) -> list[BeatsAndChords]:
        """Beats and chords that the checkpoint's own networks guess for prompts; what is given is kept."""
        if self._predictors is None:
            if self._find_predictors is None:
                raise TalimError(
                    f"{self.name} has no networks that predict beats and chords; give them yourself"
                )
            self._predictors = self._find_predictors()
        made = []
        for prompt, known in zip(prompts, given or [BeatsAndChords()] * len(prompts), strict=True):
            beats = known.beats or self._predictors.beats(prompt)
            made.append(BeatsAndChords(beats, known.chords or self._predictors.chords(prompt, beats)))
        return made

    def sites(self) -> tuple[Site, ...]:
        """Between text and U-Net, and after the three attentions of every site, in the order of the signal."""
        return self.model.sites()

    @property
    def options(self) -> Mapping[str, Any]:
        """What `generate` can be asked by name, and the usual values."""
        return generation_options.DEFAULT_OPTIONS[self.family]

    def enable_training(self, gradient_checkpointing: bool = False, loss_weighting: str | None = None) -> None:
        """Training mode for what is trained on top; the frozen text encoder stays free of dropout.

        `loss_weighting` is how noise levels are weighted from now on; None leaves it as it is.
        """
        if loss_weighting is not None:
            self.loss_weighting = (
                generation_options.loss_weighting(self.family, self.name, loss_weighting) or self.loss_weighting
            )
        self.model.train()
        self.model.text_encoder.eval()
        self.model.unet.set_checkpointing(gradient_checkpointing)

    def _tokenize(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 [1, L]."""
        words = self.tokenizer([prompt], max_length=MAX_TEXT_TOKENS, truncation=True, return_tensors="pt")
        return words["input_ids"].to(self.device), words["attention_mask"].to(self.device)


def _check_options(seconds: float, guidance_scale: float) -> None:
    if not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        raise UsageError(
            f"length {seconds} s is out of range; Mustango makes up to {MAX_SECONDS:g} s at once, and knows "
            f"pieces of {WINDOW_SECONDS:g} s best"
        )
    if not (math.isfinite(guidance_scale) and guidance_scale >= 1):
        raise UsageError(f"guidance_scale {guidance_scale} is out of range; 1 is none, 3 is usual")
