"""Training of nano-mustango's U-Net from scratch on synthetic music with its beats and chords.

    python -m research.pretraining.nano_mustango.unet --sound training/sound --text training/text
        --out training/diffusion

renders the pieces, encodes them, trains, resumes if it was stopped, and keeps an exponential moving average of the
weights, which is shipped. Text, beats and chords are dropped independently, so that none can rely on the others.

From music alone a U-Net never learned to use beats and chords: they lower the loss by one part in a thousand. So an
auxiliary probe, discarded afterwards, predicts tempo, phase in beat and bar, chord and scale from its states; for some
steps (the auxiliary phase) from noise, with no other loss.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from research.pretraining import nano_models, text_encoder, train_loop
from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen.codec import SEED_BASE
from research.pretraining.nano_mustango import pitch_probe
from research.pretraining.nano_mustango.conditioning import SECONDS, ConditionProbe, StopForward, conditions, draw
from research.pretraining.western_style import perform, western_notes
from talim.atomic_io import write_json
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.vae_vocoder import MelVAE

DIFFUSION_SEEDS = 3 * SEED_BASE  # apart from all other performances
# Min-SNR weights train quickly, but give next to no weight to the highest noise levels, where the conditions matter.
MIN_SNR_STEPS = 600
AUXILIARY_LEARNING_RATE = 1e-3
WARMUP_STEPS = 100
# By torch's initialisation beat tokens have a seventh of the norm of text states, and attention ignores them.
BEAT_EMBEDDING_GAIN, CHORD_EMBEDDING_GAIN = 16.0, 6.0
AUXILIARY_MIN_TIMESTEP = 900
PROBE_LOSS_WEIGHTS = torch.tensor([2.0, 1.0, 1.0, 1.0])  # of phases, chord, scale, tempo
PROBE_LOSS_WEIGHT = 0.2  # of the probe, relative to the velocity loss, after the auxiliary phase
# Notes glided between semitones, as the squared error hardly responds to a quarter tone. So a second schedule adds the
# pitch probe's loss on the denoised latents, weighted towards the noise levels at which notes are determined.
PITCH_PROBE_MAX_TIMESTEP = 900
PITCH_PROBE_WARMUP_STEP = 6400  # until then a third of the weight, so that nothing is unlearnt
PITCH_LOSS_WEIGHT = 0.3
EMA_DECAY = 0.999  # per step


@dataclass(frozen=True)
class Config:
    """Settings of the U-Net's training.

    auxiliary_phase: first step with the probe's loss alone, and the step after the last one; a U-Net that has not been
        trained on music before cannot recover the tempo
    first_schedule_steps: length of the first learning-rate schedule; then the second one, with the pitch probe
    """

    sound: Path = Path("training/sound")
    text: Path = Path("training/text")
    out: Path = Path("training/diffusion")
    steps: int = 9400
    clips: int = 4000
    seconds: float = SECONDS
    batch_size: int = 8
    auxiliary_phase: tuple[int, int] = (1200, 2600)
    first_schedule_steps: int = 6000
    peak_learning_rate: float = 1e-3
    checkpoint_every: int = 100
    seed: int = 1
    num_workers: int = 2


def restore_mel_vae(folder: Path) -> MelVAE:
    """VAE and vocoder from the checkpoint of `vae_vocoder`, rounded as they are shipped."""
    state = torch.load(folder / "state.pt", weights_only=True)["parts"]
    mel_vae = nano_models.nano_mustango_config().mel_vae()
    mel_vae.vae.load_state_dict(state["vae"])
    mel_vae.vocoder.load_state_dict(state["vocoder"])
    return mel_vae.to(torch.bfloat16).float().eval()


@torch.no_grad()
def encode_piece(clip: int, mel_vae: MelVAE, seconds: float) -> tuple[np.ndarray, str, dict[str, Any]]:
    """Unscaled latents [C, T, F] float16, caption and facts of a training clip."""
    torch.set_num_threads(1)
    piece = perform(DIFFUSION_SEEDS + clip, "western", seconds)
    mel = mel_vae.spectrogram(piece.samples, round(seconds * mel_vae.rate_hz / mel_vae.mel.config.hop_length))
    latents = mel_vae.posterior(mel[:, None]).mean[0]
    return latents.numpy().astype(np.float16), piece.caption, piece.facts


def pieces(config: Config, mel_vae: MelVAE) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Latents [N, C, T, F] and facts of every clip, computed once."""
    config.out.mkdir(parents=True, exist_ok=True)
    latent_file, facts_file = (config.out / f"latents-{config.clips}.npy", config.out / f"pieces-{config.clips}.json")
    if not facts_file.exists():
        encode = partial(encode_piece, mel_vae=mel_vae, seconds=config.seconds)
        with ProcessPoolExecutor(config.num_workers) as pool:
            rows = list(pool.map(encode, range(config.clips), chunksize=20))
        np.save(latent_file, np.stack([row[0] for row in rows]))
        write_json(facts_file, [{"caption": caption, **facts} for _, caption, facts in rows])
    return np.load(latent_file, mmap_mode="r"), json.loads(facts_file.read_text())


