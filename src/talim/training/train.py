"""Train one adapter into a run folder: resumable to the last bit, interruptible at any time, costs recorded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from talim import recipe as recipes
from talim.adapters import injection
from talim.atomic_io import check_writable, read_json, write_json, write_text
from talim.corpus.manifest import Corpus
from talim.errors import TalimError, UsageError
from talim.licences import allows_commercial_use
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run, provenance
from talim.training import distributed
from talim.training.distributed import DistributedContext
from talim.training.trainer import Trainer

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone


def train(
    recipe: Recipe,
    out: Path | str,
    progress: Progress | None = None,
    device: str = "auto",
    backbone: Backbone | None = None,
) -> Run:
    """Train the recipe's adapter into the folder `out`, or resume from its last checkpoint.

    A given `backbone` is used as the recipe's base and is unchanged when this returns. Processes that accelerate or
    torchrun started train one adapter together; `out` and the corpus must be the same folders for all of them.

    A finished run is left as it is. Raises UsageError if `out` holds another recipe, TalimError if something
    fails, and `Interrupted` after Ctrl-C, once a checkpoint is written.
    """
    run = Run(out)
    with distributed.init_process_group(device) as processes:
        if progress is None or not processes.is_main:
            progress = Progress()
        with contextlib.closing(progress):
            _train(run, recipe, progress, device, backbone, processes)
    return run


def _train(
    run: Run, recipe: Recipe, progress: Progress, device: str, given: Backbone | None, processes: DistributedContext
) -> None:
    with processes.main_first():
        corpus = Corpus.load(Path(recipe.corpus))
        if not corpus.train:
            raise TalimError(f"{corpus.folder}: no training clips; run `talim prepare` on more recordings")
        if not corpus.held_out:
            raise TalimError(f"{corpus.folder}: no held-out clips to evaluate on; prepare more recordings")
        _check_batch_size(recipe, processes)
        _check_same_recipe(run, recipe, corpus)
    if run.finished:
        progress.log(f"{run.folder}: this run is finished; nothing to do (its page: talim report {run.folder})")
        return
    with processes.main_first():
        check_writable(run.recipe_file)
        backbone = given or _load_base(recipe, device, progress)
        _check_same_base(run, backbone)
        # refuses settings that the base does not support, before anything is written to the folder
        backbone.enable_training(loss_weighting=recipe.training.loss_weighting)
        if recipe.training.predict_beats_chords and not backbone.accepts_beats_chords:
            backbone.predict_beats_chords([])
    processes.check_agreement(run=recipes.run_id(recipe, corpus.hash), base=backbone.fingerprint)
    with contextlib.ExitStack() as stack:
        if processes.is_main:
            stack.enter_context(run.lock())
            _write_facts(run, recipe, corpus, backbone)
        if given is not None:
            stack.enter_context(injection.temporary_adapters(backbone.model))
        Trainer(run, recipe, corpus, backbone, progress, processes).fit()
    processes.barrier()


def _check_batch_size(recipe: Recipe, processes: DistributedContext) -> None:
    """UsageError where a process would get no clip of a batch."""
    if recipe.training.batch_size < processes.count:
        raise UsageError(
            f"{processes.count} processes share a batch of training.batch_size={recipe.training.batch_size}; "
            f"each needs a clip: --set training.batch_size={processes.count}, or start fewer"
        )


def _check_same_recipe(run: Run, recipe: Recipe, corpus: Corpus) -> None:
    """UsageError where the folder holds a run of another recipe or corpus, naming the differences."""
    if not run.recipe_file.is_file():
        return
    changes = recipes.recipe_differences(run.recipe, recipe)
    differences = [f"{key} ({there} there, {here} now)" for key, (there, here) in changes.items()]
    if run.facts_file.is_file() and read_json(run.facts_file)["corpus_hash"] != corpus.hash:
        differences.append("the corpus's content")
    if differences:
        raise UsageError(f"{run.folder}: holds another run: {', '.join(differences)}; choose another --out")


def _check_same_base(run: Run, backbone: Backbone) -> None:
    if run.facts_file.is_file():
        stored = read_json(run.facts_file)["base"]["fingerprint"]
        if stored != backbone.fingerprint:
            raise TalimError(
                f"{run.folder}: begun on a base with fingerprint {stored}, but {backbone.name} has "
                f"{backbone.fingerprint}; choose another --out"
            )


def _load_base(recipe: Recipe, device: str, progress: Progress) -> Backbone:
    from talim.backbones.load import load

    backbone = load(recipe.base, precision=recipe.training.precision, device=device)
    progress.log(f"base: {backbone.name}, {backbone.num_parameters:,} parameters on {backbone.device}")
    progress.log(f"licence of the base: {backbone.licence}{_licence_note(backbone.licence)}")
    progress.log(f"precision: {backbone.precision_reason}")
    return backbone


def _licence_note(licence: str) -> str:
    if allows_commercial_use(licence) == "forbidden":
        return " (non-commercial: neither the adapter nor anything generated with it may be sold)"
    return " (find it out before you publish anything made with it)" if licence == "unknown" else ""


def _write_facts(run: Run, recipe: Recipe, corpus: Corpus, backbone: Backbone) -> None:
    """Write recipe.yaml and run.json if they are missing; the recipe first, as it marks the folder as a run's."""
    if not run.recipe_file.is_file():
        write_text(run.recipe_file, recipes.dump(recipe))
    if not run.facts_file.is_file():
        base = {name: getattr(backbone, name) for name in ("name", "licence", "fingerprint", "miniature")}
        base |= {"parameters": backbone.num_parameters, "precision": backbone.precision_reason}
        identity = {"run_id": recipes.run_id(recipe, corpus.hash), "corpus_hash": corpus.hash}
        write_json(run.facts_file, {**identity, "base": base, "provenance": provenance()})
