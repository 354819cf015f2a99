"""Whole runs with a kept prefix: the same numbers, stopped, killed, bounded, damaged, shared; and said when not."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import table
from safetensors.torch import load_file

from talim.adapters import tuner
from talim.backbones.load import load
from talim.backbones.musicgen import MusicGen
from talim.corpus.bounded import BoundedStore
from talim.corpus.manifest import Corpus
from talim.recipe import Recipe
from talim.run import Run, read_json, read_jsonl
from talim.stages import batches, prefix
from talim.stages.progress import Progress
from talim.stages.stopping import Stopped
from talim.stages.train import train

LAYERS = 6


class Heard(Progress):
    """Collects what is said; stops the run at a step as Ctrl-C would."""

    def __init__(self, stop_at: int = -1) -> None:
        self.said: list[str] = []
        self.stop_at = stop_at

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        if title == "training" and done == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory, make_base: Any) -> Path:
    """The front door's tiny base, but of six layers."""
    return make_base(tmp_path_factory.mktemp("bases") / "six", layers=LAYERS)


@pytest.fixture
def corpus(tmp_path: Path, corpus_folder: Path) -> Path:
    """A corpus of one's own, so that no other test has kept anything in it."""
    shutil.copytree(corpus_folder, tmp_path / "corpus", ignore=shutil.ignore_patterns("prefix"))
    return tmp_path / "corpus"


@pytest.fixture
def wish(quick_recipe: Any, base_folder: Path, corpus: Path) -> Callable[..., Recipe]:
    """A recipe for the deep third, cropped once, six steps."""

    def make(**changes: Any) -> Recipe:
        usual = {
            "base": str(base_folder),
            "corpus": str(corpus),
            "design": "conv@deep:width8",
            "training__steps": 6,
        }
        return quick_recipe(
            **usual | {"training__crops": "once", "training__condition_dropout": 0.4} | changes
        )

    return make


def losses(run: Run) -> list[tuple[int, str, float]]:
    return [(row["step"], row["split"], row["loss"]) for row in read_jsonl(run.log)]


def adapter(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.adapter / "adapter_model.safetensors")


@pytest.mark.parametrize(
    "design", ["conv@post:width8", "conv@deep:width8", "linear@middle:width8", "conv@all:width8"]
)
def test_a_run_learns_the_same_with_and_without(
    wish: Callable[..., Recipe], tmp_path: Path, design: str
) -> None:
    """The adapter's file too: the ordinary one, with the ordinary weights."""
    with_it = train(wish(design=design, training__prefix="on"), tmp_path / "with")
    without = train(wish(design=design, training__prefix="off"), tmp_path / "without")
    assert [row[:2] for row in losses(with_it)] == [row[:2] for row in losses(without)]
    for one, other in zip(losses(with_it), losses(without), strict=True):
        assert one[2] == pytest.approx(other[2], rel=2e-5), one
    assert adapter(with_it).keys() == adapter(without).keys()
    for name, weight in adapter(without).items():
        torch.testing.assert_close(adapter(with_it)[name], weight, rtol=0.02, atol=2e-3)
    told = read_json(with_it.cost)["prefix"]
    assert told["kept"]
    assert told["states_computed"] > 0
    assert told["held_bytes"] > 0
    assert read_json(without.cost)["prefix"]["kept"] is False
    assert read_json(with_it.cost)["flops"] < read_json(without.cost)["flops"]


def test_a_second_trial_at_the_same_depth_computes_next_to_nothing(
    wish: Callable[..., Recipe], tmp_path: Path
) -> None:
    first = read_json(train(wish(), tmp_path / "one").cost)["prefix"]
    heard = Heard()
    second = read_json(train(wish(design="linear@deep:width4"), tmp_path / "two", heard).cost)["prefix"]
    assert (first["kept"], second["kept"]) == (True, True)
    assert second["states_computed"] == 0 < first["states_computed"] + first["states_read"]
    assert any("of 6 layers are the same for every linear@deep" in line for line in heard.said)
    elsewhere = read_json(train(wish(design="linear@post:width4"), tmp_path / "three").cost)["prefix"]
    assert elsewhere["states_computed"] > 0


def test_what_is_planned_is_what_is_held_in_the_end(wish: Callable[..., Recipe], tmp_path: Path) -> None:
    told = read_json(train(wish(training__steps=40, training__evaluate_every=40), tmp_path / "run").cost)[
        "prefix"
    ]
    store = BoundedStore(Path(wish().corpus) / "targets" / prefix.FOLDER, 10**9)
    entries = list(store.folder.glob("??/*.safetensors"))
    assert told["states_computed"] == len(entries)
    assert told["held_bytes"] - 2048 * len(entries) < told["planned_bytes"] <= told["held_bytes"]


@pytest.mark.parametrize("stops", [(1,), (2, 5)])
def test_stopped_and_resumed_it_is_the_same_to_the_last_bit(
    wish: Callable[..., Recipe], tmp_path: Path, stops: tuple[int, ...]
) -> None:
    whole = train(wish(), tmp_path / "whole")
    shutil.rmtree(Path(wish().corpus) / "targets" / prefix.FOLDER)
    for stop in stops:
        with pytest.raises(Stopped):
            train(wish(), tmp_path / "parts", Heard(stop))
    parts = train(wish(), tmp_path / "parts")
    assert losses(parts) == losses(whole)
    assert all(torch.equal(weight, adapter(parts)[name]) for name, weight in adapter(whole).items())
    counted = [read_json(run.cost)["prefix"] for run in (whole, parts)]
    assert counted[0]["states_computed"] == counted[1]["states_computed"]


