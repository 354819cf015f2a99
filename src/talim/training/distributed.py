"""One training on many processes, a GPU each: every step's clips are shared out, all processes hold the same weights.

A launcher of accelerate or torch starts the processes; without one there is a single process, and nothing here is
imported or awaited. The gradient of a step is that of the whole batch: each process's is weighed by what it is a mean
over (frames, clips), so that unequal shares and lengths do not shift it.
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
COLLECTIVE_TIMEOUT = timedelta(
    hours=2
)  # for the slowest process: downloading a base, encoding its share of a corpus


class DistributedContext:
    """Who trains: `count` processes, of which this is number `index`. All methods besides `share` are for all at once.

    TalimError, in every process that is left, where another one has ended.
    """

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.index == 0

    def share(self, things: Sequence[T]) -> Sequence[T]:
        """This process's part of what all have; neighbours stay together, and parts differ by one at most."""
        begin, end = (len(things) * place // self.count for place in (self.index, self.index + 1))
        return things[begin:end]

    def wait(self) -> None:
        """Until all are here."""
        self.all_gather(None)

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """The first process does it alone, then the others do: what fails for all is told once."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return any(self.all_gather(here))

    def check_agreement(self, **known: str) -> None:
        """TalimError where processes, on machines of their own perhaps, know different things by one name."""
        for name, value in known.items():
            if len(others := set(self.all_gather(value))) > 1:
                raise TalimError(f"the processes have different {name}s ({', '.join(sorted(others))})")

    def all_gather(self, value: T) -> list[T]:
        """Everyone's value (anything that can be pickled), in the order of the processes."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        with report_lost_ranks():
            return gather_object([value])

    def sum(self, tensor: Tensor) -> Tensor:
        """Of everyone's tensor, all of one shape on their own devices."""
        if self.count == 1:
            return tensor
        from accelerate.utils import reduce

        with report_lost_ranks():
            return reduce(tensor, "sum")  # pyright: ignore[reportReturnType]

    def whole(self, weights: Mapping[str, nn.Parameter], loss: Loss) -> Loss:
        """The loss of the step's whole batch, whose gradient takes the place of this share's; in one exchange."""
        if self.count == 1:
            return loss
        import torch

        told = torch.cat([loss.mean.detach()[None], loss.parts.detach(), loss.mean.new_ones(1)]).float()
        slopes = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights.values()]
        summed = self.sum(torch.cat([*(slope.flatten().float() for slope in slopes), told]).mul_(loss.count))
        mean = summed / summed[-1]
        sizes = [*(slope.numel() for slope in slopes), len(told)]
        *means, told = mean.split(sizes)
        for weight, slope in zip(weights.values(), means, strict=True):
            weight.grad = slope.view_as(weight).to(weight.dtype)
        return replace(loss, mean=told[0], parts=told[1:-1], count=summed[-1])


SINGLE_PROCESS = DistributedContext()


@contextlib.contextmanager
def init_process_group(device: str = "auto") -> Iterator[DistributedContext]:
    """The processes that a launcher started, this one among them; `ALONE` where none did.

    UsageError for what cannot be shared out so: a base cut in parts, a GPU for two.
    """
    if _launcher_variable("WORLD_SIZE", 1) == 1:
        yield SINGLE_PROCESS
        return
    for variable, name in SHARDING.items():
        if os.environ.get(variable, "").lower() == "true":
            raise UsageError(
                f"accelerate was configured with {name}, which cuts the base in parts; an adapter's base stays whole "
                "on every GPU: launch with --num_processes alone"
            )
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device} is one place for all processes; leave it away, each takes its own GPU"
        )
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    here = _launcher_variable("LOCAL_WORLD_SIZE", 1)
    if not on_cpu and here > torch.cuda.device_count():
        raise UsageError(
            f"{here} processes were started for {torch.cuda.device_count()} GPUs; one each is the most"
        )
    from accelerate import PartialState

    with report_lost_ranks():
        state = PartialState(cpu=on_cpu, timeout=COLLECTIVE_TIMEOUT)
    yield DistributedContext(state.process_index, state.num_processes)
    state.destroy_process_group()
    PartialState._reset_state()


def is_main_process() -> bool:
    """Whether this is the process that tells results: the first one, or the only one."""
    return _launcher_variable("WORLD_SIZE", 1) == 1 or _launcher_variable("RANK", 0) == 0


def require_single_process(command: str) -> None:
    """UsageError where a launcher started a command many times that does not know how to share its work."""
    if (count := _launcher_variable("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ:
        raise UsageError(
            f"{count} processes were started of talim {command}, and only talim train shares its work; start one "
            "(talim study --jobs N or --ray ADDRESS runs many trials at a time)"
        )


@contextlib.contextmanager
def report_lost_ranks() -> Iterator[None]:
    """One line for what the exchange between processes says when one of them is no more."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason, *_ = re.sub(r"^\[[^]]*\] ", "", said).split(
            ". "
        )  # without the place in the library's own code
        raise TalimError(
            f"process {_launcher_variable('RANK', 0)} of {_launcher_variable('WORLD_SIZE', 1)} lost the others ({reason}); what the first to end "
            "printed is the reason, and the same command goes on from the last checkpoint"
        ) from None


def _launcher_variable(variable: str, otherwise: int) -> int:
    """What a launcher says in the environment."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else otherwise
