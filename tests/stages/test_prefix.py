"""A kept prefix changes nothing but the time: losses, gradients, files, resumption; it is not believed blindly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released, table
from hypothesis import given, settings
from hypothesis import strategies as st

from talim import recipe as recipes
from talim.adapters import tuner
from talim.backbones.load import load
from talim.backbones.musicgen import MusicGen
from talim.corpus.bounded import BoundedStore
from talim.designs import depth, expression
from talim.stages import batches
from talim.stages.batches import Item
from talim.stages.loop import drawn_from
from talim.stages.prefix import Prefix

LAYERS = 6
DESIGNS = [
    "conv@post:width8",
    "transformer@deep:width8",
    "linear@middle:width8",
    "conv@all:width8",
    "conv@deep:2k+full@layers[3-4]",
    "conv@deep:2k+linear@deep:2k+transformer@post:width8",
    "lora@deep:r2",
    "full@post",
]
Loaded = Callable[..., MusicGen]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Untouched copies of a small base of six layers, in a precision."""
    folder = released.write(tmp_path_factory.mktemp("bases") / "six", layers=LAYERS)
    made = {name: load(folder, precision=name, device="cpu") for name in ("fp32", "bf16")}
    return lambda precision="fp32": copy.deepcopy(made[precision])


def items_of(base: MusicGen, lengths: tuple[int, ...] = (18, 11, 25)) -> list[Item]:
    rng, made = np.random.default_rng(5), []
    for number, frames in enumerate(lengths):
        clip: Any = SimpleNamespace(
            audio_hash=f"clip {number}", seconds=frames / 50, caption="raga " * (number + 1)
        )
        tokens = rng.integers(0, 32, (base.codebooks, frames)).astype(np.int16)
        made.append(Item(clip, tokens, base.describe([clip.caption])[0]))
    return made


def attached(base: MusicGen, design: str) -> Any:
    peft = tuner.attach(base.model, design, base.sites())
    table.stir(peft)
    base.enable_training()
    return peft


def kept_for(base: MusicGen, design: str, folder: Path, most: int = 10**9) -> Prefix:
    below = depth.layers_below(expression.parse(design), base.sites())
    return Prefix(base, below, BoundedStore(folder, most))


