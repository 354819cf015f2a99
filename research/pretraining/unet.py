"""How nano-mustango came to be: its U-Net, trained from scratch on performed music with its beats and chords.

`python -m research.pretraining.unet --sound training/sound --text training/text --out training/diffusion`
performs the pieces, encodes them, trains, resumes where it stopped, and keeps a running average of the weights,
which is what sounds. Words, beats and chords each go missing now and then, so that none can lean on the others.

By hearing music alone a U-Net never learned to read beats and chords: what they save is one part in a thousand of
the loss. So a small reader, thrown away afterwards, asks at every moment how fast the music goes, where in its beat
and bar the moment lies, which chord sounds and in which scale; for a while nothing but noise is heard and nothing
else is asked (the drill).
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from research.pretraining import pitch_probe, text_encoder, train_loop
from research.pretraining.codec import SEED_BASE
from research.pretraining.conditions import BATCH, SECONDS, ConditionProbe, StopForward, conditions, draw
from research.pretraining.western_style import perform, western_notes
from talim.atomic_io import write_json
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.vae_vocoder import MelVAE
from talim.backbones.nano import mustango

DIFFUSION_SEEDS = 3 * SEED_BASE  # apart from all other performances
# Min-SNR weights learn sound fast, but give the highest noise levels, where words, beats and chords decide, next to
# no weight; so they hold at first only.
MIN_SNR_STEPS = 600  # steps
AUXILIARY_PHASE = (
    1200,
    2600,
)  # steps in which only the reader asks; a network that has heard nothing yet reads no tempo
AUXILIARY_LEARNING_RATE = 1e-3  # of learning
WARMUP = 100  # steps
# As torch draws them, tokens of beats are a seventh as loud as words, and no attention finds the first among them.
BEAT_EMBEDDING_GAIN, CHORD_EMBEDDING_GAIN = 16.0, 6.0
AUXILIARY_MIN_TIMESTEP = 900  # the least noise in a drill
PROBE_LOSS_WEIGHTS = torch.tensor(
    [2.0, 1.0, 1.0, 1.0]
)  # of places, chord, scale, tempo in the reader's error
PROBE_LOSS_WEIGHT = 0.2  # of the reader's error beside the velocity's, after the drill
# Notes slid between the tones, as squared errors hardly mind a quarter of a tone: so a second term, at a rate that
# rises again, in which an ear (`pretrain_ear`) also judges the pitch of what is left when the noise is taken away, and
# most where notes are decided: in so much noise that it can be any of a few.
FIRST_SCHEDULE_STEPS = 6000  # steps
PITCH_PROBE_MAX_TIMESTEP = 900  # the least noise in which it is not asked
PITCH_PROBE_WARMUP_STEPS = (
    6400  # steps, until which it counts for a third, so that nothing is unlearned in the beginning
)
PITCH_LOSS_WEIGHT = 0.3
EMA_DECAY = 0.999  # of the running average, a step
CHECKPOINT_INTERVAL = 100  # steps between checkpoints


def restored(folder: Path) -> MelVAE:
    """VAE and vocoder as `pretrain_sound` left them, rounded as they will be shipped."""
    state = torch.load(folder / "state.pt", weights_only=True)["parts"]
    sound = mustango.NanoMustangoConfig().mel_vae()
    sound.vae.load_state_dict(state["vae"])
    sound.vocoder.load_state_dict(state["vocoder"])
    return sound.to(torch.bfloat16).float().eval()


@torch.no_grad()
def piece(sound: MelVAE, clip: int) -> tuple[np.ndarray, str, dict[str, Any]]:
    """Unscaled latents [C, T, F] float16, caption and facts of training clip number `clip`."""
    torch.set_num_threads(1)
    played = perform(DIFFUSION_SEEDS + clip, "western", SECONDS)
    mel = sound.spectrogram(played.samples, round(SECONDS * sound.rate_hz / sound.mel.config.hop_length))
    latents = sound.posterior(mel[:, None]).mean[0]
    return latents.numpy().astype(np.float16), played.caption, played.facts


def melody(clip: int) -> list[tuple[float, float]]:
    """Onset in seconds and cents above C4 of each note of training clip number `clip`."""
    return pitch_probe.melody(western_notes(DIFFUSION_SEEDS + clip, SECONDS))


def pieces(out: Path, sound: MelVAE, clips: int, workers: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Latents [N, C, T, F] and what is known of each clip; made once."""
    out.mkdir(parents=True, exist_ok=True)
    latents, words = out / f"latents-{clips}.npy", out / f"pieces-{clips}.json"
    if not words.exists():
        with ProcessPoolExecutor(workers) as pool:
            rows = list(pool.map(partial(piece, sound), range(clips), chunksize=20))
        np.save(latents, np.stack([row[0] for row in rows]))
        write_json(words, [{"caption": caption, **facts} for _, caption, facts in rows])
    return np.load(latents, mmap_mode="r"), json.loads(words.read_text())


def scaling(latents: np.ndarray) -> float:
    """What brings latents to unit variance."""
    return 1 / float(np.std(latents[:500].astype(np.float32)))


def levels(count: int, generator: torch.Generator) -> Tensor:
    """Noise levels int64 [count], one from each of `count` equal parts of the whole range."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (places * diffusion.NUM_TRAIN_TIMESTEPS).long()


class EmaWeights(nn.Module):
    """The running average of a model's trained weights; young averages forget faster."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = deepcopy(model).requires_grad_(False)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take in the weights of `model` as they are now."""
        self.steps += 1
        memory = min(EMA_DECAY, float(self.steps) / (10 + float(self.steps)))
        for kept, now in zip(self.model.parameters(), model.parameters(), strict=True):
            kept.lerp_(now, 1 - memory)


