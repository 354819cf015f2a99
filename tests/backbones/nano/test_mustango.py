"""Saving and loading nano-mustango, and its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import tiny_nano_mustango
from safetensors.torch import load_file, save_file

from talim.atomic_io import read_json, write_json
from talim.audio import Audio
from talim.backbones.load import load
from talim.backbones.nano import mustango
from talim.beats_chords import BeatGrid, BeatsAndChords, ChordTrack
from talim.errors import TalimError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_nano_mustango.write(tmp_path_factory.mktemp("nano") / "tiny-mustango")


def test_load_restores_the_saved_model(folder: Path) -> None:
    torch.manual_seed(0)
    model = tiny_nano_mustango.SHAPE.model()
    loaded = load(folder, "fp32")
    assert (loaded.family, loaded.miniature, loaded.rate_hz) == ("mustango", True, 16000)
    assert loaded.window_seconds == mustango.WINDOW_SECONDS
    loaded_weights = loaded.model.state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(loaded_weights[name], weight.to(torch.bfloat16).float(), rtol=0, atol=0, msg=name)
    assert loaded_weights["text_encoder.encoder.embed_tokens.weight"].data_ptr() == (
        loaded_weights["text_encoder.shared.weight"].data_ptr()
    )


def test_encode_maps_eight_frames_by_eight_bands_to_one_position(folder: Path) -> None:
    base = load(folder)
    rng = np.random.default_rng(0)
    latents = base.encode(Audio(rng.normal(0, 0.1, (1, 16000)).astype(np.float32), 16000))
    assert latents.shape == (4, 7, 8)  # 6.25 a second
    assert base.frame_rate_hz == 6.25
    assert base.decode(latents).samples.shape == (1, 7 * 8 * 320)


def test_generate_depends_on_text_beats_and_chords(folder: Path) -> None:
    base = load(folder)
    music = BeatsAndChords(BeatGrid.parse("120 bpm", 1.0), ChordTrack.parse("Am@0 G@0.5"))
    options = {"sampling_steps": 2, "sampler": "dpm++"}
    [plain] = base.generate(["solo flute"], 1.0, seed=1, **options)
    [steered] = base.generate(["solo flute"], 1.0, seed=1, beats_chords=[music], **options)
    [again] = base.generate(["solo flute"], 1.0, seed=1, beats_chords=[music], **options)
    assert plain.samples.shape == (1, 16000)
    assert np.array_equal(steered.samples, again.samples)
    assert not np.allclose(steered.samples, plain.samples)


def test_load_missing_weight_raises_talim_error(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / mustango.WEIGHTS)
    weights.pop("model.unet.conv_in.weight")
    save_file(weights, tmp_path / mustango.WEIGHTS)
    write_json(tmp_path / "config.json", read_json(folder / "config.json"))
    with pytest.raises(TalimError, match=r"model\.safetensors lacks 1 weight \(unet\.conv_in\.weight\)"):
        load(tmp_path)


def test_load_unknown_configuration_key_raises_talim_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / mustango.WEIGHTS).write_bytes((folder / mustango.WEIGHTS).read_bytes())
    write_json(tmp_path / "config.json", {**read_json(folder / "config.json"), "colour": "red"})
    with pytest.raises(TalimError, match="colour"):
        load(tmp_path)
