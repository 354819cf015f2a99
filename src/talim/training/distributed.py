"""Data-parallel training over processes that accelerate or torchrun started, one GPU each, all with the same weights.

A step's gradient is that of its whole batch: each rank's is weighted by the frames or clips that it averages over.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from talim.errors import TalimError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from talim.backbones.protocol import Loss

T = TypeVar("T")
SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
COLLECTIVE_TIMEOUT = timedelta(hours=2)  # covers downloading a base or encoding a shard of a corpus


class DistributedContext:
    """This process's rank among `count` processes. All methods but `shard` must be called by every rank.

    TalimError in the remaining processes where one has ended.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's contiguous part of `items`; sizes differ by one at most."""
        begin, end = (len(items) * index // self.count for index in (self.rank, self.rank + 1))
        return items[begin:end]

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.all_gather(None)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Rank 0 runs the block before the others, so that an error that all would have is reported once."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def any_true(self, flag: bool) -> bool:
        """Whether the flag is set in any rank."""
        return any(self.all_gather(flag))

    def check_agreement(self, **values: str) -> None:
        """TalimError where ranks, perhaps on different machines, have different values of one name."""
        for name, value in values.items():
            if len(distinct := set(self.all_gather(value))) > 1:
                raise TalimError(f"the processes have different {name}s ({', '.join(sorted(distinct))})")

    def all_gather(self, value: T) -> list[T]:
        """Every rank's value (anything that can be pickled), in order of rank."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        with report_lost_ranks():
            return gather_object([value])

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over ranks of tensors of one shape, each on its own device."""
        if self.count == 1:
            return tensor
        from accelerate.utils import reduce

        with report_lost_ranks():
            return reduce(tensor, "sum")  # pyright: ignore[reportReturnType]

    def reduce_gradients(self, weights: Mapping[str, nn.Parameter], loss: Loss) -> Loss:
        """Replace each rank's gradients by those of the whole batch, and return its loss; one exchange."""
        if self.count == 1:
            return loss
        import torch

        losses = torch.cat([loss.mean.detach()[None], loss.parts.detach(), loss.mean.new_ones(1)]).float()
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights.values()]
        flat = torch.cat([*(gradient.flatten().float() for gradient in gradients), losses])
        total = self.all_reduce(flat.mul_(loss.count))
        sizes = [*(gradient.numel() for gradient in gradients), len(losses)]
        *means, losses = (total / total[-1]).split(sizes)
        for weight, mean in zip(weights.values(), means, strict=True):
            weight.grad = mean.view_as(weight).to(weight.dtype)
        return replace(loss, mean=losses[0], parts=losses[1:-1], count=total[-1])


SINGLE_PROCESS = DistributedContext()


@contextlib.contextmanager
def init_process_group(device: str = "auto") -> Iterator[DistributedContext]:
    """Join the processes that a launcher started; `SINGLE_PROCESS` where there was none.

    UsageError for FSDP and DeepSpeed, for one device for all ranks, and for more ranks than GPUs.
    """
    if _launcher_variable("WORLD_SIZE", 1) == 1:
        yield SINGLE_PROCESS
        return
    for variable, name in SHARDING.items():
        if os.environ.get(variable, "").lower() == "true":
            raise UsageError(
                f"accelerate was configured with {name}, which shards the base; talim needs the whole base on every "
                "GPU: launch with --num_processes alone"
            )
    import torch

    if device not in ("auto", "cpu", "cuda", "gpu"):
        raise UsageError(f"--device {device} is one device for all processes; leave it out, each takes its own GPU")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    local_count, gpus = _launcher_variable("LOCAL_WORLD_SIZE", 1), torch.cuda.device_count()
    if not on_cpu and local_count > gpus:
        raise UsageError(f"{local_count} processes were started for {gpus} GPUs; start one per GPU at most")
    from accelerate import PartialState

    with report_lost_ranks():
        state = PartialState(cpu=on_cpu, timeout=COLLECTIVE_TIMEOUT)
    yield DistributedContext(state.process_index, state.num_processes)
    state.destroy_process_group()
    PartialState._reset_state()


def is_main_process() -> bool:
    """Whether this is rank 0, or the only process."""
    return _launcher_variable("WORLD_SIZE", 1) == 1 or _launcher_variable("RANK", 0) == 0


def require_single_process(command: str) -> None:
    """UsageError where a launcher started several processes of a command that is not distributed."""
    if (count := _launcher_variable("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ:
        raise UsageError(
            f"{count} processes were started of talim {command}, and only talim train is distributed; start one "
            "(talim study --num-workers N or --ray ADDRESS runs many trials at a time)"
        )


@contextlib.contextmanager
def report_lost_ranks() -> Iterator[None]:
    """Turn the errors of a collective operation that lost a rank into one TalimError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = re.sub(r"^\[[^]]*\] ", "", first_line).split(". ")[0]  # without the library's source location
        raise TalimError(
            f"process {_launcher_variable('RANK', 0)} of {_launcher_variable('WORLD_SIZE', 1)} lost the others "
            f"({reason}); see the output of the process that ended first; the same command resumes from the last "
            "checkpoint"
        ) from None


def _launcher_variable(name: str, default: int) -> int:
    """An integer that a launcher puts into the environment."""
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else default
