"""What would make a design fit into a memory: the next best setting, found by tracing one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from talim.designs.expression import parse
from talim.designs.site_selection import select_sites, valid_site_names
from talim.errors import UsageError
from talim.planning.design_costs import BaseModelFacts
from talim.planning.hardware import HardwareProfile
from talim.planning.trace_cache import TraceCache
from talim.planning.training_step import StepConfig

SHORTER_SECONDS = (20.0, 10.0, 5.0)
OTHER_SITES = ("deep", "up", "post", "mid")  # the higher a site, the less of the frozen model keeps anything


def find_fitting_config(
    setting: StepConfig,
    found: BaseModelFacts,
    machine: HardwareProfile,
    limit_bytes: float,
    shelf: TraceCache,
) -> dict[str, Any] | None:
    """The first of `changes` that fits, in words and as a setting; None where none does.

    First to come is what costs least: recomputing, then smaller batches, then shorter clips, then another site.
    """

    def needed(each: StepConfig) -> int:
        return machine.needed_bytes(shelf.trace(each), each.precision)

    ladder = list(smaller_configs(setting, found))
    if not ladder or needed(ladder[-1]) > limit_bytes:
        return None
    for each in ladder:
        if (memory := needed(each)) <= limit_bytes:
            step_seconds = machine.seconds(shelf.trace(each))
            told = {"memory_bytes": memory, "step_seconds": step_seconds}
            return {"words": describe_change(setting, each), **each.facts(), **told}
    return None


def smaller_configs(setting: StepConfig, found: BaseModelFacts) -> Iterator[StepConfig]:
    """Settings that need less and less memory: each keeps what the one before it changed."""
    lean = setting
    if not lean.checkpointing:
        lean = replace(lean, checkpointing=True)
        yield lean
    while lean.batch > 1:
        lean = replace(lean, batch=lean.batch // 2)
        yield lean
    for seconds in SHORTER_SECONDS:
        if seconds < lean.seconds:
            lean = replace(lean, seconds=seconds)
            yield lean
    for design in _cheaper_sites(setting.design, found):
        yield replace(lean, design=design)


def describe_change(before: StepConfig, after: StepConfig) -> str:
    """What was changed, as one would type it."""
    said = []
    if after.checkpointing and not before.checkpointing:
        said.append("--checkpointing")
    if after.batch != before.batch:
        said.append(f"--batch {after.batch}")
    if after.seconds != before.seconds:
        said.append(f"--seconds {after.seconds:g}")
    if after.design != before.design:
        said.append(f"--design {after.design}")
    return " ".join(said)


def _cheaper_sites(design: str, found: BaseModelFacts) -> Iterator[str]:
    """A design of one part at sites that need less."""
    parts = parse(design).parts
    if len(parts) != 1:
        return
    sites = found.shape.sites()
    for site in OTHER_SITES:
        if site not in valid_site_names(sites) or site == parts[0].site:
            continue
        try:
            moved = str(parse(design.replace(f"@{parts[0].site}", f"@{site}", 1)))
            if select_sites(site, sites):
                yield moved
        except UsageError:
            continue
