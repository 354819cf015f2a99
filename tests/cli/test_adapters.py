"""`talim adapters list|info|check`: one line per adapter, damaged and hostile ones told, exit statuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from typer.testing import CliRunner, Result

from talim.backbones.load import load
from talim.cli.main import app
from talim.errors import TalimError
from talim.run import Run


def talim(*words: object) -> Result:
    return CliRunner().invoke(app, ["adapters", *map(str, words)])


def refused(*words: object) -> str:
    """The message of the TalimError with which a command ends (exit status 1)."""
    done = talim(*words)
    assert isinstance(done.exception, TalimError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


@pytest.fixture
def lora(tiny_base: Path, tmp_path: Path) -> Path:
    """An adapter of plain PEFT for the tiny base."""
    model = get_peft_model(load(tiny_base, device="cpu").model, LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    return tmp_path / "lora"


def change(folder: Path, **values: object) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    return folder


def test_list_tells_good_and_bad_adapters_and_ends_with_0(finished_run: Run, lora: Path) -> None:
    shutil.copytree(finished_run.adapter, lora.parent / "good")
    for name, text in {
        "deep": "[" * 100_000,
        "number": "3",
        "empty": "{}",
        "torn": "{",
        "type": '{"peft_type": [1]}',
    }.items():
        (lora.parent / name).mkdir()
        (lora.parent / name / "adapter_config.json").write_text(text, encoding="utf-8")
    shutil.copytree(lora, lora.parent / "regex")
    change(lora.parent / "regex", target_modules="(")
    (lora.parent / "fifo").mkdir()
    os.mkfifo(lora.parent / "fifo" / "adapter_config.json")
    done = talim("list", lora.parent)
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert sum("unreadable" in line for line in lines) == 7
    assert any("good  linear@all:10%  4,159 parameters  for tiny" in line for line in lines)
    rows = json.loads(talim("list", lora.parent, "--json").stdout)
    assert [row["folder"] for row in rows if "error" not in row] == [str(lora.parent / "good"), str(lora)]


def test_list_and_info_print_no_control_codes_of_a_foreign_adapter(lora: Path) -> None:
    change(lora, base_model_name_or_path="\x1b[2Jevil\nsecond line")
    for command in ("list", "info"):
        text = talim(command, lora.parent if command == "list" else lora).stdout
        assert "\x1b" not in text
        assert "evil" in text
        assert "\nsecond line" not in text


def test_info_prints_design_base_and_size(finished_run: Run) -> None:
    done = talim("info", finished_run.adapter)
    assert done.exit_code == 0
    assert "design: linear@all:10%" in done.stdout
    assert json.loads(talim("info", finished_run.adapter, "--json").stdout)["method"] == "talim"
    assert "{" not in done.stdout
    assert "base: name " in done.stdout
    for folder in (finished_run.folder, finished_run.folder.parent):
        assert f"below it are {finished_run.adapter}" in refused("info", folder)


def test_check_fits_or_says_why_not(finished_run: Run, tiny_base: Path, tmp_path: Path, lora: Path) -> None:
    assert "fits tiny" in talim("check", finished_run.adapter, "--base", tiny_base).stdout
    assert "fits tiny" in talim("check", lora, "--base", tiny_base).stdout
    damaged = shutil.copytree(finished_run.adapter, tmp_path / "damaged")
    data = bytearray((damaged / "adapter_model.safetensors").read_bytes())
    data[-5] ^= 4
    (damaged / "adapter_model.safetensors").write_bytes(bytes(data))
    assert "its checksum is not that in talim.json" in refused("check", damaged, "--base", tiny_base)


@pytest.mark.parametrize("values", [{"target_modules": r"(\w+\.?)+!"}, {"rank_pattern": {r"(\w+\.?)+!": 3}}])
def test_check_ends_on_an_expression_that_does_not(
    lora: Path, tiny_base: Path, values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("talim.adapters.regex_time.CPU_SECONDS", 1)
    assert "takes longer than 1 s" in refused("check", change(lora, **values), "--base", tiny_base)


def test_check_never_takes_a_model_of_the_hub_for_a_local_base(
    finished_run: Run, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter's base was a folder called as a public model is."""
    folder = shutil.copytree(finished_run.adapter, tmp_path / "a")
    info = json.loads((folder / "talim.json").read_text(encoding="utf-8"))
    assert info["base"]["local"] is True
    info["base"]["name"] = "musicgen-small"
    (folder / "talim.json").write_text(json.dumps(info), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "in a local folder called musicgen-small, which is not here; add --base" in refused("check", folder)
    shutil.copytree(tiny_base, tmp_path / "musicgen-small")
    assert "fits musicgen-small" in talim("check", folder).stdout
