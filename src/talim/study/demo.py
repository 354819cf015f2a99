"""The demonstration: the whole road on the miniature base and a small imagined tradition."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.music import Beats
from talim.run import new_folder
from talim.stages.progress import Progress
from talim.study.poc.road import poc
from talim.study.poc.wishes import Wishes

RECORDINGS = 12
SECONDS = 24.0
FIRST_SEED = 7000
# where noise is removed: the usual hundred steps take four times as long
FEW_STEPS = (("steps", 25), ("sampler", "dpm++"))
ROUNDING_SECONDS = 1e-3  # by which a cycle's beginning and its first beat may differ
WISHES = Wishes(
    settings=(
        ("training.steps", 120),
        ("training.batch_size", 4),
        ("training.warmup_steps", 10),
        ("training.evaluate_every", 30),
        ("training.evaluate_clips", 8),
        ("training.checkpoint_every", 30),
    ),
    held_out_share=0.3,
    clip_seconds=8.0,
    sample_seconds=8.0,
    curve=False,  # it would take as long again as two designs
)


def wishes_for(base: str) -> Wishes:
    """The demonstration's wishes with another base; TalimError where there is none of that name."""
    from talim.backbones.sources import family_named

    return replace(WISHES, base=base, sampling=FEW_STEPS if family_named(base) == "mustango" else ())


def beats_of(piece: Any) -> str:
    """A performance's beats in their written form, known exactly; nothing where nothing is metred.

    Of a tradition's performance every beat has its place in the cycle; the three plain styles keep one tempo.
    """
    if piece.truth is not None:
        beats, firsts = piece.truth.beats_seconds, piece.truth.first_beats_seconds
        begun = np.searchsorted(firsts, beats + ROUNDING_SECONDS, side="right") - 1
        counts = np.arange(beats.size) - np.searchsorted(beats, firsts - ROUNDING_SECONDS)[begun] + 1
        return str(Beats(tuple(beats.tolist()), tuple(counts.tolist()))) if beats.size else ""
    tempo_bpm, metre = (piece.facts.get(name) for name in ("tempo_bpm", "beats_per_bar"))
    return f"{tempo_bpm} bpm {metre}/4" if tempo_bpm and metre else ""


def demo(out: Path, progress: Progress | None = None, wishes: Wishes = WISHES) -> dict[str, Any]:
    """Play the built-in corpus into DIR/recordings and go the road of `talim poc` on it, with three designs.

    Beside what `poc` returns, "listen" is the command that serves a blind test over what was made.
    """
    progress = progress or Progress()
    recordings = out / "recordings"
    if not recordings.is_dir():
        from talim.traditions.performer import perform

        perform_corpus(recordings, perform, progress)
    told = poc(recordings, out, wishes, progress)
    return told | {"listen": f"talim listen {shlex.quote(str(out))} --links 1"}


def beside(falls: dict[str, Any]) -> str:
    """The designs beside each other, in a sentence, with what one seed cannot tell."""
    shown = ", ".join(f"{design} by {fall['mean']:.3f}" for design, fall in falls.items())
    return f"With one seed each, the loss fell with {shown}: no seed alone can say which kind is best."


def perform_corpus(
    folder: Path,
    perform: Callable[[int, str, float], Any],
    progress: Progress,
    count: int = RECORDINGS,
    seconds: float = SECONDS,
    style: str = "demo",
    first_seed: int = FIRST_SEED,
) -> None:
    """Write `count` performances of a style as FLAC with a metadata.csv, all or nothing."""
    table = io.StringIO()
    columns = ("file_name", "text", "performer", "licence", "source", "consent", "beats")
    rows: csv.DictWriter[str] = csv.DictWriter(table, columns, lineterminator="\n")
    rows.writeheader()
    with new_folder(folder) as made:
        for number in range(count):
            piece = perform(first_seed + number, style, seconds)
            name = f"piece-{number + 1:02d}.flac"
            audio.write(made / name, audio.Audio(np.atleast_2d(piece.samples), piece.rate_hz))
            facts = {"performer": f"talim's performer, seed {first_seed + number}", "licence": "CC0-1.0"}
            facts |= {"source": "rendered by talim", "consent": "not needed: no person is heard"}
            known = {"beats": beats_of(piece), **facts}
            rows.writerow({"file_name": name, "text": piece.caption, **known})
            progress.step("performing the built-in corpus", number + 1, count)
        (made / "metadata.csv").write_text(table.getvalue(), encoding="utf-8")
