"""Writes the report of a study: one self-contained page, and the same values as study.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talim.atomic_io import write_text
from talim.experiments import hypotheses as hypotheses_file
from talim.experiments.goals import SelectionCriteria
from talim.experiments.hypotheses import Hypotheses
from talim.experiments.results import COPY_OF, StudyResults, is_study, read_study
from talim.html import formatting
from talim.html.render import render
from talim.reporting import audio_examples, study_controls, study_plots, study_sentences, tables
from talim.reporting.commands import quoted
from talim.reporting.run_results import RunResults
from talim.reporting.study_curves import choices, learning_curves
from talim.reporting.study_summary import study_summary
from talim.training.model_card import GUIDELINE
from talim.version import __version__

CLAIMS = "claims.yaml"


def study_report(
    folder: Path, criteria: SelectionCriteria | None = None, claims_file: Path | None = None, *, audio: bool = True
) -> Path:
    """Write DIR/report/index.html and DIR/report/study.json from DIR/results.jsonl, and return the page's path.

    Hypotheses are those of `claims_file`, else of DIR/claims.yaml if there is one. TalimError for a damaged file.
    """
    study, criteria = read_study(folder), criteria or SelectionCriteria()
    if claims_file is None and (folder / CLAIMS).is_file():
        claims_file = folder / CLAIMS
    hypotheses = hypotheses_file.load(claims_file) if claims_file else None
    additional = additional_studies(claims_file, hypotheses) if claims_file and hypotheses else []
    runs = audio_examples.example_runs(study)
    units = {trial.base: runs[trial.id].loss_unit for trial in study.trials if trial.id in runs}
    value = study_summary(study, criteria, hypotheses, units, additional)
    target = folder / "report" / "index.html"
    write_text(target.with_name("study.json"), json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    values = context(study, value, runs, claims_file, hypotheses, audio=audio)
    write_text(target, render("study.html", **values))
    return target


def additional_studies(claims_file: Path, hypotheses: Hypotheses) -> list[StudyResults]:
    """The additional studies that a claims file names, without those that have no results yet."""
    folders = [claims_file.parent / name for name in hypotheses.additional_studies]
    return [read_study(folder) for folder in folders if is_study(folder)]


def context(
    study: StudyResults,
    value: Mapping[str, Any],
    runs: Mapping[str, RunResults],
    claims_file: Path | None,
    hypotheses: Hypotheses | None,
    *,
    audio: bool,
) -> dict[str, Any]:
    """Every value of the template: those of study.json, plots, audio, and formatters."""
    designs = dict.fromkeys(
        each["design"] for base in value["bases"] for each in base["recommendations"] if each["design"]
    )
    return {
        "version": __version__,
        "study": value,
        "deck": subtitle(study),
        "bases": [with_plots(base) for base in value["bases"]],
        "confidence": hypotheses.confidence if hypotheses else None,
        "caveats": hypotheses.caveats if hypotheses else (),
        "claims_file": claims_file.name if claims_file else "",
        "side_by_side": audio_examples.side_by_side(study, runs, list(designs)) if audio else [],
        "choices": choices(study.folder),
        "data": _data_tables(study, runs),
        "guideline": [line.removeprefix("- ") for line in GUIDELINE.replace("\n  ", " ").splitlines()],
        "commands": reproduce_commands(study, claims_file),
        "provenance": next((tables.provenance_table(result) for result in runs.values()), []),
        "costs": study_sentences.COSTS,
        "goals": study_sentences.WORDS["goals"],
        "measure_name": study_sentences.measure_name,
        "control_table": study_controls.control_table(value["controls"]),
        "controls_text": study_sentences.controls_text(value["controls"]),
        "comparison_text": study_sentences.comparison_text,
        "expectation_text": study_sentences.expectation_text,
        "result_text": study_sentences.result_text,
        "number": formatting.format_number,
        "p_value": formatting.format_p_value,
        "percent": formatting.format_percent,
        "ci": formatting.format_ci,
    }


def with_plots(base: Mapping[str, Any]) -> dict[str, Any]:
    """One base's plots and tables, with its values."""
    by_goal: dict[str, list[Mapping[str, Any]]] = {}
    for each in base["recommendations"]:
        by_goal.setdefault(each["goal"], []).append(each)
    return {
        **base,
        "by_goal": by_goal,
        "pareto_plots": study_plots.pareto_plots(base),
        "pareto_table": study_plots.pareto_table(base),
        "site": study_plots.main_site(base),
        "size_plots": study_plots.size_curves(base),
        "heat_maps": [drawing for table in base["tables"] if (drawing := study_plots.heat_map(table))],
        "effect_plots": study_plots.effect_plots(base),
        "interaction_plots": study_plots.interaction_plots(base),
        "curves": learning_curves(base),
        "cost_bars": study_plots.cost_bars(base),
        "measures": [study_plots.table_measures(table) for table in base["tables"]],
    }


def subtitle(study: StudyResults) -> str:
    """One line under the title: how many trials of how many designs, on which corpora."""
    if not study.tables:
        return "No trial has finished yet."
    designs = {trial.design for trial in study.trials}
    seeds = sorted({len(table.of_design(d)) for table in study.tables for d in table.designs})
    per_design = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    corpora = {table.corpus for table in study.tables}
    return (
        f"{formatting.format_counted(len(study.trials), 'trial')} of "
        f"{formatting.format_counted(len(designs), 'design')} in {', '.join(study.bases)}, on "
        f"{', '.join(sorted(corpora))}; {per_design} {'seed' if per_design == '1' else 'seeds'} each."
    )


def reproduce_commands(study: StudyResults, claims_file: Path | None) -> list[str]:
    """The commands that make the same results and page."""
    folder = quoted(study.folder)
    inside = [path for path in sorted(study.folder.glob("*.yaml")) if path.name != CLAIMS]
    beside = study.folder.resolve().with_suffix(".yaml")  # of "." too
    file = next((path for path in [*inside, beside] if path.is_file()), study.folder / "STUDY.yaml")
    if file.is_file() and (original := file.read_text(encoding="utf-8").partition("\n")[0]).startswith(COPY_OF):
        file = path if (path := Path(original.removeprefix(COPY_OF))).is_file() else file
    claims = f" --claims {quoted(claims_file)}" if claims_file and claims_file.parent != study.folder else ""
    return [f"talim study {quoted(file)} --out {folder}", f"talim report {folder}{claims}"]


def _data_tables(study: StudyResults, runs: Mapping[str, RunResults]) -> list[tuple[str, tables.TableRows]]:
    """The training data, split and rights of each corpus."""
    results = {trial.corpus: runs[trial.id] for trial in reversed(study.trials) if trial.id in runs}
    by_corpus = {table.corpus: results.get(table.corpus) for table in study.tables}
    return [(corpus, rows) for corpus, result in by_corpus.items() if result and (rows := tables.data_table(result))]
