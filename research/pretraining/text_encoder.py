"""Pretrains nano's text encoder to predict caption attributes, so that it is informative before any audio is seen.

    python -m research.pretraining.text_encoder --out training/text

draws captions, trains for some minutes, and writes the weights. Like the T5 of the released MusicGen, the encoder is
trained beforehand and frozen: a decoder that has to learn both reading and music never learns to read, as a caption is
worth about nine nats per piece, among the thousands of its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import nano_models, train_loop
from research.pretraining.command_line import parse_config
from research.pretraining.western_style import western_caption
from talim.backbones.nano import musicgen

CAPTION_ATTRIBUTES = ("instrument", "family", "tonic", "scale", "tempo_bpm", "beats_per_bar", "drums", "chords")
CAPTION_SEEDS = 50_000_000  # apart from those of all performances
WEIGHTS = "text_encoder.safetensors"


@dataclass(frozen=True)
class Config:
    """Settings of the text encoder's training."""

    out: Path = Path("training/text")
    steps: int = 600
    batch_size: int = 64
    peak_learning_rate: float = 2e-3
    seed: int = 1


class CaptionAttributeHeads(nn.Module):
    """One linear classifier per caption attribute, from the mean [B, D] of a caption's states."""

    def __init__(self, width: int, values: dict[str, list[object]]) -> None:
        super().__init__()
        self.values = values
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(known)) for name, known in values.items()})

    def forward(self, mean: Tensor, facts: list[dict[str, object]]) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of the attributes in nats, and the fraction of captions with all of them correct."""
        total, correct = mean.new_zeros(()), torch.ones(len(facts), dtype=torch.bool)
        for name, head in self.heads.items():
            target = torch.tensor([self.values[name].index(fact[name]) for fact in facts])
            logits = head(mean)
            total = total + F.cross_entropy(logits, target) / len(self.heads)
            correct &= logits.argmax(1) == target
        return total, correct.float().mean()


def mean_states(encoder: Any, captions: list[str]) -> Tensor:
    """The mean [B, D] of each caption's states: what a decoder's initially uniform attention sees."""
    tokens = musicgen.ByteTokenizer()(captions)
    states = encoder(tokens["input_ids"], tokens["attention_mask"]).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    return (states * mask).sum(1) / mask.sum(1)


def attribute_values() -> dict[str, list[object]]:
    """The values that each caption attribute takes in 2000 captions, in a fixed order."""
    samples = [western_caption(CAPTION_SEEDS - 1 - n)[1] for n in range(2000)]
    return {name: sorted({fact[name] for fact in samples}, key=str) for name in CAPTION_ATTRIBUTES}


def fit(
    config: Config,
    encoder: Any,
    heads: Sequence[nn.Module],
    batch_loss: Callable[[int, int], tuple[Tensor, dict[str, Tensor]]],
) -> None:
    """Train encoder and heads without resuming, log to OUT/log.jsonl and save the encoder in OUT.

    `batch_loss(step, first)` gives the loss of a step, whose caption seeds begin at `first`, and the row to log.
    """
    # heads that stay small make the states themselves carry the attributes
    small = [parameter for head in heads for parameter in head.parameters()]
    groups = [{"params": list(encoder.parameters())}, {"params": small, "weight_decay": 1.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.peak_learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    for step in range(config.steps):
        train_loop.set_lr(
            optimiser, train_loop.lr_at(step, config.steps, config.peak_learning_rate, warmup=100, floor=0.0)
        )
        loss, row = batch_loss(step, CAPTION_SEEDS + (config.seed * config.steps + step) * config.batch_size)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        if step % 25 == 0 or step == config.steps - 1:
            values = {name: value.item() for name, value in row.items()}
            train_loop.log_row(config.out / "log.jsonl", {"step": step, **values})
    save_model(encoder, str(config.out / WEIGHTS))


def train(config: Config) -> Any:
    """Train without resuming, logging to OUT/log.jsonl."""
    config.out.mkdir(parents=True, exist_ok=True)
    encoder: Any = nano_models.build_nano_musicgen(config.seed).text_encoder
    values = attribute_values()
    torch.manual_seed(config.seed)
    heads = CaptionAttributeHeads(encoder.config.d_model, values)

    def batch_loss(step: int, first: int) -> tuple[Tensor, dict[str, Tensor]]:
        captions, facts = zip(*(western_caption(first + n) for n in range(config.batch_size)), strict=True)
        loss, correct = heads(mean_states(encoder, list(captions)), list(facts))
        return loss, {"loss": loss, "all_correct": correct}

    fit(config, encoder, [heads], batch_loss)
    return encoder


def restore(encoder: nn.Module, folder: Path) -> None:
    """Load the weights of `train` into a text encoder of the same shape, and freeze it."""
    load_model(encoder, folder / WEIGHTS)
    encoder.requires_grad_(False)


def main() -> None:
    """Train and save."""
    train(parse_config(Config, __doc__))


if __name__ == "__main__":
    main()
