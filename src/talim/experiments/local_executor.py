"""Runs trials in worker processes of this machine, on its cores or its GPUs, each for many trials.

If a worker dies (out of memory, a crash in a library), only its trial fails, and another worker replaces it. Workers
exit with the process that started them, even if that is killed.
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
    """A worker process, the pipe to it, and the trial that it runs."""

    process: BaseProcess
    pipe: Connection
    gpu: str | None
    job: TrialJob | None = None


class ProcessExecutor:
    """An executor with `num_workers` single-threaded processes, which share `gpus` in turn if there are any."""

    def __init__(self, num_workers: int, run: TrialFunction, gpus: Sequence[str] = ()) -> None:
        self.gpus: list[str | None] = [gpus[n % len(gpus)] if gpus else None for n in range(num_workers)]
        self.run = run
        self._context = multiprocessing.get_context("spawn")

    def __call__(self, jobs: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
        """Run all trials; yields their lines in the order in which they finish."""
        waiting = deque(jobs)
        workers = [self._start(gpu) for gpu in self.gpus[: len(jobs)]]
        try:
            for worker in workers:
                _send(worker, waiting)
            while busy := [worker for worker in workers if worker.job is not None]:
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
        pipe, worker_pipe = self._context.Pipe()
        process = self._context.Process(target=worker_main, args=(worker_pipe, self.run, gpu), daemon=True)
        process.start()
        worker_pipe.close()
        return WorkerProcess(process, pipe, gpu)


def worker_main(pipe: Connection, run: TrialFunction, gpu: str | None) -> None:
    """The main function of a worker: receives trials and sends their lines until the pipe is closed."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before torch initialises CUDA
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    cache = TrialWorkerCache()
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt, Interrupted):
        while True:
            pipe.send(run(pipe.recv(), cache, Progress()))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return names.split(",")[:count] if names else [str(number) for number in range(count)]


def _send(worker: WorkerProcess, waiting: deque[TrialJob]) -> None:
    worker.job = waiting.popleft() if waiting else None
    if worker.job is not None:
        worker.pipe.send(worker.job)


def _receive(worker: WorkerProcess) -> tuple[ResultRecord, bool]:
    """The line of a worker's trial and whether the worker is alive; a failed line if it died."""
    job = worker.job
    assert job is not None  # only busy workers are waited for
    try:
        return worker.pipe.recv(), True
    except (EOFError, ConnectionError):
        worker.process.join()
        code = worker.process.exitcode or 0
        end = f"was killed by signal {-code}, perhaps out of memory" if code < 0 else f"exited with status {code}"
        return failed_trial_record(job.spec, f"the process of this trial {end}"), False


def _exit_with_parent(parent: Any) -> None:
    wait([parent.sentinel])
    os._exit(1)
