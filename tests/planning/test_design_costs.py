"""Tests of talim.planning.design_costs: every kind at every site, compared with adapters that are really attached."""

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
from talim.design import adapter_kinds, expression
from talim.design.expression import UNSIZED_KINDS, Design, kind_names
from talim.design.musicgen_sites import MusicGenShape
from talim.design.unet_sites import UNetShape
from talim.errors import TalimError, UsageError
from talim.planning.design_costs import BUDGETS, PERCENTAGES, base_model_facts, design_costs

RELEASED = [name for name, model in registry.MODELS.items() if isinstance(model.shape, MusicGenShape)]
DECODER_SITES = ("conditioner", "all", "shallow", "middle", "deep", "post")
NUMBERS = (
    "parameters",
    "parameter_fraction",
    "width",
    "widths",
    "flops_per_audio_second",
    "file_bytes",
    "activation_bytes",
)


def attach_and_count(model: Any, design: str) -> tuple[int, list[int]]:
    """Attach a design and remove it again: its trainable parameters, and its widths or ranks."""
    with torch.device("meta"):
        peft = adapters.attach(model, design)
    parameters = sum(weight.numel() for weight in adapters.trainable_parameters(peft))
    config = peft.peft_config["adapter"]
    if hasattr(config, "blocks"):
        widths = [row["width"] for row in config.blocks if "width" in row]
    else:  # PEFT's own
        found = (getattr(module, "r", {}) for module in peft.modules())
        widths = [ranks["adapter"] for ranks in found if isinstance(ranks, dict) and "adapter" in ranks]
    peft.unload()
    del model.__dict__["talim_wrapper"]
    model.requires_grad_(False)
    return parameters, widths


def check_row(row: dict[str, Any], model: Any, base: int) -> None:
    design, size = row["design"], Design.parse(row["design"]).parts[0].size
    if row["parameters"] is None:
        assert row["note"].startswith("impossible: ")
        assert {row[name] for name in NUMBERS} == {None}
        with pytest.raises(UsageError):
            adapters.adapter_config(model, design)
        return
    parameters, widths = attach_and_count(model, design)
    assert row["parameters"] == parameters, design
    assert row["parameter_fraction"] == parameters / base
    assert row["widths"] == [[min(widths), max(widths)] if widths else None], design
    assert row["width"] == (min(widths) if widths else None)
    assert (row["width"] is None) == (row["kind"] in UNSIZED_KINDS)
    if size is not None:
        assert max(widths) - min(widths) <= 1
        budget = size.parameters(base)
        missed = abs(parameters - budget) > 0.01 * budget
        assert missed == ("nearest possible" in row["note"]), design


def check_counts(name: str, budgets: list[str], every: int = 1) -> None:
    """Compare every row, or every fifth one and so on, with the attached adapter."""
    listed = design_costs(name, budgets)
    shape = base_model_facts(name).shape
    expected = [
        f"{kind}@{site}{'' if kind in UNSIZED_KINDS else f':{size}'}"
        for kind in kind_names()
        for site in DECODER_SITES
        for size in (budgets[:1] if kind in UNSIZED_KINDS else budgets)
    ]
    assert sorted(row["design"] for row in listed["designs"]) == sorted(expected)
    model = on_meta(shape)
    for row in listed["designs"][::every]:
        check_row(row, model, shape.decoder_parameters)


def test_design_costs_of_nano_musicgen_match_attached_adapters() -> None:
    check_counts("nano-musicgen", ["2.5%"])


def test_design_costs_of_musicgen_small_match_attached_adapters() -> None:
    check_counts("musicgen-small", ["8M"], every=5)  # another kind and another site each time


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_design_costs_of_all_sizes_and_budgets_match_attached_adapters(name: str) -> None:
    check_counts(name, list(BUDGETS))


@pytest.mark.slow
def test_design_costs_of_all_percentages_match_attached_adapters() -> None:
    check_counts("nano-musicgen", list(PERCENTAGES))


def test_design_costs_of_combined_designs_match_attached_adapters() -> None:
    designs = [
        "conv@shallow:2%+transformer@deep:2%",
        "linear@all:1%+full@layers[4-5]",
        "linear@post:1%+conv@layers[5]:1%",
        "transformer@all:width7",
    ]
    model = on_meta(base_model_facts("nano-musicgen").shape)
    rows = design_costs("nano-musicgen", designs=designs)["designs"]
    assert [row["design"] for row in rows] == designs
    for row in rows:
        parameters, widths = attach_and_count(model, row["design"])
        assert row["parameters"] == parameters
        assert {w for span in row["widths"] if span for w in span} == set(widths)
    assert (rows[0]["kind"], rows[0]["site"]) == ("conv+transformer", "shallow+deep")
    assert rows[1]["widths"][1] is None


