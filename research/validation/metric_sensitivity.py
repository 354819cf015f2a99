"""What each score notices: known damage to real and performed music, and which scores move.

`python -m research.validation.metric_sensitivity --data FOLDER --work FOLDER --out docs/metrics-sensitivity.md`; what the work
folder already holds is not measured again, so that it may be stopped at any time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from research.validation import (
    degradations,
    metric_sensitivity_page,
    ornament_detection,
    structure_scores,
    tempo_drift,
)
from research.validation.mode_dataset import ModeTrial, trials
from research.validation.mode_recognition import tempered
from talim import audio
from talim.atomic_io import read_json, to_jsonable, write_json, write_text
from talim.evaluation import clip_measures
from talim.metrics import intonation, melodic_ngrams, ornaments, pitch, structure
from talim.metrics.embeddings import load as embedding
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform
from talim.traditions.tradition import Tradition, load

HOP_SECONDS = 0.01
TINY_RISE = 0.01  # of the ornament score: one clear ornament in a hundred seconds
TRADITIONS = {"hindustani": "hindustani", "makam": "makam_pitch"}
SHIFTS_CENTS = (20, 35)
STRETCH_SECONDS = 60.0
CLIP_SECONDS = 14.0
MOST_RECORDINGS = 10  # of a tradition, for the damages of contours
FIRST_SEED, CONTOURS, PIECES = 8000, 6, 2
SensitivityResult = dict[str, Any]


def load_or_make(work: Path, name: str, make: Callable[[], SensitivityResult]) -> SensitivityResult:
    """What is in the work folder under this name, made first where it is not there."""
    file = work / f"{name}.json"
    if not file.is_file():
        write_json(file, to_jsonable(make()))
    return read_json(file)


def intonation_profiles(
    found: Sequence[ModeTrial], tradition: Tradition
) -> list[intonation.IntonationProfile]:
    """For each track how its mode is played in the others: nothing of its own recording, release or work."""
    return [
        intonation.learn_intonation(
            np.array(tradition.modes[one.truth].degrees_cents),
            [two.cents for two in found if two.truth == one.truth and two.group != one.group],
        )
        for one in found
    ]


def shift_ranks(found: Sequence[ModeTrial], tradition: Tradition) -> dict[str, float]:
    """How often a real track is better in tune than itself shifted, up and down."""
    known, told = intonation_profiles(found, tradition), dict[str, float]()
    errors = [intonation.intonation_z_rms(one.cents, how) for one, how in zip(found, known, strict=True)]
    for shift in SHIFTS_CENTS:
        told[f"shifted by {shift} cents"] = float(np.mean([
            error < intonation.intonation_z_rms(one.cents + side * shift, how)
            for one, how, error in zip(found, known, errors, strict=True) for side in (-1, 1)
        ]))  # fmt: skip
    return told


def ranks(found: Sequence[ModeTrial], tradition: Tradition) -> SensitivityResult:
    """How often a real track is better than itself shifted, flattened, and jittered.

    The shifts are ranked twice: some of the degrees' cents in the tables were measured on some of these recordings, so
    that the figure to trust begins from degrees on whole semitones.
    """
    told: SensitivityResult = {"tracks": len(found), "recordings": len({one.recording for one in found})}
    told |= shift_ranks(found, tradition)
    rounded = shift_ranks(found, tempered(tradition))
    told |= {f"{name}, degrees given on whole semitones": share for name, share in rounded.items()}
    rng = np.random.default_rng(0)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "flattened to notes": degradations.flatten_pitch,
        "running mean of 0.3 s": degradations.smooth_pitch,
        "running median of 0.3 s": degradations.median_filter,
        "jittered by 5 cents": lambda cents: degradations.jitter_pitch(cents, rng, 5),
        "jittered by 20 cents": lambda cents: degradations.jitter_pitch(cents, rng, 20),
        "jittered by 20 cents, smoothed": lambda cents: degradations.jitter_pitch(cents, rng, 20, 3),
    }
    lines = [one.cents[: round(STRETCH_SECONDS / HOP_SECONDS)] for one in found]
    clean = np.array([ornaments.ornament_score(line) for line in lines])
    for name, way in ways.items():
        changed = np.array([ornaments.ornament_score(way(line)) for line in lines])
        rise = changed - clean
        told[name] = [
            float(np.mean(rise < 0)),
            float(changed.mean() / clean.mean()),
            float(np.mean(rise <= TINY_RISE)),
            float(rise.max()),
        ]
    return told


def contour_measures(
    cents: np.ndarray, practice: intonation.IntonationProfile | None, cycle: float | None
) -> dict[str, float]:
    """Everything that a contour alone tells."""
    said = melodic_ngrams.melodic_ngrams(cents, HOP_SECONDS)
    return {
        "ornament_score": ornaments.ornament_score(cents, HOP_SECONDS),
        "note_stability_cents": intonation.note_stability_cents(cents, HOP_SECONDS),
        "intonation_z_rms": intonation.intonation_z_rms(cents, practice) if practice else float("nan"),
        "ngram_repetition": melodic_ngrams.ngram_repetition(said),
        "repetition_rate": structure.repetition_rate(cents, HOP_SECONDS),
        "novelty": structure.novelty(cents, HOP_SECONDS),
        "cycle_recurrence": structure.recurrence_at_lag(cents, HOP_SECONDS, cycle) if cycle else float("nan"),
    }


def contour_damages(
    cents: np.ndarray,
    practice: intonation.IntonationProfile | None,
    cycle: float | None,
    refrainless: np.ndarray | None,
) -> dict[str, dict[str, float]]:
    """The measures of a contour, clean and after each damage."""
    rng = np.random.default_rng(cents.size)
    changed = {
        "clean": cents,
        "ornaments flattened": degradations.flatten_pitch(cents),
        "jitter of 20 cents": degradations.jitter_pitch(cents, rng, 20),
        "detuned by 20 cents": cents + 20,
        "order shuffled": degradations.shuffle_segments(cents, rng),
        "looped": degradations.loop_segment(cents),
        "refrain deleted": refrainless,
        "an octave higher": cents + 1200,
        "offset of 1 s": cents[round(1 / HOP_SECONDS) :],
    }
    return {
        name: contour_measures(line, practice, cycle) for name, line in changed.items() if line is not None
    }


def real_contours(work: Path, data: Path) -> Iterator[tuple[str, SensitivityResult]]:
    """Real tracks, one a recording, with their cycle where sections are annotated with first beats."""
    for slug, folder in TRADITIONS.items():
        tradition = load(slug)
        found, _ = trials(data / folder, tradition)
        cycles = cycle_seconds(data / folder / "metadata.csv")
        yield (
            slug,
            load_or_make(work, f"ranks-{slug}", partial(ranks, found, tradition)),
        )
        # Tracks with a known cycle first.
        chosen = {one.recording: n for n, one in enumerate(found) if cycles.get(one.name)}
        for n, one in enumerate(found):
            chosen.setdefault(one.recording, n)
        known = intonation_profiles(found, tradition)
        for n in list(chosen.values())[:MOST_RECORDINGS]:
            line = found[n].cents[: round(STRETCH_SECONDS / HOP_SECONDS)]
            make = partial(contour_damages, line, known[n], cycles.get(found[n].name), None)
            yield f"real {found[n].recording}", load_or_make(work, f"contour-{found[n].name}", make)


def cycle_seconds(table: Path) -> dict[str, float]:
    """The length of a cycle of each track with six annotated first beats or more."""
    import csv

    with open(table, encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {
        row["id"]: float(row["duration_s"]) / float(row["n_sama"])
        for row in rows
        if float(row.get("n_sama") or 0) >= 6 and float(row["duration_s"]) / float(row["n_sama"]) < 20
    }


def performed_contours(work: Path) -> Iterator[tuple[str, SensitivityResult]]:
    """The leading player's contour of performances with their refrain, for a minute."""
    from talim.synthesis.performer import performance_ground_truth

    for slug in TRADITIONS:
        tradition = load(slug)
        for seed in range(FIRST_SEED, FIRST_SEED + CONTOURS):

            def make(
                seed: int = seed, slug: str = slug, tradition: Tradition = tradition
            ) -> SensitivityResult:
                truth = performance_ground_truth(
                    seed, slug, STRETCH_SECONDS, PerformanceRequest(form="composition")
                )
                cents = truth.voices[0].cents.astype(float)
                practice = intonation.learn_intonation(np.array(tradition.mode(truth.mode).degrees_cents))
                gaps = np.diff(truth.first_beats_seconds)
                return contour_damages(
                    cents,
                    practice,
                    float(gaps.mean()) if gaps.size else None,
                    degradations.drop_repeated_sections(cents, truth.sections),
                )

            yield f"performed {slug} {seed}", load_or_make(work, f"contour-{slug}-{seed}", make)


