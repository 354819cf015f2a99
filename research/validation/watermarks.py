"""Which marks of generated music survive what files go through: an inaudible watermark, tags, content credentials.

`python -m research.validation.watermarks --perth FOLDER --real FOLDER --pieces FOLDER --out FILE` marks 100 pieces of
nano-musicgen and 100 excerpts of recordings (10 s) with the watermark of resemble-perth, whose package lies unpacked in
the first folder, changes them as the way to a listener does, and looks for the mark in these and in unmarked ones. Tags
and credentials are looked for in one piece after conversions by ffmpeg. docs/reports/marks.md holds the tables.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

import talim
from talim.audio import Audio, credentials
from talim.audio.origin import origin_of
from talim.audio.read import list_audio_files, read
from talim.metrics import distribution_distances, embeddings

CLIPS, SECONDS, RATE_HZ = 100, 10.0, 32000  # resemble-perth's own rate
HOP_SECONDS = 7.0  # between excerpts of one recording, which overlap
FALSE_ALARMS = 0.01  # at which detection is counted with a threshold of one's own
PROMPTS = (
    *("slow flute, raga Yaman", "sitar and tabla, fast teental", "oud taksim, makam Hicaz", "piano melody, calm"),
    *("strings, lively dance", "drone and voice, alap", "ney, slow", "guitar, four four"),
)
Marker = Callable[[np.ndarray], np.ndarray]  # samples [T] at RATE_HZ -> marked ones
Detector = Callable[[np.ndarray], float]  # samples [T] at RATE_HZ -> confidence, 0 to 1


def load_perth(folder: Path) -> tuple[Marker, Detector]:
    """Marker and detector of resemble-perth in an unpacked wheel, without the two packages that it imports.

    `pkg_resources` only finds its weights, and `torchaudio` makes short-time spectra, which torch does too.
    """
    sys.path.insert(0, str(folder))
    resources = types.ModuleType("pkg_resources")
    vars(resources)["resource_filename"] = lambda package, name: str(folder.joinpath(*package.split("."), name))
    transforms = types.ModuleType("torchaudio.transforms")
    vars(transforms).update(Spectrogram=_Spectrum, InverseSpectrogram=_InverseSpectrum, TimeStretch=_Unused)
    sys.modules |= {"pkg_resources": resources, "torchaudio": types.ModuleType("torchaudio")}
    sys.modules["torchaudio.transforms"] = transforms
    perth: Any = importlib.import_module("perth.perth_net.perth_net_implicit.perth_watermarker")
    perth = perth.PerthImplicitWatermarker()

    def mark(samples: np.ndarray) -> np.ndarray:
        marked = np.zeros_like(samples)
        found = perth.apply_watermark(samples, RATE_HZ)[: samples.size]
        marked[: found.size] = found
        return marked

    def detect(samples: np.ndarray) -> float:
        with torch.no_grad():
            return float(np.squeeze(perth.get_watermark(samples.astype(np.float32), RATE_HZ, round=False)))

    return mark, detect


class _Spectrum(torch.nn.Module):
    window: torch.Tensor

    def __init__(self, n_fft: int, win_length: int, hop_length: int, window_fn: Any, **_: Any) -> None:
        super().__init__()
        self.sizes = n_fft, hop_length, win_length
        self.register_buffer("window", window_fn(win_length))

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return torch.stft(signal, *self.sizes, self.window, return_complex=True)


class _InverseSpectrum(_Spectrum):
    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return torch.istft(signal, *self.sizes, self.window)


class _Unused(torch.nn.Module):
    def __init__(self, n_freq: int, **_: Any) -> None:
        super().__init__()
        self.register_buffer("phase_advance", torch.zeros(n_freq, 1))


def generated_clips(count: int, folder: Path) -> list[np.ndarray]:
    """Pieces of the miniature, samples at RATE_HZ, which are kept in a folder."""
    files = [folder / f"{index:03d}.wav" for index in range(count)]
    if all(file.is_file() for file in files):
        return [_at_rate(read(file)) for file in files]
    folder.mkdir(parents=True, exist_ok=True)
    base: Any = talim.load_base("nano-musicgen", precision="fp32", device="cpu")
    prompts = [PROMPTS[index % len(PROMPTS)] for index in range(count)]
    clips = base.generate(prompts, SECONDS, seed=1000)
    for file, clip in zip(files, clips, strict=True):
        soundfile.write(file, clip.samples.T, clip.rate_hz, subtype="FLOAT")
    return [_at_rate(clip) for clip in clips]


def recorded_clips(folder: Path, count: int) -> list[np.ndarray]:
    """Excerpts of recordings, samples at RATE_HZ; those of one recording overlap."""
    clips = []
    for file in list_audio_files(folder):
        sound = read(file)
        for start in np.arange(0, sound.seconds - SECONDS, HOP_SECONDS):
            clips.append(_at_rate(sound.cut(float(start), SECONDS)))
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)  # of all recordings
    return [clips[index] for index in chosen]


def _at_rate(clip: Audio) -> np.ndarray:
    return clip.mono().resample(RATE_HZ).samples[0]


def resampled(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """To another rate and back."""
    return soxr.resample(soxr.resample(samples, RATE_HZ, rate_hz), rate_hz, RATE_HZ)


def transcoded(samples: np.ndarray, suffix: str, *options: str) -> np.ndarray:
    """Encoded by ffmpeg and decoded."""
    with TemporaryDirectory() as folder:
        given, coded, back = (Path(folder) / name for name in ("given.wav", f"coded{suffix}", "back.wav"))
        soundfile.write(given, samples, RATE_HZ, subtype="FLOAT")
        convert(given, coded, *options)
        convert(coded, back, "-ar", str(RATE_HZ), "-c:a", "pcm_f32le")
        return soundfile.read(back, dtype="float32")[0]


def convert(source: Path, target: Path, *options: str) -> None:
    """One file into another by ffmpeg."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(target)], check=True)


