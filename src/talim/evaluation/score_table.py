"""The score table: each measure of a set of clips next to real music (reference) and the untrained base (baseline)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from talim.atomic_io import to_jsonable
from talim.audio import Audio
from talim.evaluation import clip_measures, intervals, predictor_comparison
from talim.evaluation.clip_measures import ClipMeasures
from talim.evaluation.intervals import CONFIDENCE_LEVEL, Effect, two_way_effect
from talim.evaluation.protocol import EMBEDDINGS
from talim.html.formatting import format_ci, format_counted
from talim.html.render import render
from talim.metrics import distribution_distances, diversity, embeddings, melodic_ngrams
from talim.metrics.cache import MetricCache
from talim.metrics.distribution_distances import RecordingDistance, kernel_distance
from talim.progress import Progress, counted
from talim.recordings_needed import HELD_OUT_TO_COMPARE

KERNEL_DISTANCE = "kernel_distance_"  # and the embedding's name
DISTANCE_UNIT = "0 up"  # 100 is the mean distance of two clips of any music
NO_DISTANCE = "not distinguishable from 0"
UNIT_RANGES = {
    **dict.fromkeys(("fraction", "0 to 1"), (0.0, 1.0)),
    "-1 to 1": (-1.0, 1.0),
    "1 at most": (-np.inf, 1.0),
    **dict.fromkeys(
        ("per second", "cents", "fraction per minute", "standard deviations", DISTANCE_UNIT), intervals.NOT_NEGATIVE
    ),
}
TOO_FEW_CLIPS = "too few clips to tell"
FEW_CLIPS = 20  # distances from fewer clips come with a warning
# From fewer clips a distance is mostly chance: between sets of one law its standard deviation is 9 to 13 with 4 clips
# and 6 to 8 with 6 (docs/reports/distance-bias.md: the errors of the means times the root of 200 draws), and two
# traditions are 18 apart in rhythm.
FEWEST_CLIPS = 6
SPLIT_REQUIREMENT = "two halves of whole recordings need two clips or more each"


class Estimate(NamedTuple):
    """A value, its 95 % interval by recording (None: too few recordings) and the number of clips it comes from.

    `per_recording` are the means that it is the mean of, for values that are one, and `per_clip` what these are means
    of, NaN for clips without a value.
    """

    value: float
    ci95: Sequence[float] | None
    n: int
    per_recording: Mapping[str, float] | None = None
    per_clip: Sequence[float] = ()


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
    `gain` is how much better than the base it is, in the score's own direction (negative: worse), paired by recording,
    whose prompts and seeds both share; with its standard error over `gain_recordings` and the skewness of that mean.
    None where that is not known. `resynthesis` is a distance's value for real music that went through the base's codec:
    nothing that the base generates can be expected to be nearer. `separation_p` is the p value of real held-out music
    being told from the base by this score. `per_prompt` and `baseline_per_prompt` are its values by prompt, with the
    adapter and without, for scores of single clips. `too_few_clips` names those of value, reference and baseline of a
    distance that come from fewer than FEWEST_CLIPS clips, and a value that may be 0 as well as that of real music.
    `recording_values` are those that it is the mean of, where it is one.
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
    gain: float | None = None
    gain_error: float | None = None
    gain_recordings: int = 0
    gain_skewness: float = 0.0
    resynthesis: float | None = None
    separation_p: float | None = None
    undecided: str = ""  # why it can decide nothing
    per_prompt: Sequence[float] = ()
    baseline_per_prompt: Sequence[float] = ()
    too_few_clips: Sequence[str] = ()
    recording_values: Sequence[float] = ()


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
    """HTML page of a result with `scores` (rows as dicts), `protocol`, `warnings` and, of a run, `held_out_loss`."""
    losses = result.get("held_out_loss") or {}
    known = (losses.get(predictor_comparison.KEY) or {}).get("losses") or {}
    named = {"base": losses.get("base_loss"), "adapter": losses.get("adapted_loss"), **known} if known else {}
    return render(
        "scores.html",
        title=title,
        losses=[_loss_row(*item) for item in sorted(named.items(), key=lambda item: -item[1]["mean"])],
        loss_unit=(losses.get(predictor_comparison.KEY) or {}).get("unit"),
        rows=[row | {"interval": _interval_text(row)} for row in result["scores"]],
        protocol=result["protocol"],
        warnings=result["warnings"],
    )


def _loss_row(name: str, loss: Mapping[str, Any]) -> tuple[str, float, str]:
    low, high = loss["ci95"] or (None, None)
    return name, loss["mean"], format_ci(low, high, missing="–", values=loss["per_recording"].values())


def _interval_text(row: Mapping[str, Any]) -> str:
    """The interval of a row; of too few recordings for one their values."""
    return format_ci(row["low"], row["high"], _format_value, "–", row.get("recording_values") or ())


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
    generated: ClipSet,
    real: ClipSet,
    base: ClipSet | None,
    cache: MetricCache,
    rng: np.random.Generator,
    resynthesis: ClipSet | None = None,
    progress: Progress | None = None,
) -> tuple[list[ScoreRow], list[str]]:
    """Kernel distance and diversity in each shipped embedding, and warnings about them.

    `resynthesis` is real music that went through the base's codec.
    """
    sets = [real, generated] if base is None else [real, generated, base]
    if min(len(clip_set.clips) for clip_set in sets) < 2:
        return [], ["distances need two clips or more in each set"]
    rows, gains, warnings = [], [], []
    for name in counted(EMBEDDINGS, len(EMBEDDINGS), progress or Progress(), "distances between sets, by embedding"):
        extractor = embeddings.load(name)
        vectors = [embeddings.embed(clip_set.clips, extractor, cache) for clip_set in sets]
        spread = embeddings.typical_spread(name)
        units = [part / spread for part in vectors]
        row, gain = _distance_row(name, sets, units, rng)
        if resynthesis is not None and len(resynthesis.clips) > 1:
            through = embeddings.embed(resynthesis.clips, extractor, cache) / spread
            limit = _set_distance(units[0], through, real.recordings, resynthesis.recordings)
            row = with_resynthesis(
                row, limit, format_distance(limit, _format_value(limit), "value" in row.too_few_clips)
            )
        if base is not None:
            row = replace(row, separation_p=_separation_of_sets(_set_distance, sets, units))
        rows.append(row)
        if gain is not None and gain.p_value <= 1 - CONFIDENCE_LEVEL:
            gains.append(gain.mean)
        own_spread = np.maximum(vectors[0].std(0), 1e-6)  # of the real set, so that units do not weigh dimensions
        scaled = [(part - vectors[0].mean(0)) / own_spread for part in vectors]
        count = min(map(len, scaled))
        reference, value, *baselines = (diversity.effective_sample_count(part[:count], scaled[0]) for part in scaled)
        meaning = f"effective number of different pieces among {format_counted(count, 'clip')} in {name}"
        measure = Measure(f"diversity_{name}", "match_reference", "pieces", meaning)
        row = score_row(measure, Estimate(value, None, count), reference, *baselines)
        if base is not None:
            row = replace(row, separation_p=_separation_of_sets(_less_diverse, sets, scaled))
        rows.append(row)
    if len({gain > 0 for gain in gains}) > 1:
        warnings.append("the embeddings disagree on whether the adapter came nearer to the held-out music")
    fewest = min(len(generated.clips), len(real.clips))
    if fewest < FEW_CLIPS:
        given = format_counted(fewest, "clip")
        warnings.append(f"only {given} in a set: distances from fewer than {FEW_CLIPS} are rough")
    recordings = min(len(set(clip_set.recordings)) for clip_set in (generated, real))
    if recordings < HELD_OUT_TO_COMPARE:
        given = format_counted(recordings, "recording")
        warnings.append(f"only {given} in a set: intervals from fewer than {HELD_OUT_TO_COMPARE} are rough")
    return rows, warnings


def with_resynthesis(row: ScoreRow, limit: float, shown: str) -> ScoreRow:
    """A distance's row with its value for real music that went through the base's codec."""
    return replace(row, resynthesis=limit, sentence=f"{row.sentence}, real music through the base's codec {shown}")


def _set_distance(
    reference: np.ndarray, evaluated: np.ndarray, reference_recordings: Any, evaluated_recordings: Any
) -> float:
    names = {"reference_recordings": reference_recordings, "evaluated_recordings": evaluated_recordings}
    return kernel_distance(reference, evaluated, **names)


def _distance_row(
    name: str, sets: Sequence[ClipSet], rows: Sequence[np.ndarray], rng: np.random.Generator
) -> tuple[ScoreRow, Effect | None]:
    """The row of one embedding, and the gain over the base; `sets` and their `rows` are real, generated and base."""
    (real, generated, *base), (real_rows, generated_rows, *base_rows) = sets, rows
    names = real.recordings, generated.recordings
    value, reference = _set_distance(real_rows, generated_rows, *names), None
    if halves := distribution_distances.split_by_recording(real.recordings, rng):
        first, second = ((real_rows[half], [real.recordings[n] for n in half]) for half in halves)
        reference = _set_distance(first[0], second[0], first[1], second[1])
    found = distribution_distances.jackknife_by_recording(_set_distance, real_rows, generated_rows, *names)
    interval = None if found is None else Effect(value, *found, 1, found[1] + 1).interval()
    baseline = gain = None
    if base:
        baseline = _set_distance(real_rows, base_rows[0], real.recordings, base[0].recordings)
        gain = _distance_gain(real, generated, rows)
    meaning = f"distance of the clips to the real music in {name}"
    measure = Measure(f"{KERNEL_DISTANCE}{name}", "lower_is_better", DISTANCE_UNIT, meaning)
    estimate = Estimate(value, interval, len(generated_rows))
    pairs = {"value": rows[:2], "reference": halves or (), "baseline": [real_rows, *base_rows] if base else ()}
    few = [part for part, pair in pairs.items() if pair and min(map(len, pair)) < FEWEST_CLIPS]
    if interval and reference is not None and interval[0] <= 0 < reference <= interval[1]:
        few = ["value", *(part for part in few if part != "value")]
    row = score_row(measure, estimate, reference, baseline, reference_requirement=SPLIT_REQUIREMENT, too_few_clips=few)
    return _with_gain(row, gain), gain


def _distance_gain(real: ClipSet, generated: ClipSet, rows: Sequence[np.ndarray]) -> Effect | None:
    """How much nearer to the real clips than the base's, with the error over the choice of recordings.

    `rows` are the embedded real, generated and base clips. None with too few recordings for an error.
    """
    real_rows, generated_rows, base_rows = rows
    if len(generated_rows) != len(base_rows):
        return None
    both = np.hstack([generated_rows, base_rows])  # left out together, as they share prompts and seeds
    size = generated_rows.shape[1]

    def gain(reference: np.ndarray, evaluated: np.ndarray, names: Any, evaluated_names: Any) -> float:
        of_both = (evaluated[:, size:], evaluated[:, :size])
        before, after = (_set_distance(reference[:, :size], part, names, evaluated_names) for part in of_both)
        return before - after

    reference, names = np.hstack([real_rows, real_rows]), (real.recordings, generated.recordings)
    found = distribution_distances.jackknife_by_recording(gain, reference, both, *names)
    return None if found is None else Effect(gain(reference, both, *names), *found, 1, found[1] + 1)


def _less_diverse(
    reference: np.ndarray, evaluated: np.ndarray, reference_recordings: Any, evaluated_recordings: Any
) -> float:
    """How many different pieces fewer than in the reference there are among as many clips."""
    count = min(len(reference), len(evaluated))
    more, fewer = (diversity.effective_sample_count(rows[:count], reference) for rows in (reference, evaluated))
    return more - fewer


def _separation_of_sets(
    difference: RecordingDistance, sets: Sequence[ClipSet], rows: Sequence[np.ndarray]
) -> float | None:
    """The p value of a set statistic that is 0 for clips of one kind, between real clips and the base's.

    `sets` and their `rows` are real, generated and base. None with too few recordings for an error.
    """
    (real, _, base), (real_rows, _, base_rows) = sets, rows
    found = distribution_distances.jackknife_by_recording(
        difference, real_rows, base_rows, real.recordings, base.recordings
    )
    if found is None:
        return None
    value = difference(real_rows, base_rows, np.asarray(real.recordings), np.asarray(base.recordings))
    return Effect(value, *found, 1, found[1] + 1).p_value


def _separation_by_recording(real: Estimate, base: Estimate) -> float | None:
    """The p value of real clips and the base's having one mean, paired by recording; None for fewer than three."""
    own, others = real.per_recording or {}, base.per_recording or {}
    shared = sorted(own.keys() & others.keys())
    if len(shared) < 3:
        return None
    return two_way_effect(np.array([[own[name] - others[name] for name in shared]])).p_value


