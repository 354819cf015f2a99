"""How nano's text encoder came to be: it learns to tell what a caption asks for, before any music is heard.

`python -m research.pretraining.text_encoder --out training/text` draws captions, trains, and writes the weights. The
released MusicGen hears its words through a T5 that was trained long before and stays frozen; nano's does too. A
decoder that has to learn to read while it learns to play never learns to read: the words are worth some nine nats
a piece, among the thousands of its tokens.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F

from research.pretraining import train_loop
from talim.backbones.nano import musicgen
from talim.synthesis import western_score
from talim.synthesis.performer import STYLES

CAPTION_ATTRIBUTES = (
    "instrument",
    "family",
    "tonic",
    "scale",
    "tempo_bpm",
    "beats_per_bar",
    "drums",
    "chords",
)
BATCH = 64
CAPTION_SEEDS = 50_000_000  # apart from those of all performances
WEIGHTS = "text_encoder.safetensors"


def sample_caption(seed: int) -> tuple[str, dict[str, object]]:
    """The caption and the facts of a piece that nobody plays."""
    rng = np.random.default_rng([seed, STYLES.index("western")])
    plan = western_score.draw_plan(rng, "western")
    return western_score.caption(plan, "western", rng), western_score.facts(plan, "western")


class CaptionAttributeHeads(nn.Module):
    """One linear answer to each question in `ASKED`, from the mean [B, D] of a caption's states."""

    def __init__(self, width: int, answers: dict[str, list[object]]) -> None:
        super().__init__()
        self.known = answers
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(words)) for name, words in answers.items()})

    def forward(self, mean: Tensor, facts: list[dict[str, object]]) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats, the mean of all questions, and the share of captions whose answers are all right."""
        total, right = mean.new_zeros(()), torch.ones(len(facts), dtype=torch.bool)
        for name, head in self.heads.items():
            target = torch.tensor([self.known[name].index(fact[name]) for fact in facts])
            logits = head(mean)
            total = total + F.cross_entropy(logits, target) / len(self.heads)
            right &= logits.argmax(1) == target
        return total, right.float().mean()


def mean_states(encoder: Any, captions: list[str]) -> Tensor:
    """The mean [B, D] of each caption's states: what a decoder's first, even attention sees of them."""
    words = musicgen.ByteTokenizer()(captions)
    states = encoder(words["input_ids"], words["attention_mask"]).last_hidden_state
    mask = words["attention_mask"][..., None]
    return (states * mask).sum(1) / mask.sum(1)


def train(out: Path, steps: int, seed: int, peak_rate: float = 2e-3) -> Any:
    """Train to `steps` (a minute or two, so it does not resume), logging to OUT/log.jsonl."""
    out.mkdir(parents=True, exist_ok=True)
    encoder: Any = musicgen.build_nano_musicgen(seed).text_encoder
    samples = [sample_caption(CAPTION_SEEDS - 1 - n)[1] for n in range(2000)]
    answers = {name: sorted({fact[name] for fact in samples}, key=str) for name in CAPTION_ATTRIBUTES}
    torch.manual_seed(seed)
    questions = CaptionAttributeHeads(encoder.config.d_model, answers)
    # heads that stay small make the states themselves carry the answers
    groups = [{"params": list(encoder.parameters())}, {"params": questions.parameters(), "weight_decay": 1.0}]
    optimiser = torch.optim.AdamW(groups, lr=peak_rate, weight_decay=0.01, betas=(0.9, 0.98))
    for step in range(steps):
        train_loop.set_lr(optimiser, train_loop.lr_at(step, steps, peak_rate, warmup=100, floor=0.0))
        first = CAPTION_SEEDS + (seed * steps + step) * BATCH
        captions, facts = zip(*(sample_caption(first + n) for n in range(BATCH)), strict=True)
        loss, right = questions(mean_states(encoder, list(captions)), list(facts))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        if step % 25 == 0 or step == steps - 1:
            train_loop.log_row(
                out / "log.jsonl", {"step": step, "loss": loss.item(), "all_right": right.item()}
            )
    save_model(encoder, str(out / WEIGHTS))
    return encoder


def restore(encoder: nn.Module, folder: Path) -> None:
    """Load what `train` wrote into a text encoder of the same shape, and freeze it."""
    load_model(encoder, folder / WEIGHTS)
    encoder.requires_grad_(False)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("training/text"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    train(options.out, options.steps, options.seed)


if __name__ == "__main__":
    main()
