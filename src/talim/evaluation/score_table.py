"""The score table: each measure of a set of clips next to real music (reference) and the untrained base (baseline)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from talim.atomic_io import to_jsonable
from talim.audio import Audio
from talim.evaluation import bootstrap, clip_measures
from talim.evaluation.clip_measures import ClipMeasures
from talim.evaluation.protocol import EMBEDDINGS
from talim.html.render import render
from talim.metrics import distribution_distances, diversity, embeddings, melodic_ngrams
from talim.metrics.cache import MetricCache

FEW_CLIPS = 20  # distances from fewer clips come with a warning
SPLIT_REQUIREMENT = "two halves of whole recordings need two clips or more each"


class Estimate(NamedTuple):
    """A value, its 95 % interval by recording (None: too few recordings) and the number of clips it comes from."""

    value: float
    ci95: Sequence[float] | None
    n: int


class Measure(NamedTuple):
    """What a row says: its name, its direction (see `ScoreRow`), its unit, and in words what is measured."""

    name: str
    direction: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class ScoreRow:
    """One score: `value` in [low, high] (95 %, by recording; None with too few recordings), from `n` clips.

    `reference` is the score of real held-out music (of a distance: between two halves of it, split by recording),
    `baseline` that of the untrained base. `direction` is higher_is_better, lower_is_better or match_reference.
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
    """Clips of equal rate and length, their measures, and the recording that each belongs to.

    `prompt_bpm`, if given, is the tempo that each clip's prompt states, None where it states none.
    """

    clips: Sequence[Audio]
    measures: Sequence[ClipMeasures]
    recordings: Sequence[str]
    prompt_bpm: Sequence[float | None] = ()

    def subset(self, indices: Sequence[int]) -> ClipSet:
        """The clips at these indices."""
        return ClipSet(
            [self.clips[n] for n in indices],
            [self.measures[n] for n in indices],
            [self.recordings[n] for n in indices],
            [self.prompt_bpm[n] for n in indices] if self.prompt_bpm else (),
        )


def score_page(title: str, result: Mapping[str, Any]) -> str:
    """HTML page of a result with `scores` (rows as dicts), `protocol` and `warnings`."""
    return render(
        "scores.html", title=title, rows=result["scores"], protocol=result["protocol"], warnings=result["warnings"]
    )


def clip_measure_rows(generated: ClipSet, real: ClipSet, base: ClipSet | None) -> list[ScoreRow]:
    """A row for each measure of single clips: the mean over recordings of the means of their clips."""
    rows = []
    for name, (unit, direction, meaning) in clip_measures.MEASURE_DESCRIPTIONS.items():
        estimate, reference, *baseline = (
            mean_over_recordings([clip.values[name] for clip in clip_set.measures], clip_set.recordings)
            for clip_set in (generated, real, base)
            if clip_set is not None
        )
        rows.append(score_row(Measure(name, direction, unit, meaning), estimate, reference, *baseline))

    estimate, reference, *baseline = (
        mean_over_recordings([_pitched_fraction(clip) for clip in clip_set.measures], clip_set.recordings)
        for clip_set in (generated, real, base)
        if clip_set is not None
    )
    measure = Measure("pitched_fraction", "match_reference", "fraction", "frames in which a pitch is heard")
    rows.append(score_row(measure, estimate, reference, *baseline))

    real_ngrams = [(name, clip.ngrams) for name, clip in zip(real.recordings, real.measures, strict=True)]

    def similarity(clip_set: ClipSet, leave_one_out: bool = False) -> Estimate:
        values = []
        for recording, clip in zip(clip_set.recordings, clip_set.measures, strict=True):
            others = [ngrams for name, ngrams in real_ngrams if not (leave_one_out and name == recording)]
            values.append(melodic_ngrams.ngram_similarity(clip.ngrams, others))
        return mean_over_recordings(values, clip_set.recordings)

    measure = Measure("ngram_similarity", "higher_is_better", "0 to 1", "melodic n-grams in common with the real music")
    baseline = None if base is None else similarity(base)
    return [*rows, score_row(measure, similarity(generated), similarity(real, leave_one_out=True), baseline)]


def _pitched_fraction(clip: ClipMeasures) -> float:
    return float(np.isfinite(clip.cents).mean()) if clip.cents.size else float("nan")


