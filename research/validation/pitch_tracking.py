"""How well pitch trackers follow the melody of real concerts and of performed mixtures: docs/metrics-pitch.md.

`python -m research.validation.pitch_tracking --real FOLDER --out docs/metrics-pitch.md`, FOLDER holding audio/hindustani and
hindustani/pitch. Real excerpts are compared with annotated tracks, performances with the notes they were played from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talim import audio
from talim.atomic_io import write_text
from talim.metrics import pitch, pitch_salience
from talim.synthesis.performer import Performance, perform

RATE_HZ, HOP = pitch.RATE_HZ, round(pitch.HOP_SECONDS * pitch.RATE_HZ)
SECONDS = 10.0
LAGS_SECONDS = np.arange(-10, 11) / 100  # tracks and audio were cut by other programs: up to 0.1 s apart
EXCERPTS = {  # file: (track, seconds where excerpts begin)
    "concert-c76cadd9_0-30.mp3": ("c76cadd9_s1p1.npz", (0, 10, 20)),
    "concert-e76e4ee3_0-30.mp3": ("e76e4ee3_s1p1.npz", (0, 10, 20)),
    "calan-yaman.mp3": ("calan-yaman_s1p1.npz", (10, 50)),
    "calan-bhupali.mp3": ("calan-bhupali_s1p1.npz", (20, 60)),
    "calan-malkauns.mp3": ("calan-malkauns_s1p1.npz", (20, 60)),
    "calan-deskar.mp3": ("calan-deskar_s1p1.npz", (5,)),
}
Tracker = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PitchExcerpt:
    """Ten seconds of samples [T] of one `kind` and `recording`, and its truth at a lag, in Hz [n] (NaN unvoiced)."""

    kind: str
    recording: str
    samples: np.ndarray
    truth: Callable[[float], np.ndarray]


def by_pyin(samples: np.ndarray) -> np.ndarray:
    """librosa's pYIN (Mauch and Dixon 2014) as it is, refined like the default tracker."""
    import librosa

    hz, voiced, _ = librosa.pyin(
        samples, fmin=pitch.LOWEST_HZ, fmax=pitch.HIGHEST_HZ, sr=RATE_HZ, frame_length=512, hop_length=HOP
    )
    return pitch.refine_f0(samples, RATE_HZ, np.where(voiced, hz, np.nan), HOP)


def by_pyin_on_harmonics(samples: np.ndarray) -> np.ndarray:
    """pYIN after harmonic/percussive separation (Fitzgerald 2010)."""
    import librosa

    return by_pyin(librosa.effects.harmonic(samples))


def by_pyin_without_drone(samples: np.ndarray) -> np.ndarray:
    """pYIN after each frequency's steady level (30th percentile over time) is taken off."""
    import librosa

    spectrum = librosa.stft(samples, n_fft=1024, hop_length=256)
    size = np.abs(spectrum)
    steady = np.quantile(size, 0.3, axis=1, keepdims=True)
    thinned = spectrum * np.maximum(1 - steady / (size + 1e-9), 0.0)
    return by_pyin(librosa.istft(thinned, hop_length=256, length=samples.size).astype(np.float32))


def by_salience(samples: np.ndarray) -> np.ndarray:
    """The default: `talim.metrics.pitch.track_pitch`."""
    return pitch.track_pitch(samples, RATE_HZ).hz


def by_salience_with_drone(samples: np.ndarray) -> np.ndarray:
    """The default without its suppression of what is steady."""
    hz, _ = pitch_salience.track_f0(samples, RATE_HZ, HOP, pitch.LOWEST_HZ, pitch.HIGHEST_HZ, still=0.0)
    return pitch.refine_f0(samples, RATE_HZ, hz, HOP)


TRACKERS: dict[str, Tracker] = {
    "salience (default)": by_salience,
    "salience, drone kept": by_salience_with_drone,
    "pyin": by_pyin,
    "pyin on harmonics": by_pyin_on_harmonics,
    "pyin without drone": by_pyin_without_drone,
}


