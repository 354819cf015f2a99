"""The table of scores: every measure of a set of clips, with a reference and a baseline, with an interval by recording.

A protocol says what was measured and how; its hash stands with the scores, and tables refuse to mix hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from talim.audio import Audio
from talim.errors import TalimError
from talim.evaluation import bootstrap, clip_measures
from talim.evaluation.clip_measures import ClipMeasures
from talim.html.render import render
from talim.metrics import distribution_distances, diversity, embeddings, melodic_ngrams
from talim.metrics.cache import MetricCache


def score_page(title: str, result: Mapping[str, Any]) -> str:
    """`scores` (name, value, low, high, n, floor, baseline, direction, unit, sentence), `protocol` and `warnings`."""
    return render(
        "scores.html",
        title=title,
        rows=result["scores"],
        protocol=result["protocol"],
        warnings=result["warnings"],
    )


FEW_CLIPS = 20  # clips under which distances are warned of

EMBEDDINGS = ("timbre", "pitch", "rhythm")


@dataclass(frozen=True)
class ScoreRow:
    """One score: `value` in [low, high] (95 %, by recording; None where there are too few), from `n` clips.

    `floor` is what real held-out music has (of a distance: its two halves), `baseline` what the untrained base has.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    reference: float | None
    baseline: float | None
    direction: str
    unit: str
    sentence: str


@dataclass(frozen=True)
class ClipSet:
    """Clips of equal rate and length, what was heard in them, and the recording that each belongs to.

    `said_bpm`, where given, is the tempo in each clip's words, None where they name none.
    """

    clips: Sequence[Audio]
    heard: Sequence[ClipMeasures]
    recordings: Sequence[str]
    stated_bpm: Sequence[float | None] = ()

    def part(self, rows: Sequence[int]) -> ClipSet:
        """Some of the clips alone, by number."""
        return ClipSet(
            [self.clips[n] for n in rows],
            [self.heard[n] for n in rows],
            [self.recordings[n] for n in rows],
            [self.stated_bpm[n] for n in rows] if self.stated_bpm else (),
        )


