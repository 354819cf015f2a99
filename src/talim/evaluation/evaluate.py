"""Evaluation of a finished run: held-out loss with and without its adapter, samples, and scores of the music."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.adapters import injection, serialization
from talim.atomic_io import read_json, write_json, write_text
from talim.audio import Audio
from talim.corpus.manifest import Clip, Corpus
from talim.corpus.recordings import file_hash
from talim.errors import TalimError
from talim.evaluation import continuation, intervals, music_scores, predictor_comparison, sample_pairs
from talim.evaluation.base_results import BaseResults
from talim.evaluation.held_out_loss import per_clip_losses, prepare_held_out
from talim.evaluation.kept_parts import KeptParts
from talim.generation.generate import GenerationOptions
from talim.html.formatting import format_counted
from talim.metrics import pitch
from talim.progress import Progress, counted
from talim.recipe import Recipe
from talim.recordings_needed import held_out_note
from talim.run import Run, provenance
from talim.time_log import TimeLog
from talim.training import batches, model_card, start_adapter
from talim.training.crops import EncodedClip
from talim.training.frozen_cache import FrozenLayerCache
from talim.training.reference_predictors import ReferenceLosses, measure_reference_losses

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

ADAPTER_SUFFIXES = (".bin", ".json", ".safetensors")  # of files that decide what an adapter does
UNFINISHED_TIME = "evaluation_time_unfinished.json"  # in a run's folder: seconds so far, by what is evaluated
# training settings that change what a base without an adapter gives: the others, as its rate, differ between runs
OF_THE_BASE = ("batch_size", "predict_beats_chords", "melody_from", "loss_weighting")


@dataclass(frozen=True)
class ScoredAdapter:
    """What is scored: the adapter's recipe and corpus, and where the results go (`run.adapter` holds the adapter).

    `facts` are added to scores.json; `seen` says whether the held-out recordings were in an adapter's training.
    """

    run: Run
    recipe: Recipe
    corpus: Corpus
    seen: dict[str, Any]
    facts: dict[str, Any]
    base_results: BaseResults = field(default_factory=BaseResults)


def evaluate(  # noqa: PLR0913
    run_folder: Path | str,
    progress: Progress | None = None,
    *,
    num_prompts: int = 3,
    num_continuations: int | None = None,
    seconds: float = 10.0,
    seed: int = 0,
    options: GenerationOptions | None = None,
    device: str = "auto",
    protocol: str = "default",
    num_workers: int = 1,
    backbone: Backbone | None = None,
    metrics_cache: Path | None = None,
    base_results: BaseResults | None = None,
) -> dict[str, Any]:
    """Score a finished run on its held-out clips; writes scores.json, scores.html, copies.html, samples/ and the card.

    Clips of `seconds` are generated with and without the adapter from `num_prompts` held-out captions, and the first
    seconds of `num_continuations` held-out clips (None: as many; 0: none) are continued. Measures are
    computed in `num_workers` processes and cached in RUN/metrics_cache, or in `metrics_cache`, so that several runs on
    a corpus measure its clips, and what the base makes without an adapter, once. `protocol` "paper" adds the two
    Fréchet distances of the paper, which need their models' weights. A `backbone` is used as the run's base, and keeps
    the adapter. `base_results` holds what an earlier call left of the base alone, and is added to: equal settings give
    equal results. TalimError if the run is not finished or its corpus has changed.
    """
    from talim.backbones.load import load

    run = Run(run_folder)
    run.metrics_cache = metrics_cache or run.metrics_cache
    recipe = run.recipe
    corpus, options = _corpus(run, recipe), options or GenerationOptions()
    check_request(recipe, options, protocol)
    key = f"{num_prompts} {num_continuations} {seconds} {seed} {options.explicit_options} {protocol}"
    time_log = TimeLog(run.folder / UNFINISHED_TIME, key)  # one that is killed goes on
    with run.lock():  # whoever reads the folder finds all of an evaluation, or the one before
        with time_log.counting(progress or Progress()) as progress:
            begun = run.start
            seen: dict[str, Any] = {"answer": "no", "note": ""}
            info = serialization.read_info(run.adapter)
            if begun is not None:
                sources = info.get(start_adapter.TRAINED_ON) or {}
                whose = f"the adapter {begun.get('name')}, which this one began from,"
                seen = start_adapter.seen_before(sources, corpus.held_out, whose)
            facts = {"run_id": read_json(run.facts_file)["run_id"], "command": f"talim evaluate {run.folder}"}
            scored = ScoredAdapter(run, recipe, corpus, seen, facts, base_results or BaseResults())
            backbone = backbone or load(run.base, precision=recipe.training.precision, device=device)
            scores = score_adapter(
                scored,
                backbone,
                progress,
                num_prompts=num_prompts,
                num_continuations=num_continuations,
                seconds=seconds,
                seed=seed,
                options=options,
                protocol=protocol,
                num_workers=num_workers,
            )
            card = model_card.render_card(
                recipe,
                model_card.base_facts(backbone),
                read_json(run.facts_file),
                read_json(run.cost),
                scores,
                start=begun,
                adapter=info,
            )
            write_text(run.adapter / "README.md", card)
        write_json(run.evaluation_time, {"seconds": time_log.seconds})
        time_log.path.unlink()
        return scores


def check_request(recipe: Recipe, options: GenerationOptions, protocol: str) -> None:
    """UsageError for a protocol or sampling options that the recipe's base does not have, before it is loaded."""
    from talim.backbones import generation_options

    music_scores.check_protocol(protocol)
    generation_options.resolve_options(recipe.base, options.explicit_options, (), recipe.training.predict_beats_chords)


