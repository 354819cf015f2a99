"""Cache of the activations that leave the frozen layers below the first trained site, which training never changes.

They are stored with the corpus's features, for all trials on the same base with as many frozen layers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from talim.backbones.protocol import Batch, CachedBatch
from talim.corpus.feature_cache import FeatureCache
from talim.design import site_selection
from talim.html.formatting import GB, format_bytes, format_counted
from talim.progress import Progress

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.corpus.manifest import Corpus
    from talim.recipe import Recipe
    from talim.training.crops import Crop

    Crops = Sequence[Crop]

FOLDER = "frozen"  # in the corpus's features
MIN_FROZEN_FRACTION = 0.25  # of the layers, for `auto`: below it less than a seventh of a step's time is saved
PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
MAX_RELATIVE_ERROR = {"bf16": 0.1, "fp16": 0.1, "fp32": 1e-3}  # that other hardware or torch versions explain
COUNTERS = {  # in the checkpoint, and their names in cost.json
    "frozen_cache_seconds": "compute_seconds",
    "frozen_cache_computed": "entries_computed",
    "frozen_cache_read": "entries_read",
    "frozen_cache_without_room": "entries_without_room",
}


class FrozenLayerCache:
    """Activations [S, D] after the first `layers` layers for any crop of a clip, read from a store or computed.

    They are kept in the base's own precision, so nothing is lost.
    """

    def __init__(self, backbone: Backbone, layers: int, store: FeatureCache, progress: Progress | None = None) -> None:
        self.backbone, self.layers, self.store = backbone, layers, store
        self.progress = progress or Progress()
        self.precision = PRECISIONS[backbone.dtype]
        self.counts = dict.fromkeys(COUNTERS, 0.0)
        self._written_keys: set[str] = set()  # by this process
        self._store_verified: bool | None = None  # whether others' entries match this base; None: not checked

    def attach_hidden(self, batch: Batch, crops: Sequence[Crop], drop: Sequence[bool]) -> CachedBatch:
        """The batch that the backbone made of these crops, with their activations, zero-padded."""
        rows = [self.hidden(crop, dropped) for crop, dropped in zip(crops, drop, strict=True)]
        hidden = rows[0].new_zeros(len(rows), max(len(row) for row in rows), rows[0].shape[1])
        for padded, row in zip(hidden, rows, strict=True):
            padded[: len(row)] = row
        return CachedBatch(**vars(batch), hidden=hidden, layers=self.layers)

    def hidden(self, crop: Crop, dropped: bool) -> Tensor:
        """The activations of one crop, [S, D] on the CPU, with its caption or (`dropped`) the null condition."""
        fields = self._fields(crop, dropped)
        key = self.store.key(**fields)
        stored = self._stored(key, crop, dropped)
        if stored is not None:
            self.counts["frozen_cache_read"] += 1
            return stored
        start = time.perf_counter()
        computed = self._compute(crop, dropped)
        if self.store.put_if_room(key, {"hidden": _as_numpy(computed)}, fields):
            self._written_keys.add(key)
        else:
            self.counts["frozen_cache_without_room"] += 1
        self.counts["frozen_cache_computed"] += 1
        self.counts["frozen_cache_seconds"] += time.perf_counter() - start
        return computed

    def keys(self, crop: Crop, condition_dropout: float) -> list[str]:
        """Keys of the entries that training may need: with the caption, with the null condition, or both."""
        needed = [False] * (condition_dropout < 1) + [True] * (condition_dropout > 0)
        return list(dict.fromkeys(self.store.key(**self._fields(crop, dropped)) for dropped in needed))

    def entry_bytes(self, crop: Crop) -> int:
        """The size of one crop's activations."""
        steps, width = self._shape(crop)
        return steps * width * self.backbone.dtype.itemsize

    def seconds_to_fill(self, crops: Sequence[Crop], condition_dropout: float) -> float:
        """Estimated seconds to compute the missing entries, from those computed until now; 0 if none was."""
        keys = [key for crop in crops for key in self.keys(crop, condition_dropout)]
        missing = sum(not self.store.path(key).is_file() for key in keys)
        return missing * self.counts["frozen_cache_seconds"] / max(self.counts["frozen_cache_computed"], 1)

    def _fields(self, crop: Crop, dropped: bool) -> dict[str, Any]:
        """Everything that the activations depend on; with the null condition that excludes the caption."""
        clip = crop.item.clip
        fields = {
            "kind": "frozen",
            "base": self.backbone.fingerprint,
            "layers": self.layers,
            "precision": self.precision,
            "audio": clip.audio_hash,
            "codec": self.backbone.codec_hash,
            "seconds": round(float(clip.seconds), 6),
            "start_frame": crop.start,
            "frames": crop.frames,
        }
        prompt = self.backbone.read_as(clip.caption)
        text = {"condition": "text", "prompt": prompt, "text": self.backbone.text_encoder_hash}
        if crop.item.melody is not None:
            text["melody"] = hashlib.sha256(crop.item.melody.classes.tobytes()).hexdigest()
        null = {"condition": "null"} | ({"text_tokens": tokens} if (tokens := self._text_tokens(crop)) else {})
        empty = not prompt.strip() and crop.item.melody is None  # without a caption nothing can be dropped
        return fields | (null if dropped or empty else text)

    def _text_tokens(self, crop: Crop) -> int:
        """Tokens of a text that precedes the music; also a dropped one takes their place. Else 0."""
        return len(crop.item.states) if self.backbone.melody_rate_hz else 0

    def _shape(self, crop: Crop) -> tuple[int, int]:
        return self.backbone.frozen_activation_shape(crop.frames, self._text_tokens(crop))

    def _stored(self, key: str, crop: Crop, dropped: bool) -> Tensor | None:
        """The entry in the store, if valid; the first one of another process is compared with a recomputed one."""
        if self._store_verified is False and key not in self._written_keys:
            return None
        entry = self.store.get_valid(key)
        if entry is None or entry["hidden"].shape != self._shape(crop):
            return None
        stored = _as_tensor(entry["hidden"], self.backbone.dtype)
        if self._store_verified is None and key not in self._written_keys:
            self._store_verified = self._matches_recomputed(stored, crop, dropped)
            if not self._store_verified:
                self.progress.log(f"{self.store.folder}: its entries were made by other weights; they are recomputed")
                return None
        return stored

    def _matches_recomputed(self, stored: Tensor, crop: Crop, dropped: bool) -> bool:
        computed = self._compute(crop, dropped).float()
        distance = torch.linalg.vector_norm(stored.float() - computed) / torch.linalg.vector_norm(computed)
        return bool(distance < MAX_RELATIVE_ERROR[self.precision])

    def _compute(self, crop: Crop, dropped: bool) -> Tensor:
        """Computed for each crop alone, so that the result does not depend on its batch."""
        batch = self.backbone.collate([crop.content(self.backbone.frame_rate_hz)], [dropped])
        return self.backbone.frozen_activations(batch.to(self.backbone.device), self.layers)[0].cpu()


