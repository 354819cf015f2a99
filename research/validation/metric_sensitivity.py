"""Metric sensitivity: which scores respond to known degradations of real and synthetic music.

    python -m research.validation.metric_sensitivity --data FOLDER --work FOLDER
        --out docs/reports/metric-sensitivity.md

Finished parts are stored in the work folder and not measured again, so the command can be stopped and rerun.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from research.validation import degradations, metric_sensitivity_page, ornament_detection, structure_scores, tempo_drift
from research.validation.mode_dataset import ModeTrial, load_trials
from research.validation.mode_recognition import tempered
from talim import audio
from talim.atomic_io import read_json, to_jsonable, write_json, write_text
from talim.evaluation import clip_measures
from talim.metrics import intonation, melodic_ngrams, ornaments, pitch, structure
from talim.metrics.embeddings import load as embedding
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform
from talim.traditions.tradition import Tradition, load

PAGE = Path("docs/reports/metric-sensitivity.md")
HOP_SECONDS = 0.01
SMALL_RISE = 0.01  # of the ornament score: one clear ornament in a hundred seconds
TRADITIONS = {"hindustani": "hindustani", "makam": "makam_pitch"}
SHIFTS_CENTS = (20, 35)
STRETCH_SECONDS = 60.0
CLIP_SECONDS = 14.0
MAX_RECORDINGS = 10  # per tradition, for the degradations of contours
FIRST_SEED, CONTOURS, PIECES = 8000, 6, 6
SensitivityResult = dict[str, Any]


def load_or_compute(work: Path, name: str, compute: Callable[[], SensitivityResult]) -> SensitivityResult:
    """The result stored in the work folder under this name; computed and stored if it is missing."""
    file = work / f"{name}.json"
    if not file.is_file():
        write_json(file, to_jsonable(compute()))
    return read_json(file)


def intonation_profiles(trials: Sequence[ModeTrial], tradition: Tradition) -> list[intonation.IntonationProfile]:
    """For each track the profile of its mode, learnt without its recording, release and work."""
    return [
        intonation.learn_intonation(
            np.array(tradition.modes[trial.truth].degrees_cents),
            [other.cents for other in trials if other.truth == trial.truth and other.group != trial.group],
        )
        for trial in trials
    ]


def shift_ranks(trials: Sequence[ModeTrial], tradition: Tradition) -> dict[str, float]:
    """Fraction of the real tracks with a lower intonation error than their shifted copies, up and down."""
    profiles = intonation_profiles(trials, tradition)
    pairs = list(zip(trials, profiles, strict=True))
    errors = [intonation.intonation_z_rms(trial.cents, profile) for trial, profile in pairs]
    fractions = {}
    for shift in SHIFTS_CENTS:
        better = [
            error < intonation.intonation_z_rms(trial.cents + sign * shift, profile)
            for (trial, profile), error in zip(pairs, errors, strict=True)
            for sign in (-1, 1)
        ]
        fractions[f"shifted by {shift} cents"] = float(np.mean(better))
    return fractions


def ranks(trials: Sequence[ModeTrial], tradition: Tradition) -> SensitivityResult:
    """How often a real track scores better than its shifted, flattened and jittered copies.

    The shifts are ranked twice: some cents of the degrees in the tables were measured on some of these recordings, so
    the figure to rely on starts from degrees on whole semitones.
    """
    result: SensitivityResult = {"tracks": len(trials), "recordings": len({t.recording for t in trials})}
    result |= shift_ranks(trials, tradition)
    rounded = shift_ranks(trials, tempered(tradition))
    result |= {f"{name}, degrees given on whole semitones": value for name, value in rounded.items()}
    rng = np.random.default_rng(0)
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "flattened to notes": degradations.flatten_pitch,
        "running mean of 0.3 s": degradations.smooth_pitch,
        "running median of 0.3 s": degradations.median_filter,
        "jittered by 5 cents": lambda cents: degradations.jitter_pitch(cents, rng, 5),
        "jittered by 20 cents": lambda cents: degradations.jitter_pitch(cents, rng, 20),
        "jittered by 20 cents, smoothed": lambda cents: degradations.jitter_pitch(cents, rng, 20, 3),
    }
    contours = [trial.cents[: round(STRETCH_SECONDS / HOP_SECONDS)] for trial in trials]
    clean = np.array([ornaments.ornament_score(contour) for contour in contours])
    for name, change in changes.items():
        degraded = np.array([ornaments.ornament_score(change(contour)) for contour in contours])
        rise = degraded - clean
        result[name] = [
            float(np.mean(rise < 0)),
            float(degraded.mean() / clean.mean()),
            float(np.mean(rise <= SMALL_RISE)),
            float(rise.max()),
        ]
    return result


def contour_measures(
    cents: np.ndarray, profile: intonation.IntonationProfile | None, cycle_seconds: float | None
) -> dict[str, float]:
    """All scores of a pitch contour alone."""
    ngrams = melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS)
    return {
        "ornament_score": ornaments.ornament_score(cents, HOP_SECONDS),
        "note_stability_cents": intonation.note_stability_cents(cents, HOP_SECONDS),
        "intonation_z_rms": intonation.intonation_z_rms(cents, profile) if profile else float("nan"),
        "ngram_repetition": melodic_ngrams.ngram_repetition(ngrams),
        "repetition_rate": structure.repetition_rate(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
        "cycle_recurrence": structure.recurrence_at_lag(cents, HOP_SECONDS, cycle_seconds)
        if cycle_seconds
        else float("nan"),
    }


def degraded_contour_measures(
    cents: np.ndarray,
    profile: intonation.IntonationProfile | None,
    cycle_seconds: float | None,
    without_refrain: np.ndarray | None,
) -> dict[str, dict[str, float]]:
    """The scores of a contour, clean and after each degradation."""
    rng = np.random.default_rng(cents.size)
    contours = {
        "clean": cents,
        "ornaments flattened": degradations.flatten_pitch(cents),
        "jitter of 20 cents": degradations.jitter_pitch(cents, rng, 20),
        "detuned by 20 cents": cents + 20,
        "order shuffled": degradations.shuffle_segments(cents, rng),
        "looped": degradations.loop_segment(cents),
        "refrain deleted": without_refrain,
        "an octave higher": cents + 1200,
        "offset of 1 s": cents[round(1 / HOP_SECONDS) :],
    }
    return {
        name: contour_measures(contour, profile, cycle_seconds)
        for name, contour in contours.items()
        if contour is not None
    }


def real_contours(work: Path, data: Path) -> Iterator[tuple[str, SensitivityResult]]:
    """Real tracks, one per recording, with the cycle length where first beats are annotated."""
    for slug, folder in TRADITIONS.items():
        tradition = load(slug)
        trials, _ = load_trials(data / folder, tradition)
        cycles = annotated_cycle_seconds(data / folder / "metadata.csv")
        yield slug, load_or_compute(work, f"ranks-{slug}", partial(ranks, trials, tradition))
        # Tracks with a known cycle first.
        selected = {trial.recording: n for n, trial in enumerate(trials) if cycles.get(trial.name)}
        for n, trial in enumerate(trials):
            selected.setdefault(trial.recording, n)
        profiles = intonation_profiles(trials, tradition)
        for n in list(selected.values())[:MAX_RECORDINGS]:
            trial = trials[n]
            contour = trial.cents[: round(STRETCH_SECONDS / HOP_SECONDS)]
            compute = partial(degraded_contour_measures, contour, profiles[n], cycles.get(trial.name), None)
            yield f"real {trial.recording}", load_or_compute(work, f"contour-{trial.name}", compute)


def annotated_cycle_seconds(table: Path) -> dict[str, float]:
    """The cycle length of each track with at least six annotated first beats."""
    import csv

    with open(table, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {
        row["id"]: float(row["duration_s"]) / float(row["n_sama"])
        for row in rows
        if float(row.get("n_sama") or 0) >= 6 and float(row["duration_s"]) / float(row["n_sama"]) < 20
    }


def synthetic_contours(work: Path) -> Iterator[tuple[str, SensitivityResult]]:
    """The lead's contour of synthetic compositions with a refrain, for a minute."""
    from talim.synthesis.performer import performance_ground_truth

    for slug in TRADITIONS:
        tradition = load(slug)
        for seed in range(FIRST_SEED, FIRST_SEED + CONTOURS):

            def compute(seed: int = seed, slug: str = slug, tradition: Tradition = tradition) -> SensitivityResult:
                truth = performance_ground_truth(seed, slug, STRETCH_SECONDS, PerformanceRequest(form="composition"))
                cents = truth.voices[0].cents.astype(float)
                profile = intonation.learn_intonation(np.array(tradition.mode(truth.mode).degrees_cents))
                gaps = np.diff(truth.first_beats_seconds)
                return degraded_contour_measures(
                    cents,
                    profile,
                    float(gaps.mean()) if gaps.size else None,
                    degradations.drop_repeated_sections(cents, truth.sections),
                )

            yield f"synthetic {slug} {seed}", load_or_compute(work, f"contour-{slug}-{seed}", compute)


