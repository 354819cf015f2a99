"""The stages of a proof of concept in another language than English, from the same numbers as the English sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim.evaluation.predictor_comparison import may_be_chance
from talim.html.formatting import format_ci, format_count, format_memory, format_number, format_percent
from talim.html.languages import from_fields, words
from talim.poc import task_stage
from talim.reporting.catalogue import duration, interval_ends, interval_in_languages, measure_interval, recording_values
from talim.reporting.messages import ANSWERS, stored_sentences
from talim.reporting.predictor_sentences import standing_sentences
from talim.reporting.run_results import RunResults, read_result


def translated_section(
    language: str, folder: Path, decided: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], unfinished: bool
) -> dict[str, Any]:
    """The values of the template but for the commands: {"begin", "stages", "table", "curve", "curve_title", "people"}.

    `stages` are those of stages.json with the present answers of people, and the continuations.
    """
    texts = words(language, "poc")
    chosen = decided["chosen"]
    result = read_result(folder / chosen["run"]) if chosen and (folder / chosen["run"]).is_dir() else None
    stopped = [text for row in stages if (text := from_fields(row, "stopped").get(language, row["stopped"]))]
    sentences = {
        "cost": _cost_sentences(texts, decided["designs"]),
        "quality": [] if result is None else _quality_sentences(language, result, chosen["design"]),
        "task": _task_sentences(language, folder, result),
    }
    sentences["quality"] += filter(None, [stored_sentences(decided["tuning"]["note"], language)])
    curve = decided["learning_curve"]
    return {
        "begin": [*([texts["unfinished"]] if unfinished else stopped), texts["before"]],
        "stages": [
            {
                "name": row["name"],
                "title": texts["titles"].get(row["name"], row["name"]),
                "answer": texts["answers"][ANSWERS[row["passed"]]],
                "gate": texts["gate"].format(**row["gate"].get(language, row["gate"])),
                "sentences": sentences[row["name"]]
                if row["name"] in sentences
                else [stored_sentences(line, language) for line in row["sentences"]],
            }
            for row in stages
        ],
        "table": _table(language, decided["designs"], (chosen or {}).get("design")),
        "heading": texts["heading"],
        "curve_title": texts["curve"],
        "curve": curve and from_fields(curve, "sentence").get(language, curve["sentence"]),
        "people": texts["people"],
    }


def _cost_sentences(texts: Mapping[str, Any], designs: Sequence[Mapping[str, Any]]) -> list[str]:
    steps = max((row.get("steps") or 0 for row in designs), default=0)
    return [texts["trained"].format(designs=len(designs), steps=format_count(steps))] if steps else []


def _quality_sentences(language: str, result: RunResults, design: str) -> list[str]:
    """The selected design, its loss reduction on held-out recordings, and how it stands beside predictors."""
    texts, reduction = words(language, "poc"), result.losses.get("loss_reduction") or {}
    lines = []
    if reduction.get("mean") is not None:
        interval = measure_interval(reduction)[language]
        key = "selected_by_chance" if may_be_chance(reduction) else "selected"
        key += "_rise" * (reduction["mean"] < 0)
        lines.append(texts[key].format(design=design, value=format_number(abs(reduction["mean"])), interval=interval))
        lines.append(standing_sentences(result.losses).get(language, ""))
    return [line for line in [*lines, texts["limitations"]] if line]


def _task_sentences(language: str, folder: Path, result: RunResults | None) -> list[str]:
    """How often outputs match their prompts, and what people say."""
    texts, lines = words(language, "poc"), []
    for row in [] if result is None else result.scores.get("scores") or []:
        if str(row.get("name", "")).startswith("adherence_") and row.get("value") is not None:
            values = row.get("recording_values") or ()  # none in files of earlier versions
            ends = interval_in_languages(row.get("low"), row.get("high"), values, format_percent, task_stage.CHANCE)
            lines.append(
                texts["adherence"].format(
                    name=words(language).get(f"score_{row['name']}", row["name"]),
                    value=format_percent(row["value"]),
                    interval=ends[language],
                )
            )
    answer, said = task_stage.human_decision(folder, language)
    if answer is None:
        said = [texts[said[0]], *said[1:]]
    return [*(lines or [texts["adherence_unknown"]]), *said]


def _table(language: str, designs: Sequence[Mapping[str, Any]], chosen: str | None) -> dict[str, Any]:
    """Caption, heads and rows of the table of designs; empty without any."""
    if not designs:
        return {}
    texts, unknown = words(language, "poc"), words(language)["not_known"]
    rows = []
    for row in designs:
        ends = (
            unknown
            if row["ci95"] is None
            else interval_ends(format_ci(*row["ci95"], values=recording_values(row)))[language]
        )
        memory = row.get("memory_bytes")
        cells = [
            unknown if row["loss_reduction"] is None else format_number(row["loss_reduction"]),
            ends,
            duration(row["seconds"])[language],
            format_memory(memory) if memory else unknown,
            *(
                format_percent(row["ratios"][key]) if row["ratios"].get(key) else unknown
                for key in ("memory", "flops", "disk")
            ),
        ]
        name = texts["chosen"].format(design=row["design"]) if row["design"] == chosen else row["design"]
        rows.append([name, *cells])
    return {"caption": texts["table"], "heads": texts["columns"], "rows": rows}
