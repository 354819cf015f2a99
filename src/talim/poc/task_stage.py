"""The third stage, task: how well outputs match their prompts, and the decision of people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from talim.atomic_io import read_json, write_text
from talim.corpus.manifest import Corpus
from talim.html.formatting import format_percent
from talim.poc.state import BRIEF
from talim.recordings_needed import HELD_OUT_TO_COMPARE
from talim.reporting import human_ratings
from talim.reporting.catalogue import interval_in_languages
from talim.reporting.commands import quoted
from talim.reporting.sample_changes import remedy

CANDIDATES = 12
CHANCE = 0.5
MATCH_PREFIX = "Outputs match"
NOT_MEASURED = (
    "Whether outputs match their prompts was not measured: the prompts do not differ in a labelled mode, tempo or "
    "instruments."
)
HEAD = """\
# Drafted by talim poc: the task, and the decision rule. Edit it before the first review, which freezes it. All keys:
# docs/guides/briefs.md.
"""


def adherence_lines(scores: Mapping[str, Any]) -> list[str]:
    """How often outputs match the labels of their prompts, next to chance, the untrained base and real music."""
    lines = []
    for row in scores.get("scores") or []:
        name = str(row.get("name", ""))
        if not name.startswith("adherence_") or row.get("value") is None:
            continue
        values = row.get("recording_values") or ()
        interval = interval_in_languages(row.get("low"), row.get("high"), values, format_percent, CHANCE)
        ends = f" ({interval['en']})" if row.get("low") is not None else ""
        comparisons = [
            f"{label} {format_percent(row[key])}"
            for key, label in (("baseline", "the untrained base"), ("reference", "held-out music"))
            if row.get(key) is not None
        ]
        others = f", {', '.join(comparisons)}" if comparisons else ""
        label = name.removeprefix("adherence_")
        lines.append(
            f"{MATCH_PREFIX} their own prompt's {label} more closely than other prompts' in "
            f"{format_percent(row['value'])}{ends} of comparisons; chance is 50\u202f%{others}"
            f"{_against_chance(row, scores)}."
        )
    return lines or [NOT_MEASURED]


def _against_chance(row: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """Says so where the rate is not shown to be above chance."""
    if row.get("undecided"):
        return f"; {row['undecided']}"
    if row.get("low") is None or int(row.get("gain_recordings") or 0) < HELD_OUT_TO_COMPARE:
        used = len({prompt["recording"] for prompt in scores.get("prompts") or []})
        return f"; whether that is above chance cannot be told: {remedy(scores, 'prompts', used)['en']}"
    return "" if row["low"] > CHANCE else "; not shown to be above chance"


def review_commands(out: Path, run: Path) -> list[str]:
    """The commands of a blind listening test and of a review of candidates for the task; they run from anywhere."""
    folder, brief, made = quoted(out), quoted(out / BRIEF), quoted(out / "brief")
    return [
        human_ratings.listen_command(folder),
        f"talim ratings {folder}",
        f"talim brief {brief} --run {quoted(run)} --out {made} --invites 2",
        f"talim brief report {brief} --out {made}",
    ]


def is_automatic(line: str) -> bool:
    """Whether a sentence of this stage was measured, and not said by people."""
    return line.startswith(MATCH_PREFIX) or line == NOT_MEASURED


def write_brief_draft(out: Path, corpus: Corpus, seconds: float, min_acceptance_fraction: float) -> None:
    """Write DIR/brief.yaml with the gate as its decision rule, unless there is one."""
    if (out / BRIEF).exists() or not corpus.held_out:
        return
    brief = {
        "name": "proof-of-concept",
        # of a corpus without captions the adapter is asked for without words
        "prompt": str(corpus.summary.get("example_caption") or "")[:500],
        "seconds": float(seconds),
        "candidates": CANDIDATES,
        "accepted_by": "majority",
        "decision_rule": {"acceptance_at_least": min_acceptance_fraction},
    }
    write_text(out / BRIEF, HEAD + yaml.safe_dump(brief, sort_keys=False, allow_unicode=True))


def human_decision(folder: Path, language: str = "en") -> tuple[bool | None, list[str]]:
    """Whether people accept it, by the briefs in DIR: one "go" is enough; None while none is decided.

    With it the sentences of the briefs and of listening tests; in another language than English, None goes with the
    key of the sentence that says why in place of that sentence.
    """
    briefs = [read_json(path) for path in human_ratings.find_result_files(folder, human_ratings.USEFULNESS)]
    answers = [str(brief.get("answer")) for brief in briefs if isinstance(brief, dict)]
    ratings = human_ratings.load_ratings(folder, folder / "x")
    sentences = [
        sentence
        for rating in ratings
        for sentence in (rating.sentences if language == "en" else rating.translated.get(language) or rating.sentences)
    ]
    if "go" in answers:
        return True, sentences
    if answers and all(answer == "no-go" for answer in answers):
        return False, sentences
    if language != "en":
        return None, ["open_brief" if answers else "no_brief", *sentences]
    reason = "not decided yet by the brief's rule" if answers else "no brief has an answer yet"
    return None, [f"Not decided: {reason}.", *sentences]
