"""The music of a run judged: generated clips with and without the adapter against real held-out ones.

All clips are mixed down, brought to 16 kHz and cut to one length before anything is measured, and no distance depends
on loudness, so that bases of different rates are compared as equals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talim.audio import Audio
from talim.corpus.manifest import Clip, Corpus
from talim.errors import TalimError, UsageError
from talim.metrics import clap, distances, embeddings, pitch
from talim.metrics.cache import Cache
from talim.pages.table import page_of
from talim.run import Run, write_text
from talim.stages import copies, copying, score_table, scoring
from talim.stages.adhering import adhering
from talim.stages.batches import spread
from talim.stages.mode_and_cycle import tempo_said, true_to_words
from talim.stages.samples import Pair
from talim.stages.score_table import Score, Set, score

PROTOCOLS = ("default", "paper")
PAPER = {"fad_vggish": "vggish", "fd_panns": "panns"}
MOST_REAL = 60


def judge(
    run: Run,
    corpus: Corpus,
    pairs: Sequence[Pair],
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
    words = clap.at_hand(clap_place)
    asked = spread(corpus.held_out, len(pairs))
    chosen = spread(corpus.held_out, MOST_REAL)
    parts = {
        "real": [corpus.read_clip(clip) for clip in chosen],
        "after": [pair.after.audio for pair in pairs],
        "before": [pair.before.audio for pair in pairs],
    }
    shortest = min([seconds, *(clip.seconds for clips in parts.values() for clip in clips)])
    cache = Cache(run.folder / "heard")
    named = {"real": chosen, "after": asked, "before": asked}
    sets = {role: prepared(clips, named[role], shortest, cache, jobs) for role, clips in parts.items()}
    facts = {
        "corpus": corpus.hash, "kind": kind, "seconds": round(shortest, 3), "rate_hz": pitch.RATE_HZ,
        "generated": len(pairs), "real": len(chosen), "seed": seed,
        "clap": None if isinstance(words, str) else words.sound.identity,
    }  # fmt: skip
    own, real, base = sets["after"], sets["real"], sets["before"]
    rows = score_table.measured(own, real, base)
    far, notes = score_table.distant(own, real, base, cache, np.random.default_rng(seed))
    rows += true_to_words(asked, own, base, chosen, real)
    rows += far + adhering(asked, own, base, chosen, real, cache, words)
    more, copied = copying.copying(corpus, own, base, real, _tokens(pairs, training), cache)
    rows += more
    if kind == "paper":
        rows += paper(own, real, base, cache)
    result = {
        "protocol": score_table.protocol(facts),
        "scores": score_table.as_json(rows),
        "warnings": notes,
    }
    write_text(run.folder / "scores.html", page_of("Scores", result))
    for row in copied["clips"]:
        row["clip"] = str(run.samples / row["clip"])
    write_text(run.folder / "copies.html", copies.page(copied))
    result["copies"] = copied
    return result


def _tokens(
    pairs: Sequence[Pair], training: tuple[Sequence[np.ndarray], Sequence[np.ndarray], float] | None
) -> copying.Tokens | str:
    """First codebooks of all that is compared; or why there are none."""
    if training is None:
        return "this base writes no tokens"
    known, strangers, frame_hz = training

    def first(part: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [codes[0] for codes in part]

    own, base = [pair.after.targets for pair in pairs], [pair.before.targets for pair in pairs]
    most = max(map(len, first(own)))  # a longer stranger would share longer runs by chance
    return copying.Tokens(
        first(known), [codes[:most] for codes in first(strangers)], first(own), first(base), frame_hz
    )


def prepared(clips: Sequence[Audio], named: Sequence[Clip], seconds: float, cache: Cache, jobs: int) -> Set:
    """Clips of one channel, rate and length, what is heard in them, and the recordings and tempi of their words."""
    alike = [clip.mono().resample(pitch.RATE_HZ).cut(0, seconds) for clip in clips]
    heard = scoring.hear_all(alike, cache.folder, jobs)
    return Set(alike, heard, [clip.recording for clip in named], [tempo_said(clip) for clip in named])


def paper(own: Set, real: Set, base: Set, cache: Cache) -> list[Score]:
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
        floor = distances.frechet(reference[:half], reference[half:]) if half > 1 else None
        found = distances.frechet(reference, mine), distances.frechet(reference, theirs)
        meaning = f"Fréchet distance to the held-out music by {model}, biased upwards by small sets"
        mine_told = (found[0], None, len(mine))
        rows.append(score(name, mine_told, floor, found[1], "lower", f"{model} squared", meaning))
    return rows