def score_adapter(  # noqa: PLR0913
    scored: ScoredAdapter,
    backbone: Backbone,
    progress: Progress,
    *,
    num_prompts: int,
    num_continuations: int | None,
    seconds: float,
    seed: int,
    options: GenerationOptions,
    protocol: str,
    num_workers: int,
) -> dict[str, Any]:
    """Add the adapter to its base, score it on the held-out clips of the corpus, and write all but a model card."""
    run, recipe, corpus = scored.run, scored.recipe, scored.corpus
    peft = serialization.load(backbone, run.adapter)
    backbone.model.eval()
    continued = num_prompts if num_continuations is None else num_continuations
    for line in filter(None, [_what_is_done(run, corpus, num_prompts, seconds, continued), few_held_out(corpus)]):
        progress.log(line)
    clips, cache = prepare_held_out(recipe, corpus, backbone, progress)
    batch_size = recipe.training.batch_size
    of_the_base = (
        *(corpus.hash, backbone.fingerprint, str(backbone.dtype), str(backbone.device), backbone.transliterate),
        *(getattr(recipe.training, name) for name in OF_THE_BASE),
    )
    kept = scored.base_results
    kept.use((*of_the_base, num_prompts, num_continuations, seconds, seed, options))
    parts = _kept_parts(run, progress, base=of_the_base, seconds=seconds, options=options, cached=cache is not None)
    training = batches.encode_clips(corpus, corpus.train, backbone, progress)
    references = kept.get("predictors", lambda: _references(training, clips, backbone, batch_size, progress))

    losses_on = partial(
        _paired_losses, backbone, peft, batch_size=batch_size, cache=cache, kept=kept, parts=parts, progress=progress
    )
    losses = losses_on(clips, "", references)
    validation = {}
    if run.recipe_file.is_file() and corpus.validation:  # designs are compared on these
        beside, _ = prepare_held_out(recipe, corpus, backbone, progress, corpus.validation)
        validation = {"validation_loss": losses_on(beside, ", validation")}
    without_melody = {}
    if backbone.melody_rate_hz:
        silent = losses_on([clip.without_melody for clip in clips], ", no melody", references)
        without_melody = {"held_out_loss_without_melody": silent}
        means = (f"{kind['adapted_loss']['mean']:.3f} ({kind['base_loss']['mean']:.3f})" for kind in (losses, silent))
        progress.log("held-out loss with the adapter (without it): {} given the melody, {} not given it".format(*means))
    reduction, choice = losses["loss_reduction"], ""
    if run.recipe_file.is_file() and recipe.training.save_weights == "best":
        choice = corpus.summary["split"]["validation_note"]
    reduction["ci_note"] = "; ".join(filter(None, [reduction["ci_note"], choice, scored.seen["note"]])) or None
    pairs = sample_pairs.generate_pairs(
        run,
        corpus,
        backbone,
        peft,
        progress,
        num_prompts=num_prompts,
        seconds=seconds,
        seed=seed,
        options=options,
        base_results=kept,
        kept=parts,
        more_pieces=2 * continued,
    )
    tokens, targets = None, {item.clip.id: item.targets for item in clips}
    if backbone.target_kind == "tokens":
        real = music_scores.choose_real_clips(corpus.held_out, seconds)
        tokens = [item.targets for item in training], [targets[clip.id] for clip in real], backbone.frame_rate_hz
    sources = music_scores.choose_real_clips(corpus.held_out, seconds, music_scores.MAX_RESYNTHESIZED)
    resynthesis = kept.get("resynthesis", lambda: _through_codec(sources, targets, backbone, seconds, parts, progress))
    continuations = continuation.evaluate_continuations(
        run,
        corpus,
        backbone,
        peft,
        progress,
        num_clips=continued,
        seconds=seconds,
        seed=seed,
        options=options,
        base_results=kept,
        kept=parts,
    )
    if note := continuation.shortfall(continuations, continued):
        progress.log(f"note: {note}")
    progress.log("measuring the generated audio and held-out music")
    music = music_scores.score_music(
        run,
        corpus,
        pairs,
        seconds=seconds,
        seed=seed,
        protocol=protocol,
        num_workers=num_workers,
        codec_tokens=tokens,
        resynthesis=list(zip(sources, resynthesis, strict=True)),
        held_out_loss=losses,
        not_compared_with=start_adapter.not_at_hand(serialization.read_info(run.adapter), corpus.train),
        progress=progress,
    )
    music["warnings"] = [*filter(None, [scored.seen["note"], choice]), *music["warnings"]]
    for line in (*(f"note: {warning}" for warning in music["warnings"]), music["copies"]["sentence"]):
        progress.log(line)
    scores = {
        "base": backbone.name,
        "design": str(recipe.design),
        "miniature": backbone.miniature,
        "split": corpus.summary["split"],
        "corpus": corpus.summary,
        "held_out_loss": losses,
        **without_melody,
        **validation,
        "seen_in_training": scored.seen,
        "adapter_effect": sample_pairs.adapter_effect(pairs),
        **music,
        "continuations": continuations,
        "seed": seed,
        "provenance": provenance(),
        **scored.facts,
    }
    write_json(run.scores, scores)
    parts.remove()
    return scores


