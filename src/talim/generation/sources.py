"""TODO docstring."""

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


def check_adapter(folder: Path, base: str | None = None) -> dict[str, Any]:
    """Load the adapter into its own base, or into `base`; TalimError says why it does not fit."""
    from talim.generation.sources import choose_source, load_source

    source = choose_source(None, base, [folder], False)
    backbone = load_source(source)
    return {"folder": str(folder), "base": backbone.name, "fits": True}


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter's folder and how strongly it acts: 0 not at all, 1 as trained, at most 1.5."""

    folder: Path
    strength: float = 1.0


@dataclass(frozen=True)
class GenerationSource:
    """Which base and which adapters to use; none means the base alone."""

    base: str
    adapters: tuple[AdapterChoice, ...] = ()


def choose_source(
    run: Path | None,
    base: str | None,
    adapters: Sequence[Path],
    no_adapter: bool,
    strengths: Sequence[float] = (),
) -> GenerationSource:
    """What --run, --base, --adapter, --strength and --no-adapter mean together; UsageError where they contradict."""
    for strength in strengths:
        _check_range("--strength", strength, 0.0, MAX_ADAPTER_SCALE)
    if run is not None:
        if base is not None or adapters:
            raise UsageError("--run already says base and adapter; leave out --base and --adapter")
        from talim.training.train import stored_recipe

        folder = Run(run)
        base, adapters = stored_recipe(folder).base, [] if no_adapter else [folder.adapter]
        if not no_adapter and not folder.adapter.is_dir():
            raise TalimError(f"{run}: its training is not finished; go on with: talim train --out {run}")
    elif adapters and no_adapter:
        raise UsageError("--adapter and --no-adapter contradict each other; leave one out")
    if strengths and len(strengths) != len(adapters):
        raise UsageError(
            f"--strength was given {len(strengths)} times for {len(adapters)} adapters; give one for each, in order"
        )
    chosen = tuple(
        AdapterChoice(f, s) for f, s in zip(adapters, strengths or [1.0] * len(adapters), strict=True)
    )
    if base is None and chosen:
        base = serialization.read_info(chosen[0].folder)["base"]["name"]
        if base is None:
            raise UsageError(f"{chosen[0].folder} does not say what it was trained on; add --base NAME")
    if base is None:
        raise UsageError("say what to generate with: --run RUN, --adapter FOLDER or --base NAME")
    return GenerationSource(base, chosen)


def load_source(source: GenerationSource, device: str = "auto", progress: Progress | None = None) -> Backbone:
    """The base with the adapters in it, in its precision, ready to generate. TalimError if one does not fit."""
    from talim.backbones.load import load

    told = [
        serialization.read_info(chosen.folder) for chosen in source.adapters
    ]  # before the model costs its time
    backbone = load(source.base, device=device)
    names = {}
    for index, (chosen, info) in enumerate(zip(source.adapters, told, strict=True)):
        name = injection.DEFAULT_NAME + (f"-{index + 1}" if index else "")
        model = serialization.load(backbone, chosen.folder, name)
        names[name] = chosen.strength
        if info["base"].get("fingerprint") is None and progress is not None:
            progress.say(f"{chosen.folder} does not say which weights it was trained on; it fits in shape")
    if names:
        injection.set_adapter_scales(model, names)
        injection.cast_adapters(model, backbone.dtype)
    backbone.model.eval()
    return backbone


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{name} is {value:g}; it must be between {low:g} and {high:g}")
