"""Trials in worker processes of this machine: one a core or one a GPU, alive from trial to trial.

A worker that dies (no memory left, a crash in a library) fails its trial alone, and another takes its place. Workers
end with the process that started them, however it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from talim.experiments.results_log import ResultRecord
from talim.experiments.trial import TrialJob, TrialWorkerCache, failed_trial_record
from talim.interrupts import Interrupted
from talim.progress import Progress

TrialFunction = Callable[[TrialJob, TrialWorkerCache, Progress], ResultRecord]


@dataclass
class WorkerProcess:
    """A process at the other end of a pipe, and the trial that it is at."""

    process: BaseProcess
    pipe: Connection
    gpu: str | None
    order: TrialJob | None = None


class ProcessExecutor:
    """An executor: `jobs` processes, each with one thread; with `gpus`, one process on each of them instead."""

    def __init__(self, jobs: int, attempt: TrialFunction, gpus: Sequence[str] = ()) -> None:
        self.places: list[str | None] = list(gpus) or [None] * jobs
        self.attempt = attempt
        self._context = multiprocessing.get_context("spawn")

    def __call__(self, orders: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
        """Run them all; their lines in the order in which they are finished."""
        waiting = deque(orders)
        workers = [self._start(gpu) for gpu in self.places[: len(orders)]]
        try:
            for worker in workers:
                _send(worker, waiting)
            while busy := [worker for worker in workers if worker.order is not None]:
                for pipe in wait([worker.pipe for worker in busy]):
                    worker = next(each for each in busy if each.pipe is pipe)
                    line, alive = _receive(worker)
                    yield line
                    if not alive:
                        workers.remove(worker)
                        worker = self._start(worker.gpu)
                        workers.append(worker)
                    _send(worker, waiting)
        finally:
            for worker in workers:
                worker.process.terminate()
                worker.process.join()

    def _start(self, gpu: str | None) -> WorkerProcess:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=worker_main, args=(theirs, self.attempt, gpu), daemon=True)
        process.start()
        theirs.close()
        return WorkerProcess(process, mine, gpu)


def worker_main(pipe: Connection, attempt: TrialFunction, gpu: str | None) -> None:
    """What a worker does: trials out of the pipe, lines into it, until there is nobody at the other end."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before torch looks
    else:
        _take_one_thread()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    bench = TrialWorkerCache()
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt, Interrupted):
        while True:
            pipe.send(attempt(pipe.recv(), bench, Progress()))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def _send(worker: WorkerProcess, waiting: deque[TrialJob]) -> None:
    worker.order = waiting.popleft() if waiting else None
    if worker.order is not None:
        worker.pipe.send(worker.order)


def _receive(worker: WorkerProcess) -> tuple[ResultRecord, bool]:
    """A worker's line and whether it lives on; a line that says so where it died."""
    order = worker.order
    assert order is not None  # only busy workers are waited for
    try:
        return worker.pipe.recv(), True
    except (EOFError, ConnectionError):
        worker.process.join()
        code = worker.process.exitcode or 0
        how = (
            f"was killed by signal {-code}, perhaps for want of memory" if code < 0 else f"ended with {code}"
        )
        return failed_trial_record(order.planned, f"the process of this trial {how}"), False


def _take_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _exit_with_parent(parent: Any) -> None:
    wait([parent.sentinel])
    os._exit(1)
