"""Loss of nano-musicgen on music that it was not trained on, compared with trivial predictors.

    python -m research.acceptance.base_loss encode --out TOKENS [--real FOLDER] [--extra 160]
    python -m research.acceptance.base_loss measure --tokens TOKENS [--adapt] --out base-loss.json

`encode` synthesises four corpora (two traditions, solo and ensemble, 24 pieces) and encodes them, and with `--real`
the recordings in that folder. `measure` gives the loss per corpus and codebook in nats: of the base; uniform; of the
unigram frequencies of the training side; of the unigram mixed with "the same token again"; and with `--adapt` after
fine-tuning all layers (`full@all`), with the number of steps chosen on validation recordings.

Gates: the base at least 0.3 nats below the unigram; `full@all` at least 0.3 nats below the last-token predictor.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from research.pretraining.nano_musicgen import plain_decoder
from research.pretraining.nano_musicgen.plain_decoder import PlainDecoder

GATE_NATS = 0.3
CODES = 1024
STUDY = {
    f"{tradition}-{texture}": (tradition, players)
    for tradition in ("hindustani", "makam")
    for texture, players in (("solo", 1), ("ensemble", 3))
}
REAL_SECONDS, WINDOW_FRAMES = 60.0, 1000  # of each recording; of one window of it
RATES, STEPS, VALIDATE_EVERY = (2e-4,), 160, 40
BATCH, CROP_FRAMES = 6, 400
EXTRA_SEEDS = 500_000  # further performances to train on, apart from all others


@dataclass(frozen=True)
class Pieces:
    """Codes [K, T] of clips, their captions, recordings and side ("train", "validation", "test")."""

    codes: list[np.ndarray]
    captions: list[str]
    recordings: list[str]
    sides: list[str]

    def on_sides(self, *sides: str) -> list[int]:
        """Indices of the clips of these sides."""
        return [n for n, side in enumerate(self.sides) if side in sides]


def write(file: Path, pieces: Pieces) -> None:
    """Store as npz without pickled objects."""
    lengths = np.array([c.shape[1] for c in pieces.codes])
    texts = {n: np.array(getattr(pieces, n)) for n in ("captions", "recordings", "sides")}
    np.savez_compressed(file, codes=np.concatenate(pieces.codes, 1).astype(np.int16), lengths=lengths, **texts)


def read(file: Path) -> Pieces:
    """Read what `write` wrote."""
    with np.load(file) as stored:
        codes = np.split(stored["codes"], np.cumsum(stored["lengths"])[:-1], axis=1)
        return Pieces(codes, *([str(x) for x in stored[n]] for n in ("captions", "recordings", "sides")))


def encode_study(backbone: Any, out: Path, work: Path) -> None:
    """Encode the four corpora, with their split."""
    from talim.experiments import study_corpora
    from talim.experiments.study_file import CorpusSpec, SyntheticCorpusSpec
    from talim.progress import Progress

    for name, (tradition, players) in STUDY.items():
        synthetic = SyntheticCorpusSpec(tradition=tradition, ensemble_size=players, count=24, seconds=20)
        source = CorpusSpec(synthesize=synthetic, clip_seconds=20, rate_hz=16000)
        corpus = study_corpora.build_corpus(source, name, work, work, Progress())
        held_out = {clip.recording for clip in corpus.held_out}
        training = sorted({clip.recording for clip in (*corpus.train, *corpus.validation)})
        validation = set(training[::5])
        clips = [*corpus.train, *corpus.validation, *corpus.held_out]
        sides = [
            "test" if c.recording in held_out else "validation" if c.recording in validation else "train" for c in clips
        ]
        codes = [backbone.encode(corpus.read_clip(c)) for c in clips]
        write(out / f"{name}.npz", Pieces(codes, [c.caption for c in clips], [c.recording for c in clips], sides))


def encode_extra(backbone: Any, out: Path, count: int) -> None:
    """Encode further performances in the styles of the four corpora, for fine-tuning on more than a corpus holds."""
    from talim.audio import Audio
    from talim.synthesis.arrangement import PerformanceRequest
    from talim.synthesis.performer import perform

    (out / "extra").mkdir(parents=True, exist_ok=True)
    for name, (tradition, players) in STUDY.items():
        if count:
            performances = [
                perform(EXTRA_SEEDS + n, tradition, 20.0, PerformanceRequest(ensemble=players)) for n in range(count)
            ]
            codes = [backbone.encode(Audio(piece.samples[None], piece.rate_hz)) for piece in performances]
            names = [f"extra-{n}" for n in range(count)]
            write(
                out / "extra" / f"{name}.npz",
                Pieces(codes, [p.caption for p in performances], names, ["train"] * count),
            )


def encode_real(backbone: Any, out: Path, folder: Path) -> None:
    """Encode the first minute of each real recording, in windows; all are test recordings."""
    from talim import audio

    rows = list(csv.DictReader((folder / "metadata.csv").open(encoding="utf-8")))
    codes, captions, recordings = [], [], []
    for row in rows:
        whole = audio.read(folder / row["file_name"]).mono().resample(16000)
        encoded = backbone.encode(whole.cut(0.0, min(REAL_SECONDS, whole.seconds)))
        described = [
            row["instruments"].replace("|", " and "),
            f"{row['mode_kind']} {row['mode']}" if row["mode"] else "",
        ]
        for start in range(0, encoded.shape[1] - 100, WINDOW_FRAMES):
            codes.append(encoded[:, start : start + WINDOW_FRAMES])
            captions.append(", ".join(part for part in described if part))
            recordings.append(row["file_name"])
    write(out / "real.npz", Pieces(codes, captions, recordings, ["test"] * len(codes)))


# Trivial predictors


def frequencies(codes: Sequence[np.ndarray], smooth: float) -> np.ndarray:
    """Relative frequency of each code per codebook, [K, CODES], with `smooth` added to every count."""
    joined = np.concatenate(codes, 1)
    counts = np.stack([np.bincount(row, minlength=CODES) for row in joined]) + smooth
    return counts / counts.sum(1, keepdims=True)


def unigram(train: Sequence[np.ndarray], test: Sequence[np.ndarray], smooth: float) -> np.ndarray:
    """Cross-entropy per codebook [K] in nats of the training side's frequencies on the test side."""
    frequency = frequencies(train, smooth)
    return np.array([-np.log(frequency[k][np.concatenate([c[k] for c in test])]).mean() for k in range(len(frequency))])


