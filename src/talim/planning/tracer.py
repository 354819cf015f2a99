"""Trace a function on tensors without data (fake tensors): peak memory, and every operation with FLOPs and bytes.

Every storage is tracked from allocation to deallocation, so the peak includes what a step keeps or recomputes.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

ALIGNMENT = 64  # bytes to which torch rounds CPU allocations; a GPU's 512 make no difference to a plan
ATEN = torch.ops.aten


def _attention_flops(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q.shape, k.shape, v.shape)


def _attention_backward_flops(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape)


FORMULAS: dict[Any, Any] = {
    **flop_registry,  # torch's registry lacks attention on a CPU
    ATEN._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


@dataclass(frozen=True)
class OperationCost:
    """FLOPs of one call of an operation, and the bytes it reads and writes."""

    name: str  # "mm", "gelu"
    dtype: str  # of the output, such as "bfloat16"
    shapes: tuple[tuple[int, ...], ...]  # of the inputs; empty where there are no FLOPs
    flops: int
    bytes: int


@dataclass
class Trace:
    """Peak bytes of live tensors, bytes of those that live throughout, and operations with their number of calls."""

    peak_bytes: int
    operations: list[tuple[OperationCost, int]]
    resident_bytes: int = 0  # live when the trace began: weights and optimiser state

    @property
    def flops(self) -> int:
        """FLOPs of all matrix products, convolutions and attention."""
        return sum(operation.flops * calls for operation, calls in self.operations)

    @property
    def calls(self) -> int:
        """Number of kernel launches."""
        return sum(calls for _, calls in self.operations)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        rows = [{**asdict(operation), "calls": calls} for operation, calls in self.operations]
        return {"peak_bytes": self.peak_bytes, "resident_bytes": self.resident_bytes, "operations": rows}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Trace:
        """From the result of `to_json`; KeyError or TypeError for other values."""
        rows = []
        for row in values["operations"]:
            calls, shapes = row.pop("calls"), tuple(map(tuple, row.pop("shapes")))
            rows.append((OperationCost(shapes=shapes, **row), calls))
        return cls(values["peak_bytes"], rows, values["resident_bytes"])


class TensorTracer(TorchDispatchMode):
    """Dispatch mode that tracks storages, counts operations, and answers when a value of a tensor is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = self.resident_bytes = 0
        self.operations: Counter[OperationCost] = Counter()
        self._storages: dict[int, Any] = {}

    def reset(self) -> None:
        """Restart counting: the peak from what is live now, operations from none."""
        self.peak_bytes = self.resident_bytes = self.live_bytes
        self.operations.clear()

    def result(self) -> Trace:
        """The trace since `reset`."""
        return Trace(self.peak_bytes, list(self.operations.items()), self.resident_bytes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is ATEN._local_scalar_dense.default:
            # .item() gets the value of a regular step: the loss is finite, no frame is padding
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._track(tensor)
        self._count(func, args, kwargs or {}, result)
        return result

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        size = -(-storage.nbytes() // ALIGNMENT) * ALIGNMENT
        self._storages[key] = weakref.ref(storage, lambda _: self._on_storage_freed(key, size))
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _on_storage_freed(self, key: int, size: int) -> None:
        self._storages.pop(key, None)
        self.live_bytes -= size

    def _count(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        outputs, inputs = _tensors(result), _tensors((args, kwargs))
        storages = {tensor.untyped_storage()._cdata for tensor in inputs}
        mutates = func._schema.is_mutable
        if not outputs or (not mutates and all(t.untyped_storage()._cdata in storages for t in outputs)):
            return  # a view moves no data
        flops = 0
        if (formula := FORMULAS.get(func._overloadpacket)) is not None:
            flops = int(formula(*args, **kwargs, out_val=result))
        moved_bytes = sum(tensor.numel() * tensor.element_size() for tensor in (*inputs, *outputs))
        shapes = tuple(tuple(tensor.shape) for tensor in inputs) if flops else ()
        dtype = str(outputs[0].dtype).removeprefix("torch.")
        name = func._overloadpacket.__name__
        self.operations[OperationCost(name, dtype, shapes, flops, moved_bytes)] += 1


def empty_like(tensor: Tensor) -> Tensor:
    """An uninitialised tensor of the same shape, strides and dtype on the CPU."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def trace(function: Callable[[], Any], prepare: Callable[[], Any] = lambda: None) -> Trace:
    """The trace of `function` after `prepare`, both run without data; the peak includes what `prepare` leaves live."""
    tracer = TensorTracer()
    with FakeTensorMode(allow_non_fake_inputs=True), tracer:
        prepared = prepare()  # kept alive until the trace is complete
        tracer.reset()
        function()
        result = tracer.result()
        del prepared
    return result


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
