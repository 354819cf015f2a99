"""Decodes many pieces at once: rows of unequal length in one batch; a row that ends makes room for a waiting one.

Each piece has its own random numbers, one for every code, so that it is the same whatever stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.decoding.cache_positions import Place, read, write
from talim.backbones.musicgen.decoding.decoder import Beginning, Decoder
from talim.backbones.musicgen.decoding.graphs import Capture, capture_on_gpu
from talim.backbones.musicgen.delay_pattern import apply_delay_pattern

if TYPE_CHECKING:
    from talim.backbones.musicgen.sampling import GenerationWindow, SamplingOptions

UNKNOWN = -1
STEPS_MULTIPLE, TEXT_MULTIPLE = 256, 32  # of the buffers of a captured step


@dataclass(frozen=True)
class Piece:
    """One piece to decode: its windows, seed, what it goes on from, and what the decoder hears."""

    windows: tuple[GenerationWindow, ...]
    seed: int
    start: Tensor  # int64 [K, P]
    text: Tensor | None = None  # [copies, L, D]
    text_mask: Tensor | None = None  # bool [copies, L]
    num_conditions: int = 0  # P, states before the music
    conditions: Callable[[int], Tensor] | None = None  # first frame of a window, start included -> [copies, P, D]

    @property
    def new_frames(self) -> int:
        return sum(window.new_frames for window in self.windows)


class _Window(NamedTuple):
    sequence: Tensor  # int64 [K, S], delayed; UNKNOWN where codes are to be drawn
    uniform: Tensor  # [K, S], the random numbers to draw with
    beginning: Beginning


class _Row:
    """A piece under way: its codes up to now, and the delayed sequence of its present window."""

    def __init__(self, index: int, piece: Piece) -> None:
        self.index, self.piece = index, piece
        self.codes = piece.start
        self.window = -1
        self.generator = torch.Generator().manual_seed(piece.seed)
        self.steps_left = 0
        self.begun = 0  # time of the first step of the window's sequence
        self.given = 0  # new frames that were given out

    def next_window(self, special: int, shifts: tuple[int, ...], row: int) -> _Window:
        """The next window, to begin in the row `row`."""
        self.window += 1
        window, piece = self.piece.windows[self.window], self.piece
        first = self.codes.shape[1] - window.context_frames
        codes = self.codes.new_full((len(shifts), window.context_frames + window.new_frames), UNKNOWN)
        codes[:, : window.context_frames] = self.codes[:, first:]
        sequence = apply_delay_pattern(codes[None], special, shifts)[0]
        uniform = torch.rand(sequence.shape[1], len(shifts), generator=self.generator).t()
        conditions = None if piece.conditions is None else piece.conditions(first)
        beginning = Beginning(row, sequence[:, : window.context_frames], piece.text, piece.text_mask, conditions)
        self.steps_left = window.new_frames + max(shifts)
        return _Window(sequence, uniform, beginning)

    @property
    def complete_frames(self) -> int:
        """New frames all of whose codes are there: the last one comes `max(shifts)` steps after the first."""
        before = sum(window.new_frames for window in self.piece.windows[: self.window])
        return before + max(0, self.piece.windows[self.window].new_frames - self.steps_left)

    def read(self, sequence: Tensor, shifts: tuple[int, ...]) -> Tensor:  # int64 [K, n]
        """New codes of all complete frames, of the present window out of its sequence int64 [K, S]."""
        window = self.piece.windows[self.window]
        first = window.context_frames
        stop = first + max(0, window.new_frames - self.steps_left)
        new = torch.stack([sequence[k, shift + 1 + first : shift + 1 + stop] for k, shift in enumerate(shifts)])
        codes = torch.cat([self.codes, new], 1)
        if not self.steps_left:
            self.codes = codes
        return codes[:, self.piece.start.shape[1] :]

    def sequence_length(self, shifts: tuple[int, ...]) -> int:
        """Steps of the present window's delayed sequence."""
        window = self.piece.windows[self.window]
        return window.context_frames + window.new_frames + max(shifts) + 1

    @property
    def finished(self) -> bool:
        return self.window + 1 == len(self.piece.windows)

    def frames_done(self, shifts: tuple[int, ...]) -> int:
        """New frames up to now; those under way count as soon as their first code is there."""
        done = sum(window.new_frames for window in self.piece.windows[: self.window])
        new = self.piece.windows[self.window].new_frames
        return done + min(new, new + max(shifts) - self.steps_left)


