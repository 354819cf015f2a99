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

from talim.backbones.mustango.batch import music_tokens
from talim.backbones.nano import models, mustango
from talim.music import Beats, Chords, Music
from talim.traditions import score

SECONDS = mustango.WINDOW_SECONDS
BATCH = 8
NOTHING_SAID = 0.1  # of the pieces lose words, beats and chords together: guidance's null
UNSAID = 0.3  # of the others lose, each by itself, the tempo, the key, the beats, the chords
# Of the pieces of a drill; the others are told their beats and chords, and no tempo and key.
WORDS_ALONE = 0.3
LOWEST, NOTES = 51, 30  # of the western melodies, as MIDI counts: E flat 3 to G sharp 5
ROOTS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def music_of(facts: dict[str, Any], seconds: float) -> Music:
    """The beats and chords of a performance in the western style."""
    beats = Beats.grid(facts["tempo_bpm"], facts["beats_per_bar"], seconds)
    return Music(beats, chords_of(facts, seconds))


def chords_of(facts: dict[str, Any], seconds: float) -> Chords:
    """One chord a bar; none where nobody plays them."""
    row = facts["progression"]
    if not row:
        return Chords()
    bar = facts["beats_per_bar"] * 60 / facts["tempo_bpm"]
    times, names = [], []
    for number in range(int(np.ceil(seconds / bar - 1e-9))):
        root, minor = score.triad(facts["scale"], row[number % len(row)])
        times.append(round(number * bar, 4))
        names.append(ROOTS[(facts["tonic_class"] + root) % 12] + ("m" if minor else ""))
    return Chords(tuple(times), tuple(names))


def without(caption: str, tempo: bool, key: bool) -> str:
    """The caption without its tempo or its key."""
    parts = caption.split(", ")
    if tempo:
        parts = [part for part in parts if not re.fullmatch(r"\d+ bpm", part)]
    if key:
        parts = [part for part in parts if not re.fullmatch(r"\S+( sharp| flat)? (major|minor)", part)]
    return ", ".join(parts)


def draw(
    latents: np.ndarray, known: list[dict[str, Any]], step: int, seed: int, drill: bool = False
) -> tuple[Tensor, list[dict[str, Any]], list[str], list[Music], list[bool]]:
    """Latents [BATCH, C, T, F], facts, words, beats and chords, and which have nothing said; by (seed, step) alone."""
    rng = np.random.default_rng([seed, step])
    # a drill takes pieces with chords alone: they are harder to read than beats, and half of the pieces have none
    pool = [n for n, facts in enumerate(known) if facts["progression"] or not drill]
    chosen = rng.choice(pool, size=BATCH, replace=False)
    words, music = [], []
    for index in chosen:
        facts = known[index]
        tempo, key, beats, chords = rng.random(4) < UNSAID
        if drill:
            beats = chords = rng.random() < WORDS_ALONE
            tempo = key = not beats
        words.append(without(facts["caption"], tempo, key))
        full = music_of(facts, SECONDS)
        music.append(Music(Beats() if beats else full.beats, Chords() if chords else full.chords))
    nothing = (rng.random(BATCH) < NOTHING_SAID).tolist()
    clean = torch.from_numpy(latents[chosen].astype(np.float32))
    return clean, [known[index] for index in chosen], words, music, nothing


def conditions(model: Any, words: list[str], music: list[Music], nothing: list[bool]) -> list[Any]:
    """Text states and mask, beats and chords of a batch; where nothing is said, the model's null."""
    told = ["" if gone else said for said, gone in zip(words, nothing, strict=True)]
    tokens = models.ByteTokenizer()(told)
    with torch.no_grad():
        states = model.words(tokens["input_ids"], tokens["attention_mask"])
    played = [Music() if gone else each for each, gone in zip(music, nothing, strict=True)]
    return [states, tokens["attention_mask"].bool(), *music_tokens(played)]


def answers(known: list[dict[str, Any]], columns: int) -> tuple[Tensor, Tensor]:
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
        right[row, :, [16 + (tonic + cents // 100) % 12 for cents in score.SCALES_CENTS[facts["scale"]]]] = 1
        right[row, :, 28 + score.TEMPI_BPM.index(facts["tempo_bpm"])] = 1
        if not facts["progression"]:
            asked[row, :, 4:16] = 0
        for column, number in enumerate((times // bar).astype(int) if facts["progression"] else ()):
            root, minor = score.triad(facts["scale"], facts["progression"][number % 4])
            right[row, column, [4 + (tonic + root + up) % 12 for up in (0, 3 if minor else 4, 7)]] = 1
    return torch.from_numpy(right), torch.from_numpy(asked)


def melody_answers(known: list[dict[str, Any]], columns: int) -> Tensor:
    """Which of NOTES the melody plays in the middle of each column, int64 [B, columns].

    Facts have `melody`, rows of a note's onset in seconds and its number as MIDI counts.
    """
    times = (np.arange(columns) + 0.5) * SECONDS / columns
    rows = []
    for facts in known:
        onsets, notes = np.array(facts["melody"]).T
        rows.append(notes[np.searchsorted(onsets, times, side="right") - 1].astype(np.int64) - LOWEST)
    return torch.from_numpy(np.stack(rows))


class Halt(Exception):  # noqa: N818 (it is no error)
    """Nothing after this is needed."""


class Reader(nn.Module):
    """Answers from the states [B, D, T, F] before the U-Net's last level."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        width = unet.config.channels[1]
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 40))
        bands = mustango.MEL.n_mel_channels // mustango.VAE_STEP
        self.read_melody = nn.Sequential(
            nn.LayerNorm([bands, width]), nn.Flatten(2), nn.Linear(bands * width, NOTES)
        )
        self.states: Tensor | None = None
        self.alone = False
        unet.up_blocks[-2].register_forward_hook(self.listen)

    def listen(self, _block: nn.Module, _inputs: Any, output: Tensor) -> None:
        """Keep what the level gives; in a drill go no further."""
        self.states = output
        if self.alone:
            raise Halt

    def errors(self, known: list[dict[str, Any]]) -> Tensor:
        """Errors [4] of the last forward: places (squared), chord, scale and tempo (in nats).

        A guess gives 0.5, 0.56, 0.68 and 2.48.
        """
        states = self._heard().mean(2)
        right, asked = answers(known, states.shape[1])
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

    def melody_errors(self, known: list[dict[str, Any]]) -> Tensor:
        """Nats [B] by which each piece's melody is missed in the last forward; a guess gives 3.4 at most."""
        said = self.read_melody(self._heard())
        right = melody_answers(known, said.shape[1])
        return F.cross_entropy(said.transpose(1, 2), right, reduction="none").mean(1)

    def _heard(self) -> Tensor:
        """States [B, T, F, D] of the last forward."""
        assert self.states is not None
        return self.states.float().permute(0, 2, 3, 1)
