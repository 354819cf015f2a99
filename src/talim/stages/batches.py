"""From a corpus to batches: targets encoded once into its store, draws that follow from (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talim.corpus.targets import TargetStore
from talim.errors import TalimError
from talim.stages.progress import Progress

if TYPE_CHECKING:
    from talim.backbones.backbone import Backbone, Batch
    from talim.corpus.manifest import Clip, Corpus

ORDER, CROP, DROP, WEIGHTS = range(4)  # one independent stream of draws for each purpose


@dataclass(frozen=True)
class Item:
    """One clip as the model meets it; the arrays are read-only views of files in the store."""

    clip: Clip
    tokens: np.ndarray  # int16 [K, T]
    states: np.ndarray  # float32 [L, D]


def items(corpus: Corpus, clips: Sequence[Clip], backbone: Backbone, progress: Progress) -> list[Item]:
    """Tokens and text states of `clips`, [K, T] and [L, D]; what is not in the store yet is encoded and kept.

    Clips longer than the model's window are cut to it. TalimError if there are no clips.
    """
    if not clips:
        raise TalimError(f"{corpus.folder}: no clips to use; run `talim prepare` on more recordings")
    store = TargetStore(corpus.targets)
    most_frames = int(backbone.window_seconds * backbone.frame_rate_hz)
    found = []
    for number, clip in enumerate(clips, start=1):
        found.append(
            Item(clip, _tokens(store, corpus, clip, backbone, most_frames), _states(store, clip, backbone))
        )
        progress.step("encoding clips", number, len(clips))
    return found


def _tokens(
    store: TargetStore, corpus: Corpus, clip: Clip, backbone: Backbone, most_frames: int
) -> np.ndarray:
    fields = {
        "kind": "tokens",
        "audio": clip.audio_hash,
        "codec": backbone.codec_identity,
        "start_seconds": 0.0,
        "seconds": round(float(clip.seconds), 6),
    }
    stored = store.get_or_make(fields, lambda: {"tokens": backbone.encode(corpus.read_clip(clip))})
    return stored["tokens"][:, :most_frames]


def _states(store: TargetStore, clip: Clip, backbone: Backbone) -> np.ndarray:
    fields = {"kind": "text", "prompt": clip.caption, "text": backbone.text_identity}
    return store.get_or_make(fields, lambda: {"states": backbone.describe([clip.caption])[0]})["states"]


def rng(seed: int, purpose: int, number: int) -> np.random.Generator:
    """The generator for one purpose at one step: nothing depends on how the run got there."""
    return np.random.default_rng([seed, purpose, number])


def chosen(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Which of `count` clips make up step `step` (from 1): every clip once before any comes again."""
    first = (step - 1) * batch_size
    picked = []
    for position in range(first, first + batch_size):
        epoch, place = divmod(position, count)
        picked.append(int(rng(seed, ORDER, epoch).permutation(count)[place]))
    return picked


def training_batch(
    clips: Sequence[Item],
    backbone: Backbone,
    *,
    batch_size: int,
    seed: int,
    step: int,
    condition_dropout: float,
    clip_seconds: float | None,
) -> Batch:
    """The batch of one step, on the model's device: the same for the same arguments, whatever came before."""
    picked = [clips[index] for index in chosen(len(clips), batch_size, seed, step)]
    cutter = rng(seed, CROP, step)
    frames = None if clip_seconds is None else max(1, round(clip_seconds * backbone.frame_rate_hz))
    pairs = [(_crop(item.tokens, frames, cutter), item.states) for item in picked]
    drop = (rng(seed, DROP, step).random(len(pairs)) < condition_dropout).tolist()
    return backbone.collate(pairs, drop).to(backbone.device)


def held_out_batches(
    clips: Sequence[Item], backbone: Backbone, batch_size: int
) -> list[tuple[list[Item], Batch]]:
    """All clips in order, whole and with their words, with the batch that holds them."""
    groups = [list(clips[i : i + batch_size]) for i in range(0, len(clips), batch_size)]
    pairs = [[(item.tokens, item.states) for item in group] for group in groups]
    return [
        (group, backbone.collate(pair, [False] * len(pair)).to(backbone.device))
        for group, pair in zip(groups, pairs, strict=True)
    ]


def spread(clips: Sequence[Clip], most: int) -> list[Clip]:
    """At most `most` clips, taking turns between the recordings and evenly within each."""
    by_recording: dict[str, list[Clip]] = {}
    for clip in clips:
        by_recording.setdefault(clip.recording, []).append(clip)
    turns = [[mine[i] for i in _evenly(len(mine))] for _, mine in sorted(by_recording.items())]
    longest = max((len(turn) for turn in turns), default=0)
    mixed = [turn[i] for i in range(longest) for turn in turns if i < len(turn)]
    return mixed[:most]


def _evenly(count: int) -> list[int]:
    """0..count-1 in an order whose every beginning is spread out: the middle, the quarters, and so on."""
    bits = max(1, (count - 1).bit_length())
    mirrored = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [i for i in mirrored if i < count]


def _crop(tokens: np.ndarray, frames: int | None, cutter: np.random.Generator) -> np.ndarray:
    if frames is None or tokens.shape[1] <= frames:
        return tokens
    start = int(cutter.integers(tokens.shape[1] - frames + 1))
    return tokens[:, start : start + frames]
