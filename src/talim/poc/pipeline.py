"""The pipeline of a proof of concept: prepare, cost, quality, learning curve, task; it stops at an unmet gate."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from talim import recipe as recipes
from talim.atomic_io import read_json, write_json
from talim.backbones import resolve
from talim.corpus.attribution import attributions
from talim.corpus.manifest import FORMAT_VERSION, Corpus
from talim.corpus.prepare import prepare
from talim.errors import UsageError
from talim.experiments.trial import free_memory
from talim.html.formatting import format_counted, format_duration
from talim.html.languages import ENGLISH, NOTHING, to_fields, words
from talim.licences import allows_commercial_use
from talim.poc import (
    budget,
    continue_stage,
    cost_stage,
    gates,
    quality_stage,
    rate_search,
    report_section,
    state,
    task_stage,
)
from talim.poc.gates import GateThresholds
from talim.poc.learning_curve import learning_curve
from talim.poc.options import (
    DESIGNS,
    STEPS,
    PocOptions,
    build_recipes,
    channels_of,
    check_base,
    check_budget,
    poc_command,
)
from talim.poc.runs import PocContext, run_all
from talim.poc.state import StageCache
from talim.progress import Progress
from talim.recipe import Recipe
from talim.reporting import (
    catalogue,
    commands,
    commercial_use,
    cost_quality_use,
    human_ratings,
    messages,
    run_results,
    sentences,
)
from talim.reporting.catalogue import Texts, counted, in_languages
from talim.reporting.commands import quoted
from talim.reporting.run_report import hold_out_first, larger_base, make_music_commands
from talim.run import Run
from talim.time_log import TimeLog


def poc(
    folder: Path,
    out: Path,
    options: PocOptions | None = None,
    progress: Progress | None = None,
    continuation: str | None = None,
) -> dict[str, Any]:
    """Run the pipeline, or continue it ("extend", "hybrid"); returns the page's path, sentences, decisions and scores.

    Finished work whose inputs have not changed is skipped. If the recordings or the options have changed, earlier
    results move to DIR/earlier. A gate that is not met ends the pipeline early, which is a result. UsageError for
    invalid options, for other gates after a decision, and for a continuation without finished runs.
    """
    options, progress = options or PocOptions(), progress or Progress()
    if continuation not in (None, *continue_stage.CONTINUATIONS):
        known = ", ".join(continue_stage.CONTINUATIONS)
        raise UsageError(f"--continue {continuation!r} is unknown; choose one of {known}")
    check_base(options)
    thresholds = gates.read_gates(options.gates)
    if not continuation:
        check_budget(options, thresholds.cost.min_steps)
    by_design = build_recipes(options, out)  # before any work: a wrong setting should not cost an hour
    state.check_folders(folder, out)
    if continuation:
        continue_stage.check_continuable(out, folder)
    with Run(out).lock():
        stage_cache = StageCache(out / state.STAGE_CACHE)
        corpus = _prepare(folder, out, options, stage_cache, progress)
        core = _plan_identity(by_design, corpus)
        if continuation:
            key = continue_stage.plan_key(out, core)
            thresholds = gates.saved_gates(out, options.gates)
            prepare_seconds = 0.0
        else:
            key = core if options.hours is None else f"{core}-{options.hours:g}h"
            key = key if options.tune else f"{key}-untuned"
            state.bind_folder(out, key, progress)
            prepare_seconds = TimeLog(out / state.TIME_LOG, _prepare_purpose(corpus)).seconds
        time_log = TimeLog(out / state.TIME_LOG, f"{continuation or 'all'} {key}")
        if options.hours is not None and (other := time_log.other_seconds) >= 1.0:
            progress.log(
                f"{format_duration(other)} were spent here before, with other options or another --hours: they do not "
                "count in this time budget"
            )
        context = PocContext(out, options, corpus, progress, stage_cache, time_log, prepare_seconds)
        if continuation:
            before = state.read_stages(out / state.STAGES)
            decided = continue_stage.continue_training(context, continuation, before, thresholds)
            runs = [Run(out / row["run"]) for row in decided["designs"]]
            decided |= {"spent": _spent(context, decided, runs)}
        else:
            decided = _run_stages(context, by_design, thresholds, core, key)
        if decided["chosen"] and options.larger_base:
            result = run_results.read_result(out / decided["chosen"]["run"])
            decided["larger_base"] |= {"command": _larger_base_command(result, folder, out, options)}
        decided |= {"next_steps": _next_steps(context, decided, folder)}
        state.write_if_changed(out / state.STAGES, decided)
        return _result(context, decided)


def _plan_identity(by_design: dict[str, Recipe], corpus: Corpus) -> str:
    """A hash of the recipes and the corpus, without the time budget."""
    ids = [recipes.run_id(recipe, corpus.hash) for recipe in by_design.values()]
    return hashlib.sha256(json.dumps(sorted(ids)).encode()).hexdigest()[:12]


def _run_stages(
    context: PocContext, by_design: dict[str, Recipe], thresholds: GateThresholds, core: str, key: str
) -> dict[str, Any]:
    """The three stages, as far as their gates are met; returns the content of DIR/stages.json."""
    out, options = context.out, context.options
    before = state.read_stages(out / state.STAGES) if (out / state.STAGES).is_file() else {}
    limit = gates.memory_limit_bytes(thresholds, cost_stage.gpu_memory_bytes(options.device))
    already_decided = len(before.get("stages", [])) > 1
    summary = gates.write_gates(out, thresholds, options.hours, limit, already_decided)
    if note := quality_stage.undecidable_note(context.corpus):
        context.progress.log(note)
    by_design = rate_search.with_default_rates(by_design, context.corpus)
    plan = _load_or_make_plan(context, by_design, thresholds, core, key)
    decided: dict[str, Any] = {
        "plan": key,
        "base": options.base,
        "licence_use_note": _licence_use_note(options, context.corpus),
        "price_per_hour": options.price_per_hour,
        "prepare_seconds": context.prepare_seconds,
        **to_fields("time_note", NOTHING),
        "spent": None,
        "next_steps": [],
        "stages": [],
        "designs": [],
        "chosen": None,
        "larger_base": {"base": larger_base(options.license_use).name},
        "learning_curve": None,
        "tuning": {"families": [], "note": ""},
        "limitations": "",
        "continuations": before.get("continuations", []),
    }
    lines = cost_stage.cost_summary(plan, options)
    _decide(context, decided, "cost", summary, not plan["stopped"], lines, plan["stopped"])
    if plan["stopped"]:
        return decided | _time_note(context, "this")
    if "short_steps" in plan and "tuned" not in plan:
        plan = _try_rates(context, plan, by_design, thresholds)
        decided["stages"][0]["sentences"] = cost_stage.cost_summary(plan, options)
    planned = cost_stage.planned_recipes(plan, out / "corpus")
    runs, failures, shortened = run_all(context, planned, plan)
    choice = quality_stage.select_design(runs, thresholds)
    run = runs[choice.design]
    tuning = rate_search.summary(plan, out)
    tried = bool(tuning["families"])
    stop_reason = quality_stage.stop_reason(run, thresholds, context.corpus, options, rates_tried=tried)
    decided |= {
        "designs": quality_stage.design_rows(runs, plan["rows"]),
        "chosen": {"design": choice.design, "run": run.folder.name},
        "larger_base": _larger_base(context, decided, before, planned[choice.design]),
        "tuning": tuning,
        "limitations": words("en", "poc")["limitations"] if len(runs) > 1 else "",
    }
    lines = quality_stage.quality_summary(runs, failures, choice) + shortened
    passed = quality_stage.gate_passed(run, thresholds)
    _decide(context, decided, "quality", summary, passed, lines, stop_reason)
    if stop_reason:
        note = _time_note(context, "this", plan.get("curve_seconds", 0.0))
        return decided | note | {"spent": _spent(context, decided, runs.values())}
    tolerance = thresholds.quality.tolerance_fraction
    decided["learning_curve"] = learning_curve(context, planned[choice.design], run, tolerance)
    task_stage.write_brief_draft(out, context.corpus, options.sample_seconds, thresholds.task.min_acceptance_fraction)
    answer, ratings = task_stage.human_decision(out)
    decided |= _time_note(context, "stages") | {"spent": _spent(context, decided, runs.values())}
    lines = task_stage.adherence_lines(read_json(run.scores)) + ratings
    _decide(context, decided, "task", summary, answer, lines, {})
    return decided


def _try_rates(
    context: PocContext, plan: dict[str, Any], by_design: dict[str, Recipe], thresholds: GateThresholds
) -> dict[str, Any]:
    """Try learning rates, and save the plan with those that were chosen and what is left of the time budget."""
    planned = cost_stage.planned_recipes(plan, context.out / "corpus")
    families = rate_search.try_rates(context, plan, planned, thresholds.cost.min_steps)
    recipes_as_given = {design: by_design[design] for design in planned}
    plan = cost_stage.plan_with_rates(context, plan, recipes_as_given, families, thresholds)
    write_json(context.out / state.PLAN, plan)
    return plan


def _larger_base(
    context: PocContext, decided: dict[str, Any], before: dict[str, Any], recipe: Recipe
) -> dict[str, Any]:
    """The larger base and the planned time of the selected design's training on it; an earlier answer stays."""
    if not context.options.larger_base:
        return decided["larger_base"]
    job = {**decided["larger_base"], "plan": decided["plan"], "design": str(recipe.design)}
    saved = before.get("larger_base")
    if saved and "steps" in saved and {key: saved.get(key) for key in job} == job:
        return saved
    of = (context.corpus, context.options.device, context.progress, job["base"])
    return job | (cost_stage.larger_base_estimate(recipe, *of) or {})


