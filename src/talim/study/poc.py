"""The proof of concept: from a folder of recordings to a page, in one resumable command."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.backbones import catalogue
from talim.corpus.manifest import Corpus
from talim.errors import UsageError
from talim.recipe import Recipe
from talim.run import Run, explained, read_json, write_json
from talim.stages.prepare import prepare
from talim.stages.progress import Progress
from talim.study import report, results, telling, words

DEFAULT_DESIGN = "linear@all:2.5%"


@dataclass(frozen=True)
class Wishes:
    """What the user asked of the whole road, besides the folder and where to put the result."""

    base: str = "nano-musicgen"
    design: str = DEFAULT_DESIGN
    seed: int = 0
    hours: float | None = None
    describe: str | None = None
    held_out: tuple[str, ...] = ()
    held_out_share: float = 0.3  # a fifth of few recordings is often one, and one gives no interval
    clip_seconds: float = 10.0
    sample_seconds: float = 10.0
    settings: tuple[tuple[str, Any], ...] = ()  # dotted recipe keys, as after --set
    sampling: tuple[
        tuple[str, Any], ...
    ] = ()  # of the samples: names and values as in stages.generate.Sampling
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.hours is not None and not 0 < self.hours <= 10_000:
            raise UsageError(
                f"--hours is {self.hours:g}; give a positive number of hours, for example --hours 1"
            )


class Stamps:
    """Which stage was done with which inputs, in DIR/poc.json; a stage is skipped while both still hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, str] = read_json(path) if path.is_file() else {}

    def holds(self, stage: str, key: str, made: Path) -> bool:
        """Whether the stage's file is there and was made from these inputs."""
        return made.exists() and self._keys.get(stage) == key

    def set(self, stage: str, key: str) -> None:
        """Remember, on disk, that the stage is done."""
        self._keys[stage] = key
        write_json(self.path, self._keys)


