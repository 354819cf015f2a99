"""What commands print on stdout when they have finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talim.html import formatting
from talim.reporting import run_results, sentences
from talim.terminal_text import printable

ANSWERS = {True: "met", False: "not met", None: "not decided"}


def corpus_message(summary: Mapping[str, Any], out: Path) -> str:
    """A prepared corpus: size, split, licences, missing captions, duplicates and skipped files, a line each."""
    split = summary["split"]
    lines = [
        f"{summary['clips']} clips of {summary['recordings']} recordings, {float(summary['seconds']) / 60:.1f} minutes",
        f"split by {split['strategy']}: {split['train']['clips']} clips for training, "
        f"{split['held_out']['clips']} held out. {split.get('explanation', '')}",
        "licences: " + ", ".join(f"{name} ({n})" for name, n in summary["rights"]["licences"].items()),
    ]
    if missing := summary.get("missing_captions"):
        table = out / missing["file"]
        lines.append(f"{missing['recordings']} recordings have no caption: add them to {table} and rerun")
    lines += [_printable(f"same audio: {p['first']} and {p['second']}") for p in summary["near_duplicates"]]
    lines += [_printable(f"skipped {row['file']}: {row['reason']}") for row in summary["skipped"]]
    lines += [f"page: {out / 'report' / 'index.html'}", f"next: talim train --corpus {out} --out RUN"]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """The text with escaped line breaks and control characters: file names may contain any."""
    return printable(text)


def training_message(folder: Path, cost: Mapping[str, Any]) -> str:
    """A finished training in two lines."""
    loss = formatting.format_number(cost["best_held_out_loss"])
    return (
        f"{cost['steps']} steps in {formatting.format_duration(cost['wall_seconds'])}; lowest held-out loss {loss} "
        f"{cost.get('loss_unit', 'nats')} at step {cost['best_step']}\nnext: talim evaluate {folder}"
    )


def evaluation_message(folder: Path) -> str:
    """An evaluated run: the loss, the effect of the adapter, the next command."""
    result = run_results.read_result(folder)
    return "\n".join(
        [sentences.loss_sentence(result), sentences.effect_sentence(result), f"next: talim report {folder}"]
    )


def folder_scores_message(result: Mapping[str, Any]) -> str:
    """Scores of a folder of generated audio, a line each, and the warnings."""
    generated, real = result["generated"], result["real"]
    files = f"{generated['files']} generated files against {real['files']} real ones"
    header = f"{files}, protocol {result['protocol']['hash']}"
    return "\n".join(
        [header, *(row["sentence"] for row in result["scores"]), *(f"warning: {text}" for text in result["warnings"])]
    )


def poc_message(result: Mapping[str, Any]) -> str:
    """The result of `talim poc` or `talim demo`: sentences, gates, why it stopped, the page, a blind test."""
    gates = [f"{row['title']}: {ANSWERS[row['passed']]}" for row in result.get("stages") or []]
    lines = [
        *result["sentences"],
        (result.get("learning_curve") or {}).get("sentence"),
        *(line for row in result.get("continuations") or [] for line in row["sentences"]),
        f"Gates: {', '.join(gates)}." if gates else "",
        result.get("stopped"),
        f"Page: {result['page']}",
        f"Blind listening test: {result['listen']}" if "listen" in result else "",
    ]
    return "\n".join(line for line in lines if line)