def test_design_costs_of_combined_design_are_sums_of_its_parts() -> None:
    mixed, one, two = design_costs(
        "musicgen-medium", designs=["conv@shallow:20M+transformer@deep:20M", "conv@shallow:20M", "transformer@deep:20M"]
    )["designs"]
    for word in ("parameters", "file_bytes", "widths"):
        assert mixed[word] == one[word] + two[word]
    assert abs(mixed["flops_per_audio_second"] - one["flops_per_audio_second"] - two["flops_per_audio_second"]) <= 1
    # the frozen layers above the first site are held once
    assert max(one["activation_bytes"], two["activation_bytes"]) < mixed["activation_bytes"]
    assert mixed["activation_bytes"] < one["activation_bytes"] + two["activation_bytes"]


def test_design_costs_miss_budgets_only_for_small_ranks() -> None:
    missed = set()
    for name in RELEASED:
        for row in design_costs(name)["designs"]:
            if "impossible" in row["note"] or "nearest possible" in row["note"]:
                missed.add(row["design"])
    # a rank of one in every linear is more than 2M already, or a step of rank more than a hundredth of it
    assert {design.partition("@")[0] for design in missed} <= {"lora", "dora"}
    assert {design.partition(":")[2] for design in missed} <= {"2M", "8M"}


def test_activation_bytes_shrink_towards_the_output() -> None:
    rows = {row["site"]: row for row in design_costs("musicgen-large", ["40M"])["designs"][:6]}
    held = [rows[s]["activation_bytes"] for s in ("conditioner", "shallow", "middle", "deep", "post")]
    assert sorted(held[1:], reverse=True) == held[1:]
    assert held[0] > held[2]
    longer = design_costs("musicgen-large", designs=["linear@all:40M"], crop_seconds=20)["designs"][0]
    assert longer["activation_bytes"] == 2 * rows["all"]["activation_bytes"]
    assert longer["flops_per_audio_second"] == rows["all"]["flops_per_audio_second"]


def test_design_costs_list_a_custom_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_kinds, "KINDS", adapter_kinds.KINDS)
    monkeypatch.setattr(expression, "BOTTLENECK_KINDS", list(expression.BOTTLENECK_KINDS))
    monkeypatch.setitem(adapter_kinds.KINDS, "plain", adapter_kinds.Linear)
    expression.BOTTLENECK_KINDS.append("plain")
    rows = design_costs("nano-musicgen", ["2.5%"])["designs"]
    plain, linear = ([row for row in rows if row["kind"] == kind] for kind in ("plain", "linear"))
    assert [row["site"] for row in plain] == list(DECODER_SITES)
    for word in NUMBERS:
        assert [row[word] for row in plain] == [row[word] for row in linear]


