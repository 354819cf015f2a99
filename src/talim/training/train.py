"""Train one adapter into a run folder: resumable to the last bit, interruptible at any time, costs recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim import recipe as recipes
from talim.adapters import injection
from talim.atomic_io import check_writable, read_json, write_json, write_text
from talim.backbones.readable_text import describe, examine
from talim.corpus.attribution import training_music
from talim.corpus.manifest import Clip, Corpus
from talim.design.default_rate import default_learning_rate
from talim.design.musicgen_sites import Site
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted, format_setting
from talim.licences import allows_commercial_use
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run, provenance, version_changes
from talim.training import batches, checks, distributed, start_adapter
from talim.training.distributed import DistributedContext
from talim.training.start_adapter import StoredAdapter
from talim.training.trainer import Trainer

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone


TOO_HIGH = 3.0  # times the usual learning rate
TRAINED_WITHOUT_WORDS = (
    "the adapter learns their sound without words, so that only an empty prompt (--prompt '') asks for it; captions in "
    "the corpus's metadata.csv would let prompts choose"
)


def train(
    recipe: Recipe,
    out: Path | str,
    progress: Progress | None = None,
    device: str = "auto",
    backbone: Backbone | None = None,
    seconds: float | None = None,
) -> Run:
    """Train the recipe's adapter into the folder `out`, or resume from its last checkpoint.

    A given `backbone` is used as the recipe's base and is unchanged when this returns. Processes that accelerate or
    torchrun started train one adapter together; `out` and the corpus must be the same folders for all of them.
    After `seconds` from the start of its training it ends with the step that it is at, as if its steps were done.

    A finished run is left as it is. Raises UsageError if `out` holds another recipe, TalimError if something
    fails, and `Interrupted` after Ctrl-C, once a checkpoint is written.
    """
    run = Run(out)
    with distributed.init_process_group(device) as processes:
        if progress is None or not processes.is_main:
            progress = Progress()
        with contextlib.closing(progress):
            _train(run, recipe, progress, device, backbone, processes, seconds)
    return run


def _train(
    run: Run,
    recipe: Recipe,
    progress: Progress,
    device: str,
    given: Backbone | None,
    processes: DistributedContext,
    seconds: float | None,
) -> None:
    with processes.main_first():
        recipe = start_adapter.complete_recipe(recipe, run)
        corpus = checks.check_recipe(run, recipe)
        _check_batch_size(recipe, processes)
    if run.finished:
        progress.log(f"{run.folder}: this run is finished; nothing to do (its page: talim report {run.folder})")
        return
    with processes.main_first():
        check_writable(run.recipe_file)
        start = start_adapter.start_of(recipe)
        backbone = given or _load_base(run, recipe, device, progress)
        recipe = _begin_with_rate(run, recipe, corpus, backbone, progress)
        _check_same_base(run, backbone)
        as_given = backbone.transliterate
        reading = _read_captions(run, recipe, corpus, backbone, progress)
        if start is not None:
            start_adapter.check_start(start, recipe.design, backbone)
            _tell_start(start, corpus, backbone, progress)
        # refuses settings that the base does not support, before anything is written to the folder
        backbone.enable_training(loss_weighting=recipe.training.loss_weighting)
        if recipe.training.predict_beats_chords and not backbone.accepts_beats_chords:
            backbone.predict_beats_chords([])
        if not backbone.melody_rate_hz:
            recipe.training.check_no_melody(backbone.name)
        else:
            source, share = recipe.training.melody_from, recipe.training.melody_dropout
            progress.log(f"melody: each clip's own, by its {source} (training.melody_from); {share:.0%} are given none")
    run_id = recipes.run_id(recipe, corpus.hash, None if start is None else start.hash)
    processes.check_agreement(run=run_id, base=backbone.fingerprint)
    with contextlib.ExitStack() as stack:
        if processes.is_main:
            stack.enter_context(run.lock())
            _write_facts(run, recipe, corpus, backbone, {"captions": reading}, start)
            _keep_other_versions(run, progress)
        if given is not None:
            stack.callback(setattr, given, "transliterate", as_given)
            stack.enter_context(injection.temporary_adapters(backbone.model))
        Trainer(run, recipe, corpus, backbone, progress, processes, start, seconds).fit()
    processes.barrier()


def _read_captions(run: Run, recipe: Recipe, corpus: Corpus, backbone: Backbone, progress: Progress) -> dict[str, Any]:
    """Set how the backbone reads captions, and tell what it cannot read; for run.json.

    A run goes on as it was begun; before `training.transliterate` existed, captions were read as they are written.
    """
    begun = read_json(run.facts_file).get("captions", {}) if run.facts_file.is_file() else None
    wanted = recipe.training.transliterate
    backbone.transliterate = wanted if begun is None else begun.get("transliterated") is True
    captions = [clip.caption for clip in corpus.clips]
    reading = examine(backbone.reader, captions, backbone.transliterate)
    for line in describe(reading, backbone.name, "the captions", "as written: --set training.transliterate=false"):
        progress.log(line)
    if wanted and not backbone.transliterate and reading.unreadable:
        progress.log(f"{run.folder}: was begun with captions as they are written, and goes on so")
    if without := _without_caption(corpus.train):
        progress.log(f"note: {without} caption: {TRAINED_WITHOUT_WORDS}")
    if without := _without_caption(corpus.held_out):
        progress.log(f"note: held-out clips: {without} caption; what has none cannot serve as a prompt")
    return {"transliterated": backbone.transliterate, **reading.as_dict()}


def _without_caption(clips: Sequence[Clip]) -> str:
    """ "3 of 8 clips have no" where some have no caption, "no clip has a" where none has one, else empty."""
    without = sum(not clip.caption.strip() for clip in clips)
    if 0 < without < len(clips):
        return f"{without} of {format_counted(len(clips), 'clip')} {'has' if without == 1 else 'have'} no"
    return "no clip has a" if without else ""


def _tell_start(start: StoredAdapter, corpus: Corpus, backbone: Backbone, progress: Progress) -> None:
    """What training begins from, and what its files leave open."""
    name = start.source.name
    lines = [f"training goes on from {line}" if n == 0 else line for n, line in enumerate(start.lines(backbone.name))]
    seen = start_adapter.seen_before(
        start.trained_on, corpus.held_out, f"the adapter {name}, which this one begins from,"
    )
    lines += [f"note: held-out recordings: {seen['note']}"] if seen["note"] else []
    spelled = start.info.get("transliterated")
    if spelled is not None and spelled != backbone.transliterate:
        words = {True: "in letters that the base knows", False: "as they were written"}
        setting = f"--set training.transliterate={str(spelled).lower()}"
        lines.append(f"note: {name} was trained on captions {words[spelled]}; here it is not: {setting} keeps to that")
    for line in lines:
        progress.log(line)


def _check_batch_size(recipe: Recipe, processes: DistributedContext) -> None:
    """UsageError where a process would get no clip of a batch."""
    if recipe.training.batch_size < processes.count:
        raise UsageError(
            f"{processes.count} processes share a batch of training.batch_size={recipe.training.batch_size}; "
            f"each needs a clip: --set training.batch_size={processes.count}, or start fewer"
        )


def _check_same_base(run: Run, backbone: Backbone) -> None:
    if run.facts_file.is_file():
        stored = read_json(run.facts_file)["base"]["fingerprint"]
        if stored != backbone.fingerprint:
            raise TalimError(
                f"{run.folder}: begun on a base with fingerprint {stored}, but {backbone.name} has "
                f"{backbone.fingerprint}{_other_commit(run, backbone)}; choose another --out"
            )


def _other_commit(run: Run, backbone: Backbone) -> str:
    """Which commits of the Hub they are of, where that is known."""
    before = read_json(run.facts_file)["base"].get("revision")
    return f" (commit {backbone.revision or 'unknown'} instead of {before})" if before else ""


def _load_base(run: Run, recipe: Recipe, device: str, progress: Progress) -> Backbone:
    from talim.backbones.load import check_predictors, load

    base = run.base if run.recipe_file.is_file() else recipe.base
    if recipe.training.predict_beats_chords:
        check_predictors(base)
    backbone = load(base, precision=recipe.training.precision, device=device)
    revision = f" (commit {backbone.revision})" if backbone.revision else ""
    progress.log(f"base: {backbone.name}{revision}, {backbone.num_parameters:,} parameters on {backbone.device}")
    progress.log(f"licence of the base: {backbone.licence}{_licence_note(backbone.licence)}")
    progress.log(f"number format of the base (bf16: 16 bits, fp32: 32 bits): {backbone.precision_reason}")
    return backbone


def with_default_rate(recipe: Recipe, corpus: Corpus, sites: Sequence[Site]) -> Recipe:
    """The recipe with the learning rate for its design and the corpus in a base with these sites, if it names none."""
    if recipe.training.learning_rate is not None:
        return recipe
    return recipe.with_learning_rate(_default_rate(recipe, corpus, sites))


def _begin_with_rate(run: Run, recipe: Recipe, corpus: Corpus, backbone: Backbone, progress: Progress) -> Recipe:
    """The recipe with the learning rate that was given, or that the run was begun with, or else with the default one.

    A default one is told, and so is it where one that was given is far too high for layers of the base itself.
    """
    given = recipe.training.learning_rate
    begun = run.recipe.training.learning_rate if given is None and run.recipe_file.is_file() else None
    if begun is not None:
        return recipe.with_learning_rate(begun)
    usual = _default_rate(recipe, corpus, backbone.sites())
    if given is None:
        progress.log(
            f"learning rate {format_setting(usual)}, by the design, the width of the base and the amount of music "
            "(another one: --set training.learning_rate=VALUE)"
        )
        return recipe.with_learning_rate(usual)
    if given >= TOO_HIGH * usual and any(part.kind == "full" for part in recipe.design.parts):
        progress.log(
            f"note: learning rate {format_setting(given)}: layers of the base itself take less than adapters, and may "
            f"end worse than they were; usual for this design and corpus is {format_setting(usual)}"
        )
    return recipe


def _default_rate(recipe: Recipe, corpus: Corpus, sites: Sequence[Site]) -> float:
    used = batches.training_subset(corpus, recipe.training.train_fraction, recipe.seed)
    return default_learning_rate(recipe.design, sites, sum(clip.seconds for clip in used))


def _licence_note(licence: str) -> str:
    if allows_commercial_use(licence) == "forbidden":
        return " (non-commercial: neither the adapter nor anything generated with it may be sold)"
    return " (find it out before you publish anything made with it)" if licence == "unknown" else ""


def _keep_other_versions(run: Run, progress: Progress) -> None:
    """Say that a run goes on under other versions than before, and keep them in the list `resumed` of run.json."""
    facts, now = read_json(run.facts_file), provenance()
    resumed = facts.get("resumed", [])
    changes = version_changes(resumed[-1] if resumed else facts.get("provenance") or now, now)
    if changes:
        text = ", ".join(f"{name} {new} instead of {old}" for name, (old, new) in changes.items())
        progress.log(f"resuming with other versions than before: {text}; equal results are not certain")
        write_json(run.facts_file, facts | {"resumed": [*resumed, now]})


def _write_facts(
    run: Run, recipe: Recipe, corpus: Corpus, backbone: Backbone, read: dict[str, Any], start: StoredAdapter | None
) -> None:
    """Write recipe.yaml and run.json if they are missing; the recipe first, as it marks the folder as a run's."""
    if not run.recipe_file.is_file():
        write_text(run.recipe_file, recipes.dump(recipe))
    if not run.facts_file.is_file():
        base = {name: getattr(backbone, name) for name in ("name", "licence", "fingerprint", "miniature")}
        base |= {"parameters": backbone.num_parameters, "precision": backbone.precision_reason}
        base |= {"revision": backbone.revision} if backbone.revision else {}
        used = batches.training_subset(corpus, recipe.training.train_fraction, recipe.seed)
        measured = [*corpus.validation, *corpus.held_out]
        run_id = recipes.run_id(recipe, corpus.hash, None if start is None else start.hash)
        identity = {"run_id": run_id, "corpus_hash": corpus.hash}
        # the folder of the corpus may hold something else when the run is reported
        chosen = batches.choice_facts(corpus, recipe.training)
        music = {"corpus": corpus.summary, **training_music(used, measured), "weights_chosen": chosen, **read}
        music |= {} if start is None else {start_adapter.START: start.facts()}
        write_json(run.facts_file, {**identity, "base": base, "provenance": provenance(), **music})
