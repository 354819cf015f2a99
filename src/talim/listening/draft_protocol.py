"""A first protocol from what lies in a folder: its runs, their base, and the held-out music."""

from __future__ import annotations

import os
import re
from pathlib import Path

from talim.atomic_io import read_jsonl, write_text
from talim.errors import TalimError
from talim.listening.protocol import FILE, Condition, Protocol
from talim.run import Run
from talim.strict_yaml import dump

SUBFOLDER = "listening"


def protocol_folder(folder: Path) -> Path:
    """Where a test lies: FOLDER if it holds a protocol, FOLDER/listening if that does; else the latter."""
    return folder if (folder / FILE).is_file() else folder / SUBFOLDER


def write_draft(folder: Path) -> Path:
    """Write FOLDER/listening/protocol.yaml over all evaluated runs in FOLDER; return that folder.

    The conditions are every run's adapter, the base of the first run, and the real held-out music. TalimError
    where no run with samples is found.
    """
    runs = _evaluated(folder)
    if not runs:
        raise TalimError(
            f"{folder}: no protocol.yaml and no evaluated run here; run talim evaluate first, or write a protocol"
        )
    target = folder / SUBFOLDER
    names = _names(folder, runs)
    conditions = [
        Condition(name=name, source=_relative_source(target, run), take="adapter")
        for name, run in zip(names, runs, strict=True)
    ]
    roles = {row.get("role") for row in read_jsonl(Run(runs[0]).samples / "manifest.jsonl")}
    here = _relative_source(target, runs[0])
    conditions += [Condition(name="untrained", source=here, take="base")] if "before" in roles else []
    conditions += [Condition(name="real", source=here, take="real")] if "real" in roles else []
    made = Protocol(
        name=slugify(folder.resolve().name),
        conditions=tuple(conditions),
        reference="untrained" if "before" in roles else None,
    )
    head = "# Drafted by talim listen. Change it before the first vote: from then on it is frozen.\n"
    write_text(target / FILE, head + dump(made))
    return target


def _evaluated(folder: Path) -> list[Path]:
    places = [folder, *(p for pattern in ("*", "*/*") for p in sorted(folder.glob(pattern)) if p.is_dir())]
    return [
        place
        for place in places
        if (Run(place).samples / "manifest.jsonl").is_file() and "earlier" not in place.parts
    ]


def _names(folder: Path, runs: list[Path]) -> list[str]:
    names = [slugify(run.relative_to(folder).as_posix() if run != folder else "design") for run in runs]
    return [f"{name}-{place}" if names.count(name) > 1 else name for place, name in enumerate(names, 1)]


def slugify(text: str) -> str:
    """A name as protocols allow it, of any text."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:36] or "test"


def _relative_source(start: Path, place: Path) -> str:
    return Path(os.path.relpath(place, start)).as_posix()
