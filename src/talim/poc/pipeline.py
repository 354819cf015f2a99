"""The road of the proof of concept: prepare, cost, quality, learning curve, task; stopped where a gate is not met."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.corpus.prepare_source import prepare
from talim.errors import UsageError
from talim.html import formatting
from talim.poc import continue_stage, cost_stage, gates, quality_stage, state, task_stage
from talim.poc.gates import GateThresholds
from talim.poc.learning_curve import learning_curve
from talim.poc.options import PocOptions, channels, check_base, recipes_of
from talim.poc.runs import PocContext, free_memory, train_all
from talim.poc.state import StageCache, TimeLog
from talim.progress import Progress, prepare_progress
from talim.recipe import Recipe
from talim.reporting import human_ratings, messages, run_report, run_results, sentences
from talim.run import Run

STAGES = ("all", *continue_stage.STAGES)


def poc(
    folder: Path,
    out: Path,
    wishes: PocOptions | None = None,
    progress: Progress | None = None,
    stage: str = "all",
) -> dict[str, Any]:
    """Go the road, or on with it ("extend", "hybrid"); the page's path, sentences, what was decided, the scores.

    What is done and whose inputs have not changed is skipped. If the recordings or the wishes have changed, the earlier
    runs move to DIR/earlier and new ones are made. A gate that is not met ends the road early, which is a result.
    UsageError for wishes that make no sense, for other gates after the result, and for going on from nothing.
    """
    wishes, progress = wishes or PocOptions(), progress or Progress()
    if stage not in STAGES:
        raise UsageError(f"--stage {stage!r} is not known; choose one of {', '.join(STAGES)}")
    check_base(wishes)
    thresholds = gates.read_gates(wishes.gates)
    wanted = recipes_of(wishes, out)  # before any work: a misspelt setting should not cost an hour
    state.check_folders(folder, out)
    if stage != "all":
        continue_stage.check_continuable(out, folder)
    with Run(out).lock():
        stamps = StageCache(out / state.STAMPS)
        corpus = _prepare(folder, out, wishes, stamps, progress)
        core = _plan_identity(wanted, corpus)
        if stage == "all":
            key = core if wishes.hours is None else f"{core}-{wishes.hours:g}h"
            state.bind_folder(out, key, progress)
        else:
            key = continue_stage.plan_key(out, core)
            thresholds = gates.saved_gates(out, wishes.gates)
        before = TimeLog(out / state.SPENT, _prepared_message(corpus)).seconds if stage == "all" else 0.0
        spent = TimeLog(out / state.SPENT, f"{stage} {key}")
        way = PocContext(out, wishes, corpus, progress, stamps, spent, before)
        if stage == "all":
            decided = _run_stages(way, wanted, thresholds, core, key)
        else:
            decided = continue_stage.continue_training(way, stage, read_json(out / state.STAGES), thresholds)
        state.write_if_changed(out / state.STAGES, decided)
        return _result(way, decided)


def _plan_identity(wanted: dict[str, Recipe], corpus: Corpus) -> str:
    """What names a plan, whatever the hours."""
    names = [recipes.run_id(recipe, corpus.hash) for recipe in wanted.values()]
    return hashlib.sha256(json.dumps(sorted(names)).encode()).hexdigest()[:12]


def _run_stages(
    way: PocContext, wanted: dict[str, Recipe], thresholds: GateThresholds, core: str, key: str
) -> dict[str, Any]:
    """The three stages, as far as their gates let it go: what stands in DIR/stages.json."""
    out, wishes = way.out, way.wishes
    before = read_json(out / state.STAGES) if (out / state.STAGES).is_file() else {}
    limit = gates.size_limit_bytes(thresholds, cost_stage.machine_bytes(wishes.device))
    written = gates.write_gates(
        out, thresholds, wishes.hours, limit, decided=len(before.get("stages", [])) > 1
    )
    plan = _planned(way, wanted, thresholds, core, key)
    said: dict[str, Any] = {
        "plan": key,
        "base": wishes.base,
        "use": _license_use_note(wishes, way.corpus),
        "used": "",
        "stages": [],
        "designs": [],
        "chosen": None,
        "curve": None,
        "limits": "",
        "commands": [],
        "further": before.get("further", []),
    }
    told = cost_stage.cost_summary(plan, wishes)
    _decide(way, said, "cost", "Cost", written, not plan["stopped"], told, plan["stopped"])
    if plan["stopped"]:
        return said
    found = cost_stage.planned_recipes(plan, out / "corpus")
    runs, broken = train_all(way, found)
    choice = quality_stage.select_design(runs, thresholds)
    run = runs[choice.design]
    why = quality_stage.stop_reason(run, thresholds)
    met = quality_stage.gate_passed(run, thresholds)
    lines = quality_stage.quality_summary(runs, broken, choice)
    said |= {
        "designs": quality_stage.table(runs, plan["rows"]),
        "chosen": {"design": choice.design, "run": run.folder.name},
        "limits": quality_stage.LIMITS if len(runs) > 1 else "",
    }
    _decide(way, said, "quality", "Musical quality", written, met, lines, why)
    if why:
        return said | {"used": _hours_used_message(way)}
    said["curve"] = learning_curve(way, found[choice.design], run, thresholds.quality.margin_share)
    task_stage.write_brief_draft(out, way.corpus, wishes.sample_seconds, thresholds.task.acceptance_at_least)
    answer, heard = task_stage.human_decision(out)
    said |= {"commands": task_stage.review_commands(out, run.folder), "used": _hours_used_message(way)}
    lines = task_stage.adherence_lines(read_json(run.scores)) + heard
    _decide(way, said, "task", "Contribution to the task", written, answer, lines, "")
    return said


def _decide(
    way: PocContext,
    said: dict[str, Any],
    name: str,
    title: str,
    written: dict[str, Any],
    met: bool | None,
    lines: list[str],
    stopped: str,
) -> None:
    """Add what was decided at one stage, and write it down: its gate, whether it is met (None: open), why it ends."""
    row = {"name": name, "title": title, "gate": written[name], "passed": met, "sentences": lines}
    said["stages"].append(row | {"stopped": f"Stopped here because {stopped}." if stopped else ""})
    path = way.out / state.STAGES
    if not path.is_file() or len(read_json(path)["stages"]) < len(said["stages"]):
        write_json(path, said)


def _planned(
    way: PocContext, wanted: dict[str, Recipe], thresholds: GateThresholds, core: str, key: str
) -> dict[str, Any]:
    """The plan as it was decided, or decided now and kept, so that a resumed run is the same run."""
    path = way.out / state.PLAN
    if path.is_file() and not read_json(path).get("stopped"):
        return read_json(path)
    used = way.used_seconds
    with way.spent.counting(way.progress) as progress:
        plan = cost_stage.fit_steps_to_budget(wanted, way.corpus, way.wishes, thresholds, progress, used)
    free_memory()
    plan = {"key": key, "core": core, "hours": way.wishes.hours} | plan
    write_json(path, plan)
    return plan


def _license_use_note(wishes: PocOptions, corpus: Corpus) -> str:
    """What was left out for the sake of its use, with names; empty where any use is meant."""
    if wishes.use == "any":
        return ""
    names = [row["file"] for row in corpus.summary["skipped"] if "commercial use" in row["reason"]]
    left = f"{formatting.format_counted(len(names), 'recording')} left out, whose licence forbids that or is unknown"
    told = f"{left}: {', '.join(names)}" if names else "no recording had to be left out"
    return f"For commercial use: {told}. This is no legal advice."


def _hours_used_message(way: PocContext) -> str:
    """How much of the hours went by, over all resumptions; empty where none were given."""
    if way.wishes.hours is None:
        return ""
    return f"It took {formatting.format_duration(way.used_seconds)} of the {way.wishes.hours:g} h that were given."


def _prepared_message(corpus: Corpus) -> str:
    return f"prepare {corpus.hash[:12]}"


def _prepare(folder: Path, out: Path, wishes: PocOptions, stamps: StageCache, progress: Progress) -> Corpus:
    target = out / "corpus"
    options = [
        wishes.clip_seconds,
        channels(wishes.base),
        wishes.seed,
        wishes.describe,
        list(wishes.held_out),
    ]
    options += [wishes.held_out_share, *([wishes.use] if wishes.use != "any" else [])]
    key = state.recordings_key(folder, out, options)
    if stamps.is_current("prepare", key, target / "summary.json"):
        progress.log(f"{target}: the recordings have not changed; nothing to prepare")
        return Corpus.load(target)
    began = time.monotonic()
    corpus = prepare(
        folder,
        target,
        clip_seconds=wishes.clip_seconds,
        seed=wishes.seed,
        describe=wishes.describe,
        held_out=wishes.held_out,
        held_out_share=wishes.held_out_share,
        channels=channels(wishes.base),
        use=wishes.use,
        progress=prepare_progress(progress),
    )
    TimeLog(out / state.SPENT, _prepared_message(corpus)).add(time.monotonic() - began)
    stamps.set("prepare", state.recordings_key(folder, out, options))  # it may have written a metadata.csv
    for line in messages.corpus_message(corpus.summary, target).splitlines()[:-1]:
        progress.log(line)
    return corpus


def _result(way: PocContext, decided: dict[str, Any]) -> dict[str, Any]:
    """The page, made anew where anything that it shows has changed, and what the command prints."""
    out, page = way.out, way.out / "report" / "index.html"
    chosen = decided["chosen"]
    run = Run(out / chosen["run"]) if chosen else None
    runs = [Run(out / row["run"]) for row in decided["designs"]]
    shown = [path for each in runs for path in (each.scores, each.cost, each.log, each.recipe_file)]
    votes = [
        path
        for name in (human_ratings.RATINGS, human_ratings.USEFULNESS)
        for path in human_ratings.find_result_files(out, name)
    ]
    seen = state.files_hash([out / state.STAGES, *shown, *votes])
    if not way.stages.is_current("report", seen, page):
        page = run_report.write_report(out)
        way.stages.set("report", seen)
    stopped = next((row["stopped"] for row in decided["stages"] if row["stopped"]), "")
    told: dict[str, Any] = {
        "page": str(page),
        "sentences": poc_summary(run) if run else [],
        "stages": decided["stages"],
        "stopped": stopped,
        "designs": {
            row["design"]: {"mean": row["fall"], "interval": row["interval"]} for row in decided["designs"]
        },
        "curve": decided["curve"],
        "further": decided["further"],
        "run": str(run.folder) if run else None,
        "scores": read_json(run.scores) if run else None,
    }
    return told


def poc_summary(run: Run) -> list[str]:
    """Three plain sentences: what became of the held-out loss, what the adapter changes, what to do next."""
    result = run_results.read_result(run.folder)
    return [sentences.loss_sentence(result), sentences.effect_sentence(result), suggested_command(result)]


def suggested_command(result: run_results.RunResults) -> str:
    """What to do now, given how surely the held-out loss fell."""
    how, _ = sentences.loss_verdict(result)
    if how == "better" and result.miniature:
        return "Next: the same command with --base facebook/musicgen-small; this base is a miniature model."
    if how == "better":
        return (
            "Next: let people who know the tradition listen; the same command with --stage extend trains other seeds, "
            "with --stage hybrid a part of the base too."
        )
    if (result.losses.get("fall") or {}).get("mean", 0) > 0:
        return "Next: more recordings, so that enough of them can be kept out to tell this from chance."
    return (
        "No improvement; next: more recordings (an hour, several performers), a lower rate "
        "(--set training.learning_rate=0.0003), or a smaller design."
    )
