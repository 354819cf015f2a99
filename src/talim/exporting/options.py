"""What a run can be exported as, and which options fit which target; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from talim.errors import UsageError
from talim.terminal_text import one_line


class Target(StrEnum):
    """What a run can be exported as."""

    FOLDER = "folder"
    TRANSFORMERS = "transformers"
    ONNX = "onnx"
    HUB = "hub"
    SPACE = "space"


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
        """UsageError where the target is unknown, lacks its option, is given one of another, or has no OWNER/NAME."""
        if to not in [*Target]:
            raise UsageError(f"--to {to}: there is no such target; known: {', '.join(Target)}")
        if to == "hub" and self.repo is None:
            raise UsageError("--to hub needs the repository: --repo OWNER/NAME")
        if to == "space" and (self.repo is None) == (self.out is None):
            raise UsageError("--to space needs one of --out FOLDER and --repo OWNER/NAME")
        if to not in ("hub", "space") and self.out is None:
            raise UsageError(f"--to {to} needs a new folder: --out FOLDER")
        of_hub = {f"--{n.replace('_', '-')}": getattr(self, n) for n in ("repo", "public", "permission", "dry_run")}
        pushed = to == "hub" or (to == "space" and self.repo is not None)
        given = [] if pushed else [name for name, value in of_hub.items() if value]
        if given:
            raise UsageError(f"{' and '.join(given)}: only with --to hub, or --to space --repo OWNER/NAME")
        if to == "hub" and self.out is not None:
            raise UsageError(f"--out {self.out}: --to hub writes no folder; leave it out")
        if to != "folder" and self.with_base:
            raise UsageError("--with-base: only with --to folder")
        if self.repo is not None:
            _check_repo(self.repo)


def _check_repo(repo: str) -> None:
    from talim.backbones.resolve import HUB_ID  # whose imports `talim --help` would wait for

    if not HUB_ID.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith((".git", ".", "-")):
        raise UsageError(f"--repo {one_line(repo, 100)}: expected OWNER/NAME, such as me/yaman-sitar")
