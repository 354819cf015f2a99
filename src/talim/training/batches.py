"""From a corpus to batches: clips are encoded once into the feature cache; all draws follow from (seed, step)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.beats_chords import BeatsAndChords
from talim.corpus.feature_cache import FeatureCache
from talim.corpus.melody import CHROMA, clip_melody
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.progress import Progress, counted
from talim.training.crops import Crop, EncodedClip
from talim.training.distributed import SINGLE_PROCESS, DistributedContext

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone, Batch
    from talim.corpus.manifest import Clip, Corpus
    from talim.recipe import Training
    from talim.training.frozen_cache import FrozenLayerCache

ORDER, CROP, DROP, TORCH_SEED, RECORDINGS, DROP_MELODY = range(6)  # an independent random stream for each purpose
ENOUGH_EVALUATIONS = 4  # on validation clips in a training


def encode_clips(
    corpus: Corpus,
    clips: Sequence[Clip],
    backbone: Backbone,
    progress: Progress,
    predict_beats_chords: bool = False,
    melody_from: str = CHROMA,
) -> list[EncodedClip]:
    """Targets, text states and other conditions of `clips`, from the corpus's cache or encoded and cached now.

    Clips longer than the model's window are truncated to it. `predict_beats_chords` lets the base predict those that
    the corpus lacks; `melody_from` is where the melody comes from that some bases are conditioned on. TalimError if
    there are no clips.
    """
    if not clips:
        raise TalimError(f"{corpus.folder}: no clips to use; run `talim prepare` on more recordings")
    cache = FeatureCache(corpus.features)
    max_frames = int(backbone.window_seconds * backbone.frame_rate_hz + 1e-6)
    items = []
    states: dict[str, np.ndarray] = {}  # clips with equal captions share one array
    for clip in counted(clips, len(clips), progress, "encoding clips"):
        targets = _targets(cache, corpus, clip, backbone)[:, :max_frames]
        if predict_beats_chords:
            beats_chords = _predicted_beats_chords(cache, clip, backbone)
        else:
            beats_chords = beats_chords_of(clip) if backbone.accepts_beats_chords else BeatsAndChords()
        if clip.caption not in states:
            states[clip.caption] = _text_states(cache, clip, backbone)
        melody = clip_melody(cache, corpus, clip, backbone, melody_from) if backbone.melody_rate_hz else None
        items.append(EncodedClip(clip, targets, states[clip.caption], beats_chords, melody))
    longer = sum(clip.seconds > backbone.window_seconds + 0.01 for clip in clips)
    if longer:
        progress.log(
            f"{longer} of {format_counted(len(clips), 'clip')} are longer than the "
            f"{backbone.window_seconds:g} s that the base takes: "
            f"the rest of each is left out; talim prepare --clip-seconds {backbone.window_seconds:g} uses all of it"
        )
    return items


def training_subset(corpus: Corpus, fraction: float, seed: int) -> list[Clip]:
    """The training clips of a `fraction` (0 to 1] of the recordings, at least one, in an order drawn by `seed`.

    A smaller fraction is a subset of a larger one, so that a learning curve adds recordings and replaces none.
    """
    names = sorted({clip.sound_group for clip in corpus.train})
    order = [names[index] for index in make_rng(seed, RECORDINGS, 0).permutation(len(names))]
    selected = set(order[: max(1, math.floor(fraction * len(names) + 0.5))])
    return [clip for clip in corpus.train if clip.sound_group in selected]


def choice_sentence(corpus: Corpus, training: Training) -> str:
    """Which clips decide when training stops and which weights are stored."""
    note = str((corpus.summary.get("split") or {}).get("validation_note") or "")
    if not corpus.validation:
        return f"note: {note or 'no validation clips: the weights of the last step are stored'}"
    names = {clip.sound_group for clip in corpus.validation}
    kept = "when to stop and which weights to keep" if training.save_weights == "best" else "when to stop"
    text = f"{kept}: by validation clips of {format_counted(len(names), 'recording')}; the test side is unseen"
    return f"{text}; note: {note}" if note else text


def few_evaluations(training: Training) -> str:
    """A note where validation clips are looked at so rarely that they hardly decide anything; else empty."""
    steps, every = training.steps, training.eval_every
    count, better = math.ceil(steps / every), max(1, steps // ENOUGH_EVALUATIONS)
    if count >= ENOUGH_EVALUATIONS or every <= better:
        return ""
    return (
        f"note: the validation loss is measured only {format_counted(count, 'time')} in "
        f"{format_counted(steps, 'training step')} (training.eval_every is {every}): the steps between are not "
        f"compared; --set training.eval_every={better} measures it more often"
    )


def choice_facts(corpus: Corpus, training: Training) -> dict[str, Any]:
    """For run.json: what the stored weights were chosen on, the recordings of these clips, and a note on a fallback."""
    split = corpus.summary.get("split") or {}
    by = "last step" if training.save_weights == "last" or not corpus.validation else "validation"
    recordings = sorted({clip.recording for clip in corpus.validation})
    return {"by": by, "validation_from": split.get("validation_from", ""), "recordings": recordings} | (
        {"note": split["validation_note"]} if split.get("validation_note") else {}
    )


def _targets(cache: FeatureCache, corpus: Corpus, clip: Clip, backbone: Backbone) -> np.ndarray:
    kind = backbone.target_kind
    span = {"start_seconds": 0.0, "seconds": round(float(clip.seconds), 6)}
    fields = {"kind": kind, "audio": clip.audio_hash, "codec": backbone.codec_hash, **span}
    return cache.get_or_make(fields, lambda: {kind: backbone.encode(corpus.read_clip(clip))})[kind]


def _text_states(cache: FeatureCache, clip: Clip, backbone: Backbone) -> np.ndarray:
    fields = {"kind": "text", "prompt": backbone.read_as(clip.caption), "text": backbone.text_encoder_hash}
    return cache.get_or_make(fields, lambda: {"states": backbone.encode_text([clip.caption])[0]})["states"]


def beats_chords_of(clip: Clip) -> BeatsAndChords:
    """The beats and chords in the corpus's manifest."""
    return BeatsAndChords.parse(clip.beats, clip.chords, clip.seconds)


