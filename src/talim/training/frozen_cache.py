"""The frozen prefix: what the layers below the first trained site make of a clip, computed once and kept on disk.

However long an adapter is trained, these layers answer the same for the same clip, crop and words. So their answer is
kept beside the targets, for all trials on the same base whose first site lies at the same depth. It is computed when
it is first asked for, hence never more often than without.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from talim.backbones.protocol import Batch, CachedBatch
from talim.corpus.feature_cache import BoundedFeatureCache
from talim.designs import expression, site_selection
from talim.progress import Progress

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.corpus.manifest import Corpus
    from talim.recipe import Recipe
    from talim.training.batches import Crop

FOLDER = "prefix"
MIN_FROZEN_FRACTION = (
    0.25  # of the layers, for `auto`: below that, less than a seventh of a step's time is saved
)
PRECISIONS = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
MAX_RELATIVE_ERROR = {
    "bf16": 0.1,
    "fp16": 0.1,
    "fp32": 1e-3,
}  # relative distances that no change of hardware explains
COUNTER_NAMES = ("prefix_seconds", "prefix_computed", "prefix_read", "prefix_without_room")
GB = 1e9


class FrozenLayerCache:
    """Hidden states that leave the first `layers` layers, of any cut of any clip, read from a store or computed.

    A base in bf16 has them in bf16, one in fp32 in fp32, so nothing is lost by keeping them.
    """

    def __init__(
        self, backbone: Backbone, layers: int, store: BoundedFeatureCache, progress: Progress | None = None
    ) -> None:
        self.backbone, self.layers, self.store = backbone, layers, store
        self.progress = progress or Progress()
        self.precision = PRECISIONS[backbone.dtype]
        self.counts = dict.fromkeys(COUNTER_NAMES, 0.0)
        self._written_keys: set[str] = set()  # written by this process
        self._store_verified: bool | None = (
            None  # whether what others wrote is what this base says; None: not yet asked
        )

    def attach_hidden(self, batch: Batch, cuts: Sequence[Crop], drop: Sequence[bool]) -> CachedBatch:
        """The batch that the backbone made of these cuts, with their hidden states; padding is zeros."""
        rows = [self.hidden(cut, dropped) for cut, dropped in zip(cuts, drop, strict=True)]
        hidden = rows[0].new_zeros(len(rows), max(len(row) for row in rows), rows[0].shape[1])
        for place, row in zip(hidden, rows, strict=True):
            place[: len(row)] = row
        return CachedBatch(**vars(batch), hidden=hidden, layers=self.layers)

    def hidden(self, cut: Crop, dropped: bool) -> Tensor:
        """The states of one cut, [S, D], with its words or without any, on the CPU."""
        fields = self._fields(cut, dropped)
        key = self.store.key(**fields)
        stored = self._stored(key, cut, dropped)
        if stored is not None:
            self.counts["prefix_read"] += 1
            return stored
        began = time.perf_counter()
        made = self._computed(cut, dropped)
        if self.store.put_if_room(key, {"hidden": _as_numpy(made)}, fields):
            self._written_keys.add(key)
        else:
            self.counts["prefix_without_room"] += 1
        self.counts["prefix_computed"] += 1
        self.counts["prefix_seconds"] += time.perf_counter() - began
        return made

    def keys(self, cut: Crop, condition_dropout: float) -> list[str]:
        """Of the entries that training may ask for: with the words, without any, or both."""
        wanted = [
            dropped for dropped, share in ((False, 1 - condition_dropout), (True, condition_dropout)) if share
        ]
        return [self.store.key(**self._fields(cut, dropped)) for dropped in wanted]

    def entry_bytes(self, cut: Crop) -> int:
        """What the hidden states of one cut take."""
        steps, width = self.backbone.frozen_activation_shape(cut.frames)
        return steps * width * self.backbone.dtype.itemsize

    def seconds_to_fill(self, cuts: Sequence[Crop], condition_dropout: float) -> float:
        """About how long it takes to compute what is missing, by what was computed so far; 0 if that was nothing."""
        missing = sum(
            not self.store.path(key).is_file() for cut in cuts for key in self.keys(cut, condition_dropout)
        )
        return missing * self.counts["prefix_seconds"] / max(self.counts["prefix_computed"], 1)

    def _fields(self, cut: Crop, dropped: bool) -> dict[str, Any]:
        """Everything that the states depend on; without words they do not depend on the caption."""
        clip = cut.item.clip
        fields = {
            "kind": "prefix",
            "base": self.backbone.fingerprint,
            "layers": self.layers,
            "precision": self.precision,
            "audio": clip.audio_hash,
            "codec": self.backbone.codec_hash,
            "seconds": round(float(clip.seconds), 6),
            "start_frame": cut.start,
            "frames": cut.frames,
        }
        if dropped:
            return fields | {"condition": "null"}
        words = {"prompt": clip.caption, "text": self.backbone.text_encoder_hash}
        return fields | {"condition": "text", **words}

    def _stored(self, key: str, cut: Crop, dropped: bool) -> Tensor | None:
        """What lies in the store, if it can be believed: one entry of others is computed again to see."""
        if self._store_verified is False and key not in self._written_keys:
            return None
        entry = self.store.get_valid(key)
        if entry is None or entry["hidden"].shape != self.backbone.frozen_activation_shape(cut.frames):
            return None
        found = _as_tensor(entry["hidden"], self.backbone.dtype)
        if self._store_verified is None and key not in self._written_keys:
            self._store_verified = self._matches_recomputed(found, cut, dropped)
            if not self._store_verified:
                self.progress.log(
                    f"{self.store.folder}: other weights made what is kept here; it is computed anew"
                )
                return None
        return found

    def _matches_recomputed(self, found: Tensor, cut: Crop, dropped: bool) -> bool:
        made = self._computed(cut, dropped).float()
        distance = torch.linalg.vector_norm(found.float() - made) / torch.linalg.vector_norm(made)
        return bool(distance < MAX_RELATIVE_ERROR[self.precision])

    def _computed(self, cut: Crop, dropped: bool) -> Tensor:
        """Each cut by itself, so that the result does not depend on its batch."""
        batch = self.backbone.collate([cut.content(self.backbone.frame_rate_hz)], [dropped])
        return self.backbone.prefix(batch.to(self.backbone.device), self.layers)[0].cpu()


def make_frozen_cache(
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    progress: Progress,
    train: Sequence[Crop] = (),
    held_out: Sequence[Crop] = (),
) -> tuple[FrozenLayerCache | None, dict[str, Any]]:
    """The prefix that these cuts are to be trained and judged on, or None; and in plain values what was decided.

    It is said to `progress`, with the disk that it will need; to who only judges, only where one is kept.
    """
    training, sites = recipe.training, backbone.sites()
    of, below = (
        site_selection.num_layers(sites),
        site_selection.num_frozen_layers(expression.parse(recipe.design), sites),
    )
    facts: dict[str, Any] = {"kept": False, "layers": below, "of_layers": of}
    cropped = any(cut.frames < cut.item.whole.frames for cut in train)
    if reason := _reason_not_cached(recipe, of, below, cropped):
        if train:
            progress.log(f"no prefix is kept: {reason}")
        return None, facts | {"note": reason}
    most = int(training.prefix_gb * GB)
    prefix = FrozenLayerCache(backbone, below, BoundedFeatureCache(corpus.targets / FOLDER, most), progress)
    planned, there = _required_bytes(
        prefix, [(cut, training.condition_dropout) for cut in train] + [(c, 0.0) for c in held_out]
    )
    room = prefix.store.available_bytes()
    note = (
        f"the first {below} of {of} layers are the same for every {recipe.design}, so what they make of a clip "
        f"({prefix.precision}) is kept: {planned / GB:.2f} GB on disk, {there / GB:.2f} GB of it there already"
    )
    if planned - there > room:
        note += (
            f"; there is room for {room / GB:.2f} GB more (training.prefix_gb is {training.prefix_gb:g}, all depths "
            f"together, in {prefix.store.folder}), the rest is computed each time"
        )
    progress.log(f"prefix: {note}")
    return prefix, facts | {
        "kept": True,
        "precision": prefix.precision,
        "planned_bytes": planned,
        "note": note,
    }


def cache_summary(prefix: FrozenLayerCache | None, facts: dict[str, Any]) -> dict[str, Any]:
    """What is written of it beside a run's cost: what was decided, the time it took and the disk it takes."""
    if prefix is None:
        return facts
    counts = {name.removeprefix("prefix_"): value for name, value in prefix.counts.items()}
    counted = {f"states_{name}": int(value) for name, value in counts.items() if name != "seconds"}
    return facts | counted | {"seconds": counts["seconds"], "held_bytes": prefix.store.held_bytes()}


