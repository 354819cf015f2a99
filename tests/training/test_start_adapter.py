"""Training goes on from a stored adapter: what is taken over, told, recorded and refused, and that it resumes."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fixtures import peft_folders
from fixtures.log_lines import Lines
from safetensors.torch import load_file

from talim.adapters import serialization
from talim.atomic_io import read_json, read_jsonl
from talim.backbones.load import load
from talim.corpus.manifest import Corpus
from talim.errors import TalimError, UsageError
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run
from talim.training import model_card, start_adapter
from talim.training.start_adapter import complete_recipe
from talim.training.train import train


def slow(*values: str) -> list[Any]:
    """Parameters of tests that are run with the slow ones."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


CARD = "---\nlicense: cc-by-nc-4.0\nlibrary_name: peft\n---\nA LoRA of qawwali.\n"
FEW = {"training__steps": 4, "training__eval_every": 2, "training__eval_clips": 2, "training__warmup_steps": 1}


@pytest.fixture(scope="module")
def stored_lora(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of others without a card (read only by agreement)."""
    return peft_folders.write(tmp_path_factory.mktemp("lora") / "theirs", tiny_base)


@pytest.fixture
def begun(tiny_base: Path, corpus_folder: Path, quick_recipe: Any) -> Any:
    """Makes a short recipe that begins from an adapter: no design is given."""

    def make(adapter: Path | str, **changes: Any) -> Recipe:
        values = quick_recipe(**{**FEW, **changes}).model_dump()
        del values["design"]
        return Recipe.model_validate(values | {"init_from": str(adapter)})

    return make


class StopAt(Progress):
    """Ctrl-C at a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        if title == "training" and done == self.at:
            signal.raise_signal(signal.SIGINT)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def held_out(run: Run) -> list[float]:
    return [row["loss"] for row in read_jsonl(run.log) if row["split"] == "validation"]


@pytest.mark.parametrize(
    "kind", ["dreamboothing", *slow("rank pattern", "lora", "dora", "ia3", "heads", "biases", "loha")]
)
def test_training_begins_with_the_stored_weights_and_changes_them(
    begun: Any, tiny_base: Path, tmp_path: Path, kind: str
) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, kind)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    run = train(begun(folder, training__save_weights="last"), tmp_path / "run", device="cpu")
    theirs, ours = stored(folder), stored(run.adapter)
    assert theirs.keys() == ours.keys()
    changed = {key for key in theirs if not torch.equal(theirs[key], ours[key])}
    assert changed
    if kind == "dreamboothing":  # its embeddings and heads, too
        assert changed == theirs.keys()
        assert all(any(f".{part}.0." in key for key in changed) for part in ("embed_tokens", "lm_heads"))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert str(run.recipe.design) == peft_folders.DESIGNS.get(kind, "lora@adapter")
    assert serialization.read_info(run.adapter)["design"] == str(run.recipe.design)
    # the loss of step 0 is that of the stored adapter, not of the base
    backbone = load(str(tiny_base), precision="fp32", device="cpu")
    serialization.load(backbone, folder)
    again = train(begun(folder, training__learning_rate=1e-12), tmp_path / "still", device="cpu")
    assert held_out(again)[0] == held_out(run)[0] == pytest.approx(held_out(again)[-1], abs=1e-4)


