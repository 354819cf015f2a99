"""The page of what `benchmarks.gpu` measured: a table for each section that it holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], str]]

INTRODUCTION = """Figures of one machine and one run, as `python -m benchmarks.gpu` took them: medians with their range.
`control` is the same work measured a second time, divided by the first: what a ratio of 1 looks like here. Weights of
MusicGen and Mustango are random in the released shapes, with a small codec and text encoder, so decoding is the
decoder's alone. Memory is that of tensors, without CUDA's context. Joules are of the whole GPU, idle power included."""
SELF_TEST = "**A self-test: nothing on this page says anything about a GPU.**"


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Median and range, three digits."""
    shown = [f"{scale * value:.3g}" for value in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def number(value: float | None, scale: float = 1.0) -> str:
    """Three digits; "-" for what was not measured."""
    return "-" if value is None else f"{value / scale:.3g}"


def _of(name: str, scale: float = 1.0) -> Callable[[Row], str]:
    return lambda row: spread(row[name], scale) if name in row else "-"


def _one(name: str, scale: float = 1.0) -> Callable[[Row], str]:
    return lambda row: number(row.get(name), scale)


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name, "-"))


def _design(row: Row) -> str:
    return f"`{row['design']}`" if row.get("design", "none") != "none" else "no adapter"


def _different(row: Row) -> str:
    return f"{row['different']} of {row['tokens']} ({row['different'] / row['tokens']:.2%})"


AGREE: Columns = {"what": _text("what"), "adapter": _design, "different": _different}
DECODE: Columns = {
    "shape": _text("shape"),
    "adapter": _design,
    "pieces": _text("batch"),
    "precision": _text("precision"),
    "ms a step": _of("ms"),
    "generate() ms": _of("generate_ms"),
    "times as fast": _of("ratio"),
    "control": _of("control"),
    "times real time": _one("times_real_time"),
    "TB/s": _of("bytes_per_second", 1e-12),
    "share of the limit": lambda row: f"{row['share_of_limit']:.0%}",
    "over the base": _of("over_base"),
    "J a second of music": _one("joules_per_second"),
    "peak GB": _one("peak_bytes", 1e9),
}
TRAIN: Columns = {
    "base": _text("base"),
    "adapter": _design,
    "parameters": _one("parameters"),
    "clips": lambda row: f"{row['clips']} x {row['clip_seconds']:g} s",
    "step ms": _of("step_seconds", 1000.0),
    "planned ms": _one("planned_seconds", 1e-3),
    "times as fast as LoRA": _one("ratio"),
    "peak GB": _one("peak_bytes", 1e9),
    "planned GB": _one("planned_bytes", 1e9),
    "J a step": _one("joules"),
}
SAMPLE: Columns = {
    "base": _text("base"),
    "pieces": _text("pieces"),
    "frames": _text("frames"),
    "precision": _text("precision"),
    "ms a step": _of("ms"),
    "times as fast as the plain forward": _of("ratio"),
    "control": _of("control"),
    "J a step": _one("joules"),
}
CODEC: Columns = {"setting": _text("what"), "different from the CPU": _different}


def table(rows: Sequence[Row], columns: Columns) -> list[str]:
    """Lines of a table; a row without figures says why in its last cell."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        if reason := row.get("skipped") or row.get("failed"):
            known = [name for name in columns if name in ("what", "base", "shape", "adapter", "pieces", "setting")]
            cells = [columns[name](row) if name in known else "-" for name in columns]
            cells[-1] = reason.replace("|", "/")
        else:
            cells = [cell(row) for cell in columns.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def with_plan(rows: Sequence[Row], plan: Sequence[Row]) -> list[Row]:
    """Training rows with what `talim plan` says of them."""
    keys = ("base", "design", "clip_seconds", "clips", "precision")
    planned = {tuple(row[key] for key in keys): row for row in plan if "planned_bytes" in row}
    return [{**planned.get(tuple(row[key] for key in keys), {}), **row} for row in rows]


def markdown(results: Mapping[str, Any]) -> str:
    """The page."""
    sampled = [row for row in results.get("mustango", []) if row.get("what")]
    trained = [row for row in results.get("mustango", []) if not row.get("what")]
    plan = results.get("plan", [])
    sections = {
        "Agreement with the CPU (nano-musicgen)": (results.get("agree", []), AGREE),
        "Decoding MusicGen": (results.get("decode", []), DECODE),
        "Training MusicGen": (with_plan(results.get("train", []), plan), TRAIN),
        "Sampling Mustango": (sampled, SAMPLE),
        "Training Mustango": (with_plan(trained, plan), TRAIN),
        "Tokens of the codec": (results.get("codec", []), CODEC),
    }
    versions = ", ".join(f"{name} {value}" for name, value in results.get("versions", {}).items())
    lines = ["# On a GPU" if results.get("on_gpu") else "# Self-test of the GPU's benchmark", ""]
    facts = [results.get("device", "-"), versions, f"{results.get('rounds', '-')} rounds"]
    facts.append(f"energy: {results.get('energy', '-')}")
    lines += [INTRODUCTION, "", "; ".join(facts) + "."]
    if not results.get("on_gpu"):
        lines += ["", SELF_TEST]
    for title, (rows, columns) in sections.items():
        lines += ["", f"## {title}", "", *(table(rows, columns) if rows else ["Not measured."])]
    return "\n".join(lines) + "\n"
