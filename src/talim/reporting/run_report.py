"""Writes one self-contained page about a run or several: heard, judged, drawn, priced, and reproducible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from talim import __version__
from talim.atomic_io import write_text
from talim.backbones import registry
from talim.errors import UsageError
from talim.experiments import results as experiments_results
from talim.experiments.goals import SelectionCriteria
from talim.html import formatting, plots
from talim.html.render import render
from talim.poc import report_section as staged
from talim.reporting import audio_examples, human_ratings, sentences, tables
from talim.reporting.run_results import RunResults, find_runs, read_result
from talim.reporting.study_report import study_report

BROAD, NARROW = (8.4, 3.1), (4.4, 3.0)  # inches: the same curve for a desk and for a phone


def write_report(
    folder: Path | str,
    wish: SelectionCriteria | None = None,
    claims_file: Path | None = None,
    *,
    sounds: bool = True,
) -> Path:
    """Write FOLDER/report/index.html from what the stages left there, and return its path. Never loads torch.

    FOLDER is a study (it holds results.jsonl), a run, or a folder of runs (then the chosen one, else the first, is
    shown whole and all are compared); where `talim poc` left its stages, they are told. `wish`, claims and `sounds`
    are for a study's page: UsageError with a run. TalimError where there is nothing to show, or where a file is
    damaged; what was not measured is said to be so on the page.
    """
    folder = Path(folder)
    if experiments_results.is_study(folder):
        return study_report(folder, wish, claims_file, sounds=sounds)
    if wish is not None or claims_file is not None or not sounds:
        raise UsageError(
            f"{folder} holds no {experiments_results.RESULTS}: goals, limits and claims are for a study's folder"
        )
    plan = staged.report_section(folder)
    if plan and plan["stopped"] and not plan["designs"]:
        return staged.without_runs(folder)
    results = [read_result(path) for path in find_runs(folder)]
    first = next((result for result in results if result.samples), results[0])
    first = next((result for result in results if result.folder == staged.chosen_run(folder)), first)
    target = folder / "report" / "index.html"
    write_text(target, render("report.html", **context(folder, first, results)))
    return target


def context(folder: Path, result: RunResults, results: Sequence[RunResults]) -> dict[str, Any]:
    """Every value that the template shows, in the order in which it shows them."""
    tracker = (
        audio_examples.pitch_tracker() if any(sample.path.is_file() for sample in result.samples) else None
    )
    shown, more = audio_examples.collect_audio_examples(result, tracker)
    return {
        "version": __version__,
        "title": folder.resolve().name,
        "result": result,
        "deck": subtitle(result),
        "notice": miniature_notice(result),
        "verdict": sentences.loss_verdict(result),
        "figures": key_figures(result),
        "sentences": sentences.sentences(result),
        "caution": (result.losses.get("fall") or {}).get("interval_note") or "",
        "fall_plots": loss_reduction_plots(result),
        "runs": runs_table(folder, results) if len(results) > 1 else [],
        "plan": staged.report_section(folder),
        "judgements": human_ratings.load_ratings(folder, folder / "report" / "index.html"),
        "exhibits": shown,
        "more_exhibits": more,
        "loss_plots": loss_plots(result),
        "part_plots": part_plots(result),
        "meaning": sentences.loss_meaning(result),
        "cost": tables.cost_table(result),
        "data": tables.data_table(result),
        "skipped": result.corpus.get("skipped") or [],
        "commands": reproduce_commands(result),
        "provenance": tables.provenance_table(result),
        "recipe": yaml.safe_dump(result.recipe, sort_keys=False, allow_unicode=True) if result.recipe else "",
    }


def subtitle(result: RunResults) -> str:
    """One line under the title: which design in which base, trained on what."""
    train = (result.corpus.get("split") or {}).get("train") or {}
    heard = train.get("recordings")
    recordings = heard if isinstance(heard, int) else len(heard) if isinstance(heard, list) else 0
    parts = [f"The adapter {result.recipe['design']}" if result.recipe.get("design") else "An adapter"]
    if recordings and train.get("seconds"):
        amount = formatting.format_duration(train["seconds"])
        parts.append(f"trained on {formatting.format_counted(recordings, 'recording')}, {amount} of music")
    return ", ".join(parts) + "."


def miniature_notice(result: RunResults) -> dict[str, str] | None:
    """What must be said first of a miniature: the base to take for usable sound, its size, time, command."""
    if not result.miniature:
        return None
    usable = registry.MODELS[sentences.REFERENCE_BASE]
    estimate = sentences.estimate_training_time(result)
    hours = f" --hours {max(1, math.ceil(estimate.hours))}" if estimate else ""
    return {
        "base": str(result.base["name"]),
        "usable": usable.hub,
        "download": f"{usable.download_gb:g} GB",
        "licence": usable.licence,
        "hours": formatting.format_rough_hours(estimate.hours) if estimate else "",
        "basis": estimate.basis if estimate else "",
        "command": f"talim poc FOLDER --base {usable.hub}{hours} --out DIR",
    }


def key_figures(result: RunResults) -> list[tuple[str, str]]:
    """Up to three numbers to take away, each with its meaning: change of the loss, trained share, time."""
    mean = (result.losses.get("fall") or {}).get("mean")
    share, seconds = sentences.trained_share(result), result.cost.get("wall_seconds")
    found = []
    if mean is not None:
        sign = "+" if mean < 0 else ""  # a loss that rose
        found.append(
            (sign + formatting.format_number(-mean, 2), f"change of the held-out loss, in {result.loss_unit}")
        )
    if share is not None:
        found.append((formatting.format_percent(share), "of the base's size was trained"))
    if seconds is not None:
        found.append((formatting.format_duration(seconds), "of training"))
    return found


def loss_reduction_plots(result: RunResults) -> dict[str, Markup]:
    """The fall of the loss for each held-out recording, and their mean with its interval."""
    fall = result.losses.get("fall") or {}
    rows = [
        plots.ErrorBar(str(name), *_value_and_ends(value))
        for name, value in (fall.get("per_recording") or {}).items()
    ]
    if not rows or fall.get("mean") is None:
        return {}
    rows.append(
        plots.ErrorBar("mean, 95 % interval", fall["mean"], *sentences.interval_of(fall), strong=True)
    )
    alt = "; ".join(f"{row.label}: {formatting.format_number(row.value)}" for row in rows)
    label = f"fall of the loss in {result.loss_unit}, right is better"
    return {
        kind: plots.interval_plot(rows, alt=f"Fall of the loss, {alt}.", x_label=label, width_inches=width)
        for kind, width in (("broad", BROAD[0]), ("narrow", NARROW[0]))
    }


def _value_and_ends(value: Any) -> tuple[float, float | None, float | None]:
    return (
        (value["mean"], *sentences.interval_of(value))
        if isinstance(value, dict)
        else (float(value), None, None)
    )


def runs_table(folder: Path, results: Sequence[RunResults]) -> list[dict[str, str]]:
    """One row a run: where it lies, its design, what it gained."""
    rows = []
    for result in results:
        fall = result.losses.get("fall") or {}
        low, high = sentences.interval_of(fall)
        ends = (
            f"{formatting.format_number(low)} to {formatting.format_number(high)}"
            if low is not None and high is not None
            else ""
        )
        rows.append(
            {
                "name": result.folder.relative_to(folder).as_posix(),
                "design": str(result.recipe.get("design", "")),
                "base": str(result.base["name"]),
                "fall": formatting.format_number(fall["mean"])
                if fall.get("mean") is not None
                else sentences.NOT_MEASURED,
                "interval": ends,
            }
        )
    return rows


def loss_plots(result: RunResults) -> dict[str, Markup]:
    """Training and held-out loss over the steps, for a desk and for a phone."""
    train = [row for row in result.log if row.get("split") == "train"]
    held_out = [row for row in result.log if row.get("split") == "held_out"]
    lines = [_smoothed(train), _line(held_out, "held out", "accent")]
    lines = [line for line in lines if line.xs]
    if not lines:
        return {}
    alt = "Loss over the training steps. " + " ".join(_log_message(line) for line in lines)
    label = f"loss in {result.loss_unit}"
    return {
        kind: plots.curve_plot(lines, alt=alt, x_label="training step", y_label=label, size_inches=size)
        for kind, size in (("broad", BROAD), ("narrow", NARROW))
    }


def part_plots(result: RunResults) -> list[Markup]:
    """The held-out loss of each part: of each codebook, or at each noise level."""
    held_out = [row for row in result.log if row.get("split") == "held_out" and row.get("parts")]
    if len(held_out) < 2:
        return []
    drawings = []
    for place in range(len(held_out[0]["parts"])):
        line = plots.LineSeries(
            [row["step"] for row in held_out], [row["parts"][place] for row in held_out], ""
        )
        title = part_title(held_out[0].get("part_names") or [], place)
        drawings.append(
            plots.curve_plot(
                [line], alt=f"{title}: {_log_message(line)}", title=title, size_inches=(4.4, 2.1)
            )
        )
    return drawings


def part_title(names: Sequence[str], place: int) -> str:
    """A part's name as people count: the first codebook is 1; logs older than the names have codebooks."""
    name = names[place] if place < len(names) else f"codebook {place}"
    return f"Codebook {place + 1}" if name.startswith("codebook") else name.capitalize()