def _decide(
    context: PocContext,
    decided: dict[str, Any],
    name: str,
    gate_summary: dict[str, Any],
    passed: bool | None,
    lines: list[str],
    stop_reason: Texts,
) -> None:
    """Add a stage's decision (None: open) to `decided`, and save it if DIR/stages.json has fewer stages."""
    stopped = in_languages("stop_here", reason=stop_reason) if stop_reason else NOTHING
    stage = {"name": name, "title": gates.STAGE_TITLES[name], "gate": gate_summary[name], "passed": passed}
    decided["stages"].append(stage | {"sentences": lines, **to_fields("stopped", stopped)})
    path = context.out / state.STAGES
    if not path.is_file() or len(state.read_stages(path)["stages"]) < len(decided["stages"]):
        write_json(path, decided)


def _load_or_make_plan(
    context: PocContext, by_design: dict[str, Recipe], thresholds: GateThresholds, core: str, key: str
) -> dict[str, Any]:
    """The saved plan, or a new one that is saved, so that a resumed run is the same run."""
    path = context.out / state.PLAN
    if path.is_file() and not (saved := read_json(path)).get("stopped"):
        return saved
    used = context.used_seconds
    with context.time_log.counting(context.progress) as progress:
        plan = cost_stage.plan_runs(by_design, context.corpus, context.options, thresholds, progress, used)
    free_memory()
    plan = {"key": key, "core": core, "hours": context.options.hours, "used_seconds": context.used_seconds} | plan
    write_json(path, plan)
    return plan


