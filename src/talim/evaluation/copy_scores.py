"""Copied training material: by audio fingerprint (robust to pitch shift, stretch and filters) and by codec tokens.

Clips of other recordings give the null distribution: what they share with the training clips is what music of this
kind shares. These are held-out clips, and where they are fewer than ten also validation clips, and training clips
compared with the training clips of other recordings. A match with p <= 0.01 counts as a copy. This is the one rule for
everything that a run generates: what it could not be applied to does not count as checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from talim.audio import Audio
from talim.audio.read import read_mono_blocks
from talim.corpus.manifest import Clip, Corpus
from talim.corpus.recordings import file_hash
from talim.errors import TalimError
from talim.evaluation.score_table import ClipSet, Measure, ScoreRow, mean_over_recordings, missing_score, row_or_reason
from talim.html.formatting import format_counted
from talim.html.languages import words
from talim.metrics import audio_matching, copy_detection, pitch
from talim.metrics.cache import MetricCache
from talim.metrics.copy_detection import FALSE_POSITIVE_RATE, CopyMatch
from talim.progress import Progress, counted

MIN_NULL_CLIPS = copy_detection.MIN_NULL_FOR_TAIL  # with fewer no match can have p <= 0.01
READING = "reading training clips, to look for copies of them"
NULL_CLIPS_FOR_COUNTING = 99  # fewer cannot contain the one in a hundred that would be as similar
MEANINGS = {
    "copied_sound": "outputs with 4 s of the sound of a training clip, possibly shifted, stretched or filtered",
    "copied_tokens": "outputs with a longer run of a training clip's own tokens than unrelated clips share",
}
NO_NULL = np.zeros(0)


class CopyMatches(NamedTuple):
    """Matches of generated clips, of the base's and of held-out clips, and how many null clips they are judged by."""

    generated: list[CopyMatch | None]
    base: list[CopyMatch | None]
    held_out: list[CopyMatch | None]
    null_clips: int


@dataclass(frozen=True)
class TokenMatcher:
    """First codebooks [frames] of the training clips, the null clips, the outputs and the base's outputs."""

    training: Sequence[np.ndarray]
    null_clips: Sequence[np.ndarray]
    generated: Sequence[np.ndarray]
    base: Sequence[np.ndarray]
    frame_rate_hz: float


def copy_scores(
    corpus: Corpus,
    generated: ClipSet,
    base: ClipSet,
    real: ClipSet,
    tokens: TokenMatcher | str,
    cache: MetricCache,
    others: Sequence[Clip] = (),
    progress: Progress | None = None,
) -> tuple[list[ScoreRow], dict[str, Any]]:
    """Fraction of outputs that copy, by sound and by tokens (a str: why there are none), and the matches.

    `others` are clips of the corpus for the null distribution where the held-out ones, `real`, are too few.
    The second value is what `talim.evaluation.copy_report.copy_report` shows: each output's match of lowest p-value. An
    output counts as checked only if its sound was compared, as runs of tokens miss most copies.
    """
    matches = {"copied_sound": audio_copy_scores(corpus, generated, base, real, cache, others, progress)}
    matches["copied_tokens"] = tokens if isinstance(tokens, str) else token_copy_scores(tokens)
    rows = [_row(name, found, generated, base, real) for name, found in matches.items()]
    nothing: list[CopyMatch | None] = [None] * len(generated.clips)
    sound, runs = (nothing if isinstance(found, str) else found[0] for found in matches.values())
    best_matches = [
        (run if run and _copy_indicator(run) else None) if match is None else min(match, run or match, key=_p_value)
        for match, run in zip(sound, runs, strict=True)
    ]
    training = [corpus.folder / clip.file for clip in corpus.train]
    lengths = {f"{number:02d}-after.flac": clip.seconds for number, clip in enumerate(generated.clips, start=1)}
    of_sound = matches["copied_sound"]
    reason = of_sound if isinstance(of_sound, str) else ""
    null_clips = len(real.clips) if isinstance(of_sound, str) else of_sound.null_clips
    found = copies_as_dict(dict(zip(lengths, best_matches, strict=True)), lengths, training, null_clips, reason)
    found["compared"] = [name for name, each in matches.items() if not isinstance(each, str)]
    return rows, found


