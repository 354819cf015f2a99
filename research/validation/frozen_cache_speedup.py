"""Speed-up of training by the frozen-layer cache: steps with and without it alternate, at MusicGen-small's shape.

python -m research.validation.frozen_cache_speedup --out docs/reports/frozen-cache-speedup.md
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from research.docs import markdown
from research.validation.random_musicgen import TEXT_WIDTH, random_musicgen
from talim.atomic_io import read_json, write_json, write_text
from talim.backbones import registry
from talim.backbones.musicgen.backbone import MusicGen
from talim.corpus.feature_cache import FeatureCache
from talim.corpus.manifest import Corpus
from talim.design import site_selection
from talim.progress import PlainProgress, Progress
from talim.recipe import Recipe, Training
from talim.run import Run, provenance
from talim.training import batches
from talim.training.crops import EncodedClip
from talim.training.frozen_cache import MIN_FROZEN_FRACTION, PRECISIONS, FrozenLayerCache
from talim.training.resource_usage import ResourceMeter, device_name
from talim.training.trainer import Trainer, rng_state_at

PAGE = Path("docs/reports/frozen-cache-speedup.md")
SITES, SIZES = ("post", "deep", "middle", "all"), ("2M", "8M", "40M")
SHAPE = registry.SHAPES["small"]
TEXT_TOKENS = 16  # a caption of about a dozen words
CLIPS = 1


def random_items(frames: int, count: int = CLIPS) -> list[EncodedClip]:
    """Clips of random tokens and text states."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(count):
        clip: Any = SimpleNamespace(audio_hash=f"clip {number}", seconds=frames / 50, caption=f"words {number}")
        tokens = rng.integers(0, 2048, (4, frames)).astype(np.int16)
        states = rng.standard_normal((TEXT_TOKENS, TEXT_WIDTH)).astype(np.float32)
        items.append(EncodedClip(clip, tokens, states))
    return items


def measure(
    design: str, mixed: bool, backbone: MusicGen, items: Sequence[EncodedClip], rounds: int, folder: Path
) -> dict[str, Any]:
    """CPU seconds of training steps of one design, alternately without and with the cache.

    `mixed`: the adapter computes in the base's precision instead of float32.
    """
    training = {"batch_size": 1, "condition_dropout": 0, "adapter_compute_dtype": "same_as_base" if mixed else "fp32"}
    recipe = Recipe.model_validate({"design": design, "corpus": "none", "training": training})
    with trainer_with(recipe, backbone, items, folder) as trainer:
        below = site_selection.num_frozen_layers(recipe.design, backbone.sites())
        cache = FrozenLayerCache(backbone, below, FeatureCache(folder / "prefix", 10**10))
        every_item = range(1, len(items) + 1)
        filling_seconds = sum(timed_steps(trainer, cache, every_item))
        timed_steps(trainer, None, [1])  # warm-up
        filling_seconds -= sum(timed_steps(trainer, cache, every_item))
        loss_difference = _loss_difference(trainer, cache)
        with_cache, without = [], []
        for step in range(1, rounds + 1):
            without += timed_steps(trainer, None, [step])
            with_cache += timed_steps(trainer, cache, [step])
        parameters = sum(weight.numel() for weight in trainer.weights.values())
    return {
        "design": design,
        "adapter_compute_dtype": PRECISIONS[backbone.dtype] if mixed else "fp32",
        "frozen_layers": below,
        "parameters": parameters,
        "without_seconds": without,
        "with_seconds": with_cache,
        "speedups": [slow / fast for slow, fast in zip(without, with_cache, strict=True)],
        "entry_seconds": filling_seconds / len(items),
        "entry_bytes": cache.entry_bytes(items[0].full_length),
        "loss_difference": loss_difference,
    }


@contextmanager
def trainer_with(recipe: Recipe, backbone: MusicGen, items: Sequence[EncodedClip], folder: Path) -> Iterator[Trainer]:
    """A Trainer with these clips and no corpus; afterwards the base has no adapter."""
    trainer = Trainer(Run(folder / "run"), recipe, Corpus(folder, (), {}), backbone, Progress())
    trainer.train_items, trainer.meter = list(items), ResourceMeter(backbone.device)
    trainer.state.usage["flops_per_step"] = 0  # not counted: counting takes time
    yield trainer
    trainer.peft.unload()  # type: ignore[operator]
    backbone.model.__dict__.pop("talim_wrapper", None)


def timed_steps(trainer: Trainer, cache: FrozenLayerCache | None, steps: Sequence[int]) -> list[float]:
    """CPU seconds of each of these training steps, with a cache or without (None)."""
    trainer.cache, taken = cache, []
    for step in steps:
        began = time.process_time()
        trainer._update(step, 1e-4)
        taken.append(time.process_time() - began)
    return taken