def excerpt(samples: np.ndarray, seconds: float) -> np.ndarray:
    """The middle of a clip."""
    size = round(seconds * RATE_HZ)
    start = (samples.size - size) // 2
    return samples[start : start + size]


def at_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Played faster, as a tape: the pitch rises with it."""
    return soxr.resample(samples, RATE_HZ * factor, RATE_HZ)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda samples: samples,
    "MP3, 128 kbit/s": lambda samples: transcoded(samples, ".mp3", "-b:a", "128k"),
    "Opus, 64 kbit/s": lambda samples: transcoded(samples, ".ogg", "-c:a", "libopus", "-b:a", "64k"),
    "resampled to 44.1 kHz and back": lambda samples: resampled(samples, 44100),
    "resampled to 8 kHz and back": lambda samples: resampled(samples, 8000),
    "cut to 5 s": lambda samples: excerpt(samples, 5.0),
    "cut to 2 s": lambda samples: excerpt(samples, 2.0),
    "gain of -12 dB": lambda samples: samples * np.float32(10 ** (-12 / 20)),
    "1 % faster": lambda samples: at_speed(samples, 1.01),
    "1 % slower": lambda samples: at_speed(samples, 0.99),
}


def spread(count: int, wanted: int) -> slice:
    """Every nth of `count` clips, so that about `wanted` of all recordings are taken."""
    return slice(None, None, max(1, count // wanted))


def detection_row(marked: Sequence[float], unmarked: Sequence[float]) -> tuple[int, int, int]:
    """Marked clips that are found, unmarked ones that are, both at confidence 0.5; and found at 1 % false alarms."""
    threshold = np.quantile(unmarked, 1 - FALSE_ALARMS, method="higher")
    return sum(s >= 0.5 for s in marked), sum(s >= 0.5 for s in unmarked), sum(s > threshold for s in marked)


def audible_cost(plain: Sequence[np.ndarray], marked: Sequence[np.ndarray]) -> list[str]:
    """Level of what marking adds, and distances from the unmarked clips beside those of MP3 at 128 kbit/s."""
    pairs = zip(plain, marked, strict=True)
    added = [10 * np.log10(np.mean(a**2) / max(np.mean((b - a) ** 2), 1e-12)) for a, b in pairs]
    lines = [f"what it adds lies {np.median(added):.0f} dB (median; {np.min(added):.0f} at least) below the music"]
    mp3 = [CHANGES["MP3, 128 kbit/s"](samples) for samples in plain]
    for name in ("timbre", "rhythm"):
        extractor = embeddings.load(name)
        sets = [_embedded(clips, extractor) for clips in (plain, marked, mp3)]
        distances = [distribution_distances.frechet_distance(sets[0], other) for other in sets[1:]]
        halves = distribution_distances.frechet_distance(sets[0][::2], sets[0][1::2])
        lines.append(
            f"Fréchet distance of {name}: {distances[0]:.2f} by the mark, {distances[1]:.2f} by MP3 at 128 kbit/s, "
            f"{halves:.2f} between two halves of the unmarked clips"
        )
    return lines


def _embedded(clips: Sequence[np.ndarray], extractor: embeddings.EmbeddingExtractor) -> np.ndarray:
    rows = embeddings.embed([Audio(np.atleast_2d(clip), RATE_HZ) for clip in clips], extractor)
    return rows / embeddings.typical_spread(extractor.name)


CONVERSIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "copied, renamed": ("", ()),
    "WAV": (".wav", ()),
    "FLAC": (".flac", ()),
    "MP3, 128 kbit/s": (".mp3", ("-b:a", "128k")),
    "M4A (AAC)": (".m4a", ()),
    "Opus, 64 kbit/s": (".ogg", ("-c:a", "libopus", "-b:a", "64k")),
    "same format, tags copied, sound not decoded": ("same", ("-c", "copy")),
    "same format, cut to 1 s": ("same", ("-t", "1")),
    "same format, another rate": ("same", ("-ar", "22050")),
    "same format, `-map_metadata -1`": ("same", ("-map_metadata", "-1")),
}


def mark_rows(folder: Path) -> list[str]:
    """A table's rows: which of tags and credentials are found in a signed piece after each conversion."""
    certificate = folder / "certificate.pem"
    credentials.make_certificate(certificate, "Test")
    os.environ[credentials.VARIABLE] = str(certificate)
    sources = {}
    for suffix in (".wav", ".flac", ".mp3"):
        clip = talim.generate("nano-musicgen", PROMPTS[0], seconds=2, seed=1)[0]
        sources[suffix] = clip.save(folder / f"signed{suffix}")
    rows = []
    for name, (suffix, options) in CONVERSIONS.items():
        cells = []
        for own, source in sources.items():
            target = folder / f"converted{own if suffix in ('', 'same') else suffix}"
            target.unlink(missing_ok=True)
            if suffix:
                convert(source, target, *options)
            else:
                target.write_bytes(source.read_bytes())
            cells.append(_found(origin_of(target)))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _found(origin: dict[str, Any]) -> str:
    found = ["tags"] * bool(origin["generated_by"])
    if (signed := origin["credentials"]) is not None:
        found.append("credentials" if signed["intact"] else "credentials that do not hold")
    return ", ".join(found) or "nothing"


