"""Whether fewer sampling steps are heard in Mustango's pieces: samplers compared by talim's own scores.

    python -m research.validation.mustango_samplers --out docs/reports/mustango-samplers.md

Every setting makes the same pieces (held-out captions with their beats and chords, one seed each) from the same initial
noise, and is compared, piece by piece, with 100 steps of `ddpm`. Two controls say what this comparison is worth: three
steps must be told apart from 100, and two draws of one setting must not be told apart from each other. Measured pieces
are kept in --work: the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from research.acceptance.nano_musicgen import RATE_HZ
from research.acceptance.nano_mustango import chord_classes, performances_with_chords
from research.docs import markdown
from research.pretraining.nano_mustango.conditioning import beats_chords_of
from talim import audio
from talim.atomic_io import read_json, write_json, write_text
from talim.audio import Audio
from talim.evaluation import clip_measures
from talim.evaluation.intervals import Effect, mean_interval
from talim.evaluation.protocol import EMBEDDINGS
from talim.html.formatting import format_p_value
from talim.metrics import embeddings, prompt_adherence, rhythm
from talim.metrics.cache import MetricCache
from talim.metrics.distribution_distances import jackknife_by_recording, kernel_distance, median_bandwidth
from talim.progress import PlainProgress, Progress
from talim.synthesis.performance import Performance

PAGE = Path("docs/reports/mustango-samplers.md")
BASE = "nano-mustango"
SECONDS = 5.0
BATCH_SIZE = 8
LEVEL = 0.05
MIN_PAIRS = 8  # with a value in both
PERMUTATIONS = 20_000


@dataclass(frozen=True)
class Setting:
    """A sampler, its number of steps, and an offset of every piece's seed."""

    sampler: str
    steps: int
    other_seeds: int = 0

    @property
    def name(self) -> str:
        return f"{self.sampler} {self.steps}" + (", other seeds" if self.other_seeds else "")


REFERENCE, CANDIDATE, OTHER_DRAW = Setting("ddpm", 100), Setting("dpm++", 25), Setting("dpm++", 25, 10_000)
DIFFERENT, FEWER = Setting("dpm++", 3), Setting("ddpm", 25)
# (setting, what it is compared with)
COMPARISONS = ((DIFFERENT, REFERENCE), (CANDIDATE, REFERENCE), (OTHER_DRAW, CANDIDATE), (FEWER, REFERENCE))


@dataclass(frozen=True)
class Measured:
    """Pieces of one setting: values by measure [n], and rows by embedding [n, d]."""

    values: dict[str, np.ndarray]
    embedded: dict[str, np.ndarray]


def generate(backbone: Any, pieces: Sequence[Performance], setting: Setting, folder: Path) -> list[Audio]:
    """A clip per performance, made from its caption, beats and chords; what the folder holds is read."""
    files = [folder / f"{number:03d}.flac" for number in range(len(pieces))]
    for first in range(0, len(pieces), BATCH_SIZE):
        part = slice(first, first + BATCH_SIZE)
        if all(file.is_file() for file in files[part]):
            continue
        made = backbone.generate(
            [piece.caption for piece in pieces[part]],
            SECONDS,
            seed=first + setting.other_seeds,
            sampling_steps=setting.steps,
            sampler=setting.sampler,
            beats_chords=[beats_chords_of(piece.facts, SECONDS) for piece in pieces[part]],
        )
        folder.mkdir(parents=True, exist_ok=True)
        for file, clip in zip(files[part], made, strict=True):
            audio.write(file, clip, {})
    return [audio.read(file) for file in files]