def _loss_difference(trainer: Trainer, cache: FrozenLayerCache) -> float:
    """Difference in nats of one batch's loss with and without the cache, at the same weights and dropout."""
    losses = []
    for used in (cache, None):
        training = Training(batch_size=1, condition_dropout=0.0)
        batch = batches.training_batch(trainer.train_items, trainer.backbone, training, 0, 1, used)
        with torch.no_grad(), rng_state_at(0, 1, trainer.backbone.device):
            losses.append(trainer.backbone.loss(batch).mean.item())
    return abs(losses[0] - losses[1])


def page(results: dict[str, Any]) -> str:
    """The measurement as Markdown."""
    setting = results["setting"]
    opening = f"""Generated by `python -m research.validation.frozen_cache_speedup --out {PAGE}`; the same command
        resumes an unfinished measurement (`{PAGE.with_suffix(".json").name}`). {setting["shape"]} with random weights
        in {setting["precision"]}, clips of {setting["seconds"]:g} s, batch size 1, {setting["threads"]} thread
        ({setting["device"]}), torch {setting["torch"]}. CPU seconds of whole training steps (batch, forward, backward,
        gradient clipping, AdamW): the median of {setting["rounds"]}, alternating with and without the cache; the range
        of the speed-up is over these pairs. Cached by default: if at least a quarter of the layers lies below the
        design. How the cache works: [Frozen-layer cache](../guides/frozen-cache.md)."""
    head = ("design", "adapter compute dtype", "frozen layers below", "cached by default")
    head += ("without, s", "with, s", "speed-up (range)", "loss difference, nats")
    align = ("---", "---", "--:", "---", "--:", "--:", "---", "--:")
    first = results["rows"][0]
    closing = f"""One entry of one clip takes {first["entry_bytes"] / 1e6:.2f} MB on disk and, for `{first["design"]}`,
        {first["entry_seconds"]:.2f} s of CPU time to compute and store, once."""
    rows = [_cells(row, setting["layers"]) for row in results["rows"]]
    parts = (markdown.paragraph(opening), "\n".join(markdown.table(head, rows, align)), markdown.paragraph(closing))
    return "\n\n".join(("# Frozen-layer cache: speed-up", *parts)) + "\n"


def _cells(row: dict[str, Any], layers: int) -> list[str]:
    without, with_cache = median(row["without_seconds"]), median(row["with_seconds"])
    return [
        f"`{row['design']}`",
        row["adapter_compute_dtype"],
        f"{row['frozen_layers']} of {layers}",
        "yes" if row["frozen_layers"] >= MIN_FROZEN_FRACTION * layers else "no",
        f"{without:.3f}",
        f"{with_cache:.3f}",
        f"{without / with_cache:.1f} ({min(row['speedups']):.1f} to {max(row['speedups']):.1f})",
        f"{row['loss_difference']:.1e}",
    ]


def main() -> None:
    """Measure the rows that the results beside the page do not hold yet, and write both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; the numbers are written beside it, as .json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--kind", default="conv")
    parser.add_argument("--sites", nargs="+", default=SITES)
    parser.add_argument(
        "--mixed",
        nargs="*",
        default=["post", "deep"],
        help="sites that are also measured with the adapter in the base's precision",
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    options, progress = parser.parse_args(), PlainProgress()
    torch.set_num_threads(1)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.precision]
    backbone = random_musicgen(SHAPE, dtype)
    setting = {
        "shape": "MusicGen-small's decoder (24 layers of 1024)",
        "layers": SHAPE.layers,
        "precision": options.precision,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "threads": 1,
        "device": device_name(backbone.device),
        "torch": torch.__version__,
    }
    file = options.out.with_suffix(".json")
    results: dict[str, Any] = read_json(file) if file.is_file() else {}
    if results.get("setting") != setting:
        command = f"python -m research.validation.frozen_cache_speedup --out {options.out}"
        results = {"setting": setting, "command": command, "provenance": provenance(), "rows": []}
    items = random_items(round(options.seconds * 50))
    done = {(row["design"], row["adapter_compute_dtype"]) for row in results["rows"]}
    for site, size, mixed in itertools.product(options.sites, options.sizes, (False, True)):
        design = f"{options.kind}@{site}:{size}"
        if (design, options.precision if mixed else "fp32") in done or (mixed and site not in options.mixed):
            continue
        with tempfile.TemporaryDirectory() as folder:
            results["rows"].append(measure(design, mixed, backbone, items, options.rounds, Path(folder)))
        write_json(file, results)
        write_text(options.out, page(results))
        progress.log(f"{design}, mixed {mixed}: {median(results['rows'][-1]['speedups']):.2f} times as fast")


if __name__ == "__main__":
    main()
