"""Tests of talim.training.frozen_cache: same losses, gradients and files as without it; entries are verified."""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import adapter_designs, released_musicgen
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from talim import recipe as recipes
from talim.adapters import injection
from talim.atomic_io import read_json, read_jsonl
from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen
from talim.corpus.feature_cache import FeatureCache
from talim.corpus.manifest import Corpus
from talim.design import expression, site_selection
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.recipe import Recipe, Training
from talim.run import Run
from talim.training import batches, frozen_cache
from talim.training.crops import EncodedClip
from talim.training.frozen_cache import FrozenLayerCache
from talim.training.train import train
from talim.training.trainer import rng_state_at


class Log(Progress):
    """Collects log lines; interrupts the run at a step as Ctrl-C would."""

    def __init__(self, stop_at: int = -1) -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def log(self, text: str) -> None:
        self.lines.append(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        if title == "training" and done == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory, make_base: Any) -> Path:
    """The tiny base, with six layers."""
    return make_base(tmp_path_factory.mktemp("bases") / "six", layers=LAYERS)


@pytest.fixture
def corpus(tmp_path: Path, corpus_folder: Path) -> Path:
    """A copy of the corpus with an empty frozen-layer cache."""
    shutil.copytree(corpus_folder, tmp_path / "corpus", ignore=shutil.ignore_patterns(frozen_cache.FOLDER))
    return tmp_path / "corpus"


@pytest.fixture
def make_recipe(quick_recipe: Any, base_folder: Path, corpus: Path) -> Callable[..., Recipe]:
    """A recipe for the deep third, cropped once, six steps."""

    def make(**changes: Any) -> Recipe:
        usual = {"base": str(base_folder), "corpus": str(corpus), "design": "conv@deep:width8", "training__steps": 6}
        return quick_recipe(**usual | {"training__crop": "fixed", "training__condition_dropout": 0.4} | changes)

    return make


def losses(run: Run) -> list[tuple[int, str, float]]:
    return [(row["step"], row["split"], row["loss"]) for row in read_jsonl(run.log)]


def adapter(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.adapter / "adapter_model.safetensors")


@pytest.mark.parametrize(
    "design",
    [
        "conv@post:width8",
        "linear@middle:width8",
        pytest.param("conv@deep:width8", marks=pytest.mark.slow),
        pytest.param("conv@all:width8", marks=pytest.mark.slow),
    ],
)
def test_train_with_cache_equals_train_without(make_recipe: Callable[..., Recipe], tmp_path: Path, design: str) -> None:
    """The adapter's file too: the ordinary one, with the ordinary weights."""
    with_it = train(make_recipe(design=design, training__frozen_cache="on"), tmp_path / "with")
    without = train(make_recipe(design=design, training__frozen_cache="off"), tmp_path / "without")
    assert [row[:2] for row in losses(with_it)] == [row[:2] for row in losses(without)]
    for one, other in zip(losses(with_it), losses(without), strict=True):
        assert one[2] == pytest.approx(other[2], rel=2e-5), one
    assert adapter(with_it).keys() == adapter(without).keys()
    for name, weight in adapter(without).items():
        torch.testing.assert_close(adapter(with_it)[name], weight, rtol=0.02, atol=2e-3)
    facts = read_json(with_it.cost)["frozen_cache"]
    assert facts["used"]
    assert facts["entries_computed"] > 0
    assert facts["disk_bytes"] > 0
    assert read_json(without.cost)["frozen_cache"]["used"] is False
    assert read_json(with_it.cost)["flops"] < read_json(without.cost)["flops"]


