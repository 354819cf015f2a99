"""What generating with a base takes in memory, by the sizes of its files; told where memory ran out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from talim.backbones import registry
from talim.backbones.resolve import resolve_source
from talim.design.musicgen_sites import MusicGenShape
from talim.errors import TalimError
from talim.html.formatting import GB, format_memory
from talim.out_of_memory import memory_detail, memory_that_ran_out
from talim.planning.base_facts import base_model_facts
from talim.terminal_text import one_line

LIBRARY_BYTES = 0.6e9  # of Python and the libraries, or of CUDA's context
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pth", "*.pt", "*.ckpt")
GENERAL_ADVICE = "use a shorter --seconds or a smaller base, close other programs, or use a larger machine"


@contextlib.contextmanager
def memory_explained(work: str, base: Callable[[], str], seconds: float, device: str) -> Iterator[None]:
    """Where the block runs out of memory: a TalimError that says what the base needs, what there is and what would fit.

    `work` is what was done ("generate"); `base` is called only then.
    """
    place = detail = ""
    try:
        yield
    except Exception as error:
        place = memory_that_ran_out(error)
        if not place:
            raise
        detail = memory_detail(error)
    # outside of the handler, so that what the failed work held is free again
    if place:
        raise TalimError(f"{place} is too small to {work} this ({detail}): {_advice(base, seconds, device)}")


def _advice(base: Callable[[], str], seconds: float, device: str) -> str:
    try:
        import torch

        from talim.backbones.devices import pick_device
        from talim.training.resource_usage import memory_limit_bytes

        target = torch.device(pick_device(device))
        limit, gpu = memory_limit_bytes(target), target.type == "cuda"
        return generation_advice(base(), seconds, limit, gpu=gpu, address_space=not gpu and _address_space_is_limited())
    except Exception as error:  # memory may run out again, and advice must not hide the reason
        return f"{GENERAL_ADVICE} (what would fit could not be told: {one_line(str(error), 160)})"


def generation_advice(
    base: str, seconds: float, limit_bytes: float, *, gpu: bool = False, address_space: bool = False
) -> str:
    """What generating `seconds` with a base needs at least, what there is, and which other base would fit.

    `address_space` says that `limit_bytes` also counts memory that is only reserved. TalimError for an unknown base.
    """
    needed = generation_bytes(base, seconds, gpu)
    there = format_memory(limit_bytes)
    text = f"{resolve_source(base).name} needs at least {format_memory(needed)}, and there are {there}"
    if address_space:
        return f"{text}, of which a limit on the address space (ulimit -v) also counts what is only reserved: raise it"
    if needed < limit_bytes:
        advice = GENERAL_ADVICE
        if registry.is_miniature(resolve_source(base).name):  # no base is smaller
            advice = advice.replace(" or a smaller base", "")
        return f"{text}; the base fits, but not with the rest: {advice}"
    sizes = {name: generation_bytes(name, seconds, gpu) for name in registry.MODELS}
    fitting = [name for name in sorted(sizes, key=sizes.__getitem__, reverse=True) if sizes[name] < limit_bytes]
    if not fitting:
        return f"{text}; no base fits: use a larger machine"
    named = ", ".join(f"{name} ({format_memory(sizes[name])})" for name in fitting[:3])
    return f"{text}; bases that would fit: {named}, each with adapters of its own"


def generation_bytes(base: str, seconds: float, gpu: bool = False) -> float:
    """Bytes of the weights, of the cache of attention over `seconds`, and of the libraries."""
    source, facts = resolve_source(base), base_model_facts(base)
    if source.local:
        weights = float(_stored_bytes(Path(source.path_or_id)))
    else:
        weights = source.entry.fp32_gb * GB if source.entry is not None else 0.0
    cache = 0.0
    if isinstance(facts.shape, MusicGenShape):
        size = 2 if gpu else 4  # bytes of a value of the decoder
        weights -= (4 - size) * facts.shape.decoder_parameters * (not source.local)
        frames = min(seconds, facts.window_seconds) * facts.frame_rate_hz + facts.shape.melody_frames
        cache = (
            2 * 2 * size * facts.shape.layers * facts.shape.hidden * frames
        )  # keys and values, with text and without
    return weights + cache + LIBRARY_BYTES


def _stored_bytes(folder: Path) -> int:
    """The size of the weights of a local base, which may lie there in more than one format."""
    return max(sum(file.stat().st_size for file in folder.rglob(pattern)) for pattern in WEIGHT_FILES)


def _address_space_is_limited() -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
