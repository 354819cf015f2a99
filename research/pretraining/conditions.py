"""What nano-mustango is told of a piece in its schooling, and what the reader beside it asks.

The performer's facts become words, beats and chords, each of which goes missing now and then.
"""

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
BATCH = 8
CONDITION_DROPOUT = 0.1  # of the pieces lose words, beats and chords together: guidance's null
ATTRIBUTE_DROPOUT = 0.3  # of the others lose, each by itself, the tempo, the key, the beats, the chords
# Of the pieces of a drill; the others are told their beats and chords, and no tempo and key.
TEXT_ONLY_PROBABILITY = 0.3
ROOTS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def beats_chords_of(facts: dict[str, Any], seconds: float) -> BeatsAndChords:
    """The beats and chords of a performance in the western style."""
    beats = BeatGrid.grid(facts["tempo_bpm"], facts["beats_per_bar"], seconds)
    return BeatsAndChords(beats, chords_of(facts, seconds))


def chords_of(facts: dict[str, Any], seconds: float) -> ChordTrack:
    """One chord a bar; none where nobody plays them."""
    row = facts["progression"]
    if not row:
        return ChordTrack()
    bar = facts["beats_per_bar"] * 60 / facts["tempo_bpm"]
    times, names = [], []
    for number in range(int(np.ceil(seconds / bar - 1e-9))):
        root, minor = western_style.triad(facts["scale"], row[number % len(row)])
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
    latents: np.ndarray, known: list[dict[str, Any]], step: int, seed: int, drill: bool = False
) -> tuple[Tensor, list[dict[str, Any]], list[str], list[BeatsAndChords], list[bool]]:
    """Latents [BATCH, C, T, F], facts, words, beats and chords, and which have nothing said; by (seed, step) alone."""
    rng = np.random.default_rng([seed, step])
    # a drill takes pieces with chords alone: they are harder to read than beats, and half of the pieces have none
    pool = [n for n, facts in enumerate(known) if facts["progression"] or not drill]
    chosen = rng.choice(pool, size=BATCH, replace=False)
    words, music = [], []
    for index in chosen:
        facts = known[index]
        tempo, key, beats, chords = rng.random(4) < ATTRIBUTE_DROPOUT
        if drill:
            beats = chords = rng.random() < TEXT_ONLY_PROBABILITY
            tempo = key = not beats
        words.append(without_attribute(facts["caption"], tempo, key))
        full = beats_chords_of(facts, SECONDS)
        music.append(
            BeatsAndChords(BeatGrid() if beats else full.beats, ChordTrack() if chords else full.chords)
        )
    nothing = (rng.random(BATCH) < CONDITION_DROPOUT).tolist()
    clean = torch.from_numpy(latents[chosen].astype(np.float32))
    return clean, [known[index] for index in chosen], words, music, nothing


def conditions(model: Any, words: list[str], music: list[BeatsAndChords], nothing: list[bool]) -> list[Any]:
    """Text states and mask, beats and chords of a batch; where nothing is said, the model's null."""
    told = ["" if gone else said for said, gone in zip(words, nothing, strict=True)]
    tokens = musicgen.ByteTokenizer()(told)
    with torch.no_grad():
        states = model.encode_text(tokens["input_ids"], tokens["attention_mask"])
    played = [BeatsAndChords() if gone else each for each, gone in zip(music, nothing, strict=True)]
    return [states, tokens["attention_mask"].bool(), *beat_chord_tokens(played)]


def probe_targets(known: list[dict[str, Any]], columns: int) -> tuple[Tensor, Tensor]:
    """What the reader should say of each column [B, columns, 40], and which of it has an answer.

    Sine and cosine of the place in the beat and in the bar, the pitch classes of the chord and of the scale, the tempo.
    """
    times = (np.arange(columns) + 0.5) * SECONDS / columns
    right, asked = np.zeros((len(known), columns, 40), np.float32), np.ones((len(known), 1, 40), np.float32)
    for row, facts in enumerate(known):
        beat = 60 / facts["tempo_bpm"]
        bar = beat * facts["beats_per_bar"]
        for place, span in ((0, beat), (2, bar)):
            right[row, :, place] = np.sin(2 * np.pi * times / span)
            right[row, :, place + 1] = np.cos(2 * np.pi * times / span)
        tonic = facts["tonic_class"]
        right[
            row, :, [16 + (tonic + cents // 100) % 12 for cents in western_style.SCALES_CENTS[facts["scale"]]]
        ] = 1
        right[row, :, 28 + TEMPI_BPM.index(facts["tempo_bpm"])] = 1
        if not facts["progression"]:
            asked[row, :, 4:16] = 0
        for column, number in enumerate((times // bar).astype(int) if facts["progression"] else ()):
            root, minor = western_style.triad(facts["scale"], facts["progression"][number % 4])
            right[row, column, [4 + (tonic + root + up) % 12 for up in (0, 3 if minor else 4, 7)]] = 1
    return torch.from_numpy(right), torch.from_numpy(asked)


class StopForward(Exception):  # noqa: N818 (it is no error)
    """Nothing after this is needed."""


class ConditionProbe(nn.Module):
    """Answers from the states [B, D, T, F] before the U-Net's last level."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        width = unet.config.channels[1]
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 40))
        self.states: Tensor | None = None
        self.alone = False
        unet.up_blocks[-2].register_forward_hook(self.listen)

    def listen(self, _block: nn.Module, _inputs: Any, output: Tensor) -> None:
        """Keep what the level gives; in a drill go no further."""
        self.states = output
        if self.alone:
            raise StopForward

    def errors(self, known: list[dict[str, Any]]) -> Tensor:
        """Errors [4] of the last forward: places (squared), chord, scale and tempo (in nats).

        A guess gives 0.5, 0.56, 0.68 and 2.48.
        """
        assert self.states is not None
        states, self.states = self.states.float().mean(3).transpose(1, 2), None
        right, asked = probe_targets(known, states.shape[1])
        said = self.read(states)
        nats = F.binary_cross_entropy_with_logits(said, right, reduction="none") * asked
        return torch.stack(
            [
                (said[..., :4] - right[..., :4]).square().mean(),
                nats[..., 4:16].sum() / (asked[..., 4:16].sum() * right.shape[1]).clamp(min=1),
                nats[..., 16:28].mean(),
                F.cross_entropy(said[..., 28:].flatten(0, 1), right[..., 28:].argmax(-1).flatten()),
            ]
        )
