"""How nano-musicgen came to keep time: an inner clock first, then music played by it.

`python -m research.pretraining.beat_finetune --start training/decoder/nano-musicgen --pieces training/decoder --out
training/time` goes on from the decoder's checkpoint, resumes where it stopped, and writes OUT/nano-musicgen in bf16.

A decoder that has only heard music follows the last onset and drifts: the moments at which a tempo shows are a few
frames in a hundred. So every frame is made to count. A small head, thrown away afterwards, reads where in its beat
and bar each frame lies from the states between the decoder's first and second half. At first nothing else is asked
(the drill), half of the pieces unheard, so that only the words and the position can tell; then the music as well.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from research.pretraining import decoder as pretraining_decoder
from research.pretraining import train_loop
from research.pretraining.decoder import CONDITION_DROPOUT
from talim.backbones.musicgen import delay_pattern
from talim.backbones.nano import musicgen, sinusoidal_model

LAYERS = 3  # of the decoder: the clock is read from the state after them
OPENING_CROP_FRAMES = (150, 400)
OPENING_CROP_FRACTION = 0.6  # of the steps play beginnings, the others whole pieces
BEAT_PHASE_LOSS_WEIGHT = 2.0  # of the clock's error beside the music's loss
AUXILIARY_LEARNING_RATE, LEARNING_RATE = 1e-3, 7e-4  # of learning, at the peak
MASKED_AUDIO_FRACTION = 0.5  # of the pieces of a drill
CHECKPOINT_INTERVAL = 50  # steps between checkpoints
VALIDATION_INTERVAL = 200  # steps between two looks at the clock


def phases(captions: list[str], frames: int) -> Tensor:
    """Sine and cosine of where each frame lies in its beat, then in its bar: [B, frames, 4]."""
    seconds = torch.arange(frames) * sinusoidal_model.HOP / sinusoidal_model.RATE_HZ
    rows = []
    for caption in captions:
        found = re.search(r"(\d+) bpm", caption)
        if found is None:
            raise ValueError(f"no tempo in the caption {caption!r}")
        beat = 60 / int(found[1])
        turns = [2 * torch.pi * seconds / span for span in (beat, beat * (3 if "waltz" in caption else 4))]
        rows.append(torch.stack([wave(turn) for turn in turns for wave in (torch.sin, torch.cos)], -1))
    return torch.stack(rows)


class BeatPhaseHead(nn.Module):
    """Reads the phases [B, T, 4] from the states [B, T, D] after the decoder's first `LAYERS` layers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = [model.decoder.model.decoder]  # in a list, so that its weights are not ours
        width = model.config.decoder.hidden_size
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4))
        self.states: Tensor | None = None
        self.decoder[0].layers[LAYERS - 1].register_forward_hook(self.listen)

    def listen(self, _layer: nn.Module, _inputs: Any, output: Any) -> None:
        """Keep what the layer gives."""
        self.states = output[0] if isinstance(output, tuple) else output

    def error(self, captions: list[str], frames: int) -> Tensor:
        """Squared error [B] of the last forward's first `frames` states; 0.5 is what a guess gives."""
        assert self.states is not None
        told, self.states = self.read(self.states[:, :frames].float()), None
        return (told - phases(captions, frames)).square().mean((1, 2))

    @contextmanager
    def alone(self) -> Iterator[Any]:
        """The decoder without the layers that the clock does not need."""
        decoder = self.decoder[0]
        layers, decoder.layers = decoder.layers, decoder.layers[:LAYERS]
        try:
            yield decoder
        finally:
            decoder.layers = layers


def draw(
    codes: list[np.ndarray], captions: list[str], step: int, seed: int
) -> tuple[Tensor, list[str], Tensor]:
    """Codes [B, K, T] from where their pieces begin, their captions, and which rows [B] are told them."""
    rng = np.random.default_rng([seed, step])
    played, frames = pretraining_decoder.sample_batch_indices(
        codes, rng, OPENING_CROP_FRACTION, OPENING_CROP_FRAMES
    )
    batch = np.stack([codes[n][:, :frames] for n in played]).astype(np.int64)
    told = torch.from_numpy(rng.random(len(played)) >= CONDITION_DROPOUT)
    return torch.from_numpy(batch), [captions[n] for n in played], told


