"""Instruments of a recording by its sound, with CLAP, where its weights are on this machine.

Each usual name is put into a sentence; the sentence that is nearest to the sound names the instrument. How often
that is right was not measured, as the weights do not come with talim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from talim.audio.read import read_middle
from talim.metrics.clap import ClapModel
from talim.traditions.instrument_names import list_instruments

SENTENCE = "This is a sound of {}."  # as in CLAP's own zero-shot classification
TEMPERATURE = 0.07  # of the softmax over cosines, where CLAP's training began
SECONDS = 30.0  # in the middle of a recording
MIN_PROBABILITY = 0.5  # below it no instrument is suggested
NUM_NAMED = 3


@dataclass(frozen=True)
class InstrumentsByClap:
    """The likeliest instruments of a recording, each with its probability among all that are listed."""

    ranked: Sequence[tuple[str, float]]

    @property
    def names(self) -> str:
        """The likeliest one as a cell of metadata.csv; empty if it is not more likely than all others together."""
        name, probability = self.ranked[0]
        return name if probability >= MIN_PROBABILITY else ""

    @property
    def origin(self) -> str:
        """Where the name is from: "sound (CLAP): sitar 62%, sarod 20%, voice 5%"."""
        return "sound (CLAP): " + ", ".join(
            f"{name} {probability:.0%}" for name, probability in self.ranked[:NUM_NAMED]
        )


class InstrumentClassifier:
    """CLAP with the vectors of all instruments' sentences."""

    def __init__(self, clap: ClapModel, names: Sequence[str] = ()) -> None:
        self.clap, self.names = clap, list(names or (name for name, _ in list_instruments()))
        self.vectors = np.stack([clap.embed_text(SENTENCE.format(name)) for name in self.names])

    def __call__(self, file: Path) -> InstrumentsByClap:
        """The instruments of the middle of a recording, the likeliest first. AudioError if it cannot be read."""
        sound = self.clap.audio_embedding(read_middle(file, SECONDS)).mean(axis=0)
        cosines = self.vectors @ (sound / max(float(np.linalg.norm(sound)), 1e-12))
        probabilities = softmax(cosines / TEMPERATURE)
        order = np.argsort(-probabilities, kind="stable")
        return InstrumentsByClap([(self.names[n], float(probabilities[n])) for n in order])
