"""The stages of a proof of concept in the report: gates, decisions, costs and loss reductions, the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim.atomic_io import write_text
from talim.errors import TalimError, UsageError
from talim.experiments.goals import SelectionCriteria
from talim.experiments.results import is_study
from talim.html import formatting, plots
from talim.html.languages import NOTHING, from_fields, languages, to_fields
from talim.html.render import render
from talim.inside_folder import resolve_inside
from talim.poc import task_stage
from talim.poc.state import read_stages, unfinished_note
from talim.poc.translated_section import translated_section
from talim.recordings_needed import too_few_for_interval
from talim.reporting import human_ratings, run_report
from talim.reporting.catalogue import recording_values, shown_ends
from talim.reporting.messages import ANSWERS
from talim.reporting.run_results import find_runs
from talim.reporting.sentences import NOT_MEASURED
from talim.reporting.study_curves import tuning_rows
from talim.version import __version__

FILE = "stages.json"
LAST_STAGE = "task"
NEXT_BASE = "larger_base"  # the next step that the page of a miniature's run names at its top
UNFINISHED = (
    "This proof of concept is not finished, so nothing is decided yet: the same talim poc command goes on with what is "
    "missing."
)
CONTINUATION_TITLES = {"extend": "More seeds and steps", "hybrid": "Part of the base trained too"}


def write_report(
    folder: Path | str,
    criteria: SelectionCriteria | None = None,
    claims_file: Path | None = None,
    *,
    audio: bool = True,
) -> Path:
    """The report of `reporting.run_report.write_report`, with the stages of a proof of concept if FOLDER has them."""
    folder = Path(folder)
    plan = None if is_study(folder) else report_section(folder)
    if plan is None:
        return run_report.write_report(folder, criteria, claims_file, audio=audio)
    section = Markup(render("stages.html", plan=plan))
    if plan["designs"] or (not plan["stopped"] and _has_runs(folder)):
        decided = read_stages(folder / FILE)
        chosen = decided["chosen"]
        main = folder / resolve_inside(folder, chosen["run"]).relative_to(folder.resolve()) if chosen else None
        return run_report.write_report(
            folder,
            criteria,
            claims_file,
            audio=audio,
            extra_sections=[section],
            main_run=main,
            price_per_hour=decided["price_per_hour"],
            spent=decided["spent"],
            advised=bool(plan["stopped"]),
            larger=decided["larger_base"],
        )
    if criteria is not None or claims_file is not None or not audio:
        raise UsageError(f"{folder} holds no study: goals, limits, claims and --no-audio are for studies")
    target = folder / "report" / "index.html"
    values = {"version": __version__, "title": folder.resolve().name, "unfinished": plan["unfinished"]}
    write_text(target, render("poc.html", section=section, **values))
    return target


def _has_runs(folder: Path) -> bool:
    try:
        return bool(find_runs(folder))
    except TalimError:
        return False


def report_section(folder: Path) -> dict[str, Any] | None:
    """The values of the template from DIR/stages.json; None if there is none.

    The third stage is read again: people may have voted since.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    decided = read_stages(path)
    stages = [_update_task_stage(row, folder) if row["name"] == "task" else row for row in decided["stages"]]
    continuations = [
        row | {"title": CONTINUATION_TITLES.get(row["name"], row["name"]), **to_fields("stopped", NOTHING)}
        for row in decided["continuations"]
    ]
    curve = decided["learning_curve"]
    stopped = next((row["stopped"] for row in stages if row["stopped"]), "")
    complete = stopped or any(row["name"] == LAST_STAGE for row in stages)
    commands = _review_commands(folder, decided)
    next_steps = [step for step in open_steps(folder, decided) if step["name"] != NEXT_BASE]
    time = from_fields(decided, "time_note") if complete else unfinished_note(folder, decided)
    translated = {
        language: translated_section(language, folder, decided, [*stages, *continuations], not complete)
        for language in languages("poc")
        if language != "en"
    }
    for language, section in translated.items():
        section["begin"] += filter(None, [time.get(language, time["en"])])
        section.update(commands=commands, next_steps=next_steps)
    return {
        "unfinished": "" if complete else UNFINISHED,
        "time_note": time["en"],
        "stages": [row | {"answer": ANSWERS[row["passed"]]} for row in [*stages, *continuations]],
        "stopped": stopped,
        "next_steps": next_steps,
        **{name: decided[name] for name in ("licence_use_note", "limitations")},
        "tuning_note": decided["tuning"]["note"],
        "tuning_rows": tuning_rows(folder),
        "commands": commands,
        "designs": [_design_row(row, decided["chosen"]) for row in decided["designs"]],
        "reduction_plots": loss_reduction_plots(decided["designs"], decided["chosen"]),
        "learning_curve": curve,
        "curve_plots": curve_plots((curve or {}).get("points") or []),
        "translated": translated,
    }