def _predicted_beats_chords(cache: FeatureCache, clip: Clip, backbone: Backbone) -> BeatsAndChords:
    fields = {"kind": "beats_chords", "prompt": backbone.read_as(clip.caption), "base": backbone.fingerprint}
    fields |= {"beats": clip.beats, "chords": clip.chords}

    def predict() -> dict[str, np.ndarray]:
        (predicted,) = backbone.predict_beats_chords([clip.caption], [beats_chords_of(clip)])
        texts = {"beats": str(predicted.beats), "chords": str(predicted.chords)}
        return {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}

    arrays = cache.get_or_make(fields, predict)
    beats, chords = (arrays[name].tobytes().decode() for name in ("beats", "chords"))
    return BeatsAndChords.parse(beats, chords, clip.seconds).cut(0.0, clip.seconds)


def unusual_settings(items: Sequence[EncodedClip], training: Training, frame_rate_hz: float) -> list[str]:
    """A sentence for each setting that asks for more than the clips have: batch size, crop length."""
    lines = []
    if training.batch_size > len(items):
        lines.append(
            f"training.batch_size is {training.batch_size}, but there are "
            f"{format_counted(len(items), 'training clip')}: "
            f"each step holds every clip about {training.batch_size / len(items):.3g} times"
        )
    longest = max(item.targets.shape[1] for item in items) / frame_rate_hz
    if training.crop_seconds is not None and training.crop_seconds > longest + 1 / frame_rate_hz:
        lines.append(
            f"training.crop_seconds is {training.crop_seconds:g}, but the longest training clip has {longest:.3g} s: "
            "whole clips are used"
        )
    return lines


def beats_chords_summary(items: Sequence[EncodedClip]) -> str:
    """A sentence with the number of clips that have beats and chords; empty where none has."""
    beats = sum(bool(item.beats_chords.beats) for item in items)
    chords = sum(bool(item.beats_chords.chords) for item in items)
    if not beats and not chords:
        return ""
    return f"beats are known for {beats} of {format_counted(len(items), 'clip')}, chords for {chords}"


