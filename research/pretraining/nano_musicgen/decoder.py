"""Training of nano-musicgen's decoder from scratch on synthetic music, over the pretrained text encoder.

    python -m research.pretraining.nano_musicgen.decoder --codec training/codec/codec --text training/text
        --out training/decoder

renders the pieces, encodes them, trains, resumes if it was stopped, and writes the checkpoint in bf16 to
OUT/nano-musicgen.

Training begins with crops of one to three seconds. A caption is worth about nine nats per piece, whatever its length:
one part in a hundred of the loss in crops, one in a thousand in whole windows. A decoder that began with whole windows
never learned to follow captions.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from research.pretraining import nano_models, text_encoder, train_loop
from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen.codec import SEED_BASE
from research.pretraining.western_style import perform
from talim.backbones.musicgen import delay_pattern
from talim.backbones.nano import musicgen, sinusoidal_model
from talim.backbones.nano.codec import NanoCodec

DECODER_SEEDS = 2 * SEED_BASE  # apart from the codec's training pieces and the held-out ones


@dataclass(frozen=True)
class Config:
    """Settings of the decoder's training.

    frames_per_step: codec frames in one batch (two long clips or five short ones)
    crops_only_fraction: of the steps, the first ones, that use crops only
    later_crop_fraction: of the other steps, that use crops
    caption_gain_every: steps between two measurements of `caption_gain`
    only_pieces: render and analyse the pieces, then stop
    """

    codec: Path = Path("training/codec/codec")
    text: Path = Path("training/text")
    out: Path = Path("training/decoder")
    steps: int = 5000
    clips: int = 3000
    long_seconds: float = nano_models.WINDOW_SECONDS
    short_seconds: float = 8.0
    frames_per_step: int = 2000
    crop_frames: tuple[int, int] = (50, 150)
    crops_only_fraction: float = 0.5
    later_crop_fraction: float = 0.3
    condition_dropout: float = 0.1
    peak_learning_rate: float = 1.5e-3
    caption_gain_every: int = 200
    checkpoint_every: int = 50
    seed: int = 1
    num_workers: int = 2
    only_pieces: bool = False


def analyse(clip: int, config: Config) -> tuple[np.ndarray, str]:
    """Sinusoidal features [FEATURES, T] float16 and caption of a training clip; every third fills the window."""
    torch.set_num_threads(1)
    seconds = config.long_seconds if clip % 3 == 0 else config.short_seconds
    piece = perform(DECODER_SEEDS + clip, "western", seconds)
    features = sinusoidal_model.analyze(torch.from_numpy(piece.samples)[None])[0]
    return features.numpy().astype(np.float16), piece.caption


def pieces(config: Config) -> list[Path]:
    """Files of a hundred clips' features and captions each; existing files are not rendered again."""
    config.out.mkdir(parents=True, exist_ok=True)
    files = [config.out / f"pieces-{first:05d}.npz" for first in range(0, config.clips, 100)]
    with ProcessPoolExecutor(config.num_workers) as pool:
        for index, file in enumerate(files):
            if file.exists():
                continue
            clips = range(100 * index, min(config.clips, 100 * index + 100))
            rows = list(pool.map(partial(analyse, config=config), clips, chunksize=5))
            part = file.with_suffix(".part.npz")
            features = np.concatenate([row for row, _ in rows], 1)
            lengths = np.array([row.shape[1] for row, _ in rows])
            np.savez(part, features=features, lengths=lengths, captions=np.array([caption for _, caption in rows]))
            part.replace(file)
    return files


@torch.no_grad()
def tokens(files: list[Path], codec: NanoCodec, out: Path) -> tuple[list[np.ndarray], list[str]]:
    """Codes [K, T] int16 and captions of all clips, encoded once and stored in `out`."""
    token_file, caption_file = out / "tokens.safetensors", out / "captions.json"
    if not token_file.exists():
        codes: dict[str, Tensor] = {}
        captions: list[str] = []
        for file in files:
            with np.load(file) as part:
                ends = np.cumsum(part["lengths"])
                for row in np.split(part["features"], ends[:-1], axis=1):
                    latent = codec.latent_of(torch.from_numpy(row.astype(np.float32))[None])
                    codes[f"{len(codes):05d}"] = codec.quantiser.encode(latent)[0].to(torch.int16)
                captions += [str(caption) for caption in part["captions"]]
        caption_file.write_text(json.dumps(captions, indent=0))
        save_file(codes, token_file)
    loaded = load_file(token_file)
    return [loaded[key].numpy() for key in sorted(loaded)], json.loads(caption_file.read_text())


