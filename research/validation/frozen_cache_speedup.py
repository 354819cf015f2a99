"""What keeping the prefix saves: training steps with and without it, in turns, at MusicGen-small's real shape.

python -m research.validation.frozen_cache_speedup --out docs/prefix-measured.md
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

from talim import recipe as recipes
from talim.atomic_io import read_json, write_json, write_text
from talim.backbones.musicgen.backbone import MusicGen
from talim.corpus.feature_cache import BoundedFeatureCache
from talim.corpus.manifest import Corpus
from talim.designs import expression, site_selection
from talim.progress import PlainProgress, Progress
from talim.recipe import Recipe
from talim.run import Run, provenance
from talim.training import batches
from talim.training.batches import EncodedClip
from talim.training.frozen_cache import MIN_FROZEN_FRACTION, PRECISIONS, FrozenLayerCache
from talim.training.resource_usage import ResourceMeter, device_name
from talim.training.trainer import Trainer, rng_state_at

SITES, SIZES = ("post", "deep", "middle", "all"), ("2M", "8M", "40M")
SMALL_MUSICGEN = {"hidden": 1024, "layers": 24, "heads": 16}
WORDS = 16  # text positions: a caption of about a dozen words
CLIPS = 1


def random_base(hidden: int, layers: int, heads: int, dtype: torch.dtype) -> MusicGen:
    """A MusicGen of this shape with random weights; its codec and text encoder are as small as can be."""
    from transformers import (
        ByT5Tokenizer,
        EncodecConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    text = T5Config(vocab_size=384, d_model=768, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    codec = EncodecConfig(
        num_filters=2, hidden_size=8, codebook_dim=8, num_lstm_layers=1, sampling_rate=32000
    )
    decoder = MusicgenDecoderConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        ffn_dim=4 * hidden,
        vocab_size=2048,
        num_codebooks=4,
    )
    parts = text.to_dict(), codec.to_dict(), decoder.to_dict()
    config = MusicgenConfig(**dict(zip(("text_encoder", "audio_encoder", "decoder"), parts, strict=True)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = MusicgenForConditionalGeneration(config)
    model.decoder.to(dtype)
    model.enc_to_dec_proj.to(dtype)
    return MusicGen(model, ByT5Tokenizer(), name="random", licence="CC0-1.0")


def random_items(frames: int, count: int = CLIPS) -> list[EncodedClip]:
    """Clips of random tokens and text states."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        clip: Any = SimpleNamespace(
            audio_hash=f"clip {number}", seconds=frames / 50, caption=f"words {number}"
        )
        tokens = rng.integers(0, 2048, (4, frames)).astype(np.int16)
        made.append(EncodedClip(clip, tokens, rng.standard_normal((WORDS, 768)).astype(np.float32)))
    return made


def measure(
    design: str, mixed: bool, backbone: MusicGen, items: Sequence[EncodedClip], rounds: int, folder: Path
) -> dict[str, Any]:
    """CPU seconds of real training steps of one design, with and without its prefix, in turns."""
    training = {"batch_size": 1, "condition_dropout": 0, "adapter_precision": "base" if mixed else "fp32"}
    recipe = recipes.build({"design": design, "corpus": "none", "training": training})
    with loop_over(recipe, backbone, items, folder) as loop:
        below = site_selection.num_frozen_layers(expression.parse(design), backbone.sites())
        kept = FrozenLayerCache(backbone, below, BoundedFeatureCache(folder / "prefix", 10**10))
        began = time.process_time()
        timed_steps(loop, kept, range(1, len(items) + 1))  # the store is filled
        filling = time.process_time() - began
        timed_steps(loop, None, [1])
        filling = (filling - sum(timed_steps(loop, kept, range(1, len(items) + 1)))) / len(items)
        apart = _apart(loop, kept)
        with_it, without = [], []
        for step in range(1, rounds + 1):
            without += timed_steps(loop, None, [step])
            with_it += timed_steps(loop, kept, [step])
        trained = sum(weight.numel() for weight in loop.weights.values())
    ratios = [one / other for one, other in zip(without, with_it, strict=True)]
    return {
        "design": design,
        "multiplies_in": PRECISIONS[backbone.dtype] if mixed else "fp32",
        "layers": below,
        "trained": trained,
        "without_seconds": without,
        "with_seconds": with_it,
        "ratios": ratios,
        "state_seconds": filling,
        "state_bytes": kept.entry_bytes(items[0].whole),
        "loss_apart": apart,
    }


@contextmanager
def loop_over(
    recipe: Recipe, backbone: MusicGen, items: Sequence[EncodedClip], folder: Path
) -> Iterator[Trainer]:
    """The training loop itself, given its clips by hand; the base is bare again afterwards."""
    loop = Trainer(Run(folder / "run"), recipe, Corpus(folder, (), {}), backbone, Progress())
    loop.train_items, loop.meter = list(items), ResourceMeter(backbone.device)
    loop.state.spent["flops_per_step"] = 0  # counting them takes time
    yield loop
    loop.peft.unload()  # type: ignore[operator]
    backbone.model.__dict__.pop("talim_wrapper", None)


