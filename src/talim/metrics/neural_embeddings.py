"""Learned embeddings, for who has their weights: VGGish, PANNs, CLAP, MERT, CultureMERT, EnCodec.

Each is pinned to a revision or a hash, runs at its own rate on the window it was trained with, and is loaded only
when asked for. None is needed: where a package or the weights are missing, one line says what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talim.errors import TalimError

EmbedFunction = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EmbeddingModelSpec:
    """Where a model comes from and what it takes: `source` at `revision`, `rate_hz`, `window_seconds`."""

    source: str
    revision: str
    rate_hz: int
    window_seconds: float
    licence: str
    start: Callable[
        [str, str | None, str], tuple[int, EmbedFunction]
    ]  # place, revision, device -> dims, describe
    reach_seconds: float = 0.0


@dataclass(frozen=True)
class LoadedEmbeddingModel:
    """A model in memory: its identity, the length of its vectors, and itself."""

    identity: str
    dims: int
    describe: EmbedFunction


def load(name: str, place: Path | None, device: str) -> LoadedEmbeddingModel:
    """Load `MODELS[name]` from its pinned revision, or from `place`. TalimError in one line where it cannot be."""
    model = MODELS[name]
    if place is not None and not place.exists():
        raise TalimError(
            f"{place}: not found; expected the weights of {name} as {model.source} releases them"
        )
    if place is None and not model.revision:
        raise TalimError(
            f"{name}: no revision of {model.source} is pinned yet; download it and give its folder as the place"
        )
    try:
        dims, describe = model.start(str(place or model.source), None if place else model.revision, device)
    except ImportError as error:
        raise TalimError(f"{name} needs the package {error.name}: pip install {error.name}") from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        asked = str(place) if place else f"{model.source} ({model.revision[:12]})"
        raise TalimError(
            f"{name}: {asked} cannot be loaded ({reason}); go online once, or give the folder of a download"
        ) from error
    version = f"files-{_fingerprint(place)}" if place else model.revision
    return LoadedEmbeddingModel(f"{name}/{version}/{model.rate_hz}/{model.window_seconds}", dims, describe)


def _fingerprint(place: Path) -> str:
    """Hash of the files at `place`: another checkpoint is another embedding."""
    digest = hashlib.sha256()
    for file in sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]:
        digest.update(file.name.encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:16]


def _from_transformers(name: str, place: str, revision: str | None, **options: Any) -> Any:
    """A class of transformers, from the hub at a revision or from a folder; refuses weights that do not fit."""
    import transformers

    loader = getattr(transformers, name)
    if name.endswith("Extractor"):
        return loader.from_pretrained(place, revision=revision)
    model, report = loader.from_pretrained(place, revision=revision, output_loading_info=True, **options)
    missing = sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key)
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
    return model.eval()


def _run(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    import torch

    with torch.inference_mode():
        return function(*arguments, **named)


def start_clap(place: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """CLAP's audio side: the projected, unit-length vector of ten seconds."""
    model = _from_transformers("ClapModel", place, revision).to(device)
    extractor = _from_transformers("ClapFeatureExtractor", place, revision)
    # The extractor's own default makes the four views of the fusion models, which others cannot read.
    cut = "fusion" if model.config.audio_config.enable_fusion else "rand_trunc"

    def describe(samples: np.ndarray) -> np.ndarray:
        rate_hz = MODELS["clap"].rate_hz
        inputs = extractor(samples, sampling_rate=rate_hz, truncation=cut, return_tensors="pt").to(device)
        found = _run(model.get_audio_features, **inputs)
        vector = getattr(found, "pooler_output", found)[0]
        return (vector / vector.norm()).cpu().numpy()

    return int(model.config.projection_dim), describe


def start_mert(place: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """MERT's frames, mean over time and over all its layers. The release has HuBERT's layout, so no foreign code runs.

    (The 330M size adds a constant-Q branch and is refused for its missing weights.)
    """
    import torch

    model = _from_transformers("HubertModel", place, revision).to(device)
    extractor = _from_transformers("Wav2Vec2FeatureExtractor", place, revision)

    def describe(samples: np.ndarray) -> np.ndarray:
        inputs = extractor(samples, sampling_rate=MODELS["mert"].rate_hz, return_tensors="pt").to(device)
        layers = _run(model, inputs["input_values"], output_hidden_states=True).hidden_states
        return torch.stack([layer[0].mean(0) for layer in layers]).mean(0).cpu().numpy()

    return int(model.config.hidden_size), describe


def start_encodec(place: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """EnCodec's encoder before quantisation, mean over one second of frames."""
    import torch

    model = _from_transformers("EncodecModel", place, revision).to(device)

    def describe(samples: np.ndarray) -> np.ndarray:
        sound = torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None, None].to(device)
        return _run(model.encoder, sound)[0].mean(1).cpu().numpy()

    return int(model.config.hidden_size), describe


def start_vggish(place: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """VGGish's 128 numbers of 0.96 s, before the last rectifier, as the toolkits for FAD take them."""
    import torch

    from talim.metrics.vggish import Vggish, log_mel

    if revision is None:
        weights = torch.load(place, map_location="cpu", weights_only=True)
    else:
        weights = torch.hub.load_state_dict_from_url(place, check_hash=True, map_location="cpu")
    model = Vggish(weights["embeddings.0.weight"].shape[0])
    model.load_state_dict(weights)
    model = model.to(device).eval()

    def describe(samples: np.ndarray) -> np.ndarray:
        return _run(model, torch.from_numpy(log_mel(samples))[None, None].to(device))[0].cpu().numpy()

    return 128, describe


def start_panns(place: str, revision: str | None, device: str) -> tuple[int, EmbedFunction]:
    """PANNs Cnn14's 2048 numbers of ten seconds, through the package panns_inference and its own weights file."""
    from panns_inference import AudioTagging  # pyright: ignore[reportMissingImports]

    tagger = AudioTagging(checkpoint_path=place if revision is None else None, device=device)
    return 2048, lambda samples: np.asarray(tagger.inference(samples[None])[1][0])


MODELS: dict[str, EmbeddingModelSpec] = {
    "vggish": EmbeddingModelSpec(
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "sha256-10086976",
        16000,
        0.96,
        "Apache-2.0",
        start_vggish,
        reach_seconds=0.015,
    ),
    "panns": EmbeddingModelSpec(
        "Cnn14_mAP=0.431.pth", "zenodo-3987831", 32000, 10.0, "CC-BY-4.0", start_panns
    ),
    "clap": EmbeddingModelSpec(
        "laion/larger_clap_music",
        "a0b4534a14f58e20944452dff00a22a06ce629d1",
        48000,
        10.0,
        "Apache-2.0",
        start_clap,
    ),
    "mert": EmbeddingModelSpec(
        "m-a-p/MERT-v1-95M",
        "11578f29d5e7d7630ffa613f850abe1dbcd6141b",
        24000,
        5.0,
        "CC-BY-NC-4.0",
        start_mert,
    ),
    "culturemert": EmbeddingModelSpec("ntua-slp/CultureMERT-95M", "", 24000, 5.0, "CC-BY-NC-4.0", start_mert),
    "encodec": EmbeddingModelSpec(
        "facebook/encodec_24khz",
        "e5e900dde49c9faa32f4e3f6b07ea1894263b78a",
        24000,
        1.0,
        "MIT",
        start_encodec,
    ),
}
