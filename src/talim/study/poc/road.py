"""The road of the proof of concept: prepare, cost, quality, learning curve, task; stopped where a gate is not met."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.corpus.manifest import Corpus
from talim.errors import UsageError
from talim.recipe import Recipe
from talim.run import Run, read_json, write_json
from talim.stages.prepare import prepare
from talim.stages.progress import Progress
from talim.study import people, report, results, telling, words
from talim.study.poc import book, cost, extending, gates, quality, task
from talim.study.poc.book import Spent, Stamps
from talim.study.poc.curve import curve
from talim.study.poc.gates import Gates
from talim.study.poc.running import Way, free_memory, train_all
from talim.study.poc.wishes import Wishes, channels, check_base, recipes_of

STAGES = ("all", *extending.STAGES)


def poc(
    folder: Path,
    out: Path,
    wishes: Wishes | None = None,
    progress: Progress | None = None,
    stage: str = "all",
) -> dict[str, Any]:
    """Go the road, or on with it ("extend", "hybrid"); the page's path, sentences, what was decided, the scores.

    What is done and whose inputs have not changed is skipped. If the recordings or the wishes have changed, the earlier
    runs move to DIR/earlier and new ones are made. A gate that is not met ends the road early, which is a result.
    UsageError for wishes that make no sense, for other gates after the result, and for going on from nothing.
    """
    wishes, progress = wishes or Wishes(), progress or Progress()
    if stage not in STAGES:
        raise UsageError(f"--stage {stage!r} is not known; choose one of {', '.join(STAGES)}")
    check_base(wishes)
    thresholds = gates.read(wishes.gates)
    wanted = recipes_of(wishes, out)  # before any work: a misspelt setting should not cost an hour
    book.check_places(folder, out)
    if stage != "all":
        extending.check(out, folder)
    with Run(out).lock():
        stamps = Stamps(out / book.STAMPS)
        corpus = _prepare(folder, out, wishes, stamps, progress)
        core = _core(wanted, corpus)
        if stage == "all":
            key = core if wishes.hours is None else f"{core}-{wishes.hours:g}h"
            book.settle(out, key, progress)
        else:
            key = extending.key_of(out, core)
            thresholds = gates.stored(out, wishes.gates)
        before = Spent(out / book.SPENT, _preparing(corpus)).seconds if stage == "all" else 0.0
        spent = Spent(out / book.SPENT, f"{stage} {key}")
        way = Way(out, wishes, corpus, progress, stamps, spent, before)
        if stage == "all":
            decided = _walk(way, wanted, thresholds, core, key)
        else:
            decided = extending.extend(way, stage, read_json(out / book.STAGES), thresholds)
        book.keep(out / book.STAGES, decided)
        return _result(way, decided)


def _core(wanted: dict[str, Recipe], corpus: Corpus) -> str:
    """What names a plan, whatever the hours."""
    names = [recipes.run_id(recipe, corpus.hash) for recipe in wanted.values()]
    return hashlib.sha256(json.dumps(sorted(names)).encode()).hexdigest()[:12]


def _walk(way: Way, wanted: dict[str, Recipe], thresholds: Gates, core: str, key: str) -> dict[str, Any]:
    """The three stages, as far as their gates let it go: what stands in DIR/stages.json."""
    out, wishes = way.out, way.wishes
    before = read_json(out / book.STAGES) if (out / book.STAGES).is_file() else {}
    limit = gates.limit_bytes(thresholds, cost.machine_bytes(wishes.device))
    written = gates.write(out, thresholds, wishes.hours, limit, decided=len(before.get("stages", [])) > 1)
    plan = _planned(way, wanted, thresholds, core, key)
    said: dict[str, Any] = {
        "plan": key,
        "base": wishes.base,
        "use": _use(wishes, way.corpus),
        "used": "",
        "stages": [],
        "designs": [],
        "chosen": None,
        "curve": None,
        "limits": "",
        "commands": [],
        "further": before.get("further", []),
    }
    told = cost.told(plan, wishes)
    _decide(way, said, "cost", "Cost", written, not plan["stopped"], told, plan["stopped"])
    if plan["stopped"]:
        return said
    found = cost.recipes_in(plan, out / "corpus")
    runs, broken = train_all(way, found)
    choice = quality.chosen(runs, thresholds)
    run = runs[choice.design]
    why = quality.stopped(run, thresholds)
    met = quality.passed(run, thresholds)
    lines = quality.told(runs, broken, choice)
    said |= {
        "designs": quality.table(runs, plan["rows"]),
        "chosen": {"design": choice.design, "run": run.folder.name},
        "limits": quality.LIMITS if len(runs) > 1 else "",
    }
    _decide(way, said, "quality", "Musical quality", written, met, lines, why)
    if why:
        return said | {"used": _used(way)}
    said["curve"] = curve(way, found[choice.design], run, thresholds.quality.margin_share)
    task.draft(out, way.corpus, wishes.sample_seconds, thresholds.task.acceptance_at_least)
    answer, heard = task.decided(out)
    said |= {"commands": task.commands(out, run.folder), "used": _used(way)}
    lines = task.adherence(read_json(run.scores)) + heard
    _decide(way, said, "task", "Contribution to the task", written, answer, lines, "")
    return said


def _decide(
    way: Way,
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
    path = way.out / book.STAGES
    if not path.is_file() or len(read_json(path)["stages"]) < len(said["stages"]):
        write_json(path, said)


def _planned(way: Way, wanted: dict[str, Recipe], thresholds: Gates, core: str, key: str) -> dict[str, Any]:
    """The plan as it was decided, or decided now and kept, so that a resumed run is the same run."""
    path = way.out / book.PLAN
    if path.is_file() and not read_json(path).get("stopped"):
        return read_json(path)
    used = way.used_seconds
    with way.spent.counting(way.progress) as progress:
        plan = cost.planned(wanted, way.corpus, way.wishes, thresholds, progress, used)
    free_memory()
    plan = {"key": key, "core": core, "hours": way.wishes.hours} | plan
    write_json(path, plan)
    return plan


def _use(wishes: Wishes, corpus: Corpus) -> str:
    """What was left out for the sake of its use, with names; empty where any use is meant."""
    if wishes.use == "any":
        return ""
    names = [row["file"] for row in corpus.summary["skipped"] if "commercial use" in row["reason"]]
    left = f"{words.counted(len(names), 'recording')} left out, whose licence forbids that or is unknown"
    told = f"{left}: {', '.join(names)}" if names else "no recording had to be left out"
    return f"For commercial use: {told}. This is no legal advice."


def _used(way: Way) -> str:
    """How much of the hours went by, over all resumptions; empty where none were given."""
    if way.wishes.hours is None:
        return ""
    return f"It took {words.duration(way.used_seconds)} of the {way.wishes.hours:g} h that were given."


def _preparing(corpus: Corpus) -> str:
    return f"prepare {corpus.hash[:12]}"


def _prepare(folder: Path, out: Path, wishes: Wishes, stamps: Stamps, progress: Progress) -> Corpus:
    target = out / "corpus"
    options = [
        wishes.clip_seconds,
        channels(wishes.base),
        wishes.seed,
        wishes.describe,
        list(wishes.held_out),
    ]
    options += [wishes.held_out_share, *([wishes.use] if wishes.use != "any" else [])]
    key = book.key_of_recordings(folder, out, options)
    if stamps.holds("prepare", key, target / "summary.json"):
        progress.say(f"{target}: the recordings have not changed; nothing to prepare")
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
        progress=preparing(progress),
    )
    Spent(out / book.SPENT, _preparing(corpus)).add(time.monotonic() - began)
    stamps.set("prepare", book.key_of_recordings(folder, out, options))  # it may have written a metadata.csv
    for line in telling.corpus(corpus.summary, target).splitlines()[:-1]:
        progress.say(line)
    return corpus


def preparing(progress: Progress) -> Callable[..., None]:
    """`prepare`'s callback (done, total, file) as a step of the progress line."""

    def tell(done: int, total: int, *what: object) -> None:
        progress.step("preparing recordings", done, total, " ".join(str(w) for w in what))

    return tell


