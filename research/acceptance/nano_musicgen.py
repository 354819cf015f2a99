"""Acceptance measurements of nano-musicgen, on the shipped file.

    python -m research.acceptance.nano_musicgen codec [--real FOLDER] --out codec-gates.json
    python -m research.acceptance.nano_musicgen base --clips 64 --out base-gates.json

Held-out performances have seeds that no training used. Prompt accuracy is also measured on the performances
themselves, as an upper bound.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from research.acceptance import tonality
from research.pretraining.western_style import perform
from talim import audio
from talim.audio.load_librosa import load_librosa
from talim.metrics import pitch, rhythm, signal_embeddings
from talim.synthesis.performance import Performance

RATE_HZ = 16000
CLIP_SECONDS = 10.0
HELD_OUT_SEEDS = 500  # performances 500, 501, ... ; training begins at a million
NUM_TRAINING_CLIPS = 240
CLASSIFIER_TRAINING_SEEDS = 20_000  # performances from which the instrument recogniser learns


@dataclass(frozen=True)
class GeneratedClipMeasures:
    """The measures of one clip."""

    voiced: float
    on_grid: float
    entropy_bits: float
    notes_per_second: float
    key: tuple[int, str]
    profile: np.ndarray
    tempo_bpm: float
    timbre: np.ndarray


def measure_sample(samples: np.ndarray) -> GeneratedClipMeasures:
    """Measure one clip, float [T] at 16 kHz."""
    track = pitch.track_pitch(samples, RATE_HZ)
    profile = tonality.pitch_class_profile(track)
    return GeneratedClipMeasures(
        voiced=float(track.voiced.mean()),
        on_grid=tonality.on_grid_fraction(track),
        entropy_bits=tonality.entropy_bits(profile),
        notes_per_second=tonality.notes_per_second(track),
        key=tonality.estimate_key(profile),
        profile=profile,
        tempo_bpm=rhythm.tempo_bpm(samples, RATE_HZ),
        timbre=signal_embeddings.timbre_features(samples, RATE_HZ),
    )


def parallel_map(function: Any, items: list[Any]) -> list[Any]:
    """`function` of all items, in parallel on all cores."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def pitch_errors(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, int]:
    """Absolute pitch error in cents where both are voiced, and the number of voiced frames of the original."""
    original, coded = (pitch.track_pitch(samples, RATE_HZ) for samples in pair)
    count = min(len(original.hz), len(coded.hz))
    both = original.voiced[:count] & coded.voiced[:count]
    return np.abs(original.cents[:count] - coded.cents[:count])[both], int(original.voiced[:count].sum())


