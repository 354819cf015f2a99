"""Which change of a training step would make it fit into a memory limit, found by tracing one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from talim.design.expression import Design
from talim.design.site_selection import select_sites, valid_site_names
from talim.errors import UsageError
from talim.planning.design_costs import BaseModelFacts
from talim.planning.hardware import HardwareProfile
from talim.planning.trace_cache import TraceCache
from talim.planning.training_step import StepConfig

SHORTER_SECONDS = (20.0, 10.0, 5.0)
OTHER_SITES = ("deep", "up", "post", "mid")  # the later a site, the fewer activations are kept for it


def find_fitting_config(
    config: StepConfig, base: BaseModelFacts, hardware: HardwareProfile, limit_bytes: float, traces: TraceCache
) -> dict[str, Any] | None:
    """The first of `smaller_configs` that fits, as options to type, settings, memory and time; None where none does."""

    def memory_bytes(candidate: StepConfig) -> int:
        return hardware.needed_bytes(traces.trace(candidate), candidate.precision)

    candidates = list(smaller_configs(config, base))
    if not candidates or memory_bytes(candidates[-1]) > limit_bytes:
        return None
    fitting = next(candidate for candidate in candidates if memory_bytes(candidate) <= limit_bytes)
    return {
        "options": describe_change(config, fitting),
        **fitting.to_json(),
        "memory_bytes": memory_bytes(fitting),
        "step_seconds": hardware.seconds(traces.trace(fitting)),
    }


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
    options += [f"--seconds {after.crop_seconds:g}"] * (after.crop_seconds != before.crop_seconds)
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