def _paired_losses(  # noqa: PLR0913
    backbone: Backbone,
    peft: Any,
    clips: Sequence[EncodedClip],
    condition: str,
    references: ReferenceLosses | None = None,
    *,
    batch_size: int,
    cache: FrozenLayerCache | None,
    kept: BaseResults,
    parts: KeptParts,
    progress: Progress,
) -> dict[str, Any]:
    """`compare_losses` of the base with the adapter and without it; `condition` says on what, if not as usual."""

    def measure(title: str) -> np.ndarray:
        return per_clip_losses(backbone, clips, batch_size, progress, f"{title}{condition}", cache, parts)

    def of_base() -> np.ndarray:
        with injection.disabled(peft):
            return measure("loss without adapter")

    adapted = measure("loss with adapter")
    # stored outputs of frozen layers may differ in the last digit
    base = of_base() if cache is not None else kept.get(f"loss{condition}", of_base)
    recordings, terms = [clip.clip.sound_group for clip in clips], backbone.validation_terms
    return compare_losses(base, adapted, recordings, parts=terms, unit=backbone.loss_unit, references=references)


def _through_codec(
    clips: Sequence[Clip],
    targets: Mapping[str, np.ndarray],
    backbone: Backbone,
    seconds: float,
    parts: KeptParts,
    progress: Progress,
) -> list[Audio]:
    """Clips encoded and decoded, as scores compare them; `targets` are theirs by id."""
    title = "held-out clips through the codec"

    def make(missing: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in counted(missing, len(missing), progress, title):
            decoded = backbone.decode(targets[clips[number].id])
            yield number, music_scores.as_compared(decoded, seconds).samples

    made = parts.arrays(title, [clip.id for clip in clips], "clip", make)
    return [Audio(samples, pitch.RATE_HZ) for samples in made]


def _references(
    training: Sequence[EncodedClip], clips: Sequence[EncodedClip], backbone: Backbone, size: int, progress: Progress
) -> ReferenceLosses:
    title = "fitting predictors that need no model"
    progress.step(title, 0, 1)
    found = measure_reference_losses(training, clips, backbone, size)
    progress.step(title, 1, 1)
    return found


def _kept_parts(
    run: Run, progress: Progress, *, base: Sequence[Any], seconds: float, options: GenerationOptions, cached: bool
) -> KeptParts:
    """What is kept of an evaluation until it is whole, by all that decides its losses and pieces."""
    adapter = {path.name: file_hash(path) for path in run.adapter.iterdir() if path.suffix in ADAPTER_SUFFIXES}
    made_by = provenance()
    return KeptParts(
        run.folder,
        progress,
        base=base,
        adapter=adapter,
        seconds=seconds,
        options=options.explicit_options,
        frozen_cache=cached,
        software=[made_by[name] for name in ("talim", "libraries", "commit")],
    )


def _what_is_done(run: Run, corpus: Corpus, num_prompts: int, seconds: float, continued: int) -> str:
    """What the evaluation will do; how long that takes is known once the first of it is done."""
    pieces = format_counted(num_prompts, "piece")
    more = f" and {format_counted(continued, 'continuation')}" * bool(continued)
    return (
        f"{run.folder}: the loss on {format_counted(len(corpus.held_out), 'held-out clip')}; then {pieces} of "
        f"{seconds:g} s{more}, each with and without the adapter; then measures of all of it"
    )


def few_held_out(corpus: Corpus) -> str:
    """A note where recordings are too few for intervals that are not rough, to be told before anything is measured."""
    count = len({clip.sound_group for clip in corpus.held_out})
    note = held_out_note(count)
    advice = (
        "more recordings mend that; a larger talim prepare --held-out-fraction does too, and leaves fewer to train on"
    )
    return f"note: {note}; {advice}" * bool(note)


def compare_losses(
    base: np.ndarray,
    adapted: np.ndarray,
    recordings: Sequence[str],
    *,
    parts: Sequence[str] = (),
    unit: str = "nats",
    references: ReferenceLosses | None = None,
) -> dict[str, Any]:
    """Losses [clips, K] without and with the adapter and their paired reduction, with intervals by recording.

    Means are over recordings, so that long recordings do not dominate. `parts` names the K columns, `unit` is that of
    the losses; a positive reduction is an improvement. `references` are those of predictors that need no model: their
    losses, averaged likewise, and where base and adapter stand to the best of them (`predictor_comparison.standing`).
    """
    reduction = _summary((base - adapted).mean(axis=1), recordings, intervals.UNBOUNDED)
    base_loss, adapted_loss = (_summary_with_parts(losses, recordings) for losses in (base, adapted))
    reduction["relative_reduction"] = reduction["mean"] / max(base_loss["mean"], 1e-12)
    known: dict[str, Any] = {}
    if references is not None:
        summaries = {name: _summary_with_parts(losses, recordings) for name, losses in references.losses.items()}
        known = {"losses": summaries, **predictor_comparison.standing(base_loss, adapted_loss, summaries)}
        known |= {"fit": references.fit, "unit": "nats per token" if unit == "nats" else unit}
    return {
        "base_loss": base_loss,
        "adapted_loss": adapted_loss,
        "loss_reduction": reduction,
        "parts": list(parts),
        "loss_unit": unit,
        **({predictor_comparison.KEY: known} if known else {}),
        "unit": f"{unit}, mean over the parts; mean over recordings of the mean over their clips",
    }


def _summary_with_parts(losses: np.ndarray, recordings: Sequence[str]) -> dict[str, Any]:
    parts = [_summary(column, recordings)["mean"] for column in losses.T]
    return _summary(losses.mean(axis=1), recordings) | {"per_part": parts}


def _summary(
    values: np.ndarray, recordings: Sequence[str], bounds: tuple[float, float] = intervals.NOT_NEGATIVE
) -> dict[str, Any]:
    per_recording = intervals.mean_by_recording(values.tolist(), recordings)
    return {
        "mean": float(np.mean(list(per_recording.values()))),
        "ci95": intervals.mean_interval(per_recording, bounds=bounds),
        "ci_note": held_out_note(len(per_recording)) or None,
        "n_recordings": len(per_recording),
        "n_clips": len(values),
        "per_recording": per_recording,
    }


def _corpus(run: Run, recipe: Recipe) -> Corpus:
    if not run.finished:
        raise TalimError(f"{run.folder}: training is not finished; resume it with: {run.resume_command}")
    sibling = run.folder.parent / Path(recipe.corpus).name  # if the folder of both was moved
    corpus = Corpus.load(sibling if sibling.is_dir() and not Path(recipe.corpus).is_dir() else recipe.corpus)
    if read_json(run.facts_file)["corpus_hash"] != corpus.hash:
        raise TalimError(
            f"{recipe.corpus}: the corpus has changed since {run.folder} was trained on it; train into "
            "another folder, or prepare the same recordings again"
        )
    return corpus