def measure(clips: Sequence[Audio], pieces: Sequence[Performance], cache: MetricCache, workers: int) -> Measured:
    """Talim's measures of single clips, how they fit their own tempo and chords, and their embeddings."""
    measured = clip_measures.measure_clips(clips, cache.folder, workers)
    values = {name: np.array([clip.values[name] for clip in measured]) for name in clip_measures.MEASURE_DESCRIPTIONS}
    values["pitched_fraction"] = np.array([np.isfinite(clip.cents).mean() for clip in measured])
    prompted = [float(str(piece.facts["tempo_bpm"])) for piece in pieces]
    outputs_bpm = [rhythm.tempo_bpm(clip.samples[0], clip.rate_hz) for clip in clips]
    fits = prompt_adherence.tempo_fit(outputs_bpm, prompted)
    values["adherence_tempo"] = prompt_adherence.prompt_preference(fits, [f"{bpm:g}" for bpm in prompted])
    values["adherence_chords"] = chord_preference([clip.cents for clip in measured], pieces)
    rows = {name: embeddings.embed(clips, embeddings.load(name), cache) for name in EMBEDDINGS}
    return Measured(values, rows)


def chord_preference(tracks: Sequence[np.ndarray], pieces: Sequence[Performance]) -> np.ndarray:
    """For each melody (cents above A4), the fraction of pieces whose chords it fits less than its own, [n]."""
    chords = [beats_chords_of(piece.facts, SECONDS).chords for piece in pieces]
    classes = np.stack([chord_classes(track) for track in chords]).astype(float)  # [n, 12]
    profiles = np.stack([pitch_classes(cents) for cents in tracks])
    return prompt_adherence.prompt_preference(profiles @ classes.T, [tuple(row) for row in classes])


def pitch_classes(cents: np.ndarray) -> np.ndarray:
    """Fractions of a melody in each pitch class from C, [12]; NaN for a silent one."""
    voiced = cents[np.isfinite(cents)]
    counts = np.bincount(np.round(voiced / 100).astype(int) % 12, minlength=12)
    return np.roll(counts, -3) / counts.sum() if counts.sum() else np.full(12, np.nan)  # A4 is 0 cents


def differences(setting: Measured, reference: Measured, real: Measured, seed: int = 0) -> list[dict[str, Any]]:
    """A row per score: mean difference to the reference, its 95 % interval, its p-value.

    Measures: paired t-test. Kernel distances to the real clips: standard error over the pieces. `same_...`: the kernel
    two-sample statistic between both sets, under random exchanges within pairs.
    """
    rows = []
    for name, values in setting.values.items():
        change = values - reference.values[name]
        change = change[np.isfinite(change)]
        if len(change) < MIN_PAIRS or not change.std():
            continue
        interval = mean_interval(change)
        p = float(2 * stats.t.sf(abs(change.mean()) / stats.sem(change), len(change) - 1))
        rows.append({"score": name, "difference": float(change.mean()), "interval": interval, "p": p, "n": len(change)})
    for name in setting.embedded:
        both = [part.embedded[name] for part in (real, setting, reference)]
        of_real, ours, others = (part / embeddings.typical_spread(name) for part in both)
        rows += [_distance_row(name, of_real, ours, others), _same_row(name, ours, others, seed)]
    return rows


