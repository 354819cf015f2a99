"""How much of the melody reaches MusicGen-melody: the chroma of the mix against the tracked pitch, on performed music.

    python -m research.validation.melody_conditioning --real FOLDER --out docs/reports/melody-conditioning.md

FOLDER as in `pitch_tracking`, whose excerpts and true pitches are used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research.docs import markdown
from research.validation import pitch_tracking
from research.validation.pitch_tracking import PitchExcerpt
from talim.atomic_io import write_text
from talim.audio import Audio
from talim.backbones.musicgen.chroma import ChromaSettings, pitch_classes
from talim.corpus.melody import classes_of_track, tracked_classes
from talim.evaluation import intervals
from talim.metrics import pitch

PAGE = Path("docs/reports/melody-conditioning.md")
SETTINGS = ChromaSettings()  # the released ones
DIFFERENCE = "difference: tracked pitch - chroma"
CHROMA, PITCH, OTHER, DRONE, BEST = (
    "chroma of the mix",
    "tracked pitch",
    "true melody of another excerpt",
    "always the most frequent class of the chroma",
    "always the most frequent true class",
)
OPENING = """# What MusicGen-melody hears of a melody

MusicGen-melody is given one pitch class in each frame of 128 ms. In its pretraining that is the loudest class of the
sound without drums and bass (a separation that talim does not have); `--melody-from chroma` takes it from the whole
sound, `--melody-from pitch` from the tracked pitch of the leading melody. The table is the share of frames in which
that class is the melody's true one, over frames that are voiced for at least half of their time, mean over excerpts of
ten seconds with 95 % intervals by recording. Controls: the true melody of another excerpt of the same kind, a constant
class (what the chroma gives most often, which over a drone is the drone's; and the melody's own most frequent one,
chosen with the truth at hand); a random class is right in 8.3 %. The excerpts and their true pitches are those of
[pitch tracking](pitch-tracking.md), real ones and synthetic ones with ground truth; sound above 8 kHz is missing in
them. Each real annotation is shifted by the lag at which the tracker agrees with it most, at most 0.1 s, and the
tracker's constants were chosen on the real excerpts, which favours it there. Tracked notes are held where nothing is
voiced, which is not judged here.
"""


def true_classes(excerpt: PitchExcerpt, frames: int, lag_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """The true pitch class of each frame, int8 [frames], and whether at least half of the frame is voiced."""
    hz = excerpt.truth(lag_seconds)
    classes = classes_of_track(hz, pitch.HOP_SECONDS, frames, SETTINGS.frame_rate_hz)
    frame = np.floor(np.arange(len(hz)) * pitch.HOP_SECONDS * SETTINGS.frame_rate_hz + 0.5).astype(int)
    voiced = [np.isfinite(hz[frame == n]).mean() if (frame == n).any() else 0.0 for n in range(frames)]
    return classes, np.array(voiced) >= 0.5


def measure(excerpts: Sequence[PitchExcerpt]) -> list[dict[str, object]]:
    """One row per kind of music and source of classes: the mean share, its interval, and the number of excerpts."""
    found: list[dict[str, np.ndarray]] = []
    for excerpt in excerpts:
        sound = Audio(excerpt.samples[None], pitch_tracking.RATE_HZ)
        chroma = pitch_classes(sound.resample(SETTINGS.rate_hz).samples[0], SETTINGS)
        tracked = tracked_classes(sound, SETTINGS.frame_rate_hz)[: len(chroma)]
        real = excerpt.recording in pitch_tracking.EXCERPTS
        track = pitch_tracking.by_salience(excerpt.samples) if real else None
        lag = 0.0 if track is None else pitch_tracking.lag_seconds([track], [excerpt.truth])
        truth, voiced = true_classes(excerpt, len(tracked), lag)
        found.append({CHROMA: chroma[: len(tracked)], PITCH: tracked, "truth": truth, "voiced": voiced})
    rows: list[dict[str, object]] = []
    for kind in dict.fromkeys(excerpt.kind for excerpt in excerpts):
        members = [n for n, excerpt in enumerate(excerpts) if excerpt.kind == kind]
        shares: dict[str, list[float]] = {name: [] for name in (CHROMA, PITCH, OTHER, DRONE, BEST)}
        for place, n in enumerate(members):
            given = found[n]
            other = found[members[(place + 1) % len(members)]]["truth"]
            count = min(len(given["truth"]), len(other))
            truth, voiced = given["truth"][:count], given["voiced"][:count]
            guesses = {CHROMA: given[CHROMA][:count], PITCH: given[PITCH][:count], OTHER: other[:count]}
            guesses |= {DRONE: most_frequent(given[CHROMA]), BEST: most_frequent(truth[voiced])}
            for name, guess in guesses.items():
                shares[name].append(share_equal(guess, truth, voiced))
        names = [
            f"{excerpts[n].recording} {n}" if kind in ("drone", "chords and drums") else excerpts[n].recording
            for n in members
        ]
        shares[DIFFERENCE] = [a - b for a, b in zip(shares[PITCH], shares[CHROMA], strict=True)]
        for name, values in shares.items():
            by_recording = intervals.mean_by_recording(values, names)
            rows.append(
                {
                    "music": kind,
                    "source": name,
                    "share": float(np.mean(list(by_recording.values()))),
                    "ci95": intervals.mean_interval(by_recording),
                    "excerpts": len(members),
                    "recordings": len(by_recording),
                }
            )
    return rows


def most_frequent(classes: np.ndarray) -> int:
    return int(np.bincount(classes.astype(int), minlength=12).argmax())


def share_equal(guess: Any, truth: np.ndarray, voiced: np.ndarray) -> float:
    """The share of voiced frames in which the guess is the true class; 0 without any."""
    return float(np.mean((guess == truth)[voiced])) if voiced.any() else 0.0


def page(rows: Sequence[dict[str, object]], command: str) -> str:
    """The measurement as Markdown."""
    head = ("music", "pitch class from", "right", "95 % interval", "excerpts", "recordings")
    table = markdown.table(head, map(_cells, rows))
    return "\n".join([OPENING, markdown.paragraph(f"Generated by `{command}`."), "", *table]) + "\n"


def _cells(row: dict[str, object]) -> list[str]:
    interval = row["ci95"]
    text = "-" if not isinstance(interval, Sequence) else " to ".join(f"{100 * float(x):.0f} %" for x in interval)
    share = f"{100 * float(row['share']):.1f} {'points' if row['source'] == DIFFERENCE else '%'}"  # type: ignore[arg-type]
    return [str(row["music"]), str(row["source"]), share, text, str(row["excerpts"]), str(row["recordings"])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--real", type=Path, help="folder with audio/hindustani and hindustani/pitch")
    parser.add_argument("--performances", type=int, default=12, help="synthetic excerpts of each of the two kinds")
    parser.add_argument("--first-seed", type=int, default=8000, help="of the synthetic excerpts")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    excerpts = pitch_tracking.real_excerpts(options.real) if options.real else []
    excerpts += pitch_tracking.synthetic_excerpts(options.performances, options.first_seed)
    command = f"python -m research.validation.melody_conditioning{' --real FOLDER' if options.real else ''}"
    command += f" --performances {options.performances} --first-seed {options.first_seed} --out {options.out}"
    text = page(measure(excerpts), command)
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
