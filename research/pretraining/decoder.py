"""How nano-musicgen came to be: a decoder trained from scratch on performed music, over a text encoder that can read.

`python -m research.pretraining.decoder --codec training/codec/codec --text training/text --out training/decoder`
performs the pieces, codes them, trains, resumes where it stopped, and writes the checkpoint in bf16 to
OUT/nano-musicgen.

It begins with crops of one to three seconds. A caption is worth some nine nats a piece, however long the piece: in
crops they are one part in a hundred of the loss, in whole windows one in a thousand, and a decoder that began with
whole windows learned to play and never listened.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from research.pretraining import text_encoder, train_loop
from research.pretraining.codec import SEED_BASE
from talim.backbones.musicgen import delay_pattern
from talim.backbones.nano import musicgen, sinusoidal_model
from talim.backbones.nano.codec import NanoCodec
from talim.synthesis.performer import perform

LONG_SECONDS, SHORT_SECONDS = musicgen.WINDOW_SECONDS, 8.0
FRAMES_PER_STEP = 2000  # of codec time in one batch: two long clips or five short ones
CROP_FRAMES = (50, 150)
CROPS_ONLY_FRACTION = 0.5  # of the steps see crops only,
LATER_CROP_FRACTION = 0.3  # and of the others this share
CONDITION_DROPOUT = 0.1
CAPTION_GAIN_INTERVAL = 200  # steps between two measurements of what the words are worth
CHECKPOINT_INTERVAL = 50  # steps between checkpoints
DECODER_SEEDS = 2 * SEED_BASE  # apart from the codec's training pieces and the held-out ones


def seconds_of(clip: int) -> float:
    """Every third clip fills the window."""
    return LONG_SECONDS if clip % 3 == 0 else SHORT_SECONDS


def describe(clip: int) -> tuple[np.ndarray, str]:
    """The description [FEATURES, T] float16 and the caption of training clip number `clip`."""
    torch.set_num_threads(1)
    piece = perform(DECODER_SEEDS + clip, "western", seconds_of(clip))
    return sinusoidal_model.analyze(torch.from_numpy(piece.samples)[None])[0].numpy().astype(
        np.float16
    ), piece.caption


def pieces(out: Path, clips: int, workers: int) -> list[Path]:
    """Descriptions and captions of all clips, in files of a hundred; those that exist are kept."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"pieces-{first:05d}.npz" for first in range(0, clips, 100)]
    with ProcessPoolExecutor(workers) as pool:
        for index, file in enumerate(files):
            if file.exists():
                continue
            rows = list(pool.map(describe, range(100 * index, min(clips, 100 * index + 100)), chunksize=5))
            part = file.with_suffix(".part.npz")
            features = np.concatenate([row for row, _ in rows], 1)
            lengths = np.array([row.shape[1] for row, _ in rows])
            np.savez(
                part, features=features, lengths=lengths, captions=np.array([caption for _, caption in rows])
            )
            part.replace(file)
    return files


@torch.no_grad()
def tokens(files: list[Path], codec: NanoCodec, out: Path) -> tuple[list[np.ndarray], list[str]]:
    """Codes [K, T] int16 and captions of all clips; coded once."""
    store, words = out / "tokens.safetensors", out / "captions.json"
    if not store.exists():
        coded: dict[str, Tensor] = {}
        captions: list[str] = []
        for file in files:
            with np.load(file) as part:
                ends = np.cumsum(part["lengths"])
                for row in np.split(part["features"], ends[:-1], axis=1):
                    latent = codec.latent_of(torch.from_numpy(row.astype(np.float32))[None])
                    coded[f"{len(coded):05d}"] = codec.quantiser.encode(latent)[0].to(torch.int16)
                captions += [str(caption) for caption in part["captions"]]
        words.write_text(json.dumps(captions, indent=0))
        save_file(coded, store)
    loaded = load_file(store)
    return [loaded[key].numpy() for key in sorted(loaded)], json.loads(words.read_text())