def distance_rows(
    generated: ClipSet, real: ClipSet, base: ClipSet | None, cache: MetricCache, rng: np.random.Generator
) -> tuple[list[ScoreRow], list[str]]:
    """Kernel distance and diversity in each shipped embedding, and warnings about them."""
    sets = [real, generated] if base is None else [real, generated, base]
    if min(len(clip_set.clips) for clip_set in sets) < 2:
        return [], ["distances need two clips or more in each set"]
    rows, gains, warnings = [], [], []
    kernel_distance = distribution_distances.kernel_distance
    for name in EMBEDDINGS:
        extractor = embeddings.load(name)
        vectors = [embeddings.embed(clip_set.clips, extractor, cache) for clip_set in sets]
        spread = np.maximum(vectors[0].std(0), 1e-6)  # of the real set, so that units do not weigh dimensions
        scaled = [(rows_of_set - vectors[0].mean(0)) / spread for rows_of_set in vectors]
        real_rows, generated_rows = scaled[:2]
        distance = kernel_distance(real_rows, generated_rows)
        baseline = kernel_distance(real_rows, scaled[2]) if base is not None else None
        split_half = distribution_distances.split_half_distance(kernel_distance, real_rows, real.recordings, rng)
        interval = distribution_distances.interval_by_recording(
            kernel_distance, real_rows, generated_rows, real.recordings, generated.recordings, rng
        )
        if baseline is not None:
            gains.append(baseline - distance)
        meaning = f"distance of the clips to the real music in {name}"
        measure = Measure(f"kernel_distance_{name}", "lower_is_better", "0 to 200", meaning)
        estimate = Estimate(distance, interval, len(generated_rows))
        rows.append(score_row(measure, estimate, split_half, baseline, reference_requirement=SPLIT_REQUIREMENT))
        count = min(map(len, scaled))
        reference, value, *baselines = (diversity.effective_sample_count(part[:count], real_rows) for part in scaled)
        meaning = f"effective number of different pieces among {count} clips in {name}"
        measure = Measure(f"diversity_{name}", "match_reference", "pieces", meaning)
        rows.append(score_row(measure, Estimate(value, None, count), reference, *baselines))
    if len({gain > 0 for gain in gains}) > 1:
        warnings.append("the embeddings disagree on whether the adapter came nearer to the held-out music")
    fewest = min(len(generated.clips), len(real.clips))
    if fewest < FEW_CLIPS:
        warnings.append(f"only {fewest} clips in a set: distances from fewer than {FEW_CLIPS} are rough")
    return rows, warnings


def rows_as_json(rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
    """The rows as plain values; NaN and infinite values become null."""
    return [to_jsonable(asdict(row)) for row in rows]


def score_row(
    measure: Measure,
    estimate: Estimate,
    reference: Estimate | float | None,
    baseline: Estimate | float | None = None,
    *,
    reference_requirement: str = "",
) -> ScoreRow:
    """A row with its sentence. `reference_requirement` says what a missing reference would have needed."""
    name, direction, unit, meaning = measure
    low, high = estimate.ci95 if estimate.ci95 else (None, None)
    reference, baseline = (part.value if isinstance(part, Estimate) else part for part in (reference, baseline))
    note = f" ({reference_requirement})" if reference is None and reference_requirement else ""
    sentence = f"{meaning}: {_format_value(estimate.value)} ({unit}); real music {_format_value(reference)}{note}"
    if baseline is not None:
        sentence += f", the base alone {_format_value(baseline)}"
    return ScoreRow(name, estimate.value, low, high, estimate.n, reference, baseline, direction, unit, sentence)


def missing_score(measure: Measure, reason: str) -> ScoreRow:
    """A row without a value, with the reason."""
    name, direction, unit, meaning = measure
    sentence = f"{meaning}: not measured, because {reason}"
    return ScoreRow(name, None, None, None, 0, None, None, direction, unit, sentence)


def row_or_reason(measure: Measure, sets: Sequence[Estimate], reason: str) -> ScoreRow:
    """A row from the estimates of generated, real and base clips, or with the `reason` if no generated clip has one."""
    return score_row(measure, *sets) if sets[0].n else missing_score(measure, reason)


def _format_value(value: float | None) -> str:
    return "not measured" if value is None or not np.isfinite(value) else f"{value:.3g}"


def mean_over_recordings(values: Sequence[float], recordings: Sequence[str]) -> Estimate:
    """Mean over recordings of the means of their clips, its interval, and how many clips had a value (not NaN)."""
    measured = [(value, name) for value, name in zip(values, recordings, strict=True) if np.isfinite(value)]
    if not measured:
        return Estimate(float("nan"), None, 0)
    means = bootstrap.mean_by_recording(*map(list, zip(*measured, strict=True)))
    return Estimate(float(np.mean(list(means.values()))), bootstrap.bootstrap_ci(means), len(measured))
