"""The list of designs: every kind at every site, and its counts are those of the adapter that is really built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import released_mustango
from fixtures.meta_transformers import on_meta

import talim.adapters as adapters
from talim.backbones import registry
from talim.designs import expression, kinds
from talim.designs.expression import UNSIZED_KINDS, kind_names, parse
from talim.designs.musicgen_sites import MusicGenShape
from talim.designs.unet_sites import UNetShape
from talim.errors import TalimError, UsageError
from talim.planning import design_costs as stage

RELEASED = [name for name, model in registry.MODELS.items() if isinstance(model.shape, MusicGenShape)]
DECODER_WORDS = ("conditioner", "all", "shallow", "middle", "deep", "post")
NUMBERS = ("parameters", "share", "width", "widths", "flops_per_second", "file_bytes", "activation_bytes")


def built(model: Any, design: str) -> tuple[int, list[int]]:
    """Trainable parameters of a design that is really attached, and the widths or ranks in it; then it is gone."""
    with torch.device("meta"):
        peft = adapters.attach(model, design)
    counted = sum(weight.numel() for weight in adapters.trainable_parameters(peft))
    config = peft.peft_config["adapter"]
    if hasattr(config, "blocks"):
        widths = [row["width"] for row in config.blocks if "width" in row]
    else:  # PEFT's own
        found = (getattr(module, "r", {}) for module in peft.modules())
        widths = [ranks["adapter"] for ranks in found if isinstance(ranks, dict) and "adapter" in ranks]
    peft.unload()
    del model.__dict__["talim_wrapper"]
    model.requires_grad_(False)
    return counted, widths


def check_row(row: dict[str, Any], model: Any, base: int) -> None:
    design, size = row["expression"], parse(row["expression"]).parts[0].size
    if row["parameters"] is None:
        assert row["remark"].startswith("impossible: ")
        assert {row[word] for word in NUMBERS} == {None}
        with pytest.raises(UsageError):
            adapters.adapter_config(model, design)
        return
    counted, widths = built(model, design)
    assert row["parameters"] == counted, design
    assert row["share"] == counted / base
    assert row["widths"] == [[min(widths), max(widths)] if widths else None], design
    assert row["width"] == (min(widths) if widths else None)
    assert (row["width"] is None) == (row["kind"] in UNSIZED_KINDS)
    if size is not None:
        assert max(widths) - min(widths) <= 1
        budget = size.parameters(base)
        missed = abs(counted - budget) > 0.01 * budget
        assert missed == ("nearest possible" in row["remark"]), design


def check_counts(name: str, budgets: list[str]) -> None:
    """Attach, count, take out again: one base for all designs."""
    listed = stage.design_costs(name, budgets)
    shape = stage.base_model_facts(name).shape
    expected = [
        f"{kind}@{site}{'' if kind in UNSIZED_KINDS else f':{size}'}"
        for kind in kind_names()
        for site in DECODER_WORDS
        for size in (budgets[:1] if kind in UNSIZED_KINDS else budgets)
    ]
    assert sorted(row["expression"] for row in listed["designs"]) == sorted(expected)
    model = on_meta(shape)
    for row in listed["designs"]:
        check_row(row, model, shape.decoder_parameters)


def test_counts_on_the_miniature() -> None:
    check_counts("nano-musicgen", ["2.5%"])


def test_counts_on_the_smallest_released_model() -> None:
    check_counts("musicgen-small", ["8M"])


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_counts_on_all_sizes_and_budgets(name: str) -> None:
    check_counts(name, list(stage.BUDGETS))


@pytest.mark.slow
def test_counts_of_all_shares() -> None:
    check_counts("nano-musicgen", list(stage.SHARES))


def test_mixtures_are_built_as_listed() -> None:
    designs = [
        "conv@shallow:2%+transformer@deep:2%",
        "linear@all:1%+full@layers[4-5]",
        "linear@post:1%+conv@layers[5]:1%",
        "transformer@all:width7",
    ]
    model = on_meta(stage.base_model_facts("nano-musicgen").shape)
    rows = stage.design_costs("nano-musicgen", expressions=designs)["designs"]
    assert [row["expression"] for row in rows] == designs
    for row in rows:
        counted, widths = built(model, row["expression"])
        assert row["parameters"] == counted
        assert {w for span in row["widths"] if span for w in span} == set(widths)
    assert (rows[0]["kind"], rows[0]["site"]) == ("conv+transformer", "shallow+deep")
    assert rows[1]["widths"][1] is None


def test_mixtures_add_up() -> None:
    mixed, one, two = stage.design_costs(
        "musicgen-medium",
        expressions=["conv@shallow:20M+transformer@deep:20M", "conv@shallow:20M", "transformer@deep:20M"],
    )["designs"]
    for word in ("parameters", "file_bytes", "widths"):
        assert mixed[word] == one[word] + two[word]
    assert abs(mixed["flops_per_second"] - one["flops_per_second"] - two["flops_per_second"]) <= 1
    # the frozen layers above the first site are held once
    assert max(one["activation_bytes"], two["activation_bytes"]) < mixed["activation_bytes"]
    assert mixed["activation_bytes"] < one["activation_bytes"] + two["activation_bytes"]


def test_every_released_size_meets_every_budget() -> None:
    missed = set()
    for name in RELEASED:
        for row in stage.design_costs(name)["designs"]:
            if "impossible" in row["remark"] or "nearest possible" in row["remark"]:
                missed.add(row["expression"])
    # a rank of one in every linear is more than 2M already, or a step of rank more than a hundredth of it
    assert {design.partition("@")[0] for design in missed} <= {"lora", "dora"}
    assert {design.partition(":")[2] for design in missed} <= {"2M", "8M"}


def test_the_nearer_the_heads_the_less_is_held() -> None:
    rows = {row["site"]: row for row in stage.design_costs("musicgen-large", ["40M"])["designs"][:6]}
    held = [rows[s]["activation_bytes"] for s in ("conditioner", "shallow", "middle", "deep", "post")]
    assert sorted(held[1:], reverse=True) == held[1:]
    assert held[0] > held[2]
    longer = stage.design_costs("musicgen-large", expressions=["linear@all:40M"], clip_seconds=60)["designs"][
        0
    ]
    assert longer["activation_bytes"] == 2 * rows["all"]["activation_bytes"]
    assert longer["flops_per_second"] == rows["all"]["flops_per_second"]


def test_a_kind_of_ones_own_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", kinds.KINDS)
    monkeypatch.setattr(expression, "BOTTLENECK_KINDS", list(expression.BOTTLENECK_KINDS))
    monkeypatch.setitem(kinds.KINDS, "plain", kinds.Linear)
    expression.BOTTLENECK_KINDS.append("plain")
    rows = stage.design_costs("nano-musicgen", ["2.5%"])["designs"]
    plain, linear = ([row for row in rows if row["kind"] == kind] for kind in ("plain", "linear"))
    assert [row["site"] for row in plain] == list(DECODER_WORDS)
    for word in NUMBERS:
        assert [row[word] for row in plain] == [row[word] for row in linear]


def test_default_sizes() -> None:
    def sizes(base: str) -> set[str]:
        rows = stage.design_costs(base)["designs"]
        return {row["expression"].partition(":")[2] for row in rows if ":" in row["expression"]}

    assert sizes("musicgen-small") == {"2M", "8M", "20M", "40M", "70M"}
    assert sizes("facebook/musicgen-stereo-large") == sizes("musicgen-small")
    assert sizes("nano-musicgen") == {"1%", "2.5%", "5%"}


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"base": "musicgen-mediun"}, TalimError, "did you mean musicgen-medium"),
        ({"base": "facebook/musicgen-melody"}, TalimError, "conditioned on a melody"),
        ({"base": "someone/raga-gen"}, TalimError, "fetch its config.json and give the folder"),
        ({"budgets": ["forty"]}, UsageError, "--budget 'forty' cannot be read"),
        ({"budgets": ["r16"]}, UsageError, "--design linear@all:width64"),
        ({"budgets": ["2M+linear@all:2M"]}, UsageError, "cannot be read"),
        ({"expressions": ["linaer@all:2M"]}, UsageError, "did you mean 'linear'"),
        ({"budgets": ["2M"], "expressions": ["full@all"]}, UsageError, "give one of them"),
        ({"clip_seconds": 0}, UsageError, "at most 600 s"),
        ({"clip_seconds": 601}, UsageError, "at most 600 s"),
    ],
)
def test_mistakes_are_taught(asked: dict[str, Any], error: type[TalimError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        stage.design_costs(**({"base": "nano-musicgen"} | asked))
    assert isinstance(caught.value, UsageError) == (error is UsageError)


def test_the_command_prints_one_document_and_loads_no_model_library() -> None:
    code = (
        "import sys; from talim.cli import app; "
        "app(['designs', '--base', 'musicgen-large', '--budget', '2M', '--json'], standalone_mode=False); "
        "heavy = ('transformers', 'peft', 'diffusers', 'librosa', 'talim.adapters'); "
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["base"], document["clip_seconds"]) == ("musicgen-large", 30.0)
    assert {"expression", "kind", "site", "remark", *NUMBERS} <= document["designs"][0].keys()
    assert any(row["parameters"] is None for row in document["designs"])
    assert done.stderr.strip().splitlines()[-1] == "[]"


def write_config(folder: Path, **changes: Any) -> Path:
    decoder = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "num_codebooks": 4}
    values = {
        "model_type": "musicgen",
        "decoder": decoder | {"vocab_size": 32, "ffn_dim": 64},
        "text_encoder": {"d_model": 16},
        "audio_encoder": {"sampling_rate": 16000, "upsampling_ratios": [8, 8, 10]},
    }
    (folder / "config.json").write_text(json.dumps(values | changes), encoding="utf-8")
    return folder


def test_a_local_folder(tmp_path: Path) -> None:
    found = stage.design_costs(str(write_config(tmp_path, talim_window_seconds=12.0)), ["5%"])
    assert (found["base"], found["clip_seconds"]) == (tmp_path.name, 12.0)
    assert "conditioner" not in {row["site"] for row in found["designs"]}  # the widths are equal
    numbers = stage.base_model_facts(str(tmp_path))
    assert numbers.frame_rate_hz == 25
    assert numbers.shape.text_width == 16


def test_a_folder_as_the_library_writes_it(tiny_base: Path) -> None:
    model = on_meta(stage.base_model_facts(str(tiny_base)).shape)
    found = stage.design_costs(str(tiny_base), expressions=["conv@all:5%", "full@post"])
    assert found["parameters"] == sum(weight.numel() for weight in model.decoder.parameters())
    assert [row["parameters"] for row in found["designs"]] == [
        built(model, row["expression"])[0] for row in found["designs"]
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, "a llama model; expected MusicGen"),
        ({"model_type": "musicgen_melody"}, "conditioned on a melody"),
        ({"decoder": {}}, "is no MusicGen configuration"),
        ({"text_encoder": None}, "is no MusicGen configuration"),
    ],
)
def test_a_folder_that_is_none(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TalimError, match=words):
        stage.design_costs(str(write_config(tmp_path, **changes)))
    (tmp_path / "config.json").write_text("[1, 2", encoding="utf-8")
    with pytest.raises(TalimError, match="is no MusicGen configuration"):
        stage.design_costs(str(tmp_path))


def test_a_unet_is_listed_without_its_weights() -> None:
    listed = stage.design_costs("mustango", ["40M"])
    assert (listed["base"], listed["part"]) == ("mustango", "U-Net")
    assert listed["parameters"] == 1_413_192_008 + 1_056_768 + 2_115_584  # as the released files have it
    assert listed["clip_seconds"] == 10.24
    rows = {row["expression"]: row for row in listed["designs"]}
    assert {row["site"] for row in rows.values()} == {
        *("conditioner", "all", "shallow", "middle", "deep", "down", "mid", "up")
    }
    assert not any("impossible" in row["remark"] for row in rows.values() if row["kind"] != "full")
    everywhere = rows["conv@all:40M"]
    assert everywhere["parameters"] == pytest.approx(40e6, rel=0.01)
    assert everywhere["flops_per_second"] > 0
    # the nearer the output, the less is held; beside the whole way up, the coarsest level alone is little
    held = [rows[f"conv@{site}:40M"]["activation_bytes"] for site in ("all", "mid", "up")]
    assert held[0] > held[2] > 0
    assert rows["conv@down:40M"]["activation_bytes"] > rows["conv@mid:40M"]["activation_bytes"]
    assert isinstance(registry.MODELS["mustango"].shape, UNetShape)


def test_a_folder_in_the_released_layout_is_listed_from_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "configs" / "music_diffusion_model_config.json").write_text(
        json.dumps(released_mustango.UNET)
    )
    listed = stage.design_costs(str(tmp_path), ["10%"])
    assert listed["parameters"] == released_mustango.model().own_parameters
    nano = tmp_path / "nano"
    nano.mkdir()
    config = {"unet": released_mustango.UNET, "vae": {"block_out_channels": [16] * 4}, "window_seconds": 8.0}
    (nano / "config.json").write_text(json.dumps(config))
    small = stage.base_model_facts(str(nano))
    assert (small.frame_rate_hz, small.window_seconds) == (6.25, 8.0)  # 20 ms a frame, eight of them in one
    assert isinstance(small.shape, UNetShape)
    assert small.shape.bands == 8
    (tmp_path / "configs" / "music_diffusion_model_config.json").write_text("{")
    with pytest.raises(TalimError, match="no configuration of a U-Net"):
        stage.design_costs(str(tmp_path))
