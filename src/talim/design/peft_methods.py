"""Any method of the installed PEFT that adapts linear layers, as the kind `peft:NAME`: its configuration and its size.

PEFT is asked, not described: a method is counted by adding it to linear layers of the same shapes without memory.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from talim.design.expression import PEFT_PREFIX as PREFIX
from talim.design.expression import SITE_NAMES, layer_range
from talim.errors import UsageError
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from peft.config import PeftConfig

    from talim.design.expression import Part
    from talim.design.musicgen_sites import TargetLinear

# kinds that are a setting of another method of PEFT: its name and the setting
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"rslora": ("lora", {"use_rslora": True, "lora_alpha": 16})}
OWN_KINDS = ("lora", "ia3")  # of the grammar itself
UNSUITED = {
    "adamss": "its shapes come from the base's weights, so that its size cannot be known before",
    "adalora": "its ranks follow a schedule that only a training loop made for it keeps",
    "adaption_prompt": "it adapts the attention of a few named language models only",
    "frod": "it decomposes the weights of all layers together, so that its size cannot be known before",
    "lily": "it shares weights between layers whose names end alike, and a design names every layer exactly",
    "ln_tuning": "it trains normalisation layers",
    "poly": "it needs the number of a task with every batch",
    "shadow": "it adds a second model beside a language model",
    "trainable_tokens": "it trains rows of embeddings",
    "xlora": "it mixes LoRAs that were trained before",
}
# the setting that its size is; of all others it is r
SIZE_FIELDS = {
    "boft": "boft_block_size",
    "c3a": "block_size",
    "fourierft": "n_frequency",
    "oft": "oft_block_size",
    "osf": "effective_rank",
    "tinylora": "u",
    "unilora": "theta_d_length",
    "vblora": "num_vectors",
    "waveft": "n_frequency",
}
UNSIZED = ("supertuning",)  # and those without any of these settings
BLOCKS = ("boft", "c3a", "oft")  # their size must divide the widths
STEPS = {"gralora": 2, "hra": 2, "vblora": 2}  # of which their size is a multiple
MAX_RANK = 2048
SPARSE = "shira"  # PEFT cannot build it without memory; its parameters are r values for each input and output


def is_method(kind: str) -> bool:
    """Whether a kind is `peft:NAME`."""
    return kind.startswith(PREFIX)


@cache
def method_names() -> tuple[str, ...]:
    """Names that may follow `peft:`: methods that are registered with the installed PEFT and adapt linear layers."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import BaseTuner
    from peft.utils.peft_types import PeftType

    registered = [
        kind.value.lower()
        for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()
        if isinstance(kind, PeftType) and issubclass(tuner, BaseTuner)
    ]
    return tuple(sorted({*registered, *VARIANTS} - {*UNSUITED, *OWN_KINDS}))


def check_method(kind: str) -> str:
    """The method's name in PEFT; UsageError for one that is not installed or does not fit."""
    name = kind.removeprefix(PREFIX)
    if name in method_names():
        return VARIANTS[name][0] if name in VARIANTS else name
    if name in OWN_KINDS or name == "dora":
        size = (
            "takes no size: ia3@all" if name == "ia3" else f"takes a rank or a budget: {name}@all:r8, {name}@all:2.5%"
        )
        raise UsageError(f"{kind}: write {name} alone, which {size}")
    if name in UNSUITED:
        raise UsageError(f"{kind} cannot be trained here: {UNSUITED[name]}")
    close = difflib.get_close_matches(name, method_names(), n=1)
    hint = f"did you mean {PREFIX}{close[0]}? " if close else ""
    sized = {name: size_field(PREFIX + name) for name in method_names()}
    with_size = [name if field == "r" else f"{name} (its {field})" for name, field in sized.items() if field]
    raise UsageError(
        f"{kind} is no method of the installed PEFT that changes linear layers; {hint}with a size (a budget such as "
        f"2.5%, or r8 for a rank of 8) there are {', '.join(with_size)}; without a size "
        f"{', '.join(name for name, field in sized.items() if not field)}"
    )


def size_field(kind: str) -> str | None:
    """The setting of PEFT that the size of a kind is; None for a method without."""
    method = check_method(kind)
    field = SIZE_FIELDS.get(method, "r")
    return field if method not in UNSIZED and field in _defaults(method) else None