def latent_scale(latents: np.ndarray) -> float:
    """The factor that scales latents to unit variance."""
    return 1 / float(np.std(latents[:500].astype(np.float32)))


def stratified_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Timesteps int64 [count], one from each of `count` equal parts of the range."""
    positions = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (positions * diffusion.NUM_TRAIN_TIMESTEPS).long()


class EmaWeights(nn.Module):
    """Exponential moving average of a model's trained weights, with a shorter memory in the first steps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = deepcopy(model).requires_grad_(False)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Update the average with the current weights of `model`."""
        self.steps += 1
        decay = min(EMA_DECAY, float(self.steps) / (10 + float(self.steps)))
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)


def train(config: Config, mel_vae: MelVAE, probe: pitch_probe.PitchProbe) -> EmaWeights:  # noqa: PLR0915
    """Train the U-Net, with OUT/log.jsonl and a checkpoint from which it resumes; returns the averaged weights."""
    latents, known = pieces(config, mel_vae)
    melodies = [pitch_probe.melody(western_notes(DIFFUSION_SEEDS + n, config.seconds)) for n in range(len(known))]
    known = [facts | {"melody": melody} for facts, melody in zip(known, melodies, strict=True)]
    scale = latent_scale(latents)
    torch.manual_seed(config.seed)
    model = nano_models.nano_mustango_config().model()
    text_encoder.restore(model.text_encoder, config.text)
    model.beat_embedding_layer.beat_ffn.weight.data.mul_(BEAT_EMBEDDING_GAIN)
    model.chord_embedding_layer.chord_ffn.weight.data.mul_(CHORD_EMBEDDING_GAIN)
    schedule = diffusion.make_scheduler("ddpm")
    trained = nn.ModuleList(model.trainable_modules)
    average, condition_probe = EmaWeights(trained), ConditionProbe(model.unet, config.seconds)
    first, last = config.auxiliary_phase
    model.train()

    def compute_loss(step: int) -> tuple[Tensor, dict[str, Any]]:
        if step:
            average.follow(trained)
        condition_probe.alone = first <= step < last
        clean, facts, captions, music, dropped = draw(
            latents,
            known,
            step,
            config.seed,
            condition_probe.alone,
            batch_size=config.batch_size,
            seconds=config.seconds,
        )
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        clean, timesteps = clean * scale, stratified_timesteps(config.batch_size, generator)
        if condition_probe.alone:
            span = diffusion.NUM_TRAIN_TIMESTEPS - AUXILIARY_MIN_TIMESTEP
            timesteps = AUXILIARY_MIN_TIMESTEP + timesteps * span // diffusion.NUM_TRAIN_TIMESTEPS
        noise = torch.randn(clean.shape, generator=generator)
        noisy = schedule.add_noise(clean, noise, timesteps)
        target = schedule.get_velocity(clean, noise, timesteps)
        try:
            with train_loop.bf16_autocast():
                velocity = model(noisy, timesteps, *conditions(model, captions, music, dropped))
        except StopForward:
            probe_errors = condition_probe.errors(facts)
            return (probe_errors * PROBE_LOSS_WEIGHTS).sum(), {"probe": probe_errors}
        probe_errors = condition_probe.errors(facts)
        errors = diffusion.velocity_losses(velocity, target)
        weighting = "min_snr_v" if step < MIN_SNR_STEPS else "none"
        loss = (errors * diffusion.min_snr_weights(schedule.alphas_cumprod, timesteps, weighting)).mean()
        values = {"loss": loss.detach(), "by_timestep": errors.detach(), "probe": probe_errors}
        total = loss + PROBE_LOSS_WEIGHT * (probe_errors * PROBE_LOSS_WEIGHTS).sum()
        if step < config.first_schedule_steps:
            return total, values
        alphas = schedule.alphas_cumprod[timesteps][:, None, None, None]
        denoised = alphas.sqrt() * noisy - (1 - alphas).sqrt() * velocity.float()
        targets = pitch_probe.pitch_targets([each["melody"] for each in facts], clean.shape[2])
        pitch_errors = probe.errors(denoised, targets)
        below_maximum = timesteps < PITCH_PROBE_MAX_TIMESTEP
        by_timestep = (1 - timesteps / diffusion.NUM_TRAIN_TIMESTEPS) * below_maximum
        weight = PITCH_LOSS_WEIGHT / 3 if step < PITCH_PROBE_WARMUP_STEP else PITCH_LOSS_WEIGHT
        pitch_loss = (pitch_errors * by_timestep).mean()
        return total + weight * pitch_loss, values | {"pitch": pitch_errors.detach()}

    def learning_rate(step: int) -> float:
        if first <= step < last:
            return AUXILIARY_LEARNING_RATE
        end = config.steps if step >= config.first_schedule_steps else config.first_schedule_steps
        return train_loop.lr_at(step, end, config.peak_learning_rate, warmup=WARMUP_STEPS, floor=0.05)

    train_loop.train_loop(
        config.out,
        train_loop.TrainSchedule(config.steps, log_every=20, checkpoint_every=config.checkpoint_every),
        {"trained": trained, "average": average, "condition_probe": condition_probe},
        torch.optim.AdamW(
            [*trained.parameters(), *condition_probe.parameters()],
            lr=config.peak_learning_rate,
            weight_decay=0.01,
            betas=(0.9, 0.98),
            fused=True,
        ),
        compute_loss,
        learning_rate,
    )
    return average


def ship(config: Config, mel_vae: MelVAE, average: EmaWeights, scale: float) -> None:
    """Write OUT/nano-mustango: the averaged weights, and VAE and vocoder with the latents' scale."""
    shape = nano_models.nano_mustango_config()
    shape = replace(shape, vae=shape.vae | {"scaling_factor": scale})
    model = shape.model()
    text_encoder.restore(model.text_encoder, config.text)
    nn.ModuleList(model.trainable_modules).load_state_dict(average.model.state_dict())
    nano_models.save_nano_mustango(config.out / "nano-mustango", shape, model, mel_vae)


def main() -> None:
    """Train the pitch probe and the U-Net, and save."""
    config = parse_config(Config, __doc__)
    mel_vae = restore_mel_vae(config.sound)
    latents, _ = pieces(config, mel_vae)
    folder = config.out / "pitch-probe"
    if not (folder / "done").exists():
        probe_config = pitch_probe.Config(folder, seconds=config.seconds, num_workers=config.num_workers)
        pitch_probe.train(probe_config, mel_vae, latent_scale(latents))
        (folder / "done").touch()
    average = train(config, mel_vae, pitch_probe.restore(folder))
    ship(config, mel_vae, average, latent_scale(latents))


if __name__ == "__main__":
    main()