def test_train_at_the_same_depth_reuses_all_entries(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    first = read_json(train(make_recipe(), tmp_path / "one").cost)["frozen_cache"]
    log = Log()
    second = read_json(train(make_recipe(design="linear@deep:width4"), tmp_path / "two", log).cost)["frozen_cache"]
    assert (first["used"], second["used"]) == (True, True)
    assert second["entries_computed"] == 0 < first["entries_computed"] + first["entries_read"]
    assert any(
        "linear@deep:width4 leaves the first" in line and " of 6 layers unchanged, so" in line for line in log.lines
    )
    elsewhere = read_json(train(make_recipe(design="linear@post:width4"), tmp_path / "three").cost)["frozen_cache"]
    assert elsewhere["entries_computed"] > 0


def test_cache_summary_planned_bytes_match_disk_bytes(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    facts = read_json(train(make_recipe(training__steps=40, training__eval_every=40), tmp_path / "run").cost)[
        "frozen_cache"
    ]
    store = FeatureCache(Path(make_recipe().corpus) / "features" / frozen_cache.FOLDER, 10**9)
    entries = list(store.folder.glob("??/*.safetensors"))
    assert facts["entries_computed"] == len(entries)
    assert facts["disk_bytes"] - 2048 * len(entries) < facts["planned_bytes"] <= facts["disk_bytes"]


@pytest.mark.parametrize("stops", [pytest.param((1,), marks=pytest.mark.slow), (2, 5)])
def test_train_with_cache_interrupted_and_resumed_is_bitwise_identical(
    make_recipe: Callable[..., Recipe], tmp_path: Path, stops: tuple[int, ...]
) -> None:
    whole = train(make_recipe(), tmp_path / "whole")
    shutil.rmtree(Path(make_recipe().corpus) / "features" / frozen_cache.FOLDER)
    for stop in stops:
        with pytest.raises(Interrupted):
            train(make_recipe(), tmp_path / "parts", Log(stop))
    parts = train(make_recipe(), tmp_path / "parts")
    assert losses(parts) == losses(whole)
    assert all(torch.equal(weight, adapter(parts)[name]) for name, weight in adapter(whole).items())
    counted = [read_json(run.cost)["frozen_cache"] for run in (whole, parts)]
    assert counted[0]["entries_computed"] == counted[1]["entries_computed"]


def test_train_after_kill_while_filling_the_cache_restores_all_entries(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """kill -9 may leave a partial file under another name and a wrong sum of bytes."""
    whole = train(make_recipe(), tmp_path / "whole")
    cache = Path(make_recipe().corpus) / "features" / frozen_cache.FOLDER
    entries = sorted(cache.glob("??/*.safetensors"))
    for entry in entries[::2]:
        entry.with_name(f".{entry.name}.x.part").write_bytes(entry.read_bytes()[:100])
        entry.unlink()
    (cache / "bytes").unlink()
    again = train(make_recipe(), tmp_path / "again")
    assert losses(again) == losses(whole)
    assert sorted(cache.glob("??/*.safetensors")) == entries


def test_train_with_damaged_entries_recomputes_them(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    whole = train(make_recipe(), tmp_path / "whole")
    cache = Path(make_recipe().corpus) / "features" / frozen_cache.FOLDER
    entries = sorted(cache.glob("??/*.safetensors"))
    for number, entry in enumerate(entries):
        written = entry.read_bytes()
        entry.write_bytes([written[:-7], b"", written[:-1] + b"\xff\x00", b"{" * 80][number % 4])
    again = train(make_recipe(), tmp_path / "again")
    assert losses(again) == losses(whole)
    assert read_json(again.cost)["frozen_cache"]["entries_computed"] == len(entries)


def test_train_with_entries_of_other_weights_recomputes_them(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if two bases had one fingerprint: the entries are intact but wrong."""
    right = MusicGen.frozen_activations
    monkeypatch.setattr(MusicGen, "frozen_activations", lambda self, batch, layers: right(self, batch, layers) * 1.5)
    train(make_recipe(), tmp_path / "wrong")
    monkeypatch.setattr(MusicGen, "frozen_activations", right)
    log = Log()
    after = train(make_recipe(), tmp_path / "after", log)
    assert any("its entries were made by other weights" in line for line in log.lines)
    shutil.rmtree(Path(make_recipe().corpus) / "features" / frozen_cache.FOLDER)
    fresh = train(make_recipe(), tmp_path / "fresh")
    assert losses(after) == losses(fresh)


def test_train_beyond_the_disk_limit_recomputes_activations(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    whole = train(make_recipe(), tmp_path / "whole")
    held = read_json(whole.cost)["frozen_cache"]["disk_bytes"]
    cache = Path(make_recipe().corpus) / "features" / frozen_cache.FOLDER
    for fraction in (0.0, 0.5):
        shutil.rmtree(cache, ignore_errors=True)
        log = Log()
        bounded = make_recipe(training__frozen_cache_gb=fraction * held / 1e9, training__frozen_cache="on")
        run = train(bounded, tmp_path / f"bounded {fraction}", log)
        facts = read_json(run.cost)["frozen_cache"]
        assert losses(run) == losses(whole)
        assert facts["disk_bytes"] <= fraction * held
        assert facts["entries_without_room"] > 0
        assert any("the rest is computed again at each step" in line for line in log.lines)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training__frozen_cache": "off"}, "training.frozen_cache is off"),
        ({"training__crop": "random"}, "training.crop=fixed"),
        ({"design": "conv@all:width8"}, "only 1 of 6 layers"),
        ({"design": "conv@conditioner:width4+conv@post:width4"}, "every layer depends on"),
        ({"training__frozen_cache_gb": 0}, "frozen_cache_gb is 0"),
    ],
)
def test_make_frozen_cache_when_not_used_logs_the_reason(
    make_recipe: Callable[..., Recipe], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    log = Log()
    run = train(make_recipe(training__steps=1, training__eval_clips=1, **changes), tmp_path / "run", log)
    assert reason in next(line for line in log.lines if line.startswith("no time is saved by keeping"))
    assert reason in read_json(run.cost)["frozen_cache"]["note"]
    assert not (Path(make_recipe().corpus) / "features" / frozen_cache.FOLDER).exists()


def test_train_on_whole_clips_uses_the_cache_by_default(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    whole = make_recipe(training__crop="random", training__crop_seconds=None, training__steps=1)
    assert read_json(train(whole, tmp_path / "run").cost)["frozen_cache"]["used"]


def test_per_clip_losses_with_cache_equal_those_without(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    from talim.evaluation.held_out_loss import per_clip_losses

    recipe = make_recipe()
    base: Any = load(recipe.base, precision="fp32", device="cpu")
    corpus = Corpus.load(recipe.corpus)
    items = batches.encode_clips(corpus, corpus.held_out, base, Progress())
    peft = injection.attach(base.model, recipe.design, base.sites())
    adapter_designs.randomize_adapter(peft)
    base.model.eval()
    cache, facts = frozen_cache.make_frozen_cache(
        recipe, corpus, base, Progress(), held_out=[item.full_length for item in items]
    )
    assert facts["used"]
    losses_of = [per_clip_losses(base, items, 4, Progress(), "loss", each) for each in (cache, None, cache)]
    np.testing.assert_allclose(losses_of[0], losses_of[1], rtol=1e-6)
    np.testing.assert_array_equal(losses_of[0], losses_of[2])
    with injection.disabled(peft):
        bare = [per_clip_losses(base, items, 4, Progress(), "loss", each) for each in (cache, None)]
    np.testing.assert_allclose(bare[0], bare[1], rtol=1e-6)
    assert np.abs(bare[0] - losses_of[0]).max() > 1e-3


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
    folder = released_musicgen.write(tmp_path_factory.mktemp("bases") / "six", layers=LAYERS)
    made = {name: load(folder, precision=name, device="cpu") for name in ("fp32", "bf16")}
    return lambda precision="fp32": copy.deepcopy(made[precision])


def items_of(base: MusicGen, lengths: tuple[int, ...] = (18, 11, 25)) -> list[EncodedClip]:
    rng, made = np.random.default_rng(5), []
    for number, frames in enumerate(lengths):
        clip: Any = SimpleNamespace(audio_hash=f"clip {number}", seconds=frames / 50, caption="raga " * (number + 1))
        tokens = rng.integers(0, 32, (base.codebooks, frames)).astype(np.int16)
        made.append(EncodedClip(clip, tokens, base.encode_text([clip.caption])[0]))
    return made


def test_a_clip_without_caption_has_one_entry_whether_or_not_it_is_dropped(loaded: Loaded, tmp_path: Path) -> None:
    base = loaded()
    cache = cache_for(base, "linear@post:width4", tmp_path)
    with_caption, without = items_of(base, (12, 12))
    without.clip.caption = ""
    without = dataclasses.replace(without, states=base.encode_text([""])[0])
    assert len(cache.keys(with_caption.full_length, 0.1)) == 2
    assert len(cache.keys(without.full_length, 0.1)) == 1
    assert cache.keys(without.full_length, 0.0) == cache.keys(without.full_length, 1.0)
    kept, dropped = (cache.hidden(without.full_length, drop) for drop in (False, True))
    assert torch.equal(kept, dropped)
    assert cache.counts["frozen_cache_computed"] == 1


def attached(base: MusicGen, design: str) -> Any:
    peft = injection.attach(base.model, design, base.sites())
    adapter_designs.randomize_adapter(peft)
    base.enable_training()
    return peft


def cache_for(base: MusicGen, design: str, folder: Path, most: int = 10**9) -> FrozenLayerCache:
    below = site_selection.num_frozen_layers(expression.Design.parse(design), base.sites())
    return FrozenLayerCache(base, below, FeatureCache(folder, most))


def losses_and_gradients(
    base: MusicGen, peft: Any, items: list[EncodedClip], step: int, cache: FrozenLayerCache | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    training = Training(batch_size=3, condition_dropout=0.5, crop_seconds=0.3, crop="fixed")
    batch = batches.training_batch(items, base, training, 1, step, cache)
    peft.zero_grad()
    with rng_state_at(1, step, base.device):
        loss = base.loss(batch)
        loss.mean.backward()
    return loss.per_item, {n: p.grad.clone() for n, p in peft.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("design", DESIGNS)
def test_losses_and_gradients_with_cache_equal_those_without(loaded: Loaded, tmp_path: Path, design: str) -> None:
    base = loaded()
    peft, items, cache = attached(base, design), items_of(base), cache_for(base, design, tmp_path)
    assert cache.layers > 0
    for step in (1, 2, 3, 1):  # the last one is read from the store
        with_it = losses_and_gradients(base, peft, items, step, cache)
        without = losses_and_gradients(base, peft, items, step, None)
        torch.testing.assert_close(with_it[0], without[0], rtol=1e-6, atol=1e-6)
        assert with_it[1].keys() == without[1].keys() != set()
        for name, gradient in without[1].items():
            torch.testing.assert_close(with_it[1][name], gradient, rtol=1e-4, atol=1e-6)
    assert cache.counts["frozen_cache_read"] >= 3


@pytest.mark.parametrize("design", ["conv@post:width8", "conv@deep:width8", "conv@deep:2k+full@layers[3-4]"])
def test_hidden_of_bf16_base_is_stored_in_bf16_and_agrees(loaded: Loaded, tmp_path: Path, design: str) -> None:
    base = loaded("bf16")
    peft, items, cache = attached(base, design), items_of(base), cache_for(base, design, tmp_path)
    for step in (1, 1, 2):
        with_it = losses_and_gradients(base, peft, items, step, cache)[0]
        without = losses_and_gradients(base, peft, items, step, None)[0]
        torch.testing.assert_close(with_it, without, rtol=1e-2, atol=1e-2)
    assert cache.hidden(items[0].full_length, False).dtype == torch.bfloat16


@settings(max_examples=settings().max_examples // 3)  # of 30 combinations
@given(first=st.integers(0, LAYERS - 1), kind=st.sampled_from(["conv", "linear", "transformer", "full", "lora"]))
def test_losses_with_cache_below_any_first_site_equal_those_without(
    loaded: Loaded, tmp_path_factory: pytest.TempPathFactory, first: int, kind: str
) -> None:
    base = loaded()
    size = {"full": "", "lora": ":r2"}.get(kind, ":width4")
    design = f"{kind}@layers[{first}-{LAYERS - 1}]{size}"
    peft, items = attached(base, design), items_of(base)
    cache = cache_for(base, design, tmp_path_factory.mktemp("frozen"))
    assert cache.layers == first + (kind not in ("full", "lora"))
    if cache.layers:
        with_it, without = (losses_and_gradients(base, peft, items, 1, each)[0] for each in (cache, None))
        torch.testing.assert_close(with_it, without, rtol=1e-6, atol=1e-6)


def test_losses_with_cache_agree_under_checkpointing_and_disabled_adapters(loaded: Loaded, tmp_path: Path) -> None:
    base = loaded()
    design = "conv@deep:width8"
    peft, items, cache = attached(base, design), items_of(base), cache_for(base, design, tmp_path)
    base.enable_training(gradient_checkpointing=True)
    with_it = losses_and_gradients(base, peft, items, 1, cache)
    base.enable_training()
    without = losses_and_gradients(base, peft, items, 1, None)
    torch.testing.assert_close(with_it[0], without[0], rtol=1e-6, atol=1e-6)
    base.model.eval()
    for _, bare in batches.held_out_batches(items, base, 2, cache):
        with torch.no_grad(), injection.disabled(peft):
            plain = base.loss(type(bare).__mro__[1](*list(vars(bare).values())[:4]))
            torch.testing.assert_close(base.loss(bare).per_item, plain.per_item, rtol=1e-6, atol=1e-6)


def test_fixed_crop_depends_on_clip_and_seed_only(loaded: Loaded) -> None:
    base = loaded()
    items = items_of(base, (200, 200, 200))
    starts = [batches.fixed_crop(item, base, 1, 0.3).start for item in items]
    assert len({*starts, batches.fixed_crop(items[0], base, 2, 0.3).start}) >= 3
    assert [batches.fixed_crop(item, base, 1, 0.3).start for item in items[::-1]] == starts[::-1]


def test_run_id_ignores_frozen_cache_settings() -> None:
    plain = recipes.load((), {"corpus": "songs"})
    off = recipes.load((), dict([("corpus", "songs"), recipes.parse_setting("training.frozen_cache=off")]))
    on = recipes.load((), dict([("corpus", "songs"), recipes.parse_setting("training.frozen_cache=on")]))
    assert (plain.training.frozen_cache, off.training.frozen_cache, on.training.frozen_cache) == ("auto", "off", "on")
    assert recipes.run_id(plain) == recipes.run_id(off)
    assert recipes.recipe_differences(plain, off) == {}
    fixed = recipes.load((), {"corpus": "songs", "training.crop": "fixed"})
    assert recipes.run_id(fixed) != recipes.run_id(plain)
    assert recipes.load((), {"corpus": "songs", "training.frozen_cache_gb": 0.5}).training.frozen_cache_gb == 0.5


def test_attach_recipe_design_sets_the_adapter_compute_dtype(loaded: Loaded) -> None:
    from talim.training.trainer import attach_recipe_design

    for dtype, mixed in (("fp32", False), ("same_as_base", True)):
        changes = {"corpus": "songs", "design": "conv@post:width8", "training.adapter_compute_dtype": dtype}
        peft = attach_recipe_design(loaded("bf16"), recipes.load((), changes))
        assert [layer.mixed_precision for layer in peft.modules() if hasattr(layer, "talim_blocks")] == [mixed]
