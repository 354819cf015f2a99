"""Measures of talim beside the reference implementations of the field, on the same numbers.

    python -m research.validation.reference_implementations DATA

DATA holds checkouts of toshas/torch-fidelity, clovaai/generative-evaluation-prdc and mir-evaluation/mir_eval, each in a
folder of the repository's name. None is part of the project. The example that prdc publishes takes five minutes of CPU
time and 2 GB; --skip-published-example leaves it out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from research.docs import markdown
from research.validation import pitch_tracking
from talim.atomic_io import write_text
from talim.metrics import distribution_distances as distances
from talim.metrics import pitch, rhythm

PAGE = Path("docs/reports/reference-implementations.md")
CHECKOUTS = {  # folder of DATA: where it is from
    "torch-fidelity": "toshas/torch-fidelity",
    "generative-evaluation-prdc": "clovaai/generative-evaluation-prdc",
    "mir_eval": "mir-evaluation/mir_eval",
}
PUBLISHED = {"precision": 0.4772, "recall": 0.4705, "density": 1.0555, "coverage": 0.9735}  # README of prdc
PUBLISHED_ROWS, PUBLISHED_DIMS, NEAREST = 10_000, 1000, 5
SPREAD_SEEDS = range(1, 6)
SIZES = ((50, 8), (40, 100), (300, 64), (1000, 20))  # rows and dimensions of the drawn sets
RATE_HZ = pitch.RATE_HZ
HARMONICS = 6  # of the tone that plays a reference melody


@dataclass(frozen=True)
class Agreement:
    """Greatest difference of talim's `function` from the `reference` over `cases` comparisons."""

    function: str
    reference: str
    data: str
    cases: int
    difference: float


# The references


def torch_fidelity(checkout: Path, module: str) -> Any:
    """A module of torch-fidelity by its file: the package itself loads models of images, which nothing here needs."""
    stand_ins = {name: types.ModuleType(name) for name in ("torch_fidelity", "torch_fidelity.utils")}
    stand_ins["torch_fidelity"].__path__ = [str(checkout / "torch_fidelity")]
    vars(stand_ins["torch_fidelity.utils"])["__getattr__"] = lambda name: None
    known = dict(sys.modules)
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch_fidelity"]:
            if name not in known:
                del sys.modules[name]


