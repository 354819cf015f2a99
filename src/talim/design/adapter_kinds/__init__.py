"""Adapter kinds by their names in designs: linear, conv, transformer, and what users add.

To add a kind, subclass `Kind` and pass it to `register`; designs, budgets, streaming and files then support it.
"""

from __future__ import annotations

import re

from talim.design import expression
from talim.design.adapter_kinds.conv import Conv
from talim.design.adapter_kinds.kind import Kind
from talim.design.adapter_kinds.linear import Linear
from talim.design.adapter_kinds.transformer import Transformer
from talim.errors import UsageError

__all__ = ["KINDS", "Conv", "Kind", "Linear", "Transformer", "register"]

KINDS: dict[str, type[Kind]] = {"linear": Linear, "conv": Conv, "transformer": Transformer}


def register(name: str, kind: type[Kind]) -> None:
    """Make a custom kind available under a name, in design expressions and stored adapters."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r} cannot stand in a design; use small letters, digits and _, such as my_kind")
    if name in expression.kind_names() and KINDS.get(name) is not kind:
        raise UsageError(f"{name!r} is already the name of an adapter kind")
    KINDS[name] = kind
    if name not in expression.BOTTLENECK_KINDS:
        expression.BOTTLENECK_KINDS.append(name)
