"""What nano-mustango must be able to do before it is shipped, measured on the shipped file.

`python -m talim.stages.gates_music --clips 64 --out base-gates.json`; its VAE and vocoder are measured as a codec is:
`python -m talim.stages.gates codec --base nano-mustango --out codec-gates.json`. Two sets of clips are made: from
whole captions alone, and from captions without tempo and key, so that only beats and chords can tell them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.metrics import rhythm
from talim.music import Chords
from talim.stages import gates
from talim.stages.pretrain_told import ROOTS, chords_of, music_of, without
from talim.traditions.performer import Performance, perform

STEPS, SAMPLER = 25, "dpm++"
AT_ONCE = 8


def chord_classes(chords: Chords) -> np.ndarray:
    """Which pitch classes, bool [12] from C, belong to any of the chords; major and minor triads only."""
    found = np.zeros(12, bool)
    for name in chords.names:
        minor = name.endswith("m")
        root = ROOTS.index(name.removesuffix("m"))
        found[[root, (root + (3 if minor else 4)) % 12, (root + 7) % 12]] = True
    return found


def chords_met(heard: list[gates.Heard], chords: list[Chords]) -> dict[str, float]:
    """Share of the sounding melody's time in pitch classes of its own chords, and of every other clip's."""
    known = [chord_classes(each) for each in chords]
    own = [float(h.profile[k].sum()) for h, k in zip(heard, known, strict=True)]
    other = [float(h.profile[k].sum()) for i, h in enumerate(heard) for j, k in enumerate(known) if i != j]
    met, shuffled = float(np.mean(own)), float(np.mean(other))
    return {"chords": met, "chords_shuffled": shuffled, "chords_above_shuffled": met - shuffled}


def beats_met(heard: list[gates.Heard], tempi: list[float]) -> dict[str, float]:
    """How often the tempo heard is that of the beats, within 8 % and octaves forgiven; and of others' beats."""
    own = [rhythm.same_tempo(h.tempo_bpm, t) for h, t in zip(heard, tempi, strict=True)]
    other = [
        rhythm.same_tempo(h.tempo_bpm, t) for i, h in enumerate(heard) for j, t in enumerate(tempi) if i != j
    ]
    return {"beats": gates.share(own), "beats_shuffled": gates.share(other)}


def made(
    backbone: Any, captions: list[str], folder: Path | None, guidance: float, **wishes: Any
) -> list[Any]:
    """Samples [T] of a clip for every caption, some at a time; `wishes` are lists, one entry a clip."""
    clips: list[np.ndarray] = []
    for first in range(0, len(captions), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        clips += [
            sound.samples[0]
            for sound in backbone.generate(
                captions[part],
                gates.CLIP_SECONDS,
                seed=first,
                guidance=guidance,
                steps=STEPS,
                sampler=SAMPLER,
                **{name: rows[part] for name, rows in wishes.items()},
            )
        ]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (samples, caption) in enumerate(zip(clips, captions, strict=True)):
            clip = audio.Audio(samples[None], gates.RATE_HZ)
            audio.write(folder / f"{number:03d}.flac", clip, {"prompt": caption})
    return clips


def with_chords(count: int) -> list[Performance]:
    """The first `count` held-out performances in which chords are played."""
    found: list[Performance] = []
    seed = gates.HELD_OUT_SEEDS
    while len(found) < count:
        piece = perform(seed, "western", gates.CLIP_SECONDS)
        if piece.facts["chords"]:
            found.append(piece)
        seed += 1
    return found


def music_gates(backbone: Any, clips: int, folder: Path | None, guidance: float) -> dict[str, Any]:
    """Both sets of clips, measured beside what performances reach."""
    seeds = range(gates.HELD_OUT_SEEDS, gates.HELD_OUT_SEEDS + clips)
    pieces = [perform(seed, "western", gates.CLIP_SECONDS) for seed in seeds]
    told = gates.measured(
        backbone, pieces, made(backbone, [p.caption for p in pieces], folder and folder / "words", guidance)
    )
    steered = with_chords(clips)
    music = [music_of(p.facts, gates.CLIP_SECONDS) for p in steered]
    captions = [without(p.caption, tempo=True, key=True) for p in steered]
    sounds = made(backbone, captions, folder and folder / "music", guidance, music=music)
    heard = gates.everywhere(gates.hear, sounds)
    real = gates.everywhere(gates.hear, [gates.round_trip(backbone, p.samples) for p in steered])
    chords = [chords_of(p.facts, gates.CLIP_SECONDS) for p in steered]
    tempi = [float(str(p.facts["tempo_bpm"])) for p in steered]
    return {
        "from_words": told,
        "from_music": beats_met(heard, tempi) | chords_met(heard, chords),
        "from_music_by_performances": beats_met(real, tempi) | chords_met(real, chords),
        "velocity_loss": what_conditions_save(backbone, steered),
        "guidance": guidance,
        "steps": STEPS,
        "sampler": SAMPLER,
        "clips": clips,
    }


def what_conditions_save(backbone: Any, pieces: list[Performance]) -> dict[str, list[float]]:
    """Loss per held-out noise level with everything said, and with words, beats or chords left out."""
    import torch

    from talim.music import Music

    targets = [backbone.encode(audio.Audio(p.samples[None], gates.RATE_HZ)) for p in pieces]
    music = [music_of(p.facts, gates.CLIP_SECONDS) for p in pieces]
    states, null = backbone.describe([p.caption for p in pieces]), backbone.describe([""])[0]
    said = {
        "all": list(zip(targets, states, music, strict=True)),
        "no words": [(t, null, m) for t, m in zip(targets, music, strict=True)],
        "no beats": [(t, s, Music(chords=m.chords)) for t, s, m in zip(targets, states, music, strict=True)],
        "no chords": [(t, s, Music(beats=m.beats)) for t, s, m in zip(targets, states, music, strict=True)],
        "nothing": [(t, null, Music()) for t in targets],
    }
    found = {}
    with torch.no_grad():
        for name, items in said.items():
            parts = [
                backbone.loss(backbone.collate(items[n : n + 8], [False] * len(items[n : n + 8])))
                for n in range(0, len(items), 8)
            ]
            found[name] = (
                torch.cat([p.parts[None] * len(p.per_item) for p in parts]).sum(0).div(len(items)).tolist()
            )
    return found


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", default="nano-mustango")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--audio", type=Path, help="where the generated clips are kept")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from talim.backbones.load import load

    found = music_gates(load(options.base), options.clips, options.audio, options.guidance)
    options.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