def test_what_it_began_from_is_told_and_recorded(begun: Any, tiny_base: Path, tmp_path: Path) -> None:
    folder, log = peft_folders.write(tmp_path / "qawwali", tiny_base, "rank pattern", card=CARD), Lines()
    run = train(begun(folder, training__steps=1), tmp_path / "run", log, device="cpu")
    told = "\n".join(log.lines)
    assert "training goes on from adapter qawwali: lora@adapter" in told
    assert "licence cc-by-nc-4.0" in told
    assert "whether the adapter qawwali, which this one begins from, was trained on these recordings is not" in told
    facts = run.start
    assert facts is not None
    assert facts["hash"] == start_adapter.stored_adapter(folder, "--init-from").hash
    assert {key: facts[key] for key in ("name", "licence", "repository", "revision", "design", "base")} == {
        "name": "qawwali",
        "licence": "cc-by-nc-4.0",
        "repository": "unknown",
        "revision": "unknown",
        "design": "lora@adapter",
        "base": f"./{tiny_base.name}",
    }
    assert read_json(run.adapter / "talim.json")["init_from"] == facts
    assert read_json(run.adapter / "talim.json")["trained_on"]["complete"] is False
    card = (run.adapter / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-nc-4.0"
    assert "## Adapter that it began from\n\n`qawwali` (lora@adapter; " in card
    assert "`qawwali`: cc-by-nc-4.0" in (run.adapter / "LICENSE.md").read_text(encoding="utf-8")
    for file in run.adapter.iterdir():  # nothing tells of this machine
        assert str(tmp_path).encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("card", "licence", "expected"),
    [
        (None, "unknown", {"license": "other", "license_name": "unknown"}),
        ("no header", "unknown", {"license": "other", "license_name": "unknown"}),
        (CARD, "cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ("---\nlicense: cc-by-sa-4.0\n---\n", "cc-by-sa-4.0", {"license": "other"}),  # beside a base under NC
        ("---\nlicense: other\nlicense_name: ask-us\n---\n", "ask-us", {"license": "other", "license_name": "ask-us"}),
    ],
)
def test_licence_of_the_start_is_told_and_restricts_the_result(
    stored_lora: Path, tmp_path: Path, card: str | None, licence: str, expected: dict[str, str]
) -> None:
    folder = Path(shutil.copytree(stored_lora, tmp_path / "theirs"))
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    start = start_adapter.stored_adapter(folder, "--init-from")
    lines = start.lines("tiny")
    assert f"licence {licence}" in lines[0]
    assert ("find out what it allows" in lines[0]) is (licence == "unknown")
    recordings = ["CC0-1.0"]
    header = model_card.licence_fields("CC-BY-NC-4.0", recordings, start.facts()["licence"])
    assert {key: header[key] for key in expected} == expected


@pytest.mark.parametrize("kind", ["biases", *slow("rank pattern", "heads")])
def test_interrupted_training_resumes_to_the_same_bits(begun: Any, tiny_base: Path, tmp_path: Path, kind: str) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, kind)
    whole = train(begun(folder), tmp_path / "whole", device="cpu")
    for step in (1, 3):
        with pytest.raises(Interrupted):
            train(begun(folder), tmp_path / "parts", StopAt(step), device="cpu")
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    with pytest.raises(TalimError, match=r"--init-from .*theirs: no adapter folder is here"):
        train(Run(tmp_path / "parts").recipe, tmp_path / "parts", device="cpu")
    parts = train(begun(moved), tmp_path / "parts", device="cpu")
    assert held_out(parts) == held_out(whole)
    assert all(torch.equal(weight, stored(whole.adapter)[key]) for key, weight in stored(parts.adapter).items())


@pytest.mark.parametrize("change", ["configuration", *slow("weights", "another adapter")])
def test_a_start_that_changed_is_refused_on_resumption(
    begun: Any, tiny_base: Path, tmp_path: Path, change: str
) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base)
    with pytest.raises(Interrupted):
        train(begun(folder), tmp_path / "run", StopAt(2), device="cpu")
    if change == "weights":
        model = peft_folders.write(tmp_path / "other", tiny_base, "rank pattern")
        shutil.copy(model / "adapter_model.safetensors", folder)
    elif change == "configuration":
        peft_folders.change_config(folder, lora_alpha=16)
    else:
        folder = peft_folders.write(tmp_path / "ia3", tiny_base, "ia3")
    with pytest.raises(UsageError, match=r"was begun from the adapter theirs with content \w{16}, but .* now holds"):
        train(begun(folder), tmp_path / "run", device="cpu")


def test_a_run_that_began_anew_does_not_go_on_from_an_adapter(
    begun: Any, quick_recipe: Any, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(quick_recipe(**FEW), tmp_path / "run", StopAt(2), device="cpu")
    folder = peft_folders.write(tmp_path / "theirs", tiny_base)
    with pytest.raises(UsageError, match=r"design \(linear@all:10% there, lora@adapter now\), init_from \(None there"):
        train(begun(folder), tmp_path / "run", device="cpu")


def test_a_design_beside_the_adapter_is_refused_by_name(begun: Any, tiny_base: Path, tmp_path: Path) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base, "ia3")
    with pytest.raises(UsageError, match=r"--design conv@all:2% contradicts --init-from .*whose design is ia3@adapter"):
        complete_recipe(Recipe(corpus="c", init_from=folder, design="conv@all:2%"), Run(tmp_path / "run"))
    with pytest.raises(UsageError, match="kind_options contradict init_from"):
        Recipe(corpus="c", init_from=folder, kind_options={"conv": {"kernel_size": 3}})
    with pytest.raises(UsageError, match="design lora@adapter is that of a stored adapter; give it"):
        Recipe(corpus="c", design="lora@adapter")
    same = Recipe(corpus="c", init_from=folder, design="ia3@adapter", base="nano-musicgen")
    assert complete_recipe(same, Run(tmp_path / "run")) == same


def test_base_is_the_adapters_unless_one_is_given(tiny_base: Path, tmp_path: Path) -> None:
    folder = peft_folders.write(tmp_path / "theirs", tiny_base)
    run, recipe = Run(tmp_path / "run"), Recipe(corpus="c", init_from=folder)
    peft_folders.change_config(folder, base_model_name_or_path="facebook/musicgen-small", revision="a" * 40)
    assert complete_recipe(recipe, run).base == f"facebook/musicgen-small@{'a' * 40}"
    assert complete_recipe(recipe.model_copy(update={"base": "nano-musicgen"}), run).base == "nano-musicgen"
    peft_folders.change_config(folder, base_model_name_or_path=str(tiny_base), revision=None)
    assert complete_recipe(recipe, run).base == str(tiny_base)
    for name in ("/srv/models/musicgen-small", "C:\\models\\musicgen-small", "./musicgen-small"):
        peft_folders.change_config(folder, base_model_name_or_path=name)
        with pytest.raises(UsageError, match="a local folder called musicgen-small, which is not here; add --base"):
            complete_recipe(recipe, run)
    peft_folders.change_config(folder, base_model_name_or_path=None)
    with pytest.raises(UsageError, match="does not say what it was trained on; add --base NAME"):
        complete_recipe(recipe, run)