def open_steps(folder: Path, decided: Mapping[str, Any]) -> list[dict[str, str]]:
    """The next steps in DIR/stages.json, without listening where people have done so since."""
    answered = human_ratings.find_result_files(folder, human_ratings.RATINGS)
    return [step for step in decided["next_steps"] if not (answered and step["name"] == "listen")]


def _review_commands(folder: Path, decided: Mapping[str, Any]) -> list[str]:
    """The commands for people, with the present place of the folder; none before their stage."""
    if not decided["chosen"] or all(row["name"] != "task" for row in decided["stages"]):
        return []
    return task_stage.review_commands(folder, folder / decided["chosen"]["run"])


def _update_task_stage(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The task stage with the present answers of people; its automatic sentences stay."""
    answer, sentences = task_stage.human_decision(folder)
    automatic = [line for line in row["sentences"] if task_stage.is_automatic(line)]
    return {**row, "passed": answer, "sentences": [*automatic, *sentences]}


def _design_row(row: Mapping[str, Any], chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    ratios, memory = row["ratios"], row["memory_bytes"]
    return {
        "design": row["design"],
        "chosen": bool(chosen) and row["design"] == (chosen or {})["design"],
        "loss_reduction": NOT_MEASURED
        if row["loss_reduction"] is None
        else formatting.format_number(row["loss_reduction"]),
        "ci95": formatting.format_ci(*row["ci95"], values=recording_values(row)) if row["ci95"] else NOT_MEASURED,
        "time": formatting.format_duration(row["seconds"]),
        "memory": formatting.format_memory(memory) if memory else NOT_MEASURED,
        "ratios": {
            name: formatting.format_percent(ratios[name]) if ratios.get(name) else NOT_MEASURED
            for name in ("memory", "flops", "disk")
        },
    }


def loss_reduction_plots(designs: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any] | None) -> dict[str, Markup]:
    """Every design's loss reduction with its interval, for two widths; nothing for a single one.

    It is that on validation; nothing without validation clips either.
    """
    if len(designs) < 2 or any(row["loss_reduction"] is None for row in designs):
        return {}
    bars = []
    for row in designs:
        strong = row["design"] == (chosen or {}).get("design")
        low, high = row["ci95"] or (None, None)
        ends = shown_ends(low, high, recording_values(row))
        bars.append(plots.ErrorBar(row["design"], row["loss_reduction"], *ends, strong=strong))
    values = "; ".join(f"{bar.label}: {formatting.format_number(bar.value)}" for bar in bars)
    alt, label = f"Loss reduction by design, {values}.", "reduction of the validation loss, right is better"
    return plots.responsive_pair(bars, alt=alt, x_label=label, widths_inches=(8.4, 4.4))


def curve_plots(points: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    """The loss reduction over the number of recordings with its interval, for two widths."""
    if not points:
        return {}
    xs = [point["recordings"] for point in points]
    lines = [plots.LineSeries(xs, [point["mean"] for point in points], "", "accent")]
    if all(point["ci95"] and not too_few_for_interval(len(recording_values(point))) for point in points):
        lines += [
            plots.LineSeries(xs, [point["ci95"][end] for point in points], name, "quiet")
            for end, name in ((1, "95 %"), (0, ""))
        ]
    values = ", ".join(f"{formatting.format_number(point['mean'])} with {point['recordings']}" for point in points)
    alt = f"Loss reduction by the number of training recordings: {values}."
    return plots.responsive_curves(lines, alt=alt, x_label="training recordings", y_label="loss reduction")