def test_killed_while_it_is_filled_and_gone_on(wish: Callable[..., Recipe], tmp_path: Path) -> None:
    """kill -9 may leave half a file under another name and a wrong sum; neither matters."""
    whole = train(wish(), tmp_path / "whole")
    kept = Path(wish().corpus) / "targets" / prefix.FOLDER
    entries = sorted(kept.glob("??/*.safetensors"))
    for entry in entries[::2]:
        entry.with_name(f".{entry.name}.x.part").write_bytes(entry.read_bytes()[:100])
        entry.unlink()
    (kept / "bytes").unlink()
    again = train(wish(), tmp_path / "again")
    assert losses(again) == losses(whole)
    assert sorted(kept.glob("??/*.safetensors")) == entries


def test_a_damaged_entry_is_made_again(wish: Callable[..., Recipe], tmp_path: Path) -> None:
    whole = train(wish(), tmp_path / "whole")
    kept = Path(wish().corpus) / "targets" / prefix.FOLDER
    entries = sorted(kept.glob("??/*.safetensors"))
    for number, entry in enumerate(entries):
        written = entry.read_bytes()
        entry.write_bytes([written[:-7], b"", written[:-1] + b"\xff\x00", b"{" * 80][number % 4])
    again = train(wish(), tmp_path / "again")
    assert losses(again) == losses(whole)
    assert read_json(again.cost)["prefix"]["states_computed"] == len(entries)


def test_what_other_weights_made_is_found_out_and_made_again(
    wish: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if two bases had one fingerprint: the entries are whole and well named, and wrong."""
    right = MusicGen.prefix
    monkeypatch.setattr(MusicGen, "prefix", lambda self, batch, layers: right(self, batch, layers) * 1.5)
    train(wish(), tmp_path / "wrong")
    monkeypatch.setattr(MusicGen, "prefix", right)
    heard = Heard()
    after = train(wish(), tmp_path / "after", heard)
    assert any("other weights made what is kept" in line for line in heard.said)
    shutil.rmtree(Path(wish().corpus) / "targets" / prefix.FOLDER)
    fresh = train(wish(), tmp_path / "fresh")
    assert losses(after) == losses(fresh)


def test_beyond_the_bound_it_is_computed_each_time(wish: Callable[..., Recipe], tmp_path: Path) -> None:
    whole = train(wish(), tmp_path / "whole")
    held = read_json(whole.cost)["prefix"]["held_bytes"]
    kept = Path(wish().corpus) / "targets" / prefix.FOLDER
    for share in (0.0, 0.5):
        shutil.rmtree(kept, ignore_errors=True)
        heard = Heard()
        bounded = wish(training__prefix_gb=share * held / 1e9, training__prefix="on")
        run = train(bounded, tmp_path / f"bounded {share}", heard)
        told = read_json(run.cost)["prefix"]
        assert losses(run) == losses(whole)
        assert told["held_bytes"] <= share * held
        assert told["states_without_room"] > 0
        assert any("the rest is computed each time" in line for line in heard.said)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training__prefix": "off"}, "training.prefix is off"),
        ({"training__crops": "each_step"}, "training.crops=once"),
        ({"design": "conv@all:width8"}, "only 1 of 6 layers"),
        ({"design": "conv@conditioner:width4+conv@post:width4"}, "every layer hears"),
        ({"training__prefix_gb": 0}, "prefix_gb is 0"),
    ],
)
def test_where_none_is_kept_it_is_said_why(
    wish: Callable[..., Recipe], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    heard = Heard()
    run = train(wish(training__steps=1, training__evaluate_clips=1, **changes), tmp_path / "run", heard)
    assert reason in next(line for line in heard.said if line.startswith("no prefix is kept"))
    assert reason in read_json(run.cost)["prefix"]["note"]
    assert not (Path(wish().corpus) / "targets" / prefix.FOLDER).exists()


def test_whole_clips_need_no_setting_at_all(wish: Callable[..., Recipe], tmp_path: Path) -> None:
    whole = wish(training__crops="each_step", training__clip_seconds=None, training__steps=1)
    assert read_json(train(whole, tmp_path / "run").cost)["prefix"]["kept"]


def test_evaluation_reads_it_and_judges_the_same(wish: Callable[..., Recipe], tmp_path: Path) -> None:
    from talim.stages.evaluate import per_clip_losses

    recipe = wish()
    base: Any = load(recipe.base, precision="fp32", device="cpu")
    corpus = Corpus.load(recipe.corpus)
    items = batches.items(corpus, corpus.held_out, base, Progress())
    peft = tuner.attach(base.model, recipe.design, base.sites())
    table.stir(peft)
    base.model.eval()
    kept, facts = prefix.chosen(recipe, corpus, base, Progress(), held_out=[item.whole for item in items])
    assert facts["kept"]
    found = [per_clip_losses(base, items, 4, Progress(), "loss", each) for each in (kept, None, kept)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    np.testing.assert_array_equal(found[0], found[2])
    with tuner.disabled(peft):
        bare = [per_clip_losses(base, items, 4, Progress(), "loss", each) for each in (kept, None)]
    np.testing.assert_allclose(bare[0], bare[1], rtol=1e-6)
    assert np.abs(bare[0] - found[0]).max() > 1e-3
