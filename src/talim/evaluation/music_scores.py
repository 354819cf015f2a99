"""The music of a run judged: generated clips with and without the adapter against real held-out ones.

All clips are mixed down, brought to 16 kHz and cut to one length before anything is measured, and no distance depends
on loudness, so that bases of different rates are compared as equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talim.atomic_io import write_text
from talim.audio import Audio
from talim.corpus.manifest import Clip, Corpus
from talim.errors import TalimError, UsageError
from talim.evaluation import clip_measures, copy_report, copy_scores, score_table
from talim.evaluation.adherence_scores import prompt_adherence_scores
from talim.evaluation.sample_pairs import SamplePair
from talim.evaluation.score_table import ClipSet, ScoreRow, score_page, score_row
from talim.evaluation.tradition_scores import prompt_tempo, tradition_scores
from talim.metrics import clap, distribution_distances, embeddings, pitch
from talim.metrics.cache import MetricCache
from talim.run import Run
from talim.training.batches import stratified_sample

PROTOCOLS = ("default", "paper")
PAPER = {"fad_vggish": "vggish", "fd_panns": "panns"}
MAX_REAL_CLIPS = 60


def score_music(
    run: Run,
    corpus: Corpus,
    pairs: Sequence[SamplePair],
    *,
    seconds: float,
    seed: int,
    kind: str = "default",
    jobs: int = 1,
    clap_place: Path | None = None,
    training: tuple[Sequence[np.ndarray], Sequence[np.ndarray], float] | None = None,
) -> dict[str, Any]:
    """`protocol`, `scores`, `warnings` and `copies` of a run; also written as RUN/scores.html and RUN/copies.html.

    `training`: codec tokens [K, frames] of the training clips and of at most 60 held-out ones (`batches.spread`), and
    frames a second, where the base writes tokens; fragments that were learnt by heart are then looked for.

    CLAP comes from `clap_place`, else from the hub's cache, else its row says that it is not at hand.
    UsageError for an unknown protocol; TalimError where the paper's is asked for and its weights cannot be had.
    """
    if kind not in PROTOCOLS:
        raise UsageError(f"no protocol {kind!r}: choose one of {', '.join(PROTOCOLS)}")
    words = clap.load_clap_if_available(clap_place)
    asked = stratified_sample(corpus.held_out, len(pairs))
    chosen = stratified_sample(corpus.held_out, MAX_REAL_CLIPS)
    parts = {
        "real": [corpus.read_clip(clip) for clip in chosen],
        "after": [pair.after.audio for pair in pairs],
        "before": [pair.before.audio for pair in pairs],
    }
    shortest = min([seconds, *(clip.seconds for clips in parts.values() for clip in clips)])
    cache = MetricCache(run.metrics_cache)
    named = {"real": chosen, "after": asked, "before": asked}
    sets = {role: load_inputs(clips, named[role], shortest, cache, jobs) for role, clips in parts.items()}
    facts = {
        "corpus": corpus.hash, "kind": kind, "seconds": round(shortest, 3), "rate_hz": pitch.RATE_HZ,
        "generated": len(pairs), "real": len(chosen), "seed": seed,
        "clap": None if isinstance(words, str) else words.sound.identity,
    }  # fmt: skip
    own, real, base = sets["after"], sets["real"], sets["before"]
    rows = score_table.clip_measure_rows(own, real, base)
    far, notes = score_table.distance_rows(own, real, base, cache, np.random.default_rng(seed))
    rows += tradition_scores(asked, own, base, chosen, real)
    rows += far + prompt_adherence_scores(asked, own, base, chosen, real, cache, words)
    more, copied = copy_scores.copy_scores(corpus, own, base, real, _tokens(pairs, training), cache)
    rows += more
    if kind == "paper":
        rows += paper_distance_scores(own, real, base, cache)
    result = {
        "protocol": score_table.score_protocol(facts),
        "scores": score_table.rows_as_json(rows),
        "warnings": notes,
    }
    write_text(run.folder / "scores.html", score_page("Scores", result))
    for row in copied["clips"]:
        row["clip"] = str(run.samples / row["clip"])
    write_text(run.folder / "copies.html", copy_report.copy_report(copied))
    result["copies"] = copied
    return result


def _tokens(
    pairs: Sequence[SamplePair], training: tuple[Sequence[np.ndarray], Sequence[np.ndarray], float] | None
) -> copy_scores.TokenMatcher | str:
    """First codebooks of all that is compared; or why there are none."""
    if training is None:
        return "this base writes no tokens"
    known, strangers, frame_hz = training

    def first(part: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [codes[0] for codes in part]

    own, base = [pair.after.targets for pair in pairs], [pair.before.targets for pair in pairs]
    most = max(map(len, first(own)))  # a longer stranger would share longer runs by chance
    return copy_scores.TokenMatcher(
        first(known), [codes[:most] for codes in first(strangers)], first(own), first(base), frame_hz
    )


def load_inputs(
    clips: Sequence[Audio], named: Sequence[Clip], seconds: float, cache: MetricCache, jobs: int
) -> ClipSet:
    """Clips of one channel, rate and length, what is heard in them, and the recordings and tempi of their words."""
    alike = [clip.mono().resample(pitch.RATE_HZ).cut(0, seconds) for clip in clips]
    heard = clip_measures.measure_clips(alike, cache.folder, jobs)
    return ClipSet(alike, heard, [clip.recording for clip in named], [prompt_tempo(clip) for clip in named])


def paper_distance_scores(own: ClipSet, real: ClipSet, base: ClipSet, cache: MetricCache) -> list[ScoreRow]:
    """The two Fréchet distances of the paper, extrapolated where there are enough recordings."""
    rows = []
    for name, model in PAPER.items():
        try:
            embedding = embeddings.load(model)
        except TalimError as error:
            raise TalimError(f"--protocol paper needs {model}: {error}") from error
        mine, reference, theirs = (
            embeddings.embed(part.clips, embedding, cache) for part in (own, real, base)
        )
        half = len(reference) // 2
        reference = (
            distribution_distances.frechet_distance(reference[:half], reference[half:]) if half > 1 else None
        )
        found = (
            distribution_distances.frechet_distance(reference, mine),
            distribution_distances.frechet_distance(reference, theirs),
        )
        meaning = f"Fréchet distance to the held-out music by {model}, biased upwards by small sets"
        mine_told = (found[0], None, len(mine))
        rows.append(score_row(name, mine_told, reference, found[1], "lower_is_better", f"{model} squared", meaning))
    return rows
