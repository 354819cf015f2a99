"""What an evaluation has finished, kept in the run's folder until all of it is: a killed one goes on from there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.corpus.feature_cache import FeatureCache
from talim.generation.generate import in_seconds
from talim.html.formatting import format_counted
from talim.progress import Progress

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

FOLDER = "evaluation_parts"  # in the run's folder, while an evaluation is not whole
CONTINUES = (
    "continues an evaluation that was interrupted: the losses, generated pieces and held-out clips through the codec "
    "that it finished are kept; pieces are decoded again"
)
Made = Iterable[tuple[int, np.ndarray]]


class KeptParts:
    """Arrays under a hash of all that decides them: `decided_by`, and what each part adds; no folder keeps nothing."""

    def __init__(self, folder: Path | None = None, progress: Progress | None = None, **decided_by: Any) -> None:
        self._store = None if folder is None else FeatureCache(folder / FOLDER)
        self._progress, self._decided_by, self._reported = progress or Progress(), decided_by, False

    def arrays(self, part: str, items: Sequence[Any], noun: str, make: Callable[[list[int]], Made]) -> list[np.ndarray]:
        """An array for each of `items`, which say what it is of: kept ones, else as made, and kept as soon as made.

        `make` gets the indices of what is missing, and gives index and array of each. `part` says what it is; where
        some were there, that is told, counted by the `noun`.
        """
        if self._store is None:
            made = dict(make([*range(len(items))]))
            return [made[number] for number in range(len(items))]
        fields = [{**self._decided_by, "part": part, "item": item} for item in items]
        keys = [self._store.key(**each) for each in fields]
        known = [self._store.get_valid(key) for key in keys]
        found = {number: np.array(arrays["array"]) for number, arrays in enumerate(known) if arrays is not None}
        self._tell(part, len(found), format_counted(len(items), noun))
        missing = [number for number in range(len(items)) if number not in found]
        for number, array in make(missing) if missing else ():
            self._store.put(keys[number], {"array": array}, fields[number])
            found[number] = array
        return [found[number] for number in range(len(items))]

    def _tell(self, part: str, found: int, all_items: str) -> None:
        """That something is not done again, once; and of a part that is not whole, how much."""
        if found and not self._reported:
            self._progress.log(CONTINUES)
        self._reported = self._reported or found > 0
        if found and not all_items.startswith(f"{found} "):
            self._progress.log(f"continues: {part}, {found} of {all_items} are there")

    def remove(self) -> None:
        """Delete what is kept: the evaluation is whole."""
        if self._store is not None and self._store.folder.is_dir():
            shutil.rmtree(self._store.folder)


@dataclass(frozen=True)
class Pieces:
    """Pieces to generate, of `seconds` and with the `options` of the base each; `items` say what decides each.

    `start` [n, K, T] are the codec tokens that each goes on from.
    """

    captions: Sequence[str]
    seeds: Sequence[int]
    items: Sequence[Any]
    seconds: float
    options: Mapping[str, Any]
    start: np.ndarray | None = None

    def generate(
        self,
        backbone: Backbone,
        kept: KeptParts | None,
        part: str,
        progress: Progress,
        doing: str,
        on_made: Callable[[int, float], None] | None = None,
    ) -> list[np.ndarray]:
        """The codec tokens [K, T] or latents [C, T, F] of each: kept ones, else as `backbone` makes them.

        `on_made` gets how many were made now, and in how many seconds.
        """

        def make(missing: list[int]) -> Made:
            begun = time.monotonic()
            each = backbone.generate_each(
                [self.captions[number] for number in missing],
                self.seconds,
                [self.seeds[number] for number in missing],
                progress=in_seconds(progress, f"{doing}, seconds of music", self.seconds * len(missing)),
                **({} if self.start is None else {"start": self.start[missing]}),
                **self.options,
            )
            yield from ((missing[index], targets) for index, targets in each)
            if on_made is not None:
                on_made(len(missing), time.monotonic() - begun)

        return (kept or KeptParts()).arrays(part, self.items, "clip", make)