def losses_and_gradients(
    base: MusicGen, peft: Any, items: list[Item], step: int, kept: Prefix | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    batch = batches.training_batch(
        items,
        base,
        batch_size=3,
        seed=1,
        step=step,
        condition_dropout=0.5,
        clip_seconds=0.3,
        crops="once",
        prefix=kept,
    )
    peft.zero_grad()
    with drawn_from(1, step, base.device):
        loss = base.loss(batch)
        loss.mean.backward()
    return loss.per_item, {n: p.grad.clone() for n, p in peft.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("design", DESIGNS)
def test_losses_and_gradients_are_those_without_it(loaded: Loaded, tmp_path: Path, design: str) -> None:
    base = loaded()
    peft, items, kept = attached(base, design), items_of(base), kept_for(base, design, tmp_path)
    assert kept.layers > 0
    for step in (1, 2, 3, 1):  # the last one is read from the store
        with_it = losses_and_gradients(base, peft, items, step, kept)
        without = losses_and_gradients(base, peft, items, step, None)
        torch.testing.assert_close(with_it[0], without[0], rtol=1e-6, atol=1e-6)
        assert with_it[1].keys() == without[1].keys() != set()
        for name, gradient in without[1].items():
            torch.testing.assert_close(with_it[1][name], gradient, rtol=1e-4, atol=1e-6)
    assert kept.counts["prefix_read"] >= 3


@pytest.mark.parametrize("design", ["conv@post:width8", "conv@deep:width8", "conv@deep:2k+full@layers[3-4]"])
def test_in_bf16_it_agrees_to_bf16_and_is_kept_in_it(loaded: Loaded, tmp_path: Path, design: str) -> None:
    base = loaded("bf16")
    peft, items, kept = attached(base, design), items_of(base), kept_for(base, design, tmp_path)
    for step in (1, 1, 2):
        with_it = losses_and_gradients(base, peft, items, step, kept)[0]
        without = losses_and_gradients(base, peft, items, step, None)[0]
        torch.testing.assert_close(with_it, without, rtol=1e-2, atol=1e-2)
    assert kept.hidden(items[0].whole, False).dtype == torch.bfloat16


@settings(max_examples=25)
@given(
    first=st.integers(0, LAYERS - 1), kind=st.sampled_from(["conv", "linear", "transformer", "full", "lora"])
)
def test_any_first_site_will_do(
    loaded: Loaded, tmp_path_factory: pytest.TempPathFactory, first: int, kind: str
) -> None:
    base = loaded()
    size = {"full": "", "lora": ":r2"}.get(kind, ":width4")
    design = f"{kind}@layers[{first}-{LAYERS - 1}]{size}"
    peft, items = attached(base, design), items_of(base)
    kept = kept_for(base, design, tmp_path_factory.mktemp("prefix"))
    assert kept.layers == first + (kind not in ("full", "lora"))
    if kept.layers:
        with_it, without = (losses_and_gradients(base, peft, items, 1, each)[0] for each in (kept, None))
        torch.testing.assert_close(with_it, without, rtol=1e-6, atol=1e-6)


def test_gradient_checkpointing_and_switched_off_adapters_agree_too(loaded: Loaded, tmp_path: Path) -> None:
    base = loaded()
    design = "conv@deep:width8"
    peft, items, kept = attached(base, design), items_of(base), kept_for(base, design, tmp_path)
    base.enable_training(gradient_checkpointing=True)
    with_it = losses_and_gradients(base, peft, items, 1, kept)
    base.enable_training()
    without = losses_and_gradients(base, peft, items, 1, None)
    torch.testing.assert_close(with_it[0], without[0], rtol=1e-6, atol=1e-6)
    base.model.eval()
    for _, bare in batches.held_out_batches(items, base, 2, kept):
        with torch.no_grad(), tuner.disabled(peft):
            plain = base.loss(type(bare).__mro__[1](*list(vars(bare).values())[:4]))
            torch.testing.assert_close(base.loss(bare).per_item, plain.per_item, rtol=1e-6, atol=1e-6)


def test_lasting_cuts_differ_by_clip_and_seed_and_not_by_company(loaded: Loaded) -> None:
    base = loaded()
    items = items_of(base, (200, 200, 200))
    starts = [batches.lasting_cut(item, base, 1, 0.3).start for item in items]
    assert len({*starts, batches.lasting_cut(items[0], base, 2, 0.3).start}) >= 3
    assert [batches.lasting_cut(item, base, 1, 0.3).start for item in items[::-1]] == starts[::-1]


def test_how_it_is_computed_is_part_of_no_name() -> None:
    plain = recipes.load((), {"corpus": "songs"})
    off = recipes.load((), dict([("corpus", "songs"), recipes.parse_setting("training.prefix=off")]))
    on = recipes.load((), dict([("corpus", "songs"), recipes.parse_setting("training.prefix=on")]))
    assert (plain.training.prefix, off.training.prefix, on.training.prefix) == ("auto", "off", "on")
    assert recipes.run_id(plain) == recipes.run_id(off)
    assert recipes.differences(plain, off) == {}
    once = recipes.load((), {"corpus": "songs", "training.crops": "once"})
    assert recipes.run_id(once) != recipes.run_id(plain)
    assert recipes.load((), {"corpus": "songs", "training.prefix_gb": 0.5}).training.prefix_gb == 0.5


def test_a_recipe_says_what_adapters_multiply_in(loaded: Loaded) -> None:
    from talim.stages.loop import attach

    for wish, mixed in (("fp32", False), ("base", True)):
        changes = {"corpus": "songs", "design": "conv@post:width8", "training.adapter_precision": wish}
        peft = attach(loaded("bf16"), recipes.load((), changes))
        assert [layer.mixed for layer in peft.modules() if hasattr(layer, "talim_blocks")] == [mixed]
