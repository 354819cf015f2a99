"""Audio for the page: the same prompts and seeds before and after, beside the real held-out music."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from talim import audio
from talim.adapters import injection
from talim.atomic_io import new_folder, write_jsonl
from talim.audio import Audio
from talim.beats_chords import BeatsAndChords
from talim.corpus.manifest import Corpus
from talim.generation.generate import GenerationOptions, provenance_tags
from talim.generation.sources import AdapterChoice
from talim.progress import Progress
from talim.run import Run
from talim.training import batches

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

MELS = 64
FLOOR_DB = 80.0


@dataclass(frozen=True)
class GeneratedClip:
    """A generated piece: its targets, int16 [K, T] or float32 [C, T, F], and how they sound."""

    targets: np.ndarray
    audio: Audio


@dataclass(frozen=True)
class SamplePair:
    """The same words and seed, without and with the adapter."""

    prompt: str
    before: GeneratedClip
    after: GeneratedClip


def generate_pairs(
    run: Run,
    corpus: Corpus,
    backbone: Backbone,
    peft: Any,
    progress: Progress,
    *,
    prompts: int,
    seconds: float,
    seed: int,
    sampling: GenerationOptions,
) -> list[SamplePair]:
    """Write RUN/samples (FLAC files and manifest.jsonl) for the captions of `prompts` held-out clips.

    A base that hears beats and chords is given those of the clip, as far as the corpus knows them.
    """
    clips = batches.stratified_sample(corpus.held_out, prompts)
    words = [clip.caption for clip in clips]
    asked = {**backbone.options, **sampling.explicit_options}
    music = backbone.snap_beats_chords([batches.beats_chords_of(clip).cut(0.0, seconds) for clip in clips])

    def play(title: str) -> list[GeneratedClip]:
        return _generate_pieces(backbone, words, music, seconds, seed, asked, progress, title)

    played = {"after": play("with adapter")}
    with injection.disabled(peft):
        played["before"] = play("without adapter")
    rows: list[dict[str, Any]] = []
    with new_folder(run.samples) as folder:
        for number, clip in enumerate(clips, start=1):
            for role in ("before", "after"):
                piece = played[role][number - 1].audio
                adapters = [AdapterChoice(run.adapter)] if role == "after" else []
                name = f"{number:02d}-{role}.flac"
                tags = provenance_tags(backbone, adapters, clip.caption, seed, asked, music[number - 1])
                audio.write(folder / name, piece, tags)
                rows.append(_row(name, role, clip, piece, seed))
            real = corpus.read_clip(clip).cut(0, seconds)
            name = f"{number:02d}-real.flac"
            audio.write(folder / name, real, {"title": clip.recording, "licence": clip.licence})
            rows.append(_row(name, "real", clip, real, None))
        write_jsonl(folder / "manifest.jsonl", rows)
    return [SamplePair(*three) for three in zip(words, played["before"], played["after"], strict=True)]


def _row(name: str, role: str, clip: Any, piece: Audio, seed: int | None) -> dict[str, Any]:
    return {
        "file": name,
        "role": role,
        "prompt": clip.caption,
        "seed": seed,
        "recording": clip.recording,
        "seconds": round(piece.seconds, 3),
        "adapter": role == "after",
    }


def _generate_pieces(
    backbone: Backbone,
    words: Sequence[str],
    music: Sequence[BeatsAndChords],
    seconds: float,
    seed: int,
    asked: Mapping[str, Any],
    progress: Progress,
    title: str,
) -> list[GeneratedClip]:
    def tell(done: int, total: int) -> None:
        progress.step(f"generating {title}", done, total)

    targets = backbone.generate_tokens(list(words), seconds, seed, progress=tell, music=music, **asked)
    return [GeneratedClip(row, backbone.decode(row).cut(0, seconds)) for row in targets]


def adapter_effect(pairs: Sequence[SamplePair]) -> dict[str, Any]:
    """How much the adapter changes at the same seed: tokens or latents, and log-mel distance in dB.

    Both are exactly 0 for an adapter without effect.
    """
    tokens = all(np.issubdtype(p.before.targets.dtype, np.integer) for p in pairs)
    key, change = ("token_change_rate", token_change_rate) if tokens else ("latent_change", latent_change)
    changes = [change(p.before.targets, p.after.targets) for p in pairs]
    distances = [log_mel_distance_db(p.before.audio, p.after.audio) for p in pairs]
    return {
        key: float(np.mean(changes)),
        "log_mel_distance_db": float(np.mean(distances)),
        "per_prompt": [
            {"prompt": p.prompt, key: c, "log_mel_distance_db": d}
            for p, c, d in zip(pairs, changes, distances, strict=True)
        ],
        "note": "adapter switched off and on at the same prompt and seed; 0 means that it changes nothing",
    }


def token_change_rate(one: np.ndarray, other: np.ndarray) -> float:
    """Share of differing tokens in two [K, T], over the frames both have; 0 to 1."""
    frames = min(one.shape[1], other.shape[1])
    return float(np.mean(one[:, :frames] != other[:, :frames])) if frames else 0.0


def latent_change(one: np.ndarray, other: np.ndarray) -> float:
    """How far two latents [C, T, F] lie apart over the frames both have, as a share of the first one's size.

    Root mean squares; 0 for equal ones, about 1.4 for two that have nothing to do with each other.
    """
    frames = min(one.shape[1], other.shape[1])
    first, second = (part[:, :frames].astype(np.float64) for part in (one, other))
    size = np.sqrt(np.mean(np.square(first))) if frames else 0.0
    return float(np.sqrt(np.mean(np.square(second - first))) / size) if size else 0.0


def log_mel_distance_db(one: Audio, other: Audio) -> float:
    """Mean absolute difference of two log-mel spectrograms in dB, over the time both have.

    64 bands, levels clipped 80 dB below the louder one's peak; 0 for equal sounds, at most 80.
    """
    rate_hz = min(one.rate_hz, other.rate_hz)
    frames = min(one.resample(rate_hz).frames, other.resample(rate_hz).frames)
    powers = [_mel_power(a.mono().resample(rate_hz).samples[0, :frames], rate_hz) for a in (one, other)]
    peak = max(float(p.max(initial=0.0)) for p in powers)
    if peak <= 0:
        return 0.0
    floor = peak * 10 ** (-FLOOR_DB / 10)
    first, second = (10 * np.log10(np.maximum(p, floor)) for p in powers)
    return float(np.mean(np.abs(first - second)))


def _mel_power(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    import librosa

    return librosa.feature.melspectrogram(
        y=samples.astype(np.float32), sr=rate_hz, n_fft=1024, hop_length=512, n_mels=MELS
    )
