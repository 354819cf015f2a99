"""Train one adapter: resumable to the last bit, stoppable at any time, honest about its cost."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from talim import recipe as recipes
from talim.adapters import injection
from talim.atomic_io import check_writable, read_json, write_json, write_text
from talim.corpus.manifest import Corpus
from talim.designs import expression
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
    """Train the recipe's adapter into the folder `out`, or go on where an earlier call was cut off.

    A `backbone` that is given is taken as the recipe's base, and is as it was when this returns. Where accelerate or
    torchrun started many processes, they train the one adapter together; `out` and the corpus must be the same folders
    for all.

    A finished run is left as it is. Raises UsageError if `out` holds another recipe, TalimError if something
    fails, and `Stopped` after Ctrl-C (a checkpoint has been written then).
    """
    progress = progress or Progress()
    run = Run(out)
    with distributed.init_process_group(device) as processes:
        if not processes.first:
            progress = Progress()
        with processes.main_first():
            expression.Design.parse(recipe.design)  # a misspelt design should not cost a model's loading time
            corpus = Corpus.load(Path(recipe.corpus))
            _check_clips(corpus)
            _check_shares(recipe, processes)
            _check_same(run, recipe, corpus)
        if run.finished:
            progress.log(
                f"{run.folder}: this run is finished; nothing to do (its page: talim report {run.folder})"
            )
            return run
        lent = backbone is not None
        with processes.main_first():
            check_writable(run.recipe_file)
            backbone = backbone or _load_base(recipe, device, progress)
            _check_same_base(run, backbone)
            _check_training(recipe, backbone)
        processes.check_agreement(run=recipes.run_id(recipe, corpus.hash), base=backbone.fingerprint)
        with run.lock() if processes.first else contextlib.nullcontext():
            if processes.first:
                _write_facts(run, recipe, corpus, backbone)
            with injection.temporary_adapters(backbone.model) if lent else contextlib.nullcontext():
                Trainer(run, recipe, corpus, backbone, progress, processes).fit()
            processes.wait()
    return run


def stored_recipe(run: Run) -> Recipe:
    """The recipe a run folder was begun with; TalimError if there is none."""
    if not run.recipe_file.is_file():
        raise TalimError(f"{run.folder}: no run is here (recipe.yaml is missing); give --corpus to begin one")
    return recipes.load([run.recipe_file])


def _check_clips(corpus: Corpus) -> None:
    if not corpus.train:
        raise TalimError(f"{corpus.folder}: no training clips; run `talim prepare` on more recordings")
    if not corpus.held_out:
        raise TalimError(
            f"{corpus.folder}: no held-out clips, so nothing could be judged; prepare more recordings"
        )


def _check_shares(recipe: Recipe, processes: DistributedContext) -> None:
    """Refuse processes that would have nothing to do."""
    if recipe.training.batch_size < processes.count:
        raise UsageError(
            f"{processes.count} processes share a batch of training.batch_size={recipe.training.batch_size}; "
            f"every one needs a clip: --set training.batch_size={processes.count}, or start fewer"
        )


def _check_same(run: Run, recipe: Recipe, corpus: Corpus) -> None:
    """Refuse to mix two experiments in one folder, naming what differs."""
    if not run.recipe_file.is_file():
        return
    differing = [
        f"{k} ({a} there, {b} now)"
        for k, (a, b) in recipes.recipe_differences(stored_recipe(run), recipe).items()
    ]
    if run.facts_file.is_file() and read_json(run.facts_file)["corpus_hash"] != corpus.hash:
        differing.append("the corpus's content")
    if differing:
        raise UsageError(f"{run.folder}: holds another run: {', '.join(differing)}; choose another --out")


def _check_same_base(run: Run, backbone: Backbone) -> None:
    if run.facts_file.is_file():
        stored = read_json(run.facts_file)["base"]["fingerprint"]
        if stored != backbone.fingerprint:
            raise TalimError(
                f"{run.folder}: begun on a base with fingerprint {stored}, but {backbone.name} has "
                f"{backbone.fingerprint}; choose another --out"
            )


def _check_training(recipe: Recipe, backbone: Backbone) -> None:
    """UsageError for settings that this base has no use for, before the folder is a run's."""
    backbone.enable_training(weighting=recipe.training.loss_weighting)
    if recipe.training.predict_beats_chords and not backbone.accepts_beats_chords:
        backbone.predict_beats_chords([])


def _load_base(recipe: Recipe, device: str, progress: Progress) -> Backbone:
    from talim.backbones.load import load

    backbone = load(recipe.base, precision=recipe.training.precision, device=device)
    progress.log(f"base: {backbone.name}, {backbone.num_parameters:,} parameters on {backbone.device}")
    progress.log(f"licence of the base: {backbone.licence}{_licence_note(backbone.licence)}")
    progress.log(f"precision: {backbone.precision_reason}")
    return backbone


def _licence_note(licence: str) -> str:
    if allows_commercial_use(licence) == "forbidden":
        return " (non-commercial: what this model makes may not be sold, nor may the adapter)"
    return " (find it out before you publish anything made with it)" if licence == "unknown" else ""


def _write_facts(run: Run, recipe: Recipe, corpus: Corpus, backbone: Backbone) -> None:
    """recipe.yaml and run.json, once, at the beginning; the recipe first, as it guards the folder."""
    if not run.recipe_file.is_file():
        write_text(run.recipe_file, recipes.dump(recipe))
    if not run.facts_file.is_file():
        facts = {
            "run_id": recipes.run_id(recipe, corpus.hash),
            "corpus_hash": corpus.hash,
            "base": {
                "name": backbone.name,
                "licence": backbone.licence,
                "fingerprint": backbone.fingerprint,
                "parameters": backbone.num_parameters,
                "miniature": backbone.miniature,
                "precision": backbone.precision_reason,
            },
            "provenance": provenance(),
        }
        write_json(run.facts_file, facts)