class PieceDecoder:
    """Decodes pieces, at most `rows` at once; one step in each call of `advance`."""

    @torch.inference_mode()
    def __init__(
        self,
        decoder: Decoder,
        pieces: Sequence[Piece],
        rows: int,
        options: SamplingOptions,
        shifts: tuple[int, ...],
        special: int,
        capture: Capture | None = None,
        part_frames: float = math.inf,
    ) -> None:
        self.decoder, self.options, self.shifts, self.special = decoder, options, shifts, special
        self.part_frames = part_frames
        self.rows = min(rows, len(pieces))
        self.size = max(steps_of(piece, shifts) for piece in pieces)
        longest_text = max((0 if piece.text is None else piece.text.shape[1]) for piece in pieces)
        capture = capture or (capture_on_gpu if decoder.device.type == "cuda" else None)
        if capture is not None:  # few shapes, so that few steps are captured
            self.size, longest_text = _round_up(self.size, STEPS_MULTIPLE), _round_up(longest_text, TEXT_MULTIPLE)
        decoder.allocate(self.rows, self.size, options.guidance_scale > 1, longest_text)
        self._replay: Callable[[], None] | None = None
        self._keep_or_capture(capture, longest_text)
        self.waiting = [_Row(index, piece) for index, piece in enumerate(pieces)]
        self.under_way: dict[int, _Row] = {}
        self.finished_frames, self.total_frames = 0, sum(piece.new_frames for piece in pieces)

    def _keep_or_capture(self, capture: Capture | None, text_length: int) -> None:
        """Buffers of the sequences; with `capture` a step captured for these shapes, before or now, with its own."""
        decoder, shape = self.decoder, (self.rows, len(self.shifts), self.size)
        options = self.options.guidance_scale, self.options.temperature, self.options.top_k
        key = shape, text_length, options, capture
        if capture is not None and decoder.captured is not None and decoder.captured[0] == key:
            (self.tokens, self.unknown, self.uniform), self._replay = decoder.captured[1]
            self.tokens.fill_(self.special)
            return
        decoder.captured = None
        self.tokens = torch.full(shape, self.special, dtype=torch.long, device=decoder.device)
        self.unknown = torch.zeros(shape, dtype=torch.bool, device=decoder.device)
        self.uniform = torch.zeros(shape, device=decoder.device)
        if capture is None:
            return
        self._replay = capture(self._static_step)
        self.tokens.fill_(self.special)
        for tensor in decoder.state():  # what warming up has changed
            tensor.zero_()
        decoder.captured = key, ((self.tokens, self.unknown, self.uniform), self._replay)

    @property
    def frames_done(self) -> int:
        """New frames of all pieces up to now."""
        return self.finished_frames + sum(row.frames_done(self.shifts) for row in self.under_way.values())

    @torch.inference_mode()
    def advance(self) -> list[tuple[int, np.ndarray]]:
        """One step of all rows; the index and the new codes int64 [K, T] of each piece that it finished.

        With `part_frames` also those of pieces under way, as soon as there are so many: the parts of a piece follow
        each other.
        """
        self._begin()
        decoder, size = self.decoder, self.size
        if self._replay is None:
            place, following = decoder.now % size, (decoder.now + 1) % size
            self._draw(decoder.step(self.tokens[:, :, place]), following)
        else:
            self._replay()
            decoder.tick()
        parts, idle = [], []
        for row, piece in list(self.under_way.items()):
            piece.steps_left -= 1
            ended = not piece.steps_left and piece.finished
            enough = ended or piece.complete_frames - piece.given >= self.part_frames
            if piece.steps_left and not enough:
                continue
            places = (torch.arange(piece.sequence_length(self.shifts)) + piece.begun).to(decoder.device) % size
            codes = piece.read(self.tokens[row][:, places].cpu(), self.shifts)
            if enough:
                parts.append((piece.index, codes[:, piece.given :].numpy()))
                piece.given = codes.shape[1]
            if ended:
                del self.under_way[row]
                idle.append(row)
                self.finished_frames += piece.piece.new_frames
        for row in idle if self.under_way else ():
            decoder.ignore(row, like=next(iter(self.under_way)))
        self._drop_idle_rows()
        return parts

    def _draw(self, logits: Tensor, following: Place) -> None:
        """Write the codes that are drawn from logits where the sequences are unknown."""
        uniform, unknown, known = (
            read(buffer, 2, following)[..., 0] for buffer in (self.uniform, self.unknown, self.tokens)
        )
        drawn = sampling.draw_codes(logits, uniform, self.options)
        write(self.tokens, 2, following, torch.where(unknown, drawn, known)[..., None])

    def _static_step(self) -> None:
        """A step by tensors alone, to be captured."""
        place, following = self.decoder.clock % self.size, (self.decoder.clock + 1) % self.size
        self._draw(self.decoder.static_step(read(self.tokens, 2, place)[..., 0]), following)

    def _begin(self) -> None:
        """Start the next window of rows that are through with one, and waiting pieces where there is room."""
        fresh = [row for row, piece in self.under_way.items() if not piece.steps_left]
        for row in range(self.rows):
            if row not in self.under_way and self.waiting:
                self.under_way[row] = self.waiting.pop(0)
                fresh.append(row)
        if not fresh:
            return
        windows = {row: self.under_way[row].next_window(self.special, self.shifts, row) for row in fresh}
        beginnings = [window.beginning for window in windows.values()]
        if len(fresh) == len(self.under_way):
            self.decoder.restart(max(sum(_past(beginning)) for beginning in beginnings))
        for row, window in windows.items():
            piece = self.under_way[row]
            piece.begun = self.decoder.now - window.beginning.tokens.shape[1]
            places = (torch.arange(window.sequence.shape[1]) + piece.begun) % self.size
            for kept, new in ((self.tokens, window.sequence), (self.uniform, window.uniform)):
                kept[row][:, places.to(kept.device)] = new.to(kept.device)
            self.unknown[row][:, places.to(self.unknown.device)] = (window.sequence == UNKNOWN).to(self.unknown.device)
        for past in dict.fromkeys(_past(beginning) for beginning in beginnings):
            self.decoder.begin([beginning for beginning in beginnings if _past(beginning) == past])
        for row in range(self.rows):
            if row not in self.under_way:
                self.decoder.ignore(row, like=fresh[0])

    def _drop_idle_rows(self) -> None:
        """Go on with fewer rows where half of them have nothing left to do."""
        if self._replay is not None or self.waiting or not self.under_way or 2 * len(self.under_way) > self.rows:
            return
        kept = sorted(self.under_way)
        self.decoder.keep(kept)
        self.tokens, self.unknown, self.uniform = self.tokens[kept], self.unknown[kept], self.uniform[kept]
        self.under_way, self.rows = {new: self.under_way[old] for new, old in enumerate(kept)}, len(kept)


def decode_pieces(
    *arguments: Any, report: Callable[[int, int], None] | None = None, part_frames: float = math.inf
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield what `PieceDecoder(*arguments)` finishes, as soon as it is there; in parts of at least `part_frames`.

    `report` is given the new frames of all pieces that are done, and their total, after each step.
    """
    pieces = PieceDecoder(*arguments, part_frames=part_frames)
    while pieces.waiting or pieces.under_way:
        parts = pieces.advance()
        if report is not None:
            report(pieces.frames_done, pieces.total_frames)
        yield from parts


def _past(beginning: Beginning) -> tuple[int, int]:
    """How many tokens and conditions precede the first step."""
    return beginning.tokens.shape[1], 0 if beginning.conditions is None else beginning.conditions.shape[1]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def steps_of(piece: Piece, shifts: tuple[int, ...]) -> int:
    """Places that the longest window of a piece takes."""
    return piece.num_conditions + max(shifts) + 1 + max(w.context_frames + w.new_frames for w in piece.windows)
