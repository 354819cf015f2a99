"""Held-out recordings continued: the base hears their first seconds and goes on, with and without the adapter.

Clips that were trained on are never used.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from talim import audio
from talim.adapters import injection
from talim.atomic_io import new_folder, write_jsonl
from talim.audio import Audio
from talim.audio.provenance import GENERATED_TAG
from talim.backbones.musicgen.continuation import join
from talim.beats_chords import BeatsAndChords
from talim.corpus.manifest import Clip, Corpus
from talim.evaluation.base_results import BaseResults
from talim.evaluation.continuation_scores import ROLES, Continued, score_continuations
from talim.evaluation.kept_parts import KeptParts, Pieces
from talim.generation.generate import GenerationOptions, provenance_tags
from talim.generation.phrase import ALL_KEPT, Phrase
from talim.generation.sources import AdapterChoice
from talim.html.formatting import format_counted
from talim.metrics.cache import MetricCache
from talim.progress import Progress, counted
from talim.run import Run
from talim.training.batches import stratified_sample

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

PHRASE_FRACTION = 0.4  # of a clip
MIN_PHRASE_SECONDS, MIN_NEW_SECONDS = 0.5, 0.5
FULL_LENGTH = 0.9  # of the longest held-out clip: shorter ones are not continued
MAX_CONTROLS = 20


@dataclass(frozen=True)
class Cut:
    """Where clips are cut: their first `phrase_seconds` are heard, the next `new_seconds` are generated."""

    phrase_seconds: float
    new_seconds: float


def evaluate_continuations(  # noqa: PLR0913
    run: Run,
    corpus: Corpus,
    backbone: Backbone,
    peft: Any,
    progress: Progress,
    *,
    num_clips: int,
    seconds: float,
    seed: int,
    options: GenerationOptions,
    base_results: BaseResults | None = None,
    kept: KeptParts | None = None,
) -> dict[str, Any]:
    """Continue `num_clips` held-out clips, with and without adapter, and score them; writes RUN/continuations.

    Both continuations of a clip have the same seed: `seed` and the clip's index.
    The result holds `scores`, rows of the score table with a `control`, lengths and counts; or only the `reason` why
    nothing was continued. At most `seconds` are generated for each.
    """
    if not num_clips:
        return _nothing(run, progress, "it was not asked for")
    if backbone.target_kind != "tokens":
        return _nothing(run, progress, f"{backbone.name} varies a phrase and does not go on from it")
    clips, cut = choose_clips(corpus, num_clips, seconds, backbone.frame_rate_hz)
    if cut is None:
        return _nothing(run, progress, "no held-out clip is long enough to hear a part of it and to compare the rest")
    chosen = {**backbone.options, **options.explicit_options}
    whole = [corpus.read_clip(clip).resample(backbone.rate_hz).to_channels(backbone.channels) for clip in clips]
    phrases = [each.cut(0.0, cut.phrase_seconds) for each in whole]
    reading = counted(phrases, len(phrases), progress, "encoding the phrases to continue")
    start = np.stack([backbone.encode(phrase) for phrase in reading])

    seeds = [seed + number for number in range(len(clips))]
    items = [[clip.id, cut.phrase_seconds, cut.new_seconds, own] for clip, own in zip(clips, seeds, strict=True)]
    pieces = Pieces([clip.caption for clip in clips], seeds, items, cut.new_seconds, chosen, start)

    def generate(title: str) -> list[Audio]:
        new = pieces.generate(backbone, kept, f"continued {title}", progress, f"continuing {title}")
        whole = np.concatenate([start, np.stack(new)], axis=-1)
        return [backbone.decode(row) for row in counted(whole, len(whole), progress, f"decoding continuations {title}")]

    def generate_base() -> list[Audio]:
        with injection.disabled(peft):
            return generate("without adapter")

    after = generate("with adapter")
    before = (base_results or BaseResults()).get("continuations", generate_base)
    decoded: list[dict[str, Audio]] = [
        dict(zip(ROLES, parts, strict=True)) for parts in zip(after, before, whole, strict=True)
    ]
    continued = [
        Continued(clip, phrase, {r: part.cut(cut.phrase_seconds, cut.new_seconds) for r, part in parts.items()})
        for clip, phrase, parts in zip(clips, phrases, decoded, strict=True)
    ]
    tags = {
        role: provenance_tags(backbone, adapters, "", seed, chosen, BeatsAndChords())
        for role, adapters in (("after", [AdapterChoice(run.adapter)]), ("before", []))
    }
    _write(run, continued, decoded, cut, seed, tags)
    controls = control_clips(corpus, clips, cut)
    rows, warnings = score_continuations(continued, controls, MetricCache(run.metrics_cache), progress)
    return {
        "phrase_seconds": cut.phrase_seconds,
        "seconds": cut.new_seconds,
        "clips": len(clips),
        "recordings": len({clip.sound_group for clip in clips}),
        "controls": len(controls),
        "seed": seed,
        "scores": rows,
        "warnings": warnings,
    }


def _nothing(run: Run, progress: Progress, reason: str) -> dict[str, Any]:
    """The result where nothing is continued; sound of an earlier evaluation is removed, as no score is about it."""
    if run.continuations.is_dir():
        shutil.rmtree(run.continuations)
        progress.log(f"note: {run.continuations} is removed: it held continuations of an earlier evaluation")
    return {"reason": reason}


def shortfall(result: Mapping[str, Any], asked: int) -> str:
    """Why fewer held-out clips than `asked` were continued, for the result of `evaluate_continuations`; "" else."""
    if asked and "reason" in result:
        return f"held-out recordings are not continued: {result['reason']}"
    if asked > result.get("clips", asked):
        count = format_counted(result["clips"], "held-out clip")
        return f"{count} continued instead of {asked}: no more of them are about as long as the longest"
    return ""


def choose_clips(corpus: Corpus, num_clips: int, seconds: float, frame_rate_hz: float) -> tuple[list[Clip], Cut | None]:
    """Held-out clips of about full length, alternating between recordings, and where they are cut; no Cut if none."""
    longest = max((clip.seconds for clip in corpus.held_out), default=0.0)
    full = [clip for clip in corpus.held_out if clip.seconds >= FULL_LENGTH * longest]
    clips = stratified_sample(full, num_clips)
    shortest = min((clip.seconds for clip in clips), default=0.0)
    frames = int(shortest * frame_rate_hz + 1e-6)
    phrase_frames = int(PHRASE_FRACTION * frames)
    new_frames = min(int(seconds * frame_rate_hz + 1e-6), frames - phrase_frames)
    cut = Cut(phrase_frames / frame_rate_hz, new_frames / frame_rate_hz)
    if cut.phrase_seconds < MIN_PHRASE_SECONDS or cut.new_seconds < MIN_NEW_SECONDS:
        return [], None
    return clips, cut


def control_clips(corpus: Corpus, clips: Sequence[Clip], cut: Cut) -> list[tuple[str, Audio]]:
    """What follows the phrase in up to 20 held-out clips, `clips` among them, and the recording of each."""
    own = {clip.id for clip in clips}
    length = cut.phrase_seconds + cut.new_seconds
    others = [clip for clip in corpus.held_out if clip.id not in own and clip.seconds >= length - 1e-3]
    chosen = [*clips, *stratified_sample(others, MAX_CONTROLS)][:MAX_CONTROLS]
    return [(clip.sound_group, corpus.read_clip(clip).cut(cut.phrase_seconds, cut.new_seconds)) for clip in chosen]


def _write(
    run: Run,
    continued: Sequence[Continued],
    decoded: Sequence[Mapping[str, Audio]],
    cut: Cut,
    seed: int,
    tags: Mapping[str, Mapping[str, str]],
) -> None:
    """RUN/continuations: each phrase, and after it each continuation as it is heard; manifest.jsonl."""
    rows: list[dict[str, Any]] = []
    with new_folder(run.continuations) as folder:
        for number, (each, parts) in enumerate(zip(continued, decoded, strict=True), start=1):
            clip, phrase = each.clip, each.phrase
            sounds = {"phrase": phrase, "real": parts["real"].cut(0.0, cut.phrase_seconds + cut.new_seconds)}
            for role in ("before", "after"):
                blocks = join(
                    phrase.samples, [parts[role].samples], phrase.frames, each.parts[role].frames, phrase.rate_hz
                )
                sounds[role] = Audio(np.concatenate([*blocks], axis=1), phrase.rate_hz)
            source = Phrase(phrase, clip.recording, clip.seconds, bool(clip.ai_generated))
            begun = source.tags(ALL_KEPT) | {"phrase_rights": clip.licence}
            for role, sound in sounds.items():
                name = f"{number:02d}-{role}.flac"
                written = {"title": clip.recording, "licence": clip.licence}
                if clip.ai_generated:  # used on purpose; its copies say so too
                    written |= {GENERATED_TAG: clip.ai_generated}
                if role in tags:
                    own = {"seed": str(seed + number - 1), "prompt": clip.caption, "title": f"from {clip.recording}"}
                    written = {**tags[role], **begun, **own}
                audio.write(folder / name, sound, written)
                rows.append(
                    {
                        "file": name,
                        "role": role,
                        "prompt": clip.caption,
                        "recording": clip.recording,
                        "seed": seed + number - 1 if role in tags else None,
                        "seconds": round(sound.seconds, 3),
                        "phrase_seconds": cut.phrase_seconds,
                    }
                )
        write_jsonl(folder / "manifest.jsonl", rows)
