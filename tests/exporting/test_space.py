"""Tests of talim.exporting.space: the folder is a Space whose page makes music, and is pushed to the Hub as one."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from stand_in_hub.server import StandInHub

import talim
from talim.atomic_io import read_json, write_json
from talim.audio.tags import read_tags
from talim.errors import TalimError
from talim.exporting import onnx_model
from talim.run import Run


def stand_in_gradio() -> tuple[types.ModuleType, list[Any]]:
    """A module with what app.py uses of gradio, and what is made of it, in order."""
    module, made = types.ModuleType("gradio"), []

    def part(name: str) -> type:
        def note(self: Any, *values: Any, **options: Any) -> None:
            self.name, self.values, self.options, self.calls = name, values, options, []
            made.append(self)

        def call(self: Any, *values: Any) -> None:
            self.calls.append(values)

        def queue(self: Any, **options: Any) -> Any:
            self.queue_options = options
            return self

        return type(name, (), {"__init__": note, "__call__": call, "queue": queue})

    for name in ("Textbox", "Slider", "Number", "Audio", "Interface", "Progress"):
        setattr(module, name, part(name))
    return module, made


def load_app(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """app.py of a folder with a stand-in for gradio."""
    gradio, made = stand_in_gradio()
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "generate", raising=False)
    spec = importlib.util.spec_from_file_location("app", folder / "app.py")
    assert spec is not None
    assert spec.loader is not None
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    monkeypatch.delitem(sys.modules, "generate")
    return app, made


def test_space_folder_is_a_page_that_makes_music(
    tmp_path: Path, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "space"
    result = talim.export(finished_run, "space", out)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {*result["files"]}
    assert names >= {"app.py", "generate.py", "requirements.txt", "decoder.onnx", "LICENSE.md", "SHA256SUMS"}
    assert "adapter/adapter_model.safetensors" in names
    card = (out / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---")[1])
    pins = dict(line.split("==") for line in (out / "requirements.txt").read_text().splitlines())
    assert {*pins} == {"gradio", "onnxruntime", "numpy", "tokenizers"}
    assert (header["sdk"], header["app_file"], header["sdk_version"]) == ("gradio", "app.py", pins["gradio"])
    assert header["license"] == "cc-by-nc-4.0"
    assert len(header["short_description"]) <= 60
    assert "AI-generated" in card
    assert "## Recordings, licences, consent" in card
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert sums == {n: hashlib.sha256((out / n).read_bytes()).hexdigest() for n in names - {"SHA256SUMS"}}
    app, made = load_app(out, monkeypatch)
    page = app.make_page(out)
    assert page.queue_options == {"max_size": 20, "default_concurrency_limit": 1}
    inputs = page.values[1]
    assert [part.name for part in inputs] == ["Textbox", "Slider", "Number", "Slider", "Slider"]
    assert inputs[1].values == (1, 30.0)
    file = Path(page.values[0]("slow glide", 0.4, 3.0, 3.0, 1.0))
    samples, rate = soundfile.read(file)
    assert (len(samples), rate) == (6400, 16000)
    assert read_tags(file)["software"].startswith("talim ")
    file.unlink()
    progress = next(part for part in made if part.name == "Progress")
    assert progress.calls[-1] == ((13, 13),)  # ten frames and the delays
    assert str(finished_run.folder.parent) not in card


def test_space_is_pushed_as_a_space_and_once(
    stand_in_hub: StandInHub, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nothing(folder: Path) -> float:
        (folder / "decoder.onnx").write_bytes(b"graph")
        (folder / "settings.json").write_text("{}")
        return 0.0

    monkeypatch.setattr(onnx_model, "graph_writer", lambda *_: write_nothing)
    shown = talim.export(finished_run, "space", repo="me/glide", dry_run=True)
    assert (shown["commit"], stand_in_hub.repositories) == (None, {})
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    stand_in_hub.failures["commit"] = 503
    with pytest.raises(TalimError, match="nothing was published in me/glide: run this again"):
        talim.export(finished_run, "space", repo="me/glide")
    result = talim.export(finished_run, "space", repo="me/glide")
    assert result["url"] == f"{stand_in_hub.url}/spaces/me/glide"
    assert {*stand_in_hub.repositories} == {"spaces/me/glide"}
    files = stand_in_hub.repositories["spaces/me/glide"].commits[result["commit"]]
    assert {*files} == {*result["files"], ".gitattributes"}
    assert files["decoder.onnx"] == b"graph"
    assert b"sdk_version" in files["README.md"]
    assert talim.export(finished_run, "space", repo="me/glide")["commit"] == result["commit"]


def test_space_that_rights_forbid_is_refused_before_its_graphs_are_made(
    stand_in_hub: StandInHub, finished_run: Run, tmp_path: Path
) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    facts = read_json(run.facts_file)
    facts["base"]["licence"] = "unknown"
    write_json(run.facts_file, facts)
    with pytest.raises(TalimError, match="the base tiny: its licence is unknown"):
        talim.export(run, "space", repo="me/glide")
    assert stand_in_hub.requests == []