def _p_value(match: CopyMatch) -> float:
    return match.p_value


def copies_as_dict(
    matches: Mapping[str, CopyMatch | None],
    seconds: Mapping[str, float],
    training: Sequence[Path],
    null_clips: int,
    reason: str = "",
) -> dict[str, Any]:
    """The best match of each clip (by its name) among the files `training`, as `copy_report.copy_report` shows them.

    A clip's "copied" is None if it was not checked: nothing could be compared, or fewer than ten null clips, with which
    no match is a copy. `reason` says why, where it is that of all; `seconds` are how long each clip is.
    """
    clips = [
        {
            "clip": clip,
            "seconds": round(seconds[clip], 2),
            "copied": None if match is None or null_clips < MIN_NULL_CLIPS else _copy_indicator(match) > 0,
            "match": None if match is None else {**asdict(match), "source": str(training[match.source])},
        }
        for clip, match in matches.items()
    ]
    return {
        "p_value_threshold": FALSE_POSITIVE_RATE,
        "training_clips": len(training),
        "null_clips": null_clips,
        "copied": sum(row["copied"] is True for row in clips),
        "checked": sum(row["copied"] is not None for row in clips),
        "not_checked": reason,
        "clips": clips,
    }


def copies_sentence(copies: Mapping[str, Any]) -> str:
    """What the search for copied passages found in how many clips; says so if some or all could not be checked.

    `folder` of `copies` is where the recordings are, where it is not known that they were trained on.
    """
    folder = copies.get("folder")
    source, sources = (f"recording{s} in {folder}" if folder else f"training recording{s}" for s in ("", "s"))
    clips, checked, text = copies.get("clips") or [], checked_clips(copies), words("en")
    reasons = "; ".join(
        reasons_not_checked([row for row in clips if row not in checked], copies.get("not_checked", ""))
    )
    if not checked:
        none = reasons or "there is no clip"
        return text["copies_none_checked"].format(sources=sources, reasons=none + _left_out(copies))
    copied = sum(row["copied"] for row in checked)
    have = "contains a passage" if copied <= 1 else "contain passages"
    among = {"clips": format_counted(len(checked), "checked clip"), "source": f"a {source}"}
    sentence = text["copies_found" if copied else "copies_none"].format(copied=copied, have=have, **among)
    if reasons:
        unchecked = format_counted(len(clips) - len(checked), "clip")
        sentence += text["copies_unchecked"].format(clips=unchecked, reasons=reasons)
    if is_rate_uncertain(copies):
        sentence += text["copies_uncertain"].format(clips=format_counted(copies["null_clips"], "such clip"))
    return f"{sentence}{_left_out(copies)}."