def restore_counters(prefix: FrozenLayerCache | None, spent: Mapping[str, float]) -> None:
    """Let a prefix count on from what an earlier part of the same run had counted."""
    if prefix is not None:
        prefix.counts |= {name: value for name, value in spent.items() if name in COUNTER_NAMES}


def _reason_not_cached(recipe: Recipe, of: int, below: int, cropped: bool) -> str:
    """Why no prefix is kept, in words; empty where one is."""
    training = recipe.training
    if training.prefix == "off":
        return "training.prefix is off"
    if not of:
        return (
            "this base hears noise that is drawn at each step; its latents and text states are kept as ever"
        )
    if not below:
        return f"every layer hears {recipe.design}; the text states are kept as ever"
    if cropped and training.crops == "each_step":
        return "crops are drawn at each step (with training.crops=once each clip has one, and a prefix)"
    if training.prefix == "on":
        return ""
    if training.prefix_gb == 0:
        return "training.prefix_gb is 0"
    if below < MIN_FROZEN_FRACTION * of:
        return f"only {below} of {of} layers are the same for every {recipe.design} (training.prefix=on keeps them)"
    return ""


def _required_bytes(prefix: FrozenLayerCache, wanted: Iterable[tuple[Crop, float]]) -> tuple[int, int]:
    """Bytes of all entries that may be asked for, and of those among them that are there."""
    sizes = {key: prefix.entry_bytes(cut) for cut, dropout in wanted for key in prefix.keys(cut, dropout)}
    there = sum(size for key, size in sizes.items() if prefix.store.path(key).is_file())
    return sum(sizes.values()), there


def _as_numpy(hidden: Tensor) -> np.ndarray:
    """numpy knows no bf16: its bits are kept as whole numbers."""
    hidden = hidden.contiguous()
    return (hidden.view(torch.int16) if hidden.dtype == torch.bfloat16 else hidden).numpy()


def _as_tensor(stored: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A copy in memory of what is mapped from the disk."""
    copied = torch.from_numpy(np.array(stored))
    return copied.view(dtype) if dtype == torch.bfloat16 else copied
