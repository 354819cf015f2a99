"""What a command tells a person on stdout when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talim.html import formatting
from talim.reporting import run_results, sentences


def corpus_message(summary: Mapping[str, Any], out: Path) -> str:
    """A prepared corpus in a few lines: how much, how split, whose, what was skipped."""
    split = summary["split"]
    lines = [
        f"{summary['clips']} clips of {summary['recordings']} recordings, "
        f"{float(summary['seconds']) / 60:.1f} minutes",
        f"split by {split['step']}: {split['train']['clips']} clips to learn from, "
        f"{split['held_out']['clips']} held out. {split.get('explanation', '')}",
        "licences: " + ", ".join(f"{name} ({n})" for name, n in summary["rights"]["licences"].items()),
        *_missing_caption_lines(summary, out),
        *(_one_line(f"same sound: {p['first']} and {p['second']}") for p in summary["near_duplicates"]),
        *(_one_line(f"left out {row['file']}: {row['reason']}") for row in summary["skipped"]),
        f"page: {out / 'report' / 'index.html'}",
        f"next: talim train --corpus {out} --out RUN",
    ]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """The text without line breaks and other control characters: a file's name may hold any."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def _missing_caption_lines(summary: Mapping[str, Any], out: Path) -> list[str]:
    wanted = summary.get("captions_to_write")
    if not wanted:
        return []
    table = out / wanted["file"]
    return [f"{wanted['recordings']} recordings have no words: write them into {table}, then run this again"]


def training_message(folder: Path, cost: Mapping[str, Any]) -> str:
    """A finished training in two lines."""
    loss = formatting.format_number(cost["best_held_out_loss"])
    return (
        f"{cost['steps']} steps in {formatting.format_duration(cost['wall_seconds'])}; lowest held-out loss {loss} "
        f"{cost.get('loss_unit', 'nats')} at step {cost['best_step']}\nnext: talim evaluate {folder}"
    )


def evaluation_message(folder: Path) -> str:
    """An evaluated run in sentences."""
    result = run_results.read_result(folder)
    return "\n".join(
        [sentences.loss_sentence(result), sentences.effect_sentence(result), f"next: talim report {folder}"]
    )


ANSWERS = {True: "met", False: "not met", None: "not decided"}


def poc_message(result: Mapping[str, Any]) -> str:
    """What `talim poc` or `talim demo` came to: sentences, the gates, why it ended, the page, a blind test."""
    gates = [f"{row['title']}: {ANSWERS[row['passed']]}" for row in result.get("stages") or []]
    curve = [result["curve"]["sentence"]] if result.get("curve") else []
    further = [line for row in result.get("further") or [] for line in row["sentences"]]
    ended = [result["stopped"]] if result.get("stopped") else []
    offer = [f"Hear for yourself, blind: {result['listen']}"] if "listen" in result else []
    stages = [f"Gates: {', '.join(gates)}."] if gates else []
    page = f"Page: {result['page']}"
    return "\n".join([*result["sentences"], *curve, *further, *stages, *ended, page, *offer])