def make_frozen_cache(
    recipe: Recipe, corpus: Corpus, backbone: Backbone, progress: Progress, train: Crops = (), held_out: Crops = ()
) -> tuple[FrozenLayerCache | None, dict[str, Any]]:
    """The cache for training and evaluating on these crops, or None; and the decision as a dict for cost.json.

    The decision and the disk space that it needs are logged; without `train` crops only where the cache is used.
    """
    training, sites = recipe.training, backbone.sites()
    total = site_selection.num_layers(sites)
    frozen = site_selection.num_frozen_layers(recipe.design, sites)
    facts: dict[str, Any] = {"used": False, "frozen_layers": frozen, "total_layers": total}
    cropped = any(crop.frames < crop.item.full_length.frames for crop in train)
    if reason := _reason_not_cached(recipe, total, frozen, cropped):
        if train:
            progress.log(f"no time is saved by keeping on disk what layers put out (frozen-layer cache): {reason}")
        return None, facts | {"note": reason}
    store = FeatureCache(corpus.features / FOLDER, int(training.frozen_cache_gb * GB))
    cache = FrozenLayerCache(backbone, frozen, store, progress)
    entries = [(crop, training.condition_dropout) for crop in train] + [(crop, 0.0) for crop in held_out]
    with_melody = [crop for crop in (*train, *held_out) if crop.item.melody is not None]
    entries += [(crop.without_melody, 0.0) for crop in with_melody]  # trained without it, and evaluated
    planned_bytes, existing_bytes = _required_bytes(cache, entries)
    room_bytes = store.available_bytes()
    note = (
        f"{recipe.design} leaves the first {frozen} of {format_counted(total, 'layer')} unchanged, so what they put "
        f"out for a clip is computed once and kept in {store.folder}: up to {format_bytes(planned_bytes)}, of which "
        f"{format_bytes(existing_bytes)} are there"
    )
    if planned_bytes - existing_bytes > room_bytes:
        note += (
            f"; there is room for {format_bytes(room_bytes)} more (training.frozen_cache_gb is "
            f"{training.frozen_cache_gb:g}, for all that is kept there, and a tenth of the free disk is left alone), "
            "the rest is computed again at each step"
        )
    progress.log(
        f"to save time (frozen-layer cache): {note}. The folder can be deleted once nothing is trained on this corpus"
    )
    facts |= {"used": True, "precision": cache.precision, "planned_bytes": planned_bytes, "note": note}
    return cache, facts