def _result(way: Way, decided: dict[str, Any]) -> dict[str, Any]:
    """The page, made anew where anything that it shows has changed, and what the command prints."""
    out, page = way.out, way.out / "report" / "index.html"
    chosen = decided["chosen"]
    run = Run(out / chosen["run"]) if chosen else None
    runs = [Run(out / row["run"]) for row in decided["designs"]]
    shown = [path for each in runs for path in (each.scores, each.cost, each.log, each.recipe_file)]
    votes = [path for name in (people.RATINGS, people.USEFULNESS) for path in people.places(out, name)]
    seen = book.hash_of_files([out / book.STAGES, *shown, *votes])
    if not way.stamps.holds("report", seen, page):
        page = report.report(out)
        way.stamps.set("report", seen)
    stopped = next((row["stopped"] for row in decided["stages"] if row["stopped"]), "")
    told: dict[str, Any] = {
        "page": str(page),
        "sentences": sentences(run) if run else [],
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


def sentences(run: Run) -> list[str]:
    """Three plain sentences: what became of the held-out loss, what the adapter changes, what to do next."""
    result = results.read_result(run.folder)
    return [words.loss_sentence(result), words.effect_sentence(result), next_step(result)]


def next_step(result: results.Result) -> str:
    """What to do now, given how surely the held-out loss fell."""
    how, _ = words.verdict(result)
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