def test_default_sizes_depend_on_the_size_of_the_base() -> None:
    def sizes(base: str) -> set[str]:
        rows = design_costs(base)["designs"]
        return {row["design"].partition(":")[2] for row in rows if ":" in row["design"]}

    assert sizes("musicgen-small") == {"2M", "8M", "20M", "40M", "70M"}
    assert sizes("facebook/musicgen-stereo-large") == sizes("musicgen-small")
    assert sizes("nano-musicgen") == {"1%", "2.5%", "5%"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"base": "musicgen-mediun"}, TalimError, "did you mean musicgen-medium"),
        ({"base": "someone/raga-gen"}, TalimError, "fetch its config.json and give the folder"),
        ({"budgets": ["forty"]}, UsageError, "--budget 'forty' cannot be read"),
        ({"budgets": ["r16"]}, UsageError, "--design linear@all:width64"),
        ({"budgets": ["2M+linear@all:2M"]}, UsageError, "cannot be read"),
        ({"designs": ["linaer@all:2M"]}, UsageError, "did you mean 'linear'"),
        ({"budgets": ["2M"], "designs": ["full@all"]}, UsageError, "give one of them"),
        ({"crop_seconds": 0}, UsageError, "at most 600 s"),
        ({"crop_seconds": 601}, UsageError, "at most 600 s"),
    ],
)
def test_design_costs_with_wrong_arguments_say_what_to_type(
    arguments: dict[str, Any], error: type[TalimError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        design_costs(**({"base": "nano-musicgen"} | arguments))
    assert isinstance(caught.value, UsageError) == (error is UsageError)


def test_designs_command_prints_json_and_loads_no_model_library() -> None:
    code = (
        "import sys; from talim.cli import app; "
        "app(['designs', '--base', 'musicgen-large', '--budget', '2M', '--json'], standalone_mode=False); "
        "heavy = ('transformers', 'peft', 'diffusers', 'librosa', 'talim.adapters'); "
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    document = json.loads(process.stdout)
    assert (document["base"], document["crop_seconds"]) == ("musicgen-large", 10.0)
    assert {"design", "kind", "site", "note", *NUMBERS} <= document["designs"][0].keys()
    assert any(row["parameters"] is None for row in document["designs"])
    assert process.stderr.strip().splitlines()[-1] == "[]"


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


def test_design_costs_of_local_folder_read_its_config(tmp_path: Path) -> None:
    found = design_costs(str(write_config(tmp_path, talim_window_seconds=6.0)), ["5%"])
    assert (found["base"], found["crop_seconds"]) == (tmp_path.name, 6.0)
    assert "conditioner" not in {row["site"] for row in found["designs"]}  # the widths are equal
    numbers = base_model_facts(str(tmp_path))
    assert numbers.frame_rate_hz == 25
    assert numbers.shape.text_width == 16


def test_design_costs_of_transformers_folder_match_attached_adapters(tiny_base: Path) -> None:
    model = on_meta(base_model_facts(str(tiny_base)).shape)
    found = design_costs(str(tiny_base), designs=["conv@all:5%", "full@post"])
    assert found["parameters"] == sum(weight.numel() for weight in model.decoder.parameters())
    assert [row["parameters"] for row in found["designs"]] == [
        attach_and_count(model, row["design"])[0] for row in found["designs"]
    ]


def test_design_costs_of_a_melody_base_count_the_frames_before_the_music(tmp_path: Path) -> None:
    plain = design_costs("musicgen-medium", designs=["conv@all:8M", "lora@all:8M", "linear@post:1M"], crop_seconds=10)
    melody = design_costs("musicgen-melody", designs=["conv@all:8M", "lora@all:8M", "linear@post:1M"], crop_seconds=10)
    assert melody["parameters"] == 1_384_424_448
    ratios = [
        b["flops_per_audio_second"] / a["flops_per_audio_second"]
        for a, b in zip(*(x["designs"] for x in (plain, melody)), strict=True)
    ]
    assert ratios[0] == pytest.approx(767 / 500, rel=0.01)  # 235 of melody and 32 of text before 500 of music
    assert ratios[2] == pytest.approx(767 / 500, rel=0.01)
    assert melody["flops_per_audio_second"] > plain["flops_per_audio_second"]
    config = {"model_type": "musicgen_melody", "chroma_length": 7}
    facts = base_model_facts(str(write_config(tmp_path, **config)))
    assert (facts.shape.melody_frames, facts.shape.chroma, facts.frame_rate_hz) == (7, 12, 25)  # type: ignore[union-attr]
    assert base_model_facts(str(write_config(tmp_path, model_type="musicgen_melody"))).shape.melody_frames == 235  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama"}, "a llama model; expected MusicGen"),
        ({"decoder": {}}, "is no MusicGen configuration"),
        ({"text_encoder": None}, "is no MusicGen configuration"),
    ],
)
def test_design_costs_of_other_configs_raise_talim_error(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TalimError, match=words):
        design_costs(str(write_config(tmp_path, **changes)))
    (tmp_path / "config.json").write_text("[1, 2", encoding="utf-8")
    with pytest.raises(TalimError, match="is no MusicGen configuration"):
        design_costs(str(tmp_path))


def test_design_costs_of_mustango_need_no_weights() -> None:
    listed = design_costs("mustango", ["40M"])
    assert (listed["base"], listed["adapted_part"]) == ("mustango", "U-Net")
    assert listed["parameters"] == 1_413_192_008 + 1_056_768 + 2_115_584  # as the released files have it
    assert listed["crop_seconds"] == 10.0
    rows = {row["design"]: row for row in listed["designs"]}
    assert {row["site"] for row in rows.values()} == {
        *("conditioner", "all", "shallow", "middle", "deep", "down", "mid", "up")
    }
    assert not any("impossible" in row["note"] for row in rows.values() if row["kind"] != "full")
    everywhere = rows["conv@all:40M"]
    assert everywhere["parameters"] == pytest.approx(40e6, rel=0.01)
    assert everywhere["flops_per_audio_second"] > 0
    # the nearer the output, the less is held; beside the whole way up, the coarsest level alone is little
    held = [rows[f"conv@{site}:40M"]["activation_bytes"] for site in ("all", "mid", "up")]
    assert held[0] > held[2] > 0
    assert rows["conv@down:40M"]["activation_bytes"] > rows["conv@mid:40M"]["activation_bytes"]
    assert isinstance(registry.MODELS["mustango"].shape, UNetShape)


def test_design_costs_of_released_mustango_layout_read_its_config(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "configs" / "music_diffusion_model_config.json").write_text(json.dumps(released_mustango.UNET))
    listed = design_costs(str(tmp_path), ["10%"])
    assert listed["parameters"] == released_mustango.model().own_parameters
    nano = tmp_path / "nano"
    nano.mkdir()
    config = {"unet": released_mustango.UNET, "vae": {"block_out_channels": [16] * 4}, "window_seconds": 8.0}
    (nano / "config.json").write_text(json.dumps(config))
    small = base_model_facts(str(nano))
    assert (small.frame_rate_hz, small.window_seconds) == (6.25, 8.0)  # 20 ms a frame, eight of them in one
    assert isinstance(small.shape, UNetShape)
    assert small.shape.bands == 8
    (tmp_path / "configs" / "music_diffusion_model_config.json").write_text("{")
    with pytest.raises(TalimError, match="no configuration of a U-Net"):
        design_costs(str(tmp_path))
