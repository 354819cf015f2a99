"""Leave one recording out in turn: does an adapter carry over to a recording of the tradition it never heard?

`python -m research.validation.leave_one_recording_out FOLDER --control OTHER --out DIR` trains one adapter for each recording of FOLDER
and seed on all other recordings, and, for comparison, equal adapters on the recordings of OTHER. The paired fall of
the held-out loss is reported with a bootstrap interval over the recordings. The last weights are kept, so that
nothing is chosen by the recording that is left out. Rerun to resume.
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
from talim.corpus.prepare import prepare_corpus
from talim.errors import TalimError
from talim.evaluation import bootstrap
from talim.experiments.study_file import SETTINGS, recipe_of
from talim.progress import Progress
from talim.recipe import Recipe

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone


LossReductions = dict[str, dict[str, float]]  # recording -> seed -> fall of its loss in nats


def leave_one_out(
    folder: Path,
    control: Path | None,
    out: Path,
    *,
    base: str = "nano-musicgen",
    design: str = "linear@all:2.5%",
    seeds: Sequence[int] = (0, 1, 2),
    clip_seconds: float = 8.0,
    settings: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train and judge every fold; write DIR/leave-one-out.json and return what is in it.

    TalimError where FOLDER has fewer than two usable recordings.
    """
    progress = progress or Progress()
    corpus = prepare_corpus(folder, out / "corpus", clip_seconds=clip_seconds)
    names = sorted({clip.recording for clip in corpus.clips})
    if len(names) < 2:
        raise TalimError(f"{folder}: {len(names)} usable recording; leaving one out needs at least two")
    own: LossReductions = {}
    for name in names:
        corpus = prepare_corpus(folder, out / "corpus", clip_seconds=clip_seconds, held_out=(name,))
        left = [clip for clip in corpus.clips if clip.recording == name]
        for seed in seeds:
            recipe = recipe_of(base, out / "corpus", design, seed, settings)
            fold = out / "runs" / f"{name}-{seed}"
            own.setdefault(name, {})[str(seed)] = loss_reduction_of(recipe, fold, corpus, left, progress)[
                name
            ]
    others: LossReductions = {}
    if control is not None:
        prepare_corpus(control, out / "control", clip_seconds=clip_seconds)
        for seed in seeds:
            recipe = recipe_of(base, out / "control", design, seed, settings)
            fold = out / "runs" / f"control-{seed}"
            for name, fall in loss_reduction_of(recipe, fold, corpus, corpus.clips, progress).items():
                others.setdefault(name, {})[str(seed)] = fall
    found = {"base": base, "design": design, "seeds": list(seeds), "settings": SETTINGS | (settings or {})}
    found |= {"unit": "of the base's held-out loss, positive is better", "clip_seconds": clip_seconds}
    found |= summary(own, others)
    write_json(out / "leave-one-out.json", found)
    return found


def summary(own: LossReductions, others: LossReductions) -> dict[str, Any]:
    """Mean falls over recordings with 95 % intervals over the recordings; seeds are averaged first."""

    def told(falls: dict[str, float]) -> dict[str, Any]:
        mean = float(np.mean(list(falls.values())))
        return {"mean": mean, "ci95": bootstrap.bootstrap_ci(falls), "per_recording": falls}

    mine = {name: float(np.mean(list(by_seed.values()))) for name, by_seed in own.items()}
    found: dict[str, Any] = {"own": told(mine) | {"per_seed": own}}
    if others:
        theirs = {name: float(np.mean(list(by_seed.values()))) for name, by_seed in others.items()}
        found["control"] = told(theirs) | {"per_seed": others}
        found["own_minus_control"] = told({name: mine[name] - theirs[name] for name in mine})
    return found


def loss_reduction_of(
    recipe: Recipe, fold: Path, corpus: Corpus, clips: Sequence[Clip], progress: Progress
) -> dict[str, float]:
    """The fall of the loss on each recording of `clips`; trained and judged once, then read from the fold."""
    from talim.training.train import train

    done = fold / "falls.json"
    key = recipes.run_id(recipe, Corpus.load(Path(recipe.corpus)).hash)
    if done.is_file() and (kept := read_json(done))["key"] == key:
        return kept["falls"]
    progress.log(f"fold {fold.name}")
    run = train(recipe, fold, progress)
    falls = _judge(recipe, run.adapter, corpus, clips, progress)
    write_json(done, {"key": key, "falls": falls})
    return falls


def _judge(
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
    return bootstrap.mean_by_recording((before - after).tolist(), [item.clip.recording for item in items])


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
        settings=dict(recipes.parse_setting(text) for text in options.set),
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
