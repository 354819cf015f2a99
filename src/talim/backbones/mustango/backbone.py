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
from talim.backbones import fingerprint, options, sampling
from talim.backbones.backbone import Batch, Loss
from talim.backbones.mustango import diffusion, objective
from talim.backbones.mustango.batch import LatentBatch, MusicalItem, collate, music_tokens, padded
from talim.backbones.mustango.music import check, nearest
from talim.backbones.mustango.objective import HELD_OUT_LEVELS
from talim.errors import TalimError, UsageError
from talim.music import Music

if TYPE_CHECKING:
    from talim.backbones.backbone import Progress
    from talim.backbones.mustango.audio import Sound
    from talim.backbones.mustango.model import MustangoModel
    from talim.backbones.mustango.predictors import Predictors
    from talim.designs.sites import Site


WINDOW_SECONDS = 10.24  # what the released model was trained on
LONGEST_SECONDS = 60.0  # attention grows with the square of the length
MOST_WORDS = 512


class Mustango:
    """A `MustangoModel` with its sound behind the Backbone Protocol; the model is changed in place."""

    family = "mustango"
    channels = 1
    codebooks = 0  # its targets are latents, not tokens
    targets = "latents"
    loss_unit = "squared error"
    hears_music = True
    transformers_class = ""
    held_out_parts = tuple(f"noise level {level}" for level in HELD_OUT_LEVELS)

    def __init__(
        self,
        model: MustangoModel,
        sound: Sound,
        tokenizer: Callable[..., Any],
        *,
        name: str,
        licence: str,
        predictors: Callable[[], Predictors] | None = None,
        miniature: bool = False,
        precision_reason: str = "fp32",
        weighting: str = "v",
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self.model, self.sound, self.tokenizer = model, sound, tokenizer
        vars(model)["name_or_path"] = name  # what PEFT stores with an adapter: a folder's path helps no one
        self.name, self.licence, self.miniature = name, licence, miniature
        self.precision_reason, self.window_seconds = precision_reason, window_seconds
        self.weighting = weighting
        self._find_predictors, self._predictors = predictors, None
        self.schedule = diffusion.scheduler("ddpm")
        for part in (model, sound):
            part.requires_grad_(False).eval()
        facts = {"unet": asdict(model.unet.config), "rate_hz": self.rate_hz, "mel": asdict(sound.mel.config)}
        self.fingerprint = fingerprint.of_weights(nn.ModuleList([model, sound]), facts)
        self.codec_identity = fingerprint.of_weights(sound, {"mel": facts["mel"]}, exact=True)
        # the same words must become the same numbers, so a tokenizer's answer is part of the name
        probe = {"probe": fingerprint.words_in(tokenizer)}
        self.text_identity = fingerprint.of_weights(model.text_encoder, probe, exact=True)
        self.parameters = model.own_parameters

    @cached_property
    def null_states(self) -> np.ndarray:
        """What the text encoder says of no words: the null of guidance, float32 [L, D]."""
        return self.describe([""])[0]

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
        mel = self.sound.spectrogram(samples, frames * self.sound.shrinkage)
        latents = self.sound.scaled(self.sound.posterior(mel[:, None]).mean)
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
        wave = self.sound.wave_of(self.sound.mel_of(latents[None]))[0].cpu().numpy()
        return Audio(wave[: tokens.shape[1] * self.sound.samples_per_frame][None], self.rate_hz)

    def describe(self, prompts: Sequence[str]) -> list[np.ndarray]:
        """Prompts -> text-encoder states, float32 [L, D]; each alone, so that none depends on its batch."""
        made: dict[str, np.ndarray] = {}
        for prompt in dict.fromkeys(prompts):
            ids, mask = self._tokenize(prompt)
            with torch.no_grad(), sampling.inference(self.model.text_encoder):
                made[prompt] = self.model.words(ids, mask)[0].float().cpu().numpy()
        return [made[prompt] for prompt in prompts]

    def collate(self, items: Sequence[MusicalItem], drop: Sequence[bool]) -> LatentBatch:
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
            names, looks = ("velocity",), [self._weighted(batch, *objective.drawn(batch))]
        else:
            names = self.held_out_parts
            looks = [self._errors(batch, *objective.fixed(batch, level)) for level in HELD_OUT_LEVELS]
        per_item = torch.stack([errors for errors, _ in looks], dim=1)  # [B, K]
        per_frame = torch.stack([frames for _, frames in looks]).mean(dim=0)
        parts = per_item.mean(dim=0)
        count = torch.tensor(len(per_item), device=per_item.device)
        return Loss(parts.mean(), parts, names, per_item.detach(), per_frame, count)

    def velocity_loss(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> Tensor:
        """Weighted loss of each clip, float32 [B], at its level int64 [B] with this noise [B, C, T, F]."""
        return self._weighted(batch, levels, noise)[0]

    def _weighted(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        errors, per_frame = self._errors(batch, levels, noise)
        weights = diffusion.weights(self.schedule.alphas_cumprod, levels, self.weighting)
        return errors * weights, per_frame * weights[:, None]

    def _errors(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return objective.velocity_errors(self.model, self.schedule, batch, levels, noise)

    def generate(
        self, prompts: Sequence[str], seconds: float, seed: int, guidance: float = 3.0, **asked: Any
    ) -> list[Audio]:
        """One piece of `seconds` per prompt; all arguments as in `generate_tokens`."""
        latents = self.generate_tokens(prompts, seconds, seed, guidance, **asked)
        return [self.decode(row).cut(0, seconds) for row in latents]

    @torch.no_grad()
    def generate_tokens(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int,
        guidance: float = 3.0,
        *,
        progress: Progress | None = None,
        music: Sequence[Music] | None = None,
        predict: bool = False,
        **asked: Any,
    ) -> np.ndarray:  # float32 [B, C, T, F]
        """As `generate`, before the VAE: latents of at least `seconds`, each piece with a seed of its own.

        `music` gives every prompt its beats and chords, `predict` lets the checkpoint's networks guess what is not
        given; without either they are empty. `asked` may have `steps` and `sampler`; `progress` counts steps.
        """
        wanted = options.settled(self.family, self.name, {"guidance": guidance, **asked})
        _check_wishes(seconds, guidance)
        music = self._heard(prompts, music, predict)
        shape = (self.sound.channels, self._frames(seconds), self.sound.bands)
        sources = diffusion.generators(seed, len(prompts))
        noise = diffusion.initial_noise(shape, sources, self.device)
        with sampling.inference(self.model):
            latents = diffusion.denoise(
                diffusion.guided(self._velocity(prompts, music, guidance), guidance),
                noise,
                wanted["steps"],
                diffusion.scheduler(wanted["sampler"]),
                sources,
                progress,
            )
        return latents.cpu().numpy()

    def _heard(self, prompts: Sequence[str], music: Sequence[Music] | None, predict: bool) -> Sequence[Music]:
        """Beats and chords of every prompt, checked."""
        music = [Music()] * len(prompts) if music is None else music
        if len(music) != len(prompts):
            raise UsageError(f"{len(prompts)} prompts with the beats and chords of {len(music)} pieces")
        return [check(one) for one in (self.predict_music(prompts, music) if predict else music)]

    def _frames(self, seconds: float) -> int:
        """Latent frames that hold a length and can be halved down to the coarsest level."""
        coarsest = 2 ** (self.model.unet.config.levels - 1)
        return math.ceil(seconds * self.rate_hz / self.sound.samples_per_frame / coarsest - 1e-9) * coarsest

    def _velocity(self, prompts: Sequence[str], music: Sequence[Music], guidance: float) -> diffusion.Predict:
        """The model with its conditions filled in; with guidance, rows without any condition come first."""
        free = 0 if guidance == 1 else len(prompts)
        states, mask = padded([self.null_states] * free + self.describe(prompts))
        beats, chords = music_tokens([Music()] * free + list(music))
        held = [part.to(self.device) for part in (states, mask, beats, chords)]
        return lambda latents, levels: self.model(latents, levels, *held)

    def prefix_shape(self, frames: int) -> tuple[int, int]:
        """(0, 0): noise is drawn anew at each step, so nothing in the U-Net is the same twice."""
        return 0, 0

    def prefix(self, batch: Batch, layers: int) -> torch.Tensor:
        """TalimError: there is none."""
        raise TalimError(
            f"{self.name}: a U-Net has no prefix to keep, as its input is noise drawn at each step"
        )

    def nearest_music(self, music: Sequence[Music]) -> list[Music]:
        """What it can hear of recordings' beats and chords."""
        return [nearest(one) for one in music]

    def predict_music(self, prompts: Sequence[str], given: Sequence[Music] | None = None) -> list[Music]:
        """Beats and chords that the checkpoint's own networks guess for prompts; what is given is kept."""
        if self._predictors is None:
            if self._find_predictors is None:
                raise TalimError(
                    f"{self.name} has no networks that predict beats and chords; give them yourself"
                )
            self._predictors = self._find_predictors()
        made = []
        for prompt, known in zip(prompts, given or [Music()] * len(prompts), strict=True):
            beats = known.beats or self._predictors.beats(prompt)
            made.append(Music(beats, known.chords or self._predictors.chords(prompt, beats)))
        return made

    def sites(self) -> tuple[Site, ...]:
        """Between text and U-Net, and after the three attentions of every site, in the order of the signal."""
        return self.model.sites()

    @property
    def options(self) -> Mapping[str, Any]:
        """What `generate` can be asked by name, and the usual values."""
        return options.OPTIONS[self.family]

    def enable_training(self, gradient_checkpointing: bool = False, weighting: str | None = None) -> None:
        """Training mode for what is trained on top; the frozen text encoder stays free of dropout.

        `weighting` is how noise levels are weighted from now on; None leaves it as it is.
        """
        if weighting is not None:
            self.weighting = options.weighting(self.family, self.name, weighting) or self.weighting
        self.model.train()
        self.model.text_encoder.eval()
        self.model.unet.set_checkpointing(gradient_checkpointing)

    def _tokenize(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 [1, L]."""
        words = self.tokenizer([prompt], max_length=MOST_WORDS, truncation=True, return_tensors="pt")
        return words["input_ids"].to(self.device), words["attention_mask"].to(self.device)


def _check_wishes(seconds: float, guidance: float) -> None:
    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST_SECONDS):
        raise UsageError(
            f"length {seconds} s is out of range; Mustango makes up to {LONGEST_SECONDS:g} s at once, and knows "
            f"pieces of {WINDOW_SECONDS:g} s best"
        )
    if not (math.isfinite(guidance) and guidance >= 1):
        raise UsageError(f"guidance {guidance} is out of range; 1 is none, 3 is usual")
