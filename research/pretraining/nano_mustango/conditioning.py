"""Conditioning of nano-mustango in pretraining (text, beats, chords, with dropout), and a probe of its use."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import western_style
from talim.backbones.mustango.batch import beat_chord_tokens
from talim.backbones.nano import musicgen, mustango
from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack
from talim.synthesis.demo_style import TEMPI_BPM

SECONDS = mustango.WINDOW_SECONDS
CONDITION_DROPOUT = 0.1  # of the pieces: text, beats and chords together, for guidance
ATTRIBUTE_DROPOUT = 0.3  # of each of tempo and key in the text, beats, and chords
TEXT_ONLY_PROBABILITY = 0.3  # in the auxiliary phase; otherwise beats and chords, and no tempo and key in the text
ROOTS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def beats_chords_of(facts: dict[str, Any], seconds: float) -> BeatsAndChords:
    """The beats and chords of a performance in the western style."""
    beats = BeatGrid.grid(facts["tempo_bpm"], facts["beats_per_bar"], seconds)
    return BeatsAndChords(beats, chords_of(facts, seconds))


def chords_of(facts: dict[str, Any], seconds: float) -> ChordTrack:
    """One chord per bar; none if the piece has no chords."""
    progression = facts["progression"]
    if not progression:
        return ChordTrack()
    bar = facts["beats_per_bar"] * 60 / facts["tempo_bpm"]
    times, names = [], []
    for number in range(int(np.ceil(seconds / bar - 1e-9))):
        root, minor = western_style.triad(facts["scale"], progression[number % len(progression)])
        times.append(round(number * bar, 4))
        names.append(ROOTS[(facts["tonic_class"] + root) % 12] + ("m" if minor else ""))
    return ChordTrack(tuple(times), tuple(names))


def without_attribute(caption: str, tempo: bool, key: bool) -> str:
    """The caption without its tempo or its key."""
    parts = caption.split(", ")
    if tempo:
        parts = [part for part in parts if not re.fullmatch(r"\d+ bpm", part)]
    if key:
        parts = [part for part in parts if not re.fullmatch(r"\S+( sharp| flat)? (major|minor)", part)]
    return ", ".join(parts)


def draw(
    latents: np.ndarray,
    known: list[dict[str, Any]],
    step: int,
    seed: int,
    auxiliary: bool = False,
    *,
    batch_size: int = 8,
    seconds: float = SECONDS,
) -> tuple[Tensor, list[dict[str, Any]], list[str], list[BeatsAndChords], list[bool]]:
    """Latents [B, C, T, F], facts, captions, beats and chords, and which are unconditional; by (seed, step) alone.

    `auxiliary`: pieces with chords only, as chords are harder to recover than beats and half of the pieces have none.
    """
    rng = np.random.default_rng([seed, step])
    pool = [n for n, facts in enumerate(known) if facts["progression"] or not auxiliary]
    indices = rng.choice(pool, size=batch_size, replace=False)
    captions, music = [], []
    for index in indices:
        facts = known[index]
        tempo, key, beats, chords = rng.random(4) < ATTRIBUTE_DROPOUT
        if auxiliary:
            beats = chords = rng.random() < TEXT_ONLY_PROBABILITY
            tempo = key = not beats
        captions.append(without_attribute(facts["caption"], tempo, key))
        full = beats_chords_of(facts, seconds)
        music.append(BeatsAndChords(BeatGrid() if beats else full.beats, ChordTrack() if chords else full.chords))
    dropped = (rng.random(batch_size) < CONDITION_DROPOUT).tolist()
    clean = torch.from_numpy(latents[indices].astype(np.float32))
    return clean, [known[index] for index in indices], captions, music, dropped


def conditions(model: Any, captions: list[str], music: list[BeatsAndChords], dropped: list[bool]) -> list[Any]:
    """Text states and mask, beats and chords of a batch; the null condition where `dropped`."""
    texts = ["" if drop else caption for caption, drop in zip(captions, dropped, strict=True)]
    tokens = musicgen.ByteTokenizer()(texts)
    with torch.no_grad():
        states = model.encode_text(tokens["input_ids"], tokens["attention_mask"])
    given = [BeatsAndChords() if drop else each for each, drop in zip(music, dropped, strict=True)]
    return [states, tokens["attention_mask"].bool(), *beat_chord_tokens(given)]


def probe_targets(known: list[dict[str, Any]], columns: int, seconds: float = SECONDS) -> tuple[Tensor, Tensor]:
    """The probe's targets of each latent column [B, columns, 40], and a mask of those that are defined [B, 1, 40].

    Sine and cosine of the phase in beat and bar (4), pitch classes of chord (12) and scale (12), tempo class (12).
    """
    times = (np.arange(columns) + 0.5) * seconds / columns
    targets, mask = np.zeros((len(known), columns, 40), np.float32), np.ones((len(known), 1, 40), np.float32)
    for row, facts in enumerate(known):
        beat = 60 / facts["tempo_bpm"]
        bar = beat * facts["beats_per_bar"]
        for index, span in ((0, beat), (2, bar)):
            targets[row, :, index] = np.sin(2 * np.pi * times / span)
            targets[row, :, index + 1] = np.cos(2 * np.pi * times / span)
        tonic = facts["tonic_class"]
        targets[row, :, [16 + (tonic + cents // 100) % 12 for cents in western_style.SCALES_CENTS[facts["scale"]]]] = 1
        targets[row, :, 28 + TEMPI_BPM.index(facts["tempo_bpm"])] = 1
        if not facts["progression"]:
            mask[row, :, 4:16] = 0
        for column, number in enumerate((times // bar).astype(int) if facts["progression"] else ()):
            root, minor = western_style.triad(facts["scale"], facts["progression"][number % 4])
            targets[row, column, [4 + (tonic + root + up) % 12 for up in (0, 3 if minor else 4, 7)]] = 1
    return torch.from_numpy(targets), torch.from_numpy(mask)


class StopForward(Exception):  # noqa: N818 (control flow, not an error)
    """Ends a forward pass whose remaining layers are not needed."""


class ConditionProbe(nn.Module):
    """Predicts `probe_targets` from the states [B, D, T, F] before the U-Net's last level."""

    def __init__(self, unet: Any, seconds: float = SECONDS) -> None:
        super().__init__()
        width = unet.config.channels[1]
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 40))
        self.seconds = seconds
        self.states: Tensor | None = None
        self.alone = False  # stop the forward pass after the probed level
        unet.up_blocks[-2].register_forward_hook(self.store_states)

    def store_states(self, _block: nn.Module, _inputs: Any, output: Tensor) -> None:
        """Forward hook: keep the output of the level."""
        self.states = output
        if self.alone:
            raise StopForward

    def errors(self, known: list[dict[str, Any]]) -> Tensor:
        """Errors [4] of the last forward pass: phases (squared), chord, scale and tempo (in nats).

        A constant guess gives 0.5, 0.56, 0.68 and 2.48.
        """
        assert self.states is not None
        states, self.states = self.states.float().mean(3).transpose(1, 2), None
        targets, mask = probe_targets(known, states.shape[1], self.seconds)
        predicted = self.read(states)
        nats = F.binary_cross_entropy_with_logits(predicted, targets, reduction="none") * mask
        return torch.stack(
            [
                (predicted[..., :4] - targets[..., :4]).square().mean(),
                nats[..., 4:16].sum() / (mask[..., 4:16].sum() * targets.shape[1]).clamp(min=1),
                nats[..., 16:28].mean(),
                F.cross_entropy(predicted[..., 28:].flatten(0, 1), targets[..., 28:].argmax(-1).flatten()),
            ]
        )
