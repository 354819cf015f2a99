"""Learned embeddings, whose weights are not shipped: VGGish, PANNs and CLAP.

Each is pinned to a revision or a hash, runs at its own sample rate on the window it was trained with, and is loaded
only on request. If a package or the weights are missing, one line says what to do.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talim.errors import TalimError
from talim.html.formatting import format_counted

VGGISH_URL = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"
EmbedFunction = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EmbeddingModelSpec:
    """Origin and input of a model: `source` at `revision`, `rate_hz`, `window_seconds`."""

    source: str
    revision: str
    rate_hz: int
    window_seconds: float
    licence: str
    loader: Callable[[str, str | None, str], tuple[int, EmbedFunction]]  # source, revision, device -> dims, embed
    context_seconds: float = 0.0  # read beyond the end of a window


@dataclass(frozen=True)
class LoadedEmbeddingModel:
    """A loaded model: its identity, the length of its vectors, and its function of one window."""

    identity: str
    dims: int
    embed_window: EmbedFunction


def load(name: str, path: Path | None, device: str) -> LoadedEmbeddingModel:
    """Load `MODELS[name]` from its pinned revision, or from `path`. TalimError, in one line, if that fails."""
    model = MODELS[name]
    if path is not None and not path.exists():
        raise TalimError(f"{path}: not found; expected the weights of {name} as released at {model.source}")
    try:
        dims, embed_window = model.loader(str(path or model.source), None if path else model.revision, device)
    except ImportError as error:
        raise TalimError(f"{name} needs the package {error.name}: pip install {error.name}") from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        origin = str(path) if path else f"{model.source} ({model.revision[:12]})"
        raise TalimError(
            f"{name}: {origin} cannot be loaded ({reason}); go online once, or give the folder of a download"
        ) from error
    version = f"files-{_fingerprint(path)}" if path else model.revision
    return LoadedEmbeddingModel(f"{name}/{version}/{model.rate_hz}/{model.window_seconds}", dims, embed_window)


def _fingerprint(path: Path) -> str:
    """Hash of the files at `path`: another checkpoint is another embedding."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(file.name.encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:16]


def _from_transformers(name: str, source: str, revision: str | None, **options: Any) -> Any:
    """An object of transformers from the Hub at a revision, or from a folder; ValueError for missing weights."""
    import transformers

    # else a thread fetches .bin weights a second time, in another format, and the process waits for it
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    loader = getattr(transformers, name)
    if name.endswith("Extractor"):
        return loader.from_pretrained(source, revision=revision)
    model, report = loader.from_pretrained(source, revision=revision, output_loading_info=True, **options)
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{format_counted(len(missing), 'weight')} missing, such as {missing[0]}")
    return model.eval()


def load_clap(source: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """CLAP's audio encoder: the projected unit vector of ten seconds."""
    import torch

    model = _from_transformers("ClapModel", source, revision).to(device)
    extractor = _from_transformers("ClapFeatureExtractor", source, revision)
    # The extractor's own default makes the four views of the fusion models, which other models cannot read.
    truncation = "fusion" if model.config.audio_config.enable_fusion else "rand_trunc"
    options = {"sampling_rate": MODELS["clap"].rate_hz, "truncation": truncation, "return_tensors": "pt"}

    def embed_window(samples: np.ndarray) -> np.ndarray:
        inputs = extractor(samples, **options).to(device)
        with torch.inference_mode():
            features = model.get_audio_features(**inputs)
        vector = getattr(features, "pooler_output", features)[0]
        return (vector / vector.norm()).cpu().numpy()

    return int(model.config.projection_dim), embed_window


def load_vggish(source: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """VGGish's 128 activations of 0.96 s, before the last ReLU, as FAD toolkits use them."""
    import torch

    from talim.metrics.vggish import Vggish, log_mel

    if revision is None:
        weights = torch.load(source, map_location="cpu", weights_only=True)
    else:
        weights = torch.hub.load_state_dict_from_url(source, check_hash=True, map_location="cpu")
    model = Vggish(weights["embeddings.0.weight"].shape[0])
    model.load_state_dict(weights)
    model = model.to(device).eval()

    def embed_window(samples: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(log_mel(samples))[None, None].to(device))[0].cpu().numpy()

    return 128, embed_window


def load_panns(source: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """PANNs Cnn14's 2048 activations of ten seconds, through the package panns_inference and its own weights file."""
    from panns_inference import AudioTagging  # pyright: ignore[reportMissingImports]

    tagger = AudioTagging(checkpoint_path=source if revision is None else None, device=device)
    return 2048, lambda samples: np.asarray(tagger.inference(samples[None])[1][0])


MODELS: dict[str, EmbeddingModelSpec] = {
    "vggish": EmbeddingModelSpec(
        VGGISH_URL, "sha256-10086976", 16000, 0.96, "Apache-2.0", load_vggish, context_seconds=0.015
    ),
    "panns": EmbeddingModelSpec("Cnn14_mAP=0.431.pth", "zenodo-3987831", 32000, 10.0, "CC-BY-4.0", load_panns),
    "clap": EmbeddingModelSpec(
        "laion/larger_clap_music", "a0b4534a14f58e20944452dff00a22a06ce629d1", 48000, 10.0, "Apache-2.0", load_clap
    ),
}