def degraded_audio_measures(samples: np.ndarray) -> SensitivityResult:
    """The scores of a clip [T], clean and after each degradation, and the distance that its timbre moved.

    Melodic scores are computed clean and after the invariant transforms only; melodic degradations are those of
    `degraded_contour_measures`.
    """
    rng = np.random.default_rng(0)
    variants = {
        "clean": samples,
        "noise": degradations.add_noise(samples, rng),
        "low-pass": degradations.low_pass(samples),
        "silence": degradations.drop_frames(samples),
        "clipping": degradations.clip_samples(samples),
        **{name: transform(samples) for name, transform in degradations.INVARIANT_TRANSFORMS.items()},
    }
    timbre, results = embedding("timbre"), SensitivityResult()
    clean = timbre(audio.Audio(samples[None], degradations.RATE_HZ))[0]
    for name, variant in variants.items():
        clip = audio.Audio(np.asarray(variant, np.float32)[None], degradations.RATE_HZ)
        moved = {"timbre_moved": float(np.abs(timbre(clip)[0] - clean).mean())}
        results[name] = clip_measures.rhythmic_measures(clip.samples[0]) | clip_measures.level_measures(clip) | moved
        if name == "clean" or name in degradations.INVARIANT_TRANSFORMS:
            cents = pitch.track_pitch(clip.samples[0], degradations.RATE_HZ, hop_seconds=HOP_SECONDS).cents
            results[name] |= clip_measures.melodic_measures(cents)
    return results