def _with_gain(row: ScoreRow, gain: Effect | None) -> ScoreRow:
    if gain is None:
        return row
    values = {"gain": gain.mean, "gain_error": gain.error, "gain_recordings": gain.recordings}
    return replace(row, **values, gain_skewness=gain.skewness)


def paired_gain(value: Estimate, baseline: Estimate, reference: float | None, direction: str) -> Effect | None:
    """The mean gain over the base of the recordings that both have; None for fewer than two, or without their values.

    Where real music is to be matched, nearer to its mean is better.
    """
    after, before = value.per_recording or {}, baseline.per_recording or {}
    shared = sorted(after.keys() & before.keys())
    if len(shared) < 2 or (direction == "match_reference" and reference is None):
        return None
    pairs = np.array([[after[name], before[name]] for name in shared], float)  # [recordings, 2]
    if direction == "match_reference":
        pairs = -np.abs(pairs - reference)
    elif direction == "lower_is_better":
        pairs = -pairs
    gains = pairs[:, 0] - pairs[:, 1]
    return two_way_effect(gains[None])


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
    too_few_clips: Sequence[str] = (),
) -> ScoreRow:
    """A row with its sentence. `reference_requirement` says what a missing reference would have needed."""
    name, direction, unit, meaning = measure
    bounds = UNIT_RANGES.get(unit, intervals.UNBOUNDED)
    low, high = intervals.within(estimate.ci95, bounds) if estimate.ci95 else (None, None)
    gain, more = None, dict[str, Any](per_prompt=estimate.per_clip, too_few_clips=too_few_clips)
    more["recording_values"] = tuple((estimate.per_recording or {}).values())
    if isinstance(baseline, Estimate):
        more["baseline_per_prompt"] = baseline.per_clip
        if isinstance(reference, Estimate):
            more["separation_p"] = _separation_by_recording(reference, baseline)
        target = reference.value if isinstance(reference, Estimate) else reference
        gain = paired_gain(estimate, baseline, target if target is None or np.isfinite(target) else None, direction)
    reference, baseline = (part.value if isinstance(part, Estimate) else part for part in (reference, baseline))
    note = f" ({reference_requirement})" if reference is None and reference_requirement else ""
    values = {"value": estimate.value, "reference": reference, "baseline": baseline}
    shown = {part: _format_value(each) for part, each in values.items()}
    if name.startswith(KERNEL_DISTANCE):
        shown = {part: format_distance(values[part], text, part in too_few_clips) for part, text in shown.items()}
    sentence = f"{meaning}: {shown['value']} ({unit}); real music {shown['reference']}{note}"
    if baseline is not None:
        sentence += f", the base alone {shown['baseline']}"
    row = ScoreRow(name, estimate.value, low, high, estimate.n, reference, baseline, direction, unit, sentence, **more)
    return _with_gain(row, gain)


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


def format_distance(value: float | None, text: str, too_few_clips: bool = False) -> str:
    """The `text` of a distance: an unbiased estimate is below 0 by chance where there is next to no distance."""
    if value is None:
        return text
    if value < 0:
        return TOO_FEW_CLIPS if too_few_clips else NO_DISTANCE
    return f"{text} ({TOO_FEW_CLIPS})" if too_few_clips else text


def mean_over_recordings(values: Sequence[float], recordings: Sequence[str]) -> Estimate:
    """Mean over recordings of the means of their clips, its interval, and how many clips had a value (not NaN)."""
    measured = [(value, name) for value, name in zip(values, recordings, strict=True) if np.isfinite(value)]
    if not measured:
        return Estimate(float("nan"), None, 0)
    means = intervals.mean_by_recording(*map(list, zip(*measured, strict=True)))
    value, interval = float(np.mean(list(means.values()))), intervals.mean_interval(means)
    return Estimate(value, interval, len(measured), means, tuple(map(float, values)))