def judge(hz: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Raw pitch accuracy (share of truly voiced frames voiced and within 50 cents), the same with octaves forgiven,

    and voicing false alarm (share of truly unvoiced frames voiced; NaN under half a second of them); 0 to 1.
    """
    count = min(hz.size, truth.size)
    found, true = np.isfinite(hz[:count]), np.isfinite(truth[:count])
    gap = 1200 * np.log2(hz[:count] / truth[:count])[found & true]
    silent = int((~true).sum())
    return {
        "accuracy": float((np.abs(gap) <= 50).sum() / max(1, true.sum())),
        "octave_forgiven": float((np.abs((gap + 600) % 1200 - 600) <= 50).sum() / max(1, true.sum())),
        "false_alarm": float((found & ~true).sum() / silent) if silent >= 25 else float("nan"),
    }


def real_excerpts(folder: Path) -> list[PitchExcerpt]:
    """The excerpts of which both sound and track are at hand."""
    found = []
    for name, (track_name, starts) in EXCERPTS.items():
        file, track_file = (
            folder / "audio" / "hindustani" / name,
            folder / "hindustani" / "pitch" / track_name,
        )
        if not file.is_file() or not track_file.is_file():
            continue
        sound = audio.read(file).mono().resample(RATE_HZ)
        with np.load(track_file) as stored:
            hz = float(stored["tonic_hz"]) * 2 ** (stored["cents"] / 1200.0)
            step = float(stored["hop_s"])
        for start in starts:
            samples = sound.cut(start, SECONDS).samples[0]
            found.append(PitchExcerpt(name.split("-")[0], name, samples, _lookup(hz, step, start)))
    return found


def _lookup(hz: np.ndarray, step_seconds: float, start_seconds: float) -> Callable[[float], np.ndarray]:
    def at(lag_seconds: float) -> np.ndarray:
        seconds = start_seconds + lag_seconds + np.arange(round(SECONDS / pitch.HOP_SECONDS) + 1) * 0.02
        index = np.round(seconds / step_seconds).astype(int)
        inside = (index >= 0) & (index < hz.size)
        return np.where(inside, hz[np.clip(index, 0, hz.size - 1)], np.nan)

    return at


def performed_excerpts(count: int, seed: int = 900) -> list[PitchExcerpt]:
    """`count` western pieces with chords and drums, and as many of the demo style over its drone."""
    found, first = [], seed
    while len(found) < count:
        piece = perform(seed, "western", SECONDS)
        if piece.facts["chords"] and piece.facts["drums"]:
            found.append(_performed("chords and drums", piece, 0.03 * (piece.facts["family"] == "voice")))
        seed += 1
    return found + [_performed("drone", perform(first + n, "demo", SECONDS), 0.12) for n in range(count)]


def _performed(kind: str, piece: Performance, slide_seconds: float) -> PitchExcerpt:
    """The notes with the glides that the performer plays into them; vibrato stays within the 50 cents."""
    seconds = np.arange(round(SECONDS / pitch.HOP_SECONDS) + 1) * pitch.HOP_SECONDS
    truth = np.full(seconds.size, np.nan)
    for before, note in zip([None, *piece.notes], piece.notes, strict=False):
        held = (seconds >= note.onset_seconds) & (seconds < note.onset_seconds + note.seconds)
        cents = np.full(int(held.sum()), note.cents)
        if before is not None and slide_seconds and abs(before.cents - note.cents) < 900:
            since = seconds[held] - note.onset_seconds
            cents = cents + (before.cents - note.cents) * np.exp(-since / (slide_seconds / 3))
        truth[held] = 440 * 2 ** ((cents - 900) / 1200)
    return PitchExcerpt(kind, f"{kind} {piece.facts['family']}", piece.samples, lambda _: truth)


def lag_seconds(tracks: Sequence[np.ndarray], truths: Sequence[Callable[[float], np.ndarray]]) -> float:
    """The one lag of a recording's annotation at which all trackers together agree with it most."""
    agreement = [
        np.mean([judge(hz, truth(lag))["octave_forgiven"] for hz, truth in zip(tracks, truths, strict=True)])
        for lag in LAGS_SECONDS
    ]
    best = np.flatnonzero(np.array(agreement) >= max(agreement) - 1e-9)
    return float(LAGS_SECONDS[best[best.size // 2]])


def measure(excerpts: Sequence[PitchExcerpt], trackers: dict[str, Tracker]) -> list[dict[str, object]]:
    """One row a tracker and kind: mean accuracy, octave forgiven, false alarm, CPU seconds per excerpt."""
    tracks: dict[str, list[np.ndarray]] = {}
    cost: dict[str, float] = {}
    for name, tracker in trackers.items():
        tracker(excerpts[0].samples[:RATE_HZ])  # compiled and cached things first
        begun = time.process_time()
        tracks[name] = [tracker(excerpt.samples) for excerpt in excerpts]
        cost[name] = (time.process_time() - begun) / len(excerpts)
    lags = {}
    for recording in {e.recording for e in excerpts}:
        mine = [n for n, e in enumerate(excerpts) if e.recording == recording]
        pairs = [(tracks[name][n], excerpts[n].truth) for name in trackers for n in mine]
        real = recording in EXCERPTS
        lags[recording] = lag_seconds([t for t, _ in pairs], [f for _, f in pairs]) if real else 0.0
    rows: list[dict[str, object]] = []
    for name in trackers:
        for kind in dict.fromkeys(e.kind for e in excerpts):
            mine = [n for n, e in enumerate(excerpts) if e.kind == kind]
            found = [judge(tracks[name][n], excerpts[n].truth(lags[excerpts[n].recording])) for n in mine]
            means = {key: _mean([f[key] for f in found]) for key in found[0]}
            rows.append({"tracker": name, "kind": kind, "clips": len(mine), **means, "seconds": cost[name]})
    return rows


def _mean(values: list[float]) -> float:
    kept = [value for value in values if np.isfinite(value)]
    return float(np.mean(kept)) if kept else float("nan")


def page(rows: Sequence[dict[str, object]], command: str) -> str:
    """The figures as a Markdown page."""
    lines = [
        "# Following the melody",
        "",
        "Share of truly voiced frames that are called voiced and lie within 50 cents (accuracy), the same with octaves",
        "forgiven, share of truly unvoiced frames called voiced (false alarm), and CPU seconds per ten seconds of",
        "sound on one core. `concert`: voice, tanpura, harmonium and tabla; `calan`: a voice over a tanpura; their",
        "annotations are the published tracks, shifted by one lag a recording at which all trackers together agree",
        "most. `chords and drums`, `drone`: performances, against the notes they were played from. The constants of",
        "the default tracker were chosen on these real excerpts and on performances of seeds 900 to 931, so that other",
        "recordings may be harder; performances of other seeds were never looked at.",
        "",
        f"Made by `{command}`.",
        "",
        "| tracker | music | clips | accuracy | octave forgiven | false alarm | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        alarm = float(str(row["false_alarm"]))
        shown = f"{100 * alarm:.0f} %" if np.isfinite(alarm) else "-"
        accuracy, forgiven = (100 * float(str(row[key])) for key in ("accuracy", "octave_forgiven"))
        lines.append(
            f"| {row['tracker']} | {row['kind']} | {row['clips']} | {accuracy:.1f} % | {forgiven:.1f} % "
            f"| {shown} | {float(str(row['seconds'])):.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--real", type=Path, help="folder with audio/hindustani and hindustani/pitch")
    parser.add_argument("--performances", type=int, default=8, help="of each of the two kinds")
    parser.add_argument("--first-seed", type=int, default=900, help="of the performances")
    parser.add_argument("--trackers", nargs="*", choices=list(TRACKERS), default=list(TRACKERS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    excerpts = real_excerpts(options.real) if options.real else []
    excerpts += performed_excerpts(options.performances, options.first_seed)
    command = f"python -m research.validation.pitch_tracking{' --real FOLDER' if options.real else ''}"
    command += f" --performances {options.performances} --first-seed {options.first_seed}"
    rows = measure(excerpts, {name: TRACKERS[name] for name in options.trackers})
    text = page(rows, f"{command} --out {options.out.name}")
    write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
