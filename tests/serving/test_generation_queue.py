"""The queue of `talim serve`: order, fairness, cancelling, bounds, and what ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.serving.generation_queue import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    GenerationQueue,
    QueuedPiece,
    QueueFullError,
    QueueLimits,
)


@dataclass
class Sound:
    text: str

    def save(self, path: Path) -> None:
        path.write_text(self.text)


class Maker:
    """Makes pieces when it is let; notes the prompts of each batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go = threading.Semaphore(0)
        self.error: Exception | None = None
        self.report: Callable[[float], None] = lambda fraction: None

    def __call__(self, batch: Sequence[QueuedPiece], report: Callable[[float], None]) -> Iterator[tuple[int, Sound]]:
        self.batches.append([piece.prompt for piece in batch])
        self.report = report
        self.may_go.acquire()
        if self.error is not None:
            raise self.error
        report(0.5)
        for index, piece in enumerate(batch):
            yield index, Sound(piece.prompt)


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def queue(maker: Maker, tmp_path: Path) -> Iterator[GenerationQueue]:
    made = GenerationQueue(maker, tmp_path, QueueLimits(waiting=12, waiting_per_client=8, batch=2, kept=3))
    yield made
    maker.may_go.release(100)
    made.stop()


def piece(prompt: str, client: str = "a", seed: int = 0, **options: float) -> QueuedPiece:
    return QueuedPiece(prompt, 1.0, seed, options, client)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; far longer than it can take."""
    waited = threading.Event()
    for _ in range(6000):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("it did not happen within a minute")


def make_all(queue: GenerationQueue, maker: Maker, pieces: Sequence[QueuedPiece]) -> None:
    queue.start()
    maker.may_go.release(100)
    until(lambda: all(p.status not in (WAITING, RUNNING) for p in pieces))


def test_pieces_of_a_client_are_made_in_their_order_and_stored(queue: GenerationQueue, maker: Maker) -> None:
    pieces = [queue.submit(piece(str(n))) for n in range(5)]
    assert [queue.position(p) for p in pieces] == [0, 1, 2, 3, 4]
    make_all(queue, maker, pieces)
    assert maker.batches == [["0", "1"], ["2", "3"], ["4"]]
    assert all(p.status == DONE and p.path and p.path.read_text() == p.prompt for p in pieces)


def test_clients_take_turns_whoever_came_first(queue: GenerationQueue, maker: Maker) -> None:
    pieces = [queue.submit(piece(f"a{n}", "a")) for n in range(4)]
    pieces += [queue.submit(piece(f"{client}0", client)) for client in "bc"]
    assert queue.position(pieces[4]) == 1
    make_all(queue, maker, pieces)
    assert maker.batches[0] == ["a0", "b0"]
    assert "c0" in maker.batches[1]  # before the rest of a's


def test_pieces_of_different_options_are_not_made_together(queue: GenerationQueue, maker: Maker) -> None:
    pieces = [queue.submit(piece(str(n), top_k=n % 2)) for n in range(4)]
    make_all(queue, maker, pieces)
    assert maker.batches == [["0", "2"], ["1", "3"]]


def test_waiting_piece_that_is_cancelled_is_never_made(queue: GenerationQueue, maker: Maker) -> None:
    pieces = [queue.submit(piece(str(n))) for n in range(3)]
    queue.cancel(pieces[1])
    make_all(queue, maker, pieces)
    assert (maker.batches, pieces[1].status, pieces[1].path) == ([["0", "2"]], CANCELLED, None)


def test_running_piece_that_is_cancelled_leaves_no_sound_and_its_neighbour_is_made(
    queue: GenerationQueue, maker: Maker, tmp_path: Path
) -> None:
    pieces = [queue.submit(piece(str(n))) for n in range(2)]
    queue.start()
    until(lambda: pieces[0].status == RUNNING)
    queue.cancel(pieces[0])
    maker.may_go.release()
    until(lambda: pieces[1].status == DONE)
    assert (pieces[0].status, [path.read_text() for path in tmp_path.iterdir()]) == (CANCELLED, ["1"])


def test_work_that_nobody_waits_for_is_given_up(queue: GenerationQueue, maker: Maker, tmp_path: Path) -> None:
    first = queue.submit(piece("first"))
    queue.start()
    until(lambda: first.status == RUNNING)
    queue.cancel(first)
    second = queue.submit(piece("second"))
    maker.may_go.release(2)
    until(lambda: second.status == DONE)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["second"]


def test_progress_is_that_of_the_batch_and_never_falls(queue: GenerationQueue, maker: Maker) -> None:
    one = queue.submit(piece("one"))
    queue.start()
    until(lambda: one.status == RUNNING)
    maker.report(0.4)
    maker.report(0.2)
    assert one.progress_fraction == 0.4
    maker.may_go.release()
    until(lambda: one.status == DONE)
    assert one.progress_fraction == 1.0


def test_error_fails_its_batch_and_the_next_is_made(queue: GenerationQueue, maker: Maker) -> None:
    maker.error = TalimError("the disk is full")
    first = queue.submit(piece("first"))
    queue.start()
    maker.may_go.release()
    until(lambda: first.status == FAILED)
    maker.error = None
    second = queue.submit(piece("second"))
    maker.may_go.release()
    until(lambda: second.status == DONE)
    assert first.error == "the disk is full"


def test_foreign_error_is_not_told_to_clients(queue: GenerationQueue, maker: Maker) -> None:
    maker.error = ValueError("/secret/path")
    first = queue.submit(piece("first"))
    queue.start()
    maker.may_go.release()
    until(lambda: first.status == FAILED)
    assert first.error == "internal error"


def test_full_queue_refuses_of_one_client_and_of_all(queue: GenerationQueue) -> None:
    for n in range(8):
        queue.submit(piece(str(n), "a"))
    with pytest.raises(QueueFullError):
        queue.submit(piece("one too many", "a"))
    for n in range(4):
        queue.submit(piece(str(n), "b"))
    with pytest.raises(QueueFullError):
        queue.submit(piece("full", "c"))


def test_results_beyond_the_number_kept_are_deleted_oldest_first(
    queue: GenerationQueue, maker: Maker, tmp_path: Path
) -> None:
    pieces = [queue.submit(piece(str(n))) for n in range(6)]
    make_all(queue, maker, pieces)
    queue.submit(piece("later"))
    assert [queue.get(p.id, "a") is None for p in pieces] == [True] * 3 + [False] * 3
    until(lambda: not any((tmp_path / f"{p.id}.flac").exists() for p in pieces[:3]))


def test_piece_of_another_client_is_not_there(queue: GenerationQueue) -> None:
    own = queue.submit(piece("own", "a"))
    assert queue.get(own.id, "a") is own
    assert queue.get(own.id, "b") is None
    assert queue.get("no-such", "a") is None


def test_cancelled_result_is_deleted(queue: GenerationQueue, maker: Maker, tmp_path: Path) -> None:
    one = queue.submit(piece("one"))
    make_all(queue, maker, [one])
    queue.cancel(one)
    assert (one.status, list(tmp_path.iterdir())) == (CANCELLED, [])


def test_stop_fails_what_waits_and_what_is_made(queue: GenerationQueue, maker: Maker) -> None:
    pieces = [queue.submit(piece(str(n))) for n in range(3)]
    queue.start()
    until(lambda: pieces[0].status == RUNNING)
    maker.may_go.release(100)
    stopping = threading.Thread(target=queue.stop)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()
    assert {p.status for p in pieces} <= {DONE, FAILED}
    assert pieces[2].status == FAILED or pieces[2].path
    with pytest.raises(QueueFullError):
        queue.submit(piece("late"))
