"""The staged plan on the page: gates and what was decided, every design's cost and fall, the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim import __version__
from talim.atomic_io import read_json, write_text
from talim.html import formatting, plots
from talim.html.render import render
from talim.poc import task_stage
from talim.reporting import sentences
from talim.reporting.messages import ANSWERS

FILE = "stages.json"
WIDTHS = {"broad": (8.4, 3.1), "narrow": (4.4, 3.0)}  # inches, for a desk and for a phone
# What the committed study found; tests/study/test_committed.py holds it to studies/paper/nano/report/study.json.
STUDY_RESULT = (
    "The study that comes with talim (studies/paper/nano: 270 trials on nano-musicgen, three seeds each) can: there "
    "linear was ahead of conv by 0.045 nats (95\u202f% range 0.036 to 0.053) and of transformer by 0.016 (0.007 to "
    "0.025). Place counted for more: adapters in the shallow third were 0.267 (0.218 to 0.316) behind those in all "
    "layers."
)
CONTINUATION_TITLES = {"extend": "Other seeds and more steps", "hybrid": "A part of the base beside it"}


def report_section(folder: Path) -> dict[str, Any] | None:
    """What the template shows of DIR/stages.json; None where there is none.

    The third stage is asked anew: people may have voted since.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    said = read_json(path)
    stages = [_fresh(row, folder) if row["name"] == "task" else row for row in said["stages"]]
    further = [row | {"title": CONTINUATION_TITLES[row["name"]], "stopped": ""} for row in said["further"]]
    return {
        "stages": [row | {"answer": ANSWERS[row["passed"]]} for row in [*stages, *further]],
        "stopped": next((row["stopped"] for row in stages if row["stopped"]), ""),
        "use": said["use"],
        "used": said["used"],
        "designs": [_row(row, said["chosen"]) for row in said["designs"]],
        "falls": loss_reduction_plots(said["designs"], said["chosen"]),
        "limits": said["limits"],
        "study": STUDY_RESULT,
        "curve": said["curve"],
        "curve_plots": curve_plots((said["curve"] or {}).get("points") or []),
        "commands": said["commands"],
    }


def chosen_run(folder: Path) -> Path | None:
    """The run of the chosen design, to be shown first; None where nothing was chosen."""
    path = folder / FILE
    chosen = read_json(path)["chosen"] if path.is_file() else None
    return folder / chosen["run"] if chosen else None


def without_runs(folder: Path) -> Path:
    """Write the page of a road that ended before anything was trained; its path."""
    target = folder / "report" / "index.html"
    values = {"version": __version__, "title": folder.resolve().name, "plan": report_section(folder)}
    write_text(target, render("poc.html", **values))
    return target


def _fresh(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The task's stage with what people have said by now in the place of what they had said then."""
    answer, heard = task_stage.human_decision(folder)
    own = [line for line in row["sentences"] if line.startswith(("Outputs fit", "Whether outputs"))]
    return {**row, "passed": answer, "sentences": [*own, *heard]}


def _row(row: Mapping[str, Any], chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    ends, ratios = row["interval"], row["ratios"]
    memory = row["memory_bytes"]
    return {
        "design": row["design"],
        "chosen": bool(chosen) and row["design"] == (chosen or {})["design"],
        "fall": formatting.format_number(row["fall"]),
        "interval": f"{formatting.format_number(ends[0])} to {formatting.format_number(ends[1])}"
        if ends
        else sentences.NOT_MEASURED,
        "time": formatting.format_duration(row["seconds"]),
        "memory": formatting.format_bytes(memory) if memory else sentences.NOT_MEASURED,
        "ratios": {
            name: formatting.format_percent(ratios[name]) if ratios.get(name) else sentences.NOT_MEASURED
            for name in ("memory", "operations", "storage")
        },
    }


def loss_reduction_plots(
    designs: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any] | None
) -> dict[str, Markup]:
    """Every design's fall with its interval, for a desk and for a phone; nothing for one design alone."""
    if len(designs) < 2:
        return {}
    rows = []
    for row in designs:
        low, high = row["interval"] or (None, None)
        is_chosen = row["design"] == (chosen or {}).get("design")
        rows.append(plots.ErrorBar(row["design"], row["fall"], low, high, is_chosen))
    alt = "; ".join(f"{row.label}: {formatting.format_number(row.value)}" for row in rows)
    told = f"Fall of the loss by design, {alt}."
    return {
        name: plots.interval_plot(
            rows, alt=told, x_label="fall of the held-out loss, right is better", width_inches=size[0]
        )
        for name, size in WIDTHS.items()
    }


def curve_plots(points: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    """The fall over the number of recordings with its interval, for a desk and for a phone."""
    if not points:
        return {}
    xs = [point["recordings"] for point in points]
    lines = [plots.LineSeries(xs, [point["mean"] for point in points], "", "accent")]
    if all(point["interval"] for point in points):
        lines += [
            plots.LineSeries(xs, [point["interval"][end] for point in points], name, "quiet")
            for end, name in ((1, "95 %"), (0, ""))
        ]
    told = ", ".join(
        f"{formatting.format_number(point['mean'])} from {point['recordings']}" for point in points
    )
    return {
        name: plots.curve_plot(
            lines,
            alt=f"Fall of the loss by the number of recordings learned from: {told}.",
            x_label="recordings learned from",
            y_label="fall of the loss",
            size_inches=size,
        )
        for name, size in WIDTHS.items()
    }
