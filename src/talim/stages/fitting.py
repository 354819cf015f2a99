"""What would make a design fit into a memory: the next best setting, found by tracing one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from talim.designs.expression import parse
from talim.designs.places import select, words_of
from talim.errors import UsageError
from talim.stages.designs import Numbers
from talim.stages.machines import Machine
from talim.stages.rehearsal import Setting
from talim.stages.shelf_of_traces import Shelf

SHORTER_SECONDS = (20.0, 10.0, 5.0)
OTHER_SITES = ("deep", "up", "post", "mid")  # the higher a site, the less of the frozen model keeps anything


def remedy(
    setting: Setting, found: Numbers, machine: Machine, limit_bytes: float, shelf: Shelf
) -> dict[str, Any] | None:
    """The first of `changes` that fits, in words and as a setting; None where none does.

    First to come is what costs least: recomputing, then smaller batches, then shorter clips, then another site.
    """

    def needed(each: Setting) -> int:
        return machine.needed_bytes(shelf.trace(each), each.precision)

    ladder = list(changes(setting, found))
    if not ladder or needed(ladder[-1]) > limit_bytes:
        return None
    for each in ladder:
        if (memory := needed(each)) <= limit_bytes:
            step_seconds = machine.seconds(shelf.trace(each))
            told = {"memory_bytes": memory, "step_seconds": step_seconds}
            return {"words": words(setting, each), **each.facts(), **told}
    return None


def changes(setting: Setting, found: Numbers) -> Iterator[Setting]:
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
    for design in _elsewhere(setting.design, found):
        yield replace(lean, design=design)


def words(before: Setting, after: Setting) -> str:
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


def _elsewhere(design: str, found: Numbers) -> Iterator[str]:
    """A design of one part at sites that need less."""
    parts = parse(design).parts
    if len(parts) != 1:
        return
    sites = found.shape.sites()
    for site in OTHER_SITES:
        if site not in words_of(sites) or site == parts[0].site:
            continue
        try:
            moved = str(parse(design.replace(f"@{parts[0].site}", f"@{site}", 1)))
            if select(site, sites):
                yield moved
        except UsageError:
            continue