def prdc(checkout: Path) -> Callable[..., dict[str, float]]:
    """The function of prdc, silent; its file needs scikit-learn."""
    spec = importlib.util.spec_from_file_location("prdc_reference", checkout / "prdc" / "prdc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def compute(reference: np.ndarray, evaluated: np.ndarray, nearest: int) -> dict[str, float]:
        with contextlib.redirect_stdout(io.StringIO()):
            return module.compute_prdc(reference, evaluated, nearest)

    return compute


def mir_eval(checkout: Path) -> Any:
    """The package mir_eval of the checkout, whose fixtures are used."""
    sys.path.insert(0, str(checkout))
    try:
        for name in ("melody", "tempo", "io", "sonify"):
            importlib.import_module(f"mir_eval.{name}")
        return importlib.import_module("mir_eval")
    finally:
        sys.path.remove(str(checkout))


def sets(seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of sets of equal numbers of rows: one distribution, a shifted one, a narrow one, of every size."""
    rng = np.random.default_rng(seed)
    for rows, dims in SIZES:
        for shift, spread in ((0.0, 1.0), (0.5, 1.0), (0.2, 0.1)):
            yield rng.normal(size=(rows, dims)), shift + spread * rng.normal(size=(rows, dims))


def tied_sets(seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `sets`, of small whole numbers: many distances are equal."""
    rng = np.random.default_rng(seed)
    for rows, dims in SIZES:
        yield rng.integers(-1, 2, size=(rows, dims)).astype(float), rng.integers(-1, 2, size=(rows, dims)).astype(float)


# Distances


def distance_agreements(data: Path) -> list[Agreement]:
    """Kernel distance, Fréchet distance, precision, recall, density and coverage beside their references."""
    kid, fid, prc = (torch_fidelity(data / "torch-fidelity", f"metric_{name}") for name in ("kid", "fid", "prc"))
    reference_prdc = prdc(data / "generative-evaluation-prdc")
    drawn = f"{len(SIZES) * 3} pairs of normal sets, {min(SIZES)[0]} to {max(SIZES)[0]} rows of 8 to 100 values"
    gaps: dict[tuple[str, str, str], list[float]] = {}

    def note(function: str, reference: str, of: str, found: float, expected: float) -> None:
        gaps.setdefault((function, reference, of), []).append(abs(found - expected) / max(1.0, abs(expected)))

    for one, other in sets():
        note("kernel_distance", "torch-fidelity `mmd2`, unbiased, with the kernel -\\|x - y\\|", drawn,
             distances.kernel_distance(one, other, width=1.0, scale=1.0),
             mmd2_of_distances(kid.mmd2, one, other))  # fmt: skip
        note("frechet_distance", "torch-fidelity `fid_statistics_to_metric`", drawn,
             distances.frechet_distance(one, other), _fid(fid, one, other))  # fmt: skip
        found, expected = distances.knn_measures(one, other, NEAREST), reference_prdc(one, other, NEAREST)
        for name, value in expected.items():
            note(f"knn_measures, {name}", "prdc", drawn, getattr(found, name), value)
    for pairs, of in ((sets(), drawn), (tied_sets(), f"{len(SIZES)} pairs of sets of -1, 0 and 1")):
        for one, other in pairs:
            found = distances.knn_measures(one, other, NEAREST)
            expected = _precision_recall(prc, one, other)
            for name, value in zip(("precision", "recall"), expected, strict=True):
                note(f"knn_measures, {name}", "torch-fidelity `metric_prc`", of, getattr(found, name), value)
    for one, other in tied_sets():
        found, expected = distances.knn_measures(one, other, NEAREST), reference_prdc(one, other, NEAREST)
        for name, value in expected.items():
            note(f"knn_measures, {name}", "prdc, whose balls are open", "the same sets of -1, 0 and 1",
                 getattr(found, name), value)  # fmt: skip
    return [Agreement(*names, len(each), max(each)) for names, each in gaps.items()]


def mmd2_of_distances(mmd2: Callable[..., float], one: np.ndarray, other: np.ndarray) -> float:
    """A reference's unbiased estimator on the matrices of the distance kernel -|x - y|."""

    def kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return -np.linalg.norm(first[:, None] - second[None], axis=2)

    return float(mmd2(kernel(one, one), kernel(one, other), kernel(other, other)))


def _fid(fid: Any, one: np.ndarray, other: np.ndarray) -> float:
    import torch

    statistics = [fid.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (one, other)]
    return float(fid.fid_statistics_to_metric(*statistics, False)[fid.KEY_METRIC_FID])


def _precision_recall(prc: Any, reference: np.ndarray, evaluated: np.ndarray) -> tuple[float, float]:
    import torch

    return prc.calculate_precision_recall_full(torch.from_numpy(evaluated), torch.from_numpy(reference), NEAREST)


def published_example(seed: int) -> distances.PrdcScores:
    """The example in prdc's README, which names no seed: two sets N(0, I) of 10,000 rows of 1000 values, k = 5."""
    one, other = np.random.default_rng(seed).normal(size=(2, PUBLISHED_ROWS, PUBLISHED_DIMS))
    return distances.knn_measures(one, other, NEAREST)


def example_by_blocks(seed: int, rows: int = PUBLISHED_ROWS, dims: int = PUBLISHED_DIMS) -> distances.PrdcScores:
    """The same example in float32, a thousand rows at a time: how far it fluctuates is seen in a tenth of the time."""
    one, other = np.random.default_rng(seed).standard_normal((2, rows, dims), dtype=np.float32)

    def blocks(first: np.ndarray, second: np.ndarray) -> Iterator[np.ndarray]:
        norms = (second**2).sum(1)
        for part in np.array_split(first, max(1, rows // 1000)):
            yield (part**2).sum(1)[:, None] + norms - 2 * part @ second.T

    radii = [
        np.concatenate([np.partition(block, NEAREST, axis=1)[:, NEAREST] for block in blocks(each, each)])
        for each in (one, other)
    ]
    balls, covered, recalled, first = np.zeros(rows), [], [], 0
    for block in blocks(one, other):
        inside = block <= radii[0][first : first + len(block), None]
        balls += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((block <= radii[1][None]).any(1))
        first += len(block)
    return distances.PrdcScores(
        precision=float((balls > 0).mean()), recall=float(np.concatenate(recalled).mean()),
        density=float(balls.mean() / NEAREST), coverage=float(np.concatenate(covered).mean()),
    )  # fmt: skip


# Music


def _fixtures(checkout: Path, kind: str) -> list[tuple[Path, Path]]:
    folder = checkout / "tests" / "data" / kind
    references, estimates = sorted(folder.glob("ref[0-9]*")), sorted(folder.glob("est[0-9]*"))
    if not references or len(references) != len(estimates):
        raise SystemExit(f"{folder} has {len(references)} references and {len(estimates)} estimates: a whole checkout?")
    return list(zip(references, estimates, strict=True))


def melody_agreements(checkout: Path) -> list[Agreement]:
    """`pitch_tracking.judge` beside mir_eval.melody, on its fixtures."""
    package = mir_eval(checkout)
    measures = package.melody
    gaps: dict[str, list[float]] = {"raw_pitch_accuracy": [], "raw_chroma_accuracy": [], "voicing_measures": []}
    for reference, estimate in _fixtures(checkout, "melody"):
        series = [package.io.load_time_series(str(file)) for file in (reference, estimate)]
        truth, true_cents, detected, cents = measures.to_cent_voicing(*series[0], *series[1])
        hz = np.where(detected > 0, 10 * 2 ** (cents / 1200), np.nan)
        found = pitch_tracking.judge(hz, np.where(truth > 0, 10 * 2 ** (true_cents / 1200), np.nan))
        voiced = np.where(detected > 0, cents, 0.0)  # a pitch guessed for an unvoiced frame is none
        expected = {
            "raw_pitch_accuracy": measures.raw_pitch_accuracy(truth, true_cents, detected, voiced),
            "raw_chroma_accuracy": measures.raw_chroma_accuracy(truth, true_cents, detected, voiced),
            "voicing_measures": measures.voicing_measures(truth, detected)[1],
        }
        for name, value in zip(expected, found.values(), strict=True):
            if np.isfinite(value):
                gaps[name].append(abs(value - expected[name]))
    names = ("accuracy", "octave_errors_ignored", "false_alarm")
    return [
        Agreement(f"pitch_tracking.judge, {name}", f"mir_eval.melody `{key}`", "its melodies", len(each), max(each))
        for name, (key, each) in zip(names, gaps.items(), strict=True)
    ]


def tempo_agreements(checkout: Path) -> list[Agreement]:
    """`same_tempo` beside mir_eval.tempo, on its fixtures and on pairs around the edges of the tolerance."""
    package = mir_eval(checkout)
    pairs = [
        (float(found), float(true))
        for reference, estimate in _fixtures(checkout, "tempo")
        for true in _tempi(reference)
        for found in _tempi(estimate)
    ]
    agreements = []
    for of, chosen in (("its tempi", pairs), ("pairs near the tolerance", list(_tempo_edges()))):
        wrong = sum(rhythm.same_tempo(*pair) != tempo_hit(package.tempo.detection, *pair) for pair in chosen)
        agreements.append(
            Agreement("same_tempo", "mir_eval.tempo `detection`, at half, once and twice", of, len(chosen), wrong)
        )
    return agreements


def _tempi(file: Path) -> list[float]:
    """The tempi of a fixture, bpm; the invalid ones, with which mir_eval tests its refusals, are left out."""
    values = [line.split()[:2] for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [float(word) for line in values for word in line if float(word) > 0]


def _tempo_edges() -> Iterator[tuple[float, float]]:
    for true in (53.0, 97.3, 181.0):
        for factor in (0.5, 1.0, 2.0):
            for error in (-0.081, -0.079, 0.0, 0.079, 0.081, 0.3):
                yield true * factor * (1 + error), true


def tempo_hit(detection: Callable[..., tuple[float, bool, bool]], found_bpm: float, true_bpm: float) -> bool:
    """Whether mir_eval counts a tempo, or its half or double, as that of the reference."""
    true = np.array([true_bpm, true_bpm])
    return any(detection(true, 1.0, factor * np.array([found_bpm, found_bpm]))[0] == 1.0 for factor in (0.5, 1.0, 2.0))


def judged_estimators(checkout: Path) -> list[tuple[str, str, int, str]]:
    """The trackers of pitch and tempo, on mir_eval's references made audible by it, judged by it."""
    package = mir_eval(checkout)
    accuracy, chroma, alarms = [], [], []
    for reference, _ in _fixtures(checkout, "melody"):
        seconds, hz = package.io.load_time_series(str(reference))
        samples = package.sonify.pitch_contour(seconds, hz, RATE_HZ, function=_tone)
        track = pitch.track_pitch(samples.astype(np.float32), RATE_HZ)
        tracked = np.nan_to_num(track.hz)
        scores = package.melody.evaluate(seconds, hz, np.arange(tracked.size) * track.hop_seconds, tracked)
        accuracy.append(scores["Raw Pitch Accuracy"])
        chroma.append(scores["Raw Chroma Accuracy"])
        alarms.append(scores["Voicing False Alarm"])
    hits = []
    for reference, _ in _fixtures(checkout, "beat"):
        beats = package.io.load_events(str(reference))
        true = 60 / float(np.median(np.diff(beats)))
        found = rhythm.tempo_bpm(package.sonify.clicks(beats, RATE_HZ).astype(np.float32), RATE_HZ)
        hits.append(tempo_hit(package.tempo.detection, found, true))
    return [
        ("track_pitch", "mir_eval.melody, raw pitch accuracy", len(accuracy), _spread(accuracy)),
        ("track_pitch", "mir_eval.melody, raw chroma accuracy", len(chroma), _spread(chroma)),
        ("track_pitch", "mir_eval.melody, voicing false alarm", len(alarms), _spread(alarms)),
        ("tempo_bpm", "mir_eval.tempo, one tempo, half and double allowed", len(hits), f"{sum(hits)} of {len(hits)}"),
    ]


def _tone(phase: np.ndarray) -> np.ndarray:
    """A tone with harmonics: the tracker looks for a series of them, which a sine has not."""
    return sum((np.sin(n * phase) / n for n in range(1, HARMONICS + 1)), np.zeros_like(phase))


def _spread(values: Sequence[float]) -> str:
    return f"mean {np.mean(values):.3f}, {min(values):.3f} to {max(values):.3f}"


# The page

OPENING = """# Reference implementations

talim's measures beside the reference implementations of the field, on the same numbers. The checkouts are not part of
the project.

```sh
python -m research.validation.reference_implementations DATA
```

*Difference*: the greatest one over all cases, relative where the reference is above 1; for `same_tempo` the number of
pairs that are judged otherwise. Goal: 1e-6.
"""
NOTES = """\
- `kernel_distance` is not KID: KID's kernel is a cubic polynomial, talim's the distance -|x - y|, which needs no gamma
  and takes clips of one recording out. The estimator is KID's unbiased one, beside torch-fidelity's with this kernel.
- Balls around a row contain their surface here, as in Kynkäänniemi et al. 2019 and torch-fidelity; prdc's do not. This
  differs only where distances are exactly equal, as among sets of whole numbers; on measured embeddings it does not.
- The accuracy of `pitch_tracking.judge` counts a voiced frame only if it is detected as voiced: mir_eval's raw pitch
  accuracy once pitches that an estimate gives for unvoiced frames are taken out.
- mir_eval also judges beats, onsets, segments, chords, keys and notes. talim has no tracker and no judge of these:
  `beat_phase_coherence`, `phase_length`, `cycle_strength` and the scores of `talim.metrics.structure` describe one
  recording without a reference, and nothing in mir_eval corresponds to them.
- `same_tempo` stays own code: it is one line, where mir_eval asks for two tempi and a weight on either side.
"""


def report(data: Path, seeds: Sequence[int]) -> str:
    """The whole page, as Markdown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mir_eval, on fixtures without a voiced frame
        agreements = [
            *distance_agreements(data),
            *melody_agreements(data / "mir_eval"),
            *tempo_agreements(data / "mir_eval"),
        ]
        judged = judged_estimators(data / "mir_eval")
    rows = [[f"`{a.function}`" if "," not in a.function else _coded(a.function), a.reference, a.data, str(a.cases),
             _difference(a)] for a in agreements]  # fmt: skip
    lines = [OPENING, *markdown.table(("talim", "reference", "on", "cases", "difference"), rows), "", NOTES]
    lines += ["## The published example of prdc", "", *published_lines(seeds), ""]
    lines += ["## talim's trackers, judged by mir_eval", ""]
    text = "mir_eval's reference melodies (as a tone of six harmonics) and beats (as clicks), made audible by mir_eval."
    lines += [text, ""]
    lines += markdown.table(
        ("talim", "judge", "fixtures", "result"), [[f"`{a}`", b, str(n), c] for a, b, n, c in judged]
    )
    return "\n".join(lines) + "\n"


def _coded(function: str) -> str:
    name, _, measure = function.partition(", ")
    return f"`{name}`, {measure}"


def _difference(agreement: Agreement) -> str:
    if agreement.function == "same_tempo":
        return f"{agreement.difference:.0f} pairs"
    return "0" if agreement.difference == 0 else f"{agreement.difference:.0e}"


def published_lines(seeds: Sequence[int]) -> list[str]:
    """The table of the published example, one column per seed of talim's."""
    if not seeds:
        return ["Not measured in this run."]
    found = [published_example(seed) for seed in seeds]
    return example_table(seeds, found, [example_by_blocks(seed) for seed in SPREAD_SEEDS])


def example_table(
    seeds: Sequence[int], found: Sequence[distances.PrdcScores], others: Sequence[distances.PrdcScores]
) -> list[str]:
    """The published figures, those of talim, and their range over all seeds."""
    expected = distances.expected_coverage(PUBLISHED_ROWS, PUBLISHED_ROWS, NEAREST)
    rows = []
    for name, value in PUBLISHED.items():
        spread = [getattr(each, name) for each in (*found, *others)]
        cells = [f"{getattr(each, name):.4f}" for each in found]
        rows.append([name, f"{value:.4f}", *cells, f"{min(spread):.4f} to {max(spread):.4f}"])
    head = ("measure", "published", *(f"`knn_measures`, seed {seed}" for seed in seeds), f"{len(spread)} seeds")
    text = f"""Two sets N(0, I) of {PUBLISHED_ROWS} rows of {PUBLISHED_DIMS} values, k = {NEAREST}. The README names no
    seed ("may fluctuate due to randomness"), so that figures can only be near; on equal numbers they are equal (table
    above). Coverage that two sets of one distribution reach on average: {expected:.4f}."""
    return [markdown.paragraph(text), "", *markdown.table(head, rows)]


def missing_checkouts(data: Path) -> list[str]:
    """The folders that DATA lacks, each with where it is from."""
    return [f"{name} (github: {source})" for name, source in CHECKOUTS.items() if not (data / name).is_dir()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="talim's measures beside reference implementations.")
    parser.add_argument("data", type=Path, help="folder with the checkouts")
    parser.add_argument("--skip-published-example", action="store_true", help="leave out the ten thousand rows of prdc")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    options = parser.parse_args(arguments)
    if missing := missing_checkouts(options.data):
        parser.error(f"{options.data} lacks {', '.join(missing)}")
    text = report(options.data, () if options.skip_published_example else (0,))
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
