"""From a corpus to batches: targets encoded once into its store, draws that follow from (seed, step)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from talim.beats_chords import BeatsAndChords
from talim.corpus.feature_cache import FeatureCache
from talim.errors import TalimError
from talim.progress import Progress
from talim.training.distributed import SINGLE_PROCESS, DistributedContext

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone, Batch
    from talim.corpus.manifest import Clip, Corpus
    from talim.training.frozen_cache import FrozenLayerCache

ORDER, CROP, DROP, WEIGHTS, RECORDINGS = range(5)  # one independent stream of draws for each purpose


@dataclass(frozen=True)
class EncodedClip:
    """One clip as the model meets it; the arrays are read-only views of files in the store."""

    clip: Clip
    targets: np.ndarray  # int16 [K, T] tokens or float32 [C, T, F] latents
    states: np.ndarray  # float32 [L, D]
    music: BeatsAndChords = field(
        default_factory=BeatsAndChords
    )  # beats and chords, as far as they are known and can be heard

    @property
    def whole(self) -> Crop:
        """All of it."""
        return Crop(self, 0, self.targets.shape[1])


class Crop(NamedTuple):
    """A stretch of a clip, in frames of its targets."""

    item: EncodedClip
    start: int
    frames: int

    def content(self, frame_rate_hz: float) -> Any:
        """What `collate` takes of it; a base that hears no beats gets none to pass over."""
        item, start, frames = self
        music = item.music.cut(start / frame_rate_hz, frames / frame_rate_hz)
        return (item.targets[:, start : start + frames], item.states, *([music] if music else []))


def encode_clips(
    corpus: Corpus,
    clips: Sequence[Clip],
    backbone: Backbone,
    progress: Progress,
    predict_music: bool = False,
) -> list[EncodedClip]:
    """Targets, text states and music of `clips`; what is not in the store yet is encoded and kept.

    Clips longer than the model's window are cut to it. `predict_music` lets the base guess beats and chords of clips
    that have none. TalimError if there are no clips.
    """
    if not clips:
        raise TalimError(f"{corpus.folder}: no clips to use; run `talim prepare` on more recordings")
    store = FeatureCache(corpus.targets)
    most_frames = int(backbone.window_seconds * backbone.frame_rate_hz + 1e-6)
    found = []
    for number, clip in enumerate(clips, start=1):
        targets = _targets(store, corpus, clip, backbone)[:, :most_frames]
        music = _clip_beats_chords(store, clip, backbone, predict_music)
        found.append(EncodedClip(clip, targets, _states(store, clip, backbone), music))
        progress.step("encoding clips", number, len(clips))
    return found


def training_subset(corpus: Corpus, share: float, seed: int) -> list[Clip]:
    """The training clips of the first `share` (0 to 1] of the recordings, at least one, in an order drawn by `seed`.

    Less is always a part of more, so that a learning curve adds recordings and exchanges none.
    """
    names = sorted({clip.recording for clip in corpus.train})
    drawn = [names[place] for place in make_rng(seed, RECORDINGS, 0).permutation(len(names))]
    kept = set(drawn[: max(1, math.floor(share * len(names) + 0.5))])
    return [clip for clip in corpus.train if clip.recording in kept]


def _targets(store: FeatureCache, corpus: Corpus, clip: Clip, backbone: Backbone) -> np.ndarray:
    fields = {
        "kind": backbone.targets,
        "audio": clip.audio_hash,
        "codec": backbone.codec_hash,
        "start_seconds": 0.0,
        "seconds": round(float(clip.seconds), 6),
    }
    made = store.get_or_make(fields, lambda: {backbone.targets: backbone.encode(corpus.read_clip(clip))})
    return made[backbone.targets]


def _clip_beats_chords(store: FeatureCache, clip: Clip, backbone: Backbone, predict: bool) -> BeatsAndChords:
    """What the corpus knows of a clip's beats and chords, else what the base guesses of them if that is wished."""
    if predict:
        return _predicted_beats_chords(store, clip, backbone)
    return beats_chords_of(clip) if backbone.accepts_beats_chords else BeatsAndChords()


def beats_chords_of(clip: Clip) -> BeatsAndChords:
    """The beats and chords that a corpus knows of a clip."""
    return BeatsAndChords.parse(clip.beats, clip.chords, clip.seconds)


def _predicted_beats_chords(store: FeatureCache, clip: Clip, backbone: Backbone) -> BeatsAndChords:
    known = {"beats": clip.beats, "chords": clip.chords}
    fields = {"kind": "music", "prompt": clip.caption, "base": backbone.fingerprint, **known}

    def guess() -> dict[str, np.ndarray]:
        (made,) = backbone.predict_music([clip.caption], [beats_chords_of(clip)])
        written = {"beats": str(made.beats), "chords": str(made.chords)}
        return {name: np.frombuffer(text.encode(), np.uint8) for name, text in written.items()}

    stored = store.get_or_make(fields, guess)
    beats, chords = (stored[name].tobytes().decode() for name in ("beats", "chords"))
    return BeatsAndChords.parse(beats, chords, clip.seconds).cut(0.0, clip.seconds)


