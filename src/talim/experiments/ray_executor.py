"""Runs trials on a Ray cluster, each on a node with the memory that was predicted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from talim.errors import TalimError
from talim.experiments.local_executor import TrialFunction
from talim.experiments.results_log import ResultRecord
from talim.experiments.trial import TrialJob, TrialWorkerCache, failed_trial_record
from talim.html.formatting import GB
from talim.progress import Progress

GPUS_PER_TRIAL = 1.0
HOST_BYTES = 1_000_000_000  # main memory of a process whose model is on a GPU


class RayExecutor:
    """An executor on the cluster at `address`; "local" starts one on this machine with `cpus` cores.

    `memory_bytes` predicts the memory of the whole process that trains on a CPU, None if unknown. The study's folder
    and its corpora must have the same paths on every node.
    """

    def __init__(
        self, address: str, run: TrialFunction, memory_bytes: Callable[[TrialJob], int | None], cpus: int | None = None
    ) -> None:
        self.address, self.run, self.memory_bytes, self.cpus = address, run, memory_bytes, cpus

    def __call__(self, jobs: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
        """Run all trials; yields their lines in the order in which they finish."""
        ray = _import_ray()
        options: dict[str, Any] = {"num_cpus": self.cpus} if self.address == "local" else {}
        try:
            ray.init(address=self.address, include_dashboard=False, log_to_driver=False, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TalimError(f"--ray {self.address}: no cluster answers ({reason}); try --ray local") from None
        try:
            yield from self._run_all(ray, jobs)
        finally:
            ray.shutdown()

    def _run_all(self, ray: Any, jobs: Sequence[TrialJob]) -> Iterator[ResultRecord]:
        remote = ray.remote(_run_in_worker)
        gpus = GPUS_PER_TRIAL if ray.cluster_resources().get("GPU") else 0
        running: dict[Any, TrialJob] = {}
        for job in jobs:
            options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": 0}
            needed = HOST_BYTES if gpus else self.memory_bytes(job)
            if needed is not None:
                available = int(_largest_node_bytes(ray))
                if needed > available and not gpus:
                    sizes = f"{needed / GB:.1f} GB predicted, {available / GB:.1f} GB on the largest node"
                    yield failed_trial_record(job.spec, f"no node has enough memory: {sizes}")
                    continue
                options["memory"] = needed
            running[remote.options(**options).remote(job, self.run)] = job
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                yield failed_trial_record(job.spec, f"its worker failed: {str(error).splitlines()[0]}")


# At most one, in each of Ray's worker processes, which run many trials.
_WORKER_CACHES: list[TrialWorkerCache] = []


def _run_in_worker(job: TrialJob, run: TrialFunction) -> ResultRecord:
    if not _WORKER_CACHES:
        _WORKER_CACHES.append(TrialWorkerCache())
    return run(job, _WORKER_CACHES[0], Progress())


def _largest_node_bytes(ray: Any) -> float:
    return max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)


def _import_ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise TalimError("--ray needs Ray; in the folder of talim's source type: pip install '.[ray]'") from None
    return ray
