"""Leave-one-recording-out cross-validation: does an adapter generalise to another recording of its tradition?

`python -m research.validation.leave_one_recording_out FOLDER --control OTHER --out DIR` trains one adapter for each
recording of FOLDER and seed on all other recordings, and, for comparison, equal adapters on the recordings of OTHER.
The paired reduction of the held-out loss is reported with an interval over the recordings. The last weights
are saved, so nothing is selected on the recording that is left out. Rerun to resume.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim import recipe as recipes
from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Clip, Corpus
from talim.corpus.prepare import prepare
from talim.errors import TalimError
from talim.evaluation import intervals
from talim.experiments.study_file import DEFAULT_OVERRIDES, trial_recipe
from talim.experiments.trial import train_and_evaluate
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone


LossReductions = dict[str, dict[str, float]]  # recording -> seed -> reduction of its loss in nats


def leave_one_out(
    folder: Path,
    control: Path | None,
    out: Path,
    *,
    base: str = "nano-musicgen",
    design: str = "linear@all:2.5%",
    seeds: Sequence[int] = (0, 1, 2),
    clip_seconds: float = 8.0,
    overrides: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train and evaluate every fold; write DIR/leave-one-out.json and return what is in it.

    TalimError where FOLDER has fewer than two usable recordings.
    """
    progress = progress or Progress()
    corpus = prepare(folder, out / "corpus", clip_seconds=clip_seconds)
    names = sorted({clip.recording for clip in corpus.clips})
    if len(names) < 2:
        raise TalimError(f"{folder}: {len(names)} usable recording; leaving one out needs at least two")
    own: LossReductions = {}
    for name in names:
        corpus = prepare(folder, out / "corpus", clip_seconds=clip_seconds, held_out=(name,))
        left_out = [clip for clip in corpus.clips if clip.recording == name]
        for seed in seeds:
            recipe = trial_recipe(base, out / "corpus", design, seed, overrides or {})
            fold = out / "runs" / f"{name}-{seed}"
            reductions = loss_reduction_of(recipe, fold, corpus, left_out, progress)
            own.setdefault(name, {})[str(seed)] = reductions[name]
    control_reductions: LossReductions = {}
    if control is not None:
        prepare(control, out / "control", clip_seconds=clip_seconds)
        for seed in seeds:
            recipe = trial_recipe(base, out / "control", design, seed, overrides or {})
            fold = out / "runs" / f"control-{seed}"
            for name, reduction in loss_reduction_of(recipe, fold, corpus, corpus.clips, progress).items():
                control_reductions.setdefault(name, {})[str(seed)] = reduction
    result = {
        "base": base,
        "design": design,
        "seeds": list(seeds),
        "overrides": DEFAULT_OVERRIDES | (overrides or {}),
        "unit": "that of the base's held-out loss, positive is better",
        "clip_seconds": clip_seconds,
        **summary(own, control_reductions),
    }
    write_json(out / "leave-one-out.json", result)
    return result


def summary(own: LossReductions, control: LossReductions) -> dict[str, Any]:
    """Mean loss reductions over recordings with 95 % intervals over the recordings; seeds are averaged first."""

    def mean_with_ci(reductions: dict[str, float]) -> dict[str, Any]:
        mean = float(np.mean(list(reductions.values())))
        return {"mean": mean, "ci95": intervals.mean_interval(reductions), "per_recording": reductions}

    def seed_means(by_recording: LossReductions) -> dict[str, float]:
        return {name: float(np.mean(list(by_seed.values()))) for name, by_seed in by_recording.items()}

    own_means, control_means = seed_means(own), seed_means(control)
    result: dict[str, Any] = {"own": mean_with_ci(own_means) | {"per_seed": own}}
    if control:
        result["control"] = mean_with_ci(control_means) | {"per_seed": control}
        differences = {name: own_means[name] - control_means[name] for name in own_means}
        result["own_minus_control"] = mean_with_ci(differences)
    return result


def loss_reduction_of(
    recipe: Recipe, fold: Path, corpus: Corpus, clips: Sequence[Clip], progress: Progress
) -> dict[str, float]:
    """The loss reduction on each recording of `clips`; trained and evaluated once, then read from the fold."""
    done = fold / "loss_reduction.json"
    key = recipes.run_id(recipe, Corpus.load(Path(recipe.corpus)).hash)
    if done.is_file() and (saved := read_json(done))["key"] == key:
        return saved["loss_reduction"]
    progress.log(f"fold {fold.name}")
    run = Run(fold)
    reductions = train_and_evaluate(
        recipe, run, lambda: _evaluate(recipe, run.adapter, corpus, clips, progress), progress
    )
    write_json(done, {"key": key, "loss_reduction": reductions})
    return reductions


def _evaluate(
    recipe: Recipe, adapter: Path, corpus: Corpus, clips: Sequence[Clip], progress: Progress
) -> dict[str, float]:
    from talim.adapters import injection, serialization
    from talim.backbones.load import load
    from talim.evaluation.held_out_loss import per_clip_losses
    from talim.training import batches

    backbone: Backbone = load(recipe.base, precision=recipe.training.precision)
    peft = serialization.load(backbone, adapter)
    backbone.model.eval()
    items, size = batches.encode_clips(corpus, clips, backbone, progress), recipe.training.batch_size
    after = per_clip_losses(backbone, items, size, progress, "loss with adapter").mean(axis=1)
    with injection.disabled(peft):
        before = per_clip_losses(backbone, items, size, progress, "loss without adapter").mean(axis=1)
    return intervals.mean_by_recording((before - after).tolist(), [item.clip.recording for item in items])


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--control", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default="nano-musicgen")
    parser.add_argument("--design", default="linear@all:2.5%")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    found = leave_one_out(
        options.folder,
        options.control,
        options.out,
        base=options.base,
        design=options.design,
        seeds=range(options.seeds),
        overrides=dict(recipes.parse_setting(text) for text in options.set),
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