def beats_chords_summary(found: Sequence[EncodedClip]) -> str:
    """How many clips have beats and chords, in words; nothing where none has."""
    beats = sum(bool(item.music.beats) for item in found)
    chords = sum(bool(item.music.chords) for item in found)
    return (
        f"beats are known for {beats} of {len(found)} clips, chords for {chords}" if beats or chords else ""
    )


def _states(store: FeatureCache, clip: Clip, backbone: Backbone) -> np.ndarray:
    fields = {"kind": "text", "prompt": clip.caption, "text": backbone.text_encoder_hash}
    return store.get_or_make(fields, lambda: {"states": backbone.describe([clip.caption])[0]})["states"]


def make_rng(seed: int, purpose: int, number: int, process: int = 0) -> np.random.Generator:
    """The generator for one purpose at one step: nothing depends on how the run got there.

    The first process of many draws what a single one would.
    """
    return np.random.default_rng([seed, purpose, number, *([process] if process else [])])


def sample_batch_indices(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Which of `count` clips make up step `step` (from 1): every clip once before any comes again."""
    first = (step - 1) * batch_size
    picked = []
    for position in range(first, first + batch_size):
        epoch, place = divmod(position, count)
        picked.append(int(make_rng(seed, ORDER, epoch).permutation(count)[place]))
    return picked


def training_batch(
    clips: Sequence[EncodedClip],
    backbone: Backbone,
    *,
    batch_size: int,
    seed: int,
    step: int,
    condition_dropout: float,
    clip_seconds: float | None,
    crops: str = "each_step",
    prefix: FrozenLayerCache | None = None,
    processes: DistributedContext = SINGLE_PROCESS,
) -> Batch:
    """The batch of one step, on the model's device: the same for the same arguments, whatever came before.

    Of many processes each gets its share of the clips that one would get.

    With `crops` "once" a clip is always cut at the same place. `prefix` knows what the frozen layers below make of it.
    """
    picked = [clips[index] for index in sample_batch_indices(len(clips), batch_size, seed, step)]
    if crops == "once":
        cuts = [fixed_crop(item, backbone, seed, clip_seconds) for item in picked]
    else:
        cutter, frames = make_rng(seed, CROP, step), _frames(clip_seconds, backbone)
        cuts = [_crop(item, frames, cutter) for item in picked]
    drop = (make_rng(seed, DROP, step).random(len(cuts)) < condition_dropout).tolist()
    return _batch(processes.share(cuts), processes.share(drop), backbone, prefix)


def fixed_crop(item: EncodedClip, backbone: Backbone, seed: int, clip_seconds: float | None) -> Crop:
    """The one cut of a clip that follows from the seed and its sound, not from the step or the other clips."""
    place = make_rng(seed, CROP, int(hashlib.sha256(item.clip.audio_hash.encode()).hexdigest()[:12], 16))
    return _crop(item, _frames(clip_seconds, backbone), place)


def held_out_batches(
    clips: Sequence[EncodedClip], backbone: Backbone, batch_size: int, prefix: FrozenLayerCache | None = None
) -> Iterator[tuple[list[EncodedClip], Batch]]:
    """All clips in order, whole and with their words, with the batch that holds them."""
    for first in range(0, len(clips), batch_size):
        group = list(clips[first : first + batch_size])
        yield group, _batch([item.whole for item in group], [False] * len(group), backbone, prefix)


def _batch(
    cuts: Sequence[Crop], drop: Sequence[bool], backbone: Backbone, prefix: FrozenLayerCache | None
) -> Batch:
    batch = backbone.collate([cut.content(backbone.frame_rate_hz) for cut in cuts], drop)
    return (batch if prefix is None else prefix.attach_hidden(batch, cuts, drop)).to(backbone.device)


def _frames(clip_seconds: float | None, backbone: Backbone) -> int | None:
    return None if clip_seconds is None else max(1, round(clip_seconds * backbone.frame_rate_hz))


def stratified_sample(clips: Sequence[Clip], most: int) -> list[Clip]:
    """At most `most` clips, taking turns between the recordings and evenly within each."""
    by_recording: dict[str, list[Clip]] = {}
    for clip in clips:
        by_recording.setdefault(clip.recording, []).append(clip)
    turns = [[mine[i] for i in _spread_order(len(mine))] for _, mine in sorted(by_recording.items())]
    longest = max((len(turn) for turn in turns), default=0)
    mixed = [turn[i] for i in range(longest) for turn in turns if i < len(turn)]
    return mixed[:most]


def _spread_order(count: int) -> list[int]:
    """0..count-1 in an order whose every beginning is spread out: the middle, the quarters, and so on."""
    bits = max(1, (count - 1).bit_length())
    mirrored = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [i for i in mirrored if i < count]


def _crop(item: EncodedClip, frames: int | None, cutter: np.random.Generator) -> Crop:
    there = item.targets.shape[1]
    if frames is None or there <= frames:
        return item.whole
    return Crop(item, int(cutter.integers(there - frames + 1)), frames)