def _licence_use_note(options: PocOptions, corpus: Corpus) -> str:
    """The recordings that were excluded because of their licence; empty for any use."""
    if options.license_use == "any":
        return ""
    skipped, licences = corpus.summary["skipped"], corpus.summary["rights"]["licences"]
    names = [row["file"] for row in skipped if "commercial use" in row["reason"]]
    used = [name for name in licences if allows_commercial_use(name) != "allowed"]
    excluded = f"{format_counted(len(names), 'recording')} excluded, whose licence forbids it or is unknown: "
    note = excluded + ", ".join(names) if names else f"no recording was excluded, all being under {', '.join(licences)}"
    if used:
        note += f"; caution: recordings under {', '.join(used)} were used"
    rights = {**corpus.summary["rights"], "recordings": licences, "attributions": attributions(corpus.train)}
    base = resolve.resolve_source(options.base)
    rights |= {"base": options.base, "base_licence": resolve.source_licence(base)}
    return f"For commercial use: {note}. Judged: {commercial_use.sentence(rights)['en']}. This is not legal advice."


def _time_note(context: PocContext, what: str, left_out_seconds: float = 0.0) -> dict[str, Any]:
    """{"time_note", "time_note_translated"}: time of the whole so far, beside the budget, its price, and that of a
    learning curve that a gate has left out. Empty where neither a budget nor a price is given.
    """
    hours, price = context.options.hours, context.options.price_per_hour
    if hours is None and price is None:
        return to_fields("time_note", NOTHING)
    texts = [state.time_note(what, context.used_seconds, price, hours)]
    if left_out_seconds:
        texts.append(state.time_note("curve", left_out_seconds, price))
    return to_fields("time_note", catalogue.sentences(texts))


