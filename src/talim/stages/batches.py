"""From a corpus to batches: targets encoded once into its store, draws that follow from (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.corpus.targets import TargetStore
from talim.errors import TalimError
from talim.music import Music
from talim.stages.progress import Progress

if TYPE_CHECKING:
    from talim.backbones.backbone import Backbone, Batch
    from talim.corpus.manifest import Clip, Corpus

ORDER, CROP, DROP, WEIGHTS = range(4)  # one independent stream of draws for each purpose


@dataclass(frozen=True)
class Item:
    """One clip as the model meets it; the arrays are read-only views of files in the store."""

    clip: Clip
    targets: np.ndarray  # int16 [K, T] tokens or float32 [C, T, F] latents
    states: np.ndarray  # float32 [L, D]
    music: Music = field(default_factory=Music)  # beats and chords, as far as they are known and can be heard

    def cut(self, start: int, frames: int, frame_rate_hz: float) -> Any:
        """What `collate` takes of a stretch of frames; a base that hears no beats gets none to pass over."""
        music = self.music.cut(start / frame_rate_hz, frames / frame_rate_hz)
        return (self.targets[:, start : start + frames], self.states, *([music] if music else []))


def items(
    corpus: Corpus,
    clips: Sequence[Clip],
    backbone: Backbone,
    progress: Progress,
    predict_music: bool = False,
) -> list[Item]:
    """Targets, text states and music of `clips`; what is not in the store yet is encoded and kept.

    Clips longer than the model's window are cut to it. `predict_music` lets the base guess beats and chords of clips
    that have none. TalimError if there are no clips.
    """
    if not clips:
        raise TalimError(f"{corpus.folder}: no clips to use; run `talim prepare` on more recordings")
    store = TargetStore(corpus.targets)
    most_frames = int(backbone.window_seconds * backbone.frame_rate_hz + 1e-6)
    found = []
    for number, clip in enumerate(clips, start=1):
        targets = _targets(store, corpus, clip, backbone)[:, :most_frames]
        music = _music(store, clip, backbone, predict_music)
        found.append(Item(clip, targets, _states(store, clip, backbone), music))
        progress.step("encoding clips", number, len(clips))
    return found


def _targets(store: TargetStore, corpus: Corpus, clip: Clip, backbone: Backbone) -> np.ndarray:
    fields = {
        "kind": backbone.targets,
        "audio": clip.audio_hash,
        "codec": backbone.codec_identity,
        "start_seconds": 0.0,
        "seconds": round(float(clip.seconds), 6),
    }
    made = store.get_or_make(fields, lambda: {backbone.targets: backbone.encode(corpus.read_clip(clip))})
    return made[backbone.targets]


def _music(store: TargetStore, clip: Clip, backbone: Backbone, predict: bool) -> Music:
    """What the corpus knows of a clip's beats and chords, else what the base guesses of them if that is wished."""
    if predict:
        return _guessed(store, clip, backbone)
    return music_of(clip) if backbone.hears_music else Music()


def music_of(clip: Clip) -> Music:
    """The beats and chords that a corpus knows of a clip."""
    return Music.parse(clip.beats, clip.chords, clip.seconds)


def _guessed(store: TargetStore, clip: Clip, backbone: Backbone) -> Music:
    known = {"beats": clip.beats, "chords": clip.chords}
    fields = {"kind": "music", "prompt": clip.caption, "base": backbone.fingerprint, **known}

    def guess() -> dict[str, np.ndarray]:
        (made,) = backbone.predict_music([clip.caption], [music_of(clip)])
        written = {"beats": str(made.beats), "chords": str(made.chords)}
        return {name: np.frombuffer(text.encode(), np.uint8) for name, text in written.items()}

    stored = store.get_or_make(fields, guess)
    beats, chords = (stored[name].tobytes().decode() for name in ("beats", "chords"))
    return Music.parse(beats, chords, clip.seconds).cut(0.0, clip.seconds)


def told(found: Sequence[Item]) -> str:
    """How many clips have beats and chords, in words; nothing where none has."""
    beats = sum(bool(item.music.beats) for item in found)
    chords = sum(bool(item.music.chords) for item in found)
    return (
        f"beats are known for {beats} of {len(found)} clips, chords for {chords}" if beats or chords else ""
    )


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
    cuts = [item.cut(*_crop(item, frames, cutter), backbone.frame_rate_hz) for item in picked]
    drop = (rng(seed, DROP, step).random(len(cuts)) < condition_dropout).tolist()
    return backbone.collate(cuts, drop).to(backbone.device)


def held_out_batches(
    clips: Sequence[Item], backbone: Backbone, batch_size: int
) -> list[tuple[list[Item], Batch]]:
    """All clips in order, whole and with their words, with the batch that holds them."""
    groups = [list(clips[i : i + batch_size]) for i in range(0, len(clips), batch_size)]
    wholes = [
        [item.cut(0, item.targets.shape[1], backbone.frame_rate_hz) for item in group] for group in groups
    ]
    return [
        (group, backbone.collate(whole, [False] * len(whole)).to(backbone.device))
        for group, whole in zip(groups, wholes, strict=True)
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


def _crop(item: Item, frames: int | None, cutter: np.random.Generator) -> tuple[int, int]:
    """Where a cut begins and how many frames it has."""
    there = item.targets.shape[1]
    if frames is None or there <= frames:
        return 0, there
    return int(cutter.integers(there - frames + 1)), frames
