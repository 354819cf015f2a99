"""Products of hidden states with the weights of linear layers, prepared once: float32, bf16 or int8.

Every module whose output is an affine function of each frame is read as its weight and bias, so that LoRA, DoRA, IA3
and the other methods of PEFT cost nothing while decoding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

from talim.backbones.musicgen.decoding import compiled

Form = Literal["plain", "packed", "int8"]
INT8_WEIGHT_MAXIMUM = 63
PACKED_ROWS = 32  # that the order of a packed weight is chosen for
LANES = 32  # numbers that a CPU takes at once; what is left over is computed otherwise, with other last digits
PROBED_INPUTS = 512  # at a time
# relative to the largest output; the probe of a module that is no affine function of its input is far off
PROBE_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


class Product:
    """The product of rows [M, inputs] with a weight [outputs, inputs], and a bias; this one reads both as they are."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, states: Tensor) -> Tensor:
        """[M, inputs] -> [M, outputs]."""
        return F.linear(states, self.weight, self.bias)

    def gelu(self, states: Tensor) -> Tensor:
        """GELU of the product."""
        return elementwise(F.gelu, self(states))

    def add(self, states: Tensor, others: Tensor) -> Tensor:
        """The product, added to rows [M, outputs]."""
        return others + self(states)


def in_one_thread(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The function's result, computed by one thread; a context manager would take a tenth of a small product."""
    threads = torch.get_num_threads()
    if threads == 1:
        return function(*arguments)
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(threads)


def elementwise(function: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """GELU, sigmoid or the like, of which a number has the same digits wherever it stands."""
    count = states.numel()
    if states.device.type != "cpu" or count % LANES == 0:
        return function(states)
    return function(F.pad(states.reshape(-1), (0, -count % LANES)))[:count].view_as(states)


class PackedProduct(Product):
    """On a CPU, with a copy of the weight in the order in which it is read.

    F.linear makes this copy in every call, which takes as long as the product of a few rows. GELU and sum are done
    where the product is written.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_ROWS), bias)
        self.run = torch.ops.mkldnn._linear_pointwise.default
        self.run_with = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, states: Tensor) -> Tensor:
        if states.shape[0] == 1:  # with the kernel of several rows, so that a row is the same alone
            return self(states.expand(2, -1))[:1]
        return self.run(states, self.weight, self.bias, "none", [], "")

    def gelu(self, states: Tensor) -> Tensor:
        if states.shape[0] == 1:
            return self.gelu(states.expand(2, -1))[:1]
        return self.run(states, self.weight, self.bias, "gelu", [], "none")

    def add(self, states: Tensor, others: Tensor) -> Tensor:
        if states.shape[0] == 1:
            return self.add(states.expand(2, -1), others.expand(2, -1))[:1]
        return self.run_with(states, others, self.weight, self.bias, "add")


class Int8Product(Product):
    """On a CPU, with weights in 7 bits and a scale for each output, states in 8 bits with a range for each row.

    8 and 8 bits would overflow in the instructions of CPUs without VNNI. The kernel has one range for all rows of a
    call: each row is therefore scaled to lie in -1 to 1, so that the common range is always the same and a row does
    not depend on the others. `shifted` rows lie in 0 to 1 instead, which costs two more passes and gives smaller steps
    where the range is not symmetric, as after GELU. torch's kernels for x86 are told the range; those for other
    processors find it in the rows, to which one is added that holds both of its ends.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, shifted: bool = False) -> None:
        values = weight.float()
        scales = values.abs().amax(dim=1).clamp(min=1e-12) / INT8_WEIGHT_MAXIMUM
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own tensors with a quantised dtype are to move to another package
            zeros = torch.zeros(len(scales), dtype=torch.long)
            quantised = torch.quantize_per_channel(values, scales.double(), zeros, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(quantised, None)
        self.sums = quantised.int_repr().sum(dim=1)[None].float() * scales  # [1, outputs]
        self.inputs, self.shifted = weight.shape[1], shifted
        self.input_scale, self.input_zero = (1 / 255, 0) if shifted else (2 / 255, 128)
        self.finds_range = torch.backends.quantized.engine not in ("x86", "fbgemm")
        self.rooms: dict[int, _Room] = {}  # by rows
        kernels = compiled.kernels("int8_kernels")
        self.scale_rows = kernels.shift_rows if shifted else kernels.scale_rows
        self.bias, self.dtype = bias, weight.dtype
        self.run = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        self.run_with_range = torch.ops.quantized.linear_dynamic.default

    def __call__(self, states: Tensor) -> Tensor:
        product, scale, shift = self._scaled_product(states.float())
        product = product.mul_(scale)
        if shift is not None:
            product = product.addmm_(shift, self.sums)
        if self.bias is not None:
            product += self.bias
        return product.to(self.dtype)

    def add(self, states: Tensor, others: Tensor) -> Tensor:
        if self.bias is not None or self.shifted or others.dtype != torch.float32:
            return super().add(states, others)
        product, scale, _ = self._scaled_product(states.float())
        return torch.addcmul(others, product, scale)

    def _scaled_product(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The product of the scaled rows, their scales [M, 1], and how they were shifted [M, 1]."""
        count = rows.shape[0]
        if count not in self.rooms:
            self.rooms[count] = _Room(count, self.inputs, self.shifted, self.finds_range)
        room = self.rooms[count]
        self.scale_rows(rows.contiguous().numpy(), *room.arrays)
        if self.finds_range:
            return self.run_with_range(room.scaled, self.packed, False)[:-1], room.scales, room.lowest
        product = self.run(room.scaled, self.input_scale, self.input_zero, self.packed)
        return product, room.scales, room.lowest


class _Room:
    """Where the scaled rows of a product are written, [M, inputs]; another row holds their range if it `has_range`."""

    def __init__(self, count: int, inputs: int, shifted: bool, has_range: bool) -> None:
        self.scaled = torch.zeros(count + has_range, inputs)
        if has_range:
            self.scaled[-1, 0], self.scaled[-1, -1] = 0.0 if shifted else -1.0, 1.0
        self.scales = torch.empty(count, 1)
        self.lowest = torch.empty(count, 1) if shifted else None
        self.arrays = [each.numpy() for each in (self.scaled, self.scales, self.lowest) if each is not None]


class UnsupportedError(Exception):
    """What this decoder cannot compute; its text says which module and why."""


class Norm:
    """A layer norm, without what a module looks up in each call."""

    def __init__(self, norm: nn.Module, path: str) -> None:
        if type(norm) is not nn.LayerNorm:
            raise UnsupportedError(f"{path} is a {type(norm).__name__}")
        self.weight, self.bias = norm.weight.detach(), None if norm.bias is None else norm.bias.detach()
        self.shape, self.eps = norm.normalized_shape, norm.eps

    def __call__(self, states: Tensor) -> Tensor:
        return torch.layer_norm(states, self.shape, self.weight, self.bias, self.eps, False)


def read_affine(module: nn.Module, path: str) -> tuple[Tensor, Tensor | None]:
    """Weight [outputs, inputs] and bias [outputs] of a module that maps each frame by itself, in evaluation mode.

    UnsupportedError if it is no affine function; the bias is None where it would be zero.
    """
    if type(module) is nn.Linear:
        return module.weight.detach(), None if module.bias is None else module.bias.detach()
    inputs = getattr(module, "in_features", None)
    if not isinstance(inputs, int):
        raise UnsupportedError(f"{path} is a {type(module).__name__}")
    parameter = next(module.parameters())
    zero = _run(module, torch.zeros(1, inputs, device=parameter.device, dtype=parameter.dtype), path)
    weight = _lora_weight(module)
    if weight is None:
        unit = torch.eye(inputs, device=parameter.device, dtype=parameter.dtype)
        parts = [_run(module, rows, path).float() - zero.float() for rows in unit.split(PROBED_INPUTS)]
        weight = torch.cat(parts).t().contiguous().to(zero.dtype)
    bias = zero[0] if bool(zero.any()) else None
    _check_affine(module, weight, bias, path)
    return weight, bias


def _lora_weight(module: nn.Module) -> Tensor | None:
    """The merged weight of a plain LoRA layer; None for any other, whose weight is found by probing."""
    if not isinstance(module, LoraLayer) or getattr(module, "disable_adapters", False):
        return None
    base = cast(Any, module).get_base_layer()
    active = [name for name in cast(Any, module).active_adapters if name in module.lora_A]
    if type(base) is not nn.Linear or any(getattr(module, "use_dora", {}).get(name) for name in active):
        return None
    try:
        deltas = [cast(Any, module).get_delta_weight(name).float() for name in active]
    except (AttributeError, NotImplementedError, KeyError):
        return None
    return sum(deltas, base.weight.detach().float()).to(base.weight.dtype)  # type: ignore[union-attr]


def _check_affine(module: nn.Module, weight: Tensor, bias: Tensor | None, path: str) -> None:
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(3, weight.shape[1], generator=generator).to(weight.device, weight.dtype)
    expected, found = _run(module, probe, path).float(), F.linear(probe, weight, bias).float()
    tolerance = PROBE_TOLERANCE.get(weight.dtype, 1e-4)
    if not bool((expected - found).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-6)):
        raise UnsupportedError(f"{path} ({type(module).__name__}) is no affine function of each frame")


def _run(module: nn.Module, rows: Tensor, path: str) -> Tensor:
    try:
        with torch.no_grad():
            output = module(rows[None])
    except Exception as error:
        raise UnsupportedError(f"{path} ({type(module).__name__}) cannot be called on frames alone") from error
    if not isinstance(output, Tensor):
        raise UnsupportedError(f"{path} ({type(module).__name__}) returns no hidden states alone")
    return output[0]


def join_affine(parts: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Several layers with the same input as one."""
    weight = torch.cat([weight for weight, _ in parts])
    if all(bias is None for _, bias in parts):
        return weight, None
    return weight, torch.cat([w.new_zeros(len(w)) if b is None else b.to(w.dtype) for w, b in parts])


def make_product(weight: Tensor, bias: Tensor | None, form: Form = "packed", shifted: bool = False) -> Product:
    """The product with a weight [outputs, inputs] on its device; on a CPU in one of three forms.

    "plain" reads the weight where it is, "packed" has a copy in the order in which the CPU reads it, "int8" a quantised
    one, for rows whose range is not symmetric if `shifted`.
    """
    if weight.device.type != "cpu" or form == "plain":
        return Product(weight, bias)
    if form == "int8":
        return Int8Product(weight, bias, shifted)
    return (PackedProduct if _can_be_packed(weight.dtype) else Product)(weight, bias)


def _can_be_packed(dtype: torch.dtype) -> bool:
    """Whether this CPU has kernels for packed weights: those for bf16 need AVX-512 or more."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def product_of(linear: nn.Module, scale: float = 1.0) -> Product:
    """The product with an nn.Linear's weight, times `scale`."""
    assert isinstance(linear, nn.Linear)
    weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    if scale != 1.0:
        weight, bias = weight * scale, None if bias is None else bias * scale
    return make_product(weight, bias)