def _spent(context: PocContext, decided: Mapping[str, Any], runs: Iterable[Run]) -> dict[str, Any]:
    """Machine time of the whole, with what continued from it, and of its parts."""
    preparing = decided["prepare_seconds"]
    return budget.time_spent(context.time_log.plan_seconds + preparing, preparing, list(runs))


def _prepare_purpose(corpus: Corpus) -> str:
    return f"prepare {corpus.hash[:12]}"


def _prepare(folder: Path, out: Path, options: PocOptions, stage_cache: StageCache, progress: Progress) -> Corpus:
    target = out / "corpus"
    arguments: dict[str, Any] = {
        "clip_seconds": options.clip_seconds,
        "channels": channels_of(options.base),
        "seed": options.seed,
        "caption": options.caption,
        "held_out": list(options.held_out),
        "held_out_fraction": options.held_out_fraction,
        "license_use": options.license_use,
    }
    # a corpus of another format is prepared again, and one whose captions were read for another base
    inputs = [FORMAT_VERSION, options.base, *arguments.values()]
    key = state.recordings_key(folder, out, inputs)
    if stage_cache.is_current("prepare", key, target / "summary.json"):
        progress.log(f"{target}: the recordings have not changed; nothing to prepare")
        return Corpus.load(target)
    from talim.backbones.load import base_reader

    start = time.monotonic()
    corpus = prepare(folder, target, **arguments, reader=base_reader(options.base), progress=progress)
    TimeLog(out / state.TIME_LOG, _prepare_purpose(corpus)).add(time.monotonic() - start)
    key = state.recordings_key(folder, out, inputs)  # prepare may have written a metadata.csv
    stage_cache.mark_done("prepare", key)
    for line in messages.corpus_message(corpus.summary, target, folder).splitlines()[:-1]:
        progress.log(line)
    return corpus


def _result(context: PocContext, decided: dict[str, Any]) -> dict[str, Any]:
    """Write the page if anything on it has changed; returns what the command prints."""
    out, page = context.out, context.out / "report" / "index.html"
    chosen = decided["chosen"]
    run = Run(out / chosen["run"]) if chosen else None
    runs = [Run(out / row["run"]) for row in decided["designs"]]
    inputs = [path for each in runs for path in (each.scores, each.cost, each.log, each.recipe_file)]
    for name in (human_ratings.RATINGS, human_ratings.USEFULNESS):
        inputs += human_ratings.find_result_files(out, name)
    key = state.files_hash([out / state.STAGES, *inputs])
    if not context.stage_cache.is_current("report", key, page):
        page = report_section.write_report(out)
        context.stage_cache.mark_done("report", key)
    next_steps = report_section.open_steps(out, decided)
    summary = poc_summary(run, context.options.price_per_hour, decided) if run else {ENGLISH: []}
    return {
        "page": str(page),
        **to_fields("sentences", summary),
        "next_step": in_lines(next_steps),
        "make_music": make_music_commands(run_results.read_result(run.folder)) if run else [],
        **{key: decided[key] for key in ("time_note", "time_note_translated")},
        "spent": decided["spent"],  # None where nothing was trained
        "stages": decided["stages"],
        "stopped": _stopped(decided),
        "stopped_translated": next((row["stopped_translated"] for row in decided["stages"] if row["stopped"]), {}),
        "next_steps": next_steps,
        "designs": {row["design"]: {"mean": row["loss_reduction"], "ci95": row["ci95"]} for row in decided["designs"]},
        "learning_curve": decided["learning_curve"],
        "tuning": decided["tuning"],
        "continuations": decided["continuations"],
        "run": str(run.folder) if run else None,
        "scores": read_json(run.scores) if run else None,
    }


def _stopped(decided: Mapping[str, Any]) -> str:
    return next((row["stopped"] for row in decided["stages"] if row["stopped"]), "")


def _next_steps(context: PocContext, decided: Mapping[str, Any], folder: Path) -> list[dict[str, str]]:
    """What to do after a passed gate; of one that was stopped it is in its reason."""
    if not decided["chosen"] or _stopped(decided):
        return []
    result = run_results.read_result(context.out / decided["chosen"]["run"])
    continued = [row["name"] for row in decided["continuations"]]
    return suggested_next_steps(result, folder, context.out, context.options, continued, decided["larger_base"])


