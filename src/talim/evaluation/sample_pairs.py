"""Samples of a run: the same prompts and seeds with and without the adapter, and the real held-out clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from talim import audio
from talim.adapters import injection
from talim.atomic_io import new_folder, write_jsonl
from talim.audio import Audio
from talim.audio.load_librosa import load_librosa
from talim.beats_chords import BeatsAndChords
from talim.corpus.manifest import Clip, Corpus
from talim.evaluation.base_results import BaseResults
from talim.evaluation.kept_parts import KeptParts, Pieces
from talim.generation.generate import GenerationOptions, provenance_tags
from talim.generation.sources import AdapterChoice
from talim.html.formatting import format_counted
from talim.progress import Progress, counted, format_duration
from talim.run import Run
from talim.training import batches

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

WITH_ADAPTER = "with adapter"
LONG_SECONDS = 20.0  # of generating: from then on it is told how long the rest will take
NUM_MEL_BANDS = 64
DYNAMIC_RANGE_DB = 80.0


@dataclass(frozen=True)
class GeneratedClip:
    """A generated clip: its codec tokens int16 [K, T] or latents float32 [C, T, F], and the decoded audio."""

    targets: np.ndarray
    audio: Audio


@dataclass(frozen=True)
class SamplePair:
    """Clips of the same prompt and seed, without (`base`) and with (`adapted`) the adapter.

    `clip` is the held-out one whose caption is the prompt.
    """

    clip: Clip
    seed: int
    base: GeneratedClip
    adapted: GeneratedClip

    @property
    def prompt(self) -> str:
        return self.clip.caption


def prompt_clips(corpus: Corpus, count: int) -> tuple[list[Clip], str]:
    """The held-out clips whose captions are prompts, `count` of them, and a note where captions are asked for again."""
    clips = batches.stratified_sample(corpus.held_out, count)
    if len(clips) == count:
        return clips, ""
    return [clips[number % len(clips)] for number in range(count)], (
        f"{format_counted(count, 'prompt')} were asked for, and the corpus holds out "
        f"{format_counted(len(clips), 'clip')}: captions are "
        "asked for again, with other seeds"
    )


def generate_pairs(  # noqa: PLR0913
    run: Run,
    corpus: Corpus,
    backbone: Backbone,
    peft: Any,
    progress: Progress,
    *,
    num_prompts: int,
    seconds: float,
    seed: int,
    options: GenerationOptions,
    base_results: BaseResults | None = None,
    kept: KeptParts | None = None,
    more_pieces: int = 0,
) -> list[SamplePair]:
    """Generate pairs for the captions of `num_prompts` held-out clips; writes RUN/samples (FLAC and manifest.jsonl).

    Both pieces of a pair have the same seed: `seed` and the pair's index. Captions are asked for again where fewer
    clips are held out. They are all that is given, also to a base that takes beats and chords: others take none, and
    the scores of both are compared. `more_pieces` are generated afterwards: how long all of them take is told.
    """
    clips, note = prompt_clips(corpus, num_prompts)
    if note:
        progress.log(f"note: {note}")
    captions = [clip.caption for clip in clips]
    generation_options = {**backbone.options, **options.explicit_options}
    seeds = [seed + number for number in range(len(captions))]
    items = [[caption, own] for caption, own in zip(captions, seeds, strict=True)]
    pieces = Pieces(captions, seeds, items, seconds, generation_options)

    def tell_rest(count: int, took: float) -> None:
        if took >= LONG_SECONDS:
            rest = took / count * (len(captions) + more_pieces)
            progress.log(
                f"{format_counted(count, 'piece')} took {format_duration(took)}; the same without the adapter and "
                f"continuations: about {format_duration(rest)} more, and then all of it is measured"
            )

    def generate(title: str) -> list[GeneratedClip]:
        made = tell_rest if title == WITH_ADAPTER else None
        targets = pieces.generate(backbone, kept, f"generated {title}", progress, f"generating {title}", made)
        decoded = counted(targets, len(targets), progress, f"decoding what was generated {title}")
        return [GeneratedClip(row, backbone.decode(row).cut(0, seconds)) for row in decoded]

    def generate_base() -> list[GeneratedClip]:
        with injection.disabled(peft):
            return generate("without adapter")

    adapted = generate(WITH_ADAPTER)
    base = (base_results or BaseResults()).get("samples", generate_base)
    pairs = [SamplePair(*parts) for parts in zip(clips, seeds, base, adapted, strict=True)]
    rows: list[dict[str, Any]] = []
    trained = {clip.caption for clip in corpus.train}  # an export tells no other prompts: they may name people
    with new_folder(run.samples) as folder:
        for number, pair in enumerate(counted(pairs, len(pairs), progress, "writing samples"), start=1):
            clip = pair.clip
            for role, piece in (("before", pair.base), ("after", pair.adapted)):
                adapters = [AdapterChoice(run.adapter)] if role == "after" else []
                name = f"{number:02d}-{role}.flac"
                tags = provenance_tags(
                    backbone, adapters, clip.caption, pair.seed, generation_options, BeatsAndChords()
                )
                audio.write(folder / name, piece.audio, tags)
                rows.append(_manifest_row(name, role, clip, piece.audio, pair.seed))
            real = corpus.read_clip(clip).cut(0, seconds)
            name = f"{number:02d}-real.flac"
            audio.write(folder / name, real, {"title": clip.recording, "licence": clip.licence})
            rows.append(_manifest_row(name, "real", clip, real, None))
        rows = [row | {"caption_in_training": row["prompt"] in trained} for row in rows]
        write_jsonl(folder / "manifest.jsonl", rows)
    return pairs


def _manifest_row(name: str, role: str, clip: Clip, piece: Audio, seed: int | None) -> dict[str, Any]:
    return {
        "file": name,
        "role": role,
        "prompt": clip.caption,
        "seed": seed,
        "recording": clip.recording,
        "seconds": round(piece.seconds, 3),
        "adapter": role == "after",
    }


def adapter_effect(pairs: Sequence[SamplePair]) -> dict[str, Any]:
    """Difference that the adapter makes at the same seed: in tokens or latents, and log-mel distance in dB.

    Both are exactly 0 for an adapter without effect.
    """
    tokens = all(np.issubdtype(pair.base.targets.dtype, np.integer) for pair in pairs)
    key, change = ("token_change_rate", token_change_rate) if tokens else ("latent_change", latent_change)
    changes = [change(pair.base.targets, pair.adapted.targets) for pair in pairs]
    distances = [log_mel_distance_db(pair.base.audio, pair.adapted.audio) for pair in pairs]
    return {
        key: float(np.mean(changes)),
        "log_mel_distance_db": float(np.mean(distances)),
        "per_prompt": [
            {"prompt": pair.prompt, key: value, "log_mel_distance_db": distance}
            for pair, value, distance in zip(pairs, changes, distances, strict=True)
        ],
        "note": "adapter switched off and on at the same prompt and seed; 0 means that it changes nothing",
    }


def token_change_rate(base: np.ndarray, adapted: np.ndarray) -> float:
    """Fraction of differing tokens in two arrays [K, T], over the frames that both have; 0 to 1."""
    frames = min(base.shape[1], adapted.shape[1])
    return float(np.mean(base[:, :frames] != adapted[:, :frames])) if frames else 0.0


def latent_change(base: np.ndarray, adapted: np.ndarray) -> float:
    """RMS difference of two latents [C, T, F] over the frames that both have, divided by the RMS of the first.

    0 for equal latents, about 1.4 for independent ones.
    """
    frames = min(base.shape[1], adapted.shape[1])
    first, second = (latent[:, :frames].astype(np.float64) for latent in (base, adapted))
    rms = np.sqrt(np.mean(np.square(first))) if frames else 0.0
    return float(np.sqrt(np.mean(np.square(second - first))) / rms) if rms else 0.0


def log_mel_distance_db(one: Audio, other: Audio) -> float:
    """Mean absolute difference of two log-mel spectrograms in dB, over the time that both have.

    64 bands, levels clipped at 80 dB below the louder clip's peak; 0 for equal audio, at most 80.
    """
    rate_hz = min(one.rate_hz, other.rate_hz)
    frames = min(one.resample(rate_hz).frames, other.resample(rate_hz).frames)
    powers = [_mel_power(a.mono().resample(rate_hz).samples[0, :frames], rate_hz) for a in (one, other)]
    peak = max(float(p.max(initial=0.0)) for p in powers)
    if peak <= 0:
        return 0.0
    floor = peak * 10 ** (-DYNAMIC_RANGE_DB / 10)
    first, second = (10 * np.log10(np.maximum(p, floor)) for p in powers)
    return float(np.mean(np.abs(first - second)))


def _mel_power(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    librosa = load_librosa()

    return librosa.feature.melspectrogram(
        y=samples.astype(np.float32), sr=rate_hz, n_fft=1024, hop_length=512, n_mels=NUM_MEL_BANDS
    )
