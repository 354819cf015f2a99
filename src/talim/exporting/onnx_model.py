"""Export of a run for onnxruntime: the base with the adapter as graphs, and a script that makes music with them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from talim.adapters import serialization
from talim.errors import TalimError, UsageError
from talim.exporting import contents
from talim.exporting.contents import ExportedRun
from talim.exporting.transformers_model import PROBE, TOLERANCE, probe_inputs, probe_logits
from talim.progress import Progress
from talim.version import __version__

INSTALL = "pip install '.[onnx]'"
SCRIPT, SCRIPT_FILE = "generate.py", Path(__file__).with_name("onnx_generate.py")  # in the export, and here
SETTINGS = "settings.json"
PROBE_FRAMES = 33  # that the codec's graph is checked with: another number than it was made with
TRACED = {"batch": 2, "past": 3, "text": 5}  # sizes that the graphs are made with
GraphWriter = Callable[[Path], float]  # writes the graphs into a folder -> their largest difference from torch


def export_onnx(exported: ExportedRun, out: Path, progress: Progress) -> dict[str, Any]:
    """Write graphs for onnxruntime with a script and a card; they are refused if their logits are not those of torch.

    UsageError for a base that is no MusicGen on text alone, TalimError where a part of it has no graph.
    """
    contents.check_free(out)
    files, rows, left_out = contents.shared_files(exported)
    write = graph_writer(exported, progress)
    header, kept = contents.card_sections(exported)
    header |= {"library_name": "onnx"}
    files[SCRIPT] = SCRIPT_FILE
    files["README.md"] = _card(exported, header, kept, contents.example_links(rows)).encode()
    for line in left_out:
        progress.log(f"left out: {line}")
    differences: list[float] = []
    contents.write_folder(out, files, lambda folder: differences.append(write(folder)))
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    found = {"largest_difference": differences[0], "files": written, "left_out": left_out}
    return {"to": "onnx", "out": str(out), **found}


def graph_writer(exported: ExportedRun, progress: Progress) -> GraphWriter:
    """What writes the graphs of a run into a folder, and checks them; refusals come before the base is loaded."""
    from talim.backbones.load import load

    _require_packages()
    _check_base(exported)
    progress.log(f"loading {exported.info['base']['name']} in float32 on the CPU")
    backbone = load(exported.run.base, "fp32", "cpu")
    serialization.load(backbone, exported.run.adapter)
    backbone.model.eval()
    return partial(write_graphs, backbone, progress=progress)


def _require_packages() -> None:
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise TalimError(f"--to onnx needs {name}; in the folder of talim's source type: {INSTALL}") from None


def _check_base(exported: ExportedRun) -> None:
    from talim.backbones import resolve

    name, base = exported.info["base"]["name"], exported.run.base
    source = resolve.resolve_source(base)
    if resolve.source_family(source) == "mustango":
        raise UsageError(f"--to onnx: {name} is a Mustango, of which talim makes no graphs; use --to folder")
    if resolve.takes_melody(base):
        raise UsageError(f"--to onnx: {name} takes a melody, of which talim makes no graphs; use --to folder")


def write_graphs(backbone: Any, folder: Path, progress: Progress) -> float:
    """Write text.onnx, decoder.onnx, codec.onnx, what generate.py has to know, and a tokenizer if it needs one.

    Returned is the largest difference of logits from those of torch; TalimError where that is more than rounding, or
    where a part of the model has no graph.
    """
    from talim.backbones.musicgen import decoding

    try:
        _write(backbone, folder)
    except decoding.UnsupportedError as reason:
        raise TalimError(f"--to onnx: {reason}, of which talim makes no graph; use --to folder") from reason
    except Exception as error:
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise TalimError(f"--to onnx: torch could not make the graphs ({cause}); use --to folder") from error
    difference, largest = _difference(backbone, folder)
    progress.log(
        f"checked: logits of onnxruntime differ by at most {difference:.1e} from those with the adapter, which are up "
        f"to {largest:.1f}"
    )
    return difference


@torch.no_grad()
def _write(backbone: Any, folder: Path) -> None:
    from talim.backbones.musicgen import decoding, onnx_graphs

    model = backbone.model
    frames = int(backbone.window_seconds * backbone.frame_rate_hz)
    decoder = decoding.Decoder(model, form="plain")
    step = onnx_graphs.DecoderStep(decoder, frames + max(backbone.delays) + 1)
    dtypes = {"tokens": torch.long, "position": torch.long, "text_mask": torch.bool}
    inputs = {
        name: (onnx_graphs.example(sizes, TRACED, dtypes.get(name, torch.float32)), sizes)
        for name, sizes in step.input_sizes().items()
    }
    state = {f"present.{name}": sizes for name, sizes in step.state_sizes().items()}
    after: dict[str, Any] = {
        name: tuple("past and this" if size == "past" else size for size in sizes) for name, sizes in state.items()
    }
    logits = ("batch", backbone.codebooks, backbone.codebook_size)
    onnx_graphs.write_graph(step, inputs, {"logits": logits, **after}, folder / "decoder.onnx")
    conditions = dict.fromkeys(onnx_graphs.text_names(len(decoder.layers)), (2, step.heads, "text", step.width))
    tokens = torch.ones(1, TRACED["text"], dtype=torch.long), (1, "text")
    text = onnx_graphs.TextConditions(model, decoder)
    onnx_graphs.write_graph(text, {"tokens": tokens}, conditions, folder / "text.onnx")
    codec = onnx_graphs.codec_graph(model.audio_encoder, backbone.channels, frames)
    codes = torch.zeros(backbone.codebooks, 20, dtype=torch.long), (backbone.codebooks, "frames")
    onnx_graphs.write_graph(codec, {"codes": codes}, {"audio": (backbone.channels, "samples")}, folder / "codec.onnx")
    settings = {
        "rate_hz": backbone.rate_hz,
        "frame_rate_hz": backbone.frame_rate_hz,
        "most_frames": frames,
        "delays": list(backbone.delays),
        "special_token": backbone.special_token,
        "software": f"talim {__version__} (ONNX)",
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    # a tokenizer without a file of its own reads bytes, which generate.py does; `_difference` compares the tokens
    if (own := getattr(backbone.tokenizer, "backend_tokenizer", None)) is not None:
        own.save(str(folder / "tokenizer.json"))


def _difference(backbone: Any, folder: Path) -> tuple[float, float]:
    """The largest difference of logits, with a text and without, and the largest logit; TalimError beyond rounding."""
    from talim.exporting.onnx_generate import Music

    music, model = Music(folder), backbone.model
    text, steps = probe_inputs(backbone)
    if not np.array_equal(music.tokens(PROBE), text["input_ids"].numpy()):
        raise TalimError("--to onnx: the base's tokenizer cannot be written for generate.py; use --to folder")
    nothing = text | {"attention_mask": torch.zeros_like(text["attention_mask"])}
    expected = torch.stack([probe_logits(model, given, steps) for given in (text, nothing)])
    piece = music.begin(PROBE)
    found = np.stack([piece.step(steps[:, step].numpy()) for step in range(steps.shape[1])], axis=2)
    difference, largest = float(np.abs(expected.numpy() - found).max()), float(expected.abs().max())
    if not difference <= TOLERANCE * largest:
        raise TalimError(
            f"--to onnx: the graphs are not exact (logits differ by up to {difference:.2g}, of {largest:.2g}); use "
            "--to folder"
        )
    codes = np.random.default_rng(0).integers(0, model.config.decoder.vocab_size, (len(steps), PROBE_FRAMES))
    samples = backbone.decode(codes.astype(np.int16)).samples
    sound = music.sound(codes)
    if sound.shape != samples.shape or not np.abs(sound - samples).max() <= TOLERANCE * max(1.0, np.abs(samples).max()):
        raise TalimError("--to onnx: the graph of the codec gives another sound than the codec; use --to folder")
    return difference, largest


def _card(exported: ExportedRun, header: dict[str, Any], kept: str, audio: str) -> str:
    base, design = exported.info["base"]["name"], str(exported.recipe.design)
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n# {base} with `{design}`, for onnxruntime\n\n"
        f"{base} with the adapter `{design}` in float32. It needs neither talim nor torch:\n\n"
        "```sh\npip install onnxruntime numpy tokenizers\n"
        f"python {SCRIPT} {PROBE} --seconds 10 --out music.wav\n```\n\n"
        "With `pip install openvino` instead of onnxruntime, add `--runtime openvino`.\n\n"
        "- `text.onnx`: a prompt's tokens -> keys and values of each layer; the second row hears nothing\n"
        "- `decoder.onnx`: a step; its state is fed back, `present.X` of one step as `past.X` of the next\n"
        "- `codec.onnx`: codes -> sound\n"
        f"- `{SCRIPT}`: the delay pattern, guidance, sampling; `{SETTINGS}`: their numbers\n\n"
        f"{contents.spelling_note(exported, SCRIPT)}{audio}{kept}"
    )
