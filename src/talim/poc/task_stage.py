"""The third stage, contribution to the task: what can be said automatically, and what only people can decide."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from talim.atomic_io import read_json, write_text
from talim.corpus.manifest import Corpus
from talim.html import formatting
from talim.reporting import human_ratings

BRIEF = "brief.yaml"
CANDIDATES = 12
HEAD = """\
# Drafted by talim poc: what music is wanted, and when it is worth going on. Change it before the first review: from
# then on it is frozen. All that it may say is told by `talim brief --help` and docs/usefulness.md.
"""


def adherence_lines(scores: Mapping[str, Any]) -> list[str]:
    """How often outputs have what their prompts ask for, between chance and what real music has."""
    lines = []
    for row in scores.get("scores") or []:
        name = str(row.get("name", ""))
        if not name.startswith("adherence_") or row.get("value") is None:
            continue
        ends = (
            f" ({formatting.format_percent(row['low'])} to {formatting.format_percent(row['high'])})"
            if row.get("low") is not None
            else ""
        )
        beside = [
            f"{who} {formatting.format_percent(row[key])}"
            for key, who in (("ceiling", "the untrained base"), ("floor", "held-out music"))
            if row.get(key) is not None
        ]
        told = f", {', '.join(beside)}" if beside else ""
        what = name.removeprefix("adherence_")
        lines.append(
            f"Outputs fit their own prompt's {what} better than other prompts' in {formatting.format_percent(row['value'])}{ends} "
            f"of comparisons; chance is 50\u202f%{told}."
        )
    none = (
        "Whether outputs do what prompts ask for was not measured: the prompts do not differ in a mode, tempo or "
        "instruments that are on record."
    )
    return lines or [none]


def review_commands(out: Path, run: Path) -> list[str]:
    """What to type, so that people hear it blind and review it for a task."""
    folder, brief = shlex.quote(str(out)), shlex.quote(str(out / BRIEF))
    made = shlex.quote(str(out / "brief"))
    return [
        f"talim listen {folder} --links 5",
        f"talim ratings {folder}",
        f"talim brief {brief} --run {shlex.quote(str(run))} --out {made} --links 2",
        f"talim brief {brief} --out {made} --result",
    ]


def write_brief_draft(out: Path, corpus: Corpus, seconds: float, acceptance_at_least: float) -> None:
    """Write DIR/brief.yaml with the gate as its rule, unless there is one."""
    if (out / BRIEF).exists() or not corpus.held_out:
        return
    brief = {
        "name": "proof-of-concept",
        "prompt": corpus.held_out[0].caption[:500],
        "seconds": float(seconds),
        "candidates": CANDIDATES,
        "accepted_by": "majority",
        "rule": {"acceptance_at_least": acceptance_at_least},
    }
    write_text(out / BRIEF, HEAD + yaml.safe_dump(brief, sort_keys=False, allow_unicode=True))


def human_decision(folder: Path) -> tuple[bool | None, list[str]]:
    """Whether people take it, by the briefs in DIR: one that says go is enough; None while none has an answer.

    Beside it what they say: the briefs' own sentences, and the verdict of listeners.
    """
    told = [read_json(path) for path in human_ratings.find_result_files(folder, human_ratings.USEFULNESS)]
    answers = [str(one.get("answer")) for one in told if isinstance(one, dict)]
    heard = [line for judged in human_ratings.load_ratings(folder, folder / "x") for line in judged.sentences]
    if "go" in answers:
        return True, heard
    if answers and all(answer == "no-go" for answer in answers):
        return False, heard
    open_ = (
        "Not decided: no brief has an answer yet." if not answers else "Not decided yet by the brief's rule."
    )
    return None, [open_, *heard]
