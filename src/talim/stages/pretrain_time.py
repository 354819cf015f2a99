"""How nano-musicgen came to keep time: an inner clock first, then music played by it.

`python -m talim.stages.pretrain_time --start training/decoder/nano-musicgen --pieces training/decoder --out
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

from talim.backbones import delay
from talim.backbones.nano import models, sinusoids
from talim.stages import pretrain_decoder, schooling
from talim.stages.pretrain_decoder import CONDITION_DROPOUT

LAYERS = 3  # of the decoder: the clock is read from the state after them
BEGINNING_FRAMES = (150, 400)
BEGINNINGS = 0.6  # of the steps play beginnings, the others whole pieces
CLOCK_WEIGHT = 2.0  # of the clock's error beside the music's loss
DRILL_RATE, RATE = 1e-3, 7e-4  # of learning, at the peak
UNHEARD = 0.5  # of the pieces of a drill
KEEP_EVERY = 50  # steps between checkpoints
LOOK_EVERY = 200  # steps between two looks at the clock


def phases(captions: list[str], frames: int) -> Tensor:
    """Sine and cosine of where each frame lies in its beat, then in its bar: [B, frames, 4]."""
    seconds = torch.arange(frames) * sinusoids.HOP / sinusoids.RATE_HZ
    rows = []
    for caption in captions:
        found = re.search(r"(\d+) bpm", caption)
        if found is None:
            raise ValueError(f"no tempo in the caption {caption!r}")
        beat = 60 / int(found[1])
        turns = [2 * torch.pi * seconds / span for span in (beat, beat * (3 if "waltz" in caption else 4))]
        rows.append(torch.stack([wave(turn) for turn in turns for wave in (torch.sin, torch.cos)], -1))
    return torch.stack(rows)


class Clock(nn.Module):
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
    played, frames = pretrain_decoder.chosen(codes, rng, BEGINNINGS, BEGINNING_FRAMES)
    batch = np.stack([codes[n][:, :frames] for n in played]).astype(np.int64)
    told = torch.from_numpy(rng.random(len(played)) >= CONDITION_DROPOUT)
    return torch.from_numpy(batch), [captions[n] for n in played], told


def drill(model: Any, clock: Clock, codes: Tensor, captions: list[str], unheard: Tensor) -> Tensor:
    """The clock's error [B]; where `unheard` [B], words and positions are all there is to tell the time by."""
    special, words = model.config.decoder.pad_token_id, models.ByteTokenizer()(captions)
    states = model.text_encoder(words["input_ids"], words["attention_mask"]).last_hidden_state
    sequence = delay.build(codes, special, delay.delays(codes.shape[1]))[..., : codes.shape[2]]
    sequence = sequence.masked_fill(unheard[:, None, None], special)
    with clock.alone() as decoder:
        decoder(
            input_ids=sequence.reshape(-1, sequence.shape[-1]),
            encoder_hidden_states=model.enc_to_dec_proj(states) * words["attention_mask"][..., None],
            encoder_attention_mask=words["attention_mask"],
            use_cache=False,
        )
    return clock.error(captions, codes.shape[2])


def lesson(
    model: Any, clock: Clock, codes: Tensor, captions: list[str], told: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy per codebook [K], and the clock's error over the rows that are told their words."""
    words = models.ByteTokenizer()(captions)
    words["kept"] = words["attention_mask"] * told.long()[:, None]
    parts = pretrain_decoder.loss(model, codes, words)
    errors = clock.error(captions, codes.shape[2])
    return parts, (errors * told).sum() / told.sum().clamp(min=1)


@torch.no_grad()
def kept_time(model: Any, clock: Clock, codes: Tensor, captions: list[str]) -> dict[str, float]:
    """The clock's error on pieces that are heard, and on the same unheard."""
    heard = torch.zeros(len(captions), dtype=torch.bool)
    return {
        name: round(float(drill(model, clock, codes, captions, rows).mean()), 4)
        for name, rows in (("heard", heard), ("unheard", ~heard))
    }


def train(start: Path, pieces: Path, out: Path, drills: int, steps: int, seed: int) -> Any:
    """`drills` steps of the clock alone, then `steps` of music, logging to OUT/log.jsonl, and resume."""
    out.mkdir(parents=True, exist_ok=True)
    models.register()
    model: Any = models.MusicgenForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    codes, captions = pretrain_decoder.tokens(
        sorted(pieces.glob("pieces-*.npz")), model.audio_encoder, pieces
    )
    torch.manual_seed(seed)
    clock = Clock(model)
    for part in (model.text_encoder, model.audio_encoder):
        part.requires_grad_(False)
    taught = [*(weight for weight in model.parameters() if weight.requires_grad), *clock.parameters()]
    tried = draw(codes, captions, 0, seed + 1)
    model.train()

    def study(step: int) -> tuple[Tensor, dict[str, Any]]:
        batch = draw(codes, captions, step, seed)
        told: dict[str, Any] = {"frames": batch[0].shape[2]}
        with schooling.fast():
            if step < drills:
                unheard = torch.arange(len(batch[1])) < UNHEARD * len(batch[1])
                error = drill(model, clock, batch[0], batch[1], unheard).mean()
                return error, told | {"clock": error}
            parts, error = lesson(model, clock, *batch)
        return parts.mean() + CLOCK_WEIGHT * error, told | {"loss": parts.mean(), "clock": error}

    def rate(step: int) -> float:
        now, term, peak = (step, drills, DRILL_RATE) if step < drills else (step - drills, steps, RATE)
        return schooling.rate_at(now, term, peak, warmup=80, floor=0.03)

    schooling.teach(
        out,
        schooling.Term(drills + steps, log_every=20, keep_every=KEEP_EVERY),
        {"model": model, "clock": clock},
        torch.optim.AdamW(taught, lr=RATE, weight_decay=0.05, betas=(0.9, 0.98)),
        study,
        rate,
        lambda step: kept_time(model, clock, tried[0], tried[1]) if step % LOOK_EVERY == 0 else {},
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