def poc(
    folder: Path, out: Path, wishes: Wishes | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Prepare, train, evaluate, report; return the page's path, three sentences and the scores.

    Every stage whose files are there and whose inputs have not changed is skipped. If the recordings or the
    wishes have changed, the earlier run is moved to DIR/earlier and a new one is made.
    """
    from talim.stages.evaluate import evaluate
    from talim.stages.generate import Sampling
    from talim.stages.loop import Stopped
    from talim.stages.train import train

    wishes, progress = wishes or Wishes(), progress or Progress()
    recipe = recipe_of(wishes, out)  # before any work: a misspelt setting should not cost an hour
    stamps = Stamps(out / "poc.json")
    corpus = _prepare(folder, out, wishes, stamps, progress)
    recipe = _with_hours(recipe, corpus, wishes, out, progress)
    run = _place(out, recipe, corpus, progress)
    try:
        train(recipe, run.folder, progress, wishes.device)
    except Stopped as stopped:
        raise Stopped(f"{str(stopped).split('To go on')[0]}To go on: run the same command again") from None
    _free_memory()
    judged = f"{recipes.run_id(recipe, corpus.hash)} {wishes.sample_seconds} {wishes.seed}"
    judged += f" {wishes.sampling}" if wishes.sampling else ""
    if not stamps.holds("evaluate", judged, run.scores):
        evaluate(
            run.folder,
            progress,
            seconds=wishes.sample_seconds,
            seed=wishes.seed,
            sampling=Sampling(**dict(wishes.sampling)),
            device=wishes.device,
        )
        stamps.set("evaluate", judged)
    page = out / "report" / "index.html"
    shown = _hash_of_files((run.scores, run.cost, run.log, run.recipe_file))
    if not stamps.holds("report", shown, page):
        page = report.report(out)
        stamps.set("report", shown)
    scores = read_json(run.scores)
    return {"page": str(page), "sentences": sentences(run), "run": str(run.folder), "scores": scores}


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
        return "Next: let people who know the tradition listen, and compare another design or a larger share."
    if (result.losses.get("fall") or {}).get("mean", 0) > 0:
        return "Next: more recordings, so that enough of them can be kept out to tell this from chance."
    return (
        "No improvement; next: more recordings (an hour, several performers), a lower rate "
        "(--set training.learning_rate=0.0003), or a smaller design."
    )


def recipe_of(wishes: Wishes, out: Path) -> Recipe:
    """The recipe that the wishes come to, on the corpus in DIR; UsageError where they make no sense."""
    values = {
        "base": wishes.base,
        "corpus": str(out / "corpus"),
        "design": wishes.design,
        "seed": wishes.seed,
        **dict(wishes.settings),
    }
    recipe = recipes.load((), values)
    from talim.designs import expression

    expression.parse(recipe.design)
    return recipe


def _prepare(folder: Path, out: Path, wishes: Wishes, stamps: Stamps, progress: Progress) -> Corpus:
    target, channels = out / "corpus", _channels(wishes.base)
    options = [wishes.clip_seconds, channels, wishes.seed, wishes.describe, list(wishes.held_out)]
    options.append(wishes.held_out_share)
    if stamps.holds("prepare", _key(folder, out, options), target / "summary.json"):
        progress.say(f"{target}: the recordings have not changed; nothing to prepare")
        return Corpus.load(target)
    corpus = prepare(
        folder,
        target,
        clip_seconds=wishes.clip_seconds,
        seed=wishes.seed,
        describe=wishes.describe,
        held_out=wishes.held_out,
        held_out_share=wishes.held_out_share,
        channels=channels,
        progress=preparing(progress),
    )
    stamps.set("prepare", _key(folder, out, options))  # after: prepare may have written a metadata.csv
    for line in telling.corpus(corpus.summary, target).splitlines()[:-1]:
        progress.say(line)
    return corpus


def _channels(base: str) -> int:
    """Stereo clips for the stereo models, mono for all others."""
    known = catalogue.find(base)
    return known.channels if known else 1


def preparing(progress: Progress) -> Callable[..., None]:
    """`prepare`'s callback (done, total, file) as a step of the progress line."""

    def tell(done: int, total: int, *what: object) -> None:
        progress.step("preparing recordings", done, total, " ".join(str(w) for w in what))

    return tell


def _key(folder: Path, out: Path, options: list[Any]) -> str:
    """Changes with any file's name, size or time, with words typed into the corpus, and with the options."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the folder that holds your recordings")
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"--out {out} lies within the recordings; choose a folder outside of {folder}")
    files = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
    listing = []
    for path in sorted([*files, out / "corpus" / "metadata.csv"]):
        if path.is_file():
            status = path.stat()
            listing.append([os.path.relpath(path, folder), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps([listing, options]).encode()).hexdigest()


def _hash_of_files(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _with_hours(recipe: Recipe, corpus: Corpus, wishes: Wishes, out: Path, progress: Progress) -> Recipe:
    """The recipe with as many steps as fit; the decision is kept, so that a resumed run is the same run."""
    if wishes.hours is None:
        return recipe
    from talim.stages import pace

    key = f"{recipes.run_id(recipe, corpus.hash)} {wishes.hours:g}"
    plan = out / "plan.json"
    if plan.is_file() and read_json(plan)["key"] == key:
        return recipes.build(read_json(plan)["recipe"])
    measured = pace.measure(recipe, progress, wishes.device)
    _free_memory()
    fitted = recipe.model_copy(update={"training": pace.fit(recipe.training, wishes.hours, measured)})
    progress.say(f"a step takes {measured.step_seconds:.2f} s: {fitted.training.steps} steps fit")
    write_json(
        plan, {"key": key, "step_seconds": measured.step_seconds, "recipe": fitted.model_dump(mode="json")}
    )
    return fitted


def _place(out: Path, recipe: Recipe, corpus: Corpus, progress: Progress) -> Run:
    """DIR/run; a run with another recipe or corpus moves to DIR/earlier, and comes back when it is wanted."""
    run, wanted = Run(out / "run"), recipes.run_id(recipe, corpus.hash)
    there = read_json(run.facts_file)["run_id"] if run.facts_file.is_file() else wanted
    if there != wanted:
        kept = out / "earlier" / there / "run"
        with explained(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            os.replace(run.folder, kept)
        progress.say(f"something has changed since the last run: it is kept in {kept}")
    stored = out / "earlier" / wanted / "run"
    if stored.is_dir() and not run.folder.exists():
        with explained(run.folder):
            os.replace(stored, run.folder)
    return run


def _free_memory() -> None:
    """Give the last stage's model back before the next one loads its own: models hold circles of references."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
