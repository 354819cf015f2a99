"""CLAP: audio and text as unit vectors of one space, if its weights are available.

Nothing is downloaded here: the weights are a folder in the released layout, or the pinned revision in the Hugging Face
cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talim.errors import TalimError
from talim.metrics import embeddings
from talim.metrics.embeddings import EmbeddingExtractor
from talim.metrics.neural_embeddings import MODELS

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
MAX_TOKENS = 77  # as in CLAP's training


@dataclass(frozen=True)
class ClapModel:
    """A loaded CLAP: its audio embedding, the model and its text tokenizer."""

    audio_embedding: EmbeddingExtractor
    model: Any
    tokenizer: Any

    def embed_text(self, text: str) -> np.ndarray:
        """The unit vector of a text, float32 [dims]; text beyond 77 tokens is cut off."""
        import torch

        inputs = self.tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            features = self.model.get_text_features(**inputs)
        vector = getattr(features, "pooler_output", features)[0]
        return (vector / vector.norm()).float().numpy()


def load_clap_if_available(folder: Path | None = None) -> ClapModel | str:
    """CLAP from `folder`, else from the Hugging Face cache; without either, the reason in words.

    TalimError for a folder without a usable CLAP.
    """
    path = folder or _cached_path()
    if path is None:
        return "CLAP's weights are not available; give the folder of a download"
    try:
        return _load_clap(path)
    except TalimError:
        if folder is not None:
            raise
        return f"the Hugging Face cache holds only part of {MODELS['clap'].source}; download it again"


def _cached_path() -> Path | None:
    """Folder of the pinned revision in the Hugging Face cache, if it was downloaded."""
    from huggingface_hub import try_to_load_from_cache

    model = MODELS["clap"]
    config = try_to_load_from_cache(model.source, "config.json", revision=model.revision)
    return Path(config).parent if isinstance(config, str) else None


def _load_clap(folder: Path) -> ClapModel:
    import transformers

    audio_embedding = embeddings.load("clap", folder)
    # Without these files transformers would build an empty tokenizer.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise TalimError(
            f"{folder}: CLAP's tokenizer is missing; expected {' or '.join(TOKENIZER_FILES)} beside its weights"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = transformers.ClapModel.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise TalimError(
            f"{folder}: CLAP's text model cannot be loaded ({reason}); expected the files of {MODELS['clap'].source}"
        ) from error
    return ClapModel(audio_embedding, model, tokenizer)
