"""A first judgement of a run: held-out loss with and without its adapter, and what the adapter changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.adapters import store, tuner
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.recipe import Recipe
from talim.run import Run, provenance, read_json, write_json, write_text
from talim.stages import batches, card, intervals, judging, samples
from talim.stages.generate import Sampling
from talim.stages.held_out import heard, per_clip_losses
from talim.stages.progress import Progress

if TYPE_CHECKING:
    from talim.backbones.backbone import Backbone


def evaluate(
    run_folder: Path | str,
    progress: Progress | None = None,
    *,
    prompts: int = 3,
    seconds: float = 10.0,
    seed: int = 0,
    sampling: Sampling | None = None,
    device: str = "auto",
    protocol: str = "default",
    jobs: int = 1,
    backbone: Backbone | None = None,
) -> dict[str, Any]:
    """Judge a finished run on its held-out clips; write scores.json, scores.html, samples/ and the adapter's card.

    `prompts` held-out captions are played before and after, `seconds` long. TalimError if the run is not
    finished or its corpus has changed. `jobs` clips are listened to at a time, each once: RUN/heard keeps
    what was heard. A `backbone` that is given is taken as the run's base; the adapter stays in it.
    `protocol` "paper" adds the two Fréchet distances of the paper, whose weights must be at hand.
    """
    from talim.backbones import asking
    from talim.backbones.load import load
    from talim.stages.train import stored_recipe

    progress, run = progress or Progress(), Run(run_folder)
    recipe = stored_recipe(run)
    corpus, sampling = _corpus(run, recipe), sampling or Sampling()
    asking.settle(recipe.base, sampling.given, (), recipe.training.predict_music)
    backbone = backbone or load(recipe.base, precision=recipe.training.precision, device=device)
    peft = store.load(backbone, run.adapter)
    backbone.model.eval()
    items, kept = heard(recipe, corpus, backbone, progress)
    size = recipe.training.batch_size
    after = per_clip_losses(backbone, items, size, progress, "loss with adapter", kept)
    with tuner.disabled(peft):
        before = per_clip_losses(backbone, items, size, progress, "loss without adapter", kept)
    pairs = samples.make(
        run, corpus, backbone, peft, progress, prompts=prompts, seconds=seconds, seed=seed, sampling=sampling
    )
    losses = compare(
        before,
        after,
        [item.clip.recording for item in items],
        parts=backbone.held_out_parts,
        unit=backbone.loss_unit,
    )
    known = None
    if backbone.targets == "tokens":
        real = batches.spread(corpus.held_out, judging.MOST_REAL)
        learnt, strangers = (
            [item.targets for item in batches.items(corpus, clips, backbone, progress)]
            for clips in (corpus.train, real)
        )
        known = learnt, strangers, backbone.frame_rate_hz
    judged = judging.judge(
        run, corpus, pairs, seconds=seconds, seed=seed, kind=protocol, jobs=jobs, training=known
    )
    scores = {
        "base": backbone.name,
        "adapter": recipe.design,
        "miniature": backbone.miniature,
        "run_id": read_json(run.facts_file)["run_id"],
        "split": corpus.summary["split"],
        "corpus": corpus.summary,
        "held_out_loss": _with_caution(losses, recipe),
        "adapter_effect": samples.effect(pairs),
        **judged,
        "seed": seed,
        "provenance": provenance(),
        "command": f"talim evaluate {run.folder}",
    }
    write_json(run.scores, scores)
    text = card.write(recipe, card.base_of(backbone), corpus.summary, read_json(run.cost), scores)
    write_text(run.adapter / "README.md", text)
    return scores


def compare(
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
    fall["share_of_before"] = fall["mean"] / max(_summary(before.mean(axis=1), recordings)["mean"], 1e-12)
    return {
        "before": _with_parts(before, recordings),
        "after": _with_parts(after, recordings),
        "fall": fall,
        "parts": list(parts),
        "loss_unit": unit,
        "unit": f"{unit}, mean over the parts; mean over recordings of the mean over their clips",
    }


def _with_caution(losses: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Say so where the same held-out clips also chose the weights: their fall is then a little optimistic."""
    if recipe.training.keep == "best":
        chosen = "the weights were chosen by looks at these clips, so the fall is somewhat optimistic"
        notes = [losses["fall"]["interval_note"], chosen]
        losses["fall"]["interval_note"] = "; ".join(note for note in notes if note)
    return losses


def _with_parts(losses: np.ndarray, recordings: Sequence[str]) -> dict[str, Any]:
    summary = _summary(losses.mean(axis=1), recordings)
    by_part = [_summary(losses[:, k], recordings)["mean"] for k in range(losses.shape[1])]
    return summary | {"per_part": by_part}


def _summary(values: np.ndarray, recordings: Sequence[str]) -> dict[str, Any]:
    per_recording = intervals.by_recording(values.tolist(), recordings)
    return {
        "mean": float(np.mean(list(per_recording.values()))),
        "interval": intervals.interval(per_recording),
        "interval_note": intervals.note(len(per_recording)),
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
