"""Mustango as a frozen base model: latents in, loss and music out."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from talim.audio import Audio
from talim.backbones import fingerprint, sampling
from talim.backbones.backbone import Batch, Loss
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.batch import LatentBatch, MusicalItem, collate, music_tokens, padded
from talim.backbones.mustango.music import Music
from talim.errors import TalimError, UsageError

if TYPE_CHECKING:
    from talim.backbones.backbone import Progress
    from talim.backbones.mustango.audio import Sound
    from talim.backbones.mustango.model import MustangoModel
    from talim.backbones.mustango.predictors import Predictors
    from talim.designs.sites import Site


WINDOW_SECONDS = 10.24  # what the released model was trained on
LONGEST_SECONDS = 60.0  # attention grows with the square of the length
HELD_OUT_LEVELS = (100, 300, 500, 700, 900)
MOST_WORDS = 512


class Mustango:
    """A `MustangoModel` with its sound behind the Backbone Protocol; the model is changed in place."""

    family = "mustango"
    channels = 1
    codebooks = 0  # its targets are latents, not tokens

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
        self.null_states = self.describe([""])[0]
        facts = {"unet": asdict(model.unet.config), "rate_hz": self.rate_hz, "mel": asdict(sound.mel.config)}
        self.fingerprint = fingerprint.of_weights(nn.ModuleList([model, sound]), facts)
        self.codec_identity = fingerprint.of_weights(sound, {"mel": facts["mel"]}, exact=True)
        # the same words must become the same numbers, so a tokenizer's answer is part of the name
        probe = {"probe": self._tokenize("Tempo 90, raga Bhūpālī")[0].tolist()}
        self.text_identity = fingerprint.of_weights(model.text_encoder, probe, exact=True)
        self.parameters = model.own_parameters

    @property
    def rate_hz(self) -> int:
        """Sample rate of the vocoder."""
        return self.sound.rate_hz

    @property
    def frame_rate_hz(self) -> float:
        """Latent frames per second."""
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
        """The weighted squared error of the velocity, float32.

        In training each clip meets one noise level and noise from torch's generator; in evaluation every
        clip meets HELD_OUT_LEVELS, one part each, with noise that depends on nothing but the clip.
        """
        assert isinstance(batch, LatentBatch)
        count = batch.targets.shape[0]
        if self.model.training:
            levels = torch.randint(diffusion.TRAINED_LEVELS, (count,)).to(self.device)
            noise = torch.randn(batch.targets.shape).to(self.device)
            columns, names = [self.velocity_loss(batch, levels, noise)], ("velocity",)
        else:
            names = tuple(f"noise level {level}" for level in HELD_OUT_LEVELS)
            columns = [self._fixed_loss(batch, level) for level in HELD_OUT_LEVELS]
        per_item = torch.stack(columns, dim=1)  # [B, K]
        parts = per_item.mean(dim=0)
        return Loss(parts.mean(), parts, names, per_item.detach())

    def velocity_loss(self, batch: LatentBatch, levels: Tensor, noise: Tensor) -> Tensor:
        """Weighted loss of each clip, float32 [B], at its level int64 [B] with this noise [B, C, T, F].

        Clips of one length go through the U-Net together and without padding, which it would attend to.
        """
        lengths = batch.target_mask.sum(dim=1)
        losses = torch.zeros(len(lengths), device=batch.targets.device)
        for frames in lengths.unique().tolist():
            picked = (lengths == frames).nonzero()[:, 0]
            some, at, added = batch.rows(picked, frames), levels[picked], noise[picked, :, :frames]
            noisy = self.schedule.add_noise(some.targets, added, at)
            target = self.schedule.get_velocity(some.targets, added, at)
            made = self.model(noisy, at, some.states, some.states_mask, some.beats, some.chords)
            losses = losses.index_copy(0, picked, diffusion.velocity_losses(made, target))
        return losses * diffusion.weights(self.schedule.alphas_cumprod, levels, self.weighting)

    def _fixed_loss(self, batch: LatentBatch, level: int) -> Tensor:
        noise = torch.zeros(batch.targets.shape)
        for row, (latents, valid) in enumerate(
            zip(batch.targets.cpu(), batch.target_mask.cpu(), strict=True)
        ):
            clip = latents[:, valid]
            source = torch.Generator().manual_seed(level * 2**32 + zlib.crc32(clip.numpy().tobytes()))
            noise[row, :, valid] = torch.randn(clip.shape, generator=source)
        levels = torch.full((len(noise),), level, device=self.device)
        return self.velocity_loss(batch, levels, noise.to(self.device))

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int,
        guidance: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        progress: Progress | None = None,
        **wishes: Any,
    ) -> list[Audio]:
        """One piece of `seconds` per prompt; `wishes` are those of `generate_tokens`."""
        latents = self.generate_tokens(
            prompts, seconds, seed, guidance, temperature, top_k, progress, **wishes
        )
        return [self.decode(row).cut(0, seconds) for row in latents]

    @torch.no_grad()
    def generate_tokens(
        self,
        prompts: Sequence[str],
        seconds: float,
        seed: int,
        guidance: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        progress: Progress | None = None,
        *,
        steps: int = 100,
        sampler: str = "ddpm",
        music: Sequence[Music] | None = None,
        predict: bool = False,
    ) -> np.ndarray:  # float32 [B, C, T, F]
        """As `generate`, before the VAE: latents of at least `seconds`, each piece with a seed of its own.

        `music` gives every prompt its beats and chords; `predict` lets the checkpoint's networks guess them;
        without either they are empty. `progress` counts steps.
        """
        _check_wishes(seconds, guidance, temperature, top_k)
        if music is None:
            music = [self.predict(prompt) if predict else Music() for prompt in prompts]
        if len(music) != len(prompts):
            raise UsageError(f"{len(prompts)} prompts with the beats and chords of {len(music)} pieces")
        coarsest = 2 ** (self.model.unet.config.levels - 1)
        frames = math.ceil(seconds * self.rate_hz / self.sound.samples_per_frame / coarsest - 1e-9) * coarsest
        shape = (self.sound.channels, frames, self.sound.bands)
        sources = diffusion.generators(seed, len(prompts))
        noise = diffusion.initial_noise(shape, sources, self.device)
        with sampling.inference(self.model):
            latents = diffusion.denoise(
                diffusion.guided(self._velocity(prompts, music, guidance), guidance),
                noise,
                steps,
                diffusion.scheduler(sampler),
                sources,
                progress,
            )
        return latents.cpu().numpy()

    def _velocity(self, prompts: Sequence[str], music: Sequence[Music], guidance: float) -> diffusion.Predict:
        """The model with its conditions filled in; with guidance, rows without any condition come first."""
        free = 0 if guidance == 1 else len(prompts)
        states, mask = padded([self.null_states] * free + self.describe(prompts))
        beats, chords = music_tokens([Music()] * free + list(music))
        held = [part.to(self.device) for part in (states, mask, beats, chords)]
        return lambda latents, levels: self.model(latents, levels, *held)

    def predict(self, prompt: str) -> Music:
        """Beats and chords that the checkpoint's own networks guess for a prompt."""
        if self._predictors is None:
            if self._find_predictors is None:
                raise TalimError(
                    f"{self.name} has no networks that predict beats and chords; give them yourself"
                )
            self._predictors = self._find_predictors()
        beats = self._predictors.beats(prompt)
        return Music(beats, self._predictors.chords(prompt, beats))

    def sites(self) -> tuple[Site, ...]:
        """Between text and U-Net, and after the three attentions of every site, in the order of the signal."""
        return self.model.sites()

    def enable_training(self, gradient_checkpointing: bool = False) -> None:
        """Training mode for what is trained on top; the frozen text encoder stays free of dropout."""
        self.model.train()
        self.model.text_encoder.eval()
        self.model.unet.set_checkpointing(gradient_checkpointing)

    def _tokenize(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 [1, L]."""
        words = self.tokenizer([prompt], max_length=MOST_WORDS, truncation=True, return_tensors="pt")
        return words["input_ids"].to(self.device), words["attention_mask"].to(self.device)


def _check_wishes(seconds: float, guidance: float, temperature: float, top_k: int) -> None:
    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST_SECONDS):
        raise UsageError(
            f"length {seconds} s is out of range; Mustango makes up to {LONGEST_SECONDS:g} s at once, and knows "
            f"pieces of {WINDOW_SECONDS:g} s best"
        )
    if not (math.isfinite(guidance) and guidance >= 1):
        raise UsageError(f"guidance {guidance} is out of range; 1 is none, 3 is usual")
    if (temperature, top_k) != (1.0, 250):
        raise UsageError("temperature and top-k mean nothing to Mustango, which denoises; leave them out")
