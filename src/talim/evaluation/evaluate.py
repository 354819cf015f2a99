"""A first judgement of a run: held-out loss with and without its adapter, and what the adapter changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.adapters import injection, serialization
from talim.atomic_io import read_json, write_json, write_text
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation import bootstrap, music_scores, sample_pairs
from talim.evaluation.held_out_loss import per_clip_losses, prepare_held_out
from talim.generation.generate import GenerationOptions
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run, provenance
from talim.training import batches, model_card

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone


def evaluate(
    run_folder: Path | str,
    progress: Progress | None = None,
    *,
    prompts: int = 3,
    seconds: float = 10.0,
    seed: int = 0,
    sampling: GenerationOptions | None = None,
    device: str = "auto",
    protocol: str = "default",
    jobs: int = 1,
    backbone: Backbone | None = None,
) -> dict[str, Any]:
    """Judge a finished run on its held-out clips; write scores.json, scores.html, samples/ and the adapter's card.

    `prompts` held-out captions are played before and after, `seconds` long. TalimError if the run is not
    finished or its corpus has changed. `jobs` clips are listened to at a time, each once: RUN/metrics_cache keeps
    what was heard. A `backbone` that is given is taken as the run's base; the adapter stays in it.
    `protocol` "paper" adds the two Fréchet distances of the paper, whose weights must be at hand.
    """
    from talim.backbones import generation_options
    from talim.backbones.load import load

    progress, run = progress or Progress(), Run(run_folder)
    recipe = run.recipe
    corpus, sampling = _corpus(run, recipe), sampling or GenerationOptions()
    generation_options.resolve_options(
        recipe.base, sampling.explicit_options, (), recipe.training.predict_beats_chords
    )
    backbone = backbone or load(recipe.base, precision=recipe.training.precision, device=device)
    peft = serialization.load(backbone, run.adapter)
    backbone.model.eval()
    items, kept = prepare_held_out(recipe, corpus, backbone, progress)
    size = recipe.training.batch_size
    after = per_clip_losses(backbone, items, size, progress, "loss with adapter", kept)
    with injection.disabled(peft):
        before = per_clip_losses(backbone, items, size, progress, "loss without adapter", kept)
    pairs = sample_pairs.generate_pairs(
        run, corpus, backbone, peft, progress, prompts=prompts, seconds=seconds, seed=seed, sampling=sampling
    )
    losses = compare_losses(
        before,
        after,
        [item.clip.recording for item in items],
        parts=backbone.validation_terms,
        unit=backbone.loss_unit,
    )
    known = None
    if backbone.target_kind == "tokens":
        real = batches.stratified_sample(corpus.held_out, music_scores.MAX_REAL_CLIPS)
        learnt, strangers = (
            [item.targets for item in batches.encode_clips(corpus, clips, backbone, progress)]
            for clips in (corpus.train, real)
        )
        known = learnt, strangers, backbone.frame_rate_hz
    judged = music_scores.score_music(
        run, corpus, pairs, seconds=seconds, seed=seed, kind=protocol, jobs=jobs, training=known
    )
    scores = {
        "base": backbone.name,
        "design": str(recipe.design),
        "miniature": backbone.miniature,
        "run_id": read_json(run.facts_file)["run_id"],
        "split": corpus.summary["split"],
        "corpus": corpus.summary,
        "held_out_loss": _add_selection_warning(losses, recipe),
        "adapter_effect": sample_pairs.adapter_effect(pairs),
        **judged,
        "seed": seed,
        "provenance": provenance(),
        "command": f"talim evaluate {run.folder}",
    }
    write_json(run.scores, scores)
    text = model_card.render_card(
        recipe, model_card.base_facts(backbone), corpus.summary, read_json(run.cost), scores
    )
    write_text(run.adapter / "README.md", text)
    return scores


def compare_losses(
    before: np.ndarray,
    after: np.ndarray,
    recordings: Sequence[str],
    *,
    parts: Sequence[str] = (),
    unit: str = "nats",
) -> dict[str, Any]:
    """Losses [clips, K] before and after, and their paired fall, each with an interval by recording.

    Means are over recordings, so that a long recording does not outvote a short one. `parts` names the K columns,
    `unit` is that of the losses; a positive fall is an improvement.
    """
    fall = _summary((before - after).mean(axis=1), recordings)
    fall["relative_reduction"] = fall["mean"] / max(_summary(before.mean(axis=1), recordings)["mean"], 1e-12)
    return {
        "base_loss": _add_parts(before, recordings),
        "adapted_loss": _add_parts(after, recordings),
        "loss_reduction": fall,
        "parts": list(parts),
        "loss_unit": unit,
        "unit": f"{unit}, mean over the parts; mean over recordings of the mean over their clips",
    }


def _add_selection_warning(losses: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Say so where the same held-out clips also chose the weights: their fall is then a little optimistic."""
    if recipe.training.save_weights == "best":
        chosen = "the weights were chosen by looks at these clips, so the fall is somewhat optimistic"
        notes = [losses["loss_reduction"]["ci_note"], chosen]
        losses["loss_reduction"]["ci_note"] = "; ".join(note for note in notes if note)
    return losses


def _add_parts(losses: np.ndarray, recordings: Sequence[str]) -> dict[str, Any]:
    summary = _summary(losses.mean(axis=1), recordings)
    by_part = [_summary(losses[:, k], recordings)["mean"] for k in range(losses.shape[1])]
    return summary | {"per_part": by_part}


def _summary(values: np.ndarray, recordings: Sequence[str]) -> dict[str, Any]:
    per_recording = bootstrap.mean_by_recording(values.tolist(), recordings)
    return {
        "mean": float(np.mean(list(per_recording.values()))),
        "ci95": bootstrap.bootstrap_ci(per_recording),
        "ci_note": bootstrap.ci_note(len(per_recording)),
        "n_recordings": len(per_recording),
        "n_clips": len(values),
        "per_recording": per_recording,
    }


def _corpus(run: Run, recipe: Recipe) -> Corpus:
    if not run.finished:
        raise TalimError(
            f"{run.folder}: training is not finished; go on with: talim train --out {run.folder}"
        )
    beside = run.folder.parent / Path(recipe.corpus).name  # there, if the folder of both was moved
    corpus = Corpus.load(beside if beside.is_dir() and not Path(recipe.corpus).is_dir() else recipe.corpus)
    if read_json(run.facts_file)["corpus_hash"] != corpus.hash:
        raise TalimError(
            f"{recipe.corpus}: the corpus has changed since {run.folder} was trained on it; train into "
            "another folder, or prepare the same recordings again"
        )
    return corpus
