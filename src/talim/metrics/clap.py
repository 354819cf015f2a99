"""CLAP's two sides: sound and words as unit vectors of one space, for who has the weights.

Nothing is downloaded here: the weights are a folder in the released layout, or what the hub's cache already holds of
the pinned revision.
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
MAX_TOKENS = 77  # as CLAP was trained


@dataclass(frozen=True)
class ClapModel:
    """CLAP in memory: `sound`, an embedding of clips, and its words' side."""

    sound: EmbeddingExtractor
    model: Any
    tokenizer: Any

    def of_text(self, text: str) -> np.ndarray:
        """The unit vector of a text, float32 [dims]; what is longer than 77 tokens is cut."""
        import torch

        inputs = self.tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            found = self.model.get_text_features(**inputs)
        vector = getattr(found, "pooler_output", found)[0]
        return (vector / vector.norm()).float().numpy()


def load_clap_if_available(place: Path | None = None) -> ClapModel | str:
    """CLAP from `place`, else from the hub's cache; without a place and a cache, why it cannot be had, in words.

    TalimError, in one line, for a place that holds no CLAP.
    """
    found = place or _cached_path()
    if found is None:
        return "CLAP's weights are not at hand; give the folder of a download"
    try:
        return _load_clap(found)
    except TalimError:
        if place is not None:
            raise
        return f"the hub's cache holds {MODELS['clap'].source} in part only; download it again"


def _cached_path() -> Path | None:
    """The folder of the pinned revision in the hub's cache, if it was ever downloaded."""
    from huggingface_hub import try_to_load_from_cache

    model = MODELS["clap"]
    found = try_to_load_from_cache(model.source, "config.json", revision=model.revision)
    return Path(found).parent if isinstance(found, str) else None


def _load_clap(place: Path) -> ClapModel:
    import transformers

    sound = embeddings.load("clap", place)
    if not any(
        (place / name).is_file() for name in TOKENIZER_FILES
    ):  # transformers would make an empty tokenizer of nothing
        raise TalimError(
            f"{place}: no words of CLAP there; expected {' or '.join(TOKENIZER_FILES)} beside its weights"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=True)
        model = transformers.ClapModel.from_pretrained(place, local_files_only=True).eval()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise TalimError(
            f"{place}: CLAP's words cannot be loaded ({reason}); expected the files of {MODELS['clap'].source}"
        ) from error
    return ClapModel(sound, model, tokenizer)
