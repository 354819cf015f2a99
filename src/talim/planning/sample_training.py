"""A short real training on synthetic clips, to measure what a whole `talim train` takes in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from talim.audio import Audio, content_hash, read, write
from talim.corpus.corpus_folder import write_corpus
from talim.corpus.manifest import FORMAT_VERSION, Clip, Corpus
from talim.planning.training_step import StepConfig
from talim.progress import Progress
from talim.recipe import Recipe, Training
from talim.training.resource_usage import peak_memory_bytes
from talim.training.train import train

STEPS = 8  # the heap grows for some steps
CLIPS, CLIP_SECONDS, RATE_HZ = 12, 10.0, 16000
WORDS = ["a", "slow", "piece", "for", "one", "voice", "and", "a", "drone", "played", "very", "softly", "at", "night"]


def peak_bytes(
    config: StepConfig,
    clip_seconds: float = CLIP_SECONDS,
    max_seconds: float | None = None,
    progress: Progress | None = None,
) -> int:
    """Peak memory of this process once it has trained for some steps on clips of `clip_seconds`, and stored the result.

    The precision, crop and batch size are those of `config`; after `max_seconds` it ends early. Meant for a process
    that did nothing else.
    """
    with tempfile.TemporaryDirectory(prefix="talim-") as folder:
        corpus = make_corpus(Path(folder) / "corpus", clip_seconds)
        training = Training(
            steps=STEPS,
            batch_size=config.batch_size,
            crop_seconds=config.crop_seconds,
            precision="bf16" if config.precision == "bf16" else "fp32",
            gradient_checkpointing=config.gradient_checkpointing,
            eval_every=STEPS // 2,
            checkpoint_every=STEPS // 2,
            warmup_steps=1,
        )
        recipe = Recipe(base=config.base, corpus=corpus.folder, design=config.design, training=training)
        train(recipe, Path(folder) / "run", progress, "cpu", seconds=max_seconds)
    return peak_memory_bytes(torch.device("cpu"))


def make_corpus(folder: Path, clip_seconds: float) -> Corpus:
    """Noisy tones with captions of several lengths: nine clips to train on, two for validation, one test."""
    clips = []
    for number in range(CLIPS):
        name = f"clips/{number}.flac"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).standard_normal(int(clip_seconds * RATE_HZ))
        tone = np.sin(2 * np.pi * (200 + 20 * number) * np.arange(len(noise)) / RATE_HZ)
        write(folder / name, Audio((0.3 * tone + 0.05 * noise).astype(np.float32), RATE_HZ))
        side = "held_out" if number == CLIPS - 1 else "validation" if number % 4 == 3 else "train"
        clips.append(
            Clip(
                id=str(number),
                file=name,
                recording=f"recording {number}",
                performer="unknown",
                start_seconds=0.0,
                seconds=clip_seconds,
                caption=" ".join(WORDS[: 2 + number]),
                split=side,
                audio_hash=content_hash(read(folder / name)),
                source_file=name,
                source_hash="",
            )
        )
    trained = sum(clip.split == "train" for clip in clips)
    split = {"train": {"clips": trained, "seconds": trained * clip_seconds}}
    facts = {"format_version": FORMAT_VERSION, "clip_seconds": clip_seconds, "split": split}
    corpus = Corpus(folder, tuple(clips), facts)
    write_corpus(corpus)
    return corpus