def clips(work: Path, data: Path) -> Iterator[tuple[str, SensitivityResult]]:
    """Real clips of both traditions, and synthetic ones."""
    files = [f for f in sorted((data / "audio").glob("*/*")) if f.parent.name in TRADITIONS and audio.is_audio_name(f)]
    for file in files:

        def real(file: Path = file) -> SensitivityResult:
            whole = audio.read(file).mono().resample(degradations.RATE_HZ)
            return degraded_audio_measures(whole.cut(0, CLIP_SECONDS).samples[0])

        yield f"real {file.stem}", load_or_compute(work, f"audio-{file.stem}", real)
    for slug in TRADITIONS:
        for seed in range(FIRST_SEED, FIRST_SEED + PIECES):

            def synthetic(seed: int = seed, slug: str = slug) -> SensitivityResult:
                return degraded_audio_measures(perform(seed, slug, CLIP_SECONDS).samples)

            yield f"synthetic {slug} {seed}", load_or_compute(work, f"audio-{slug}-{seed}", synthetic)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="Measure which scores respond to known degradations of music.")
    parser.add_argument("--data", type=Path, required=True, help="holds hindustani, makam_pitch and audio")
    parser.add_argument("--work", type=Path, required=True, help="folder of the finished parts")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    parser.add_argument("--page-only", action="store_true", help="write the page from the finished parts only")
    options = parser.parse_args(arguments)
    if not options.page_only:
        contours = [*real_contours(options.work, options.data), *synthetic_contours(options.work)]
        structure_scores.measure(options.work, options.data / "hindustani")
        ornament_detection.measure(options.work)
        tempo_drift.measure(options.work, options.data)
        print(f"{len(contours)} contours and {len(list(clips(options.work, options.data)))} clips measured")
    write_text(options.out, metric_sensitivity_page.page(options.work))


if __name__ == "__main__":
    main()
