"""Trials on a Ray cluster: each is placed where the memory is that was planned for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from talim.errors import TalimError
from talim.experiments.results_log import ResultRecord
from talim.experiments.trial import TrialJob, TrialWorkerCache, failed_trial_record
from talim.progress import Progress

GPU_SHARE = 1.0
PROCESS_BYTES = 1_000_000_000  # of a process with torch and its libraries, before any model


class RayExecutor:
    """An executor on the cluster at `address` ("local" begins one on this machine, of `cpus` cores).

    `needs` tells the bytes that a trial's training takes, None where that is not known. The study's folder and its
    corpora must be seen under the same paths on every node.
    """

    def __init__(
        self,
        address: str,
        attempt: Callable[[TrialJob, TrialWorkerCache, Progress], ResultRecord],
        needs: Callable[[TrialJob], int | None],
        cpus: int | None = None,
    ) -> None:
        self.address, self.attempt, self.needs, self.cpus = address, attempt, needs, cpus

    def __call__(self, orders: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
        """Run them all; their lines in the order in which they are finished."""
        ray = _ray()
        where: dict[str, Any] = {"num_cpus": self.cpus} if self.address == "local" else {}
        try:
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False, **where)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TalimError(
                f"--ray {self.address}: no cluster answers ({reason}); try --ray local"
            ) from None
        try:
            yield from self._run(ray, orders, progress)
        finally:
            ray.shutdown()

    def _run(self, ray: Any, orders: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
        remote = ray.remote(_in_a_worker)
        gpus = GPU_SHARE if ray.cluster_resources().get("GPU") else 0
        running: dict[Any, TrialJob] = {}
        for order in orders:
            placed = {"num_cpus": 1, "num_gpus": gpus, "max_retries": 0}
            if (needed := self.needs(order)) is not None:
                room = int(_largest_node(ray))
                if needed + PROCESS_BYTES > room and not gpus:
                    short = f"{(needed + PROCESS_BYTES) / 1e9:.1f} GB planned, {room / 1e9:.1f} GB on the largest node"
                    yield failed_trial_record(order.planned, f"no node has the memory for it: {short}")
                    continue
                placed["memory"] = PROCESS_BYTES if gpus else needed + PROCESS_BYTES
            running[remote.options(**placed).remote(order, self.attempt)] = order
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            order = running.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                yield failed_trial_record(order.planned, f"its worker broke: {str(error).splitlines()[0]}")


_WORKER_CACHES: list[
    TrialWorkerCache
] = []  # one in each of Ray's worker processes, which are kept from trial to trial


def _in_a_worker(
    order: TrialJob, attempt: Callable[[TrialJob, TrialWorkerCache, Progress], ResultRecord]
) -> ResultRecord:
    if not _WORKER_CACHES:
        _WORKER_CACHES.append(TrialWorkerCache())
    return attempt(order, _WORKER_CACHES[0], Progress())


def _largest_node(ray: Any) -> float:
    """Bytes of memory that the largest node offers."""
    return max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise TalimError("--ray needs Ray; install it with: pip install 'talim[ray]'") from None
    return ray