def gates_met(result: Mapping[str, Any], continuation: str | None = None) -> bool:
    """Whether no gate stopped what `poc` was asked for: its stages, or a continuation, which has to have run.

    A task that nobody has judged yet is open, and stops nothing.
    """
    if continuation is None:
        return all(row["passed"] is not False and not row["stopped"] for row in result["stages"])
    rows = [row for row in result["continuations"] if row["name"] == continuation]
    return any(row["passed"] is not False and row["runs"] for row in rows)


def poc_summary(run: Run, price_per_hour: float | None, decided: dict[str, Any]) -> dict[str, list[str]]:
    """Three sentences by language on the selected design: cost, quality, use (with what people decided)."""
    task = next((row for row in decided["stages"] if row["name"] == "task"), None)
    judged = [line for line in task["sentences"] if not task_stage.is_automatic(line)] if task else []
    result = run_results.read_result(run.folder)
    advised = any(row["stopped"] for row in decided["stages"])
    return cost_quality_use.points(result, price_per_hour, judged, decided["spent"], advised=advised)


def suggested_next_steps(
    result: run_results.RunResults,
    folder: Path,
    out: Path,
    options: PocOptions,
    continued: Sequence[str] = (),
    larger: Mapping[str, Any] = MappingProxyType({}),
) -> list[dict[str, str]]:
    """What to do next after a design that passed its gate: {"name", "command", a text by language}, not what is done.

    `continued` are the continuations that have run. `larger` is what is planned for the larger base.
    """
    steps = []
    short = quality_stage.too_short(result.steps_asked, result.cost)
    if short:
        if more := hold_out_first(result):
            steps.append({"name": "hold_out", **more, "command": ""})
        settings = {**dict(options.settings), STEPS: rate_search.MIN_STEPS}
        change = {"hours": 2 * options.hours} if options.hours else {"settings": tuple(settings.items())}
        longer = poc_command(folder, out, replace(options, **change))
        steps.append(_next_step("longer", longer, steps=counted(result.steps_asked or 0, "training step")))
    if result.miniature:
        steps.append(_next_base(result, folder, out, options, larger))
    if short or result.miniature:
        return steps
    steps.append(_next_step("listen", human_ratings.listen_command(quoted(out))))
    if "extend" not in continued:
        steps.append(_next_step("extend", poc_command(folder, out, options, "--continue", "extend")))
    return steps


def in_lines(steps: Sequence[Mapping[str, str]]) -> str:
    """Next steps for a terminal, each in a line with its command."""
    return "\n".join(f"{step['en']} {step['command']}".strip() for step in steps)


def _next_step(name: str, command: str, **values: Any) -> dict[str, str]:
    return {"name": name, **in_languages(f"next_{name}", **values), "command": command}


def _next_base(
    result: run_results.RunResults, folder: Path, out: Path, options: PocOptions, planned: Mapping[str, Any]
) -> dict[str, str]:
    """After a miniature: a full training of the larger base, how long that takes, and what is not known of it."""
    larger = larger_base(options.license_use)
    full = commands.full_training(result, larger.name)
    parts = [sentences.carry_over_sentence(result, larger.hub_id), in_languages("next_larger_base", base=larger.hub_id)]
    if full is not None:
        parts.append(commands.full_training_text(full, planned, options.price_per_hour))
    command = _larger_base_command(result, folder, out, options)
    return {"name": report_section.NEXT_BASE, **catalogue.sentences(parts), "command": command}


def _larger_base_command(result: run_results.RunResults, folder: Path, out: Path, options: PocOptions) -> str:
    """The full training of the larger base on the same recordings, with the same split."""
    larger = larger_base(options.license_use)
    full = commands.full_training(result, larger.name)
    # settings and a budget for a miniature say nothing about a base a hundred times its size
    given = replace(options, base=larger.hub_id, hours=None, settings=(), designs=DESIGNS, learning_curve=True)
    if full is not None:
        settings = commands.training_settings(full)
        given = replace(given, settings=settings, designs=(str(full.design),), learning_curve=False, tune=False)
    beside = out.resolve().with_name(f"{out.resolve().name}-{larger.hub_id.rpartition('/')[2]}")
    return poc_command(folder, beside, given)
