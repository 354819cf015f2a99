"""Tests of talim.exporting.onnx_model: graphs give torch's logits step by step, and the folder makes music alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
import yaml
from fixtures import released_musicgen
from fixtures.log_lines import Lines

import talim
from talim import adapters
from talim.audio.tags import read_tags
from talim.backbones.musicgen import onnx_graphs
from talim.errors import TalimError, UsageError
from talim.exporting import onnx_model
from talim.exporting.onnx_generate import Music
from talim.run import Run

PROMPT = "slow glide"
SITES = "{kind}@conditioner:width4+{kind}@all:width8+{kind}@post:width5"
DESIGNS = [*(SITES.format(kind=kind) for kind in ("linear", "conv", "transformer")), "lora@all:r2"]
OTHERS = ["linear@all:2k+conv@all:3k", "dora@all:r2", "ia3@all", "full@conditioner+full@all+full@post"]


def adapted(folder: Path | str, design: str, size: float = 0.2) -> Any:
    """A base in float32 with an adapter whose weights are shifted by `size` at random."""
    base: Any = talim.load_base(str(folder), precision="fp32", device="cpu")
    before = {name for name, _ in base.model.named_parameters()}
    adapters.attach(base.model, design)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in base.model.named_parameters():
            if "talim_blocks" in name or "lora_" in name or "ia3_" in name:
                weight += size * torch.randn(weight.shape, generator=generator)
    assert {name for name, _ in base.model.named_parameters()} != before
    base.model.eval()
    return base


def torch_codes(base: Any, seconds: float, guidance: float) -> np.ndarray:
    """The most likely codes of talim's own decoder, [K, T]."""
    return base.generate_tokens([PROMPT], seconds, 0, guidance_scale=guidance, temperature=0)[0]


def check_greedy_codes(base: Any, folder: Path, frames: int) -> Music:
    """Graphs in `folder` whose logits and most likely codes are torch's; those of other adapters are not."""
    assert onnx_model.write_graphs(base, folder, Lines()) < 1e-4
    music, seconds = Music(folder), frames / base.frame_rate_hz
    for guidance in (1.0, 3.0):
        expected = torch_codes(base, seconds, guidance)
        found = music.codes(PROMPT, seconds, guidance=guidance, temperature=0)
        assert found.shape == (base.codebooks, frames)
        assert np.array_equal(found, expected)
    return music


def test_graphs_of_a_convolution_give_torchs_codes_and_need_each_part_of_the_state(
    tmp_path: Path, tiny_base: Path
) -> None:
    base = adapted(tiny_base, DESIGNS[1])
    music = check_greedy_codes(base, tmp_path, 60)
    tokens = np.random.default_rng(0).integers(0, 64, (4, 24))

    def logits(forgotten: str = "") -> np.ndarray:
        piece, rows = music.begin(PROMPT), []
        for step in range(24):
            rows.append(piece.step(tokens[:, step]))
            for name in piece.state:
                if forgotten and name.endswith(forgotten):
                    piece.state[name] = np.zeros_like(piece.state[name])
        return np.stack(rows)

    whole = logits()
    assert np.array_equal(whole, logits())
    for part in (".keys", "adapter0.convolution_0", "adapter0.convolution_1", "adapter0.excitation"):
        assert np.abs(logits(part) - whole).max() > 1e-4, part  # rounding is 1e-6
    piece = music.begin(PROMPT)
    piece.position = 7  # as if there were frames before
    assert np.abs(piece.step(tokens[:, 0]) - whole[0]).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("design", [*DESIGNS, *OTHERS])
def test_graphs_of_every_kind_give_torchs_codes(tmp_path: Path, tiny_base: Path, design: str) -> None:
    check_greedy_codes(adapted(tiny_base, design), tmp_path, 60)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["conv@all:5%", "transformer@all:5%", "lora@all:r4"])
def test_graphs_of_the_miniature_give_torchs_codes_and_sound(tmp_path: Path, design: str) -> None:
    base = adapted("nano-musicgen", design, 0.05)
    music = check_greedy_codes(base, tmp_path, 60)
    codes = np.random.default_rng(0).integers(0, 1024, (4, 70))
    assert np.allclose(music.sound(codes), base.decode(codes.astype(np.int16)).samples, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["tiny", "nano-musicgen"])