def checked_clips(copies: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of the clips whose sound was compared."""
    rows = copies.get("clips") or []
    return [row for row in rows if row["copied"] is not None and row["match"] is not None]


def is_rate_uncertain(copies: Mapping[str, Any]) -> bool:
    """Whether the rate of false alarms is extrapolated from too few clips to be counted."""
    null = copies.get("null_clips")
    return null is not None and null < NULL_CLIPS_FOR_COUNTING


def reasons_not_checked(rows: Sequence[Mapping[str, Any]], reason: str = "") -> list[str]:
    """Why these clips were not checked: the `reason` of all, or what each lacks, with what is needed and given."""
    if not rows or reason:
        return [reason] * bool(rows)
    short = [row["seconds"] for row in rows if row["seconds"] < audio_matching.MIN_CLIP_SECONDS]
    reasons = [too_short(short)] if short else []
    if len(short) < len(rows):
        lasting = f"lasts the {audio_matching.PASSAGE_SECONDS:g} s of a passage"
        reasons.append(f"no recording, other than what the clip itself comes from, {lasting}")
    return reasons


def too_short(seconds: Sequence[float]) -> str:
    """How long clips are that cannot be compared, and how long they have to be."""
    ends = dict.fromkeys(f"{end:.3g}" for end in (min(seconds), max(seconds)))
    return f"too short: {' to '.join(ends)} s, and at least {audio_matching.MIN_CLIP_SECONDS:g} s are needed"


def _left_out(copies: Mapping[str, Any]) -> str:
    """What is not compared of what was checked: a phrase that was given, training recordings that are not at hand."""
    count, elsewhere = copies.get("continuations", 0), copies.get("not_compared_with", "")
    return "".join(f"; {part}" for part in (only_generated(count) if count else "", elsewhere) if part)


def only_generated(continuations: int) -> str:
    """What is compared of so many files that begin with a phrase that was given."""
    return (
        f"of {format_counted(continuations, 'continuation')} only what was generated is compared, not the phrase given"
    )


def audio_copy_scores(
    corpus: Corpus,
    generated: ClipSet,
    base: ClipSet,
    real: ClipSet,
    cache: MetricCache,
    others: Sequence[Clip] = (),
    progress: Progress | None = None,
) -> CopyMatches | str:
    """The best audio match of each output, base output and held-out clip in the training clips, or why there is none.

    `others`: see `null_similarities`.
    """
    progress = progress or Progress()
    training = counted(corpus.train, len(corpus.train), progress, READING)
    prints = (fingerprint_of(corpus.read_clip(clip), cache) for clip in training)
    seconds = max((clip.seconds for clip in real.clips), default=0.0)
    try:
        sources = audio_matching.build_reference_audio(prints, progress=progress)
        sets = {"with adapter": generated, "without adapter": base, "held out": real}
        matches = [
            [
                copy_detection.find_audio_copy(fingerprint_of(clip, cache), sources, NO_NULL)
                for clip in counted(clips.clips, len(clips.clips), progress, f"looking for copies in clips {name}")
            ]
            for name, clips in sets.items()
        ]
        known = [match.similarity for match in matches[2] if match is not None]
        null = null_similarities(corpus, sources, known, others, seconds, cache, progress)
    except TalimError as error:  # what else was measured is kept
        return f"the sound of the training clips cannot be read ({error})"
    longest = max((clip.seconds for clip in generated.clips), default=seconds)
    return with_p_values(matches, null_shortfall(corpus, len(null), longest, "--seconds"), null[len(known) :])


def null_similarities(
    corpus: Corpus,
    sources: audio_matching.ReferenceAudio,
    held_out: Sequence[float],
    others: Sequence[Clip],
    seconds: float,
    cache: MetricCache,
    progress: Progress | None = None,
) -> np.ndarray:
    """Similarities to the training clips (`sources`) of music that copies none of them [n]: the null distribution.

    Those of `held_out` clips, and, up to ten, those of `others`, validation or training clips cut to `seconds`; these
    are compared with the training clips of other recordings.
    """
    names, found = [clip.sound_group for clip in corpus.train], list(held_out)
    for clip in others if len(found) < MIN_NULL_CLIPS else ():
        (progress or Progress()).step("comparing music that copies none, for chance", len(found), MIN_NULL_CLIPS)
        own = [number for number, name in enumerate(names) if name == clip.sound_group]
        match = None
        if len(own) < len(names):
            match = similarity_of(corpus, clip, seconds, sources, cache, own)
        found += [] if match is None else [match]
        if len(found) == MIN_NULL_CLIPS:
            break
    return np.array(found)


def similarity_of(
    corpus: Corpus,
    clip: Clip,
    seconds: float,
    sources: audio_matching.ReferenceAudio,
    cache: MetricCache,
    exclude: Sequence[int] = (),
) -> float | None:
    """How similar the best match of a clip, cut to `seconds`, among the sources is; None if nothing was compared."""
    sound = corpus.read_clip(clip).mono().resample(pitch.RATE_HZ).cut(0, seconds)
    match = audio_matching.find_audio_match(fingerprint_of(sound, cache), sources, exclude)
    return None if match is None else match.similarity


def null_shortfall(corpus: Corpus, given: int, seconds: float, setting: str) -> str:
    """Why so few null clips as are `given` could be compared with the training clips, and what would help.

    They are cut to the `seconds` of the generated pieces, which `setting` gives.
    """
    longest = max((clip.seconds for clip in corpus.train), default=0.0)
    if longest < audio_matching.PASSAGE_SECONDS:
        return f"a passage lasts {audio_matching.PASSAGE_SECONDS:g} s, and the longest training clip {longest:.3g} s"
    if seconds < audio_matching.MIN_CLIP_SECONDS:
        return (
            f"pieces of {seconds:.3g} s are too short to be compared: "
            f"{setting} {math.ceil(audio_matching.MIN_CLIP_SECONDS)} or more"
        )
    of = f"clips of other recordings, of at least {audio_matching.MIN_CLIP_SECONDS:g} s each"
    return f"{null_needed(of, given)}: add recordings, or longer ones"


def null_needed(of: str, given: int) -> str:
    """What is needed to know how much alike unrelated music is, and what there is of it."""
    return (
        f"how much alike unrelated music is (the null distribution) has to be measured on {MIN_NULL_CLIPS} {of}, "
        f"and there are {given}"
    )


def token_copy_scores(tokens: TokenMatcher) -> CopyMatches | str:
    """The longest run of a training clip's tokens in each output, base output and null clip, or why there is none."""
    matches = [
        [copy_detection.find_token_copy(codes, tokens.training, tokens.frame_rate_hz, NO_NULL) for codes in clips]
        for clips in (tokens.generated, tokens.base, tokens.null_clips)
    ]
    few = len(tokens.null_clips) < MIN_NULL_CLIPS
    no_run = "the held-out clips share no token with the training clips"
    return with_p_values(matches, null_needed("held-out clips", len(tokens.null_clips)) if few else no_run)


def with_p_values(
    matches: Sequence[Sequence[CopyMatch | None]], no_null_reason: str, more_null: Sequence[float] | np.ndarray = ()
) -> CopyMatches | str:
    """Matches of outputs, base outputs and held-out clips with their p-values.

    The null distribution is held-out clips and `more_null`; a held-out clip is judged by the others. `no_null_reason`
    if these are fewer than ten.
    """
    generated, base, null = matches
    similarities = np.array([*(match.similarity for match in null if match is not None), *more_null])
    if similarities.size < MIN_NULL_CLIPS:
        return no_null_reason

    def with_p_value(match: CopyMatch | None, null_similarities: np.ndarray) -> CopyMatch | None:
        return match and replace(match, p_value=copy_detection.tail_p_value(match.similarity, null_similarities))

    indices = np.cumsum([match is not None for match in null]) - 1
    return CopyMatches(
        [with_p_value(match, similarities) for match in generated],
        [with_p_value(match, similarities) for match in base],
        [with_p_value(match, np.delete(similarities, n)) for match, n in zip(null, indices, strict=True)],
        len(similarities),
    )


def fingerprint_of(clip: Audio, cache: MetricCache) -> np.ndarray:
    """A clip's `audio_matching.audio_fingerprint`, cached."""

    def compute() -> np.ndarray:
        return audio_matching.audio_fingerprint(clip.mono().resample(pitch.RATE_HZ).samples[0])

    return cache.get(clip, f"print/{audio_matching.VERSION}", compute)


def fingerprint_of_file(path: Path, cache: MetricCache, start_seconds: float = 0.0) -> np.ndarray:
    """`audio_matching.audio_fingerprint` of a file from `start_seconds`, read in blocks; cached by the file's bytes.

    AudioError where the file cannot be read, is damaged or breaks off.
    """

    def compute() -> np.ndarray:
        blocks = read_mono_blocks(path, pitch.RATE_HZ, start_seconds=start_seconds)
        return audio_matching.audio_fingerprint_of_blocks(blocks)

    part = f"/from {start_seconds:g}" if start_seconds else ""
    return cache.get_by_key(file_hash(path), f"print/{audio_matching.VERSION}{part}", compute)


def _row(name: str, matches: CopyMatches | str, generated: ClipSet, base: ClipSet, real: ClipSet) -> ScoreRow:
    measure = Measure(name, "lower_is_better", "fraction", MEANINGS[name])
    if isinstance(matches, str):
        return missing_score(measure, matches)
    estimate, baseline, reference = (
        mean_over_recordings([_copy_indicator(match) for match in found], clip_set.recordings)
        for found, clip_set in zip(matches[:3], (generated, base, real), strict=True)
    )
    return row_or_reason(measure, [estimate, reference, baseline], "the outputs are too short to compare")


def _copy_indicator(match: CopyMatch | None) -> float:
    """1 for a copy, 0 for none, NaN where nothing could be compared."""
    return float("nan") if match is None else float(match.p_value <= FALSE_POSITIVE_RATE)
