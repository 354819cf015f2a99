"""Fine-tuning of nano-musicgen on beat and bar phase, so that it keeps time.

    python -m research.pretraining.nano_musicgen.beat_finetune --start training/decoder/nano-musicgen
        --pieces training/decoder --out training/time

continues from the decoder's checkpoint, resumes if it was stopped, and writes OUT/nano-musicgen in bf16.

A decoder trained on music alone follows the last onset and drifts, as only a few frames in a hundred show the tempo.
So every frame is used: an auxiliary head, discarded afterwards, predicts the position of each frame within beat and
bar from the states between the decoder's first and second half. The first phase trains this loss alone, with half of
the clips masked so that only text and position can tell; the second one music with this auxiliary loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import MusicgenForConditionalGeneration

from research.pretraining import train_loop
from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen import decoder as decoder_training
from talim.backbones.musicgen import delay_pattern
from talim.backbones.nano import musicgen, sinusoidal_model

LAYERS = 3  # the head reads the states after this many decoder layers


@dataclass(frozen=True)
class Config:
    """Settings of the fine-tuning.

    start: checkpoint to continue from; pieces: folder of the encoded pieces
    auxiliary_steps: steps with the phase loss alone, before `steps` with music
    opening_crop_fraction: of the steps, that use the openings of pieces; the others use whole pieces
    masked_audio_fraction: of the clips of a step with the phase loss alone
    """

    start: Path = Path("training/decoder/nano-musicgen")
    pieces: Path = Path("training/decoder")
    out: Path = Path("training/time")
    auxiliary_steps: int = 800
    steps: int = 5000
    opening_crop_frames: tuple[int, int] = (150, 400)
    opening_crop_fraction: float = 0.6
    frames_per_step: int = 2000
    condition_dropout: float = 0.1
    masked_audio_fraction: float = 0.5
    phase_loss_weight: float = 2.0
    auxiliary_learning_rate: float = 1e-3
    learning_rate: float = 7e-4
    validate_every: int = 200
    checkpoint_every: int = 50
    seed: int = 1


def phases(captions: list[str], frames: int) -> Tensor:
    """Sine and cosine of each frame's position in its beat, then in its bar: [B, frames, 4]."""
    seconds = torch.arange(frames) * sinusoidal_model.HOP / sinusoidal_model.RATE_HZ
    rows = []
    for caption in captions:
        tempo = re.search(r"(\d+) bpm", caption)
        if tempo is None:
            raise ValueError(f"no tempo in the caption {caption!r}")
        beat = 60 / int(tempo[1])
        spans = (beat, beat * (3 if "waltz" in caption else 4))
        angles = [2 * torch.pi * seconds / span for span in spans]
        rows.append(torch.stack([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], -1))
    return torch.stack(rows)


class BeatPhaseHead(nn.Module):
    """Predicts the phases [B, T, 4] from the states [B, T, D] after the decoder's first `LAYERS` layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = [model.decoder.model.decoder]  # in a list, so that its weights are not registered here
        width = model.config.decoder.hidden_size
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4))
        self.states: Tensor | None = None
        self.decoder[0].layers[LAYERS - 1].register_forward_hook(self.store_states)

    def store_states(self, _layer: nn.Module, _inputs: Any, output: Any) -> None:
        """Forward hook: keep the output of the layer."""
        self.states = output[0] if isinstance(output, tuple) else output

    def error(self, captions: list[str], frames: int) -> Tensor:
        """Squared error [B] for the first `frames` states of the last forward pass; 0.5 for a constant guess."""
        assert self.states is not None
        predicted, self.states = self.read(self.states[:, :frames].float()), None
        return (predicted - phases(captions, frames)).square().mean((1, 2))

    @contextmanager
    def truncated_decoder(self) -> Iterator[Any]:
        """The decoder without the layers that this head does not need."""
        decoder = self.decoder[0]
        layers, decoder.layers = decoder.layers, decoder.layers[:LAYERS]
        try:
            yield decoder
        finally:
            decoder.layers = layers


def draw(codes: list[np.ndarray], captions: list[str], step: int, config: Config) -> tuple[Tensor, list[str], Tensor]:
    """Codes [B, K, T] from the start of their pieces, captions, and which rows [B] are conditioned on them."""
    rng = np.random.default_rng([config.seed, step])
    indices, frames = decoder_training.sample_batch_indices(
        codes, rng, config.opening_crop_fraction, config.opening_crop_frames, config.frames_per_step
    )
    batch = np.stack([codes[n][:, :frames] for n in indices]).astype(np.int64)
    conditioned = torch.from_numpy(rng.random(len(indices)) >= config.condition_dropout)
    return torch.from_numpy(batch), [captions[n] for n in indices], conditioned


def auxiliary_phase(model: Any, head: BeatPhaseHead, codes: Tensor, captions: list[str], masked: Tensor) -> Tensor:
    """The head's error [B]; where `masked` [B], only text and position can tell the phase."""
    special, text = model.config.decoder.pad_token_id, musicgen.ByteTokenizer()(captions)
    states = model.text_encoder(text["input_ids"], text["attention_mask"]).last_hidden_state
    shifts = delay_pattern.delays(codes.shape[1])
    sequence = delay_pattern.apply_delay_pattern(codes, special, shifts)[..., : codes.shape[2]]
    sequence = sequence.masked_fill(masked[:, None, None], special)
    with head.truncated_decoder() as decoder:
        decoder(
            input_ids=sequence.reshape(-1, sequence.shape[-1]),
            encoder_hidden_states=model.enc_to_dec_proj(states) * text["attention_mask"][..., None],
            encoder_attention_mask=text["attention_mask"],
            use_cache=False,
        )
    return head.error(captions, codes.shape[2])