def sound_damages(samples: np.ndarray) -> SensitivityResult:
    """What is heard in a clip, clean and after each damage, and how far its timbre moved.

    Its melody is followed clean and after what must leave it alone; damages of the melody itself are the contours'.
    """
    rng = np.random.default_rng(0)
    changed = {
        "clean": samples,
        "noise": degradations.add_noise(samples, rng),
        "low-pass": degradations.low_pass(samples),
        "silence": degradations.drop_frames(samples),
        "clipping": degradations.clip_samples(samples),
        **{name: way(samples) for name, way in degradations.INVARIANT_TRANSFORMS.items()},
    }
    timbre, found = embedding("timbre"), SensitivityResult()
    clean = timbre(audio.Audio(samples[None], degradations.RATE_HZ))[0]
    for name, sound in changed.items():
        clip = audio.Audio(np.asarray(sound, np.float32)[None], degradations.RATE_HZ)
        moved = {"timbre_moved": float(np.abs(timbre(clip)[0] - clean).mean())}
        found[name] = (
            clip_measures.rhythmic_measures(clip.samples[0]) | clip_measures.level_measures(clip) | moved
        )
        if name == "clean" or name in degradations.INVARIANT_TRANSFORMS:
            cents = pitch.track_pitch(clip.samples[0], degradations.RATE_HZ, hop_seconds=HOP_SECONDS).cents
            found[name] |= clip_measures.melodic_measures(cents)
    return found


