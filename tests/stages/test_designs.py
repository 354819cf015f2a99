"""The list of designs: every kind at every site, and its counts are those of the adapter that is really built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

import talim.adapters as adapters
from talim.backbones import catalogue
from talim.designs.expression import SITE_WORDS, kind_names
from talim.designs.sites import MusicGenShape
from talim.errors import TalimError, UsageError
from talim.stages import designs as stage

RELEASED = [name for name, model in catalogue.MODELS.items() if model.shape is not None]


def on_meta(shape: MusicGenShape) -> Any:
    """A base of that shape without memory; codec and text encoder as small as they can be."""
    text = T5Config(vocab_size=8, d_model=shape.text_width, d_kv=4, d_ff=4, num_layers=1, num_heads=1)
    decoder = MusicgenDecoderConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.feed_forward,
        num_codebooks=shape.codebooks,
        audio_channels=shape.channels,
    )
    with torch.device("meta"):
        config = MusicgenConfig(text_encoder=text, audio_encoder=EncodecConfig(), decoder=decoder)
        return MusicgenForConditionalGeneration(config).requires_grad_(False)


def check_counts(name: str, budgets: list[str]) -> None:
    """Attach, count, take out again: one base for all designs."""
    listed = stage.designs(name, budgets)
    _, shape = stage.shape_of(name)
    model = on_meta(shape)
    assert {row["kind"] for row in listed["designs"]} == set(kind_names())
    assert {row["site"] for row in listed["designs"]} == set(SITE_WORDS)
    for row in listed["designs"]:
        budget = row["expression"].partition(":")[2]
        if row["parameters"] is None:
            assert row["remark"].startswith("impossible: ")
            with pytest.raises(UsageError):
                adapters.adapter_config(model, row["expression"])
            continue
        with torch.device("meta"):
            peft = adapters.attach(model, row["expression"])
        counted = sum(weight.numel() for weight in adapters.trainable_parameters(peft))
        assert row["parameters"] == counted, row["expression"]
        assert row["share"] == counted / shape.decoder_parameters
        peft.unload()
        del model.__dict__["talim_wrapper"]
        model.requires_grad_(False)
        if budget.endswith("M"):
            off = abs(counted - 1e6 * float(budget[:-1])) / (1e6 * float(budget[:-1]))
            assert off <= 0.01 or "nearest possible" in row["remark"]


def test_counts_on_the_miniature() -> None:
    check_counts("nano-musicgen", ["2.5%"])


@pytest.mark.slow
@pytest.mark.parametrize("name", RELEASED)
def test_counts_on_all_sizes_and_budgets(name: str) -> None:
    check_counts(name, list(stage.BUDGETS))


def test_every_released_size_meets_every_budget() -> None:
    missed = set()
    for name in RELEASED:
        for row in stage.designs(name)["designs"]:
            if "impossible" in row["remark"] or "nearest possible" in row["remark"]:
                missed.add(row["expression"])
    # a rank of one in every linear is more than 2M already, or a step of rank more than a hundredth of it
    assert {expression.partition("@")[0] for expression in missed} <= {"lora", "dora"}
    assert {expression.partition(":")[2] for expression in missed} <= {"2M", "8M"}


def test_mixtures_add_up() -> None:
    mixed, one, two = stage.designs(
        "musicgen-medium",
        expressions=["conv@shallow:20M+transformer@deep:20M", "conv@shallow:20M", "transformer@deep:20M"],
    )["designs"]
    assert mixed["parameters"] == one["parameters"] + two["parameters"]
    assert mixed["flops_per_second"] == one["flops_per_second"] + two["flops_per_second"]
    assert mixed["width"] == f"{one['width']}+{two['width']}"
    assert max(one["activation_bytes"], two["activation_bytes"]) < mixed["activation_bytes"]


def test_a_local_folder_and_what_is_none(tmp_path: Path) -> None:
    values = {
        "decoder": {
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_codebooks": 4,
            "vocab_size": 32,
            "ffn_dim": 64,
        },
        "text_encoder": {"d_model": 16},
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    found = stage.designs(str(tmp_path), ["5%"])
    assert found["base"] == tmp_path.name
    assert "conditioner" not in {row["site"] for row in found["designs"]}  # the widths are equal
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TalimError, match="no MusicGen configuration"):
        stage.designs(str(tmp_path))
    with pytest.raises(TalimError, match="musicgen-medium"):
        stage.designs("musicgen-mediun")
    with pytest.raises(TalimError, match="melody"):
        stage.designs("facebook/musicgen-melody")
    with pytest.raises(UsageError, match="cannot be read"):
        stage.designs("musicgen-small", ["forty"])
    with pytest.raises(UsageError, match="at most 600 s"):
        stage.designs("musicgen-small", clip_seconds=0)


def test_the_command_prints_one_document_and_loads_no_model_library() -> None:
    code = (
        "import sys; from talim.cli import app; "
        "app(['designs', '--base', 'musicgen-large', '--budget', '40M', '--json'], standalone_mode=False); "
        "print([m for m in ('transformers', 'peft', 'diffusers') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["designs"]
    assert {"expression", "kind", "site", "parameters", "share", "width"} <= rows[0].keys()
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_the_table_fits_a_terminal() -> None:
    text = stage.table(stage.designs("musicgen-large"))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "impossible: lora@all:2M" in text
