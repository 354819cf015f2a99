"""One comparison with the reference: what was compared, how far off, how far off it may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

EXACT = 0.0


@dataclass(frozen=True)
class Check:
    """`error` is the largest absolute difference, unless the name says otherwise."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.error <= self.tolerance


Parts = Iterator[tuple[str, Iterator[Check]]]  # the checks of a folder in named parts


@dataclass(frozen=True)
class Golden:
    """A folder of golden files."""

    folder: Path

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / name)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def has(self, *names: str) -> bool:
        return all((self.folder / name).is_file() for name in names)

    @cached_property
    def unets(self) -> tuple[str, ...]:
        """Every NAME with NAME_config.json of a U-Net and NAME.safetensors."""
        found = []
        for path in sorted(self.folder.glob("*_config.json")):
            name = path.name.removesuffix("_config.json")
            config = self.json(path.name)
            if "down_block_types" in config and "block_out_channels" in config and self.has(f"{name}.safetensors"):
                found.append(name)
        return tuple(found)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference in float64; infinite where the shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    return (ours.double() - theirs.double()).abs().max().item() if ours.numel() else 0.0


def compare(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> Check:
    """Float tensors within a tolerance."""
    return Check(name, difference(ours, theirs), tolerance)


def same(name: str, ours: Any, theirs: Any) -> Check:
    """Anything that must be equal: the error is 0 or 1."""
    equal = torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs
    return Check(name, 0.0 if equal else 1.0, EXACT)


def prefixes(tensors: dict[str, Tensor], marker: str) -> Iterator[str]:
    """The case names before a marker such as ".in.": each once, in order."""
    yield from dict.fromkeys(name.split(marker)[0] for name in tensors if marker in name)
