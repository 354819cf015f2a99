"""Pickled weights, read without executing code that a pickle may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim.errors import TalimError


def read_pickled(path: Path, how: str, advice: str) -> Any:
    """What a file of `torch.save` holds, mapped into memory; `TalimError` where it holds code or is damaged.

    The error reads "PATH cannot be HOW (cause); ADVICE".
    """
    import torch

    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = " ".join(str(error).split())[:120]
        raise TalimError(f"{path} cannot be {how} ({cause}); {advice}") from error
