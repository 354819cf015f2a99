"""The demonstration: the full pipeline with a miniature base on a synthetic corpus of an invented tradition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from talim.backbones import registry
from talim.corpus.synthetic import perform_corpus
from talim.poc.options import PocOptions
from talim.poc.pipeline import poc
from talim.progress import Progress
from talim.reporting.catalogue import Texts, in_languages
from talim.reporting.commands import REFERENCE_BASE, quoted
from talim.reporting.human_ratings import listen_command

RECORDINGS, SECONDS = 24, 24.0  # ten for the test, three for validation: trained on six it overfits in 30 steps

# of diffusion bases: the default hundred steps take four times as long
FAST_SAMPLING = (("sampling_steps", 25), ("sampler", "dpm++"))

DEMO_OPTIONS = PocOptions(
    settings=(
        ("training.steps", 50),
        ("training.batch_size", 4),
        ("training.warmup_steps", 6),
        ("training.eval_every", 10),
        ("training.eval_clips", 8),
        ("training.checkpoint_every", 25),
    ),
    held_out_fraction=0.34,
    clip_seconds=8.0,
    sample_seconds=8.0,
    learning_curve=False,  # it would take as long as two designs
    tune=False,  # likewise
    larger_base=False,  # timing this CPU and tracing that base would take a minute; the page has the command
)


def demo_options(base: str) -> PocOptions:
    """The demonstration's options with another base; TalimError if there is none of that name."""
    from talim.backbones.resolve import family_by_name

    fast = FAST_SAMPLING if family_by_name(base) == "mustango" else ()
    return replace(DEMO_OPTIONS, base=base, generation_options=fast)


def demo(out: Path, progress: Progress | None = None, options: PocOptions = DEMO_OPTIONS) -> dict[str, Any]:
    """Synthesise a corpus into DIR/recordings and run `poc` on it, with three designs.

    In addition to the result of `poc`, "listen" is the command of a blind test of the generated audio.
    """
    progress = progress or Progress()
    recordings = out / "recordings"
    if not recordings.is_dir():
        from talim.synthesis.performer import perform

        perform_corpus(recordings, perform, progress, RECORDINGS, SECONDS)
    result = poc(recordings, out, options, progress)
    own = f"talim poc my-recordings --base {registry.MODELS[REFERENCE_BASE].hub_id} --out my-poc"
    next_step = in_languages("demo_next")
    return result | {
        "next_step": f"{next_step['en']} {own}",
        "next_steps": [{"name": "own_recordings", **next_step, "command": own}],
        "listen": listen_command(quoted(out)),
    }


def compare_designs_sentence(loss_reductions: Mapping[str, Mapping[str, Any]]) -> Texts:
    """The designs' loss reductions in a sentence, with the limitation of one seed."""
    values = ", ".join(
        f"{design} {each['mean']:.3f}" for design, each in loss_reductions.items() if each["mean"] is not None
    )
    if not values:
        return in_languages("demo_not_compared")
    return in_languages("demo_compared", values=values)