def auxiliary_phase(
    model: Any, clock: BeatPhaseHead, codes: Tensor, captions: list[str], unheard: Tensor
) -> Tensor:
    """The clock's error [B]; where `unheard` [B], words and positions are all there is to tell the time by."""
    special, words = model.config.decoder.pad_token_id, musicgen.ByteTokenizer()(captions)
    states = model.text_encoder(words["input_ids"], words["attention_mask"]).last_hidden_state
    sequence = delay_pattern.apply_delay_pattern(codes, special, delay_pattern.delays(codes.shape[1]))[
        ..., : codes.shape[2]
    ]
    sequence = sequence.masked_fill(unheard[:, None, None], special)
    with clock.alone() as decoder:
        decoder(
            input_ids=sequence.reshape(-1, sequence.shape[-1]),
            encoder_hidden_states=model.enc_to_dec_proj(states) * words["attention_mask"][..., None],
            encoder_attention_mask=words["attention_mask"],
            use_cache=False,
        )
    return clock.error(captions, codes.shape[2])


def beat_batch(
    model: Any, clock: BeatPhaseHead, codes: Tensor, captions: list[str], told: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy per codebook [K], and the clock's error over the rows that are told their words."""
    words = musicgen.ByteTokenizer()(captions)
    words["kept"] = words["attention_mask"] * told.long()[:, None]
    parts = pretraining_decoder.loss(model, codes, words)
    errors = clock.error(captions, codes.shape[2])
    return parts, (errors * told).sum() / told.sum().clamp(min=1)


@torch.no_grad()
def beat_accuracy(model: Any, clock: BeatPhaseHead, codes: Tensor, captions: list[str]) -> dict[str, float]:
    """The clock's error on pieces that are heard, and on the same unheard."""
    heard = torch.zeros(len(captions), dtype=torch.bool)
    return {
        name: round(float(auxiliary_phase(model, clock, codes, captions, rows).mean()), 4)
        for name, rows in (("heard", heard), ("unheard", ~heard))
    }


def train(start: Path, pieces: Path, out: Path, drills: int, steps: int, seed: int) -> Any:
    """`drills` steps of the clock alone, then `steps` of music, logging to OUT/log.jsonl, and resume."""
    out.mkdir(parents=True, exist_ok=True)
    musicgen.register_codec()
    model: Any = musicgen.MusicgenForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    codes, captions = pretraining_decoder.tokens(
        sorted(pieces.glob("pieces-*.npz")), model.audio_encoder, pieces
    )
    torch.manual_seed(seed)
    clock = BeatPhaseHead(model)
    for part in (model.text_encoder, model.audio_encoder):
        part.requires_grad_(False)
    taught = [*(weight for weight in model.parameters() if weight.requires_grad), *clock.parameters()]
    tried = draw(codes, captions, 0, seed + 1)
    model.train()

    def study(step: int) -> tuple[Tensor, dict[str, Any]]:
        batch = draw(codes, captions, step, seed)
        told: dict[str, Any] = {"frames": batch[0].shape[2]}
        with train_loop.bf16_autocast():
            if step < drills:
                unheard = torch.arange(len(batch[1])) < MASKED_AUDIO_FRACTION * len(batch[1])
                error = auxiliary_phase(model, clock, batch[0], batch[1], unheard).mean()
                return error, told | {"clock": error}
            parts, error = beat_batch(model, clock, *batch)
        return parts.mean() + BEAT_PHASE_LOSS_WEIGHT * error, told | {"loss": parts.mean(), "clock": error}

    def rate(step: int) -> float:
        now, term, peak = (
            (step, drills, AUXILIARY_LEARNING_RATE)
            if step < drills
            else (step - drills, steps, LEARNING_RATE)
        )
        return train_loop.lr_at(now, term, peak, warmup=80, floor=0.03)

    train_loop.train_loop(
        out,
        train_loop.TrainSchedule(drills + steps, log_every=20, checkpoint_every=CHECKPOINT_INTERVAL),
        {"model": model, "clock": clock},
        torch.optim.AdamW(taught, lr=LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98)),
        study,
        rate,
        lambda step: (
            beat_accuracy(model, clock, tried[0], tried[1]) if step % VALIDATION_INTERVAL == 0 else {}
        ),
    )
    return model


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--start", type=Path, default=Path("training/decoder/nano-musicgen"))
    parser.add_argument(
        "--pieces", type=Path, default=Path("training/decoder"), help="the folder of the coded pieces"
    )
    parser.add_argument("--out", type=Path, default=Path("training/time"))
    parser.add_argument("--drills", type=int, default=800)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = train(options.start, options.pieces, options.out, options.drills, options.steps, options.seed)
    model.to(torch.bfloat16).save_pretrained(options.out / "nano-musicgen")


if __name__ == "__main__":
    main()