def train(
    out: Path,
    sound: MelVAE,
    text: Path,
    ear: pitch_probe.PitchProbe,
    clips: int,
    steps: int,
    seed: int,
    workers: int,
    peak_rate: float,
) -> EmaWeights:
    """Train to `steps`, logging to OUT/log.jsonl and keeping a checkpoint from which it resumes."""
    latents, known = pieces(out, sound, clips, workers)
    known = [facts | {"melody": melody(clip)} for clip, facts in enumerate(known)]
    scale = scaling(latents)
    torch.manual_seed(seed)
    model = mustango.NanoMustangoConfig().model()
    text_encoder.restore(model.text_encoder, text)
    model.beat_embedding_layer.beat_ffn.weight.data.mul_(BEAT_EMBEDDING_GAIN)
    model.chord_embedding_layer.chord_ffn.weight.data.mul_(CHORD_EMBEDDING_GAIN)
    schedule = diffusion.make_scheduler("ddpm")
    adapted = nn.ModuleList(model.trainable_modules)
    average, reader = EmaWeights(adapted), ConditionProbe(model.unet)
    taught = [*adapted.parameters(), *reader.parameters()]
    model.train()

    def lesson(step: int) -> tuple[Tensor, dict[str, Any]]:
        if step:
            average.follow(adapted)
        reader.alone = AUXILIARY_PHASE[0] <= step < AUXILIARY_PHASE[1]
        clean, facts, words, music, nothing = draw(latents, known, step, seed, reader.alone)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        clean, at = clean * scale, levels(BATCH, generator)
        if reader.alone:
            at = (
                AUXILIARY_MIN_TIMESTEP
                + at
                * (diffusion.NUM_TRAIN_TIMESTEPS - AUXILIARY_MIN_TIMESTEP)
                // diffusion.NUM_TRAIN_TIMESTEPS
            )
        noise = torch.randn(clean.shape, generator=generator)
        noisy, target = schedule.add_noise(clean, noise, at), schedule.get_velocity(clean, noise, at)
        try:
            with train_loop.bf16_autocast():
                made = model(noisy, at, *conditions(model, words, music, nothing))
        except StopForward:
            read = reader.errors(facts)
            return (read * PROBE_LOSS_WEIGHTS).sum(), {"read": read}
        read, errors = reader.errors(facts), diffusion.velocity_losses(made, target)
        weighting = "min_snr_v" if step < MIN_SNR_STEPS else "none"
        loss = (errors * diffusion.min_snr_weights(schedule.alphas_cumprod, at, weighting)).mean()
        told = {"loss": loss.detach(), "levels": errors.detach(), "read": read}
        whole = loss + PROBE_LOSS_WEIGHT * (read * PROBE_LOSS_WEIGHTS).sum()
        if step < FIRST_SCHEDULE_STEPS:
            return whole, told
        left = schedule.alphas_cumprod[at]
        cleaned = (
            left.sqrt()[:, None, None, None] * noisy - (1 - left).sqrt()[:, None, None, None] * made.float()
        )
        tones = pitch_probe.pitch_targets([each["melody"] for each in facts], clean.shape[2])
        off = ear.errors(cleaned, tones)
        asked = (1 - at / diffusion.NUM_TRAIN_TIMESTEPS) * (at < PITCH_PROBE_MAX_TIMESTEP)
        weight = PITCH_LOSS_WEIGHT / 3 if step < PITCH_PROBE_WARMUP_STEPS else PITCH_LOSS_WEIGHT
        return whole + weight * (off * asked).mean(), told | {"off": off.detach()}

    def rate(step: int) -> float:
        if AUXILIARY_PHASE[0] <= step < AUXILIARY_PHASE[1]:
            return AUXILIARY_LEARNING_RATE
        end = steps if step >= FIRST_SCHEDULE_STEPS else FIRST_SCHEDULE_STEPS
        return train_loop.lr_at(step, end, peak_rate, warmup=WARMUP, floor=0.05)

    train_loop.train_loop(
        out,
        train_loop.TrainSchedule(steps, log_every=20, checkpoint_every=CHECKPOINT_INTERVAL),
        {"adapted": adapted, "average": average, "reader": reader},
        torch.optim.AdamW(taught, lr=peak_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True),
        lesson,
        rate,
    )
    return average


def ship(out: Path, sound: MelVAE, text: Path, average: EmaWeights, scale: float) -> None:
    """Write OUT/nano-mustango: the average of the weights, and the sound with the latents' scale."""
    shape = mustango.NanoMustangoConfig()
    shape = replace(shape, vae=shape.vae | {"scaling_factor": scale})
    model = shape.model()
    text_encoder.restore(model.text_encoder, text)
    nn.ModuleList(model.trainable_modules).load_state_dict(average.model.state_dict())
    mustango.save(out / "nano-mustango", shape, model, sound)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sound", type=Path, default=Path("training/sound"))
    parser.add_argument("--text", type=Path, default=Path("training/text"))
    parser.add_argument("--out", type=Path, default=Path("training/diffusion"))
    parser.add_argument("--steps", type=int, default=9400)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peak-rate", type=float, default=1e-3)
    options = parser.parse_args()
    sound = restored(options.sound)
    latents, _ = pieces(options.out, sound, options.clips, options.workers)
    ear = options.out / "ear"
    if not (ear / "done").exists():
        pitch_probe.train(ear, sound, scaling(latents), options.workers)
        (ear / "done").touch()
    average = train(
        options.out,
        sound,
        options.text,
        pitch_probe.restored(ear),
        options.clips,
        options.steps,
        options.seed,
        options.workers,
        options.peak_rate,
    )
    ship(options.out, sound, options.text, average, scaling(latents))


if __name__ == "__main__":
    main()
