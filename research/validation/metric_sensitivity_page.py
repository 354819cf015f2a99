"""The page of `sensitivity`: what was ranked, what was found, which score moved by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from research.validation import ornament_detection
from talim.atomic_io import read_json
from talim.evaluation import bootstrap

# damage: which scores must move, and whereto
EXPECTED_EFFECTS = {
    "ornaments flattened": {"ornament_score": -1},
    "jitter of 20 cents": {"note_stability_cents": 1},
    "detuned by 20 cents": {"intonation_z_rms": 1},
    "order shuffled": {"cycle_recurrence": -1},
    "looped": {"ngram_repetition": 1, "novelty": -1, "repetition_rate": 1},
    "refrain deleted": {"repetition_rate": -1},
    "sections mixed": {"cycle_recurrence": -1, "ngram_repetition": -1},
    "noise": {"noise_db": 1},
    "low-pass": {"timbre_moved": 1},
    "silence": {"silent_fraction": 1},
    "clipping": {"clipped_fraction": 1},
    "tempo drift": {"tempo_drift": 1},
}
INVARIANCES = ("an octave higher", "offset of 1 s", "gain of -6 dB", "transposition", "128 kbit/s")
REPORT_SECTIONS = (
    ("Contours", "contour-*.json"),
    ("Annotated sections", "sections-*.json"),
    ("Sound", "sound-*.json"),
    ("Tempo", "pulse-*.json"),
)
NOTES = {
    "Annotated sections": (
        "A minute of the last annotated section of a recording; what is done to it is told in\n"
        "`research.validation.structure_scores`. Returning share and novelty do not notice sections that are mixed: the first\n"
        "section is an alap mostly, which comes back to its own phrases as much as a song does."
    )
}
# Smaller changes than these are none to a listener; where a score is 0 before, its interval has no width to go by.
MIN_RELEVANT_CHANGE = {"silent_fraction": 0.005, "clipped_fraction": 0.001, "tempo_drift": 0.03}
OPENING = """# What each score notices

Made by `python -m research.validation.metric_sensitivity --data FOLDER --work FOLDER --out docs/metrics-sensitivity.md`. FOLDER holds
real pitch tracks (hindustani, makam_pitch) and real clips (audio), which are no part of the project. Performed music
is the traditions' performer, of seeds that nothing was tuned on. Intervals are bootstrapped over recordings (95 %).
Verdicts in bold are faults: a score that stands still under its own damage, or moves, by more than half the interval of
its value before, where nothing that it names has changed; changes of less than 0.005 of silence, 0.001 of clipping and
0.03 a minute of tempo are none. Tempo drift is answered where a pulse is clear in 24 s or more, and tested on 28 s.
"""


def page(work: Path) -> str:
    """The whole page from what the work folder holds."""
    lines = [OPENING, *_ranks(work), "", *ornament_detection.table(work)]
    for title, pattern in REPORT_SECTIONS:
        found = {file.stem: read_json(file) for file in sorted(work.glob(pattern))}
        performed = {n: f for n, f in found.items() if _performed(n)}
        real = {n: f for n, f in found.items() if not _performed(n)}
        for kind, mine in (("real", real), ("performed", performed)):
            if len(mine) > 1:
                lines += ["", f"## {title}, {kind} music ({len(mine)} recordings)", ""]
                lines += [NOTES[title], ""] if title in NOTES else []
                lines += _table(mine)
    return "\n".join(lines).rstrip() + "\n"


def _performed(name: str) -> bool:
    """Whether a part is of the performer: its name has a tradition and a seed."""
    parts = name.split("-")
    return len(parts) == 3 and parts[1] in ("hindustani", "makam") and parts[2].isdigit()


def _ranks(work: Path) -> list[str]:
    """Real tracks against themselves."""
    told = {
        slug: read_json(f) for slug in ("hindustani", "makam") if (f := work / f"ranks-{slug}.json").is_file()
    }
    if not told:
        return []
    heads = " | ".join(
        f"{slug} ({row['tracks']} tracks, {row['recordings']} recordings)" for slug, row in told.items()
    )
    lines = [
        "## Real tracks against themselves", "",
        "Share of real pitch tracks that are better than themselves after the change: by `intonation_error` for",
        "shifts (up and down; the mode's intonation is learnt from other recordings, releases and works of the mode,",
        "or is the theory's where there are none), by `ornament_score` for the others; with the mean score after the",
        "change over that before, the share that rises by no more than 0.01 (one clear ornament in a hundred seconds),",
        "and the largest rise.", "",
        f"| change | {heads} |", "|---|" + "---|" * len(told),
    ]  # fmt: skip
    names = [name for name in next(iter(told.values())) if name not in ("tracks", "recordings")]
    for name in names:
        cells = [
            f"{row[name]:.1%}"
            if isinstance(row[name], float)
            else "{:.1%}, {:.2f}, {:.1%}, {:+.3f}".format(*row[name])
            for row in told.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, "", "The constants of both scores were chosen on these tracks."]


def _table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """A row for each damage and score it is meant for, then what moved under changes that no score should notice."""
    lines = [
        "| damage | score | before | change | 95 % | recordings | verdict |",
        "|---|---|--:|--:|---|--:|---|",
    ]
    first = next(iter(found.values()))
    for damage, wanted in EXPECTED_EFFECTS.items():
        for score, side in wanted.items():
            if any(damage in one for one in found.values()) and score in first["clean"]:
                before, change, n = changes(found, damage, score)
                low_high = bootstrap.bootstrap_ci(dict(_named(change)))
                moved = low_high is not None and (low_high[0] > 0 if side > 0 else low_high[1] < 0)
                verdict = "moves" if moved else "**stands still**"
                lines.append(_line(damage, score, before, change, low_high, n, verdict))
    for damage in [name for name in INVARIANCES if any(name in one for one in found.values())]:
        for score in [name for name in first["clean"] if name not in ("loudness_lufs", "timbre_moved")]:
            before, change, n = changes(found, damage, score)
            width = bootstrap.bootstrap_ci(dict(_named(before)))
            if n < 2 or width is None:
                continue
            still = abs(float(np.mean(change))) <= max(
                (width[1] - width[0]) / 2, MIN_RELEVANT_CHANGE.get(score, 1e-9)
            )
            low_high = bootstrap.bootstrap_ci(dict(_named(change)))
            lines.append(_line(damage, score, before, change, low_high, n, "still" if still else "**moves**"))
    return lines


def changes(
    found: Mapping[str, Mapping[str, Mapping[str, float]]], damage: str, score: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """The score before, its change by the damage, and how many recordings have both."""
    pairs = [
        (one["clean"][score], one[damage][score])
        for one in found.values()
        if damage in one and all(np.isfinite(_number(one[name][score])) for name in ("clean", damage))
    ]
    table = np.array(pairs, float).reshape(-1, 2)
    return table[:, 0], table[:, 1] - table[:, 0], len(table)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _named(values: Sequence[float] | np.ndarray) -> list[tuple[str, float]]:
    """Values under made-up names, one a recording."""
    return [(str(n), float(value)) for n, value in enumerate(values)]


def _line(
    damage: str,
    score: str,
    before: np.ndarray,
    change: np.ndarray,
    low_high: list[float] | None,
    n: int,
    verdict: str,
) -> str:
    spread = f"{low_high[0]:+.3g} to {low_high[1]:+.3g}" if low_high else "too few"
    if n == 0:
        return f"| {damage} | {score} | - | - | not measurable | 0 | - |"
    return f"| {damage} | {score} | {before.mean():.3g} | {change.mean():+.3g} | {spread} | {n} | {verdict} |"