def sample_batch_indices(
    codes: list[np.ndarray],
    rng: np.random.Generator,
    crop_probability: float,
    crop_frames: tuple[int, int],
    frames_per_step: int,
) -> tuple[np.ndarray, int]:
    """The pieces of a batch and the number of frames of each: a random crop length, or whole pieces of one length."""
    if rng.random() < crop_probability:
        pool, frames = np.arange(len(codes)), int(rng.integers(crop_frames[0], crop_frames[1] + 1))
    else:
        wants_long = rng.random() < 0.45  # about the fraction of the music that is in long clips
        pool = np.array([n for n in range(len(codes)) if (n % 3 == 0) == wants_long])
        frames = codes[pool[0]].shape[1]
    size = min(len(pool), max(1, frames_per_step // frames))
    return rng.choice(pool, size=size, replace=False), frames


def draw(
    codes: list[np.ndarray], captions: list[str], step: int, config: Config, crop_probability: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Codes [B, K, T] of one length and their text tokens, with condition dropout; determined by the arguments.

    Half of the crops start where their piece does.
    """
    rng = np.random.default_rng([config.seed, step])
    indices, frames = sample_batch_indices(codes, rng, crop_probability, config.crop_frames, config.frames_per_step)
    starts = [int(rng.integers(codes[n].shape[1] - frames + 1)) * int(rng.integers(2)) for n in indices]
    batch = np.stack([codes[n][:, s : s + frames] for n, s in zip(indices, starts, strict=True)])
    text = musicgen.ByteTokenizer()([captions[n] for n in indices])
    conditioned = torch.from_numpy(rng.random(len(indices)) >= config.condition_dropout).long()[:, None]
    text["condition_mask"] = text["attention_mask"] * conditioned
    return torch.from_numpy(batch.astype(np.int64)), text


def loss(model: Any, codes: Tensor, text: dict[str, Tensor]) -> Tensor:
    """Cross-entropy per codebook [K] of `codes` [B, K, T] given `text`."""
    shifts, special = delay_pattern.delays(codes.shape[1]), model.config.decoder.pad_token_id
    states = model.text_encoder(text["input_ids"], text["attention_mask"]).last_hidden_state
    sequence = delay_pattern.apply_delay_pattern(codes, special, shifts)[..., :-1]
    out = model(
        encoder_outputs=(states,),
        attention_mask=text["condition_mask"],
        decoder_input_ids=sequence.reshape(-1, sequence.shape[-1]),
        use_cache=False,
    )
    valid = torch.ones(codes.shape[0], codes.shape[2], dtype=torch.bool)
    return delay_pattern.cross_entropy(out.logits.view(*sequence.shape, -1), codes, valid, shifts).parts


@torch.no_grad()
def caption_gain(model: Any, codes: Tensor, text: dict[str, Tensor]) -> float:
    """Nats per clip by which its own caption lowers the loss, relative to another clip's caption."""
    swapped = {name: rows.roll(1, 0) for name, rows in text.items()}
    with_own, with_other = (float(loss(model, codes, each).sum()) for each in (text, swapped))
    return (with_other - with_own) * codes.shape[2]


def train(config: Config, codec: NanoCodec) -> Any:
    """Train the decoder, with OUT/log.jsonl and a checkpoint from which it resumes."""
    codes, captions = tokens(pieces(config), codec, config.out)
    model: Any = nano_models.build_nano_musicgen(config.seed, codec)
    text_encoder.restore(model.text_encoder, config.text)
    trained = [p for n, p in model.named_parameters() if not n.startswith(("audio_encoder.", "text_encoder."))]
    validation = draw(codes, captions, 0, replace(config, seed=config.seed + 1), crop_probability=1.0)
    validation[1]["condition_mask"] = validation[1]["attention_mask"]
    model.train()

    def compute_loss(step: int) -> tuple[Tensor, dict[str, Any]]:
        early = step < config.crops_only_fraction * config.steps
        batch = draw(codes, captions, step, config, 1.0 if early else config.later_crop_fraction)
        with train_loop.bf16_autocast():
            parts = loss(model, *batch)
        return parts.mean(), {"loss": parts.mean(), "parts": parts, "frames": batch[0].shape[2]}

    def validate(step: int) -> dict[str, Any]:
        due = step % config.caption_gain_every == 0
        return {"caption_gain": caption_gain(model, *validation)} if due else {}

    train_loop.train_loop(
        config.out,
        train_loop.TrainSchedule(config.steps, log_every=20, checkpoint_every=config.checkpoint_every),
        {"model": model},
        torch.optim.AdamW(trained, lr=config.peak_learning_rate, weight_decay=0.05, betas=(0.9, 0.98)),
        compute_loss,
        lambda step: train_loop.lr_at(step, config.steps, config.peak_learning_rate, warmup=80, floor=0.03),
        validate,
    )
    return model


def main() -> None:
    """Train and save."""
    config = parse_config(Config, __doc__)
    if config.only_pieces:
        pieces(config)
        return
    codec: Any = NanoCodec.from_pretrained(config.codec).eval()
    codec.to(torch.bfloat16).float()  # rounded as it is shipped, so that its tokens are the same
    model = train(config, codec)
    model.to(torch.bfloat16).save_pretrained(config.out / "nano-musicgen")


if __name__ == "__main__":
    main()