def music_phase(
    model: Any, head: BeatPhaseHead, codes: Tensor, captions: list[str], conditioned: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy per codebook [K], and the head's mean error over the conditioned rows."""
    text = musicgen.ByteTokenizer()(captions)
    text["condition_mask"] = text["attention_mask"] * conditioned.long()[:, None]
    parts = decoder_training.loss(model, codes, text)
    errors = head.error(captions, codes.shape[2])
    return parts, (errors * conditioned).sum() / conditioned.sum().clamp(min=1)


@torch.no_grad()
def phase_errors(model: Any, head: BeatPhaseHead, codes: Tensor, captions: list[str]) -> dict[str, float]:
    """The head's mean error on clips with their audio, and on the same clips masked."""
    none = torch.zeros(len(captions), dtype=torch.bool)
    return {
        name: round(float(auxiliary_phase(model, head, codes, captions, masked).mean()), 4)
        for name, masked in (("phase_error", none), ("phase_error_masked", ~none))
    }


def train(config: Config) -> Any:
    """Both phases, with OUT/log.jsonl and a checkpoint from which it resumes."""
    config.out.mkdir(parents=True, exist_ok=True)
    musicgen.register_codec()
    model: Any = MusicgenForConditionalGeneration.from_pretrained(config.start, dtype=torch.float32)
    codes, captions = decoder_training.tokens(
        sorted(config.pieces.glob("pieces-*.npz")), model.audio_encoder, config.pieces
    )
    torch.manual_seed(config.seed)
    head = BeatPhaseHead(model)
    for part in (model.text_encoder, model.audio_encoder):
        part.requires_grad_(False)
    trained = [*(weight for weight in model.parameters() if weight.requires_grad), *head.parameters()]
    validation = draw(codes, captions, 0, replace(config, seed=config.seed + 1))
    model.train()

    def compute_loss(step: int) -> tuple[Tensor, dict[str, Any]]:
        batch = draw(codes, captions, step, config)
        values: dict[str, Any] = {"frames": batch[0].shape[2]}
        with train_loop.bf16_autocast():
            if step < config.auxiliary_steps:
                masked = torch.arange(len(batch[1])) < config.masked_audio_fraction * len(batch[1])
                error = auxiliary_phase(model, head, batch[0], batch[1], masked).mean()
                return error, values | {"phase_loss": error}
            parts, error = music_phase(model, head, *batch)
        loss = parts.mean() + config.phase_loss_weight * error
        return loss, values | {"loss": parts.mean(), "phase_loss": error}

    def learning_rate(step: int) -> float:
        if step < config.auxiliary_steps:
            phase = (step, config.auxiliary_steps, config.auxiliary_learning_rate)
        else:
            phase = (step - config.auxiliary_steps, config.steps, config.learning_rate)
        return train_loop.lr_at(*phase, warmup=80, floor=0.03)

    def validate(step: int) -> dict[str, Any]:
        due = step % config.validate_every == 0
        return phase_errors(model, head, validation[0], validation[1]) if due else {}

    steps = config.auxiliary_steps + config.steps
    train_loop.train_loop(
        config.out,
        train_loop.TrainSchedule(steps, log_every=20, checkpoint_every=config.checkpoint_every),
        {"model": model, "head": head},
        torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.05, betas=(0.9, 0.98)),
        compute_loss,
        learning_rate,
        validate,
    )
    return model


def main() -> None:
    """Train and save."""
    config = parse_config(Config, __doc__)
    train(config).to(torch.bfloat16).save_pretrained(config.out / "nano-musicgen")


if __name__ == "__main__":
    main()