def sounds(work: Path, data: Path) -> Iterator[tuple[str, SensitivityResult]]:
    """Real clips of both traditions, and performances."""
    files = [
        f
        for f in sorted((data / "audio").glob("*/*"))
        if f.parent.name in TRADITIONS and audio.is_audio_name(f)
    ]
    for file in files:

        def real(file: Path = file) -> SensitivityResult:
            whole = audio.read(file).mono().resample(degradations.RATE_HZ)
            return sound_damages(whole.cut(0, CLIP_SECONDS).samples[0])

        yield f"real {file.stem}", load_or_make(work, f"sound-{file.stem}", real)
    for slug in TRADITIONS:
        for seed in range(FIRST_SEED, FIRST_SEED + PIECES):

            def played(seed: int = seed, slug: str = slug) -> SensitivityResult:
                return sound_damages(perform(seed, slug, CLIP_SECONDS).samples)

            yield f"performed {slug} {seed}", load_or_make(work, f"sound-{slug}-{seed}", played)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Damage music in known ways and see which scores move.")
    parser.add_argument("--data", type=Path, required=True, help="holds hindustani, makam_pitch and audio")
    parser.add_argument("--work", type=Path, required=True, help="where finished parts are kept")
    parser.add_argument("--out", type=Path, required=True, help="the page to write, Markdown")
    parser.add_argument("--so-far", action="store_true", help="write the page from the finished parts alone")
    asked = parser.parse_args(arguments)
    if not asked.so_far:
        contours = [*real_contours(asked.work, asked.data), *performed_contours(asked.work)]
        structure_scores.measure(asked.work, asked.data / "hindustani")
        ornament_detection.trials(asked.work)
        tempo_drift.measure(asked.work, asked.data)
        print(f"{len(contours)} contours and {len(list(sounds(asked.work, asked.data)))} clips measured")
    write_text(asked.out, metric_sensitivity_page.page(asked.work))


if __name__ == "__main__":
    main()
