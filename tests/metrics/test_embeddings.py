"""One contract for all embeddings, shipped or learned; doubles stand in the released layouts."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.tiny_clap import save_clap

from talim.audio import Audio
from talim.errors import TalimError, UsageError
from talim.metrics import embeddings, pitch
from talim.metrics.cache import MetricCache
from talim.synthesis.performer import perform

DIMS = {"timbre": 80, "pitch": 85, "rhythm": 52, "clap": 16, "vggish": 128, "panns": 2048}


def save_vggish(folder: Path) -> None:
    import torch

    from talim.metrics.vggish import Vggish

    torch.save(Vggish(dense=16).state_dict(), folder / "vggish.pth")


class FakeTagger:
    """What panns_inference offers, with its call and its shapes."""

    def __init__(self, checkpoint_path: str | None = None, device: str = "cuda") -> None:
        assert device == "cpu"

    def inference(self, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert audio.shape == (1, 320000)
        return np.zeros((1, 527)), np.abs(np.fft.rfft(audio[0]))[None, 1000 : 1000 + 4 * 2048 : 4]


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder (or file) a neural embedding, saved with the released classes."""
    import torch

    places = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, save in (("clap", save_clap), ("vggish", save_vggish)):
            places[name] = tmp_path_factory.mktemp(name)
            save(places[name])
    places["vggish"] = places["vggish"] / "vggish.pth"
    return places


@pytest.fixture(scope="module")
def clip() -> Audio:
    return Audio(perform(5, "demo", 2.5).samples, 16000)


def open_embedding(name: str, doubles: dict[str, Path], patch: pytest.MonkeyPatch) -> embeddings.EmbeddingExtractor:
    package: Any = types.ModuleType("panns_inference")
    package.AudioTagging = FakeTagger
    patch.setitem(sys.modules, "panns_inference", package)
    return embeddings.load(name, doubles.get(name))


@pytest.mark.parametrize("name", embeddings.embedding_names())
def test_embedding_contract(
    name: str, doubles: dict[str, Path], clip: Audio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shape, type, determinism, own rate and mix-down, windows, cache, and difference between sounds."""
    embedding = open_embedding(name, doubles, monkeypatch)
    rows = embedding(clip)
    expected = 1
    if embedding.window_seconds is not None:
        expected = max(1, int(2.5 / embedding.window_seconds + 0.5))
    assert rows.dtype == np.float32
    assert rows.shape == (expected, embedding.dims) == (expected, DIMS[name])
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows, embedding(clip))
    stereo = Audio(np.stack([clip.samples[0]] * 2), 16000).resample(44100)
    there = np.linalg.norm(embedding(stereo) - rows)
    noise = Audio(0.1 * np.random.default_rng(0).standard_normal(40000), 16000)
    assert there < 0.5 * np.linalg.norm(embedding(noise) - rows)
    cache = MetricCache(tmp_path)
    once = embeddings.embed([clip, noise], embedding, cache)
    calls = []
    recalled = embeddings.embed(
        [clip, noise], embeddings.EmbeddingExtractor(**{**vars(embedding), "embed_window": calls.append}), cache
    )
    np.testing.assert_array_equal(once, recalled)
    assert once.shape == (2, embedding.dims)
    with pytest.raises(ValueError, match="0 samples"):
        embedding(Audio(np.zeros((1, 0)), 16000))
    assert np.isfinite(embedding(Audio(np.zeros(16000), 16000))).all()


def test_embed_pitch_reuses_the_cached_pitch_track(
    clip: Audio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, embedding = MetricCache(tmp_path), embeddings.load("pitch")
    pitch.track_pitch_cached(clip, cache)
    alone = embedding(clip)
    monkeypatch.setattr(pitch, "track_pitch", None)
    np.testing.assert_array_equal(embeddings.embed([clip], embedding, cache), alone)


def test_load_of_another_checkpoint_has_another_identity(tmp_path: Path, doubles: dict[str, Path]) -> None:
    save_clap(tmp_path)  # other random weights
    assert embeddings.load("clap", tmp_path).identity != embeddings.load("clap", doubles["clap"]).identity


@pytest.mark.parametrize(("name", "words"), [("panns", "pip install panns_inference"), ("clap", "go online once")])
def test_load_of_missing_package_or_weights_raises_one_line(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "panns_inference", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TalimError, match=words) as caught:
        embeddings.load(name)
    assert "\n" not in str(caught.value)


def test_load_of_unknown_name_or_path_raises() -> None:
    with pytest.raises(UsageError, match="timbre, pitch, rhythm, vggish"):
        embeddings.load("openl3")
    with pytest.raises(TalimError, match="not found"):
        embeddings.load("clap", "no-such-folder")


def test_typical_spread_is_positive_in_every_dimension() -> None:
    for name in embeddings.SHIPPED:
        spread = embeddings.typical_spread(name)
        assert spread.shape == (embeddings.load(name).dims,)
        assert spread.min() > 0
