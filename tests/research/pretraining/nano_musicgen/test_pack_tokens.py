"""Packed token files: lossless, and each clip determined by its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from research.pretraining.nano_musicgen import pack_tokens
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig


def test_unpack_inverts_pack_at_ten_bits_per_code() -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (3, 4, 60)).astype(np.int16)
    packed = pack_tokens.pack(codes)
    assert packed.nbytes * 8 == codes.size * 10
    assert np.array_equal(pack_tokens.unpack(packed, codes.shape), codes)


def test_read_inverts_write(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 1024, (2, 4, 60)).astype(np.int16)
    shard = pack_tokens.Shard(codes, ["bir söz", ""], np.array([[0.5, 2.0], [0, 0]], np.float32))
    pack_tokens.write(tmp_path / "tokens-0.npz", shard)
    stored = pack_tokens.read(tmp_path / "tokens-0.npz")
    assert np.array_equal(stored.codes, codes)
    assert stored.captions == shard.captions
    assert np.array_equal(stored.metre, shard.metre)
    assert [file.name for file in tmp_path.iterdir()] == ["tokens-0.npz"]


def test_perform_clip_depends_on_its_number_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_tokens, "SECONDS", 1.0)
    clips = [pack_tokens.perform_clip(n) for n in range(12)]
    again = [pack_tokens.perform_clip(n) for n in reversed(range(12))][::-1]
    assert all(np.array_equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(clips, again, strict=True))
    western = [beat > 0 for _, _, (beat, _) in clips]
    assert 0 < sum(western) < 12
    assert all(("bpm" in caption) for is_western, (_, caption, _) in zip(western, clips, strict=True) if is_western)


def test_main_divides_the_files_among_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_tokens, "SECONDS", 1.0)
    monkeypatch.setattr(pack_tokens, "FRAMES", 48)
    monkeypatch.setattr(pack_tokens, "CLIPS_PER_FILE", 2)
    torch.manual_seed(0)
    NanoCodec(NanoCodecConfig(width=16, encoder_blocks=1, decoder_blocks=1)).save_pretrained(tmp_path / "codec")
    arguments = ["--codec", str(tmp_path / "codec"), "--out", str(tmp_path / "out"), "--clips", "6", "--stride", "2"]
    monkeypatch.setattr("sys.argv", ["pack_tokens", *arguments, "--offset", "1"])
    pack_tokens.main()
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "tokens-00000002.npz"
    assert pack_tokens.read(file).codes.shape == (2, 4, 48)