@pytest.mark.slow
def test_another_base_is_told_where_shapes_fit_and_refused_where_not(
    begun: Any, tiny_base: Path, make_base: Any, tmp_path: Path
) -> None:
    folder, log = peft_folders.write(tmp_path / "theirs", tiny_base), Lines()
    other = make_base(tmp_path / "finetuned", seed=3)
    run = train(begun(folder, base=str(other), training__steps=1), tmp_path / "run", log, device="cpu")
    assert any(
        "says that it was trained on ./tiny; here it is on finetuned, which its shapes fit" in x for x in log.lines
    )
    with pytest.raises(TalimError, match=r"trained on base finetuned .* but this is tiny"):  # talim's own are known
        train(begun(run.adapter, base=str(tiny_base)), tmp_path / "second", device="cpu")
    smaller = make_base(tmp_path / "smaller", layers=1)
    with pytest.raises(TalimError, match="does not fit this model"):
        train(begun(folder, base=str(smaller)), tmp_path / "third", device="cpu")
    assert not (tmp_path / "third").exists()


def test_a_run_is_trained_further_on_other_recordings(
    begun: Any, finished_run: Run, corpus_folder: Path, tmp_path: Path
) -> None:
    log = Lines()
    recipe = begun(finished_run.folder, training__steps=2, training__eval_clips=4)
    run = train(recipe, tmp_path / "more", log, device="cpu")
    assert str(run.recipe.design) == "linear@all:10%"
    assert held_out(run)[0] == pytest.approx(read_json(finished_run.cost)["best_validation_loss"], abs=1e-5)
    assert run.start is not None
    assert run.start["name"] == "run/adapter"
    known = read_json(run.adapter / "talim.json")["trained_on"]
    assert known["complete"] is True  # both are talim's
    train_clips = Corpus.load(corpus_folder).train
    assert start_adapter.not_at_hand({"trained_on": known}, train_clips) == ""
    elsewhere = {"trained_on": {"sources": [*known["sources"], "f" * 16], "complete": True}}
    assert start_adapter.not_at_hand(elsewhere, train_clips).startswith("1 file that the adapter was trained on ")
    assert start_adapter.not_at_hand({}, train_clips) == "what else the adapter was trained on is not known"
    assert not any("is not known" in line for line in log.lines)
    # a corpus that holds out what the first was trained on
    swapped = Path(shutil.copytree(corpus_folder, tmp_path / "swapped", ignore=shutil.ignore_patterns("features")))
    rows = [json.loads(line) for line in (swapped / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["split"] = {"train": "held_out", "held_out": "train", "validation": "validation"}[row["split"]]
    text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    (swapped / "corpus.jsonl").write_text(text, encoding="utf-8")
    train(begun(finished_run.folder, corpus=str(swapped), training__steps=1), tmp_path / "leak", log, device="cpu")
    assert any("was trained on 3 recordings that the scores are measured on" in line for line in log.lines)


def test_a_design_that_does_not_describe_the_modules_is_refused(begun: Any, finished_run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_run.adapter, tmp_path / "theirs"))
    info = read_json(folder / "talim.json")
    (folder / "talim.json").write_text(json.dumps(info | {"design": "linear@layers[1]:5%"}), encoding="utf-8")
    with pytest.raises(TalimError, match=r'is not that of the modules in .*write "design": "" there'):
        train(begun(folder), tmp_path / "run", device="cpu")
    (folder / "talim.json").write_text(json.dumps(info | {"design": ""}), encoding="utf-8")
    run = train(begun(folder, training__steps=1), tmp_path / "run", device="cpu")
    assert str(run.recipe.design) == "linear@adapter"
    assert "used" not in read_json(run.cost)["frozen_cache"] or not read_json(run.cost)["frozen_cache"]["used"]


def test_weights_of_the_base_in_16_bits_are_told(tiny_base: Path, tmp_path: Path) -> None:
    for kind, told in (("heads", True), ("biases", True), ("lora", False)):
        start = start_adapter.stored_adapter(peft_folders.write(tmp_path / kind, tiny_base, kind), "--init-from")
        backbone = load(str(tiny_base), precision="bf16", device="cpu")
        peft = start_adapter.load_start(start, start.design, backbone)
        weights = {name: weight for name, weight in peft.named_parameters() if weight.requires_grad}
        lines = start_adapter.precision_notes(weights)
        assert ["in 16 bits, which round small changes away; --set training.precision=fp32" in x for x in lines] == (
            [True] * told
        )
