"""The learning rate of a training for which none was given: by the design, the width of the base and the music."""

from __future__ import annotations

import math
from collections.abc import Sequence

from talim.design.expression import Design, Part
from talim.design.layouts import BANDS
from talim.design.musicgen_sites import Site

# Measured in nano-musicgen, batches of two clips of 20 s (docs/reports/learning-rates.md). The ids of a study's trials
# without a rate of their own do not tell it: if anything here changes, PROTOCOL goes up (experiments/study_file.py).
ADAPTER_RATE = 3e-3  # of adapters of every kind, size and site, in both miniatures, on MUCH_SECONDS of music
MUCH_SECONDS, LITTLE_SECONDS = 2400.0, 60.0  # in between by MUSIC_EXPONENT; in a U-Net less music takes the same rate
MUSIC_EXPONENT = 0.75  # between that of music which the base knows (1) and of other music (0.3)
DECODER_WIDTH, UNET_WIDTH = 256, 128  # of the miniatures' widest sites
# Layers of the base that are trained themselves take a tenth of the rate of adapters, the last ones alone a third.
LAYERS_FACTOR, LAST_LAYERS_FACTOR = 0.1, 1 / 3
# Not measured here: of language models, for LoRA and whole models alike (Schulman and Thinking Machines Lab, LoRA
# Without Regret, 2025). Their formula has 0.0025 at DECODER_WIDTH, for LoRA, and a tenth of it for all layers.
WIDTH_EXPONENT = 0.78


def default_learning_rate(design: Design, sites: Sequence[Site], seconds: float) -> float:
    """The peak rate for a design in a base with these sites, on so many seconds of training music; two digits.

    For every kind and size alike; less for a wider base and, in a decoder of tokens, for less music, as that is learnt
    by heart sooner. The parts of a mixture share the least of theirs.
    """
    width = max(site.width for site in sites)
    if any(site.layout == BANDS for site in sites):
        rate = ADAPTER_RATE * (UNET_WIDTH / width) ** WIDTH_EXPONENT
    else:
        music = min(max(seconds, LITTLE_SECONDS), MUCH_SECONDS) / MUCH_SECONDS
        rate = ADAPTER_RATE * (DECODER_WIDTH / width) ** WIDTH_EXPONENT * music**MUSIC_EXPONENT
    return _two_digits(rate * min(_factor(part) for part in design.parts))


def _factor(part: Part) -> float:
    if part.kind != "full":
        return 1.0
    return LAST_LAYERS_FACTOR if part.site == "post" else LAYERS_FACTOR


def _two_digits(value: float) -> float:
    return round(value, 1 - math.floor(math.log10(value)))
