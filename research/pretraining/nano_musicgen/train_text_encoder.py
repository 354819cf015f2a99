"""Trains nano-musicgen's text encoder to predict what captions say, western ones and those of the broad corpus.

    python -m research.pretraining.nano_musicgen.train_text_encoder --out training/text

is `research.pretraining.text_encoder` with half of the captions from the broad corpus; of these the encoder predicts
which words occur, beside a tempo and meaningless names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import nano_models, text_encoder
from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen import broad_corpus
from research.pretraining.western_style import western_caption

WORD_LOSS_WEIGHT = 4.0  # relative to the attributes of western captions
WORDS = (
    *broad_corpus.KINDS, *(f"with {k}" for k in broad_corpus.KINDS), *(t for t, _ in broad_corpus.TUNINGS),
    "free rhythm", "steady beat", "gliding", "vibrato", "wandering pitch", "drone", "chords", "percussion",
    "scattered percussion", "texture", "bells and blocks", "sliding tones", "talking", "noise", "silence",
    "in a hall", "in a room", "distorted", "muffled", "thin", "telephone", "noisy recording", "quiet",
)  # fmt: skip


def broad_caption(rng: np.random.Generator) -> tuple[str, list[bool]]:
    """A caption of one to six of WORDS, perhaps a tempo and meaningless names; and which of WORDS occur in it."""
    chosen = rng.choice(len(WORDS), size=int(rng.integers(1, 7)), replace=False)
    words = [WORDS[n] for n in chosen]
    if rng.random() < 0.4:
        words.append(f"{int(rng.integers(40, 301))} bpm")
    caption = broad_corpus.make_caption(words, rng)
    occurring = set(caption.split(", "))
    return caption, [word in occurring for word in WORDS]


@dataclass(frozen=True)
class Config(text_encoder.Config):
    """Settings of the text encoder's training; half of each batch is western."""

    steps: int = 900


def train(config: Config) -> Any:
    """Train without resuming, logging to OUT/log.jsonl."""
    config.out.mkdir(parents=True, exist_ok=True)
    encoder: Any = nano_models.build_nano_musicgen(config.seed).text_encoder
    values = text_encoder.attribute_values()
    torch.manual_seed(config.seed)
    attribute_heads = text_encoder.CaptionAttributeHeads(encoder.config.d_model, values)
    word_head = nn.Linear(encoder.config.d_model, len(WORDS))
    half = config.batch_size // 2

    def batch_loss(step: int, first: int) -> tuple[Tensor, dict[str, Tensor]]:
        western, facts = zip(*(western_caption(first + n) for n in range(half)), strict=True)
        rng = np.random.default_rng([config.seed, step, 5])
        broad, occurring = zip(*(broad_caption(rng) for _ in range(half)), strict=True)
        states = text_encoder.mean_states(encoder, [*western, *broad])
        loss, correct = attribute_heads(states[:half], list(facts))
        target = torch.tensor(occurring).float()
        logits: Tensor = word_head(states[half:])
        word_loss = F.binary_cross_entropy_with_logits(logits, target)
        all_words = ((logits > 0) == target.bool()).all(1).float().mean()
        row = {"loss": loss, "all_correct": correct, "word_loss": word_loss, "all_words_correct": all_words}
        return loss + WORD_LOSS_WEIGHT * word_loss, row

    text_encoder.fit(config, encoder, [attribute_heads, word_head], batch_loss)
    return encoder


def main() -> None:
    """Train and save."""
    train(parse_config(Config, __doc__))


if __name__ == "__main__":
    main()