def _line(rows: list[dict[str, Any]], label: str, role: plots.Role) -> plots.LineSeries:
    return plots.LineSeries([row["step"] for row in rows], [row["loss"] for row in rows], label, role)


def _smoothed(rows: list[dict[str, Any]], points: int = 40) -> plots.LineSeries:
    """Means over neighbouring steps: a batch's own loss says more about the batch than about the model."""
    width = max(1, len(rows) // points)
    groups = [rows[start : start + width] for start in range(0, len(rows) - width + 1, width)]
    means = [{key: sum(row[key] for row in part) / width for key in ("step", "loss")} for part in groups]
    return _line(means, "training", "quiet")


def _log_message(line: plots.LineSeries) -> str:
    name = f"{line.label.capitalize()} " if line.label else ""
    return (
        f"{name}from {formatting.format_number(line.ys[0], 2)} to {formatting.format_number(line.ys[-1], 2)}."
    )


def reproduce_commands(result: RunResults) -> list[str]:
    """What to type to get the same numbers again."""
    run = result.folder.name
    typed = (result.facts.get("provenance") or {}).get("command")
    again = f"talim train --config {run}/recipe.yaml --out {run}-again" if result.recipe else typed
    return [line for line in (again, f"talim evaluate {run}-again", f"talim report {run}-again") if line]
