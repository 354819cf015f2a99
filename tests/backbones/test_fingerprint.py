"""Fingerprints of loaded base models: independent of dtype and path, sensitive to every weight."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fixtures import released_musicgen
from safetensors.torch import load_file, save_file

from talim.backbones import fingerprint
from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return released_musicgen.write(tmp_path / "tiny")


def test_fingerprint_does_not_depend_on_the_dtype(shared: MusicGen, released_folder: Path) -> None:
    assert load(released_folder, precision="bf16", device="cpu").fingerprint == shared.fingerprint


def test_fingerprint_changes_with_any_weight(folder: Path) -> None:
    before = load(folder, device="cpu")
    for key in ("decoder.model.decoder.layers.1.fc2.weight", "text_encoder.encoder.final_layer_norm.weight"):
        weights = load_file(folder / "model.safetensors")
        weights[key] += 0.05
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        after = load(folder, device="cpu")
        assert after.fingerprint != before.fingerprint
        assert (after.text_encoder_hash == before.text_encoder_hash) == (not key.startswith("text"))
        assert after.codec_hash == before.codec_hash
        before = after


def test_codec_hash_is_not_that_of_tokens_that_gpus_made_in_tf32(shared: MusicGen) -> None:
    facts = {"rate_hz": shared.rate_hz, "channels": shared.channels, "codebooks": shared.codebooks}
    hashes = [
        fingerprint.hash_weights(shared.model.audio_encoder, facts | more, exact=True)
        for more in ({}, {"arithmetic": "float32 in whole"})
    ]
    assert hashes[0] != hashes[1] == shared.codec_hash


def test_fingerprint_of_a_copied_folder_is_the_same(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "other-name")
    assert load(copy, device="cpu").fingerprint == load(folder, device="cpu").fingerprint
    assert load(copy, device="cpu").name == "other-name"