def pitch_preservation(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Pitch errors of a codec over (original, decoded) pairs."""
    results = parallel_map(pitch_errors, pairs)
    errors, voiced = np.concatenate([r[0] for r in results]), sum(r[1] for r in results)
    return {
        "median_cents": float(np.median(errors)),
        "within_50_cents": float((errors <= 50).mean()),
        "within_50_cents_of_all_voiced": float((errors <= 50).sum() / voiced),
        "voicing_kept": float(errors.size / voiced),
        "clips": len(pairs),
    }


def round_trip(backbone: Any, samples: np.ndarray) -> np.ndarray:
    """A clip encoded and decoded, at its original length."""
    return backbone.decode(backbone.encode(audio.Audio(samples[None], RATE_HZ))).samples[0][: samples.size]


def log_mel_distance(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean absolute difference of natural-log mel spectra (64 bands, powers clipped below 1e-4) of the pairs."""
    librosa = load_librosa()

    def log_mel(samples: np.ndarray) -> np.ndarray:
        power = librosa.feature.melspectrogram(y=samples, sr=RATE_HZ, n_fft=1024, hop_length=256, n_mels=64)
        return np.log(np.maximum(power, 1e-4))

    return float(np.mean([np.abs(log_mel(a) - log_mel(b)).mean() for a, b in pairs]))


def codec_gates(backbone: Any, clips: int, real: Path | None) -> dict[str, Any]:
    """The codec on held-out performances and, with `real`, on the recordings in that folder."""
    originals = [perform(HELD_OUT_SEEDS + n, "western", CLIP_SECONDS).samples for n in range(clips)]
    pairs = [(samples, round_trip(backbone, samples)) for samples in originals]
    results: dict[str, Any] = {
        "performances": pitch_preservation(pairs) | {"log_mel_distance": log_mel_distance(pairs)}
    }
    if real is not None:
        pairs = []
        for file in sorted(p for p in real.iterdir() if audio.is_audio_name(p)):
            whole = audio.read(file).mono().resample(RATE_HZ)
            for start in np.arange(0, min(whole.seconds, 60.0) - CLIP_SECONDS + 0.01, CLIP_SECONDS):
                samples = whole.cut(float(start), CLIP_SECONDS).samples[0]
                pairs.append((samples, round_trip(backbone, samples)))
        results["real"] = pitch_preservation(pairs)
    bounds = {"performances.median_cents": 8.0, "performances.within_50_cents": 0.95, "real.within_50_cents": 0.80}
    return results | {"bounds": bounds}


def fraction_true(flags: list[bool]) -> float:
    """Fraction of true flags."""
    return float(np.mean(flags))


class InstrumentClassifier:
    """Instrument family of a clip, by linear discriminant analysis of `timbre_features`."""

    def __init__(self, vectors: np.ndarray, families: list[str], ridge: float = 0.05) -> None:
        self.centre, self.scale = vectors.mean(0), vectors.std(0) + 1e-6
        scaled = (vectors - self.centre) / self.scale
        self.names = sorted(set(families))
        labels = np.array([self.names.index(f) for f in families])
        self.means = np.stack([scaled[labels == k].mean(0) for k in range(len(self.names))])
        within = (scaled - self.means[labels]).T @ (scaled - self.means[labels]) / len(scaled)
        self.whiten = np.linalg.inv(within + ridge * np.eye(within.shape[0]))

    def __call__(self, vector: np.ndarray) -> str:
        """The most likely family of one vector."""
        gap = (vector - self.centre) / self.scale - self.means
        return self.names[int(np.argmin(np.einsum("kd,de,ke->k", gap, self.whiten, gap)))]


def prompt_accuracy(
    generated: list[GeneratedClipMeasures], facts: list[dict[str, Any]], recognise: InstrumentClassifier
) -> dict[str, float]:
    """Fraction of clips with the requested tempo, instrument and key, and of keys that match other clips' prompts."""
    keys = [(f["tonic_class"], f["scale"]) for f in facts]
    matched = fraction_true([h.key == k for h, k in zip(generated, keys, strict=True)])
    shuffled = fraction_true([h.key == k for i, h in enumerate(generated) for j, k in enumerate(keys) if i != j])
    return {
        "tempo": fraction_true(
            [rhythm.same_tempo(h.tempo_bpm, f["tempo_bpm"]) for h, f in zip(generated, facts, strict=True)]
        ),
        "instrument": fraction_true(
            [recognise(h.timbre) == f["family"] for h, f in zip(generated, facts, strict=True)]
        ),
        "key": matched,
        "key_shuffled": shuffled,
        "key_above_shuffled": matched - shuffled,
    }


def pairwise_distances(generated: list[GeneratedClipMeasures], centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Mean distance [n] of each clip to the others, in scaled timbre and pitch classes."""
    rows = np.stack([np.concatenate([(h.timbre - centre) / scale / 9.0, 3 * h.profile]) for h in generated])
    gaps = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    return gaps.sum(1) / (len(rows) - 1)


def base_gates(backbone: Any, clips: int, folder: Path | None, guidance_scale: float) -> dict[str, Any]:
    """Clips generated for the captions of held-out performances, compared with those performances."""
    pieces = [perform(HELD_OUT_SEEDS + n, "western", CLIP_SECONDS) for n in range(clips)]
    samples = generate_clips(backbone, [p.caption for p in pieces], folder, guidance_scale)
    return {
        **measure_base(backbone, pieces, samples),
        "held_out_loss": held_out_loss(backbone, pieces),
        "guidance_scale": guidance_scale,
        "clips": clips,
    }


def measure_base(backbone: Any, pieces: list[Performance], samples: list[np.ndarray]) -> dict[str, Any]:
    """Measures of clips generated for the captions of `pieces`, and of the pieces after the codec."""
    generated = parallel_map(measure_sample, samples)
    real = parallel_map(measure_sample, [round_trip(backbone, p.samples) for p in pieces])
    examples = [recognizer_example(backbone, CLASSIFIER_TRAINING_SEEDS + n) for n in range(NUM_TRAINING_CLIPS)]
    recognise = InstrumentClassifier(np.stack([v for v, _ in examples]), [f for _, f in examples])
    facts = [p.facts for p in pieces]
    return {
        "voiced": measure_mean(generated, "voiced"),
        "on_grid_within_25_cents": measure_mean(generated, "on_grid"),
        "prompts": prompt_accuracy(generated, facts, recognise),
        "prompts_by_performances": prompt_accuracy(real, facts, recognise),
        **within_real_range(generated, real),
        "performances": {
            "voiced": measure_mean(real, "voiced"),
            "on_grid_within_25_cents": measure_mean(real, "on_grid"),
        },
    }


def generate_clips(backbone: Any, captions: list[str], folder: Path | None, guidance_scale: float) -> list[np.ndarray]:
    """One clip per caption, sixteen at a time; also written to `folder`, if given."""
    samples: list[np.ndarray] = []
    for first in range(0, len(captions), 16):
        part = captions[first : first + 16]
        samples += [
            a.samples[0] for a in backbone.generate(part, CLIP_SECONDS, seed=first, guidance_scale=guidance_scale)
        ]
    if folder is not None:
        for n, (clip_samples, caption) in enumerate(zip(samples, captions, strict=True)):
            clip = audio.Audio(clip_samples[None], RATE_HZ)
            audio.write(folder / f"{n:03d}.flac", clip, {"prompt": caption})
    return samples


def measure_mean(generated: list[GeneratedClipMeasures], measure: str) -> float:
    """The mean of one measure over the clips that have it."""
    return float(np.nanmean([getattr(h, measure) for h in generated]))


def within_real_range(
    generated: list[GeneratedClipMeasures], real: list[GeneratedClipMeasures]
) -> dict[str, dict[str, float]]:
    """Means that should lie between the 5th and 95th percentile of the performances, with these percentiles."""
    timbres = np.stack([h.timbre for h in real])
    centre, scale = timbres.mean(0), timbres.std(0) + 1e-6
    found: dict[str, dict[str, float]] = {}
    for name, of_made, of_real in (
        ("entropy_bits", [h.entropy_bits for h in generated], [h.entropy_bits for h in real]),
        ("notes_per_second", [h.notes_per_second for h in generated], [h.notes_per_second for h in real]),
        (
            "distance_between_clips",
            pairwise_distances(generated, centre, scale),
            pairwise_distances(real, centre, scale),
        ),
    ):
        low, high = np.percentile(of_real, [5, 95])
        found[name] = {"mean": float(np.mean(of_made)), "real_5": float(low), "real_95": float(high)}
    return found


def recognizer_example(backbone: Any, seed: int) -> tuple[np.ndarray, str]:
    """Timbre (after the codec, as in generated clips) and family of one performance."""
    piece = perform(seed, "western", CLIP_SECONDS)
    return signal_embeddings.timbre_features(round_trip(backbone, piece.samples), RATE_HZ), str(piece.facts["family"])


def held_out_loss(backbone: Any, pieces: list[Performance]) -> dict[str, list[float]]:
    """Loss per codebook in nats on held-out performances, and the entropy of the code frequencies."""
    import torch

    codes = [backbone.encode(audio.Audio(p.samples[None], RATE_HZ)) for p in pieces]
    states = backbone.encode_text([p.caption for p in pieces])
    parts = []
    with torch.no_grad():
        for first in range(0, len(codes), 8):
            items = list(zip(codes[first : first + 8], states[first : first + 8], strict=True))
            parts.append(backbone.loss(backbone.collate(items, [False] * len(items))).parts.numpy() * len(items))
    unigram = []
    for k in range(codes[0].shape[0]):
        counts = np.bincount(np.concatenate([c[k] for c in codes]))
        shares = counts[counts > 0] / counts.sum()
        unigram.append(float(-(shares * np.log(shares)).sum()))
    return {"model": (np.sum(parts, 0) / len(codes)).tolist(), "unigram": unigram}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("which", choices=("codec", "base"))
    parser.add_argument("--base", default="nano-musicgen")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--real", type=Path, help="folder of real recordings, for the codec")
    parser.add_argument("--audio", type=Path, help="folder for the generated clips")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from talim.backbones.load import load

    backbone = load(options.base)
    if options.audio is not None:
        options.audio.mkdir(parents=True, exist_ok=True)
    if options.which == "codec":
        found = codec_gates(backbone, options.clips, options.real)
    else:
        found = base_gates(backbone, options.clips, options.audio, options.guidance)
    options.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