@pytest.mark.parametrize("design", DESIGNS)
def test_graphs_in_openvino_give_torchs_logits_codes_and_sound(
    tmp_path: Path, tiny_base: Path, base: str, design: str
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    adapted_base = adapted(tiny_base if base == "tiny" else base, design, 0.2 if base == "tiny" else 0.05)
    exact = check_greedy_codes(adapted_base, tmp_path, 60)
    music = Music(tmp_path, "openvino")
    for guidance in (1.0, 3.0):
        expected = torch_codes(adapted_base, 60 / adapted_base.frame_rate_hz, guidance)
        codes = music.codes(PROMPT, 60 / adapted_base.frame_rate_hz, guidance=guidance, temperature=0)
        assert np.array_equal(codes, expected)
    pieces = [runtime.begin(PROMPT) for runtime in (exact, music)]
    for step in range(60):
        one, other = (piece.step(codes[:, step]) for piece in pieces)
        assert np.abs(one - other).max() < 1e-4
    assert np.allclose(music.sound(codes), exact.sound(codes), atol=1e-4)


@pytest.mark.slow
def test_graphs_of_a_stereo_base_with_a_tokenizer_of_pieces_give_torchs_codes(tmp_path: Path) -> None:
    base = adapted(released_musicgen.write(tmp_path / "stereo", channels=2), "conv@all:width8")
    out = tmp_path / "out"
    out.mkdir()
    music = check_greedy_codes(base, out, 20)
    assert (out / "tokenizer.json").is_file()
    assert music.sound(np.zeros((8, 10), np.int64)).shape[0] == 2


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graphs, "LARGEST_FILE", 0)
    module, file = torch.nn.Linear(600, 40), tmp_path / "linear.onnx"
    values = torch.randn(3, 600)
    onnx_graphs.write_graph(module, {"x": (values, ("batch", 600))}, {"y": ("batch", 40)}, file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear.onnx", "linear.onnx.data"]
    found = onnxruntime.InferenceSession(file).run(None, {"x": values[:2].numpy()})[0]
    assert np.allclose(found, module(values[:2]).detach().numpy(), atol=1e-5)


def test_exported_folder_makes_music_alone_and_says_what_it_is(tmp_path: Path, finished_run: Run) -> None:
    out, said = tmp_path / "graphs", Lines()
    result = talim.export(finished_run, "onnx", out, progress=said)
    assert result["largest_difference"] < 1e-4
    assert any("checked: logits of onnxruntime differ by at most" in line for line in said.lines)
    names = {"text.onnx", "decoder.onnx", "codec.onnx", "settings.json", "generate.py", "README.md", "LICENSE.md"}
    assert names | {"provenance.json", "SHA256SUMS"} <= {*result["files"]}
    command = [sys.executable, "-I", str(out / "generate.py"), PROMPT, "--seconds", "1", "--seed", "3"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    samples, rate = soundfile.read(tmp_path / "music.wav")
    assert (len(samples), rate) == (16000, 16000)
    assert samples.std() > 1e-4
    assert read_tags(tmp_path / "music.wav")["software"].startswith("talim ")
    card = (out / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---")[1])
    assert (header["library_name"], "license" in header) == ("onnx", True)
    assert "## Recordings, licences, consent" in card
    assert "## How to load it" not in card
    written = "".join(path.read_text(encoding="utf-8") for path in out.rglob("*") if path.suffix in (".md", ".json"))
    assert str(finished_run.folder.parent) not in written
    music = Music(out)
    with pytest.raises(SystemExit, match="100 s is too long: at most 30 s"):
        music.codes(PROMPT, 100.0)
    assert json.loads((out / "settings.json").read_text())["delays"] == [0, 1, 2, 3]


def test_sampling_draws_by_weight_among_the_most_likely() -> None:
    from talim.exporting.onnx_generate import draw

    random = np.random.default_rng(0)
    logits = np.log(np.array([[0.5, 0.3, 0.2, 1e-9]]))
    assert draw(logits, random, 0, 0) == [0]
    drawn = [int(draw(logits, random, 1.0, 2)[0]) for _ in range(4000)]
    assert {*drawn} == {0, 1}
    assert abs(np.mean(drawn) - 0.375) < 0.03


def test_what_has_no_graph_is_refused_in_one_line(
    tmp_path: Path, tiny_base: Path, finished_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = adapted(tiny_base, "linear@all:width4")
    base.model.decoder.model.decoder.layers[0].base_layer.fc1.register_forward_hook(lambda *_: None)
    with pytest.raises(TalimError, match=r"--to onnx: .*layers\.0.*fc1 has a hook, of which talim makes no graph"):
        onnx_model.write_graphs(base, tmp_path, Lines())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TalimError, match=r"--to onnx needs onnxruntime; .*pip install '\.\[onnx\]'"):
        talim.export(finished_run, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bases_that_are_no_musicgen_on_text_are_refused(tmp_path: Path) -> None:
    melody = released_musicgen.write(tmp_path / "melody", melody=True)
    for base, words in (("nano-mustango", "is a Mustango"), (str(melody), "takes a melody")):
        exported: Any = type("Exported", (), {"info": {"base": {"name": "b"}}, "run": type("R", (), {"base": base})})
        with pytest.raises(UsageError, match=f"--to onnx: b {words}, of which talim makes no graphs"):
            onnx_model._check_base(exported)
