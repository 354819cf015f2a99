"""A piece of work followed operation by operation on tensors that hold no numbers: its memory, its operations.

What a training step needs is read off the step itself. Every storage that comes to be is counted until it goes, so
that whatever the step keeps, recomputes or forgets is in the peak; every operation is written down with its
floating-point operations and the bytes that it moves, so that any machine's time can be told from one trace.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

ALIGNMENT = 64  # bytes to which torch rounds what it takes on a CPU; a GPU's 512 make no difference to a plan
ATEN = torch.ops.aten


def _attention_flops(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q.shape, k.shape, v.shape)


def _attention_back_flops(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape)


FORMULAS: dict[Any, Any] = {
    **flop_registry,  # torch's own, which lacks the CPU's attention
    ATEN._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_back_flops,
}


@dataclass(frozen=True)
class OperationCost:
    """What one kind of call does each time: its FLOPs, and the bytes it reads and writes."""

    name: str  # "mm", "gelu"
    dtype: str  # of what comes out: "bfloat16"
    shapes: tuple[tuple[int, ...], ...]  # of the tensors that go in; empty where there are no FLOPs
    flops: int
    bytes: int


@dataclass
class Trace:
    """What a piece of work did: the most bytes that were alive, and every operation with its number of calls."""

    peak_bytes: int
    operations: list[tuple[OperationCost, int]]

    @property
    def flops(self) -> int:
        """Floating-point operations of all matrix products, convolutions and attention."""
        return sum(operation.flops * times for operation, times in self.operations)

    @property
    def calls(self) -> int:
        """How many kernels were started."""
        return sum(times for _, times in self.operations)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rows = [{**asdict(operation), "times": times} for operation, times in self.operations]
        return {"peak_bytes": self.peak_bytes, "operations": rows}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Trace:
        """What `to_json` wrote; KeyError or TypeError where it is something else."""
        rows = []
        for row in values["operations"]:
            shapes = tuple(tuple(shape) for shape in row.pop("shapes"))
            times = row.pop("times")
            rows.append((OperationCost(shapes=shapes, **row), times))
        return cls(values["peak_bytes"], rows)


class TensorTracer(TorchDispatchMode):
    """Sees every operation: follows storages from birth to death, counts operations, answers for missing numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.operations: Counter[OperationCost] = Counter()
        self._known: dict[int, Any] = {}

    def begin(self) -> None:
        """Count from here: the peak from what is alive now, operations from none."""
        self.peak = self.alive
        self.operations.clear()

    def found(self) -> Trace:
        """What was seen since `begin`."""
        return Trace(self.peak, list(self.operations.items()))

    def hold(self, value: Any) -> None:
        """Count the storages of tensors that are already there."""
        for tensor in _tensors(value):
            self._follow(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is ATEN._local_scalar_dense.default:
            # asked for its value, a number says what it says in a run that goes well: it is finite, no frame is padding
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        result = func(*args, **(kwargs or {}))
        self.hold(result)
        self._count(func, args, kwargs or {}, result)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // ALIGNMENT) * ALIGNMENT
        self._known[key] = weakref.ref(storage, lambda _: self._on_storage_freed(key, size))
        self.alive += size
        self.peak = max(self.peak, self.alive)

    def _on_storage_freed(self, key: int, size: int) -> None:
        self._known.pop(key, None)
        self.alive -= size

    def _count(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        made, given = _tensors(result), _tensors((args, kwargs))
        storages = {tensor.untyped_storage()._cdata for tensor in given}
        mutates = func._schema.is_mutable
        if not made or (not mutates and all(t.untyped_storage()._cdata in storages for t in made)):
            return  # a view moves nothing
        flops = 0
        if (formula := FORMULAS.get(func._overloadpacket)) is not None:
            flops = int(formula(*args, **kwargs, out_val=result))
        moved = sum(_bytes(tensor) for tensor in (*given, *made))
        shapes = tuple(tuple(tensor.shape) for tensor in given) if flops else ()
        dtype = str(made[0].dtype).removeprefix("torch.")
        name = func._overloadpacket.__name__
        self.operations[OperationCost(name, dtype, shapes, flops, moved)] += 1


@contextmanager
def fake_tensor_mode() -> Iterator[TensorTracer]:
    """Inside, every tensor that is made holds no numbers and takes no memory; the follower sees all of them."""
    follower = TensorTracer()
    with FakeTensorMode(allow_non_fake_inputs=True), follower:
        yield follower


def empty_like(tensor: Tensor) -> Tensor:
    """As large as the given one, on the CPU."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def trace(work: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> Trace:
    """What `work` needs after `prepare`, both run without numbers; what `prepare` leaves alive is in the peak."""
    with fake_tensor_mode() as follower:
        kept = prepare()
        follower.begin()
        work()
        found = follower.found()
        del kept
    return found


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
