"""CLAP's audio and text embeddings, with tiny random weights in the released layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.tiny_clap import save_clap

from talim.audio import Audio
from talim.errors import TalimError
from talim.metrics import clap


def save_tokenizer(folder: Path) -> None:
    """The tokenizer's files as CLAP's release has them: bytes, no merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = {word: n for n, word in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    (folder / "vocab.json").write_text(json.dumps(letters))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "RobertaTokenizer", "model_max_length": 77})
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    place = tmp_path_factory.mktemp("clap")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_clap(place)
    save_tokenizer(place)
    return place


def test_clap_audio_and_text_are_unit_vectors_of_one_space(place: Path) -> None:
    words = clap.load_clap_if_available(place)
    assert isinstance(words, clap.ClapModel)
    one, other = words.embed_text("a sitar"), words.embed_text("drums, fast")
    assert one.shape == other.shape == (words.audio_embedding.dims,)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert np.abs(one - other).max() > 1e-4
    assert np.array_equal(one, words.embed_text("a sitar"))
    assert np.isfinite(words.embed_text("long " * 500)).all()
    noise = np.random.default_rng(0).standard_normal((1, 48000)).astype(np.float32)
    assert words.audio_embedding(Audio(0.1 * noise, 48000)).shape == (1, words.audio_embedding.dims)


def test_load_clap_if_available_without_weights_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clap, "_cached_path", lambda: None)
    found = clap.load_clap_if_available()
    assert isinstance(found, str)
    assert "not available" in found


def test_load_clap_if_available_of_partial_download_raises_or_gives_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(clap, "_cached_path", lambda: tmp_path)
    assert "only part of" in str(clap.load_clap_if_available())
    with pytest.raises(TalimError) as told:
        clap.load_clap_if_available(tmp_path)
    assert "\n" not in str(told.value)
    with pytest.raises(TalimError, match="not found"):
        clap.load_clap_if_available(tmp_path / "nowhere")


def test_load_clap_if_available_without_tokenizer_raises(tmp_path: Path, place: Path) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((place / name).read_bytes())
    with pytest.raises(TalimError, match="CLAP's tokenizer is missing"):
        clap.load_clap_if_available(tmp_path)
