"""Drafts a protocol from a folder of runs: their adapters, the untrained base and the held-out music."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, read_jsonl, write_text
from talim.errors import TalimError
from talim.listening.protocol import FILE, Condition, Protocol
from talim.listening.stimuli import collect_stimuli
from talim.run import Run
from talim.strict_yaml import dump
from talim.traditions.name_matching import slugify

SUBFOLDER = "listening"


def protocol_folder(folder: Path) -> Path:
    """The folder of a test: FOLDER if it holds a protocol, else FOLDER/listening."""
    return folder if (folder / FILE).is_file() else folder / SUBFOLDER


def write_draft(folder: Path) -> Path:
    """Write FOLDER/listening/protocol.yaml for all evaluated runs in FOLDER, and return FOLDER/listening.

    Conditions: the adapter of every run, the base of the first run, real held-out music. TalimError without an
    evaluated run.
    """
    folders = [folder, *sorted(folder.glob("*")), *sorted(folder.glob("*/*"))]
    runs = [p for p in folders if (Run(p).samples / "manifest.jsonl").is_file() and "earlier" not in p.parts]
    if not runs:
        raise TalimError(
            f"{folder}: no protocol.yaml and no evaluated run; run talim evaluate first, or write a protocol"
        )
    target = folder / SUBFOLDER
    with friendly_os_errors(target):
        target.mkdir(parents=True, exist_ok=True)  # sources are relative to it
    names = unique_names([run.relative_to(folder).as_posix() if run != folder else "design" for run in runs])
    conditions = [
        Condition(name=name, source=_relative_source(target, run), take="adapter")
        for name, run in zip(names, runs, strict=True)
    ]
    roles = {row.get("role") for row in read_jsonl(Run(runs[0]).samples / "manifest.jsonl")}
    first = _relative_source(target, runs[0])
    conditions += [Condition(name="untrained", source=first, take="base")] if "before" in roles else []
    conditions += [Condition(name="real", source=first, take="real")] if "real" in roles else []
    if len(conditions) < 2:
        raise TalimError(f"{runs[0]}: its samples/manifest.jsonl names no audio to compare; run talim evaluate again")
    protocol = Protocol(
        name=unique_names([folder.resolve().name])[0],
        conditions=tuple(conditions),
        reference="untrained" if "before" in roles else None,
    )
    protocol = protocol.model_copy(update=_counts(protocol, target))
    head = "# Drafted by talim listen. Edit it before the first vote, which freezes it.\n"
    if all((Run(run).continuations / "manifest.jsonl").is_file() for run in runs):
        head += "# To compare how phrases are continued, write /continuations after every source.\n"
    write_text(target / FILE, head + dump(protocol))
    return target


def _counts(protocol: Protocol, target: Path) -> dict[str, Any]:
    """Trials of each listener: every comparison once, 20 at most, with as many hidden repeats as that allows."""
    try:
        items = len(collect_stimuli(target, protocol)[1])
    except TalimError:  # told when the stimuli are made
        return {}
    usual = protocol.trials
    each = min(usual.per_listener, protocol.comparisons(items))
    trials = usual.model_copy(update={"per_listener": each, "repeats": min(usual.repeats, each // 4)})
    least = min(protocol.exclusions.trials_below, trials.total)
    return {"trials": trials, "exclusions": protocol.exclusions.model_copy(update={"trials_below": least})}


def unique_names(texts: Sequence[str]) -> list[str]:
    """Names that a protocol allows, one for each text; equal ones get a number."""
    names = [slugify(text)[:36].strip("-") or "test" for text in texts]
    return [f"{name}-{number}" if names.count(name) > 1 else name for number, name in enumerate(names, 1)]


def _relative_source(start: Path, run: Path) -> str:
    return Path(os.path.relpath(run, start)).as_posix()