def score_protocol(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol: `facts` (data, lengths, rates), embeddings and versions, and the hash over them."""
    from talim.run import provenance

    versions = provenance()
    said = {**facts, "embeddings": {name: embeddings.load(name).identity for name in EMBEDDINGS}}
    said |= {"measures": json.loads(clip_measures.measure_version()), "talim": versions.get("talim")}
    text = json.dumps(said, sort_keys=True, default=str)
    return {**said, "hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def common_protocol_hash(tables: Sequence[Mapping[str, Any]]) -> str:
    """The one hash of several scores.json; TalimError where they differ, for their values cannot be compared."""
    hashes = {str(table.get("protocol", {}).get("hash")) for table in tables}
    if len(hashes) != 1:
        raise TalimError(
            f"scores of different protocols ({', '.join(sorted(hashes))}) share no table; run talim evaluate with the "
            "same corpus, lengths and version on each"
        )
    return hashes.pop()


def clip_measure_rows(own: ClipSet, real: ClipSet, base: ClipSet) -> list[ScoreRow]:
    """A row for each measure of single clips: the mean over recordings of the means of their clips."""
    rows = []
    for name, (unit, direction, meaning) in clip_measures.MEASURE_DESCRIPTIONS.items():
        mine, floor, baseline = (_mean(part, name) for part in (own, real, base))
        rows.append(score_row(name, mine, floor[0], baseline[0], direction, unit, meaning))
    likeness = [
        [melodic_ngrams.ngram_similarity(one.phrases, [r.phrases for r in real.heard]) for one in part.heard]
        for part in (own, base)
    ]
    halves = [
        melodic_ngrams.ngram_similarity(one.phrases, [r.phrases for r, name in zip(real.heard, real.recordings, strict=True)
                                              if name != recording])
        for one, recording in zip(real.heard, real.recordings, strict=True)
    ]  # fmt: skip
    mine = mean_over_recordings(likeness[0], own.recordings)
    rows.append(
        score_row("ngram_similarity", mine, mean_over_recordings(halves, real.recordings)[0],
             mean_over_recordings(likeness[1], base.recordings)[0], "higher_is_better", "0 to 1",
             "phrases in common with the held-out music")
    )  # fmt: skip
    return rows


def distance_rows(
    own: ClipSet, real: ClipSet, base: ClipSet, cache: MetricCache, rng: np.random.Generator
) -> tuple[list[ScoreRow], list[str]]:
    """Kernel distance, coverage and diversity in each shipped embedding, and the warnings that go with them."""
    rows, gains, notes = [], [], []
    for name in EMBEDDINGS:
        vectors = [embeddings.embed(part.clips, embeddings.load(name), cache) for part in (real, own, base)]
        if min(map(len, vectors)) < 2:
            return [], ["distances need two clips or more of each kind; give more prompts"]
        reference, mine, theirs = (_scaled(v, vectors[0]) for v in vectors)
        one, other = _halves(real.recordings, rng)
        floor = (
            distribution_distances.kernel_distance(reference[one], reference[other])
            if min(map(len, (one, other))) > 1
            else None
        )
        value, baseline = (
            distribution_distances.kernel_distance(reference, rows_) for rows_ in (mine, theirs)
        )
        spread = distribution_distances.interval_by_recording(
            distribution_distances.kernel_distance, reference, mine, real.recordings, own.recordings, rng
        )
        gains.append(baseline - value)
        rows.append(
            score_row(f"kernel_distance_{name}", (value, spread, len(mine)), floor, baseline, "lower_is_better", "0 to 200",
                 f"how far the clips lie from the held-out music in {name}")
        )  # fmt: skip
        count = min(map(len, (mine, theirs, reference)))
        worth = [
            diversity.effective_sample_count(part[:count], reference) for part in (mine, reference, theirs)
        ]
        rows.append(
            score_row(f"diversity_{name}", (worth[0], None, count), worth[1], worth[2], "match_reference", "pieces",
                 f"how many different pieces {count} clips are worth in {name}")
        )  # fmt: skip
    if len({gain > 0 for gain in gains}) > 1:
        notes.append("the embeddings disagree on whether the adapter came nearer to the held-out music")
    fewest = min(len(own.clips), len(real.clips))
    if fewest < FEW_CLIPS:
        notes.append(f"only {fewest} clips in a set: distances from fewer than {FEW_CLIPS} are rough")
    return rows, notes


def rows_as_json(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """The rows as plain values; NaN becomes null."""
    return [
        {key: None if isinstance(value, float) and not np.isfinite(value) else value
         for key, value in asdict(row).items()}
        for row in rows
    ]  # fmt: skip


def score_row(
    name: str,
    mine: tuple[float, Sequence[float] | None, int],
    reference: float | None,
    baseline: float | None,
    direction: str,
    unit: str,
    meaning: str,
) -> ScoreRow:
    """A row from (value, interval, clips), its floor and baseline, and what it means in words."""
    value, spread, n = mine
    low, high = spread if spread else (None, None)
    told = f"{meaning}: {_format_value(value)} ({unit}); real music {_format_value(floor)}, the base alone {_format_value(baseline)}"
    return ScoreRow(name, value, low, high, n, floor, baseline, direction, unit, told)


def missing_score(name: str, direction: str, unit: str, meaning: str, why: str) -> ScoreRow:
    """A row without a value, and why it has none."""
    return ScoreRow(
        name, None, None, None, 0, None, None, direction, unit, f"{meaning}: not answered, for {why}"
    )


def _format_value(value: float | None) -> str:
    return "not measured" if value is None or not np.isfinite(value) else f"{value:.3g}"


def _mean(part: ClipSet, name: str) -> tuple[float, list[float] | None, int]:
    return mean_over_recordings([one.measures[name] for one in part.heard], part.recordings)


def mean_over_recordings(
    values: Sequence[float], recordings: Sequence[str]
) -> tuple[float, list[float] | None, int]:
    """Mean over recordings, its interval, and how many clips could be measured."""
    kept = [(v, r) for v, r in zip(values, recordings, strict=True) if np.isfinite(v)]
    if not kept:
        return float("nan"), None, 0
    means = bootstrap.mean_by_recording([v for v, _ in kept], [r for _, r in kept])
    return float(np.mean(list(means.values()))), bootstrap.bootstrap_ci(means), len(kept)


def _scaled(rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Each dimension over its spread in the real set, so that none decides by its unit."""
    return (rows - reference.mean(0)) / np.maximum(reference.std(0), 1e-6)


def _halves(recordings: Sequence[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the clips, of whole recordings."""
    names = np.array(sorted(set(recordings)))
    chosen = set(rng.permutation(names)[: len(names) // 2])
    first = np.array([name in chosen for name in recordings])
    return np.flatnonzero(first), np.flatnonzero(~first)