def sample_batch_indices(
    codes: list[np.ndarray], rng: np.random.Generator, cut: float, bounds: tuple[int, int]
) -> tuple[np.ndarray, int]:
    """Which pieces make a batch, and how many frames of each are played.

    With probability `cut` a number of frames within `bounds`, else all of pieces that are of one length.
    """
    if rng.random() < cut:
        pool, frames = np.arange(len(codes)), int(rng.integers(bounds[0], bounds[1] + 1))
    else:
        wants_long = rng.random() < 0.45  # of the time in training, about as much as of the time in the clips
        pool = np.array([n for n in range(len(codes)) if (n % 3 == 0) == wants_long])
        frames = codes[pool[0]].shape[1]
    size = min(len(pool), max(1, FRAMES_PER_STEP // frames))
    return rng.choice(pool, size=size, replace=False), frames


def draw(
    codes: list[np.ndarray], captions: list[str], step: int, seed: int, crops: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Codes [B, K, T] of one length and the words to them; one in ten has none. Depends on the arguments alone.

    A batch is of crops with probability `crops`, half of them from where their piece begins.
    """
    rng = np.random.default_rng([seed, step])
    played, frames = sample_batch_indices(codes, rng, crops, CROP_FRAMES)
    starts = [int(rng.integers(codes[n].shape[1] - frames + 1)) * int(rng.integers(2)) for n in played]
    batch = np.stack([codes[n][:, s : s + frames] for n, s in zip(played, starts, strict=True)])
    words = musicgen.ByteTokenizer()([captions[n] for n in played])
    heard = torch.from_numpy(rng.random(len(played)) >= CONDITION_DROPOUT).long()[:, None]
    words["kept"] = words["attention_mask"] * heard
    return torch.from_numpy(batch.astype(np.int64)), words


def loss(model: Any, codes: Tensor, words: dict[str, Tensor]) -> Tensor:
    """Cross-entropy per codebook [K] of `codes` [B, K, T] after `words`."""
    shifts, special = delay_pattern.delays(codes.shape[1]), model.config.decoder.pad_token_id
    states = model.text_encoder(words["input_ids"], words["attention_mask"]).last_hidden_state
    sequence = delay_pattern.apply_delay_pattern(codes, special, shifts)[..., :-1]
    out = model(
        encoder_outputs=(states,),
        attention_mask=words["kept"],
        decoder_input_ids=sequence.reshape(-1, sequence.shape[-1]),
        use_cache=False,
    )
    everywhere = torch.ones(codes.shape[0], codes.shape[2], dtype=torch.bool)
    return delay_pattern.cross_entropy(out.logits.view(*sequence.shape, -1), codes, everywhere, shifts).parts


@torch.no_grad()
def caption_gain(model: Any, codes: Tensor, words: dict[str, Tensor]) -> float:
    """How many nats a clip its own words save, against the words of the clip before it."""
    swapped = {name: rows.roll(1, 0) for name, rows in words.items()}
    own, other = (float(loss(model, codes, said).sum()) for said in (words, swapped))
    return (other - own) * codes.shape[2]


def train(
    out: Path,
    codec: NanoCodec,
    text: Path,
    clips: int,
    steps: int,
    seed: int,
    workers: int,
    peak_rate: float = 1.5e-3,
) -> Any:
    """Train to `steps`, logging to OUT/log.jsonl and keeping a checkpoint from which it resumes."""
    codes, captions = tokens(pieces(out, clips, workers), codec, out)
    model: Any = musicgen.build_nano_musicgen(seed, codec)
    text_encoder.restore(model.text_encoder, text)
    trained = [
        p for n, p in model.named_parameters() if not n.startswith(("audio_encoder.", "text_encoder."))
    ]
    listened = draw(codes, captions, 0, seed + 1, crops=1.0)
    listened[1]["kept"] = listened[1]["attention_mask"]
    model.train()

    def lesson(step: int) -> tuple[Tensor, dict[str, Any]]:
        crops = 1.0 if step < CROPS_ONLY_FRACTION * steps else LATER_CROP_FRACTION
        batch = draw(codes, captions, step, seed, crops=crops)
        with train_loop.bf16_autocast():
            parts = loss(model, *batch)
        return parts.mean(), {"loss": parts.mean(), "parts": parts, "frames": batch[0].shape[2]}

    def look(step: int) -> dict[str, Any]:
        return {"words_worth": caption_gain(model, *listened)} if step % CAPTION_GAIN_INTERVAL == 0 else {}

    train_loop.train_loop(
        out,
        train_loop.TrainSchedule(steps, log_every=20, checkpoint_every=CHECKPOINT_INTERVAL),
        {"model": model},
        torch.optim.AdamW(trained, lr=peak_rate, weight_decay=0.05, betas=(0.9, 0.98)),
        lesson,
        lambda step: train_loop.lr_at(step, steps, peak_rate, warmup=80, floor=0.03),
        look,
    )
    return model


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--codec", type=Path, default=Path("training/codec/codec"))
    parser.add_argument("--out", type=Path, default=Path("training/decoder"))
    parser.add_argument("--text", type=Path, default=Path("training/text"))
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--only-pieces", action="store_true", help="perform and describe the pieces, then stop"
    )
    options = parser.parse_args()
    if options.only_pieces:
        pieces(options.out, options.clips, options.workers)
        return
    codec: Any = NanoCodec.from_pretrained(options.codec).eval()
    codec.to(
        torch.bfloat16
    ).float()  # rounded as it will be shipped, so that its tokens are those it will give
    model = train(
        options.out, codec, options.text, options.clips, options.steps, options.seed, options.workers
    )
    model.to(torch.bfloat16).save_pretrained(options.out / "nano-musicgen")


if __name__ == "__main__":
    main()
