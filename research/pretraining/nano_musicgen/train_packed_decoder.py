"""Training of nano-musicgen's decoder from packed tokens, on a GPU or CPU, for a given time.

    python -m research.pretraining.nano_musicgen.train_packed_decoder --tokens training/tokens --text training/text
        --out training/packed --seconds 490

reads all files of `pack_tokens` below the folder, also those that are written while it runs, and writes
OUT/weights.safetensors every minute, OUT/log.jsonl and OUT/state.pt, from which it resumes; `--seconds` is the time of
all runs together. A second run gives other weights: which clips are in a batch depends on the speed of the machine.

Short crops come first: a caption is worth about nine nats per piece, whatever its length. An auxiliary
head, discarded afterwards, predicts the position in beat and bar from the middle layer. Half of
a batch is equal-tempered music, half the broad corpus.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import T5EncoderModel

from research.pretraining import text_encoder, train_loop
from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen import pack_tokens, plain_decoder
from research.pretraining.nano_musicgen.plain_decoder import DecoderShape, PlainDecoder
from talim.backbones.nano import musicgen

MAX_CAPTION_TOKENS = 128  # in training; longer captions are cut
FRAME_SECONDS = 0.02
CONDITION_DROPOUT = 0.1
BEAT_LAYER, BEAT_LOSS_WEIGHT = 3, 1.0
CROP_FRAMES = (100, 200, 500, 1500)
EARLY_CROP_PROBABILITIES = (0.45, 0.25, 0.2, 0.1)  # in the first part of the time
LATE_CROP_PROBABILITIES = (0.1, 0.1, 0.2, 0.6)
EARLY_FRACTION = 0.25  # of the time
WESTERN_START_PROBABILITY, BROAD_START_PROBABILITY = 0.65, 0.35  # that a crop begins where its piece does
VALIDATION_FILES = 2  # the first files, which are not trained on
LOG_SECONDS, VALIDATION_SECONDS, READ_SECONDS, SAVE_SECONDS = 5, 30, 15, 60
FILES_PER_READ = 40


@dataclass(frozen=True)
class Config:
    """Settings of the training.

    seconds: time of all runs together; steps: at most so many, if that is reached first
    western_fraction: of the clips in a batch
    """

    tokens: Path = Path("training/tokens")
    text: Path = Path("training/text")
    out: Path = Path("training/packed")
    seconds: float = 490.0
    steps: int = 1 << 60
    frames_per_step: int = 96_000
    peak_learning_rate: float = 2e-3
    final_learning_rate_fraction: float = 0.01
    warmup_steps: int = 200
    western_fraction: float = 0.5
    seed: int = 1
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


class TokenPool:
    """The clips of all files read so far, on the device: codes, text states, beats and bars."""

    def __init__(self, folder: Path, text: Any, device: torch.device) -> None:
        self.folder, self.text, self.device = folder, text, device
        self.files: set[Path] = set()
        self.codes = torch.zeros(0, pack_tokens.CODEBOOKS, pack_tokens.FRAMES, dtype=torch.int16, device=device)
        self.states = torch.zeros(0, MAX_CAPTION_TOKENS, text.config.d_model, dtype=torch.bfloat16, device=device)
        self.mask = torch.zeros(0, MAX_CAPTION_TOKENS, dtype=torch.bool, device=device)
        self.metre = torch.zeros(0, 2, device=device)
        self.western = self.broad = torch.zeros(0, dtype=torch.long, device=device)

    def read_new_files(self, most: int | None = None) -> None:
        """Add the clips of files that are new, of `most` at a time."""
        files = sorted(file for file in self.folder.rglob("tokens-*.npz") if ".part" not in file.name)
        new = [file for file in files if file not in self.files][:most]
        for file in new:
            self.add(pack_tokens.read(file))
        self.files.update(new)
        self.western = (self.metre[:, 0] > 0).nonzero()[:, 0]
        self.broad = (self.metre[:, 0] == 0).nonzero()[:, 0]

    def add(self, shard: pack_tokens.Shard) -> None:
        """Add the clips of a shard."""
        states, mask = encode_captions(self.text, shard.captions, self.device)
        self.codes = torch.cat([self.codes, torch.from_numpy(shard.codes).to(self.device)])
        self.states = torch.cat([self.states, states])
        self.mask = torch.cat([self.mask, mask])
        self.metre = torch.cat([self.metre, torch.from_numpy(shard.metre).to(self.device)])


@torch.no_grad()
def encode_captions(text: Any, captions: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Text states bf16 [N, MAX_CAPTION_TOKENS, D] and their mask; longer captions are cut."""
    short = [caption.encode()[: MAX_CAPTION_TOKENS - 1].decode(errors="ignore") for caption in captions]
    tokens = musicgen.ByteTokenizer()(short)
    padding = MAX_CAPTION_TOKENS - tokens["input_ids"].shape[1]
    ids, mask = (nn.functional.pad(tokens[n], (0, padding)).to(device) for n in ("input_ids", "attention_mask"))
    return text(ids, mask).last_hidden_state.to(torch.bfloat16), mask.bool()


