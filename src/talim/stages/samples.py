"""Audio for the page: the same prompts and seeds before and after, beside the real held-out music."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from talim import audio
from talim.adapters import tuner
from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.run import Run, new_folder, write_jsonl
from talim.stages import batches
from talim.stages.generate import Chosen, Sampling, provenance_tags
from talim.stages.progress import Progress

if TYPE_CHECKING:
    from talim.backbones.backbone import Backbone

MELS = 64
FLOOR_DB = 80.0


@dataclass(frozen=True)
class Piece:
    """A generated piece: its tokens, int16 [K, T], and how they sound."""

    tokens: np.ndarray
    audio: Audio


@dataclass(frozen=True)
class Pair:
    """The same words and seed, without and with the adapter."""

    prompt: str
    before: Piece
    after: Piece


def make(
    run: Run,
    corpus: Corpus,
    backbone: Backbone,
    peft: Any,
    progress: Progress,
    *,
    prompts: int,
    seconds: float,
    seed: int,
) -> list[Pair]:
    """Write RUN/samples (FLAC files and manifest.jsonl) for the captions of `prompts` held-out clips."""
    clips = batches.spread(corpus.held_out, prompts)
    words = [clip.caption for clip in clips]
    sampling = Sampling()
    played = {"after": _play(backbone, words, seconds, seed, progress, "with adapter")}
    with tuner.disabled(peft):
        played["before"] = _play(backbone, words, seconds, seed, progress, "without adapter")
    rows: list[dict[str, Any]] = []
    with new_folder(run.samples) as folder:
        for number, clip in enumerate(clips, start=1):
            for role in ("before", "after"):
                piece = played[role][number - 1].audio
                adapters = [Chosen(run.adapter)] if role == "after" else []
                name = f"{number:02d}-{role}.flac"
                audio.write(
                    folder / name, piece, provenance_tags(backbone, adapters, clip.caption, seed, sampling)
                )
                rows.append(_row(name, role, clip, piece, seed))
            real = corpus.read_clip(clip).cut(0, seconds)
            name = f"{number:02d}-real.flac"
            audio.write(folder / name, real, {"title": clip.recording, "licence": clip.licence})
            rows.append(_row(name, "real", clip, real, None))
        write_jsonl(folder / "manifest.jsonl", rows)
    return [Pair(*three) for three in zip(words, played["before"], played["after"], strict=True)]


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


def _play(
    backbone: Backbone, words: Sequence[str], seconds: float, seed: int, progress: Progress, title: str
) -> list[Piece]:
    def tell(done: int, total: int) -> None:
        progress.step(f"generating {title}", done, total)

    tokens = backbone.generate_tokens(list(words), seconds, seed, progress=tell)
    return [Piece(row, backbone.decode(row).cut(0, seconds)) for row in tokens]


def effect(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How much the adapter changes at the same seed: share of generated tokens, and log-mel distance in dB.

    Both are exactly 0 for an adapter without effect.
    """
    changes = [token_change(p.before.tokens, p.after.tokens) for p in pairs]
    distances = [log_mel_distance_db(p.before.audio, p.after.audio) for p in pairs]
    return {
        "same_seed_token_change": float(np.mean(changes)),
        "log_mel_distance_db": float(np.mean(distances)),
        "per_prompt": [
            {"prompt": p.prompt, "token_change": c, "log_mel_distance_db": d}
            for p, c, d in zip(pairs, changes, distances, strict=True)
        ],
        "note": "adapter switched off and on at the same prompt and seed; 0 means that it changes nothing",
    }


def token_change(one: np.ndarray, other: np.ndarray) -> float:
    """Share of differing tokens in two [K, T], over the frames both have; 0 to 1."""
    frames = min(one.shape[1], other.shape[1])
    return float(np.mean(one[:, :frames] != other[:, :frames])) if frames else 0.0


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