def check_size(part: Part) -> str | None:
    """As `size_field`; UsageError for a part with a size that its method does not take, or without one that it needs.

    Nothing is checked for kinds of the grammar itself, and for a stored adapter, which names neither sites nor sizes.
    """
    if not is_method(part.kind) or not (part.site in SITE_NAMES or layer_range(part.site)):
        return None
    field, alone = size_field(part.kind), f"{part.kind}@{part.site}"
    if field is None and part.size is not None:
        raise UsageError(f"{part.kind} takes no size; write {alone}")
    if field is not None and part.size is None:
        raise UsageError(f"{part.kind} needs a size; write {alone}:2.5% or, for {field}=8, {alone}:r8")
    return field


def make_config(
    kind: str, size: int | None, matrices: Sequence[TargetLinear], target_modules: str | list[str], dropout: float = 0.0
) -> PeftConfig:
    """PEFT's configuration of a method for these linear layers; UsageError where PEFT refuses it.

    A scaling that depends on the rank keeps the ratio of PEFT's defaults; `dropout` is used where the method has one.
    """
    method = check_method(kind)
    defaults, field = _defaults(method), size_field(kind)
    values: dict[str, Any] = {"target_modules": target_modules}
    if field is not None and size is not None:
        values[field] = size
        for alpha in ("alpha", f"{method}_alpha", "lora_alpha"):
            if field == "r" and isinstance(defaults.get(alpha), int | float) and defaults.get("r"):
                values[alpha] = max(1, round(defaults[alpha] / defaults["r"] * size))
    if f"{method}_dropout" in defaults:
        values[f"{method}_dropout"] = dropout
    common = math.gcd(*(width for matrix in matrices for width in (matrix.inputs, matrix.outputs)))
    values |= {
        # as large factors leave too few parameters; the smaller one where the rank would be that of a whole matrix
        "lokr": {"decompose_factor": 4 if (size or 1) < common / 8 else 2},
        "c3a": {"init_weights": True},  # zeros, so that it begins as the base
        "fourierft": {"init_weights": True},
        "oft": {"r": 0},  # either that or the size of a block
        "road": {"group_size": math.gcd(common, 64)},
        "vblora": {"vector_length": math.gcd(common, 256)},
    }.get(method, {})
    values |= VARIANTS[kind.removeprefix(PREFIX)][1] if kind.removeprefix(PREFIX) in VARIANTS else {}
    try:
        return _config_class(method)(**values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{kind}: {' '.join(str(error).split())}") from error


@lru_cache(maxsize=4096)
def count(kind: str, size: int | None, matrices: tuple[TargetLinear, ...]) -> tuple[int, int]:
    """Trainable parameters and the tensors that hold them, of a method on these layers together.

    UsageError where PEFT cannot add it there.
    """
    if check_method(kind) == SPARSE:
        if any((size or 1) * (m.inputs + m.outputs) > m.inputs * m.outputs for m in matrices):
            raise UsageError(f"{kind} with r={size} has more values than these layers")
        return sum((size or 1) * (m.inputs + m.outputs) for m in matrices), len(matrices)
    shapes = Counter((matrix.inputs, matrix.outputs) for matrix in matrices)
    examples = {shape: _examples([m for m in matrices if (m.inputs, m.outputs) == shape]) for shape in shapes}
    alone = {shape: _trained(_adapted(kind, size, (pair[0],))) for shape, pair in examples.items()}
    together = _trained(_adapted(kind, size, tuple(matrix for pair in examples.values() for matrix in pair)))
    if sum(together) == sum(len(p) * sum(alone[s]) for s, p in examples.items()):
        parts = [(number, alone[shape]) for shape, number in shapes.items()]  # no layer shares weights with another
    else:
        parts = [(1, _trained(_adapted(kind, size, matrices)))]
    values, tensors = (sum(number * of(weights) for number, weights in parts) for of in (sum, len))
    if not values:
        raise UsageError(f"{kind} trains nothing in linear layers")
    return values, tensors


def _examples(matrices: Sequence[TargetLinear]) -> list[TargetLinear]:
    """Up to three of a shape, among them two of the same name: methods share weights between layers by either."""
    first = matrices[0]
    leaf = first.module.rpartition(".")[2]
    alike = [matrix for matrix in matrices[1:] if matrix.module.rpartition(".")[2] == leaf]
    return list(dict.fromkeys([first, *alike[:1], *matrices[1:2]]))


def _trained(model: Any) -> list[int]:
    """Numbers of values of the trained weights."""
    return [weight.numel() for weight in model.parameters() if weight.requires_grad]


@lru_cache(maxsize=4096)
def flops(kind: str, size: int | None, matrix: TargetLinear, positions: int) -> int:
    """Forward FLOPs that a method adds to one linear layer over `positions` of its input, as PEFT computes it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if check_method(kind) == SPARSE:
        return matrix.inputs * matrix.outputs  # adds its values to the matrix
    model = _adapted(kind, size, (matrix,))
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.no_grad():
            model.get_submodule(f"base_model.model.{matrix.module}")(
                torch.empty(1, positions, matrix.inputs, device="meta")
            )
    except Exception:  # a method that looks at values: as much as a layer of its own
        return 2 * matrix.inputs * matrix.outputs * positions
    return max(0, counter.get_total_flops() - 2 * matrix.inputs * matrix.outputs * positions)


def solve_size(kind: str, budget: int, matrices: tuple[TargetLinear, ...]) -> int:
    """The size of a method that comes nearest to a number of trainable parameters; UsageError if none is near it."""
    method = check_method(kind)
    if method in BLOCKS:
        common = math.gcd(*(width for matrix in matrices for width in (matrix.inputs, matrix.outputs)))
        sizes = [size for size in range(2, common + 1) if common % size == 0]
    else:
        step = STEPS.get(method, 1)
        widest = max(max(matrix.inputs, matrix.outputs) for matrix in matrices)
        largest = min(widest, MAX_RANK) if size_field(kind) == "r" else budget
        sizes = _sizes_around(lambda size: _try_count(kind, size, matrices), budget, step, largest)
    counts = {size: found for size in sizes if (found := _try_count(kind, size, matrices)) is not None}
    if not counts:
        count(kind, (sizes or [STEPS.get(method, 1)])[0], matrices)  # raises what PEFT says
        raise UsageError(f"{kind} has no size that fits these layers")
    best = min(counts, key=lambda size: abs(counts[size] - budget))
    low, high = min(counts.values()), max(counts.values())
    if not 0.5 * budget <= counts[best] <= 2 * budget:
        raise UsageError(
            f"{kind} cannot have about {budget:,} parameters at these "
            f"{format_counted(len(matrices), 'linear layer')}; the nearest is "
            f"{counts[best]:,}" + (f" (sizes that were tried give {low:,} to {high:,})" if low != high else "")
        )
    return best


def _sizes_around(counted: Callable[[int], int | None], budget: int, step: int, largest: int) -> list[int]:
    """Two neighbouring sizes between which the budget lies, or the one at the end of the range."""
    first, second = counted(step), counted(2 * step)
    if first is None:
        return []
    rises = second is None or second >= first

    def is_beyond(size: int) -> bool:
        found = counted(size)
        return found is None or (found > budget if rises else found < budget)

    if is_beyond(step):
        return [step]
    if second is not None and second != first:  # most methods grow by the same number with each step
        steps = min((budget - first) // (second - first), largest // step)
        guess = step * (1 + max(0, steps))
        if guess >= largest and not is_beyond(largest // step * step):
            return [largest // step * step]
        if not is_beyond(guess) and is_beyond(guess + step):
            return [guess, guess + step]
    inside, beyond = step, 2 * step
    while beyond <= 2 * largest and not is_beyond(beyond):
        if counted(beyond) == counted(inside):  # it is as large as it can be
            return [inside]
        inside, beyond = beyond, 2 * beyond
    while beyond - inside > step:
        middle = (inside + beyond) // (2 * step) * step
        inside, beyond = (inside, middle) if is_beyond(middle) else (middle, beyond)
    return [inside, beyond]


def _try_count(kind: str, size: int, matrices: tuple[TargetLinear, ...]) -> int | None:
    try:
        return count(kind, size, matrices)[0]
    except UsageError:
        return None


def _adapted(kind: str, size: int | None, matrices: tuple[TargetLinear, ...]) -> Any:
    """Linear layers of these shapes under their own paths, without memory, with the method on each."""
    import torch
    from peft import get_peft_model
    from torch import nn

    root: Any = nn.Module()
    with torch.device("meta"):
        for matrix in matrices:
            parent, (*path, leaf) = root, matrix.module.split(".")
            for name in path:
                if name not in parent._modules:
                    parent.add_module(name, nn.Module())
                parent = parent._modules[name]
            parent.add_module(leaf, nn.Linear(matrix.inputs, matrix.outputs, bias=False))
    config = make_config(kind, size, matrices, [matrix.module for matrix in matrices])
    try:
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            return get_peft_model(root, config, "counted")
    except Exception as error:  # whatever PEFT says of sizes and shapes
        cause = " ".join(str(error).split()) or type(error).__name__
        setting = "" if size is None else f" with {size_field(kind)}={size}"
        raise UsageError(f"{kind}{setting} does not fit these layers: {cause:.200}") from error


@cache
def _defaults(method: str) -> dict[str, Any]:
    return {field.name: field.default for field in fields(_config_class(method))}


def _config_class(method: str) -> Any:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils.peft_types import PeftType

    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method.upper())]
