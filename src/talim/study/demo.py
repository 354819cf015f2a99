"""The demonstration: the whole road on the miniature base and a small imagined tradition."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.run import new_folder
from talim.stages.progress import Progress
from talim.study.poc import Wishes, poc

RECORDINGS = 12
SECONDS = 24.0
FIRST_SEED = 7000
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
)


def demo(out: Path, progress: Progress | None = None, wishes: Wishes = WISHES) -> dict[str, Any]:
    """Play the built-in corpus into DIR/recordings, then go the road of `talim poc` on it.

    Beside what `poc` returns, "listen" is the command that serves a blind test over what was made.
    """
    progress = progress or Progress()
    recordings = out / "recordings"
    if not recordings.is_dir():
        from talim.traditions.performer import perform

        perform_corpus(recordings, perform, progress)
    return poc(recordings, out, wishes, progress) | {
        "listen": f"talim listen {shlex.quote(str(out))} --links 1"
    }


def perform_corpus(
    folder: Path,
    perform: Callable[[int, str, float], Any],
    progress: Progress,
    count: int = RECORDINGS,
    seconds: float = SECONDS,
) -> None:
    """Write `count` performances of the style "demo" as FLAC with a metadata.csv, all or nothing."""
    table = io.StringIO()
    columns = ("file_name", "text", "performer", "licence", "source", "consent")
    rows: csv.DictWriter[str] = csv.DictWriter(table, columns, lineterminator="\n")
    rows.writeheader()
    with new_folder(folder) as made:
        for number in range(count):
            piece = perform(FIRST_SEED + number, "demo", seconds)
            name = f"piece-{number + 1:02d}.flac"
            audio.write(made / name, audio.Audio(np.atleast_2d(piece.samples), piece.rate_hz))
            facts = {"performer": f"talim's performer, seed {FIRST_SEED + number}", "licence": "CC0-1.0"}
            facts |= {"source": "rendered by talim", "consent": "not needed: no person is heard"}
            rows.writerow({"file_name": name, "text": piece.caption, **facts})
            progress.step("performing the built-in corpus", number + 1, count)
        (made / "metadata.csv").write_text(table.getvalue(), encoding="utf-8")
