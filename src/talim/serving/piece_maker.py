"""How served pieces are made: in batches, by a base with its adapters that is loaded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from talim.backbones.generation_options import resolve_options
from talim.beats_chords import BeatsAndChords
from talim.generation.generate import GenerationOptions, generate_clips, provenance_tags
from talim.generation.sources import GenerationSource
from talim.progress import Progress

if TYPE_CHECKING:
    from talim.audio import AudioStream
    from talim.backbones.protocol import Backbone
    from talim.serving.generation_queue import QueuedPiece


def resolved_options(base: str, given: dict[str, Any]) -> dict[str, Any]:
    """All options of a base, given or default; UsageError for one that it lacks, and for values out of range."""
    return resolve_options(base, GenerationOptions(**given).explicit_options, [])


class PieceMaker:
    """Makes a batch of pieces with one base and its adapters; a piece is the same whatever is made beside it."""

    def __init__(self, backbone: Backbone, source: GenerationSource) -> None:
        self.backbone, self.source = backbone, source

    def __call__(
        self, batch: Sequence[QueuedPiece], report: Callable[[float], None]
    ) -> Iterator[tuple[int, AudioStream]]:
        """Each piece's index with its sound, as soon as it is there; `report` is told the fraction that is done."""
        options = dict(batch[0].options)  # equal for all
        nothing = BeatsAndChords()
        clips = generate_clips(
            self.backbone,
            [piece.prompt for piece in batch],
            [piece.seconds for piece in batch],
            [piece.seed for piece in batch],
            options,
            [nothing] * len(batch),
            _Reported(report),
        )
        for index, clip in clips:
            piece = batch[index]
            tags = provenance_tags(self.backbone, self.source.adapters, piece.prompt, piece.seed, options, nothing)
            yield index, replace(clip, tags=tags)


class _Reported(Progress):
    """Passes on how far the making has come, as a fraction."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        self._report(done / total if total else 0.0)