def _distance_row(name: str, real: np.ndarray, ours: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    width, numbers = ours.shape[1], [str(number) for number in range(len(ours))]

    def change(reference: np.ndarray, pair: np.ndarray, *_: Any) -> float:
        reference = reference[:, :width]
        return kernel_distance(reference, pair[:, :width]) - kernel_distance(reference, pair[:, width:])

    given = np.hstack([real, real]), np.hstack([ours, others])
    found = change(*given)
    error = jackknife_by_recording(change, *given, numbers, numbers)
    assert error is not None
    effect = Effect(found, *error, 1, len(ours))
    facts = {"difference": found, "interval": list(effect.interval()), "p": effect.p_value, "n": len(ours)}
    return {"score": f"kernel_distance_{name}", **facts}


def _same_row(name: str, ours: np.ndarray, others: np.ndarray, seed: int) -> dict[str, Any]:
    value, p = paired_kernel_test(ours, others, np.random.default_rng(seed))
    return {"score": f"same_{name}", "difference": value, "interval": None, "p": p, "n": len(ours)}


def paired_kernel_test(
    ours: np.ndarray, others: np.ndarray, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[float, float]:
    """Kernel distance (times 100) of paired sets [n, d], and how often exchanges within pairs give as much.

    Exact where both rows of a pair have one distribution. An exchange of pair i changes the sign of all its terms, so
    that a draw of exchanges is a quadratic form of signs.
    """
    width = median_bandwidth(np.vstack([ours, others]))

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        gaps = ((a[:, None] - b[None]) ** 2).sum(-1)
        return np.exp(-gaps / (2 * width**2))

    across = kernel(ours, others)
    terms = kernel(ours, ours) + kernel(others, others) - across - across.T
    np.fill_diagonal(terms, 0)
    signs = rng.choice([-1.0, 1.0], (permutations, len(ours)))
    drawn = ((signs @ terms) * signs).sum(1)
    found = terms.sum()
    count = int((drawn >= found - 1e-9 * abs(found)).sum())
    return float(100 * found / (len(ours) * (len(ours) - 1))), (1 + count) / (1 + permutations)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values."""
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def verdict(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The smallest adjusted p-value, and the scores that tell the setting from the reference."""
    adjusted = holm([row["p"] for row in rows])
    separated = [row["score"] for row, p in zip(rows, adjusted, strict=True) if p < LEVEL]
    return {"scores": len(rows), "smallest_p": float(adjusted.min()), "told_apart_by": separated}


def compare(pieces: int, work: Path, workers: int, progress: Progress) -> dict[str, Any]:
    """All settings against the reference."""
    from talim.backbones.load import load

    backbone = load(BASE)
    backbone.model.eval()
    performed = performances_with_chords(pieces)
    cache = MetricCache(work / "measures")
    originals = [Audio(piece.samples[None], RATE_HZ).cut(0, SECONDS) for piece in performed]
    real = [backbone.decode(backbone.encode(clip)).cut(0, SECONDS) for clip in originals]
    measured_real = measure(real, performed, cache, workers)
    measured: dict[Setting, Measured] = {}
    for setting in (REFERENCE, *(pair[0] for pair in COMPARISONS)):
        clips = generate(backbone, performed, setting, work / setting.name.replace(" ", "-").replace(",", ""))
        progress.log(f"{setting.name}: {len(clips)} pieces generated")
        measured[setting] = measure(clips, performed, cache, workers)
        progress.log(f"{setting.name}: measured")
    found = []
    for setting, other in COMPARISONS:
        rows = differences(measured[setting], measured[other], measured_real)
        found.append({"setting": setting.name, "against": other.name, "rows": rows, **verdict(rows)})
    means, of_real = levels(measured[REFERENCE]), levels(measured_real)
    about = {"pieces": pieces, "precision": str(backbone.dtype).removeprefix("torch.")}
    return {**about, "reference": means, "performances": of_real, "comparisons": found}


def levels(measured: Measured) -> dict[str, float]:
    """The mean of each measure over the pieces that have it."""
    return {name: float(np.nanmean(row)) for name, row in measured.values.items() if np.isfinite(row).any()}


def page(results: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    opening = f"""Generated by `python -m research.validation.mustango_samplers --out {PAGE} --pieces
        {results["pieces"]}`. nano-mustango ({results["precision"]}) made {results["pieces"]} pieces of
        {SECONDS:g} s in every setting, from the captions, beats and chords of held-out performances, with guidance
        3, the same seeds and the same initial noise. Two settings are compared score by score and piece by piece:
        measures of single clips by a paired t-test; kernel distances to the performances (through the codec) with their
        error over the pieces; and, in each embedding, both sets with each other, by exchanges within pairs. They are
        told apart where one of the scores has a p-value below {LEVEL:g} after Holm's correction for all of them."""
    controls = f"""Two controls say what the comparison can find: `{DIFFERENT.name}` is known to be worse than
        `{REFERENCE.name}` and must be told apart; two draws of `{CANDIDATE.name}` must not."""
    head = ("setting", "against", "scores", "smallest p, corrected", "told apart by")
    table = [
        (
            f"`{row['setting']}`",
            f"`{row['against']}`",
            str(row["scores"]),
            format_p_value(row["smallest_p"]),
            ", ".join(f"`{score}`" for score in row["told_apart_by"]) or "nothing",
        )
        for row in results["comparisons"]
    ]
    every = """Difference with its 95 % interval (of this score alone, not corrected), in the score's unit; `same_` is
        the distance between both sets, with its p-value."""
    parts = [
        "# Mustango's samplers",
        markdown.paragraph(opening),
        markdown.paragraph(controls),
        "\n".join(markdown.table(head, table, ("---", "---", "--:", "--:", "---"))),
        markdown.paragraph(_conclusion(results["comparisons"])),
        "## Every score",
        markdown.paragraph(every),
        "\n".join(_score_table(results)),
    ]
    return "\n\n".join(parts) + "\n"


def _conclusion(comparisons: Sequence[dict[str, Any]]) -> str:
    separated = {(row["setting"], row["against"]): bool(row["told_apart_by"]) for row in comparisons}
    if not separated[DIFFERENT.name, REFERENCE.name] or separated[OTHER_DRAW.name, CANDIDATE.name]:
        return "The controls did not come out as they must: no conclusion can be drawn from this run."
    text = "Both controls came out as they must. "
    if separated[CANDIDATE.name, REFERENCE.name]:
        text += f"`{CANDIDATE.name}` is told apart from `{REFERENCE.name}`, which therefore stays the default. "
    else:
        text += f"These scores cannot tell `{CANDIDATE.name}` from `{REFERENCE.name}`, which takes four times as long. "
    if not separated[FEWER.name, REFERENCE.name]:
        text += f"""`{FEWER.name}` is not told apart from it (`--sampling-steps {FEWER.steps}`): how large a difference
            would have gone unnoticed is what the intervals below say. """
    return text + "The released model has not been measured, whose number of steps may matter more."


def _score_table(results: dict[str, Any]) -> list[str]:
    by_score: dict[str, list[str]] = {}
    for number, comparison in enumerate(results["comparisons"]):
        for row in comparison["rows"]:
            by_score.setdefault(row["score"], [""] * len(results["comparisons"]))[number] = _cell(row)
    pairs = (f"{row['setting']} - {row['against']}" for row in results["comparisons"])
    head = ("score", "performances", REFERENCE.name, *pairs)
    rows = []
    for score, cells in by_score.items():
        means = (results[key].get(score) for key in ("performances", "reference"))
        rows.append((f"`{score}`", *("" if mean is None else f"{mean:.3g}" for mean in means), *cells))
    return markdown.table(head, rows, ("---", *["--:"] * (len(head) - 1)))


def _cell(row: dict[str, Any]) -> str:
    if row["interval"] is None:
        return f"{row['difference']:.2g}, p {format_p_value(row['p'])}"
    low, high = row["interval"]
    return f"{row['difference']:+.2g} ({low:+.2g} to {high:+.2g})"


def main() -> None:
    """Generate, measure, and write the page with its numbers beside it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; the numbers are written beside it, as .json")
    parser.add_argument("--pieces", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("mustango-samplers"), help="folder for pieces and measures")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--page-only", action="store_true", help="write the page again from the numbers beside it")
    options = parser.parse_args()
    file = options.out.with_suffix(".json")
    if options.page_only:
        results = read_json(file)
    else:
        results = compare(options.pieces, options.work, options.workers, PlainProgress())
        write_json(file, results)
    write_text(options.out, page(results))


if __name__ == "__main__":
    main()
