"""Loading base models: released layout, dtypes, fingerprints, licences, one-line errors."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import released_musicgen, released_mustango
from safetensors.torch import load_file, save_file
from stand_in_hub import checkpoints
from stand_in_hub.server import StandInHub

from talim.backbones import registry
from talim.backbones.load import base_reader, load
from talim.backbones.musicgen.backbone import MusicGen
from talim.errors import TalimError, UsageError


def refuse(*_: object, **__: object) -> None:
    raise OSError("Name or service not known")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released_musicgen.write(tmp_path / "tiny")


def spoil(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_load_released_layout_reads_every_weight(shared: MusicGen, released_folder: Path) -> None:
    stored = load_file(released_folder / "model.safetensors")
    assert any(key.endswith("weight_g") for key in stored)
    convolution = shared.model.audio_encoder.encoder.layers[0].conv.parametrizations.weight
    assert torch.equal(convolution.original0, stored["audio_encoder.encoder.layers.0.conv.weight_g"])
    assert torch.equal(convolution.original1, stored["audio_encoder.encoder.layers.0.conv.weight_v"])
    positions = shared.model.decoder.model.decoder.embed_positions.weights
    assert positions.abs().max() <= 1.0  # sinusoids, not the 7s of the file
    heads = shared.model.decoder.lm_heads
    assert torch.equal(heads[-1].weight, stored[f"decoder.lm_heads.{len(heads) - 1}.weight"])


def test_loaded_backbone_has_the_facts_of_its_folder(shared: MusicGen, released_folder: Path) -> None:
    channels = 2 if "stereo" in released_folder.name else 1
    assert shared.name == released_folder.name
    assert shared.family == "musicgen"
    assert (shared.rate_hz, shared.channels, shared.codebooks) == (800, channels, 4 * channels)
    assert (shared.frame_rate_hz, shared.window_seconds) == (50, 0.5)
    assert shared.dtype is torch.float32
    assert not shared.miniature
    assert shared.num_parameters == sum(p.numel() for p in shared.model.decoder.parameters())
    assert not any(weight.requires_grad for weight in shared.model.parameters())


def test_window_seconds_is_30_by_default(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["talim_window_seconds"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load(folder, device="cpu").window_seconds == 30.0
    config["decoder"]["talim_window_seconds"] = 20.0
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load(folder, device="cpu").window_seconds == 20.0


def test_load_in_bf16_keeps_codec_and_text_encoder_in_float32(shared: MusicGen, released_folder: Path) -> None:
    half = load(released_folder, precision="bf16", device="cpu")
    assert half.dtype is torch.bfloat16
    assert {w.dtype for w in half.model.decoder.state_dict().values()} == {torch.bfloat16}
    for part in ("audio_encoder", "text_encoder"):
        actual, expected = getattr(half.model, part).state_dict(), getattr(shared.model, part).state_dict()
        for key, value in expected.items():
            assert torch.equal(actual[key], value), key
    assert np.array_equal(half.encode_text(["tabla"])[0], shared.encode_text(["tabla"])[0])
    assert (half.codec_hash, half.text_encoder_hash) == (shared.codec_hash, shared.text_encoder_hash)


def test_load_other_model_type_raises_talim_error(folder: Path, tmp_path: Path) -> None:
    spoil(folder, model_type="t5")
    with pytest.raises(TalimError, match="is a model of the type t5; expected MusicGen"):
        load(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(TalimError, match="cannot be read"):
        load(folder)
    with pytest.raises(TalimError, match=r"without config\.json"):
        load(tmp_path)


def test_load_incomplete_weights_raises_talim_error(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["decoder.lm_heads.2.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TalimError, match=r"lacks 1 weight \(decoder\.lm_heads\.2\.weight"):
        load(folder)
    weights["decoder.lm_heads.2.weight"] = torch.zeros(32, 16)
    weights["decoder.stranger.weight"] = torch.zeros(2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TalimError, match=r"unknown 1 weight \(decoder\.stranger"):
        load(folder)
    (folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(TalimError, match="cannot be read"):
        load(folder)


def test_load_codec_with_too_few_codebooks_raises_talim_error(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["audio_encoder"]["target_bandwidths"] = [0.5]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TalimError, match="codebooks per channel"):
        load(folder)


def test_load_with_fp16_or_missing_gpu_raises(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="fp16 is not supported"):
        load(folder, precision="fp16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TalimError, match="finds no GPU"):
        load(folder, device="cuda")


def test_registry_has_download_sizes() -> None:
    assert all(model.download_gb > 1 for model in registry.MODELS.values() if model.shape)


def test_load_nano_folder_registers_codec_and_byte_tokenizer(tmp_path: Path) -> None:
    from research.pretraining import nano_models
    from talim.backbones.nano import codec

    small = codec.NanoCodec(codec.NanoCodecConfig(width=16, encoder_blocks=1, decoder_blocks=1))
    built = nano_models.build_nano_musicgen(
        0, codec=small, width=32, layers=2, heads=2, ffn=128, text_width=16, text_layers=1
    )
    built.to(torch.bfloat16).save_pretrained(tmp_path / "nano-x")
    for word in ("fp32", "bf16"):
        base = load(tmp_path / "nano-x", precision=word, device="cpu")
        assert base.miniature
        assert (base.rate_hz, base.frame_rate_hz, base.codebooks) == (16000, 50, 4)
        assert {w.dtype for w in base.model.audio_encoder.state_dict().values()} == {torch.float32}
        assert base.encode_text(["राग"])[0].shape == (len("raga") + 1, 16)
        base.transliterate = False
        assert base.encode_text(["राग"])[0].shape == (len("राग".encode()) + 1, 16)
        assert base.generate(["x"], 0.2, seed=0)[0].samples.shape == (1, 3200)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_load_never_runs_or_asks_to_run_code_of_a_model_folder(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder, target = tmp_path / "base", tmp_path / "made-by-the-code"
    shutil.copytree(tiny_base, folder)
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(target)!r})\nclass Evil: pass\n")
    values = json.loads((folder / file).read_text())
    values |= {"model_type": "evil", "tokenizer_class": "Evil"}
    values["auto_map"] = {"AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    (folder / file).write_text(json.dumps(values))
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question="": asked.append(question) or "y")
    with contextlib.suppress(TalimError):
        load(folder, device="cpu")
    assert asked == []
    assert not target.exists()


@pytest.mark.parametrize("shards", [1, 3])
def test_load_of_pickled_weights_from_the_hub_asks_for_no_conversion(
    stand_in_hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    folder = checkpoints.write_safetensors(tmp_path / "musicgen-tiny")
    expected = load(folder, precision="fp32", device="cpu")
    converted = stand_in_hub.publish("someone/tiny", folder, branch="conversion")
    checkpoints.as_pickle(folder, shards)
    stand_in_hub.publish("someone/tiny", folder, pull_request=converted)
    base = load("someone/tiny", precision="fp32", device="cpu")
    assert base.fingerprint == expected.fingerprint
    assert not [path for _, path in stand_in_hub.requests if "discussions" in path or "refs" in path]
    assert not [thread for thread in threading.enumerate() if "conversion" in thread.name]
    assert len([name for name in stand_in_hub.fetched() if name.endswith(".bin")]) == shards


def test_load_of_a_stereo_base_from_the_hub_is_in_fp32(stand_in_hub: StandInHub, tmp_path: Path) -> None:
    stand_in_hub.publish("someone/stereo", checkpoints.write_safetensors(tmp_path / "tiny", channels=2))
    base = load("someone/stereo", precision="fp32", device="cpu")
    assert (base.channels, base.codebooks, base.dtype) == (2, 8, torch.float32)
    assert {weight.dtype for weight in base.model.parameters()} == {torch.float32}


def test_load_mustango_from_the_hub_fetches_the_predictors_later(stand_in_hub: StandInHub, tmp_path: Path) -> None:
    folder = released_mustango.write(tmp_path / "mustango", predictors=True)
    stand_in_hub.publish("someone/mustango", folder)
    base = load("someone/mustango", precision="fp32", device="cpu")
    assert (base.family, base.licence) == ("mustango", "apache-2.0")
    assert "ldm/pytorch_model_ldm.bin" in stand_in_hub.fetched()
    assert not [name for name in stand_in_hub.fetched() if name.startswith(("beats", "chords"))]
    from talim.backbones import resolve

    complete = resolve.with_predictors(resolve.fetched(resolve.resolve_source("someone/mustango")))
    assert (complete / "chords" / "flan-t5-large.bin").is_file()
    assert complete.name == base.revision


def test_base_reader_needs_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"never read")
    reader = base_reader(str(folder))
    assert reader.name == folder.name
    assert reader.unreadable_words("café rāga 静") == ["rāga", "静"]
    assert reader.max_tokens is None
    for name in ("nano-musicgen", "nano-mustango"):
        assert base_reader(name).unreadable_words("café raga") == ["café"]
        assert base_reader(name).max_tokens == 255