def cache_summary(cache: FrozenLayerCache | None, facts: dict[str, Any]) -> dict[str, Any]:
    """The entry in cost.json: the decision, entries computed and read, seconds and bytes."""
    if cache is None:
        return facts
    counts = {name: cache.counts[counter] for counter, name in COUNTERS.items()}
    whole = {name: int(value) for name, value in counts.items() if name.startswith("entries_")}
    return {**facts, **counts, **whole, "disk_bytes": cache.store.held_bytes()}


def restore_counters(cache: FrozenLayerCache | None, usage: Mapping[str, float]) -> None:
    """Continue the counts of an earlier session of the same run."""
    if cache is not None:
        cache.counts |= {name: value for name, value in usage.items() if name in COUNTERS}


def _reason_not_cached(recipe: Recipe, total: int, frozen: int, cropped: bool) -> str:
    """Why the cache is not used; empty where it is."""
    training = recipe.training
    if training.frozen_cache == "off":
        return "training.frozen_cache is off"
    if not total:
        return "the first layer of this base hears new noise at each step"
    if recipe.design.is_stored:
        return f"{recipe.design} does not say which layers stay as they are"
    if not frozen:
        return f"every layer depends on {recipe.design}"
    if cropped and training.crop == "random":
        return "each step hears another part of each clip (training.crop=fixed takes the same part each time)"
    if training.frozen_cache == "on":
        return ""
    if training.frozen_cache_gb == 0:
        return "training.frozen_cache_gb is 0"
    if frozen < MIN_FROZEN_FRACTION * total:
        return (
            f"{recipe.design} leaves only {frozen} of {format_counted(total, 'layer')} unchanged "
            "(training.frozen_cache=on keeps what is put out there all the same)"
        )
    return ""


def _required_bytes(cache: FrozenLayerCache, entries: Iterable[tuple[Crop, float]]) -> tuple[int, int]:
    """Bytes of all entries that may be needed (crop, condition dropout), and of those that exist."""
    sizes = {key: cache.entry_bytes(crop) for crop, dropout in entries for key in cache.keys(crop, dropout)}
    existing = sum(size for key, size in sizes.items() if cache.store.path(key).is_file())
    return sum(sizes.values()), existing


def _as_numpy(hidden: Tensor) -> np.ndarray:
    """NumPy has no bf16: its bits are stored as int16."""
    hidden = hidden.contiguous()
    return (hidden.view(torch.int16) if hidden.dtype == torch.bfloat16 else hidden).numpy()


def _as_tensor(stored: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A copy in memory of a memory-mapped array."""
    copied = torch.from_numpy(np.array(stored))
    return copied.view(dtype) if dtype == torch.bfloat16 else copied