@dataclass(frozen=True)
class Batch:
    """Codes [B, K, T], text states, mask, and beat and bar in seconds [B, 2], 0 where not to be predicted."""

    codes: Tensor
    states: Tensor
    mask: Tensor
    metre: Tensor


def draw(pool: TokenPool, step: int, config: Config, early: bool) -> Batch:
    """A batch of crops of one length; the beat is predicted in those that begin where their piece does."""
    rng = np.random.default_rng([config.seed, step])
    probabilities = np.array(EARLY_CROP_PROBABILITIES if early else LATE_CROP_PROBABILITIES)
    frames = CROP_FRAMES[int(rng.choice(len(CROP_FRAMES), p=probabilities / probabilities.sum()))]
    size = max(1, config.frames_per_step // frames)
    western = rng.random(size) < config.western_fraction
    rows = np.where(western, rng.integers(len(pool.western), size=size), rng.integers(len(pool.broad), size=size))
    is_western = torch.from_numpy(western).to(pool.device)
    index = torch.from_numpy(rows).to(pool.device)
    clips = torch.where(is_western, pool.western[index % len(pool.western)], pool.broad[index % len(pool.broad)])
    from_start = rng.random(size) < np.where(western, WESTERN_START_PROBABILITY, BROAD_START_PROBABILITY)
    starts = np.where(from_start, 0, rng.integers(pack_tokens.FRAMES - frames + 1, size=size))
    positions = torch.from_numpy(starts).to(pool.device)[:, None] + torch.arange(frames, device=pool.device)
    codes = pool.codes[clips].gather(2, positions[:, None].expand(-1, pack_tokens.CODEBOOKS, -1)).long()
    conditioned = rng.random(size) >= CONDITION_DROPOUT
    mask = pool.mask[clips] & torch.from_numpy(conditioned).to(pool.device)[:, None]
    with_beat = torch.from_numpy((starts == 0) & conditioned).to(pool.device)[:, None]
    longest = int(mask.sum(1).max().clamp(min=8)) if pool.device.type == "cpu" else MAX_CAPTION_TOKENS
    return Batch(codes, pool.states[clips][:, :longest], mask[:, :longest], pool.metre[clips] * with_beat)


class BeatHead(nn.Module):
    """Predicts sine and cosine of the position in beat and bar from states [B, S, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4))

    def error(self, states: Tensor, metre: Tensor) -> Tensor:
        """Mean squared error over the rows whose metre is not 0; 0.5 for a constant guess."""
        known = metre[:, 0] > 0
        times = torch.arange(states.shape[1], device=states.device) * FRAME_SECONDS
        angles = 2 * math.pi * times[None, :, None] / torch.where(known[:, None], metre, 1.0)[:, None]
        target = torch.stack([angles.sin(), angles.cos()], -1).flatten(2)
        errors = (self.read(states).float() - target).square().mean((1, 2))
        return (errors * known).sum() / known.sum().clamp(min=1)


def batch_losses(model: PlainDecoder, head: BeatHead, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy per codebook [K], and the beat head's error."""
    sequence = plain_decoder.delayed(batch.codes, model.shape.codes)
    hidden, middle = model(sequence, batch.states, batch.mask, middle_layer=BEAT_LAYER)
    frames = batch.codes.shape[-1]
    return plain_decoder.losses(model, hidden, batch.codes), head.error(middle[:, :frames], batch.metre)


def lr_at(progress: float, step: int, config: Config) -> float:
    """Linear warm-up over the first steps times a cosine decay over `progress`, 0 to 1."""
    floor = config.final_learning_rate_fraction
    decay = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.peak_learning_rate * min(1.0, (step + 1) / config.warmup_steps) * decay


@torch.no_grad()
def validate(model: PlainDecoder, head: BeatHead, pool: TokenPool) -> dict[str, Any]:
    """Nats per codebook on held-out western and broad clips, gain of the captions in nats per clip, and beat error."""
    row: dict[str, Any] = {}
    for name, clips in (("western", pool.western), ("broad", pool.broad)):
        parts, errors, with_other = [], [], []
        for index in clips[: 48 if pool.device.type == "cuda" else 4].split(12):
            batch = Batch(pool.codes[index].long(), pool.states[index], pool.mask[index], pool.metre[index])
            swapped = Batch(batch.codes, batch.states.roll(1, 0), batch.mask.roll(1, 0), batch.metre)
            with torch.autocast(pool.device.type, torch.bfloat16):
                nats, error = batch_losses(model, head, batch)
                with_other.append(batch_losses(model, head, swapped)[0])
            parts.append(nats)
            errors.append(error)
        row[name] = [round(float(x), 4) for x in torch.stack(parts).mean(0)]
        gain = (torch.stack(with_other) - torch.stack(parts)).sum(1).mean() * pack_tokens.FRAMES
        row[f"{name}_caption_gain"] = round(float(gain), 1)
        if name == "western":
            row["beat_error"] = round(float(torch.stack(errors).mean()), 4)
    return row


class Trainer:
    """Model, beat head and optimiser with their state files in `config.out`."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        model = PlainDecoder(DecoderShape())
        model.initialise(config.seed)
        self.model, self.head = model.to(device), BeatHead(model.shape.width).to(device)
        matrices = [weight for weight in model.parameters() if weight.ndim == 2]
        others = [weight for weight in model.parameters() if weight.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": 0.05},
            {"params": [*others, *self.head.parameters()], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=config.peak_learning_rate, betas=(0.9, 0.98), fused=device.type == "cuda"
        )
        self.step, earlier_seconds = 0, 0.0
        self.state_file = config.out / "state.pt"
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location=device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, earlier_seconds = state["step"], state["seconds"]
        self.began = time.time() - earlier_seconds

    @property
    def seconds(self) -> float:
        """Time of all runs together."""
        return time.time() - self.began

    @property
    def progress(self) -> float:
        """Fraction of the time or of the steps, whichever is larger; 1 at the end."""
        return max(self.seconds / self.config.seconds, self.step / self.config.steps)

    def take_step(self, pool: TokenPool) -> dict[str, Any]:
        """Take one step and return values to log."""
        for group in self.optimiser.param_groups:
            group["lr"] = lr_at(self.progress, self.step, self.config)
        batch = draw(pool, self.step, self.config, self.progress < EARLY_FRACTION)
        with torch.autocast(self.device.type, torch.bfloat16):
            parts, error = batch_losses(self.model, self.head, batch)
        loss = parts.mean() + BEAT_LOSS_WEIGHT * error
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_([*self.model.parameters(), *self.head.parameters()], 1.0)
        self.optimiser.step()
        self.step += 1
        return {
            "loss": parts.detach().mean(),
            "beat_error": error.detach(),
            "gradient_norm": norm,
            "frames": batch.codes.shape[-1],
        }

    def log(self, pool: TokenPool, values: dict[str, Any]) -> None:
        """Append a row to OUT/log.jsonl and print it."""
        plain = {n: round(float(v), 4) if isinstance(v, Tensor) else v for n, v in values.items()}
        row = {"step": self.step, "seconds": round(self.seconds, 1), "clips": len(pool.codes)} | plain
        train_loop.log_row(self.config.out / "log.jsonl", row)
        print(json.dumps(row), flush=True)

    def save(self) -> None:
        """Write the weights in bf16, and the state from which a run resumes."""
        weights = {n: w.detach().to(torch.bfloat16).cpu().contiguous() for n, w in self.model.state_dict().items()}
        file = self.config.out / "weights.safetensors"
        part = file.with_suffix(".part")
        save_file(weights, part)
        part.replace(file)
        modules = {"model": self.model, "head": self.head, "optimiser": self.optimiser}
        state = {name: module.state_dict() for name, module in modules.items()}
        train_loop.save_atomic(self.state_file, state | {"step": self.step, "seconds": self.seconds})


def load_text_encoder(folder: Path, device: torch.device) -> Any:
    """The frozen text encoder that `train_text_encoder` trained."""
    text: Any = T5EncoderModel(musicgen.text_config(DecoderShape().text_width, 2))
    text_encoder.restore(text, folder)
    return text.to(device).eval()


def train(config: Config) -> PlainDecoder:
    """Train until `config.seconds` or `config.steps` are reached."""
    config.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(config.device)
    text = load_text_encoder(config.text, device)
    validation, pool = TokenPool(config.tokens, text, device), TokenPool(config.tokens, text, device)
    validation.read_new_files(VALIDATION_FILES)
    pool.files.update(validation.files)
    pool.read_new_files()
    trainer = Trainer(config, device)
    logged_at = read_at = saved_at = time.time()
    validated_at = 0.0
    while trainer.progress < 1:
        values = trainer.take_step(pool)
        if time.time() - logged_at > LOG_SECONDS or trainer.step in (1, 20, config.steps):
            logged_at = time.time()
            if logged_at - validated_at > VALIDATION_SECONDS:
                validated_at = logged_at
                values |= validate(trainer.model, trainer.head, validation)
            trainer.log(pool, values)
        if time.time() - read_at > READ_SECONDS:
            pool.read_new_files(FILES_PER_READ)
            read_at = time.time()
        if time.time() - saved_at > SAVE_SECONDS:
            trainer.save()
            saved_at = time.time()
    trainer.save()
    trainer.log(pool, validate(trainer.model, trainer.head, validation))
    return trainer.model


def main() -> None:
    """Train and save."""
    train(parse_config(Config, __doc__))


if __name__ == "__main__":
    main()