def make_rng(seed: int, purpose: int, number: int, rank: int = 0) -> np.random.Generator:
    """The generator of one purpose at one step, independent of earlier draws; rank 0 draws as a single process."""
    return np.random.default_rng([seed, purpose, number, *([rank] if rank else [])])


def sample_batch_indices(count: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Indices (of `count` clips) for step `step` (from 1): every clip once per epoch, in a new order each epoch."""
    first = (step - 1) * batch_size
    places = (divmod(position, count) for position in range(first, first + batch_size))
    return [int(make_rng(seed, ORDER, epoch).permutation(count)[index]) for epoch, index in places]


def training_batch(
    clips: Sequence[EncodedClip],
    backbone: Backbone,
    training: Training,
    seed: int,
    step: int,
    cache: FrozenLayerCache | None = None,
    processes: DistributedContext = SINGLE_PROCESS,
) -> Batch:
    """This process's shard of the batch of one step, on the model's device; it depends on the arguments only.

    `cache` supplies the activations of the frozen layers.
    """
    items = [clips[index] for index in sample_batch_indices(len(clips), training.batch_size, seed, step)]
    if training.crop == "fixed":
        crops = [fixed_crop(item, backbone, seed, training.crop_seconds) for item in items]
    else:
        rng = make_rng(seed, CROP, step)
        crops = [_crop(item, backbone, training.crop_seconds, rng) for item in items]
    drop = (make_rng(seed, DROP, step).random(len(crops)) < training.condition_dropout).tolist()
    silent = make_rng(seed, DROP_MELODY, step).random(len(crops)) < training.melody_dropout
    crops = [crop.without_melody if no_melody else crop for crop, no_melody in zip(crops, silent, strict=True)]
    return _collate(processes.shard(crops), processes.shard(drop), backbone, cache)


def fixed_crop(item: EncodedClip, backbone: Backbone, seed: int, crop_seconds: float | None) -> Crop:
    """The one crop of a clip that follows from the seed and its audio, not from the step or the other clips."""
    audio_number = int(hashlib.sha256(item.clip.audio_hash.encode()).hexdigest()[:12], 16)
    return _crop(item, backbone, crop_seconds, make_rng(seed, CROP, audio_number))


def held_out_batches(
    clips: Sequence[EncodedClip], backbone: Backbone, batch_size: int, cache: FrozenLayerCache | None = None
) -> Iterator[tuple[list[EncodedClip], Batch]]:
    """All clips in order, at full length and with their conditions, with the batch that holds them."""
    for first in range(0, len(clips), batch_size):
        group = list(clips[first : first + batch_size])
        yield group, _collate([item.full_length for item in group], [False] * len(group), backbone, cache)


def _collate(crops: Sequence[Crop], drop: Sequence[bool], backbone: Backbone, cache: FrozenLayerCache | None) -> Batch:
    batch = backbone.collate([crop.content(backbone.frame_rate_hz) for crop in crops], drop)
    return (batch if cache is None else cache.attach_hidden(batch, crops, drop)).to(backbone.device)


def _crop(item: EncodedClip, backbone: Backbone, seconds: float | None, rng: np.random.Generator) -> Crop:
    available = item.targets.shape[1]
    frames = available if seconds is None else max(1, round(seconds * backbone.frame_rate_hz))
    return item.full_length if available <= frames else Crop(item, int(rng.integers(available - frames + 1)), frames)


def stratified_sample(clips: Sequence[Clip], max_clips: int) -> list[Clip]:
    """At most `max_clips` clips, alternating between recordings and spread evenly within each."""
    by_recording: dict[str, list[Clip]] = {}
    for clip in clips:
        by_recording.setdefault(clip.sound_group, []).append(clip)
    queues = [[group[i] for i in _spread_order(len(group))] for _, group in sorted(by_recording.items())]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)][:max_clips]


def _spread_order(count: int) -> list[int]:
    """0..count-1 in bit-reversed order, so that every prefix is spread out."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [i for i in reversed_bits if i < count]
