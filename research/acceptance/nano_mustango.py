"""Acceptance measurements of nano-mustango, on the shipped file.

    python -m research.acceptance.nano_mustango --clips 64 --out base-gates.json
    python -m research.acceptance.nano_musicgen codec --base nano-mustango --out codec-gates.json

VAE and vocoder are measured like a codec. Two sets of clips are generated: from whole captions alone, and from captions
without tempo and key, so that only beats and chords determine them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from research.acceptance import nano_musicgen
from research.pretraining.nano_mustango.conditioning import ROOTS, beats_chords_of, chords_of, without_attribute
from research.pretraining.western_style import perform
from talim import audio
from talim.beats_chords import ChordTrack
from talim.metrics import rhythm
from talim.synthesis.performance import Performance

STEPS, SAMPLER = 25, "dpm++"
BATCH_SIZE = 8


def chord_classes(chords: ChordTrack) -> np.ndarray:
    """The pitch classes, bool [12] from C, of the chords (major and minor triads)."""
    classes = np.zeros(12, bool)
    for name in chords.names:
        minor = name.endswith("m")
        root = ROOTS.index(name.removesuffix("m"))
        classes[[root, (root + (3 if minor else 4)) % 12, (root + 7) % 12]] = True
    return classes


def chord_accuracy(generated: list[nano_musicgen.GeneratedClipMeasures], chords: list[ChordTrack]) -> dict[str, float]:
    """Fraction of the melody's time in pitch classes of its own chords, and in those of other clips' chords."""
    known = [chord_classes(each) for each in chords]
    own = [float(h.profile[k].sum()) for h, k in zip(generated, known, strict=True)]
    other = [float(h.profile[k].sum()) for i, h in enumerate(generated) for j, k in enumerate(known) if i != j]
    met, shuffled = float(np.mean(own)), float(np.mean(other))
    return {"chords": met, "chords_shuffled": shuffled, "chords_above_shuffled": met - shuffled}


def tempo_accuracy(generated: list[nano_musicgen.GeneratedClipMeasures], tempi: list[float]) -> dict[str, float]:
    """Fraction of clips with the tempo of their beats (within 8 %, modulo octaves), and of other clips' beats."""
    own = [rhythm.same_tempo(h.tempo_bpm, t) for h, t in zip(generated, tempi, strict=True)]
    other = [rhythm.same_tempo(h.tempo_bpm, t) for i, h in enumerate(generated) for j, t in enumerate(tempi) if i != j]
    return {"beats": nano_musicgen.fraction_true(own), "beats_shuffled": nano_musicgen.fraction_true(other)}


def generate_set(
    backbone: Any, captions: list[str], folder: Path | None, guidance_scale: float, **conditions: Any
) -> list[Any]:
    """Samples [T] of a clip for every caption, in batches; `conditions` are lists with one entry per clip."""
    clips: list[np.ndarray] = []
    for first in range(0, len(captions), BATCH_SIZE):
        part = slice(first, first + BATCH_SIZE)
        clips += [
            sound.samples[0]
            for sound in backbone.generate(
                captions[part],
                nano_musicgen.CLIP_SECONDS,
                seed=first,
                guidance_scale=guidance_scale,
                sampling_steps=STEPS,
                sampler=SAMPLER,
                **{name: rows[part] for name, rows in conditions.items()},
            )
        ]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (samples, caption) in enumerate(zip(clips, captions, strict=True)):
            clip = audio.Audio(samples[None], nano_musicgen.RATE_HZ)
            audio.write(folder / f"{number:03d}.flac", clip, {"prompt": caption})
    return clips


def performances_with_chords(count: int) -> list[Performance]:
    """The first `count` held-out performances with chords."""
    pieces: list[Performance] = []
    seed = nano_musicgen.HELD_OUT_SEEDS
    while len(pieces) < count:
        piece = perform(seed, "western", nano_musicgen.CLIP_SECONDS)
        if piece.facts["chords"]:
            pieces.append(piece)
        seed += 1
    return pieces


def music_gates(backbone: Any, clips: int, folder: Path | None, guidance_scale: float) -> dict[str, Any]:
    """Measures of both sets of clips, and of the performances."""
    seeds = range(nano_musicgen.HELD_OUT_SEEDS, nano_musicgen.HELD_OUT_SEEDS + clips)
    pieces = [perform(seed, "western", nano_musicgen.CLIP_SECONDS) for seed in seeds]
    from_text = nano_musicgen.measure_base(
        backbone,
        pieces,
        generate_set(backbone, [p.caption for p in pieces], folder and folder / "text", guidance_scale),
    )
    with_chords = performances_with_chords(clips)
    music = [beats_chords_of(p.facts, nano_musicgen.CLIP_SECONDS) for p in with_chords]
    captions = [without_attribute(p.caption, tempo=True, key=True) for p in with_chords]
    sounds = generate_set(backbone, captions, folder and folder / "music", guidance_scale, beats_chords=music)
    generated = nano_musicgen.parallel_map(nano_musicgen.measure_sample, sounds)
    real = nano_musicgen.parallel_map(
        nano_musicgen.measure_sample, [nano_musicgen.round_trip(backbone, p.samples) for p in with_chords]
    )
    chords = [chords_of(p.facts, nano_musicgen.CLIP_SECONDS) for p in with_chords]
    tempi = [float(str(p.facts["tempo_bpm"])) for p in with_chords]
    return {
        "from_text": from_text,
        "from_music": tempo_accuracy(generated, tempi) | chord_accuracy(generated, chords),
        "from_music_by_performances": tempo_accuracy(real, tempi) | chord_accuracy(real, chords),
        "velocity_loss": condition_gain(backbone, with_chords),
        "guidance_scale": guidance_scale,
        "steps": STEPS,
        "sampler": SAMPLER,
        "clips": clips,
    }


def condition_gain(backbone: Any, pieces: list[Performance]) -> dict[str, list[float]]:
    """Loss per held-out noise level with all conditions, and without text, beats, chords or any of them."""
    import torch

    from talim.beats_chords import BeatsAndChords

    targets = [backbone.encode(audio.Audio(p.samples[None], nano_musicgen.RATE_HZ)) for p in pieces]
    music = [beats_chords_of(p.facts, nano_musicgen.CLIP_SECONDS) for p in pieces]
    states, null = backbone.encode_text([p.caption for p in pieces]), backbone.encode_text([""])[0]
    conditions = {
        "all": list(zip(targets, states, music, strict=True)),
        "no text": [(t, null, m) for t, m in zip(targets, music, strict=True)],
        "no beats": [(t, s, BeatsAndChords(chords=m.chords)) for t, s, m in zip(targets, states, music, strict=True)],
        "no chords": [(t, s, BeatsAndChords(beats=m.beats)) for t, s, m in zip(targets, states, music, strict=True)],
        "none": [(t, null, BeatsAndChords()) for t in targets],
    }
    losses = {}
    with torch.no_grad():
        for name, items in conditions.items():
            parts = [
                backbone.loss(backbone.collate(items[n : n + 8], [False] * len(items[n : n + 8])))
                for n in range(0, len(items), 8)
            ]
            losses[name] = torch.cat([p.parts[None] * len(p.per_item) for p in parts]).sum(0).div(len(items)).tolist()
    return losses


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", default="nano-mustango")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--audio", type=Path, help="folder for the generated clips")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from talim.backbones.load import load

    found = music_gates(load(options.base), options.clips, options.audio, options.guidance)
    options.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
