"""Which change of a training step would make it fit into a memory limit, found by tracing one after the other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from talim.backbones.precision import choose_precision
from talim.design.expression import Design
from talim.design.site_selection import select_sites, valid_site_names
from talim.errors import UsageError
from talim.html.formatting import format_memory, format_setting
from talim.html.languages import ENGLISH, words
from talim.planning.base_facts import BaseModelFacts, base_model_facts
from talim.planning.cpu_calibration import stored_overhead
from talim.planning.generation_memory import LIBRARY_BYTES
from talim.planning.hardware import CONTEXT_BYTES, HardwareProfile
from talim.planning.trace_cache import TraceCache
from talim.planning.training_step import DTYPES, StepConfig
from talim.recipe import Recipe

if TYPE_CHECKING:
    import torch

SHORTER_SECONDS = (20.0, 10.0, 5.0)
FLAT_RATES = {f"{kind}/{dtype}": 1.0 for kind in ("flops", "bytes") for dtype in ("float32", "bfloat16")}
OTHER_SITES = ("deep", "up", "post", "mid")  # the later a site, the fewer activations are kept for it


def find_fitting_config(
    config: StepConfig, base: BaseModelFacts, hardware: HardwareProfile, limit_bytes: float, traces: TraceCache
) -> dict[str, Any] | None:
    """The first of `smaller_configs` that fits, as options to type, settings, memory and time; None where none does."""

    def memory_bytes(candidate: StepConfig) -> int:
        return hardware.needed_bytes(traces.trace(candidate), base.family, candidate.precision)

    def fits(candidate: StepConfig) -> bool:
        return memory_bytes(candidate) <= limit_bytes

    candidates = list(smaller_configs(config, base))
    first = bisect_left(candidates, True, key=fits)  # each needs less than the one before: few need to be traced
    if first == len(candidates):
        return None
    fitting = candidates[first]
    return {
        "options": describe_change(config, fitting),
        "settings": as_settings(config, fitting.to_json()),
        **fitting.to_json(),
        "memory_bytes": memory_bytes(fitting),
        "step_seconds": hardware.seconds(traces.trace(fitting)),
    }


def training_advice(
    recipe: Recipe, clip_seconds: float, limit_bytes: float, device: torch.device, traces: TraceCache
) -> str:
    """What a training that ran out of memory on a device needs by the plan, and the settings with which it would fit.

    `limit_bytes` is what there is. TalimError for a base that cannot be traced.
    """
    base, training = base_model_facts(recipe.base), recipe.training
    seconds = min(training.crop_seconds or clip_seconds, base.window_seconds)
    dtype, _ = choose_precision(training.precision, device)
    precision = next(name for name, each in DTYPES.items() if each == dtype)
    step = (training.batch_size, precision, training.gradient_checkpointing)
    config = StepConfig(recipe.base, recipe.design, seconds, *step)

    gpu = device.type != "cpu"

    def overhead_bytes(family: str, precision: str) -> float:  # as in a plan, if one was made here
        measured = None if traces.folder is None else stored_overhead(traces.folder, family, precision)
        return CONTEXT_BYTES if gpu else LIBRARY_BYTES if measured is None else measured

    machine = HardwareProfile("", 0.0, FLAT_RATES, 0.0, gpu=gpu, overhead_bytes=overhead_bytes)
    needed = machine.needed_bytes(traces.trace(config), base.family, precision)
    text = f"by its plan this training needs {format_memory(needed)}, and there are {format_memory(limit_bytes)}"
    fitting = find_fitting_config(config, base, machine, min(limit_bytes, needed - 1), traces)
    if fitting is None:
        return f"{text}; no smaller batch or crop and no other site of this design fits"
    other = words(ENGLISH)["plan_other_design"] if fitting["design"] != str(recipe.design) else ""
    return f"{text}; with {fitting['settings']} it needs {format_memory(fitting['memory_bytes'])}{other}"


def as_settings(before: StepConfig, fitting: dict[str, Any]) -> str:
    """The changes as options of `talim train`."""
    options = []
    if fitting["gradient_checkpointing"] and not before.gradient_checkpointing:
        options.append("--set training.gradient_checkpointing=true")
    if fitting["batch_size"] != before.batch_size:
        options.append(f"--set training.batch_size={fitting['batch_size']}")
    if fitting["crop_seconds"] != before.crop_seconds:
        options.append(f"--set training.crop_seconds={format_setting(fitting['crop_seconds'])}")
    if fitting["design"] != str(before.design):
        options.append(f"--design {fitting['design']}")
    return " ".join(options)


def smaller_configs(config: StepConfig, base: BaseModelFacts) -> Iterator[StepConfig]:
    """Steps that need less and less memory, each with the changes of the one before, cheapest changes first.

    Gradient checkpointing, then smaller batches, then shorter clips, then another site.
    """
    if not config.gradient_checkpointing:
        config = replace(config, gradient_checkpointing=True)
        yield config
    while config.batch_size > 1:
        config = replace(config, batch_size=config.batch_size // 2)
        yield config
    for seconds in SHORTER_SECONDS:
        if seconds < config.crop_seconds:
            config = replace(config, crop_seconds=seconds)
            yield config
    for design in _at_cheaper_sites(config.design, base):
        yield replace(config, design=design)


def describe_change(before: StepConfig, after: StepConfig) -> str:
    """The changes as command-line options of `talim plan`."""
    options = ["--gradient-checkpointing"] * (after.gradient_checkpointing and not before.gradient_checkpointing)
    options += [f"--batch-size {after.batch_size}"] * (after.batch_size != before.batch_size)
    options += [f"--clip-seconds {format_setting(after.crop_seconds)}"] * (after.crop_seconds != before.crop_seconds)
    options += [f"--design {after.design}"] * (after.design != before.design)
    return " ".join(options)


def _at_cheaper_sites(design: Design, base: BaseModelFacts) -> Iterator[Design]:
    """A design of one part, moved to sites that need less memory."""
    if len(design.parts) != 1:
        return
    sites = base.shape.sites()
    for site in OTHER_SITES:
        if site not in valid_site_names(sites) or site == design.parts[0].site:
            continue
        try:
            if select_sites(site, sites):
                yield Design((replace(design.parts[0], site=site),))
        except UsageError:
            continue