def main() -> None:
    """Write the tables, and print each row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--perth", type=Path, required=True, help="folder of the unpacked wheel of resemble-perth")
    parser.add_argument("--real", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--pieces", type=Path, required=True, help="folder that keeps the generated pieces")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--changed", type=int, default=CLIPS, help="how many of them are changed as well")
    parser.add_argument("--out", type=Path, required=True, help="the tables as Markdown")
    chosen = parser.parse_args()
    sets = {
        "generated": generated_clips(chosen.clips, chosen.pieces),
        "recorded": recorded_clips(chosen.real, chosen.clips),
    }
    with TemporaryDirectory() as folder:
        table = ["| conversion | from WAV | from FLAC | from MP3 |", "|---|---|---|---|", *mark_rows(Path(folder))]
    print("\n".join(table), flush=True)
    mark, detect = load_perth(chosen.perth)  # after transformers, which would take its stand-ins for torchaudio
    titles = [f"{name}: found, false alarms, found at 1 %" for name in sets]
    lines = [*table, "", f"| change | {' | '.join(titles)} |", "|---|---|---|"]
    marked = {name: [mark(samples) for samples in clips] for name, clips in sets.items()}
    for change, apply in CHANGES.items():
        cells = []
        for name, every in sets.items():
            few = slice(None) if change == "none" else spread(len(every), chosen.changed)
            clips = every[few]
            found, alarms, at_rate = detection_row(
                [detect(apply(samples)) for samples in marked[name][few]], [detect(apply(samples)) for samples in clips]
            )
            cells.append(f"{found}, {alarms}, {at_rate} of {len(clips)}")
        lines.append(f"| {change} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    for name, clips in sets.items():
        few = spread(len(clips), chosen.changed)
        lines += ["", f"{name}: " + "; ".join(audible_cost(clips[few], marked[name][few])) + "."]
        print(lines[-1], flush=True)
    chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