def timed_steps(loop: Trainer, kept: FrozenLayerCache | None, steps: Sequence[int]) -> list[float]:
    """CPU seconds of each of these training steps, with a prefix or without."""
    loop.prefix, taken = kept, []
    for step in steps:
        began = time.process_time()
        loop._update(step, 1e-4)
        taken.append(time.process_time() - began)
    return taken


def _apart(loop: Trainer, kept: FrozenLayerCache) -> float:
    """By how much the two losses of one batch differ, with the same weights and the same dropout, in nats."""
    found = []
    for prefix in (kept, None):
        batch = batches.training_batch(
            loop.train_items,
            loop.backbone,
            batch_size=1,
            seed=0,
            step=1,
            condition_dropout=0.0,
            clip_seconds=None,
            prefix=prefix,
        )
        with torch.no_grad(), rng_state_at(0, 1, loop.backbone.device):
            found.append(loop.backbone.loss(batch).mean.item())
    return abs(found[0] - found[1])


def page(found: dict[str, Any]) -> str:
    """The measurement as Markdown."""
    setting = found["setting"]
    lines = [
        "# Training steps with and without a kept prefix",
        "",
        f"Written by `{found['command']}`. {setting['shape']} with random weights in {setting['precision']}, "
        f"clips of {setting['seconds']:g} s, batch 1, {setting['threads']} thread of {setting['device']}, torch "
        f"{setting['torch']}. CPU seconds of whole training steps (batch, forward, backward, clipping, AdamW): the "
        f"median of {setting['rounds']}, without and with the prefix in turns; the ratio's range is over these pairs. "
        "Kept by default: where at least a quarter of the layers lies below the design. The same command goes on with "
        "what is not measured yet.",
        "",
        "| design | adapter multiplies in | layers below | kept by default | without, s | with, s "
        "| times as fast (range) | losses apart, nats |",
        "| --- | --- | --: | --- | --: | --: | --- | --: |",
    ]
    for row in found["rows"]:
        ratios, default = (
            row["ratios"],
            "yes" if row["layers"] >= MIN_FROZEN_FRACTION * setting["layers"] else "no",
        )
        faster = median(row["without_seconds"]) / median(row["with_seconds"])
        lines.append(
            f"| `{row['design']}` | {row['multiplies_in']} | {row['layers']} of {setting['layers']} | {default} "
            f"| {median(row['without_seconds']):.3f} | {median(row['with_seconds']):.3f} "
            f"| {faster:.1f} ({min(ratios):.1f} to {max(ratios):.1f}) | {row['loss_apart']:.1e} |"
        )
    first = found["rows"][0]
    lines += [
        "",
        f"One state of one clip takes {first['state_bytes'] / 1e6:.2f} MB on disk and, for `{first['design']}`, "
        f"{first['state_seconds']:.2f} s of CPU time to compute and store, once.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line of this module; rows that the results beside the page hold already are not measured again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="the page; its numbers go beside it, as .json"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--kind", default="conv")
    parser.add_argument("--sites", nargs="+", default=SITES)
    parser.add_argument(
        "--mixed",
        nargs="*",
        default=["post", "deep"],
        help="sites where adapters also multiply as the base does",
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    options, progress = parser.parse_args(), PlainProgress()
    torch.set_num_threads(1)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.precision]
    backbone = random_base(**SMALL_MUSICGEN, dtype=dtype)
    setting = {
        "shape": "MusicGen-small's decoder (24 layers of 1024)",
        "layers": SMALL_MUSICGEN["layers"],
        "precision": options.precision,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "threads": 1,
        "device": device_name(backbone.device),
        "torch": torch.__version__,
    }
    results = options.out.with_suffix(".json")
    found: dict[str, Any] = read_json(results) if results.is_file() else {}
    if found.get("setting") != setting:
        command = f"python -m research.validation.frozen_cache_speedup --out {options.out}"
        found = {"setting": setting, "command": command, "provenance": provenance(), "rows": []}
    items = random_items(round(options.seconds * 50))
    done = {(row["design"], row["multiplies_in"]) for row in found["rows"]}
    for site, size, mixed in itertools.product(options.sites, options.sizes, (False, True)):
        design = f"{options.kind}@{site}:{size}"
        if (design, options.precision if mixed else "fp32") in done or (mixed and site not in options.mixed):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found["rows"].append(measure(design, mixed, backbone, items, options.rounds, Path(folder)))
        write_json(results, found)
        write_text(options.out, page(found))
        progress.log(f"{design}, mixed {mixed}: {median(found['rows'][-1]['ratios']):.2f} times as fast")


if __name__ == "__main__":
    main()
