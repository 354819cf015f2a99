"""What to generate with: a base and adapters, chosen by a run, by folders or by name, and loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.adapters import injection, serialization
from talim.adapters.injection import MAX_ADAPTER_SCALE
from talim.errors import TalimError, UsageError
from talim.progress import Progress
from talim.run import Run

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter's folder and its scale: 0 is the base alone, 1 as trained, at most 1.5."""

    folder: Path
    scale: float = 1.0


@dataclass(frozen=True)
class GenerationSource:
    """The base and the adapters to generate with; no adapters means the base alone."""

    base: str
    adapters: tuple[AdapterChoice, ...] = ()


def choose_source(
    run: Path | None, base: str | None, adapters: Sequence[Path], no_adapter: bool, scales: Sequence[float] = ()
) -> GenerationSource:
    """Combine --run, --base, --adapter, --adapter-scale and --no-adapter; UsageError where they contradict."""
    for scale in scales:
        check_range("--adapter-scale", scale, 0.0, MAX_ADAPTER_SCALE)
    if run is not None:
        if base is not None or adapters:
            raise UsageError("--run already says base and adapter; leave out --base and --adapter")
        finished = Run(run)
        base, adapters = finished.recipe.base, [] if no_adapter else [finished.adapter]
        if not no_adapter and not finished.adapter.is_dir():
            raise TalimError(f"{run}: its training is not finished; continue with: talim train --out {run}")
    elif adapters and no_adapter:
        raise UsageError("--adapter and --no-adapter contradict each other; leave one out")
    if scales and len(scales) != len(adapters):
        raise UsageError(
            f"--adapter-scale was given {len(scales)} times for {len(adapters)} adapters; give one for each, in order"
        )
    choices = tuple(map(AdapterChoice, adapters, scales or [1.0] * len(adapters)))
    if base is None and choices:
        base = serialization.read_info(choices[0].folder)["base"]["name"]
        if base is None:
            raise UsageError(f"{choices[0].folder} does not say what it was trained on; add --base NAME")
    if base is None:
        raise UsageError("say what to generate with: --run RUN, --adapter FOLDER or --base NAME")
    return GenerationSource(base, choices)


def load_source(source: GenerationSource, device: str = "auto", progress: Progress | None = None) -> Backbone:
    """The base with its adapters, in the base's precision, in eval mode. TalimError where an adapter does not fit."""
    from talim.backbones.load import load

    # read before the base is loaded, so that a wrong folder is refused at once
    infos = [serialization.read_info(choice.folder) for choice in source.adapters]
    backbone = load(source.base, device=device)
    scales: dict[str, float] = {}
    model = None
    for index, (choice, info) in enumerate(zip(source.adapters, infos, strict=True)):
        name = injection.DEFAULT_NAME + (f"-{index + 1}" if index else "")
        model = serialization.load(backbone, choice.folder, name)
        scales[name] = choice.scale
        if info["base"].get("fingerprint") is None and progress is not None:
            progress.log(f"{choice.folder} does not name the weights it was trained on; its shapes fit")
    if model is not None:
        injection.set_adapter_scales(model, scales)
        injection.cast_adapters(model, backbone.dtype)
    backbone.model.eval()
    return backbone


def check_adapter(folder: Path, base: str | None = None) -> dict[str, Any]:
    """Load the adapter into its own base, or into `base`; TalimError says why it does not fit."""
    backbone = load_source(choose_source(None, base, [folder], False))
    return {"folder": str(folder), "base": backbone.name, "fits": True}


def check_range(name: str, value: float, low: float, high: float) -> None:
    """UsageError unless low <= value <= high."""
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{name} is {value:g}; it must be between {low:g} and {high:g}")
