"""A small test on disk: three conditions of four items, of unequal loudness and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from talim.run import write_jsonl

RATE_HZ = 8000
PROMPTS = ("slow flute", "fast drum", "low voice", "bright lute")


def tone(seed: int, seconds: float, level: float) -> np.ndarray:
    """Two gliding partials and some noise, float32 [T]."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    glide_hz = 220 + 40 * seed + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(glide_hz) / RATE_HZ
    sound = np.sin(phase) + 0.4 * np.sin(3 * phase) + 0.1 * rng.standard_normal(len(time))
    return (level * sound / np.abs(sound).max()).astype(np.float32)


def write_run(folder: Path, place: int, seconds: float = 1.2) -> Path:
    """RUN/samples as talim evaluate leaves them: before, after and real for each prompt."""
    samples = folder / "samples"
    samples.mkdir(parents=True)
    rows = []
    for number, prompt in enumerate(PROMPTS):
        for index, role in enumerate(("before", "after", "real")):
            seed = 100 * number + 10 * index * (role != "after") + place * (role == "after")
            name = f"{number}-{role}.flac"
            sound = tone(seed, seconds + 0.1 * index, 0.1 + 0.25 * index)
            soundfile.write(samples / name, sound, RATE_HZ)
            rows.append({"file": name, "role": role, "prompt": prompt, "seed": 0})
    write_jsonl(samples / "manifest.jsonl", rows)
    return folder


def protocol_values(**changes: Any) -> dict[str, Any]:
    """A protocol over two runs, the untrained base and real music, with short trials."""
    values: dict[str, Any] = {
        "name": "small",
        "conditions": [
            {"name": "linear", "source": "runs/linear"},
            {"name": "conv", "source": "runs/conv"},
            {"name": "untrained", "source": "runs/linear", "take": "base"},
            {"name": "real", "source": "runs/linear", "take": "real"},
        ],
        "reference": "untrained",
        "aspects": [{"name": "overall"}, {"name": "melody"}],
        "trials": {"per_listener": 6, "repeats": 1, "attention": 1, "minimum_seconds": 0},
        "exclusions": {"trials_below": 1},
    }
    return values | changes


@pytest.fixture
def make_test(tmp_path: Path) -> Callable[..., Path]:
    """Write a test's folder with its runs; keyword arguments change the protocol."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "test"
        for place, name in enumerate(("linear", "conv"), start=1):
            write_run(folder / "runs" / name, place)
        text = yaml.safe_dump(protocol_values(**changes), sort_keys=False)
        (folder / "protocol.yaml").write_text(text, encoding="utf-8")
        return folder

    return make