def last_token(train: Sequence[np.ndarray], test: Sequence[np.ndarray], smooth: float) -> np.ndarray:
    """Cross-entropy per codebook [K] of "the same token again" mixed with the unigram; fitted on the training side."""
    frequency, grid = frequencies(train, smooth), np.linspace(0.01, 0.95, 95)

    def nats(codes: Sequence[np.ndarray], k: int, weight: float) -> float:
        total = [-np.log((1 - weight) * frequency[k][c[k, :1]]) for c in codes]
        total += [-np.log((1 - weight) * frequency[k][c[k, 1:]] + weight * (c[k, 1:] == c[k, :-1])) for c in codes]
        return float(np.concatenate(total).mean())

    weights = [min(grid, key=lambda w, k=k: nats(train, k, w)) for k in range(len(frequency))]
    return np.array([nats(test, k, w) for k, w in enumerate(weights)])


def predictors(train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """All three; the unigram's smoothing is the best one on the test side, which favours the unigram."""
    smooth = min((0.01, 0.03, 0.1, 0.3, 1.0), key=lambda s: unigram(train, test, s).mean())
    return {
        "uniform": [float(np.log(CODES))] * len(train[0]),
        "unigram": unigram(train, test, smooth).tolist(),
        "last_token": last_token(train, test, smooth).tolist(),
    }


# The base


class BaseModel:
    """A decoder with its text encoder."""

    def __init__(self, model: PlainDecoder, text: Any, device: torch.device) -> None:
        self.model, self.text, self.device = model.to(device).eval(), text, device
        self.special = model.shape.codes

    def encode_captions(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Text states [B, L, D] and mask [B, L]."""
        from talim.backbones.nano import musicgen

        tokens = musicgen.ByteTokenizer()(list(captions))
        ids, mask = tokens["input_ids"].to(self.device), tokens["attention_mask"].to(self.device)
        with torch.no_grad():
            return self.text(ids, mask).last_hidden_state, mask.bool()

    def loss(self, codes: Sequence[np.ndarray], captions: Sequence[str], conditioned: Tensor | None = None) -> Tensor:
        """Nats per codebook [K] of clips of any length; unconditioned where `conditioned` [B] is False."""
        frames = max(c.shape[1] for c in codes)
        batch = torch.zeros(len(codes), codes[0].shape[0], frames, dtype=torch.long)
        weight = torch.zeros(len(codes), frames)
        for row, clip in enumerate(codes):
            batch[row, :, : clip.shape[1]] = torch.from_numpy(clip.astype(np.int64))
            weight[row, : clip.shape[1]] = 1
        states, mask = self.encode_captions(captions)
        if conditioned is not None:
            mask = mask & conditioned.to(self.device)[:, None]
        # beyond the end of a clip the decoder reads the special token, as it does for the clip alone
        batch, weight = batch.to(self.device), weight.to(self.device)
        inputs = batch.masked_fill(weight[:, None] == 0, self.special)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            hidden, _ = self.model(plain_decoder.delayed(inputs, self.special), states, mask)
            return plain_decoder.losses(self.model, hidden, batch, weight)

    @torch.no_grad()
    def measure_loss(self, pieces: Pieces, rows: Sequence[int], conditioned: bool = True) -> np.ndarray:
        """Nats per codebook [K] over all frames of clips."""
        total, count = np.zeros(pieces.codes[0].shape[0]), 0
        for first in range(0, len(rows), 4):
            part = rows[first : first + 4]
            rows_conditioned = torch.full((len(part),), conditioned)
            nats = self.loss([pieces.codes[n] for n in part], [pieces.captions[n] for n in part], rows_conditioned)
            frames = sum(pieces.codes[n].shape[1] for n in part)
            total, count = total + nats.cpu().double().numpy() * frames, count + frames
        return total / count

    def layers(self) -> list[Tensor]:
        """The weights that `full@all` trains."""
        return [w for n, w in self.model.named_parameters() if ".layers." in n]


def fine_tune(base: BaseModel, pieces: Pieces, extra: Pieces | None, rate: float, steps: int) -> dict[str, Any]:
    """Fine-tune all layers with a half-cosine schedule from `rate` to zero; results of the best validation loss.

    `extra` are further performances to train on.
    """
    adapted = BaseModel(copy.deepcopy(base.model), base.text, base.device)
    for weight in adapted.model.parameters():
        weight.requires_grad_(False)
    weights = [w.requires_grad_(True) for w in adapted.layers()]
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=0.05, betas=(0.9, 0.98))
    validation, test = pieces.on_sides("validation"), pieces.on_sides("test")
    pool = [(pieces.codes[n], pieces.captions[n]) for n in pieces.on_sides("train")]
    pool += list(zip(extra.codes, extra.captions, strict=True)) if extra else []
    rng, best, curve = np.random.default_rng(0), (np.inf, 0, np.zeros(1)), []
    for step in range(steps + 1):
        if step % VALIDATE_EVERY == 0 or step == steps:
            validation_loss = float(adapted.measure_loss(pieces, validation).mean())
            curve.append([step, round(validation_loss, 4)])
            if validation_loss < best[0]:
                best = (validation_loss, step, adapted.measure_loss(pieces, test))
        chosen = [pool[n] for n in rng.choice(len(pool), BATCH)]
        starts = [int(rng.integers(max(1, codes.shape[1] - CROP_FRAMES))) for codes, _ in chosen]
        crops = [codes[:, s : s + CROP_FRAMES] for (codes, _), s in zip(chosen, starts, strict=True)]
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * 0.5 * (1 + np.cos(np.pi * step / steps))
        conditioned = torch.from_numpy(rng.random(BATCH) > 0.1)
        nats = adapted.loss(crops, [caption for _, caption in chosen], conditioned)
        optimiser.zero_grad(set_to_none=True)
        nats.mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    result = {"rate": rate, "steps": best[1], "pieces": len(pool), "validation": best[0]}
    return result | {"parts": best[2].tolist(), "curve": curve}


def measure(base: BaseModel, pieces: Pieces, extra: Pieces | None, adapt: bool, steps: int) -> dict[str, Any]:
    """All losses on one corpus, and their differences."""
    test, train = pieces.on_sides("test"), pieces.on_sides("train", "validation")
    codes = [pieces.codes[n] for n in test]
    result: dict[str, Any] = {"clips": len(test), "base": base.measure_loss(pieces, test).tolist()}
    result["base_unconditioned"] = base.measure_loss(pieces, test, conditioned=False).tolist()
    if train:
        result |= predictors([pieces.codes[n] for n in train], codes)
    else:
        result |= leave_one_out(pieces)
    if adapt and train:
        attempts = [fine_tune(base, pieces, extra, rate, steps) for rate in RATES]
        result["adapted"] = min(attempts, key=lambda one: one["validation"])
        result["all_adapted"] = [{n: one[n] for n in ("rate", "steps", "validation", "curve")} for one in attempts]
    means = {n: float(np.mean(v)) for n, v in result.items() if isinstance(v, list) and n != "all_adapted"}
    result["below_unigram"] = means["unigram"] - means["base"]
    result["passed_base"] = result["below_unigram"] >= GATE_NATS
    if "adapted" in result:
        result["adapted_below_last_token"] = means["last_token"] - float(np.mean(result["adapted"]["parts"]))
        result["passed_adapted"] = result["adapted_below_last_token"] >= GATE_NATS
    return result | {"means": means}


def leave_one_out(pieces: Pieces) -> dict[str, list[float]]:
    """Predictors of each recording from all others, and the unigram fitted to the recordings themselves."""
    rows, sizes = [], []
    for name in sorted(set(pieces.recordings)):
        own = [c for c, r in zip(pieces.codes, pieces.recordings, strict=True) if r == name]
        others = [c for c, r in zip(pieces.codes, pieces.recordings, strict=True) if r != name]
        rows.append(predictors(others, own))
        sizes.append(sum(c.shape[1] for c in own))
    result = {n: np.average([row[n] for row in rows], axis=0, weights=sizes).tolist() for n in rows[0]}
    return result | {"unigram_of_same_recordings": unigram(pieces.codes, pieces.codes, 1e-9).tolist()}


def load_checkpoint(folder: Path, device: torch.device) -> BaseModel:
    """The base of a checkpoint's folder."""
    from safetensors.torch import load_file
    from transformers import T5EncoderModel

    from talim.backbones.nano import musicgen

    weights = load_file(folder / "model.safetensors")
    prefix = "text_encoder."
    text: Any = T5EncoderModel(musicgen.text_config(plain_decoder.DecoderShape.of(folder).text_width, 2))
    named = {n.removeprefix(prefix): w.float() for n, w in weights.items() if n.startswith(prefix)}
    missing, unexpected = text.load_state_dict(named, strict=False)
    assert not unexpected, unexpected
    assert all("embed_tokens" in n for n in missing), missing
    text.tie_weights()
    return BaseModel(plain_decoder.restore(folder), text.to(device).eval().requires_grad_(False), device)


def load_training(weights: Path, text: Path, device: torch.device) -> BaseModel:
    """A base in training: the weights of `train_packed_decoder`, and the text encoder's folder."""
    from safetensors.torch import load_file

    from research.pretraining.nano_musicgen import train_packed_decoder

    model = PlainDecoder(plain_decoder.DecoderShape())
    model.load_state_dict({n: w.float() for n, w in load_file(weights).items()})
    return BaseModel(model, train_packed_decoder.load_text_encoder(text, device), device)


def report(base: BaseModel, tokens: Path, adapt: bool, steps: int) -> dict[str, Any]:
    """Measure all corpora of a folder."""
    result: dict[str, Any] = {}
    for file in sorted(tokens.glob("*.npz")):
        began = time.time()
        further = tokens / "extra" / file.name
        extra = read(further) if further.is_file() else None
        result[file.stem] = measure(base, read(file), extra, adapt, steps)
        short = {n: round(v, 3) for n, v in result[file.stem]["means"].items()}
        short |= {n: v for n, v in result[file.stem].items() if n.startswith("passed") or "below" in n}
        if "adapted" in result[file.stem]:
            short["adapted"] = round(float(np.mean(result[file.stem]["adapted"]["parts"])), 3)
        print(file.stem, json.dumps(short), round(time.time() - began, 1), "s", flush=True)
    return result


def main() -> None:
    """Encode or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("encode", "measure"))
    parser.add_argument(
        "--base",
        type=Path,
        help="a checkpoint's folder",
        default=Path("src/talim/backbones/nano/weights/nano-musicgen"),
    )
    parser.add_argument("--weights", type=Path, help="the decoder's weights alone, with --text, instead of --base")
    parser.add_argument("--text", type=Path, help="the folder of the text encoder")
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--extra", type=int, default=0, help="further performances of each corpus to train on")
    parser.add_argument("--adapt", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.what == "encode":
        from talim.backbones.load import load

        options.out.mkdir(parents=True, exist_ok=True)
        backbone = load(str(options.base))
        if options.real:
            encode_real(backbone, options.out, options.real)
        encode_study(backbone, options.out, options.work or options.out / "work")
        encode_extra(backbone, options.out, options.extra)
    else:
        device = torch.device(options.device)
        base = (
            load_training(options.weights, options.text, device)
            if options.weights
            else load_checkpoint(options.base, device)
        )
        result = report(base, options.tokens, options.adapt, options.steps)
        options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
