"""The demonstration: the whole road on the miniature base and a small imagined tradition."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from talim.corpus.synthetic import perform_corpus
from talim.poc.options import PocOptions
from talim.poc.pipeline import poc
from talim.progress import Progress

# where noise is removed: the usual hundred steps take four times as long
FEW_STEPS = (("sampling_steps", 25), ("sampler", "dpm++"))

WISHES = PocOptions(
    settings=(
        ("training.steps", 120),
        ("training.batch_size", 4),
        ("training.warmup_steps", 10),
        ("training.eval_every", 30),
        ("training.eval_clips", 8),
        ("training.checkpoint_every", 30),
    ),
    held_out_fraction=0.3,
    clip_seconds=8.0,
    sample_seconds=8.0,
    curve=False,  # it would take as long again as two designs
)


def demo_options(base: str) -> PocOptions:
    """The demonstration's wishes with another base; TalimError where there is none of that name."""
    from talim.backbones.resolve import family_by_name

    return replace(WISHES, base=base, sampling=FEW_STEPS if family_by_name(base) == "mustango" else ())


def demo(out: Path, progress: Progress | None = None, wishes: PocOptions = WISHES) -> dict[str, Any]:
    """Play the built-in corpus into DIR/recordings and go the road of `talim poc` on it, with three designs.

    Beside what `poc` returns, "listen" is the command that serves a blind test over what was made.
    """
    progress = progress or Progress()
    recordings = out / "recordings"
    if not recordings.is_dir():
        from talim.synthesis.performer import perform

        perform_corpus(recordings, perform, progress)
    told = poc(recordings, out, wishes, progress)
    return told | {"listen": f"talim listen {shlex.quote(str(out))} --invites 1"}


def compare_designs_sentence(falls: dict[str, Any]) -> str:
    """The designs beside each other, in a sentence, with what one seed cannot tell."""
    shown = ", ".join(f"{design} by {fall['mean']:.3f}" for design, fall in falls.items())
    return f"With one seed each, the loss fell with {shown}: no seed alone can say which kind is best."
