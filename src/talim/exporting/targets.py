"""What a run can be exported as: one function for all targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim.adapters import serialization
from talim.errors import UsageError
from talim.exporting.contents import finished_run
from talim.exporting.folder import export_folder
from talim.progress import Progress

TARGETS = ("folder", "transformers", "hub")


@dataclass(frozen=True)
class ExportOptions:
    """Where an export goes, and what only some targets take; None and false are "not given"."""

    out: Path | None = None
    with_base: bool = False
    repo: str | None = None
    public: bool = False
    permission: str | None = None
    dry_run: bool = False

    def check(self, to: str) -> None:
        """UsageError where the target is unknown, lacks its option, or is given one of another."""
        if to not in TARGETS:
            raise UsageError(f"--to {to}: there is no such target; known: {', '.join(TARGETS)}")
        if to == "hub" and self.repo is None:
            raise UsageError("--to hub needs the repository: --repo OWNER/NAME")
        if to != "hub" and self.out is None:
            raise UsageError(f"--to {to} needs a new folder: --out FOLDER")
        of_hub = {f"--{n.replace('_', '-')}": getattr(self, n) for n in ("repo", "public", "permission", "dry_run")}
        given = [] if to == "hub" else [name for name, value in of_hub.items() if value]
        if given:
            raise UsageError(f"{' and '.join(given)}: only with --to hub")
        if to == "hub" and self.out is not None:
            raise UsageError(f"--out {self.out}: --to hub writes no folder; leave it out")
        if to != "folder" and self.with_base:
            raise UsageError("--with-base: only with --to folder")


def export_run(run: Path, to: str, options: ExportOptions, progress: Progress) -> dict[str, Any]:
    """Export a finished run; UsageError for options that do not fit the target. See `talim.export`."""
    options.check(to)
    exported = finished_run(run)
    for line in (*filter(None, [exported.note]), *serialization.unchanged_notes(exported.run.adapter)):
        progress.log(line)
    if to == "hub":
        from talim.exporting.hub import export_hub

        assert options.repo is not None
        chosen = {"public": options.public, "permission": options.permission, "dry_run": options.dry_run}
        return export_hub(exported, options.repo, progress=progress, **chosen)
    assert options.out is not None
    if to == "transformers":
        from talim.exporting.transformers_model import export_transformers

        return export_transformers(exported, options.out, progress)
    return export_folder(exported, options.out, options.with_base, progress)
