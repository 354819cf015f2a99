"""Writes the page of a study: one self-contained file, and beside it everything that it shows as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talim import __version__
from talim.atomic_io import write_text
from talim.experiments import hypotheses as written
from talim.experiments.goals import SelectionCriteria
from talim.experiments.hypotheses import Hypotheses
from talim.experiments.hypothesis_tests import TrialMeasures
from talim.experiments.results import BaseModelResults, StudyResults, is_study, read_study
from talim.html import formatting
from talim.html.render import render
from talim.reporting import audio_examples, study_plots, tables
from talim.reporting.run_results import RunResults
from talim.reporting.study_sentences import (
    COSTS,
    GOALS,
    comparison_text,
    expected_text,
    findings_text,
    format_ci,
    measure_name,
)
from talim.reporting.study_summary import study_summary
from talim.training.model_card import GUIDELINE

CLAIMS = "claims.yaml"


def study_report(
    folder: Path,
    wish: SelectionCriteria | None = None,
    claims_file: Path | None = None,
    *,
    sounds: bool = True,
) -> Path:
    """Write DIR/report/index.html and DIR/report/study.json from DIR/results.jsonl, and return the page's path.

    Claims are judged where `claims_file` is given or DIR/claims.yaml is there. TalimError for a damaged file.
    """
    study, wish = read_study(folder), wish or SelectionCriteria()
    if claims_file is None and (folder / CLAIMS).is_file():
        claims_file = folder / CLAIMS
    claims = written.load(claims_file) if claims_file else None
    further = further_trials(claims_file, claims) if claims_file and claims else []
    runs = audio_examples.example_runs(study)
    value = study_summary(study, wish, claims, _units(study, runs), further)
    target = folder / "report" / "index.html"
    write_text(target.with_name("study.json"), json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(
        target, render("study.html", **context(study, value, runs, claims_file, claims, sounds=sounds))
    )
    return target


def further_trials(claims_file: Path, claims: Hypotheses) -> list[TrialMeasures]:
    """Trials of the studies that a file of claims names beside the one it is judged on; those not run yet give none."""
    folders = [claims_file.parent / name for name in claims.also]
    return [trial for folder in folders if is_study(folder) for trial in read_study(folder).trials]


def context(
    study: StudyResults,
    value: Mapping[str, Any],
    runs: Mapping[str, RunResults],
    claims_file: Path | None,
    claims: Hypotheses | None,
    *,
    sounds: bool,
) -> dict[str, Any]:
    """Every value that the template shows: the plain ones, their drawings, the sounds, and ways to write numbers."""
    worth = list(
        dict.fromkeys(each["design"] for base in value["bases"] for each in base["advice"] if each["design"])
    )
    return {
        "version": __version__,
        "study": value,
        "deck": subtitle(study),
        "bases": [with_drawings(base) for base in value["bases"]],
        "claims_level": claims.level if claims else None,
        "limits": claims.limits if claims else (),
        "claims_file": claims_file.name if claims_file else "",
        "side_by_side": audio_examples.side_by_side(study, runs, worth) if sounds else [],
        "data": _data(study, runs),
        "guideline": [line.removeprefix("- ") for line in GUIDELINE.replace("\n  ", " ").splitlines()],
        "commands": reproduce_commands(study, claims_file),
        "provenance": next((tables.provenance_table(result) for result in runs.values()), []),
        "costs": COSTS,
        "goals": GOALS,
        "named": measure_name,
        "compared": comparison_text,
        "expected": expected_text,
        "found_out": findings_text,
        "number": formatting.format_number,
        "percent": formatting.format_percent,
        "count": formatting.format_count,
        "counted": formatting.format_counted,
        "span": format_ci,
    }


def with_drawings(base: Mapping[str, Any]) -> dict[str, Any]:
    """One base's drawings and tables beside its plain values."""
    goals = dict.fromkeys(each["goal"] for each in base["advice"])
    return {
        **base,
        "by_goal": {goal: [each for each in base["advice"] if each["goal"] == goal] for goal in goals},
        "frontier_plots": study_plots.frontiers(base),
        "frontier_table": study_plots.frontier_table(base),
        "site": study_plots.main_site(base),
        "size_plots": study_plots.size_curves(base),
        "heat_maps": [drawing for table in base["tables"] if (drawing := study_plots.heat_map(table))],
        "effect_plots": study_plots.effect_plots(base),
        "dependence": study_plots.interaction_plots(base),
        "bars": study_plots.cost_bars(base),
        "measures": [study_plots.measures_of(table) for table in base["tables"]],
    }


def subtitle(study: StudyResults) -> str:
    """One line under the title: how many trials of how many designs, on what."""
    if not study.tables:
        return "No trial has finished yet."
    designs = {row.design for row in study.rows}
    seeds = sorted({len({row.seed for row in table.of(d)}) for table in study.tables for d in table.designs})
    per = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    corpora = {table.corpus for table in study.tables}
    return (
        f"{formatting.format_counted(len(study.rows), 'trial')} of {formatting.format_counted(len(designs), 'design')} in "
        f"{', '.join(study.bases)}, on {', '.join(sorted(corpora))}; {per} {'seed' if per == '1' else 'seeds'} each."
    )


def reproduce_commands(study: StudyResults, claims_file: Path | None) -> list[str]:
    """What to type to get the same results and page again."""
    folder = shlex.quote(str(study.folder))
    inside = [path for path in sorted(study.folder.glob("*.yaml")) if path.name != CLAIMS]
    beside = study.folder.with_suffix(".yaml")  # where a study is committed without what it ran in
    plan = next((path for path in [*inside, beside] if path.is_file()), study.folder / "STUDY.yaml")
    claims = (
        f" --claims {shlex.quote(str(claims_file))}"
        if claims_file and claims_file.parent != study.folder
        else ""
    )
    return [f"talim study {shlex.quote(str(plan))} --out {folder}", f"talim report {folder}{claims}"]


def _units(study: StudyResults, runs: Mapping[str, RunResults]) -> dict[str, str]:
    """What each base's loss is counted in, as its runs tell it; the losses of a base without runs have no unit."""
    return {row.base: runs[row.id].loss_unit for row in study.rows if row.id in runs}


def _data(study: StudyResults, runs: Mapping[str, RunResults]) -> list[tuple[str, tables.TableRows]]:
    """What was shown to the models, how it was split and under which rights, corpus by corpus."""
    return [(table.corpus, rows) for table in _by_corpus(study) if (rows := _first_data(table, runs))]


def _by_corpus(study: StudyResults) -> list[BaseModelResults]:
    return list({table.corpus: table for table in study.tables}.values())


def _first_data(table: BaseModelResults, runs: Mapping[str, RunResults]) -> tables.TableRows:
    return next((tables.data_table(runs[row.id]) for row in table.rows if row.id in runs), [])
