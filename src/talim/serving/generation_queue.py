"""Waiting requests for music and their results: fair among clients, made in batches, bounded in number."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from talim.errors import TalimError

Status = Literal["waiting", "running", "done", "failed", "cancelled"]
WAITING: Final = "waiting"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
_log = logging.getLogger("talim.serving")


class QueueFullError(Exception):
    """No further request is taken now: of anybody, or of this client."""


class CancelledWorkError(Exception):
    """Everything that is being made was cancelled, or the server ends."""


class SavedSound(Protocol):
    """What makes a finished piece: an `AudioStream`."""

    def save(self, path: Path) -> object: ...


@dataclass
class QueuedPiece:
    """A request for one piece, and what has become of it."""

    prompt: str
    seconds: float
    seed: int
    options: Mapping[str, float | int]  # of sampling; pieces with equal ones are made together
    client: str
    suffix: str = ".flac"
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    status: Status = WAITING
    progress_fraction: float = 0.0  # of the batch that the piece is made in
    error: str = ""
    path: Path | None = None


@dataclass(frozen=True)
class QueueLimits:
    """How many pieces wait, are made together and are kept; further requests are refused, older results deleted."""

    waiting: int = 100
    waiting_per_client: int = 30
    batch: int = 16
    kept: int = 200


# Makes pieces: an index with its sound for each, as soon as it is there. It reports the fraction that is done.
MakePieces = Callable[[Sequence[QueuedPiece], Callable[[float], None]], Iterator[tuple[int, SavedSound]]]


class GenerationQueue:
    """Pieces by id, and the thread that makes them into `folder`.

    The clients that wait take turns; each client's pieces are made in their order. Pieces of one batch have equal
    options.
    """

    def __init__(self, make: MakePieces, folder: Path, limits: QueueLimits = QueueLimits()) -> None:
        self._make, self._folder, self.limits = make, folder, limits
        self._pieces: OrderedDict[str, QueuedPiece] = OrderedDict()
        self._turns: list[str] = []  # clients, the one that has waited longest first
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="talim-generation", daemon=True)

    def start(self) -> None:
        """Begin to make pieces."""
        self._thread.start()

    def stop(self) -> None:
        """End: what is being made is given up, what waits fails; returns when the thread has ended."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, piece: QueuedPiece) -> QueuedPiece:
        """Take a request; QueueFullError where too many wait."""
        with self._changed:
            waiting = [other.client for other in self._pieces.values() if other.status == WAITING]
            is_full = len(waiting) >= self.limits.waiting
            if self._ends or is_full or waiting.count(piece.client) >= self.limits.waiting_per_client:
                raise QueueFullError
            self._pieces[piece.id] = piece
            if piece.client not in self._turns:
                self._turns.append(piece.client)
            self._forget()
            self._changed.notify_all()
        return piece

    def get(self, id_: str, client: str) -> QueuedPiece | None:
        """A client's piece; None where there is none, or it is another's."""
        with self._changed:
            piece = self._pieces.get(id_)
            return piece if piece is not None and piece.client == client else None

    def position(self, piece: QueuedPiece) -> int:
        """How many pieces are made before this one; 0 for one that no longer waits."""
        with self._changed:
            order = [waiting.id for waiting in self._in_order()]
            return order.index(piece.id) if piece.id in order else 0

    def cancel(self, piece: QueuedPiece) -> None:
        """Give up a piece that is not finished, and delete a finished one's sound."""
        with self._changed:
            if piece.status in (WAITING, RUNNING):
                piece.status = CANCELLED
            elif piece.status == DONE:
                self._delete(piece)
            self._changed.notify_all()

    def _in_order(self) -> list[QueuedPiece]:
        """The waiting pieces in the order in which they are made, if none comes and none is like another."""
        lines: dict[str, list[QueuedPiece]] = {client: [] for client in self._turns}
        for piece in self._pieces.values():
            if piece.status == WAITING:
                lines[piece.client].append(piece)
        rounds = max(map(len, lines.values()), default=0)
        return [line[n] for n in range(rounds) for line in lines.values() if n < len(line)]

    def _take_batch(self) -> list[QueuedPiece]:
        """The next pieces to be made together; waits for one. Empty where the queue ends."""
        with self._changed:
            while not (order := self._in_order()) and not self._ends:
                self._changed.wait()
            if self._ends:
                return []
            batch = [piece for piece in order if piece.options == order[0].options][: self.limits.batch]
            for piece in batch:
                piece.status = RUNNING
            served = list(dict.fromkeys(piece.client for piece in batch))
            waiting = {piece.client for piece in self._in_order()}
            turns = [client for client in self._turns if client not in served] + served
            self._turns = [client for client in turns if client in waiting]
            return batch

    def _run(self) -> None:
        while batch := self._take_batch():
            try:
                for index, sound in self._make(batch, lambda fraction, made=batch: self._report(made, fraction)):
                    self._finish(batch[index], sound)
            except CancelledWorkError:
                pass
            except Exception as error:  # the server goes on for the others
                _log.error("generation failed: %s", error)
                self._fail(batch, str(error) if isinstance(error, TalimError) else "internal error")
            self._fail(batch, "not made: the server ended" if self._ends else "internal error")
        with self._changed:
            left = [piece for piece in self._pieces.values() if piece.status == WAITING]
        self._fail(left, "not made: the server ended")

    def _report(self, batch: Sequence[QueuedPiece], fraction: float) -> None:
        """Progress of a batch; CancelledWorkError where nobody waits for any of it."""
        with self._changed:
            running = [piece for piece in batch if piece.status == RUNNING]
            for piece in running:
                piece.progress_fraction = min(max(fraction, piece.progress_fraction), 1.0)
            if self._ends or not running:
                raise CancelledWorkError

    def _finish(self, piece: QueuedPiece, sound: SavedSound) -> None:
        if piece.status == CANCELLED:
            return
        path = self._folder / f"{piece.id}{piece.suffix}"
        sound.save(path)
        with self._changed:
            piece.path = path
            if piece.status == CANCELLED:  # while it was saved
                self._delete(piece)
                return
            piece.status, piece.progress_fraction = DONE, 1.0

    def _fail(self, batch: Sequence[QueuedPiece], error: str) -> None:
        with self._changed:
            for piece in batch:
                if piece.status in (WAITING, RUNNING):
                    piece.status, piece.error = FAILED, error

    def _forget(self) -> None:
        """Delete the oldest results beyond the number that is kept."""
        ended = [piece for piece in self._pieces.values() if piece.status in ENDED]
        for piece in ended[: max(0, len(ended) - self.limits.kept)]:
            self._delete(piece)
            del self._pieces[piece.id]

    def _delete(self, piece: QueuedPiece) -> None:
        if piece.path is not None:
            piece.path.unlink(missing_ok=True)
        piece.status, piece.path = CANCELLED, None
